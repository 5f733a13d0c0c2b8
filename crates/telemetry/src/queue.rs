//! What was recorded and is not written yet.
//!
//! Recorders put it here under a short lock, and wait only while there is no room; the writer is woken when
//! something comes into an empty queue, and otherwise only when there is enough for a whole batch or somebody waits:
//! a record costs no task switch.

use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Notify;
use types::SharedEnv;

use crate::handle::Item;

/// See the module.
#[derive(Debug)]
pub(crate) struct Queue {
    state: Mutex<State>,
    /// Rung for the writer.
    filled: Notify,
    /// Rung for recorders that wait.
    emptied: Notify,
    capacity: usize,
    /// How much is taken at once.
    batch: usize,
}

#[derive(Debug, Default)]
struct State {
    items: Vec<Item>,
    /// Somebody waits for what is there.
    urgent: bool,
    /// Handed out without waiting for more.
    closed: bool,
    /// Nobody takes anything any more.
    ended: bool,
}

impl Queue {
    /// A queue of so many items, taken at most `batch` at once.
    pub(crate) fn new(capacity: usize, batch: usize) -> Self {
        let (state, filled, emptied) = Default::default();
        Self { state, filled, emptied, capacity: capacity.max(1), batch }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }

    /// Adds items, all or none of them now; gives them back if they have to wait.
    fn try_push(&self, items: Vec<Item>) -> Result<bool, Vec<Item>> {
        let mut state = self.lock();
        if state.ended {
            return Ok(false);
        }
        let urgent = items.iter().any(|item| matches!(item, Item::Flush(_)));
        let before = state.items.len();
        if before >= self.capacity && !urgent && !state.closed {
            return Err(items);
        }
        state.items.extend(items);
        state.urgent |= urgent;
        let is_whole = before < self.batch && state.items.len() >= self.batch;
        drop(state);
        if before == 0 || urgent || is_whole {
            self.filled.notify_one();
        }
        Ok(true)
    }

    /// Adds items, when there is room. False if nobody takes them any more.
    pub(crate) async fn push(&self, items: Vec<Item>) -> bool {
        let mut items = match self.try_push(items) {
            Ok(taken) => return taken,
            Err(items) => items,
        };
        loop {
            let mut emptied = std::pin::pin!(self.emptied.notified());
            emptied.as_mut().enable();
            items = match self.try_push(items) {
                Ok(taken) => return taken,
                Err(items) => items,
            };
            emptied.await;
        }
    }

    /// The next batch: what there is a moment after the first came, or at once if somebody waits for it. Empty once
    /// the queue is closed and empty.
    pub(crate) async fn take(&self, gather: Duration, env: &SharedEnv) -> Vec<Item> {
        let mut gathering = None;
        loop {
            {
                let mut state = self.lock();
                let is_ready = state.urgent || state.closed || state.items.len() >= self.batch;
                if is_ready || matches!(&gathering, Some(true)) && !state.items.is_empty() {
                    let count = state.items.len().min(self.batch);
                    state.ended |= count == 0;
                    let rest = state.items.split_off(count);
                    let batch = std::mem::replace(&mut state.items, rest);
                    state.urgent = state.items.iter().any(|item| matches!(item, Item::Flush(_)));
                    drop(state);
                    self.emptied.notify_waiters();
                    return batch;
                }
                if !state.items.is_empty() {
                    gathering = Some(false);
                }
            }
            match gathering {
                None => self.filled.notified().await,
                Some(_) => tokio::select! {
                    () = env.sleep(gather) => gathering = Some(true),
                    () = self.filled.notified() => {}
                },
            }
        }
    }

    /// What is there, and what still comes, is handed out at once; with the first empty batch it ends.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_one();
        self.emptied.notify_waiters();
    }

    /// Lets go of what is there, and takes nothing more.
    pub(crate) fn end(&self) {
        let mut state = self.lock();
        state.ended = true;
        let lost = std::mem::take(&mut state.items);
        drop(state);
        drop(lost);
        self.emptied.notify_waiters();
    }
}
