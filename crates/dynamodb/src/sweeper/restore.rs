//! Fills tables that are being restored, and trims the history that recovery needs no more.
//!
//! Invariant: each batch is one commit with where the work stands, so that a restart goes on; putting an item
//! twice changes nothing. The table can be used once it is whole.

use store::key::prefix_end;
use store::{Error, Key, Page, Range, Read, Write};
use types::AccountId;

use super::jobs::{Jobs, check, stored};
use super::{BATCH, Sweeper};
use crate::change::Change;
use crate::collection::Collections;
use crate::history::{Past, version_of};
use crate::stream::Moment;
use crate::table::{Attempt, ITEM_PREFIX_LEN};
use crate::tables::{
    HISTORY_HEADS, HistoryHead, RESTORES, Restore, TABLES, history_head_key, history_prefix, items_prefix,
    table_key,
};

/// Items written by one commit: others wait for it.
const ITEMS: usize = 64;

/// History is kept for so much longer than recovery needs it, for restores that are under way.
const SLACK: std::time::Duration = std::time::Duration::from_secs(24 * 3600);

const DAY: std::time::Duration = std::time::Duration::from_secs(24 * 3600);

impl Sweeper {
    /// Does all restores there are.
    pub(super) async fn restore(&self) -> Result<(), Error> {
        let mut jobs = Jobs::of(&RESTORES);
        while let Some(job) = jobs.next(&self.node.store).await? {
            self.fill_restored(job).await?;
        }
        Ok(())
    }

    async fn fill_restored(&self, mut restore: Restore) -> Result<(), Error> {
        loop {
            let mut prefix = if restore.in_history {
                history_prefix(restore.account, restore.source)
            } else {
                items_prefix(restore.account, restore.source)
            };
            let end = prefix_end(&prefix.clone().finish());
            if restore.in_history {
                // What changed up to the commit is not what was there then.
                prefix.u64(restore.version + 1);
            }
            let start = restore.from.clone().map_or_else(|| prefix.finish(), Key::from);
            let range = Range { start, end, limit: ITEMS, limit_bytes: 1 << 20, reverse: false };
            let page = self.node.store.scan(range).await?;
            let next = match page.entries.last() {
                Some(last) => {
                    Restore { from: Some(store::key::after(&last.key).to_vec()), ..restore.clone() }
                }
                None if restore.in_history => return self.finish_restore(restore).await,
                None => Restore { in_history: true, from: None, ..restore.clone() },
            };
            let mut items = Vec::with_capacity(page.entries.len());
            for entry in &page.entries {
                if !restore.in_history {
                    if entry.version.0 <= restore.version {
                        items.push((entry.key.slice(ITEM_PREFIX_LEN..), entry.value.clone()));
                    }
                    continue;
                }
                let past = Past::decode(&entry.value)?;
                if let Some((_, item)) = past.item.filter(|(version, _)| *version <= restore.version) {
                    items.push((past.tail, item));
                }
            }
            match self.put_restored(&restore, next.clone(), items).await {
                Ok(true) => restore = next,
                Ok(false) => {
                    return self.node.store.write(vec![Write::Delete(restore.key())]).await.map(drop);
                }
                Err(Attempt::Stale) => self.node.cache.forget(restore.account, &restore.table),
                Err(Attempt::Failed(error)) => return Err(stored(error)),
            }
        }
    }

