//! Items whose time to live is over.

use std::sync::atomic::Ordering;

use store::{Error, Key, Page, Read, Stored, Write};
use types::AccountId;

use super::jobs::stored;
use super::{CLOCK_SKEW_MS, Sweeper};
use crate::change::Change;
use crate::collection::Collections;
use crate::stream::{Cause, Moment};
use crate::table::Attempt;
use crate::tables::{EXPIRY, Expiring};
use crate::ttl::{self, MAX_AGE_S};
use crate::value::ItemView;

/// Items looked at by one commit: others wait for it.
const ITEMS: usize = 64;

impl Sweeper {
    /// Removes every item that has expired.
    pub(super) async fn remove_expired(&self) -> Result<(), Error> {
        let at = |s: i64| {
            EXPIRY.key(AccountId::NODE, |k| {
                k.i64(s);
            })
        };
        let now_s = self.node.env.now().as_second();
        let mut range = EXPIRY.range(AccountId::NODE, ITEMS, |_| {});
        range.start = at(self.expiry_from_s.load(Ordering::Relaxed));
        range.end = at(now_s + 1);
        loop {
            let (rows, more) = EXPIRY.scan(&self.node.store, range.clone()).await?;
            let Some(last) = rows.last() else { break };
            range.start = store::key::after(&last.key);
            // One commit for the rows of one table.
            for rows in rows.chunk_by(|one, two| one.value == two.value) {
                self.expire(rows, now_s).await?;
            }
            if !more {
                break;
            }
        }
        // Rows are written ahead of this, as far as clocks agree.
        self.expiry_from_s.store(now_s - CLOCK_SKEW_MS / 1000, Ordering::Relaxed);
        Ok(())
    }

    async fn expire(&self, rows: &[Stored<Expiring>], now_s: i64) -> Result<(), Error> {
        let Some(Expiring { account, table, id }) = rows.first().map(|row| row.value.clone()) else {
            return Ok(());
        };
        loop {
            match self.expire_in(account, &table, id, rows, now_s).await {
                Ok(()) => return Ok(()),
                Err(Attempt::Stale) => self.node.cache.forget(account, &table),
                Err(Attempt::Failed(error)) => return Err(stored(error)),
            }
        }
    }

    async fn expire_in(
        &self,
        account: AccountId,
        name: &str,
        id: u64,
        rows: &[Stored<Expiring>],
        now_s: i64,
    ) -> Result<(), Attempt> {
        let table = self.node.cache.get(&self.node.store, account, name).await?;
        let deletes: Vec<Write> = rows.iter().map(|row| Write::Delete(row.key.clone())).collect();
        let table = table.filter(|table| table.record.id == id && table.record.ttl.is_some());
        let Some(table) = table else {
            // The table is gone, or its items do not expire any more.
            self.node.store.write(deletes).await?;
            return Ok(());
        };
        let keys: Vec<Key> = rows.iter().map(|row| ttl::item_key(&row.value, &row.key)).collect();
        let mut reads = vec![table.read()];
        reads.extend(keys.iter().cloned().map(Read::Key));
        let collections = Collections::of(keys.iter().map(|key| (&*table, key)), &mut reads);
        let moment = Moment { at: self.node.env.now(), cause: Cause::Expiry };
        self.node
            .store
            .transact(reads, move |pages: &[Page], _| {
                match table.check(&pages[0]) {
                    // The next try sees that the table is gone.
                    Err(Attempt::Failed(crate::Error::ResourceNotFound(_))) => return Err(Attempt::Stale),
                    other => other?,
                }
                let attribute = table.record.ttl.as_deref().unwrap_or_default();
                let mut sizes = collections.sizes(pages)?;
                let mut writes = Vec::with_capacity(2 * keys.len());
                for ((key, page), delete) in keys.iter().zip(&pages[1..]).zip(&deletes) {
                    writes.push(delete.clone());
                    let Some(item) = page.first() else { continue };
                    let view = ItemView::new(&item.value).map_err(store::Error::from)?;
                    let over = |at: i64| at <= now_s && at > now_s - MAX_AGE_S;
                    if ttl::ends_at(attribute, view).is_some_and(over) {
                        table.writes(key, Some(item), Change::Delete, moment, &mut sizes, &mut writes)?;
                    }
                }
                sizes.writes(&mut writes);
                Ok((writes, ()))
            })
            .await
    }
}
