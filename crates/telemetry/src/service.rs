//! Writes what was recorded, in batches, and sweeps away what has expired.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use types::{AccountId, ErrorKind};

use crate::config::Config;
use crate::handle::Item;
use crate::queue::Queue;
use crate::sweep;
use crate::writer::{Batch, Writer};

/// The most records in a commit.
pub(crate) const MAX_BATCH: usize = 2048;
/// How often what has expired is swept away.
const SWEEP: Duration = Duration::from_secs(600);

/// The background half of [`crate::Telemetry`].
#[derive(Debug)]
pub struct Service {
    queue: Arc<Queue>,
    writer: Arc<Writer>,
    config: Arc<Config>,
}

impl Service {
    pub(crate) fn new(queue: Arc<Queue>, writer: Arc<Writer>, config: Arc<Config>) -> Self {
        Self { queue, writer, config }
    }

    /// Runs until `shutdown`, then writes what was recorded until then.
    pub async fn run(self, shutdown: CancellationToken) {
        let sweeper = tokio::spawn(sweep_until(self.writer.clone(), self.config.clone(), shutdown.clone()));
        let queue = self.queue.clone();
        let closing = tokio::spawn(async move {
            shutdown.cancelled().await;
            queue.close();
        });
        let gather = Duration::from_millis(self.config.gather_ms);
        loop {
            let items = self.queue.take(gather, &self.writer.env).await;
            if items.is_empty() {
                break;
            }
            self.write(items).await;
        }
        closing.abort();
        if let Err(error) = sweeper.await {
            tracing::error!(%error, "the sweeper of telemetry failed");
        }
    }

    async fn write(&self, items: Vec<Item>) {
        let mut batches: HashMap<AccountId, Batch> = HashMap::new();
        let mut waiting: Vec<oneshot::Sender<()>> = Vec::new();
        for item in items {
            match item {
                Item::Log(lines) => batches.entry(lines.account).or_default().log(lines),
                Item::Invocation(row) => batches.entry(row.account).or_default().invocations.push(*row),
                Item::Span(row) => batches.entry(row.account).or_default().spans.push(*row),
                Item::Flush(done) => waiting.push(done),
            }
        }
        // An account is the transaction boundary; the store's group commit lets them share a sync.
        let mut writes = tokio::task::JoinSet::new();
        for (account, batch) in batches {
            writes.spawn(write_until_done(self.writer.clone(), account, batch));
        }
        while let Some(outcome) = writes.join_next().await {
            if let Err(error) = outcome {
                tracing::error!(%error, "writing telemetry failed; a batch is lost");
            }
        }
        for done in waiting {
            let _ = done.send(());
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.queue.end();
    }
}

/// Tries again while the fault may pass, for a minute: until then recorders wait.
async fn write_until_done(writer: Arc<Writer>, account: AccountId, batch: Batch) {
    let prepared = writer.prepare(account, batch);
    let mut pause = Duration::from_millis(20);
    for _ in 0..32 {
        match writer.write(&prepared).await {
            Ok(()) => return,
            Err(error) if error.kind() == ErrorKind::Unavailable && !is_closed(&error) => {
                tracing::warn!(%error, %account, "telemetry waits for the store");
                writer.env.sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(2));
            }
            Err(error) => {
                tracing::error!(%error, %account, "a batch of telemetry is lost");
                return;
            }
        }
    }
    tracing::error!(%account, "a batch of telemetry is lost: the store did not take it for a minute");
}

fn is_closed(error: &crate::Error) -> bool {
    matches!(error, crate::Error::Store(store::Error::Closed))
}

async fn sweep_until(writer: Arc<Writer>, config: Arc<Config>, shutdown: CancellationToken) {
    loop {
        if let Err(error) = sweep::sweep(&writer, &config, &shutdown).await {
            tracing::warn!(%error, "what has expired could not be swept away; the next round tries again");
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = writer.env.sleep(SWEEP) => {}
            () = writer.garbage.notified() => {}
        }
    }
}
