//! Concurrency that is shared: by the functions of an account, or by the versions of a function with a
//! reservation.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::lock;
use super::pool::Pool;
use crate::service::Inner;

/// Counts what runs.
#[derive(Debug)]
pub(crate) struct Room {
    limit: AtomicU32,
    /// What of the limit belongs to others: in an account, to functions with a reservation.
    reserved: AtomicU32,
    running: AtomicU32,
    waiting_count: AtomicUsize,
    waiting: Mutex<VecDeque<Arc<Pool>>>,
}

impl Room {
    pub(crate) fn new(limit: u32, reserved: u32) -> Self {
        Self {
            limit: AtomicU32::new(limit),
            reserved: AtomicU32::new(reserved),
            running: AtomicU32::new(0),
            waiting_count: AtomicUsize::new(0),
            waiting: Mutex::default(),
        }
    }

    /// The limit has changed; the pools that may wait here have to look again.
    pub(crate) fn set_limit(&self, limit: u32) {
        self.limit.store(limit, Ordering::SeqCst);
    }

    /// Reservations have changed.
    pub(crate) fn set_reserved(&self, reserved: u32) {
        self.reserved.store(reserved, Ordering::SeqCst);
    }

    fn size(&self) -> u32 {
        self.limit.load(Ordering::SeqCst).saturating_sub(self.reserved.load(Ordering::SeqCst))
    }

    /// How many more may run.
    pub(crate) fn headroom(&self) -> u32 {
        self.size().saturating_sub(self.running.load(Ordering::SeqCst))
    }

    /// Takes a place, if there is one.
    pub(crate) fn try_take(&self) -> bool {
        let size = self.size();
        let take = |running| (running < size).then_some(running + 1);
        self.running.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).is_ok()
    }

    /// Gives a place back; [`Self::wake`] has to follow.
    pub(crate) fn give(&self) {
        self.running.fetch_sub(1, Ordering::SeqCst);
    }

    /// Has those look again who wait for a place, as long as there is one.
    pub(crate) fn wake(&self, inner: &Arc<Inner>) {
        while self.headroom() > 0 {
            let Some(pool) = self.next_waiting() else { return };
            pool.look_again(inner);
        }
    }

    /// The pool that has waited longest, taken off the list.
    fn next_waiting(&self) -> Option<Arc<Pool>> {
        // The common case is that nobody waits: one load, no lock.
        if self.waiting_count.load(Ordering::SeqCst) == 0 {
            return None;
        }
        let pool = lock(&self.waiting).pop_front()?;
        self.waiting_count.fetch_sub(1, Ordering::SeqCst);
        Some(pool)
    }

    /// Has `pool` looked at when a place is free.
    pub(crate) fn wait(&self, pool: Arc<Pool>) {
        self.waiting_count.fetch_add(1, Ordering::SeqCst);
        lock(&self.waiting).push_back(pool);
    }
}
