//! The background work: stack operations, those that a crash interrupted included.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use types::AccountId;

use crate::Error;
use crate::operate::{self, Machinery};
use crate::tables::PENDING;

/// Operations at once.
const MOST_AT_ONCE: usize = 64;
/// How long to wait after a failure of the store before an operation is taken up again.
const RETRY: Duration = Duration::from_secs(1);

/// Carries out stack operations.
#[derive(Debug)]
pub struct Service {
    pub(crate) machinery: Arc<Machinery>,
    pub(crate) wake: Arc<Notify>,
}

impl Service {
    /// Runs until `shutdown`; an operation under way stops between two steps, and goes on at the next start.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), Error> {
        let mut running: HashSet<(AccountId, String)> = HashSet::new();
        let mut tasks: JoinSet<(AccountId, String)> = JoinSet::new();
        loop {
            match self.pending().await {
                Ok(pending) => {
                    for stack in pending {
                        if running.len() < MOST_AT_ONCE && running.insert(stack.clone()) {
                            tasks.spawn(carry_out(self.machinery.clone(), stack, shutdown.clone()));
                        }
                    }
                }
                Err(error) => {
                    tracing::error!(%error, "stack operations can not be listed; trying again");
                    self.machinery.env.sleep(RETRY).await;
                    self.wake.notify_one();
                }
            }
            tokio::select! {
                () = shutdown.cancelled() => break,
                () = self.wake.notified() => {}
                Some(ended) = tasks.join_next() => {
                    if let Ok(stack) = ended {
                        running.remove(&stack);
                    }
                }
            }
        }
        while tasks.join_next().await.is_some() {}
        Ok(())
    }

    async fn pending(&self) -> Result<Vec<(AccountId, String)>, Error> {
        let range = PENDING.range(AccountId::NODE, MOST_AT_ONCE * 2, |_| {});
        let (rows, _) = PENDING.scan(&self.machinery.store, range).await?;
        Ok(rows.into_iter().map(|row| (row.value.account, row.value.name)).collect())
    }
}

async fn carry_out(
    machinery: Arc<Machinery>,
    stack: (AccountId, String),
    shutdown: CancellationToken,
) -> (AccountId, String) {
    // In a task of its own, so that a panic ends this try and not the stack's hope of another.
    let work = {
        let (machinery, stack) = (machinery.clone(), stack.clone());
        async move { operate::run(&machinery, stack.0, &stack.1, &shutdown).await }
    };
    let failure = match tokio::spawn(work).await {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(panic) => Some(panic.to_string()),
    };
    if let Some(error) = failure {
        tracing::error!(error, stack = stack.1, "a stack operation stopped; it will be taken up again");
        machinery.env.sleep(RETRY).await;
    }
    stack
}
