//! What can go wrong, and how it looks on the wire.

use types::ErrorKind;

/// Why one action of a transaction kept it from being carried out.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct CancellationReason {
    pub(crate) code: &'static str,
    pub(crate) message: Option<String>,
    /// The item as it is, if the caller asked for it.
    pub(crate) item: Option<serde_json::Value>,
}

impl CancellationReason {
    /// Nothing was wrong with this action.
    pub(crate) const NONE: Self = Self { code: "None", message: None, item: None };
}

/// A failure of a DynamoDB operation.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The input breaks a rule; the message says which.
    #[error("{0}")]
    Validation(String),
    /// The body is not the JSON that the operation takes.
    #[error("{0}")]
    Serialization(String),
    /// The operation does not exist, or is not offered here.
    #[error("{0}")]
    UnknownOperation(String),
    /// There is no such table.
    #[error("{0}")]
    ResourceNotFound(String),
    /// There is such a table already.
    #[error("{0}")]
    ResourceInUse(String),
    /// A limit of how much there may be, or be done at once, is reached.
    #[error("{0}")]
    LimitExceeded(String),
    /// More is read or written than is provisioned.
    #[error("{message}")]
    ProvisionedThroughputExceeded {
        /// Whose throughput, in words.
        message: String,
        /// What is too much: `TableReadProvisionedThroughputExceeded`.
        reason: String,
        /// The ARN of the table or the index.
        resource: String,
    },
    /// There is no such backup.
    #[error("{0}")]
    BackupNotFound(String),
    /// The backup is being restored.
    #[error("{0}")]
    BackupInUse(String),
    /// There is a table of the name of the one to restore.
    #[error("{0}")]
    TableAlreadyExists(String),
    /// An operation on backups names a table that does not exist.
    #[error("{0}")]
    TableNotFound(String),
    /// The table can not be recovered to a point in time.
    #[error("Point in time recovery is not enabled for table '{0}'")]
    RecoveryUnavailable(String),
    /// That is not a time to which the table can be recovered.
    #[error("{0}")]
    InvalidRestoreTime(String),
    /// There is no such export.
    #[error("{0}")]
    ExportNotFound(String),
    /// The token of an export was used with other parameters.
    #[error("{0}")]
    ExportConflict(String),
    /// That is not a time as of which the table can be exported.
    #[error("{0}")]
    InvalidExportTime(String),
    /// There is no such import.
    #[error("{0}")]
    ImportNotFound(String),
    /// The token of an import was used with other parameters.
    #[error("{0}")]
    ImportConflict(String),
    /// An INSERT is for an item that is there.
    #[error("Duplicate primary key exists in table")]
    DuplicateItem,
    /// The iterator was handed out too long ago.
    #[error("{0}")]
    ExpiredIterator(String),
    /// The records at the iterator have been trimmed.
    #[error("{0}")]
    TrimmedData(String),
    /// An item collection would have more than it may.
    #[error("Collection size exceeded.")]
    CollectionTooLarge,
    /// There is no such policy of a table or a stream, or another revision of it.
    #[error("{0}")]
    PolicyNotFound(String),
    /// The table is in another account, where its policy may let the caller use it.
    #[error(
        "Tables of another account can not be reached by this operation, or not beside those of others: account {0}"
    )]
    Foreign(types::AccountId),
    /// Who decides on rights could not.
    #[error("{0}")]
    Elsewhere(Box<aws::Error>),
    /// The table is in another region.
    #[error("{0}")]
    AccessDenied(String),
    /// The condition did not hold; nothing was changed.
    #[error("The conditional request failed")]
    ConditionalCheckFailed {
        /// The item as it is, if the caller asked for it.
        item: Option<serde_json::Value>,
    },
    /// The transaction was not carried out.
    #[error("Transaction cancelled, please refer cancellation reasons for specific reasons [{}]", codes(.0))]
    TransactionCanceled(#[doc(hidden)] Canceled),
    /// The token of a transaction was used with other parameters.
    #[error("IdempotentParameterMismatchException")]
    IdempotentParameterMismatch,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// Reasons, one for each action of a transaction.
#[derive(Debug, Clone)]
pub struct Canceled(pub(crate) Vec<CancellationReason>);

fn codes(canceled: &Canceled) -> String {
    let codes: Vec<_> = canceled.0.iter().map(|reason| reason.code).collect();
    codes.join(", ")
}

impl Error {
    pub(crate) fn validation(message: impl Into<String>) -> Self {
        Self::Validation(message.into())
    }

    /// A rule about one parameter is broken, in the words with which DynamoDB begins most such messages.
    pub(crate) fn invalid_parameter(message: impl std::fmt::Display) -> Self {
        Self::Validation(format!("One or more parameter values were invalid: {message}"))
    }

    /// An operation on items names a table that does not exist.
    pub(crate) fn table_not_found() -> Self {
        Self::ResourceNotFound("Requested resource not found".into())
    }

    /// An operation on tables names one that does not exist.
    pub(crate) fn table_not_found_named(name: &str) -> Self {
        Self::ResourceNotFound(format!("Requested resource not found: Table: {name} not found"))
    }

    /// What is wrong with an input, in the words of operations that say so.
    pub(crate) fn of_input(self) -> Self {
        match self {
            Self::Validation(message)
                if !message.contains("validation error") && !message.starts_with("Item size") =>
            {
                Self::Validation(format!("1 validation error detected: {message}"))
            }
            other => other,
        }
    }

    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Validation(_) | Self::Serialization(_) | Self::IdempotentParameterMismatch => {
                ErrorKind::Invalid
            }
            Self::UnknownOperation(_) => ErrorKind::Unsupported,
            Self::ResourceNotFound(_)
            | Self::BackupNotFound(_)
            | Self::TableNotFound(_)
            | Self::ExportNotFound(_)
            | Self::ImportNotFound(_)
            | Self::PolicyNotFound(_)
            | Self::RecoveryUnavailable(_) => ErrorKind::NotFound,
            Self::InvalidRestoreTime(_) | Self::InvalidExportTime(_) => ErrorKind::Invalid,
            Self::ExportConflict(_) | Self::ImportConflict(_) => ErrorKind::Conflict,
            Self::BackupInUse(_) | Self::TableAlreadyExists(_) => ErrorKind::Conflict,
            Self::ResourceInUse(_) | Self::DuplicateItem => ErrorKind::Conflict,
            Self::LimitExceeded(_) | Self::ProvisionedThroughputExceeded { .. } => ErrorKind::Throttled,
            Self::ExpiredIterator(_) | Self::TrimmedData(_) => ErrorKind::Invalid,
            Self::CollectionTooLarge => ErrorKind::TooLarge,
            Self::AccessDenied(_) | Self::Foreign(_) => ErrorKind::Denied,
            Self::Elsewhere(error) => error.kind,
            Self::ConditionalCheckFailed { .. } | Self::TransactionCanceled(_) => {
                ErrorKind::PreconditionFailed
            }
            Self::Store(error) => error.kind(),
        }
    }

    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Validation(_) => "ValidationException",
            Self::Serialization(_) => "SerializationException",
            Self::UnknownOperation(_) => "UnknownOperationException",
            Self::ResourceNotFound(_) => "ResourceNotFoundException",
            Self::ResourceInUse(_) => "ResourceInUseException",
            Self::LimitExceeded(_) => "LimitExceededException",
            Self::ProvisionedThroughputExceeded { .. } => "ProvisionedThroughputExceededException",
            Self::BackupNotFound(_) => "BackupNotFoundException",
            Self::BackupInUse(_) => "BackupInUseException",
            Self::TableAlreadyExists(_) => "TableAlreadyExistsException",
            Self::TableNotFound(_) => "TableNotFoundException",
            Self::RecoveryUnavailable(_) => "PointInTimeRecoveryUnavailableException",
            Self::InvalidRestoreTime(_) => "InvalidRestoreTimeException",
            Self::ExportNotFound(_) => "ExportNotFoundException",
            Self::ExportConflict(_) => "ExportConflictException",
            Self::InvalidExportTime(_) => "InvalidExportTimeException",
            Self::ImportNotFound(_) => "ImportNotFoundException",
            Self::ImportConflict(_) => "ImportConflictException",
            Self::DuplicateItem => "DuplicateItemException",
            Self::ExpiredIterator(_) => "ExpiredIteratorException",
            Self::TrimmedData(_) => "TrimmedDataAccessException",
            Self::CollectionTooLarge => "ItemCollectionSizeLimitExceededException",
            Self::PolicyNotFound(_) => "PolicyNotFoundException",
            Self::AccessDenied(_) | Self::Foreign(_) => "AccessDeniedException",
            Self::Elsewhere(_) => "InternalServerError",
            Self::ConditionalCheckFailed { .. } => "ConditionalCheckFailedException",
            Self::TransactionCanceled(_) => "TransactionCanceledException",
            Self::IdempotentParameterMismatch => "IdempotentParameterMismatchException",
            Self::Store(error) => match error.kind() {
                ErrorKind::Unavailable => "ServiceUnavailable",
                // Items with all of their entries in indexes, and what streams and backups keep.
                ErrorKind::TooLarge => "ValidationException",
                _ => "InternalServerError",
            },
        }
    }
}

