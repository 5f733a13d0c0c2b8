//! What can be set for functions on a node.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::registry::{self, RegistryHost};

/// Limits and times of the invoke path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Most invocations of one account that run at the same time.
    pub account_concurrency: u32,
    /// How much of that reservations must leave to functions without one.
    pub unreserved_concurrency: u32,
    /// Sum of the configured memory of all instances on this node; by default the machine's memory.
    pub memory_mb: Option<u64>,
    /// Most instances that get ready at the same time; by default four for each core.
    pub starts: Option<usize>,
    /// How long a request waits for an instance before it is answered with 429.
    pub queue_timeout_ms: u64,
    /// Most requests of one function that wait.
    pub queue_length: usize,
    /// How long an idle instance is kept of a function that little is known of.
    pub keep_alive_ms: u64,
    /// How long an idle instance is kept at least; between this and the most, as long as the function's pauses
    /// usually are.
    pub least_keep_alive_ms: u64,
    /// How long an idle instance is kept at most.
    pub most_keep_alive_ms: u64,
    /// Idle instances are given up while the machine has less memory available than this.
    pub memory_reserve_mb: u64,
    /// Most instances of one function that are made in 10 s.
    pub scaling_per_10_s: u32,
    /// How many times a function may be in the chain of causes of its own invocation.
    pub recursion_limit: u32,
    /// How long another function's starved request waits before a busy function must give an instance up.
    pub fairness_ms: u64,
    /// How long running invocations have to end when the node shuts down.
    pub drain_ms: u64,
    /// The registries that container images may be taken from; none by default.
    pub registries: Vec<RegistryHost>,
    /// A file of Docker's form (`config.json`) with credentials for them.
    pub registry_credentials: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            account_concurrency: 1000,
            unreserved_concurrency: 100,
            memory_mb: None,
            starts: None,
            queue_timeout_ms: 10_000,
            queue_length: 10_000,
            keep_alive_ms: 300_000,
            least_keep_alive_ms: 60_000,
            most_keep_alive_ms: 1_800_000,
            memory_reserve_mb: 256,
            scaling_per_10_s: 1_000,
            recursion_limit: 16,
            fairness_ms: 1_000,
            drain_ms: 20_000,
            registries: Vec::new(),
            registry_credentials: None,
        }
    }
}

impl Config {
    /// Sees that what is named is there. The error says what is wrong.
    pub fn check(&self) -> Result<(), String> {
        let Some(path) = &self.registry_credentials else { return Ok(()) };
        registry::check_credentials(path).map_err(|why| {
            format!("the credentials for registries in `{}` can not be used: {why}", path.display())
        })
    }

    /// The memory budget, in MB.
    pub(crate) fn memory_budget_mb(&self) -> u64 {
        self.memory_mb.or_else(machine_memory_mb).unwrap_or(4096)
    }

    /// The most concurrent starts.
    pub(crate) fn concurrent_starts(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        self.starts.unwrap_or_else(|| 4 * cores()).max(1)
    }
}

fn machine_memory_mb() -> Option<u64> {
    meminfo_mb("MemTotal:")
}

/// What the machine could still use without swapping.
pub(crate) fn available_memory_mb() -> Option<u64> {
    meminfo_mb("MemAvailable:")
}

/// A line of proc(5) `meminfo`.
fn meminfo_mb(name: &str) -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024)
}
