//! Memory of a sandbox: from its control group, or, where there is none, by looking at its processes.
//!
//! The limit is kept by looking, so it may be passed for a few milliseconds. A group has a hard one behind it,
//! which leaves room for a full /tmp (see `cgroup`).

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError};
use std::time::Duration;

use crate::cgroup::{Cgroup, Limits};

/// How often processes are looked at where no control group counts what they use: that is work.
const LOOK_AT_PROCESSES_EVERY: Duration = Duration::from_millis(50);
/// How often the counter of a group is read while the function has something to do,
const WATCH_EVERY: Duration = Duration::from_millis(5);
/// and while it has not.
const WATCH_IDLE_EVERY: Duration = Duration::from_millis(200);

/// A sandbox's group, until it is removed.
pub(crate) type Group = std::sync::Mutex<Option<Cgroup>>;

/// What a sandbox uses.
#[derive(Debug)]
pub(crate) struct Memory {
    /// Nothing as long as the sandbox is nobody's.
    limits: OnceLock<Limits>,
    busy: AtomicBool,
    now_busy: tokio::sync::Notify,
    /// The helper, above all processes of the sandbox.
    helper: u32,
    grouped: bool,
    /// The counter as last read, and what it was taken to mean.
    last_peak: AtomicU64,
    used: AtomicU64,
    out_of_memory: AtomicBool,
}

impl Memory {
    pub(crate) fn new(helper: u32, grouped: bool) -> Arc<Self> {
        Arc::new(Self {
            limits: OnceLock::new(),
            busy: AtomicBool::new(true),
            now_busy: tokio::sync::Notify::new(),
            helper,
            grouped,
            last_peak: AtomicU64::new(0),
            used: AtomicU64::new(0),
            out_of_memory: AtomicBool::new(false),
        })
    }

    /// Sets the limits, once; from now on they are kept.
    pub(crate) fn limit(&self, limits: Limits) {
        let _ = self.limits.set(limits);
        self.now_busy.notify_one();
    }

    /// What the function may use, in bytes.
    fn limit_bytes(&self) -> u64 {
        self.limits.get().map_or(u64::MAX, |limits| u64::from(limits.memory_mb) << 20)
    }

    /// Says whether the function has something to do: then it is watched closely.
    pub(crate) fn set_busy(&self, busy: bool) {
        if !self.busy.swap(busy, Ordering::Relaxed) && busy {
            self.now_busy.notify_one();
        }
    }

    /// The most that was used so far, in bytes; files do not count, as far as they are still there.
    pub(crate) fn peak_bytes(&self, group: Option<&Cgroup>) -> u64 {
        match group {
            Some(group) => {
                let peak = group.peak_bytes();
                // The counter moves rarely once a function is warm, and then there is nothing to work out.
                if self.last_peak.swap(peak, Ordering::Relaxed) != peak {
                    let used = peak.saturating_sub(group.file_bytes()).min(self.limit_bytes());
                    self.used.fetch_max(used, Ordering::Relaxed);
                }
            }
            None => {
                self.look();
            }
        }
        self.used.load(Ordering::Relaxed)
    }

    /// True if it was over its limit and was killed for it.
    pub(crate) fn out_of_memory(&self, group: Option<&Cgroup>) -> bool {
        let out = self.out_of_memory.load(Ordering::Relaxed) || group.is_some_and(Cgroup::out_of_memory);
        if out {
            self.used.store(self.limit_bytes(), Ordering::Relaxed);
        }
        out
    }

    /// Returns once the sandbox is over its limit.
    pub(crate) async fn over_limit(&self, group: &Group) {
        loop {
            let Some(limits) = self.limits.get() else {
                self.now_busy.notified().await;
                continue;
            };
            let pause = match (self.grouped, self.busy.load(Ordering::Relaxed)) {
                (false, _) => LOOK_AT_PROCESSES_EVERY,
                (true, true) => WATCH_EVERY,
                (true, false) => WATCH_IDLE_EVERY,
            };
            let _ = tokio::time::timeout(pause, self.now_busy.notified()).await;
            let over = match &*group.lock().unwrap_or_else(PoisonError::into_inner) {
                Some(group) => group.uses_more_than(limits.memory_bytes()),
                None => self.look() > self.limit_bytes(),
            };
            if over {
                self.out_of_memory.store(true, Ordering::Relaxed);
                return;
            }
        }
    }

    /// The resident size of everything below the helper, in bytes.
    fn look(&self) -> u64 {
        let used = resident_below(self.helper, 0);
        self.used.fetch_max(used.min(self.limit_bytes()), Ordering::Relaxed);
        used
    }
}

fn resident_below(pid: u32, depth: u32) -> u64 {
    // Deeper than any honest tree; a fork chain can not make this recurse without end.
    if depth > 64 {
        return 0;
    }
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    children
        .split_whitespace()
        .filter_map(|child| child.parse().ok())
        .map(|child| resident(child) + resident_below(child, depth + 1))
        .sum()
}

/// Memory of a process that is not backed by files, in bytes.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status
        .lines()
        .filter_map(|line| line.strip_prefix("RssAnon:").or_else(|| line.strip_prefix("RssShmem:")))
        .filter_map(|value| value.trim().strip_suffix(" kB")?.parse::<u64>().ok())
        .sum::<u64>()
        * 1024
}
