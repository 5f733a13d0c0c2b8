//! Removes messages that have expired, and those of queues that were deleted or purged.
//!
//! A queue with messages has one row that says when the oldest of them may expire; one without has none. Receivers see
//! no message that has expired, whether or not it was removed.

use std::sync::Arc;
use std::time::Duration;

use store::key::{KeyReader, prefix_end};
use store::{Key, Range, Read, TableId, Write, tables};
use tokio_util::sync::CancellationToken;
use types::AccountId;

use crate::Error;
use crate::service::Inner;
use crate::tables::{
    BAGS, DROPPED, EXPIRY, ExpiryRow, MESSAGES, Place, QUEUES, RECEIPTS, bag_key, expiry_key, message_key,
    place_key, queue_key, receipt_key,
};

/// How often it looks for messages that have expired.
const PAUSE: Duration = Duration::from_secs(60);
/// Messages and rows that one commit removes at most.
const PAGE: usize = 500;

/// See the module. One runs on a node.
#[derive(Debug)]
pub struct Sweeper {
    inner: Arc<Inner>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner").field("region", &self.region).finish_non_exhaustive()
    }
}

impl Sweeper {
    pub(crate) fn new(inner: Arc<Inner>) -> Self {
        Self { inner }
    }

    /// Works until `shutdown`. A failure is logged and tried again.
    pub async fn run(self, shutdown: CancellationToken) {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                passed = self.pass() => {
                    if let Err(error) = passed {
                        tracing::warn!(%error, "messages that have ended were not removed; it is tried again");
                    }
                }
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.inner.sweep.notified() => {}
                () = self.inner.env.sleep(PAUSE) => {}
            }
        }
    }

    /// Removes what has ended by now.
    pub async fn pass(&self) -> Result<(), Error> {
        self.drop_bags().await?;
        let store = &self.inner.store;
        loop {
            let now = self.inner.env.now().as_millisecond();
            let all = EXPIRY.range(AccountId::NODE, 100, |_| {});
            let due = EXPIRY.key(AccountId::NODE, |k| {
                k.i64(now.saturating_add(1));
            });
            let (rows, more) = EXPIRY.scan(store, Range { end: due, ..all }).await?;
            for row in rows {
                let mut key = KeyReader::new(&row.key)?;
                key.i64()?;
                let (account, bag) = (key.u64()?, key.u64()?);
                let Some(account) = AccountId::from_number(account) else { continue };
                while self.expire(account, bag, &row.value.queue, &row.key, now).await? {}
            }
            if !more {
                return Ok(());
            }
        }
    }

    /// Removes messages of a bag that have expired; true if there may be more.
    async fn expire(
        &self,
        account: AccountId,
        bag: u64,
        queue: &str,
        due: &Key,
        now: i64,
    ) -> Result<bool, Error> {
        let store = &self.inner.store;
        let reads = vec![Read::Key(queue_key(account, queue)), Read::Key(bag_key(account, bag))];
        let pages = store.read(reads).await?;
        let row = QUEUES.first(&pages[0])?.map(|stored| stored.value).filter(|row| row.bag == bag);
        let (Some(row), Some(of_bag)) = (row, BAGS.first(&pages[1])?) else {
            store.write(vec![Write::Delete(due.clone())]).await?;
            return Ok(false);
        };
        let retention_ms = i64::from(row.settings.retention_s) * 1000;
        let end = prefix_end(&MESSAGES.key(account, |k| {
            k.u64(bag);
        }));
        let start = message_key(account, bag, of_bag.value.oldest);
        let range = Range { start, end, limit: PAGE, limit_bytes: 4 << 20, reverse: false };
        let (messages, more) = MESSAGES.scan(store, range).await?;
        let (mut old, mut next) = (Vec::new(), None);
        for stored in messages {
            let mut key = KeyReader::new(&stored.key)?;
            key.u64()?;
            let number = key.u64()?;
            let ends_ms = stored.value.head.sent_ms.saturating_add(retention_ms);
            if ends_ms > now {
                next = Some((number, ends_ms));
                break;
            }
            old.push((number, stored.value.head.due_ms));
        }
        let receipts =
            old.iter().map(|(number, _)| Read::Key(receipt_key(account, bag, *number))).collect::<Vec<_>>();
        let receipts = store.read(receipts).await?;
        let mut places = Vec::with_capacity(old.len());
        for ((number, due_ms), page) in old.iter().zip(&receipts) {
            let receipt = RECEIPTS.first(page)?.map(|stored| stored.value);
            places.push(Place { due_ms: receipt.map_or(*due_ms, |receipt| receipt.due_ms), number: *number });
        }
        let mut reads = vec![Read::Key(bag_key(account, bag)), Read::Key(queue_key(account, queue))];
        reads.extend(places.iter().map(|place| Read::Key(place_key(account, bag, *place))));
        let all_old = next.is_none() && more;
        let (due, queue) = (due.clone(), queue.to_owned());
        let removed = store.transact(reads, move |pages, _| {
            let same = QUEUES.first(&pages[1])?.is_some_and(|stored| stored.value.bag == bag);
            let (Some(stored), true) = (BAGS.first(&pages[0])?, same) else {
                return Ok((vec![Write::Delete(due.clone())], true));
            };
            let mut of_bag = stored.value;
            let (mut writes, mut whole) = (Vec::new(), true);
            for (place, page) in places.iter().zip(&pages[2..]) {
                // One that is being received just now has moved; it is looked at again.
                if page.first().is_none() {
                    whole = false;
                    continue;
                }
                writes.push(Write::Delete(place_key(account, bag, *place)));
                writes.push(Write::Delete(message_key(account, bag, place.number)));
                writes.push(Write::Delete(receipt_key(account, bag, place.number)));
                of_bag.messages = of_bag.messages.saturating_sub(1);
            }
            let last = places.last().map(|place| place.number.saturating_add(1));
            if let (Some(reached), true) = (next.map(|(number, _)| number).or(last), whole) {
                of_bag.oldest = of_bag.oldest.max(reached);
            }
            if all_old {
                writes.push(BAGS.put(stored.key, &of_bag));
                return Ok((writes, whole));
            }
            // Another than this row speaks for the bag if what is set of the queue has changed meanwhile.
            writes.push(Write::Delete(due.clone()));
            if expiry_key(of_bag.sweep_ms, account, bag) == due {
                of_bag.sweep_ms = match next {
                    _ if of_bag.messages == 0 => 0,
                    Some((_, ends_ms)) if whole => ends_ms,
                    _ => now.saturating_add(1000),
                };
                if of_bag.sweep_ms != 0 {
                    let key = expiry_key(of_bag.sweep_ms, account, bag);
                    writes.push(EXPIRY.put(key, &ExpiryRow { queue: queue.clone() }));
                }
            }
            writes.push(BAGS.put(stored.key, &of_bag));
            Ok::<_, Error>((writes, whole))
        });
        Ok(removed.await? && all_old)
    }

    /// Removes what is left of queues that are gone.
    async fn drop_bags(&self) -> Result<(), Error> {
        let store = &self.inner.store;
        loop {
            let page = store.scan(DROPPED.range(AccountId::NODE, 100, |_| {})).await?;
            for entry in &page.entries {
                let mut key = KeyReader::new(&entry.key)?;
                let (account, bag) = (key.u64()?, key.u64()?);
                if let Some(account) = AccountId::from_number(account) {
                    for table in [tables::SQS_PLACES, tables::SQS_MESSAGES, tables::SQS_RECEIPTS] {
                        self.remove_all(account, bag, table).await?;
                    }
                    store.write(vec![Write::Delete(bag_key(account, bag))]).await?;
                }
                store.write(vec![Write::Delete(entry.key.clone())]).await?;
            }
            if !page.more {
                return Ok(());
            }
        }
    }

    async fn remove_all(&self, account: AccountId, bag: u64, table: TableId) -> Result<(), Error> {
        let mut writer = store::key::KeyWriter::new(account, table);
        writer.u64(bag);
        let start = writer.finish();
        let mut range =
            Range { end: prefix_end(&start), start, limit: PAGE, limit_bytes: 4 << 20, reverse: false };
        loop {
            let page = self.inner.store.scan(range.clone()).await?;
            let writes: Vec<_> = page.entries.iter().map(|entry| Write::Delete(entry.key.clone())).collect();
            if let Some(last) = page.entries.last() {
                range.start = store::key::after(&last.key);
                self.inner.store.write(writes).await?;
            }
            if !page.more {
                return Ok(());
            }
        }
    }
}
