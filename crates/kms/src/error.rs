//! What can go wrong, and how KMS says it (AWS KMS API reference, the errors of each action).

use types::ErrorKind;

/// A failure of an operation of KMS.
#[derive(Debug, Clone, thiserror::Error)]
#[allow(missing_docs, reason = "each is named by the service's own code and says itself")]
pub enum Error {
    #[error("{0}")]
    NotFound(String),
    #[error("{0} is disabled.")]
    Disabled(String),
    #[error("{0}")]
    InvalidState(String),
    /// KMS says nothing more, so that nobody learns why.
    #[error("")]
    InvalidCiphertext,
    #[error("The key ID in the request does not identify a CMK that can perform this operation.")]
    IncorrectKey,
    #[error("{0}")]
    AlreadyExists(String),
    #[error("{0}")]
    InvalidAliasName(String),
    #[error("{0}")]
    InvalidArn(String),
    #[error("{0}")]
    MalformedPolicy(String),
    #[error("{0}")]
    Tag(String),
    #[error("{0}")]
    Unsupported(String),
    #[error("{0}")]
    Validation(String),
    #[error("{0}")]
    LimitExceeded(String),
    #[error("The marker is not one that an answer to this operation had.")]
    InvalidMarker,
    #[error("{0}")]
    NotAuthorized(String),
    #[error("The request would have succeeded, but the DryRun option is set.")]
    DryRun,
    /// An answer of the one who decides on rights.
    #[error("{0}")]
    Denied(aws::Error),
    #[error(transparent)]
    Store(#[from] store::Error),
    /// What is stored does not open with the node's key.
    #[error("the stored key {0} does not open with the node's key")]
    Damaged(String),
}

impl Error {
    pub(crate) fn validation(message: impl Into<String>) -> Self {
        Self::Validation(message.into())
    }

    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound(_) => ErrorKind::NotFound,
            Self::Disabled(_) | Self::InvalidState(_) | Self::AlreadyExists(_) | Self::LimitExceeded(_) => {
                ErrorKind::Conflict
            }
            Self::InvalidCiphertext
            | Self::IncorrectKey
            | Self::InvalidAliasName(_)
            | Self::InvalidArn(_)
            | Self::MalformedPolicy(_)
            | Self::Tag(_)
            | Self::Validation(_)
            | Self::InvalidMarker => ErrorKind::Invalid,
            Self::Unsupported(_) => ErrorKind::Unsupported,
            Self::NotAuthorized(_) => ErrorKind::Denied,
            Self::DryRun => ErrorKind::PreconditionFailed,
            Self::Denied(error) => error.kind,
            Self::Store(error) => error.kind(),
            Self::Damaged(_) => ErrorKind::Internal,
        }
    }
}

impl From<Error> for aws::Error {
    fn from(error: Error) -> Self {
        let code = match &error {
            Error::NotFound(_) => "NotFoundException",
            Error::Disabled(_) => "DisabledException",
            Error::InvalidState(_) => "KMSInvalidStateException",
            Error::InvalidCiphertext => "InvalidCiphertextException",
            Error::IncorrectKey => "IncorrectKeyException",
            Error::AlreadyExists(_) => "AlreadyExistsException",
            Error::InvalidAliasName(_) => "InvalidAliasNameException",
            Error::InvalidArn(_) => "InvalidArnException",
            Error::MalformedPolicy(_) => "MalformedPolicyDocumentException",
            Error::Tag(_) => "TagException",
            Error::Unsupported(_) => "UnsupportedOperationException",
            Error::Validation(_) => "ValidationException",
            Error::LimitExceeded(_) => "LimitExceededException",
            Error::InvalidMarker => "InvalidMarkerException",
            Error::NotAuthorized(_) => "NotAuthorizedException",
            Error::DryRun => "DryRunOperationException",
            Error::Denied(inner) => return inner.clone(),
            Error::Store(inner) if inner.kind() != ErrorKind::Internal => {
                let message = "The system timed out while trying to fulfill the request. You can retry it.";
                return Self::new(inner.kind(), "DependencyTimeoutException", message).with_status(503);
            }
            Error::Store(_) | Error::Damaged(_) => {
                tracing::error!(%error, "internal error");
                let message =
                    "The request was rejected because an internal exception occurred. You can retry it.";
                return Self::new(ErrorKind::Internal, "KMSInternalException", message);
            }
        };
        // KMS answers all of these with 400, whatever its model says.
        Self::new(error.kind(), code, error.to_string()).with_status(400)
    }
}
