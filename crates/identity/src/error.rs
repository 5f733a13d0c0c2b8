//! What can go wrong with identities, and how IAM and STS say it.

use types::ErrorKind;

/// A failure, with the message that the caller gets.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// The thing named does not exist.
    #[error("{0}")]
    NoSuchEntity(String),
    /// The name is taken.
    #[error("{0}")]
    EntityAlreadyExists(String),
    /// Something still hangs on the thing to be deleted.
    #[error("{0}")]
    DeleteConflict(String),
    /// A policy document that IAM would refuse.
    #[error("{0}")]
    MalformedPolicyDocument(String),
    /// A session policy that is too long.
    #[error("{0}")]
    PackedPolicyTooLarge(String),
    /// Over a documented quota.
    #[error("{0}")]
    LimitExceeded(String),
    /// A parameter breaks its constraint.
    #[error("{0}")]
    ValidationError(String),
    /// A parameter has the right shape and no good value.
    #[error("{0}")]
    InvalidInput(String),
    /// The resource can not be changed that way.
    #[error("{0}")]
    UnmodifiableEntity(String),
    /// The caller may not.
    #[error("{0}")]
    AccessDenied(String),
    /// No such operation here.
    #[error("{0}")]
    InvalidAction(String),
    /// The settings contradict what is stored; the message says what to do.
    #[error("{0}")]
    Config(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The store holds something that this code never wrote.
    #[error("stored identities are damaged: {0}")]
    Corrupt(String),
}

impl Error {
    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoSuchEntity(_) => ErrorKind::NotFound,
            Self::EntityAlreadyExists(_)
            | Self::DeleteConflict(_)
            | Self::LimitExceeded(_)
            | Self::UnmodifiableEntity(_) => ErrorKind::Conflict,
            Self::MalformedPolicyDocument(_)
            | Self::PackedPolicyTooLarge(_)
            | Self::ValidationError(_)
            | Self::InvalidInput(_)
            | Self::InvalidAction(_)
            | Self::Config(_) => ErrorKind::Invalid,
            Self::AccessDenied(_) => ErrorKind::Denied,
            Self::Store(error) => error.kind(),
            Self::Corrupt(_) => ErrorKind::Internal,
        }
    }

    fn wire(&self) -> (&'static str, u16) {
        match self {
            Self::NoSuchEntity(_) => ("NoSuchEntity", 404),
            Self::EntityAlreadyExists(_) => ("EntityAlreadyExists", 409),
            Self::DeleteConflict(_) => ("DeleteConflict", 409),
            Self::MalformedPolicyDocument(_) => ("MalformedPolicyDocument", 400),
            Self::PackedPolicyTooLarge(_) => ("PackedPolicyTooLarge", 400),
            Self::LimitExceeded(_) => ("LimitExceeded", 409),
            Self::ValidationError(_) => ("ValidationError", 400),
            Self::InvalidInput(_) => ("InvalidInput", 400),
            Self::UnmodifiableEntity(_) => ("UnmodifiableEntity", 400),
            Self::AccessDenied(_) => ("AccessDenied", 403),
            Self::InvalidAction(_) => ("InvalidAction", 400),
            Self::Config(_) | Self::Corrupt(_) => ("InternalFailure", 500),
            Self::Store(_) => ("ServiceUnavailable", 503),
        }
    }
}

impl From<Error> for aws::Error {
    fn from(error: Error) -> Self {
        match error.kind() {
            ErrorKind::Internal => aws::Error::internal(&error),
            kind => {
                let (code, status) = error.wire();
                aws::Error::new(kind, code, error.to_string()).with_status(status)
            }
        }
    }
}
