//! What a caller can do about an error; each crate maps its own errors to one of these.

/// The kind of an error, named for what its receiver can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The request is malformed or breaks a documented limit: fix the input.
    Invalid,
    /// The thing named does not exist.
    NotFound,
    /// The thing exists already, or its state does not allow the request.
    Conflict,
    /// A condition that the caller set did not hold.
    PreconditionFailed,
    /// Who calls could not be established: fix the credentials.
    Unauthenticated,
    /// Who calls may not do this: ask for rights.
    Denied,
    /// Over a limit of rate or concurrency: retry later.
    Throttled,
    /// Over a limit of size.
    TooLarge,
    /// The deadline passed.
    Timeout,
    /// Understood, and not offered here.
    Unsupported,
    /// A passing fault (disk full, shutting down): retry later.
    Unavailable,
    /// A bug or a damaged file: report it.
    Internal,
}

impl ErrorKind {
    /// True if the same request may succeed later without being changed.
    pub fn is_retryable(self) -> bool {
        match self {
            Self::Throttled | Self::Timeout | Self::Unavailable | Self::Internal => true,
            Self::Invalid
            | Self::NotFound
            | Self::Conflict
            | Self::PreconditionFailed
            | Self::Unauthenticated
            | Self::Denied
            | Self::TooLarge
            | Self::Unsupported => false,
        }
    }
}