impl From<Error> for aws::Error {
    fn from(error: Error) -> Self {
        if let Error::Elsewhere(error) = error {
            return *error;
        }
        let (kind, code) = (error.kind(), error.code());
        let wire = match &error {
            Error::Store(detail) if kind == ErrorKind::Internal => {
                tracing::error!(%detail, "the store failed");
                Self::new(kind, code, "The request could not be processed; see the node's log")
            }
            Error::Store(detail) if kind == ErrorKind::TooLarge => Self::new(
                kind,
                code,
                format!("The request is too large with all that follows from it: {detail}"),
            )
            .with_status(400),
            Error::Store(detail) => Self::new(kind, code, detail.to_string()),
            other => Self::new(kind, code, other.to_string()).with_status(400),
        };
        match error {
            Error::ConditionalCheckFailed { item: Some(item) } => wire.with_field("Item", item),
            Error::TransactionCanceled(Canceled(reasons)) => {
                let reasons: Vec<_> = reasons.into_iter().map(reason_json).collect();
                // This error alone spells its message with a capital letter.
                let mut wire = wire.with_field("CancellationReasons", reasons);
                wire.capital_message = true;
                wire
            }
            Error::ProvisionedThroughputExceeded { reason, resource, .. } => {
                let reason = serde_json::json!({"reason": reason, "resource": resource});
                wire.with_field("ThrottlingReasons", vec![reason])
            }
            Error::Serialization(_) => {
                let mut wire = wire;
                wire.capital_message = true;
                wire
            }
            _ => wire,
        }
    }
}

fn reason_json(reason: CancellationReason) -> serde_json::Value {
    let mut json = serde_json::Map::new();
    json.insert("Code".into(), reason.code.into());
    if let Some(message) = reason.message {
        json.insert("Message".into(), message.into());
    }
    if let Some(item) = reason.item {
        json.insert("Item".into(), item);
    }
    json.into()
}
