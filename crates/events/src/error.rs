//! What can go wrong while events are delivered. Nothing of it reaches a client: it is logged, and tried again.

use types::ErrorKind;

/// A failure of this crate's own work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A stored key can not be read.
    #[error(transparent)]
    Key(#[from] store::key::KeyError),
}

impl Error {
    /// What can be done about it.
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Self::Store(error) => error.kind(),
            Self::Key(_) => ErrorKind::Internal,
        }
    }
}
