//! `InvokeWithResponseStream`.

use aws::{Response, Traced, event_stream};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::HeaderValue;
use http::header::{CONTENT_TYPE, HeaderName};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use serde_json::json;

use super::Cx;
use super::invoke::version_header;
use crate::invoke::{Next, Running};
use crate::wire::input::{InvocationType, Invoke};
use crate::{Error, Outcome, Piece, ResponseHead};

/// Largest payload of one frame, in bytes.
const CHUNK: usize = 1 << 20;

fn event(kind: &str, content_type: &str, payload: &[u8]) -> Bytes {
    let headers = [(":event-type", kind), (":content-type", content_type), (":message-type", "event")];
    event_stream::frame(&headers, payload)
}

/// What a stream has still to send.
enum Rest {
    /// Pieces, of which the first is here.
    Pieces(Box<Running>, Bytes),
    /// The end.
    Complete(Box<Outcome>),
    /// Nothing.
    Nothing,
}

impl Cx {
    pub(super) async fn invoke_with_stream(&self, input: Invoke) -> Result<Response, Error> {
        match input.kind {
            InvocationType::RequestResponse => {}
            InvocationType::DryRun => {
                self.resolve(&input.function).await?;
                return Ok(aws::json::empty(204));
            }
            InvocationType::Event => {
                return Err(Error::InvalidParameter(
                    "InvocationType Event is not supported by InvokeWithResponseStream.".into(),
                ));
            }
        }
        let chosen = self.inner.choose(self.account, &input.function).await?;
        let version = chosen.version();
        let mut running = self.inner.running(chosen, self.invocation(input));
        let (rest, content_type) = match running.next().await {
            Next::Piece(Piece::Head(head)) => {
                let content_type = match head {
                    ResponseHead::Runtime { content_type, .. } => content_type,
                    ResponseHead::Http(_) => None,
                };
                (Rest::Pieces(Box::new(running), Bytes::new()), content_type)
            }
            Next::Piece(Piece::Body(first)) => (Rest::Pieces(Box::new(running), first), None),
            Next::Ended(outcome) => {
                let outcome = outcome?;
                // What was there as a whole is sent as one piece, what failed as the end that tells of it.
                match outcome.function_error {
                    Some(_) => (Rest::Complete(Box::new(outcome)), None),
                    None => return Ok(self.streamed(version, None, whole(outcome))),
                }
            }
        };
        let frames = futures_util::stream::unfold(rest, |rest| async move {
            let (mut running, first) = match rest {
                Rest::Nothing => return None,
                Rest::Complete(outcome) => return Some((Ok(Frame::data(complete(&outcome))), Rest::Nothing)),
                Rest::Pieces(running, first) => (running, first),
            };
            if !first.is_empty() {
                return Some((Ok(Frame::data(chunks(&first))), Rest::Pieces(running, Bytes::new())));
            }
            loop {
                match running.next().await {
                    Next::Piece(Piece::Head(_)) => {}
                    Next::Piece(Piece::Body(piece)) if piece.is_empty() => {}
                    Next::Piece(Piece::Body(piece)) => {
                        return Some((Ok(Frame::data(chunks(&piece))), Rest::Pieces(running, Bytes::new())));
                    }
                    Next::Ended(Ok(outcome)) => {
                        return Some((Ok(Frame::data(complete(&outcome))), Rest::Nothing));
                    }
                    Next::Ended(Err(error)) => {
                        let error: aws::BodyError = Box::new(aws::Error::from(error));
                        return Some((Err(error), Rest::Nothing));
                    }
                }
            }
        });
        Ok(self.streamed(version, content_type, StreamBody::new(frames).boxed_unsync()))
    }

    fn streamed(&self, version: crate::Version, content_type: Option<String>, body: aws::Body) -> Response {
        let mut response = Response::new(body);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(event_stream::CONTENT_TYPE));
        headers.insert("x-amz-executed-version", version_header(version));
        if let Some(value) = content_type.and_then(|text| HeaderValue::try_from(text).ok()) {
            headers.insert(HeaderName::from_static("x-amzn-remapped-content-type"), value);
        }
        response.extensions_mut().insert(Traced);
        response
    }
}

fn whole(outcome: Outcome) -> aws::Body {
    let chunk = chunks(&outcome.payload);
    let end = complete(&outcome);
    let frames = [chunk, end].map(|bytes| Ok::<_, aws::BodyError>(Frame::data(bytes)));
    StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync()
}

/// A piece of the answer, in frames.
fn chunks(piece: &Bytes) -> Bytes {
    let frames: Vec<_> =
        piece.chunks(CHUNK).map(|chunk| event("PayloadChunk", "application/octet-stream", chunk)).collect();
    match <[Bytes; 1]>::try_from(frames) {
        Ok([one]) => one,
        Err(frames) => frames.concat().into(),
    }
}

/// The last frame.
fn complete(outcome: &Outcome) -> Bytes {
    let mut end = json!({});
    if let Some(kind) = &outcome.function_error {
        end["ErrorCode"] = json!(kind);
        end["ErrorDetails"] = json!(String::from_utf8_lossy(&outcome.payload));
    }
    if let Some(tail) = &outcome.log_tail {
        end["LogResult"] = json!(STANDARD.encode(tail));
    }
    event("InvokeComplete", "application/json", end.to_string().as_bytes())
}
