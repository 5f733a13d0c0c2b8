//! Request and response bodies: a stream of bytes that can fail.

use bytes::{Bytes, BytesMut};
use http_body::Body as _;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};

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

/// Reads a whole body of at most `limit` bytes. One that arrives in one piece is not copied.
pub async fn collect(mut body: Body, limit: usize) -> Result<Bytes, Error> {
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(from_body_error)?.into_data() else { continue };
        let length = first.len() + all.len();
        // What is still to come counts too, where it is known.
        let to_come = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
        let total = length.saturating_add(data.len()).saturating_add(to_come);
        if total > limit {
            return Err(Error::too_large(limit));
        }
        if length == 0 {
            first = data;
        } else {
            if all.is_empty() {
                all.reserve(total);
                all.extend_from_slice(&std::mem::take(&mut first));
            }
            all.extend_from_slice(&data);
        }
    }
    Ok(if all.is_empty() { first } else { all.freeze() })
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
