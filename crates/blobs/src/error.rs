//! What can go wrong with blobs.

use types::ErrorKind;

/// A failure of the blob store.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No blob has that id.
    #[error("blob {0} does not exist")]
    NotFound(crate::BlobId),
    /// The range is not within the blob.
    #[error("bytes {start}..{end} are outside a blob of {size} bytes")]
    Range {
        /// Asked for, from.
        start: u64,
        /// Asked for, to (excluded).
        end: u64,
        /// What there is.
        size: u64,
    },
    /// What is on disk is not what was written.
    #[error("blob {id} is damaged at byte {at}")]
    Corrupt {
        /// The blob.
        id: crate::BlobId,
        /// Where the damaged block begins.
        at: u64,
    },
    /// The disk is full.
    #[error("the disk under the data directory is full; free some space and try again")]
    DiskFull,
    /// The disk failed.
    #[error("the blob store failed: {0}")]
    Io(#[from] std::io::Error),
    /// The bucket that blobs are kept in can not be reached, or has trouble.
    #[error("the blobs' bucket does not answer as it should: {0}")]
    Unreachable(String),
    /// The bucket that blobs are kept in refuses the request.
    #[error("the blobs' bucket refuses: {0}")]
    Refused(String),
    /// The stream given to `put` failed: the error of whoever made it, passed through.
    #[error("the body failed: {0}")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Error {
    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound(_) => ErrorKind::NotFound,
            Self::Range { .. } | Self::Body(_) => ErrorKind::Invalid,
            Self::DiskFull | Self::Unreachable(_) => ErrorKind::Unavailable,
            Self::Corrupt { .. } | Self::Refused(_) | Self::Io(_) => ErrorKind::Internal,
        }
    }
}
