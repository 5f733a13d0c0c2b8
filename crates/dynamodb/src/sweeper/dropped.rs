//! The items and entries of deleted tables, and the entries of deleted indexes.

use store::key::prefix_end;
use store::{Error, Key, Range, Write};
use types::AccountId;

use super::{BATCH, Sweeper};
use crate::collection;
use crate::tables::{DROPPED, Dropped, entries_prefix, history_head_key, history_prefix, items_prefix};

impl Sweeper {
    /// Removes what every table and index held that has been deleted so far.
    pub(super) async fn remove_dropped(&self) -> Result<(), Error> {
        loop {
            let range = DROPPED.range(AccountId::NODE, 16, |_| {});
            let (dropped, _) = DROPPED.scan(&self.node.store, range).await?;
            if dropped.is_empty() {
                return Ok(());
            }
            for row in dropped {
                let Dropped { account, id, index, keep_items, history_until } = row.value;
                let history = history_prefix(account, id);
                if let Some(version) = history_until {
                    let mut end = history.clone();
                    end.u64(version + 1);
                    self.remove_range(history.clone().finish(), end.finish()).await?;
                } else {
                    self.remove_all(entries_prefix(account, id, index).finish()).await?;
                    if index.is_none() {
                        self.remove_all(collection::prefix(account, id).finish()).await?;
                    }
                }
                if index.is_none() && history_until.is_none() && !keep_items {
                    self.remove_all(items_prefix(account, id).finish()).await?;
                    self.remove_all(history.finish()).await?;
                    let head = history_head_key(account, id);
                    self.node.store.write(vec![Write::Delete(head)]).await?;
                }
                self.node.store.write(vec![Write::Delete(row.key)]).await?;
            }
        }
    }

    /// Removes every row whose key begins with `prefix`.
    pub(super) async fn remove_all(&self, prefix: Key) -> Result<(), Error> {
        let end = prefix_end(&prefix);
        self.remove_range(prefix, end).await
    }

    /// Removes every row from `start` to `end`.
    pub(super) async fn remove_range(&self, start: Key, end: Key) -> Result<(), Error> {
        let mut start = start;
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
