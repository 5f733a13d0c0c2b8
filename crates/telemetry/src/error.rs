//! What can go wrong with telemetry, and how CloudWatch Logs says it.

use types::ErrorKind;

/// A failure, with the message that the caller gets.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// A parameter breaks its constraint.
    #[error("{0}")]
    InvalidParameter(String),
    /// The group, stream or trace does not exist.
    #[error("{0}")]
    NotFound(String),
    /// The group or stream exists already.
    #[error("{0}")]
    AlreadyExists(String),
    /// No such operation here.
    #[error("{0}")]
    UnknownOperation(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The store holds something that this code never wrote.
    #[error("stored telemetry is damaged: {0}")]
    Corrupt(&'static str),
}

impl Error {
    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::InvalidParameter(_) => ErrorKind::Invalid,
            Self::NotFound(_) => ErrorKind::NotFound,
            Self::AlreadyExists(_) => ErrorKind::Conflict,
            Self::UnknownOperation(_) => ErrorKind::Unsupported,
            Self::Store(error) => error.kind(),
            Self::Corrupt(_) => ErrorKind::Internal,
        }
    }
}

impl From<store::key::KeyError> for Error {
    fn from(_: store::key::KeyError) -> Self {
        Self::Corrupt("a key")
    }
}

impl From<Error> for aws::Error {
    fn from(error: Error) -> Self {
        let (code, status) = match &error {
            Error::InvalidParameter(_) => ("InvalidParameterException", 400),
            Error::NotFound(_) => ("ResourceNotFoundException", 400),
            Error::AlreadyExists(_) => ("ResourceAlreadyExistsException", 400),
            Error::UnknownOperation(_) => ("UnknownOperationException", 400),
            Error::Store(inner) if inner.kind() != ErrorKind::Internal => {
                ("ServiceUnavailableException", 503)
            }
            Error::Store(_) | Error::Corrupt(_) => return aws::Error::internal(&error),
        };
        aws::Error::new(error.kind(), code, error.to_string()).with_status(status)
    }
}
