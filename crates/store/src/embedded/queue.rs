//! The commits that wait. Bounded; whoever takes, takes all, under one lock.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::Error;

#[derive(Debug)]
pub(super) struct Queue<T> {
    limit: usize,
    state: Mutex<State<T>>,
    filled: Condvar,
}

#[derive(Debug)]
struct State<T> {
    waiting: VecDeque<T>,
    closed: bool,
}

/// What [`Queue::take`] came back with.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// There is work.
    Some,
    /// Nothing came for as long as asked.
    Idle,
    /// Nothing is left, and nothing will come.
    Closed,
}

impl<T> Queue<T> {
    pub(super) fn new(limit: usize) -> Self {
        let state = State { waiting: VecDeque::new(), closed: false };
        Self { limit, state: Mutex::new(state), filled: Condvar::new() }
    }

    pub(super) fn push(&self, item: T) -> Result<(), Error> {
        let mut state = self.lock();
        if state.closed {
            return Err(Error::Closed);
        }
        if state.waiting.len() >= self.limit {
            return Err(Error::Overloaded);
        }
        state.waiting.push_back(item);
        let first = state.waiting.len() == 1;
        drop(state);
        if first {
            self.filled.notify_one();
        }
        Ok(())
    }

    /// Moves all that waits into `into`, which is empty; waits for something to come for up to `patience`.
    pub(super) fn take(&self, into: &mut VecDeque<T>, patience: Duration) -> Taken {
        let (mut state, _) = self
            .filled
            .wait_timeout_while(self.lock(), patience, |state| state.waiting.is_empty() && !state.closed)
            .unwrap_or_else(PoisonError::into_inner);
        if !state.waiting.is_empty() {
            std::mem::swap(&mut state.waiting, into);
            return Taken::Some;
        }
        if state.closed { Taken::Closed } else { Taken::Idle }
    }

    /// Refuses what comes from now on; what waits can still be taken.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_all();
    }

    /// Refuses what comes from now on, and drops what waits.
    pub(super) fn abandon(&self) {
        self.close();
        let waiting = std::mem::take(&mut self.lock().waiting);
        drop(waiting);
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // No code of others runs under this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_all_refuses_over_the_limit_and_drains_when_closed() {
        let queue = Queue::new(2);
        let mut taken = VecDeque::new();
        assert_eq!(queue.take(&mut taken, Duration::ZERO), Taken::Idle);
        queue.push(1).unwrap();
        queue.push(2).unwrap();
        assert!(matches!(queue.push(3), Err(Error::Overloaded)));
        queue.close();
        assert!(matches!(queue.push(4), Err(Error::Closed)));
        assert_eq!(queue.take(&mut taken, Duration::ZERO), Taken::Some);
        assert_eq!(taken, [1, 2]);
        taken.clear();
        assert_eq!(queue.take(&mut taken, Duration::MAX), Taken::Closed);
    }
}
