//! Destroys keys whose time has come: their material, and their other names.
//!
//! Invariant: a key whose deletion was cancelled in between stays.

use std::sync::Arc;
use std::time::Duration;

use store::{Key, Range, Read, Write};
use tokio_util::sync::CancellationToken;
use types::AccountId;

use crate::Error;
use crate::service::Inner;
use crate::tables::{self, ALIASES, DELETIONS, DeletionRow, KEYS};

const PAUSE: Duration = Duration::from_secs(60 * 60);
const PAGE: usize = 100;

/// Destroys keys. One runs on a node.
#[derive(Debug)]
pub struct Deletions {
    inner: Arc<Inner>,
}

impl Deletions {
    pub(crate) fn new(inner: Arc<Inner>) -> Self {
        Self { inner }
    }

    /// Works until `shutdown`. A failure is logged and tried again.
    pub async fn run(self, shutdown: CancellationToken) {
        loop {
            if let Err(error) = self.pass().await {
                tracing::warn!(%error, "keys that are due were not destroyed; it is tried again");
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.inner.wake.notified() => {}
                () = self.inner.env.sleep(PAUSE) => {}
            }
        }
    }

    /// Destroys what is due.
    pub async fn pass(&self) -> Result<(), Error> {
        loop {
            let now_ms = self.inner.env.now().as_millisecond();
            let all = DELETIONS.range(AccountId::NODE, PAGE, |_| {});
            let due = DELETIONS.key(AccountId::NODE, |k| {
                k.i64(now_ms.saturating_add(1));
            });
            let (rows, more) = DELETIONS.scan(&self.inner.store, Range { end: due, ..all }).await?;
            for row in rows {
                self.destroy(row.key, row.value, now_ms).await?;
            }
            if !more {
                return Ok(());
            }
        }
    }

    async fn destroy(&self, due: Key, row: DeletionRow, now_ms: i64) -> Result<(), Error> {
        let DeletionRow { account, key: id } = row;
        let aliases = crate::ops::aliases::of_key(&self.inner.store, account, &id).await?;
        let mut reads = vec![Read::Key(tables::key_row(account, &id))];
        reads.extend(aliases.iter().map(|name| Read::Key(tables::alias_row(account, name))));
        let destroyed = self
            .inner
            .store
            .transact(reads, move |pages, _| {
                let mut writes = vec![Write::Delete(due.clone())];
                let found = KEYS.first(&pages[0])?;
                let is_due = found.is_some_and(|key| key.value.deletion_ms.is_some_and(|at| at <= now_ms));
                if is_due {
                    writes.push(Write::Delete(tables::key_row(account, &id)));
                    for page in &pages[1..] {
                        let alias = ALIASES.first(page)?.filter(|alias| alias.value.key == id);
                        writes.extend(alias.map(|alias| Write::Delete(alias.key)));
                    }
                }
                Ok::<_, Error>((writes, is_due.then(|| id.clone())))
            })
            .await?;
        if let Some(id) = destroyed {
            tracing::info!(%account, key = %id, "a key was destroyed, as it was asked for");
        }
        Ok(())
    }
}
