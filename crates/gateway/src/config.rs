//! What can be set.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Limits of the listener, and the names it answers to. The defaults work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Connections from the network at once; more wait in the kernel's backlog.
    pub max_connections: usize,
    /// Connections at once from the instances of one function; more are closed.
    pub max_connections_per_function: usize,
    /// The size of a request's line and headers.
    pub max_header_bytes: usize,
    /// Memory for the bodies of requests that services read whole (all but S3's); more wait.
    pub max_held_body_bytes: usize,
    /// How long a request's headers may take to arrive.
    pub header_timeout_seconds: u64,
    /// How long a connection may be idle between requests.
    pub keep_alive_seconds: u64,
    /// How long a body may stall, and an answer that its client does not read.
    pub stall_timeout_seconds: u64,
    /// Answers that go on (live events) at once; more are refused.
    pub max_live: usize,
    /// The same for one account.
    pub max_live_per_account: usize,
    /// How often the client of such an answer is told that it is still there.
    pub live_heartbeat_seconds: u64,
    /// How often the rights of the caller of such an answer are looked at again.
    pub live_check_seconds: u64,
    /// How long running requests may take to finish once the node is asked to stop.
    pub shutdown_seconds: u64,
    /// Names under which `<bucket>.<name>` is a bucket; `<bucket>.s3.<anything>` always is.
    pub domains: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_connections: 8192,
            max_connections_per_function: 256,
            max_header_bytes: 64 * 1024,
            max_held_body_bytes: 256 * 1024 * 1024,
            header_timeout_seconds: 10,
            keep_alive_seconds: 75,
            stall_timeout_seconds: 30,
            max_live: 4096,
            max_live_per_account: 2048,
            live_heartbeat_seconds: 15,
            live_check_seconds: 30,
            shutdown_seconds: 30,
            domains: vec!["localhost".to_owned()],
        }
    }
}

impl Config {
    pub(crate) fn header_timeout(&self) -> Duration {
        Duration::from_secs(self.header_timeout_seconds)
    }

    pub(crate) fn keep_alive(&self) -> Duration {
        Duration::from_secs(self.keep_alive_seconds)
    }

    pub(crate) fn stall_timeout(&self) -> Duration {
        Duration::from_secs(self.stall_timeout_seconds)
    }

    pub(crate) fn live_heartbeat(&self) -> Duration {
        Duration::from_secs(self.live_heartbeat_seconds.max(1))
    }

    pub(crate) fn live_check(&self) -> Duration {
        Duration::from_secs(self.live_check_seconds.max(1))
    }

    pub(crate) fn shutdown(&self) -> Duration {
        Duration::from_secs(self.shutdown_seconds)
    }
}
