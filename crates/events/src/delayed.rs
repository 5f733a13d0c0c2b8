//! Brings events back into their lanes when their time has come.
//!
//! Invariant: an event is either delayed or due, never both, since one commit moves it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use store::key::{KeyReader, account_of, after, prefix_end};
use store::outbox::DELAYED;
use store::outbox::Delivery;
use store::{Key, Range, Read, Stored, Watch, Write, tables};
use types::AccountId;

use crate::error::Error;
use crate::service::Shared;

/// Pause after the store has failed.
const PAUSE: Duration = Duration::from_secs(1);
/// Most events moved by one commit.
const BATCH: usize = 100;

/// An account with delayed events.
#[derive(Debug)]
struct Timer {
    /// When the first of them is due, in ms since the epoch.
    due_ms: i64,
    /// Where to read from: what came before has been moved, and would cost time to pass over.
    from: Key,
}

/// Runs until the service ends.
pub(crate) async fn run(shared: Arc<Shared>, mut written: Watch) {
    let mut timers = HashMap::new();
    let mut lost = true;
    loop {
        if lost {
            match shared.find_delayed().await {
                Ok(found) => {
                    timers = found;
                    lost = false;
                }
                Err(error) => {
                    tracing::error!(%error, kind = ?error.kind(), "delayed events could not be read");
                    shared.pause(PAUSE).await;
                }
            }
        }
        let now_ms = shared.env.now().as_millisecond();
        let wait_ms = timers.values().map(|timer| timer.due_ms.saturating_sub(now_ms)).min();
        let wait = wait_ms.map(|ms| Duration::from_millis(u64::try_from(ms).unwrap_or(0)));
        tokio::select! {
            biased;
            () = shared.shutdown.cancelled() => return,
            () = std::future::ready(()), if lost => {}
            key = written.next() => match key {
                Some(key) => note(&mut timers, &key),
                None => lost = true,
            },
            () = shared.env.sleep(wait.unwrap_or_default()), if wait.is_some() => {
                if let Err(error) = shared.move_due(&mut timers).await {
                    tracing::error!(%error, kind = ?error.kind(), "delayed events could not be moved");
                    shared.pause(PAUSE).await;
                    lost = true;
                }
            }
        }
    }
}

/// A row was added, or one that was moved has been removed: the latter costs a look that finds nothing.
fn note(timers: &mut HashMap<AccountId, Timer>, key: &Key) {
    let due = KeyReader::new(key).and_then(|mut key| key.i64());
    let (Ok(account), Ok(due_ms)) = (account_of(key), due) else {
        tracing::error!("a key of the delayed events can not be read");
        return;
    };
    let timer = timers.entry(account).or_insert_with(|| Timer { due_ms, from: key.clone() });
    timer.due_ms = timer.due_ms.min(due_ms);
    if *key < timer.from {
        timer.from = key.clone();
    }
}

fn end_of(account: AccountId) -> Key {
    prefix_end(&DELAYED.key(account, |_| {}))
}

impl Shared {
    async fn find_delayed(&self) -> Result<HashMap<AccountId, Timer>, Error> {
        let mut timers = HashMap::new();
        let mut from = AccountId::DEFAULT;
        while let Some(account) = self.store.next_account(tables::OUTBOX_DELAYED, from).await? {
            if let Some(timer) = self.first_delayed(account, DELAYED.key(account, |_| {})).await? {
                timers.insert(account, timer);
            }
            match AccountId::from_number(account.number() + 1) {
                Some(next) => from = next,
                None => break,
            }
        }
        Ok(timers)
    }

    async fn first_delayed(&self, account: AccountId, start: Key) -> Result<Option<Timer>, Error> {
        let range = Range { start, end: end_of(account), limit: 1, limit_bytes: 1, reverse: false };
        let page = self.store.scan(range).await?;
        let Some(entry) = page.first() else { return Ok(None) };
        let due_ms = KeyReader::new(&entry.key)?.i64()?;
        Ok(Some(Timer { due_ms, from: entry.key.clone() }))
    }

    async fn move_due(&self, timers: &mut HashMap<AccountId, Timer>) -> Result<(), Error> {
        let now_ms = self.env.now().as_millisecond();
        let due: Vec<_> = timers.iter().filter(|(_, t)| t.due_ms <= now_ms).map(|(a, _)| *a).collect();
        for account in due {
            let Some(timer) = timers.remove(&account) else { continue };
            let mut from = timer.from;
            let end = DELAYED.key(account, |k| {
                k.i64(now_ms.saturating_add(1));
            });
            loop {
                let range = Range {
                    start: from.clone(),
                    end: end.clone().max(from.clone()),
                    limit: BATCH,
                    limit_bytes: 4 << 20,
                    reverse: false,
                };
                let page = self.store.scan(range).await?;
                let mut rows = Vec::with_capacity(page.entries.len());
                for entry in &page.entries {
                    from = after(&entry.key);
                    match DELAYED.decode(entry) {
                        Ok(row) => rows.push(row),
                        // Left where it is: only a person can tell what to do with it.
                        Err(error) => {
                            tracing::error!(%error, "a delayed event can not be read and is passed over")
                        }
                    }
                }
                if !rows.is_empty() {
                    self.move_rows(account, rows).await?;
                }
                if !page.more {
                    break;
                }
            }
            if let Some(next) = self.first_delayed(account, from).await? {
                timers.insert(account, next);
            }
        }
        Ok(())
    }

    async fn move_rows(&self, account: AccountId, rows: Vec<Stored<Delivery>>) -> Result<(), Error> {
        let reads = rows.iter().map(|row| Read::Key(row.key.clone())).collect();
        let moved = self.store.transact(reads, move |pages, _| {
            let there = rows.iter().zip(pages).filter(|(_, page)| page.first().is_some());
            let writes =
                there.flat_map(|(row, _)| [Write::Delete(row.key.clone()), row.value.due(account)]).collect();
            Ok::<_, store::Error>((writes, ()))
        });
        Ok(moved.await?)
    }
}
