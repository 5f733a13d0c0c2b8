//! Writes what was recorded, in batches, and sweeps away what has expired.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use types::{AccountId, ErrorKind};

use crate::config::Config;
use crate::handle::Item;
use crate::sweep;
use crate::writer::{Batch, Writer};

/// The most records in a commit.
const MAX_BATCH: usize = 2048;
/// How often what has expired is swept away.
const SWEEP: Duration = Duration::from_secs(600);

/// The background half of [`crate::Telemetry`].
#[derive(Debug)]
pub struct Service {
    receiver: mpsc::Receiver<Item>,
    writer: Arc<Writer>,
    config: Arc<Config>,
}

impl Service {
    pub(crate) fn new(receiver: mpsc::Receiver<Item>, writer: Arc<Writer>, config: Arc<Config>) -> Self {
        Self { receiver, writer, config }
    }

    /// Runs until `shutdown`, then writes what was recorded until then.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let sweeper = tokio::spawn(sweep_until(self.writer.clone(), self.config.clone(), shutdown.clone()));
        loop {
            let mut items = Vec::with_capacity(64);
            let open = tokio::select! {
                biased;
                received = self.receiver.recv_many(&mut items, MAX_BATCH) => received > 0,
                () = shutdown.cancelled() => false,
            };
            if !open {
                break;
            }
            self.gather(&mut items, &shutdown).await;
            self.write(items).await;
        }
        // Senders that wait for room get it before the channel closes: close, then drain.
        self.receiver.close();
        let mut items = Vec::new();
        while self.receiver.recv_many(&mut items, MAX_BATCH).await > 0 {
            self.write(std::mem::take(&mut items)).await;
        }
        if let Err(error) = sweeper.await {
            tracing::error!(%error, "the sweeper of telemetry failed");
        }
    }

    /// Waits a little for more, unless somebody waits for what is there.
    async fn gather(&mut self, items: &mut Vec<Item>, shutdown: &CancellationToken) {
        let mut sleep = self.writer.env.sleep(Duration::from_millis(self.config.gather_ms));
        while items.len() < MAX_BATCH && !items.iter().any(|item| matches!(item, Item::Flush(_))) {
            let room = MAX_BATCH - items.len();
            tokio::select! {
                received = self.receiver.recv_many(items, room) => if received == 0 { break },
                () = &mut sleep => break,
                () = shutdown.cancelled() => break,
            }
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

/// Tries again while the fault may pass, for a minute: until then recorders wait.
async fn write_until_done(writer: Arc<Writer>, account: AccountId, batch: Batch) {
    let batch = Arc::new(batch);
    let mut pause = Duration::from_millis(20);
    for _ in 0..32 {
        match writer.write(account, batch.clone()).await {
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
