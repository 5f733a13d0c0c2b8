//! What can be set about the service.

use serde::{Deserialize, Serialize};

/// Settings of the S3 service; the defaults work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Objects of up to this many bytes are kept in the store, in the commit that makes them visible; larger
    /// ones become blobs.
    pub inline_limit_bytes: usize,
    /// How long a blob outlives the last row that refers to it, in milliseconds: time for a reader that has
    /// seen the row to open the blob. A blob being read is kept until the reader is done.
    pub blob_grace_ms: u64,
    /// How long after all blobs were read again, to find damage, that is done anew, in milliseconds.
    pub scrub_pause_ms: u64,
    /// How fast they are read, in bytes a second; 0: as fast as the disk is.
    pub scrub_bytes_per_second: u64,
    /// How long lines of access logs wait before they are written into an object, in milliseconds.
    pub access_log_pause_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            inline_limit_bytes: 64 << 10,
            blob_grace_ms: 10_000,
            scrub_pause_ms: 24 * 60 * 60 * 1000,
            scrub_bytes_per_second: 16 << 20,
            access_log_pause_ms: 60_000,
        }
    }
}
