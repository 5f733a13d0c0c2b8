//! What of a bag in use is in memory: where to look for messages, which are being handed out, and who waits for some.
//!
//! A message that is handed out is claimed here first and then moved by a commit, which sees that it still is where it
//! was: so two receivers never work on one message, and none waits for another's commit.
//!
//! Invariants: every place before the cursor is empty, or its message is in `ready` or `claimed`; a place that a commit
//! under way will fill is in `pending` from before that commit begins, and the clock of a desk does not go back, so that
//! what is looked for between the cursor and the earliest pending place is all there is. A desk that is forgotten is made
//! anew from the bag's row.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};

use store::key::after;
use store::{Range, Store};
use tokio::sync::Notify;
use types::{AccountId, SharedEnv};

use crate::Error;
use crate::tables::{BAGS, PLACES, Place, bag_key, place_key};

/// Desks that nobody uses are kept up to this number.
const KEPT: usize = 4096;
/// How many places are looked up at a time.
const PAGE: usize = 128;

/// The desks of a node.
#[derive(Debug, Default)]
pub(crate) struct Desks {
    desks: Mutex<HashMap<(AccountId, u64), Arc<Desk>>>,
}

impl Desks {
    /// The desk of a bag.
    pub(crate) fn of(&self, account: AccountId, bag: u64) -> Arc<Desk> {
        let mut desks = self.desks.lock().expect("no holder of this lock panics");
        if let Some(desk) = desks.get(&(account, bag)) {
            return desk.clone();
        }
        if desks.len() >= KEPT {
            // One that somebody uses has a claim or a pending place, or a receiver that waits.
            desks.retain(|_, desk| Arc::strong_count(desk) > 1);
        }
        let desk = Arc::new(Desk::new(account, bag));
        desks.insert((account, bag), desk.clone());
        desk
    }

    /// Wakes whoever waits at a bag's desk.
    pub(crate) fn wake(&self, account: AccountId, bag: u64) {
        let desks = self.desks.lock().expect("no holder of this lock panics");
        if let Some(desk) = desks.get(&(account, bag)) {
            desk.wake.notify_waiters();
        }
    }

    #[cfg(test)]
    fn count(&self) -> usize {
        self.desks.lock().expect("no holder of this lock panics").len()
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) account: AccountId,
    pub(crate) bag: u64,
    /// Told when there may be something to receive, or sooner than was thought.
    pub(crate) wake: Notify,
    /// One reader of the store at a time: the others would find the same.
    line: tokio::sync::Mutex<()>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// `None` before the first look.
    cursor: Option<Place>,
    ready: BTreeSet<Place>,
    claimed: BTreeSet<Place>,
    /// Times of places that commits under way will fill, and how many at each.
    pending: BTreeMap<i64, usize>,
    /// The latest time that was read from the clock.
    latest_ms: i64,
}

impl State {
    /// The clock, which does not go back.
    fn now_ms(&mut self, env: &SharedEnv) -> i64 {
        self.latest_ms = self.latest_ms.max(env.now().as_millisecond());
        self.latest_ms
    }

    /// No place before this one is taken or will be.
    fn low(&self) -> Option<Place> {
        let pending = self.pending.keys().next().map(|&at| Place::at(at));
        let known = [self.ready.first().copied(), self.claimed.first().copied(), pending];
        let cursor = self.cursor?;
        Some(known.into_iter().flatten().fold(cursor, Place::min))
    }
}

/// Places that a commit is about to fill. Dropped when it has.
#[derive(Debug)]
pub(crate) struct Pending {
    desk: Arc<Desk>,
    times: Vec<i64>,
}

/// Messages that are being handed out. Those that are left when it is dropped are tried again.
#[derive(Debug)]
pub(crate) struct Claims {
    desk: Arc<Desk>,
    pub(crate) places: Vec<Place>,
    done: bool,
}

