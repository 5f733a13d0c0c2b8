//! What can go wrong with a function, and how Lambda says it (AWS Lambda API reference, "Common Errors" and
//! the errors of each action).

use types::ErrorKind;

/// Why a request over a limit was turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Throttle {
    /// The function's own reservation is used up.
    Reserved,
    /// The account's or the node's room is used up.
    Account,
}

impl Throttle {
    /// The value of the error's `Reason`.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Reserved => "ReservedFunctionConcurrentInvocationLimitExceeded",
            Self::Account => "ConcurrentInvocationLimitExceeded",
        }
    }
}

/// A failure of this service.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// A parameter breaks a rule; the message names it.
    #[error("{0}")]
    InvalidParameter(String),
    /// Values outside of what the service's model allows; each text names one and the constraint.
    #[error("{}", aws::document::rules(.0))]
    Validation(Vec<String>),
    /// A member or value that Lambda has and this node does not offer.
    #[error("{0}")]
    Unsupported(String),
    /// No such function, version, statement or configuration.
    #[error("{0}")]
    NotFound(String),
    /// It exists already, or is being changed.
    #[error("{0}")]
    Conflict(String),
    /// Nothing is provisioned there.
    #[error("No Provisioned Concurrency Config found for this function")]
    NotProvisioned,
    /// The function is the cause of itself, and has been for too long.
    #[error(
        "Lambda has detected your function being invoked in a recursive loop with other AWS resources and stopped your function's invocation."
    )]
    Recursion,
    /// The key of an idempotent invocation was used with another event.
    #[error("The idempotency key was used before, with another event.")]
    IdempotencyMismatch,
    /// An idempotent invocation with the same key has not ended within the time there was.
    #[error("An invocation with the same idempotency key is still running; try again.")]
    IdempotencyBusy,
    /// The caller's `RevisionId` is not the current one, which this operation tells.
    #[error(
        "The Revision Id provided does not match the latest Revision Id. Call the {0} API to retrieve the latest Revision Id"
    )]
    Revision(&'static str),
    /// A body over a limit, in bytes.
    #[error("Request must be smaller than {limit} bytes for the {operation} operation")]
    TooLarge {
        /// The limit.
        limit: usize,
        /// The operation.
        operation: &'static str,
    },
    /// The event is not JSON.
    #[error("Could not parse request body into json: {0}")]
    Content(String),
    /// The client context is not what it has to be; the message says what that is.
    #[error("Client context must be {0}.")]
    ClientContext(&'static str),
    /// The request's body is not what the service's model says.
    #[error("{0}")]
    Serialization(String),
    /// Over a limit of concurrency.
    #[error("Rate Exceeded.")]
    Throttled(Throttle),
    /// The resource policy would exceed its size.
    #[error("The final policy size ({size}) is bigger than the limit ({limit}).")]
    PolicyLength {
        /// What it would be, in bytes.
        size: usize,
        /// What it may be, in bytes.
        limit: usize,
    },
    /// The role can not be assumed when the function runs.
    #[error("The role defined for the function cannot be assumed by Lambda.")]
    RoleNotAssumable,
    /// The registry does not let the node read the image; the message says what to check.
    #[error("{0}")]
    ImageAccess(String),
    /// This host can not run the runtime.
    #[error("{0}")]
    Runtime(String),
    /// The package can not be used.
    #[error("{0}")]
    Code(String),
    /// The platform failed to run it; the request may be tried again.
    #[error("{0}")]
    Platform(String),
    /// The node is shutting down.
    #[error("The node is shutting down; try again.")]
    ShuttingDown,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// Blobs failed.
    #[error("a deployment package could not be read or written: {0}")]
    Blobs(String),
}

impl Error {
    /// One value outside of what the service's model allows.
    pub(crate) fn rule(broken: String) -> Self {
        Self::Validation(vec![broken])
    }

    /// A member that has to be there.
    pub(crate) fn missing(member: &str) -> Self {
        Self::rule(aws::document::missing(member))
    }

    /// A member that breaks a rule of the service's model: "Member must ...".
    pub(crate) fn constraint(value: impl std::fmt::Display, member: &str, rule: &str) -> Self {
        Self::rule(aws::document::constraint(value, member, rule))
    }

    /// A member that does not match the pattern of the service's model.
    pub(crate) fn pattern(value: &str, member: &str, pattern: &str) -> Self {
        Self::constraint(value, member, &format!("Member must satisfy regular expression pattern: {pattern}"))
    }

    /// A failure of the blobs.
    pub(crate) fn blobs(error: &blobs::Error) -> Self {
        Self::Blobs(error.to_string())
    }

    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::InvalidParameter(_)
            | Self::Validation(_)
            | Self::Content(_)
            | Self::ClientContext(_)
            | Self::Serialization(_)
            | Self::PolicyLength { .. }
            | Self::Recursion
            | Self::IdempotencyMismatch
            | Self::Code(_) => ErrorKind::Invalid,
            Self::Unsupported(_) | Self::Runtime(_) => ErrorKind::Unsupported,
            Self::NotFound(_) | Self::NotProvisioned => ErrorKind::NotFound,
            Self::Conflict(_) => ErrorKind::Conflict,
            Self::Revision(_) => ErrorKind::PreconditionFailed,
            Self::TooLarge { .. } => ErrorKind::TooLarge,
            Self::Throttled(_) | Self::IdempotencyBusy => ErrorKind::Throttled,
            Self::RoleNotAssumable | Self::ImageAccess(_) => ErrorKind::Denied,
            Self::Platform(_) | Self::ShuttingDown => ErrorKind::Unavailable,
            Self::Store(error) => error.kind(),
            Self::Blobs(_) => ErrorKind::Internal,
        }
    }
}

