//! Removes the items of deleted tables and the tokens of old transactions, a bounded batch at a time.
//!
//! A deleted table leaves a row that names its items; the row goes when they have gone. So a crash in between
//! loses nothing: the next run finds the row again.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use store::key::prefix_end;
use store::{Error, Range, Read, Write};
use tokio_util::sync::CancellationToken;
use types::AccountId;

use crate::service::Node;
use crate::tables::{DROPPED, Dropped, TOKENS, items_prefix};

/// Items removed by one commit.
const BATCH: usize = 256;

/// How long to wait after a failure of the store, and at most between looks for work.
const PAUSE: Duration = Duration::from_secs(30);

/// How far clocks may be apart.
const CLOCK_SKEW_MS: i64 = 60_000;

/// The background work of DynamoDB.
#[derive(Debug)]
pub struct Sweeper {
    node: Arc<Node>,
    /// Tokens that ended before this (ms since the epoch) are gone: stepping over what is gone is slow.
    tokens_from_ms: AtomicI64,
}

impl Sweeper {
    pub(crate) fn new(node: Arc<Node>) -> Self {
        Self { node, tokens_from_ms: AtomicI64::new(i64::MIN) }
    }

    /// Runs until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        let work = async {
            loop {
                if let Err(error) = self.sweep().await {
                    tracing::warn!(%error, "the items of deleted tables could not be removed; trying again");
                }
                tokio::select! {
                    () = self.node.dropped.notified() => {}
                    () = self.node.env.sleep(PAUSE) => {}
                }
            }
        };
        tokio::select! {
            () = work => {}
            () = shutdown.cancelled() => {}
        }
    }

    /// Does what there is to do now.
    pub async fn sweep(&self) -> Result<(), Error> {
        self.remove_dropped().await?;
        self.remove_tokens().await
    }

    /// Removes the tokens of transactions whose time is over.
    async fn remove_tokens(&self) -> Result<(), Error> {
        let at = |ms: i64| {
            TOKENS.key(AccountId::NODE, |k| {
                k.i64(ms);
            })
        };
        let now_ms = self.node.env.now().as_millisecond();
        let mut range = TOKENS.range(AccountId::NODE, BATCH, |_| {});
        range.start = at(self.tokens_from_ms.load(Ordering::Relaxed));
        range.end = at(now_ms);
        loop {
            let (tokens, more) = TOKENS.scan(&self.node.store, range.clone()).await?;
            let Some(last) = tokens.last() else { break };
            range.start = store::key::after(&last.key);
            let reads = tokens.iter().map(|row| Read::Key(row.value.key())).collect();
            self.node
                .store
                .transact(reads, move |pages, _| {
                    let mut writes = Vec::with_capacity(2 * tokens.len());
                    for (row, page) in tokens.iter().zip(pages) {
                        writes.push(Write::Delete(row.key.clone()));
                        // The token may have been used again since: then it lives on.
                        let current = TOKENS.first(page)?;
                        if current.is_some_and(|current| current.value == row.value) {
                            writes.push(Write::Delete(row.value.key()));
                        }
                    }
                    Ok::<_, Error>((writes, ()))
                })
                .await?;
            if !more {
                break;
            }
        }
        // Clocks of nodes differ a little, and go back a little.
        self.tokens_from_ms.store(now_ms - CLOCK_SKEW_MS, Ordering::Relaxed);
        Ok(())
    }

    /// Removes the items of every table that has been deleted so far.
    async fn remove_dropped(&self) -> Result<(), Error> {
        loop {
            let range = DROPPED.range(AccountId::NODE, 16, |_| {});
            let (dropped, _) = DROPPED.scan(&self.node.store, range).await?;
            if dropped.is_empty() {
                return Ok(());
            }
            for row in dropped {
                self.remove_items(&row.value).await?;
                self.node.store.write(vec![Write::Delete(row.key)]).await?;
            }
        }
    }

    async fn remove_items(&self, dropped: &Dropped) -> Result<(), Error> {
        let mut start = items_prefix(dropped.account, dropped.id).finish();
        let end = prefix_end(&start);
        loop {
            let range = Range {
                // From where the last batch ended: what is before is gone, and slow to step over.
                start: start.clone(),
                end: end.clone(),
                limit: BATCH,
                limit_bytes: 4 << 20,
                reverse: false,
            };
            let page = self.node.store.scan(range).await?;
            if let Some(last) = page.entries.last() {
                start = store::key::after(&last.key);
                let deletes = page.entries.into_iter().map(|entry| Write::Delete(entry.key)).collect();
                self.node.store.write(deletes).await?;
            }
            if !page.more {
                return Ok(());
            }
        }
    }
}
