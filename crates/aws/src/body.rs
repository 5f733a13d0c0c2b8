//! Request and response bodies: a stream of bytes that can fail.

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited};

use crate::Error;

/// A failure while a body was read: the client went away, was too slow, sent too much, or its checksum or
/// signature did not match. Holds an [`Error`] where there is an answer to give.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// A body, streamed.
pub type Body = UnsyncBoxBody<Bytes, BodyError>;

/// A body of bytes at hand.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// Reads a whole body of at most `limit` bytes.
pub async fn collect(body: Body, limit: usize) -> Result<Bytes, Error> {
    match Limited::new(body, limit).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => Err(Error::too_large(limit)),
        Err(error) => Err(from_body_error(error)),
    }
}

/// The answer to a body that failed.
pub fn from_body_error(error: BodyError) -> Error {
    match error.downcast::<Error>() {
        Ok(error) => *error,
        Err(other) => Error::new(
            types::ErrorKind::Invalid,
            "IncompleteBody",
            format!("The request body could not be read: {other}"),
        ),
    }
}
