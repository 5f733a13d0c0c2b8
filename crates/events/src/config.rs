//! What can be set for the delivery of events.

use serde::{Deserialize, Serialize};

/// Limits and times of delivery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Most events of one target that are on their way at the same time.
    pub lane_concurrency: usize,
    /// Most bytes of events of one target that are in memory.
    pub lane_bytes: usize,
    /// How long a target without events is remembered.
    pub lane_idle_ms: u64,
    /// How long an event waits for an instance before it counts as throttled.
    pub queue_timeout_ms: u64,
    /// How long after its first failure an event is tried again; after its second, twice as long.
    pub retry_base_ms: u64,
    /// First pause after a throttle or a fault of the platform; each next is twice as long.
    pub throttle_base_ms: u64,
    /// Longest such pause.
    pub throttle_limit_ms: u64,
    /// Longest pause before records of a source that failed are tried again.
    pub source_retry_limit_ms: u64,
    /// How long deliveries under way have to end when the node shuts down.
    pub drain_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            lane_concurrency: 100,
            lane_bytes: 16 << 20,
            lane_idle_ms: 10_000,
            queue_timeout_ms: 60_000,
            retry_base_ms: 60_000,
            throttle_base_ms: 1_000,
            throttle_limit_ms: 300_000,
            source_retry_limit_ms: 60_000,
            drain_ms: 20_000,
        }
    }
}