impl From<Error> for aws::Error {
    fn from(error: Error) -> Self {
        let (code, status, kind_of_fault) = match &error {
            Error::InvalidParameter(_) | Error::Unsupported(_) => {
                ("InvalidParameterValueException", 400, "User")
            }
            Error::Validation(_) => ("ValidationException", 400, "User"),
            Error::NotFound(_) => ("ResourceNotFoundException", 404, "User"),
            Error::NotProvisioned => ("ProvisionedConcurrencyConfigNotFoundException", 404, "User"),
            Error::Recursion => ("RecursiveInvocationException", 400, "User"),
            Error::IdempotencyMismatch => ("InvalidParameterValueException", 400, "User"),
            Error::IdempotencyBusy => ("TooManyRequestsException", 429, "User"),
            Error::Conflict(_) => ("ResourceConflictException", 409, "User"),
            Error::Revision(_) => ("PreconditionFailedException", 412, "User"),
            Error::TooLarge { .. } => ("RequestTooLargeException", 413, "User"),
            Error::Content(_) | Error::ClientContext(_) => ("InvalidRequestContentException", 400, "User"),
            Error::Serialization(_) => ("SerializationException", 400, "User"),
            Error::Throttled(_) => ("TooManyRequestsException", 429, "User"),
            Error::PolicyLength { .. } => ("PolicyLengthExceededException", 400, "User"),
            Error::RoleNotAssumable | Error::ImageAccess(_) => ("AccessDeniedException", 403, "User"),
            Error::Runtime(_) => ("InvalidRuntimeException", 502, "User"),
            Error::Code(_) => ("InvalidZipFileException", 502, "User"),
            Error::Platform(_) => ("ServiceException", 500, "Server"),
            Error::ShuttingDown => ("ServiceException", 503, "Server"),
            Error::Store(inner) => match inner.kind() {
                ErrorKind::Unavailable => ("ServiceException", 503, "Server"),
                _ => return aws::Error::internal(&error),
            },
            Error::Blobs(_) => return aws::Error::internal(&error),
        };
        let answer = aws::Error::new(error.kind(), code, error.to_string()).with_status(status);
        let answer = match error {
            Error::Throttled(throttle) => answer.with_field("Reason", throttle.reason()),
            _ => answer,
        };
        let mut answer = answer.with_field("Type", kind_of_fault);
        // Lambda's shapes differ in the case of this one member.
        answer.capital_message = matches!(
            code,
            "ResourceNotFoundException"
                | "ServiceException"
                | "InvalidRuntimeException"
                | "InvalidZipFileException"
                | "RecursiveInvocationException"
        );
        answer
    }
}
