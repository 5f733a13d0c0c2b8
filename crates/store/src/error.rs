//! What can go wrong in the store.

use types::ErrorKind;

/// A failure of the store. Whatever failed was not acknowledged and is not half there.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The disk is full: reads go on, writes are refused until there is room.
    #[error("the disk under the data directory is full; free some space and try again")]
    DiskFull,
    /// The engine or its disk failed.
    #[error("the store failed: {0}")]
    Io(String),
    /// A stored row can not be read: a damaged file, or a newer format.
    #[error("a row of table `{table}` can not be read: {reason}")]
    Corrupt {
        /// The table's name.
        table: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The data directory was written by a newer binary.
    #[error(
        "the data directory has format {found}, and this hawker reads up to {supported}; use a newer hawker"
    )]
    NewerFormat {
        /// The directory's format.
        found: u32,
        /// The newest this binary reads.
        supported: u32,
    },
    /// Another process has the data directory open.
    #[error("the data directory `{0}` is in use by another process")]
    Locked(String),
    /// A commit is larger than the store takes; nothing was done.
    #[error("{found} {what} are too many: at most {limit}")]
    TooLarge {
        /// What was counted.
        what: &'static str,
        /// How much of it there was.
        found: usize,
        /// How much may be.
        limit: usize,
    },
    /// A transaction's decision panicked or made no sense: a bug in what decided. Nothing was done.
    #[error("a transaction failed: {0}")]
    Decision(String),
    /// Too much work is waiting; nothing was done.
    #[error("the store is overloaded; try again")]
    Overloaded,
    /// The store is shutting down; nothing was done.
    #[error("the store is closed")]
    Closed,
}

impl Error {
    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::DiskFull | Self::Overloaded | Self::Closed => ErrorKind::Unavailable,
            Self::TooLarge { .. } => ErrorKind::TooLarge,
            Self::Io(_)
            | Self::Corrupt { .. }
            | Self::NewerFormat { .. }
            | Self::Locked(_)
            | Self::Decision(_) => ErrorKind::Internal,
        }
    }
}
