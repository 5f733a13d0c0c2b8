//! Why an image could not be taken from a registry, and how Lambda says it.

use crate::Error;

/// What is wrong with the image, or on the way to it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PullError {
    /// It may not be asked for; the message says what the operator has to set.
    #[error("{0}")]
    Refused(String),
    /// There is no such repository, tag or digest.
    #[error("Source image {0} does not exist. Provide a valid source image.")]
    Missing(String),
    /// The registry does not let the node read it.
    #[error("{0}")]
    Denied(String),
    /// It is not what it says, or nothing that can be run.
    #[error("{0}")]
    Invalid(String),
    /// The registry does not answer as it should; it may later.
    #[error("{0}")]
    Unreachable(String),
}

impl PullError {
    /// Whether it may go better at another time.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable(_) => true,
            Self::Refused(_) | Self::Missing(_) | Self::Denied(_) | Self::Invalid(_) => false,
        }
    }

    /// `StateReasonCode` and `LastUpdateStatusReasonCode`.
    pub(crate) fn reason_code(&self) -> &'static str {
        match self {
            Self::Missing(_) => "ImageDeleted",
            Self::Denied(_) | Self::Refused(_) => "ImageAccessDenied",
            Self::Invalid(_) => "InvalidImage",
            Self::Unreachable(_) => "InternalError",
        }
    }
}

impl From<PullError> for Error {
    fn from(error: PullError) -> Self {
        let message = error.to_string();
        match error {
            PullError::Refused(_) => Self::Unsupported(message),
            PullError::Missing(_) | PullError::Invalid(_) => Self::InvalidParameter(message),
            PullError::Denied(_) => Self::ImageAccess(message),
            PullError::Unreachable(_) => Self::Platform(message),
        }
    }
}
