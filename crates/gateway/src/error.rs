//! What can go wrong while the node is wired.

use types::ErrorKind;

/// A mistake in the wiring.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Two services answer to one signing name.
    #[error("a service with the signing name `{0}` is registered already")]
    Registered(&'static str),
}

impl Error {
    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Registered(_) => ErrorKind::Conflict,
        }
    }
}
