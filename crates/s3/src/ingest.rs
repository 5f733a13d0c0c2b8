//! Takes a body in: small ones into memory, large ones to a blob, digests computed and bytes sealed on the way.
//!
//! Invariants: memory is flat (see `intake` for large bodies), the client is slowed to the pace of the disk, and
//! what is returned has exactly the announced length. Small bodies are hashed on the connection's task: tens of
//! microseconds, about what handing them to another thread would cost.

use std::sync::Arc;

use aws::Body;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use http_body::Body as _;
use http_body_util::BodyExt;

use crate::Error;
use crate::checksum::{Digests, Expected, Hashers};
use crate::encryption::{Seal, sealed_length};
use crate::garbage::Writing;
use crate::intake::taken_in;
use crate::ops::MAX_UPLOAD_BYTES;
use crate::service::{Cx, Inner};
use crate::tables::{INLINE_FORMAT, INLINE_SEALED_FORMAT};

/// Where a body went.
pub(crate) enum Content {
    /// The value of an `OBJECT_DATA` row, format byte included.
    Inline(Bytes),
    /// A blob that is on disk and not yet visible.
    Blob(Writing),
}

/// The length that a body was announced with.
pub(crate) fn announced_length(cx: &Cx, body: &Body) -> Result<u64, Error> {
    let header = |name| match cx.header(name) {
        None => Ok(None),
        Some(text) => text
            .parse::<u64>()
            .map(Some)
            .map_err(|_| Error::argument("Content-Length", text, "Invalid Content-Length")),
    };
    // An encoded body's own Content-Length counts the encoding.
    let length = match header("x-amz-decoded-content-length")? {
        Some(length) => Some(length),
        None => header("content-length")?,
    };
    // A body that is not there was not announced to be empty.
    let length = length.or(body.size_hint().exact().filter(|length| *length > 0));
    let length = length.ok_or(Error::MissingContentLength)?;
    if length > MAX_UPLOAD_BYTES {
        return Err(Error::EntityTooLarge { proposed: length, limit: MAX_UPLOAD_BYTES });
    }
    Ok(length)
}

/// Takes the request's body in and verifies what the client said of it.
pub(crate) async fn request_body(
    cx: &Cx,
    inline_limit: usize,
    expected: &Expected,
    hashers: Hashers,
    seal: Option<&Seal>,
) -> Result<(Content, Digests, u64), Error> {
    let body = cx.state.body.lock().expect("no holder of this lock panics").take();
    let body = body.unwrap_or_else(|| aws::body::full(""));
    let length = announced_length(cx, &body)?;
    let (content, digests) = body_of(&cx.inner, body, length, inline_limit, hashers, seal).await?;
    expected.verify(&digests, cx.state.trailers.as_ref())?;
    Ok((content, digests, length))
}

/// Takes in a body of `length` bytes.
pub(crate) async fn body_of(
    inner: &Arc<Inner>,
    body: Body,
    length: u64,
    inline_limit: usize,
    mut hashers: Hashers,
    seal: Option<&Seal>,
) -> Result<(Content, Digests), Error> {
    match usize::try_from(length) {
        Ok(length) if length <= inline_limit => {
            let room = usize::try_from(sealed_length(length as u64)).unwrap_or(length);
            let mut bytes = Vec::with_capacity(room + 1);
            bytes.push(if seal.is_some() { INLINE_SEALED_FORMAT } else { INLINE_FORMAT });
            let mut frames = body.into_data_stream();
            while let Some(frame) = frames.next().await {
                let frame = frame.map_err(Error::of_body)?;
                if bytes.len() + frame.len() > length + 1 {
                    return Err(Error::IncompleteBody);
                }
                hashers.update(&frame);
                bytes.extend_from_slice(&frame);
            }
            if bytes.len() != length + 1 {
                return Err(Error::IncompleteBody);
            }
            if let Some(seal) = seal {
                seal.key.of_row(length as u64).seal_whole(&mut bytes, 1);
            }
            Ok((Content::Inline(bytes.into()), hashers.finish()))
        }
        Ok(_) | Err(_) => {
            let writing = Writing::begin(inner).await?;
            let frames = body.into_data_stream().map_err(blobs::Error::Body).boxed();
            let key = seal.map(|seal| seal.key.of_blob(writing.id, length));
            let (stored, outcome) =
                taken_in(frames, length, hashers, key, inner.chunks.clone(), inner.hashing.clone());
            inner.blobs.put(writing.id, stored).await?;
            let digests = outcome.lock().expect("no holder of this lock panics").take();
            let digests = digests.expect("a stream that has been put has ended");
            Ok((Content::Blob(writing), digests))
        }
    }
}
