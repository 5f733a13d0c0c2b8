//! Memory of a sandbox: from its control group, or, where there is none, by looking at its processes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::cgroup::Cgroup;

/// How often processes are looked at where no control group limits them.
const WATCH_EVERY: Duration = Duration::from_millis(50);

/// What a sandbox uses.
#[derive(Debug)]
pub(crate) struct Memory {
    limit_bytes: u64,
    /// The helper, above all processes of the sandbox.
    helper: u32,
    grouped: bool,
    /// The counter as last read, and what it was taken to mean.
    last_peak: AtomicU64,
    used: AtomicU64,
    out_of_memory: AtomicBool,
}

impl Memory {
    pub(crate) fn new(limit_mb: u32, helper: u32, grouped: bool) -> Arc<Self> {
        Arc::new(Self {
            limit_bytes: u64::from(limit_mb) << 20,
            helper,
            grouped,
            last_peak: AtomicU64::new(0),
            used: AtomicU64::new(0),
            out_of_memory: AtomicBool::new(false),
        })
    }

    /// The most that was used so far, in bytes; files in the page cache do not count.
    pub(crate) fn peak_bytes(&self, group: Option<&Cgroup>) -> u64 {
        match group {
            Some(group) => {
                let peak = group.peak_bytes();
                // The counter moves rarely once a function is warm, and then there is nothing to work out.
                if self.last_peak.swap(peak, Ordering::Relaxed) != peak {
                    let used = peak.saturating_sub(group.cache_bytes()).min(self.limit_bytes);
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
            self.used.store(self.limit_bytes, Ordering::Relaxed);
        }
        out
    }

    /// Returns once the sandbox is over its limit; never where a control group sees to that.
    pub(crate) async fn over_limit(&self) {
        if self.grouped {
            return std::future::pending().await;
        }
        loop {
            tokio::time::sleep(WATCH_EVERY).await;
            if self.look() > self.limit_bytes {
                self.out_of_memory.store(true, Ordering::Relaxed);
                return;
            }
        }
    }

    /// The resident size of everything below the helper, in bytes.
    fn look(&self) -> u64 {
        let used = resident_below(self.helper, 0);
        self.used.fetch_max(used.min(self.limit_bytes), Ordering::Relaxed);
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
