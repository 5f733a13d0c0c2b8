//! Exports of tables to a bucket, and imports from one.
//!
//! The map: `rows` is what is stored of them; `bucket` reads and writes objects; `export` (of a table, and `incremental` of its changes) and `import` do the work, and
//! `records` finds items in what is imported; [`Transfers`] runs what is under way.
//!
//! Invariants: memory does not grow with the table or the objects; each step is one commit with where the work
//! stands, and doing a step twice changes nothing, so that a restart goes on. Whoever asks has shown their own right to
//! the bucket by then (`ops::exports`, `ops::imports`); the work is the account's.

mod bucket;
mod export;
mod import;
mod incremental;
mod records;
mod rows;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use aws::Caller;
use store::key::after;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use types::AccountId;

use crate::Error;
use crate::service::Node;

pub(crate) use bucket::{Bucket, Listed};
pub(crate) use rows::{
    EXPORTS, ExportRecord, IMPORTS, ImportRecord, InputFormat, Kind, Span, Sse, Status, Step, TRANSFERS,
    Transfer, export_key, import_key,
};

/// How many run at once.
const AT_ONCE: usize = 4;

/// How long to wait after a failure of the store, and at most between looks for work.
const PAUSE: Duration = Duration::from_secs(30);

/// Rows looked up at a time.
const BATCH: usize = 100;

/// Why a transfer does not go on.
enum Stop {
    /// It has failed, for good: the code and the words that its description shows.
    Failed(String, String),
    /// The store failed: it goes on later.
    Later(Error),
}

impl<E: Into<Error>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Later(error.into())
    }
}

impl Stop {
    /// S3 has refused something.
    fn bucket(error: &aws::Error) -> Self {
        Self::Failed(format!("S3{}", error.code), error.message.clone())
    }
}

/// What exports and imports.
#[derive(Debug)]
pub struct Transfers {
    node: Arc<Node>,
}

impl Transfers {
    pub(crate) fn new(node: Arc<Node>) -> Self {
        Self { node }
    }

    /// Runs until `shutdown`; what is under way then goes on at the next start.
    pub async fn run(self, shutdown: CancellationToken) {
        tokio::select! {
            () = self.work() => {}
            () = shutdown.cancelled() => {}
        }
    }

    async fn work(&self) {
        let mut running: HashSet<Transfer> = HashSet::new();
        let mut tasks = JoinSet::new();
        loop {
            match self.due(&running).await {
                Ok(due) => {
                    for transfer in due.into_iter().take(AT_ONCE.saturating_sub(running.len())) {
                        running.insert(transfer.clone());
                        let node = self.node.clone();
                        tasks.spawn(async move {
                            run(&node, &transfer).await;
                            transfer
                        });
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "exports and imports can not be looked up; trying again")
                }
            }
            tokio::select! {
                () = self.node.transfers.notified() => {}
                () = self.node.env.sleep(PAUSE) => {}
                Some(ended) = tasks.join_next() => match ended {
                    Ok(transfer) => drop(running.remove(&transfer)),
                    Err(error) => {
                        // Which one it was is not known: all are looked at again once the others have ended.
                        tracing::error!(%error, "an export or import ended early");
                        while let Some(ended) = tasks.join_next().await {
                            drop(ended);
                        }
                        running.clear();
                        self.node.env.sleep(PAUSE).await;
                    }
                },
            }
        }
    }

    /// What is to be done and not being done.
    async fn due(&self, running: &HashSet<Transfer>) -> Result<Vec<Transfer>, Error> {
        let mut range = TRANSFERS.range(AccountId::NODE, BATCH, |_| {});
        let mut due = Vec::new();
        loop {
            let (rows, more) = TRANSFERS.scan(&self.node.store, range.clone()).await?;
            let last = rows.last().map(|row| after(&row.key));
            due.extend(rows.into_iter().map(|row| row.value).filter(|transfer| !running.contains(transfer)));
            match last {
                Some(last) if more && due.len() < AT_ONCE => range.start = last,
                _ => return Ok(due),
            }
        }
    }
}

async fn run(node: &Arc<Node>, transfer: &Transfer) {
    loop {
        let done = match transfer.kind {
            Kind::Export => export::run(node, transfer).await,
            Kind::Import => import::run(node, transfer).await,
        };
        match done {
            Ok(()) => return,
            Err(error) => {
                let (table, id) = (&transfer.table, &transfer.id);
                tracing::warn!(%error, table, id, "an export or import failed for now; trying again");
                node.env.sleep(PAUSE).await;
            }
        }
    }
}

/// The bucket as the account itself sees it.
fn own_bucket(node: &Node, account: AccountId, name: &str, sse: Sse) -> Bucket {
    Bucket {
        dispatch: node.dispatch.clone(),
        env: node.env.clone(),
        caller: Caller::platform(account),
        name: name.to_owned(),
        sse,
    }
}
