//! How a node is configured. Every setting has a default that works.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use types::{AccountId, Region};

/// Whether functions are walled in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// Namespaces, control groups and a seccomp filter; a host that can not do it is refused.
    #[default]
    Auto,
    /// None: functions run as ordinary processes of the node's user. For hosts that can do nothing else, and
    /// functions that are trusted like the node itself.
    None,
}

/// Keys of a root user.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RootKey {
    /// The access key's id, 16 to 128 word characters.
    pub access_key_id: String,
    /// The secret.
    pub secret_access_key: String,
}

// The secret stays out of logs.
impl std::fmt::Debug for RootKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RootKey").field("access_key_id", &self.access_key_id).finish_non_exhaustive()
    }
}

/// A node's settings.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Address and port to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The data directory; made if it does not exist.
    pub data: PathBuf,
    /// Where what can be made again is kept (unpacked code, the SDK for functions); `<data>/cache` if not
    /// given. Nodes may share one.
    pub cache: Option<PathBuf>,
    /// The region this node is.
    pub region: Region,
    /// The account of the root key.
    pub account_id: AccountId,
    /// The root key; made at first start, and written to `<data>/credentials`, if not given.
    pub root_key: Option<RootKey>,
    /// See [`Isolation`].
    pub isolation: Isolation,
    /// Whether a function whose Python or Node version is not on this host may run on a near one that is.
    pub substitute_runtimes: bool,
    /// How long an idle instance is kept, in milliseconds.
    pub keep_alive_ms: u64,
    /// The pause before an asynchronous invocation's first retry, in milliseconds; the second waits twice as
    /// long.
    pub retry_base_ms: u64,
    /// Memory for cached blocks of the store, in bytes.
    pub store_cache_bytes: u64,
    /// How long a stopping node waits for what runs, in milliseconds.
    pub shutdown_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 4566)),
            data: PathBuf::from(".hawker"),
            cache: None,
            region: Region::default(),
            account_id: AccountId::DEFAULT,
            root_key: None,
            isolation: Isolation::Auto,
            substitute_runtimes: false,
            keep_alive_ms: 300_000,
            retry_base_ms: 60_000,
            store_cache_bytes: 16 << 20,
            shutdown_ms: 30_000,
        }
    }
}

impl Config {
    /// Where the cache is.
    pub fn cache_dir(&self) -> PathBuf {
        self.cache.clone().unwrap_or_else(|| self.data.join("cache"))
    }

    /// The pause before a first retry.
    pub fn retry_base(&self) -> Duration {
        Duration::from_millis(self.retry_base_ms)
    }
}
