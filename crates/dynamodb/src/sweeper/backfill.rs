//! Enters the items that were there before into an index made later, or into the order by time to live.
//!
//! Invariant: each batch is read again inside the commit that enters it, with the table's row, so that nothing is
//! entered that a write meanwhile has changed or removed; where the work stands is part of the same commit.

use std::sync::Arc;

use store::key::prefix_end;
use store::{Error, Key, Page, Range, Read, Write};
use types::AccountId;

use super::Sweeper;
use super::jobs::{Jobs, check, stored};
use crate::change::Image;
use crate::table::{Attempt, Table};
use crate::tables::{BACKFILLS, Backfill, BackfillInto, IndexState, TABLES, items_prefix, table_key};
use crate::ttl;

/// Items entered by one commit: others wait for it.
const ITEMS: usize = 64;

impl Sweeper {
    /// Does all back-fills there are.
    pub(super) async fn backfill(&self) -> Result<(), Error> {
        let mut jobs = Jobs::of(&BACKFILLS);
        while let Some(job) = jobs.next(&self.node.store).await? {
            self.fill(job).await?;
        }
        Ok(())
    }

    async fn fill(&self, mut backfill: Backfill) -> Result<(), Error> {
        let prefix = items_prefix(backfill.account, backfill.id).finish();
        let end = prefix_end(&prefix);
        loop {
            let start = backfill.from.clone().map_or(prefix.clone(), Key::from);
            let range = Range { start, end: end.clone(), limit: ITEMS, limit_bytes: 1 << 20, reverse: false };
            let page = self.node.store.scan(range).await?;
            let Some(last) = page.entries.last() else { return self.finish(backfill).await };
            let next = Backfill { from: Some(store::key::after(&last.key).to_vec()), ..backfill.clone() };
            let keys: Vec<Key> = page.entries.iter().map(|entry| entry.key.clone()).collect();
            match self.enter(&backfill, next.clone(), keys).await {
                Ok(true) => backfill = next,
                Ok(false) => {
                    return self.node.store.write(vec![Write::Delete(backfill.key())]).await.map(drop);
                }
                Err(Attempt::Stale) => self.node.cache.forget(backfill.account, &backfill.table),
                Err(Attempt::Failed(error)) => return Err(stored(error)),
            }
        }
    }

    /// Enters the items of those keys; false if what they were to be entered into is gone.
    async fn enter(&self, backfill: &Backfill, next: Backfill, keys: Vec<Key>) -> Result<bool, Attempt> {
        let Some(table) = self.table(backfill.account, &backfill.table).await? else { return Ok(false) };
        if table.record.id != backfill.id {
            return Ok(false);
        }
        let there = match backfill.into {
            BackfillInto::Index(number) => table.indexes.iter().any(|index| index.record.number == number),
            BackfillInto::Expiry => table.record.ttl.is_some(),
        };
        if !there {
            return Ok(false);
        }
        let mut reads = vec![table.read()];
        reads.extend(keys.iter().cloned().map(Read::Key));
        let (into, now) = (backfill.into, self.node.env.now());
        self.node
            .store
            .transact(reads, move |pages: &[Page], _| {
                check(&table, &pages[0])?;
                let mut writes = Vec::with_capacity(keys.len() + 1);
                for (key, page) in keys.iter().zip(&pages[1..]) {
                    let Some(item) = page.first().and_then(|entry| Image::of(&entry.value)) else { continue };
                    match into {
                        BackfillInto::Index(number) => {
                            let index = table.indexes.iter().find(|index| index.record.number == number);
                            let entry = index.and_then(|index| index.entry(key, item));
                            writes.extend(entry.map(|(key, value)| Write::Put(key, value)));
                        }
                        BackfillInto::Expiry => {
                            writes.extend(ttl::row(&table, key, item.view, now));
                        }
                    }
                }
                writes.push(BACKFILLS.put(next.key(), &next));
                Ok((writes, true))
            })
            .await
    }

    async fn table(&self, account: AccountId, name: &str) -> Result<Option<Arc<Table>>, Attempt> {
        Ok(self.node.cache.get(&self.node.store, account, name).await?)
    }

    /// Every item has been entered: the index can be read.
    async fn finish(&self, backfill: Backfill) -> Result<(), Error> {
        let key = table_key(backfill.account, &backfill.table);
        let (account, name) = (backfill.account, backfill.table.clone());
        self.node
            .store
            .transact(vec![Read::Key(key.clone())], move |pages, _| {
                let mut writes = vec![Write::Delete(backfill.key())];
                let row = TABLES.first(&pages[0])?.filter(|row| row.value.id == backfill.id);
                if let (Some(row), BackfillInto::Index(number)) = (row, backfill.into) {
                    let mut record = row.value;
                    if let Some(index) = record.indexes.iter_mut().find(|index| index.number == number) {
                        index.state = IndexState::Active;
                        writes.push(TABLES.put(key.clone(), &record));
                    }
                }
                Ok::<_, Error>((writes, ()))
            })
            .await?;
        self.node.cache.forget(account, &name);
        Ok(())
    }
}
