//! Background work, a bounded batch at a time: removes what was deleted, what has expired and what is trimmed,
//! and enters items into what was made after them.
//!
//! Invariant: what is to be done is a row, which goes in the commit that ends the work or after it; so a crash in
//! between loses nothing: the next run finds the row again. What is consumed in order is read from where the last
//! run stopped, since stepping over what is gone is slow.

mod backfill;
mod dropped;
mod expiry;
mod jobs;
mod restore;
mod streams;
mod tokens;

use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use store::Error;
use tokio_util::sync::CancellationToken;

use crate::service::Node;

/// Rows removed or made by one commit.
const BATCH: usize = 256;

/// How long to wait after a failure of the store, and at most between looks for work.
const PAUSE: Duration = Duration::from_secs(30);

/// How often to look for items that have expired.
const EXPIRY_PAUSE: Duration = Duration::from_secs(2);

/// How often to trim streams.
const TRIM_PAUSE: Duration = Duration::from_secs(300);

/// How far clocks may be apart.
const CLOCK_SKEW_MS: i64 = 60_000;

/// The background work of DynamoDB.
#[derive(Debug)]
pub struct Sweeper {
    node: Arc<Node>,
    /// Tokens that ended before this (ms since the epoch) are gone.
    tokens_from_ms: AtomicI64,
    /// Items that expired before this (s since the epoch) are gone.
    expiry_from_s: AtomicI64,
}

impl Sweeper {
    pub(crate) fn new(node: Arc<Node>) -> Self {
        Self { node, tokens_from_ms: AtomicI64::new(i64::MIN), expiry_from_s: AtomicI64::new(i64::MIN) }
    }

    /// Runs until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        let env = &self.node.env;
        // A long back-fill does not keep items from expiring.
        let tables = async {
            loop {
                warn("tables", self.tables().await);
                tokio::select! {
                    () = self.node.dropped.notified() => {}
                    () = env.sleep(PAUSE) => {}
                }
            }
        };
        let expiry = async {
            loop {
                warn("expired items", self.remove_expired().await);
                env.sleep(EXPIRY_PAUSE).await;
            }
        };
        let streams = async {
            loop {
                warn("streams", self.trim_streams().await);
                warn("history", self.trim_history().await);
                env.sleep(TRIM_PAUSE).await;
            }
        };
        tokio::select! {
            ((), (), ()) = async { tokio::join!(tables, expiry, streams) } => {}
            () = shutdown.cancelled() => {}
        }
    }

    /// Does what there is to do now.
    pub async fn sweep(&self) -> Result<(), Error> {
        self.tables().await?;
        self.remove_expired().await?;
        self.trim_streams().await?;
        self.trim_history().await
    }

    async fn tables(&self) -> Result<(), Error> {
        self.backfill().await?;
        self.restore().await?;
        self.remove_dropped().await?;
        self.remove_tokens().await
    }
}

fn warn(what: &'static str, result: Result<(), Error>) {
    if let Err(error) = result {
        tracing::warn!(%error, what, "background work on tables failed; trying again");
    }
}
