//! The node's room for instances: a budget of memory, and a bound on how many get ready at a time.
//!
//! Invariants: wants are granted in the order in which they came; the sum of granted memory stays within the
//! budget (a single instance larger than the budget excepted, so that it can run at all); no lock of a pool
//! is held while the machine's lock is.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;

use super::lock;
use super::pool::Pool;
use crate::service::Inner;

/// See the module.
#[derive(Debug)]
pub(crate) struct Machine {
    budget_mb: u64,
    starts: usize,
    /// True while a want waits for memory: then idle instances are given up.
    short: AtomicBool,
    state: Mutex<State>,
    /// Told when the last instance ends.
    empty: Notify,
}

#[derive(Debug, Default)]
struct State {
    used_mb: u64,
    /// On its way back: instances that are being stopped for the first want.
    leaving_mb: u64,
    instances: usize,
    starting: usize,
    wants: VecDeque<Want>,
}

#[derive(Debug)]
struct Want {
    pool: Arc<Pool>,
    memory_mb: u32,
    since: Duration,
}

/// Room for one instance, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Grant {
    inner: Arc<Inner>,
    memory_mb: u32,
    starting: bool,
    leaving: bool,
    settled: bool,
}

impl Machine {
    pub(crate) fn new(budget_mb: u64, starts: usize) -> Self {
        Self {
            budget_mb,
            starts,
            short: AtomicBool::new(false),
            state: Mutex::default(),
            empty: Notify::new(),
        }
    }

    /// Whether somebody waits for memory, and since when.
    pub(crate) fn shortage(&self) -> Option<Duration> {
        if !self.short.load(Ordering::Relaxed) {
            return None;
        }
        lock(&self.state).wants.front().map(|want| want.since)
    }

    /// How many instances there are.
    pub(crate) fn instances(&self) -> usize {
        lock(&self.state).instances
    }

    /// Returns when no instance is left.
    pub(crate) async fn emptied(&self) {
        loop {
            let told = self.empty.notified();
            if self.instances() == 0 {
                return;
            }
            told.await;
        }
    }
}

impl Inner {
    /// Asks for `count` instances for `pool`.
    pub(crate) fn want(self: &Arc<Self>, pool: &Arc<Pool>, memory_mb: u32, count: usize) {
        let since = self.env.monotonic();
        let want = || Want { pool: pool.clone(), memory_mb, since };
        lock(&self.machine.state).wants.extend(std::iter::repeat_with(want).take(count));
        self.grant_wants();
    }

    /// Grants what fits, in order; makes room for the first that does not.
    pub(crate) fn grant_wants(self: &Arc<Self>) {
        // Whether the first want was asked, since the last grant, if it still stands.
        let mut asked = false;
        loop {
            match self.next_step(asked) {
                Step::Rest => return,
                Step::Grant(Want { pool, memory_mb, .. }) => {
                    asked = false;
                    let inner = self.clone();
                    let grant = Grant { inner, memory_mb, starting: true, leaving: false, settled: false };
                    if let Some(mut unused) = pool.begin_start(self, grant) {
                        // Here and not by `drop`, which would come back to this loop.
                        unused.give_back();
                    }
                }
                Step::Ask(want) => {
                    if !want.pool.withdraw() {
                        asked = true;
                        lock(&self.machine.state).wants.push_front(want);
                    }
                }
                Step::MakeRoom(missing_mb) => {
                    if missing_mb == 0 || !self.evict(missing_mb) {
                        return;
                    }
                }
            }
        }
    }

    fn next_step(&self, asked: bool) -> Step {
        let machine = &self.machine;
        let mut state = lock(&machine.state);
        let Some(first) = state.wants.front() else {
            machine.short.store(false, Ordering::Relaxed);
            return Step::Rest;
        };
        let memory_mb = u64::from(first.memory_mb);
        let needed = state.used_mb + memory_mb;
        let fits = needed <= machine.budget_mb || state.instances == 0;
        machine.short.store(!fits, Ordering::Relaxed);
        if state.starting >= machine.starts {
            return Step::Rest;
        }
        if !fits && asked {
            return Step::MakeRoom((needed - machine.budget_mb).saturating_sub(state.leaving_mb));
        }
        let want = state.wants.pop_front().expect("the front was there");
        if !fits {
            return Step::Ask(want);
        }
        state.used_mb += memory_mb;
        state.instances += 1;
        state.starting += 1;
        Step::Grant(want)
    }
}

/// What is to be done for the first want.
enum Step {
    /// Nothing now.
    Rest,
    /// It fits.
    Grant(Want),
    /// It does not fit: before anything is stopped for it, ask whether it still stands.
    Ask(Want),
    /// So much has to go.
    MakeRoom(u64),
}

impl Grant {
    /// The instance is ready: others may start.
    pub(crate) fn started(&mut self) {
        if std::mem::take(&mut self.starting) {
            lock(&self.inner.machine.state).starting -= 1;
            self.inner.grant_wants();
        }
    }

    /// The instance is being stopped so that another can start: its memory is as good as free.
    pub(crate) fn leave(&mut self) {
        if !std::mem::replace(&mut self.leaving, true) {
            lock(&self.inner.machine.state).leaving_mb += u64::from(self.memory_mb);
        }
    }

    fn give_back(&mut self) {
        self.settled = true;
        let machine = &self.inner.machine;
        let mut state = lock(&machine.state);
        state.used_mb -= u64::from(self.memory_mb);
        state.instances -= 1;
        if self.starting {
            state.starting -= 1;
        }
        if self.leaving {
            state.leaving_mb -= u64::from(self.memory_mb);
        }
        if state.instances == 0 {
            machine.empty.notify_waiters();
        }
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        if !self.settled {
            self.give_back();
            self.inner.grant_wants();
        }
    }
}
