//! Reading what a function sends: as a whole, or handed on piece by piece.

use base64::Engine;
use bytes::{Bytes, BytesMut};
use functions::{Piece, ResponseHead, ResponseStream};
use http::HeaderMap;
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::answers::error_object;

/// The largest answer that is not streamed: 6 MB and a little (AWS Lambda developer guide, "Lambda quotas").
pub(super) const MAX_PAYLOAD_BYTES: usize = 6 * 1024 * 1024 + 100;
/// The largest that is (AWS Lambda developer guide, "Response streaming for Lambda functions").
pub(super) const MAX_STREAMED_BYTES: u64 = 200 * 1024 * 1024;

/// The largest of what else is sent: what extensions say of themselves, and error objects.
const MAX_SMALL_BYTES: usize = 256 * 1024;

/// How a body ended.
#[derive(Debug)]
pub(super) enum Read {
    /// Well, with this in it; nothing if it was handed on.
    Whole(Bytes),
    /// With trailers that say that the function failed: an error object.
    Failed(Bytes),
    /// Over the limit.
    TooLarge,
    /// Not at all: the connection did before.
    Truncated,
}

/// How an answer went.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) read: Read,
    pub(super) bytes: u64,
}

/// Reads an answer as a whole. One that is too large is read to its end, so that what is said to it can be sent.
pub(super) async fn whole(body: Incoming) -> Taken {
    up_to(MAX_PAYLOAD_BYTES, body).await
}

/// Reads what is no answer; nothing if it is too large or does not end.
pub(super) async fn small(body: Incoming) -> Option<Bytes> {
    match up_to(MAX_SMALL_BYTES, body).await.read {
        Read::Whole(body) => Some(body),
        Read::Failed(_) | Read::TooLarge | Read::Truncated => None,
    }
}

async fn up_to(limit: usize, mut body: Incoming) -> Taken {
    let mut whole = BytesMut::new();
    let mut first: Option<Bytes> = None;
    let mut length = 0;
    let mut trailers = None;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return Taken { read: Read::Truncated, bytes: length as u64 } };
        let data = match frame.into_data() {
            Ok(data) => data,
            Err(frame) => {
                trailers = frame.into_trailers().ok();
                continue;
            }
        };
        length += data.len();
        if length > limit {
            (whole, first) = (BytesMut::new(), None);
        } else if length == data.len() {
            first = Some(data);
        } else {
            if let Some(first) = first.take() {
                whole.extend_from_slice(&first);
            }
            whole.extend_from_slice(&data);
        }
    }
    let read = match trailers.as_ref().and_then(failure) {
        Some(error) => Read::Failed(error),
        None if length > limit => Read::TooLarge,
        None => Read::Whole(first.unwrap_or_else(|| whole.freeze())),
    };
    Taken { read, bytes: length as u64 }
}

/// Hands a body on as it comes, as fast as it is taken. If nobody takes it any more the function is not told: it
/// ends as it would have.
pub(super) async fn hand_on(
    mut body: Incoming,
    content_type: Option<String>,
    stream: &ResponseStream,
) -> Taken {
    let mut bytes = 0;
    let head = Piece::Head(ResponseHead::Runtime { content_type, streaming: true });
    let mut wanted = stream.send(head).await.is_ok();
    let mut trailers = None;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return Taken { read: Read::Truncated, bytes } };
        match frame.into_data() {
            Ok(data) => {
                bytes += data.len() as u64;
                if bytes > MAX_STREAMED_BYTES {
                    return Taken { read: Read::TooLarge, bytes };
                }
                if wanted && !data.is_empty() {
                    wanted = stream.send(Piece::Body(data)).await.is_ok();
                }
            }
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    let read = match trailers.as_ref().and_then(failure) {
        Some(error) => Read::Failed(error),
        None => Read::Whole(Bytes::new()),
    };
    Taken { read, bytes }
}

/// The error object that trailers carry, if they say that the function failed.
fn failure(trailers: &HeaderMap) -> Option<Bytes> {
    let kind = trailers.get("lambda-runtime-function-error-type")?;
    let kind = String::from_utf8_lossy(kind.as_bytes());
    let body = trailers.get("lambda-runtime-function-error-body");
    let body = body.and_then(|body| base64::engine::general_purpose::STANDARD.decode(body.as_bytes()).ok());
    Some(error_object(body.unwrap_or_default().into(), &kind))
}
