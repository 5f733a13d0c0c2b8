//! What an error of the tree or of a file means to callers.

use std::io;
use std::path::Path;

use crate::Error;

/// The error of a file operation; `what` says what could not be done.
pub(super) fn io(what: &str, path: &Path, error: &io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::DiskFull,
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Error::Io(format!(
            "{what} `{}`: {error}; give the user that runs hawker the right to write there",
            path.display()
        )),
        _ => Error::Io(format!("{what} `{}`: {error}", path.display())),
    }
}

/// The error of a read or a write of rows.
pub(super) fn tree(error: &fjall::Error) -> Error {
    match io_of(error) {
        Some(cause) if is_full(cause) => Error::DiskFull,
        Some(cause) => Error::Io(cause.to_string()),
        None if matches!(error, fjall::Error::Poisoned) => {
            Error::Io("rows could not be moved from memory to table files: is the disk full?".to_owned())
        }
        None => Error::Io(format!("{error:?}")),
    }
}

/// The error that every later commit gets once the tree refuses to write. It does so for good after a failed
/// write or sync, because what is in the page cache can no longer be trusted to reach the disk; a restart
/// reads what did.
pub(super) fn stopped(first: &Error) -> Error {
    let cause = match first {
        Error::DiskFull => "the disk was full while it wrote; free some space and".to_owned(),
        other => format!("a write failed ({other});"),
    };
    Error::Io(format!("no more commits are taken, reads go on: {cause} restart hawker"))
}

fn io_of(error: &fjall::Error) -> Option<&io::Error> {
    match error {
        fjall::Error::Io(cause) | fjall::Error::Storage(fjall::LsmError::Io(cause)) => Some(cause),
        _ => None,
    }
}

fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}