    /// Puts items into the table; false if it is gone.
    async fn put_restored(
        &self,
        restore: &Restore,
        next: Restore,
        items: Vec<(bytes::Bytes, bytes::Bytes)>,
    ) -> Result<bool, Attempt> {
        let table = self.node.cache.get(&self.node.store, restore.account, &restore.table).await?;
        let Some(table) = table.filter(|table| table.record.id == restore.id) else { return Ok(false) };
        let keys: Vec<Key> = items
            .iter()
            .map(|(tail, _)| {
                let mut writer = items_prefix(restore.account, restore.id);
                writer.raw(tail);
                writer.finish()
            })
            .collect();
        let mut reads = vec![table.read()];
        reads.extend(keys.iter().cloned().map(Read::Key));
        let collections = Collections::of(keys.iter().map(|key| (&*table, key)), &mut reads);
        let moment = Moment::caller(self.node.env.now());
        self.node
            .store
            .transact(reads, move |pages: &[Page], _| {
                check(&table, &pages[0])?;
                let mut sizes = collections.sizes(pages)?;
                let mut writes = Vec::with_capacity(keys.len() + 1);
                for ((key, page), (_, item)) in keys.iter().zip(&pages[1..]).zip(&items) {
                    let change = Change::Put(item.clone());
                    table.writes(key, page.first(), change, moment, &mut sizes, &mut writes)?;
                }
                sizes.writes(&mut writes);
                writes.push(RESTORES.put(next.key(), &next));
                Ok((writes, true))
            })
            .await
    }

    /// Every item is there: the table can be used.
    async fn finish_restore(&self, restore: Restore) -> Result<(), Error> {
        let key = table_key(restore.account, &restore.table);
        let (account, name) = (restore.account, restore.table.clone());
        self.node
            .store
            .transact(vec![Read::Key(key.clone())], move |pages, _| {
                let mut writes = vec![Write::Delete(restore.key())];
                if let Some(row) = TABLES.first(&pages[0])?.filter(|row| row.value.id == restore.id) {
                    let mut record = row.value;
                    if let Some(restored) = &mut record.restored {
                        restored.in_progress = false;
                    }
                    writes.push(TABLES.put(key.clone(), &record));
                }
                Ok::<_, Error>((writes, ()))
            })
            .await?;
        self.node.cache.forget(account, &name);
        Ok(())
    }

    /// Trims the history of every table that can be recovered and has no backup.
    pub(super) async fn trim_history(&self) -> Result<(), Error> {
        let mut from = AccountId::DEFAULT;
        while let Some(account) = self.node.store.next_account(store::tables::DDB_HISTORY, from).await? {
            let mut range = TABLES.range(account, BATCH, |_| {});
            loop {
                let (tables, more) = TABLES.scan(&self.node.store, range.clone()).await?;
                let Some(last) = tables.last() else { break };
                range.start = store::key::after(&last.key);
                for row in &tables {
                    let record = &row.value;
                    if let (Some(recovery), true) = (record.recovery, record.backups.is_empty()) {
                        self.trim_table(account, record.id, DAY * recovery.days).await?;
                    }
                }
                if !more {
                    break;
                }
            }
            from = AccountId::from_number(account.number() + 1).unwrap_or(AccountId::NODE);
        }
        Ok(())
    }

    async fn trim_table(
        &self,
        account: AccountId,
        id: u64,
        window: std::time::Duration,
    ) -> Result<(), Error> {
        let horizon = self.node.env.now() - window - SLACK;
        let head_key = history_head_key(account, id);
        let head = HISTORY_HEADS.get(&self.node.store, head_key.clone()).await?;
        let mut version = head.map_or(0, |row| row.value.version);
        let end = prefix_end(&history_prefix(account, id).finish());
        // Mostly the first row says that there is nothing to trim.
        let mut limit = 1;
        loop {
            let mut start = history_prefix(account, id);
            start.u64(version);
            let (start, end) = (start.finish(), end.clone());
            let range = Range { start, end, limit, limit_bytes: 1 << 20, reverse: false };
            limit = BATCH;
            let page = self.node.store.scan(range).await?;
            let mut writes = Vec::new();
            for entry in &page.entries {
                if Past::decode(&entry.value)?.at >= horizon {
                    break;
                }
                version = version_of(&entry.key)?;
                writes.push(Write::Delete(entry.key.clone()));
            }
            let done = writes.len() < page.entries.len() || !page.more;
            if !writes.is_empty() {
                writes.push(HISTORY_HEADS.put(head_key.clone(), &HistoryHead { version }));
                self.node.store.write(writes).await?;
            }
            if done {
                return Ok(());
            }
        }
    }
}
