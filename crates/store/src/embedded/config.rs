//! What can be set about the embedded engine.

use std::path::PathBuf;

/// Settings of the embedded engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FjallConfig {
    /// Where it keeps its files; made if it is not there. One process at a time.
    pub dir: PathBuf,
    /// Memory for blocks read from disk, in bytes.
    pub cache_bytes: u64,
    /// Memory for rows not yet in a table file, in bytes, before they are written to one. Up to three times
    /// this is used under load; an idle node writes them out. More makes fewer and larger files.
    pub memtable_bytes: u64,
    /// Free disk space, in bytes, below which commits are refused as [`crate::Error::DiskFull`], so that
    /// what was accepted can still be moved from the journal to table files. Commits that remove rows may
    /// use half of it: they are the way out.
    pub reserve_bytes: u64,
    /// Most commits that wait; one more is refused as [`crate::Error::Overloaded`].
    pub queue_len: usize,
}

impl FjallConfig {
    /// The defaults: a node under load, with 1 KiB rows, takes about 70 MiB for all of this. With memtables of
    /// 8 MiB moving rows to table files took a quarter to a third more of the cores, with 32 MiB little less.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            cache_bytes: 8 << 20,
            memtable_bytes: 16 << 20,
            reserve_bytes: 128 << 20,
            queue_len: 4096,
        }
    }
}