impl Desk {
    fn new(account: AccountId, bag: u64) -> Self {
        Self {
            account,
            bag,
            wake: Notify::new(),
            line: tokio::sync::Mutex::default(),
            state: Mutex::new(State {
                cursor: None,
                ready: BTreeSet::new(),
                claimed: BTreeSet::new(),
                pending: BTreeMap::new(),
                latest_ms: i64::MIN,
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }

    /// The time, and that some seconds later for each place that is to be filled.
    pub(crate) fn pending(self: &Arc<Self>, env: &SharedEnv, delays_ms: &[i64]) -> (i64, Pending) {
        let mut state = self.state();
        let now = state.now_ms(env);
        let times: Vec<_> = delays_ms.iter().map(|delay| now.saturating_add(*delay)).collect();
        for time in &times {
            *state.pending.entry(*time).or_default() += 1;
        }
        drop(state);
        (now, Pending { desk: self.clone(), times })
    }

    /// No place before this time is taken or will be, as far as is known.
    pub(crate) fn low_ms(&self) -> Option<i64> {
        self.state().low().map(|place| place.due_ms)
    }

    /// Claims up to `most` messages that can be received now; none if there are none.
    pub(crate) async fn claim(
        self: &Arc<Self>,
        store: &Store,
        env: &SharedEnv,
        most: usize,
    ) -> Result<Claims, Error> {
        if self.state().ready.len() < most {
            let _line = self.line.lock().await;
            if self.state().ready.len() < most {
                self.look(store, env, most).await?;
            }
        }
        Ok(self.claim_ready(most))
    }

    fn claim_ready(self: &Arc<Self>, most: usize) -> Claims {
        let mut state = self.state();
        let mut places = Vec::new();
        while places.len() < most
            && let Some(place) = state.ready.pop_first()
        {
            state.claimed.insert(place);
            places.push(place);
        }
        drop(state);
        Claims { desk: self.clone(), places, done: false }
    }

    /// Looks for messages that can be received now, from the cursor on, until there are enough or no more.
    async fn look(&self, store: &Store, env: &SharedEnv, enough: usize) -> Result<(), Error> {
        let (now, upto, cursor) = {
            let mut state = self.state();
            let now = state.now_ms(env);
            let pending = state.pending.keys().next().copied();
            (now, Place::at(pending.map_or(now, |pending| pending.min(now))), state.cursor)
        };
        let mut from = match cursor {
            Some(cursor) => cursor,
            None => {
                let row = BAGS.get(store, bag_key(self.account, self.bag)).await?;
                let head = row.map_or(i64::MAX, |row| row.value.head_ms);
                Place::at(head).min(upto)
            }
        };
        loop {
            let range = Range {
                start: place_key(self.account, self.bag, from),
                end: place_key(self.account, self.bag, Place::at(now.saturating_add(1))),
                limit: PAGE,
                limit_bytes: 1 << 20,
                reverse: false,
            };
            if range.start >= range.end {
                self.state().cursor = Some(from);
                return Ok(());
            }
            let page = store.scan(range).await?;
            let mut state = self.state();
            for entry in &page.entries {
                let place = Place::read(&entry.key)?;
                from = place.next();
                if !state.claimed.contains(&place) {
                    state.ready.insert(place);
                }
            }
            // What a commit under way adds is not before `upto`: it is looked for again.
            let reached = if page.more { from.min(upto) } else { upto };
            state.cursor = Some(state.cursor.map_or(reached, |cursor| cursor.max(reached)));
            if !page.more || state.ready.len() >= enough {
                return Ok(());
            }
        }
    }

    /// How long it is until the next message can be received, in milliseconds, if there is one.
    pub(crate) async fn next_ms(&self, store: &Store, env: &SharedEnv) -> Result<Option<i64>, Error> {
        let (now, from) = {
            let mut state = self.state();
            (state.now_ms(env), state.cursor)
        };
        let from = from.unwrap_or(Place::at(now)).max(Place::at(now));
        let start = place_key(self.account, self.bag, from);
        let end = store::key::prefix_end(&PLACES.key(self.account, |k| {
            k.u64(self.bag);
        }));
        let mut range = Range { start, end, limit: PAGE, limit_bytes: 1 << 20, reverse: false };
        loop {
            let page = store.scan(range.clone()).await?;
            let state = self.state();
            for entry in &page.entries {
                let place = Place::read(&entry.key)?;
                if !state.claimed.contains(&place) {
                    return Ok(Some(place.due_ms.saturating_sub(now)));
                }
            }
            drop(state);
            match page.entries.last() {
                Some(last) if page.more => range.start = after(&last.key),
                _ => return Ok(None),
            }
        }
    }

    /// Whether more can be received at once.
    pub(crate) fn has_ready(&self) -> bool {
        !self.state().ready.is_empty()
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let mut state = self.desk.state();
        for time in &self.times {
            if let Some(count) = state.pending.get_mut(time) {
                *count -= 1;
                if *count == 0 {
                    state.pending.remove(time);
                }
            }
        }
        drop(state);
        // One receiver for each message; more than there wait wake nobody.
        for _ in &self.times {
            self.desk.wake.notify_one();
        }
    }
}

impl Claims {
    /// They have been moved, or are no longer there.
    pub(crate) fn done(mut self) {
        self.done = true;
    }
}

impl Drop for Claims {
    fn drop(&mut self) {
        let mut state = self.desk.state();
        for place in &self.places {
            state.claimed.remove(place);
            if !self.done {
                state.ready.insert(*place);
            }
        }
        drop(state);
        if !self.done && !self.places.is_empty() {
            self.desk.wake.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn desks_that_nobody_uses_are_forgotten() {
        let desks = Desks::default();
        let used = desks.of(AccountId::DEFAULT, 0);
        for bag in 0..10_000 {
            desks.of(AccountId::DEFAULT, bag);
        }
        assert!(desks.count() <= KEPT);
        assert!(Arc::ptr_eq(&used, &desks.of(AccountId::DEFAULT, 0)));
    }
}
