//! How a node is configured: what concerns the node as a whole, and each part's own settings. Every setting
//! has a default that works.

use std::net::SocketAddr;
use std::path::PathBuf;

use blobs::BucketAddress;
use identity::KeyPair;
use serde::Deserialize;
use store::FjallConfig;
use types::{AccountId, Region};

/// A node's settings, as they stand in a configuration file.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Address and port to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The data directory; made if it does not exist.
    pub data: PathBuf,
    /// A bucket of any S3 to keep blobs in, instead of files in the data directory.
    pub blobs: Option<BucketAddress>,
    /// Where what can be made again is kept (unpacked code, the SDK for functions); `<data>/cache` if not
    /// given. Nodes may share one.
    pub cache: Option<PathBuf>,
    /// The region that this node is.
    pub region: Region,
    /// The account of the root key.
    pub account_id: AccountId,
    /// The root key; made at the first start, and written to `<data>/credentials`, if not given.
    pub root_key: Option<KeyPair>,
    /// Memory for cached blocks of the store, in bytes.
    pub store_cache_bytes: u64,
    /// Logs, usage and traces.
    pub telemetry: telemetry::Config,
    /// Where and how functions run.
    pub runtime: runtime::Config,
    /// The invoke path.
    pub functions: functions::Config,
    /// Deliveries of events.
    pub events: events::Config,
    /// Objects.
    pub s3: s3::Config,
    /// The listener.
    pub gateway: gateway::Config,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 4566)),
            data: PathBuf::from(".hawker"),
            blobs: None,
            cache: None,
            region: Region::default(),
            account_id: AccountId::DEFAULT,
            root_key: None,
            store_cache_bytes: FjallConfig::new("").cache_bytes,
            telemetry: telemetry::Config::default(),
            runtime: runtime::Config::default(),
            functions: functions::Config::default(),
            events: events::Config::default(),
            s3: s3::Config::default(),
            gateway: gateway::Config::default(),
        }
    }
}

impl Config {
    /// Where the cache is.
    pub fn cache_dir(&self) -> PathBuf {
        self.cache.clone().unwrap_or_else(|| self.data.join("cache"))
    }
}
