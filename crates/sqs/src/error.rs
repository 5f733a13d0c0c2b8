//! What can go wrong, and how SQS says it (Amazon SQS API reference, the errors of each action).
//!
//! An error has two codes: that of the JSON protocol, and in a header that of the older Query protocol, which SDKs show
//! to their users.

use types::ErrorKind;

/// A failure of an operation of SQS.
#[derive(Debug, Clone, thiserror::Error)]
#[allow(missing_docs, reason = "each is named by the service's own code and says itself")]
pub enum Error {
    #[error("The specified queue does not exist.")]
    QueueDoesNotExist,
    #[error("The address {0} is not valid for this endpoint.")]
    InvalidAddress(String),
    #[error("A queue already exists with the same name and a different value for attribute {0}")]
    QueueNameExists(String),
    #[error("Unknown Attribute {0}.")]
    InvalidAttributeName(String),
    #[error("Invalid value for the parameter {0}.")]
    InvalidAttributeValue(String),
    #[error("{0}")]
    InvalidParameterValue(String),
    #[error("The request must contain the parameter {0}.")]
    MissingParameter(&'static str),
    #[error(
        "Invalid characters found. Valid unicode characters are #x9 | #xA | #xD | #x20 to #xD7FF | #xE000 to #xFFFD | #x10000 to #x10FFFF"
    )]
    InvalidMessageContents,
    #[error("The input receipt handle is invalid.")]
    ReceiptHandleIsInvalid,
    #[error("The specified message isn't in flight.")]
    MessageNotInflight,
    #[error("There should be at least one {0} in the request.")]
    EmptyBatchRequest(&'static str),
    #[error("Maximum number of entries per request are 10. You have sent {0}.")]
    TooManyEntries(usize),
    #[error("Id {0} repeated.")]
    BatchEntryIdsNotDistinct(String),
    #[error(
        "A batch entry id can only contain alphanumeric characters, hyphens and underscores. It can be at most 80 letters long."
    )]
    InvalidBatchEntryId,
    #[error("Batch requests cannot be longer than {limit} bytes. You have sent {found} bytes.")]
    BatchRequestTooLong { found: usize, limit: usize },
    #[error("Only one PurgeQueue operation on {0} is allowed every 60 seconds.")]
    PurgeQueueInProgress(String),
    #[error("{0}")]
    OverLimit(String),
    #[error("{0}")]
    Unsupported(String),
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error("a stored key does not have the shape of its table")]
    Key(#[from] store::key::KeyError),
}

impl Error {
    /// A value that a parameter may not have.
    pub(crate) fn value(value: impl std::fmt::Display, parameter: &str, reason: &str) -> Self {
        Self::InvalidParameterValue(format!(
            "Value {value} for parameter {parameter} is invalid. Reason: {reason}"
        ))
    }

    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::QueueDoesNotExist => ErrorKind::NotFound,
            Self::QueueNameExists(_) | Self::MessageNotInflight | Self::OverLimit(_) => ErrorKind::Conflict,
            Self::PurgeQueueInProgress(_) => ErrorKind::Conflict,
            Self::InvalidAddress(_)
            | Self::InvalidAttributeName(_)
            | Self::InvalidAttributeValue(_)
            | Self::InvalidParameterValue(_)
            | Self::MissingParameter(_)
            | Self::InvalidMessageContents
            | Self::ReceiptHandleIsInvalid
            | Self::EmptyBatchRequest(_)
            | Self::TooManyEntries(_)
            | Self::BatchEntryIdsNotDistinct(_)
            | Self::InvalidBatchEntryId
            | Self::BatchRequestTooLong { .. } => ErrorKind::Invalid,
            Self::Unsupported(_) => ErrorKind::Unsupported,
            Self::Store(error) => error.kind(),
            Self::Key(_) => ErrorKind::Internal,
        }
    }

    /// The code of the JSON protocol, and that of the Query protocol.
    pub(crate) fn codes(&self) -> (&'static str, &'static str) {
        match self {
            Self::QueueDoesNotExist => ("QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue"),
            Self::InvalidAddress(_) => ("InvalidAddress", "InvalidAddress"),
            Self::QueueNameExists(_) => ("QueueNameExists", "QueueAlreadyExists"),
            Self::InvalidAttributeName(_) => ("InvalidAttributeName", "InvalidAttributeName"),
            Self::InvalidAttributeValue(_) => ("InvalidAttributeValue", "InvalidAttributeValue"),
            Self::InvalidParameterValue(_) => ("InvalidParameterValueException", "InvalidParameterValue"),
            Self::MissingParameter(_) => ("MissingRequiredParameterException", "MissingParameter"),
            Self::InvalidMessageContents => ("InvalidMessageContents", "InvalidMessageContents"),
            Self::ReceiptHandleIsInvalid => ("ReceiptHandleIsInvalid", "ReceiptHandleIsInvalid"),
            Self::MessageNotInflight => ("MessageNotInflight", "AWS.SimpleQueueService.MessageNotInflight"),
            Self::EmptyBatchRequest(_) => ("EmptyBatchRequest", "AWS.SimpleQueueService.EmptyBatchRequest"),
            Self::TooManyEntries(_) => {
                ("TooManyEntriesInBatchRequest", "AWS.SimpleQueueService.TooManyEntriesInBatchRequest")
            }
            Self::BatchEntryIdsNotDistinct(_) => {
                ("BatchEntryIdsNotDistinct", "AWS.SimpleQueueService.BatchEntryIdsNotDistinct")
            }
            Self::InvalidBatchEntryId => {
                ("InvalidBatchEntryId", "AWS.SimpleQueueService.InvalidBatchEntryId")
            }
            Self::BatchRequestTooLong { .. } => {
                ("BatchRequestTooLong", "AWS.SimpleQueueService.BatchRequestTooLong")
            }
            Self::PurgeQueueInProgress(_) => {
                ("PurgeQueueInProgress", "AWS.SimpleQueueService.PurgeQueueInProgress")
            }
            Self::OverLimit(_) => ("OverLimit", "OverLimit"),
            Self::Unsupported(_) => ("UnsupportedOperation", "AWS.SimpleQueueService.UnsupportedOperation"),
            Self::Store(_) | Self::Key(_) => ("InternalFailure", "InternalFailure"),
        }
    }
}

impl From<Error> for aws::Error {
    fn from(error: Error) -> Self {
        let (code, query) = error.codes();
        match &error {
            Error::Store(inner) if inner.kind() == ErrorKind::TooLarge => Self::internal(inner),
            Error::Store(inner) if inner.kind() != ErrorKind::Internal => {
                let message = "The request could not be carried out in time; try again.";
                Self::new(inner.kind(), "ServiceUnavailable", message).with_status(503)
            }
            Error::Store(_) | Error::Key(_) => Self::internal(&error),
            known => Self::new(known.kind(), code, known.to_string())
                .with_status(400)
                .with_header("x-amzn-query-error", &format!("{query};Sender")),
        }
    }
}
