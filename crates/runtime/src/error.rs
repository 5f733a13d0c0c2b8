//! Why the runtime could not be opened or prepared.

use std::io;
use std::path::PathBuf;

use types::ErrorKind;

/// An error of the runtime as a whole; what goes wrong with one function is a
/// [`StartError`](functions::StartError) or [`RunError`](functions::RunError).
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or directory of the cache.
    #[error("{}: {source}", path.display())]
    Cache {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// This host can not wall off functions; the message says why and what to do.
    #[error("{0}")]
    Isolation(String),
    /// This host can not run that runtime; the message says what to do.
    #[error("{0}")]
    Unsupported(String),
    /// A library that functions are given could not be installed.
    #[error("{0}")]
    Install(String),
}

impl Error {
    /// What the caller can do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Cache { .. } | Self::Install(_) => ErrorKind::Unavailable,
            Self::Isolation(_) | Self::Unsupported(_) => ErrorKind::Unsupported,
        }
    }

    pub(crate) fn cache(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Cache { path, source }
    }
}
