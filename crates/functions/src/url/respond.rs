//! Runs the function of a URL and sends what it answers, as it is written or as a whole.

use aws::Response;
use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderValue};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use sha2::{Digest, Sha256};
use types::ErrorKind;

use super::{Call, event};
use crate::invoke::{Next, Running};
use crate::{Error, Event, Invocation, Outcome, Piece, ResponseHead};

/// The content type of a streamed answer that begins with a description of itself.
const WITH_PRELUDE: &str = "application/vnd.awslambda.http-integration-response";
/// What ends that description.
const PRELUDE_END: [u8; 8] = [0; 8];
/// Largest description, in bytes.
const PRELUDE_LIMIT: usize = 64 * 1024;
/// Largest answer that is sent as a whole, in bytes.
const BUFFERED_LIMIT: usize = 6_291_556;

fn bad_gateway() -> Response {
    let mut response = Response::new(aws::body::full("Internal Server Error"));
    *response.status_mut() = StatusCode::BAD_GATEWAY;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

impl Call {
    /// Runs it.
    pub(super) async fn respond(self) -> Result<Response, aws::Error> {
        let Self { inner, context, function, account, url, head, body, .. } = self;
        let header =
            |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let idempotency_key = header("idempotency-key");
        let fingerprint = idempotency_key.is_some().then(|| {
            let request = format!("{} {}\n", head.method, head.uri);
            Sha256::new().chain_update(request).chain_update(&body).finalize().into()
        });
        let chosen = inner.choose(account, &function).await?;
        let event = if inner.runtime.takes_http(chosen.runtime()) {
            let mut head = head;
            let source_ip = event::source_ip(&context);
            if let Ok(value) = HeaderValue::try_from(source_ip) {
                head.headers.insert("x-forwarded-for", value);
            }
            Event::Http(Box::new(http::Request::from_parts(head, body)))
        } else {
            Event::Json(event::of(&head, &body, &context, account, &url.id))
        };
        let invocation = Invocation {
            account,
            function,
            request_id: context.request_id,
            event,
            stream: None,
            client_context: None,
            fingerprint,
            idempotency_key,
            trace: context.trace.clone(),
            attempt: 0,
            redeliverable: false,
            queue_timeout: None,
            log_tail: false,
        };
        let mut running = inner.running(chosen, invocation);
        match running.next().await {
            Next::Ended(outcome) => Ok(whole(outcome?)),
            Next::Piece(Piece::Body(_)) => Err(Error::Platform("a body came before its head".into()).into()),
            Next::Piece(Piece::Head(ResponseHead::Http(parts))) => http(running, *parts).await,
            Next::Piece(Piece::Head(ResponseHead::Runtime { content_type, streaming })) => {
                let prelude = streaming && content_type.as_deref() == Some(WITH_PRELUDE);
                match (streaming, url.streaming) {
                    (true, true) => stream(running, content_type, prelude).await,
                    (true, false) => buffer(running, content_type, prelude).await,
                    (false, _) => match collect(&mut running).await? {
                        Ok(payload) => Ok(event::answer(&payload).unwrap_or_else(bad_gateway)),
                        Err(response) => Ok(response),
                    },
                }
            }
        }
    }
}

/// The answer to an invocation that wrote nothing, or whose outcome was there already.
fn whole(outcome: Outcome) -> Response {
    match outcome.function_error {
        Some(_) => bad_gateway(),
        None => event::answer(&outcome.payload).unwrap_or_else(bad_gateway),
    }
}

/// What is written, up to the limit; an answer to send instead if it failed.
async fn collect(running: &mut Running) -> Result<Result<Bytes, Response>, aws::Error> {
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    loop {
        match running.next().await {
            Next::Piece(Piece::Head(_)) => {}
            Next::Piece(Piece::Body(piece)) => {
                if first.len() + all.len() + piece.len() > BUFFERED_LIMIT {
                    let message = "The function's answer is larger than a URL that does not stream sends; set its \
                                   invoke mode to RESPONSE_STREAM.";
                    let error = aws::Error::new(ErrorKind::TooLarge, "ResponseTooLarge", message);
                    return Err(error.with_status(502));
                }
                if first.is_empty() && all.is_empty() {
                    first = piece;
                } else {
                    if all.is_empty() {
                        all.extend_from_slice(&std::mem::take(&mut first));
                    }
                    all.extend_from_slice(&piece);
                }
            }
            Next::Ended(outcome) => {
                let failed = outcome?.function_error.is_some();
                let payload = if all.is_empty() { first } else { all.freeze() };
                return Ok(if failed { Err(bad_gateway()) } else { Ok(payload) });
            }
        }
    }
}

/// The rest of an answer, as it is written; `first` is what was read of it already.
fn rest(running: Running, first: Bytes) -> aws::Body {
    let pieces = futures_util::stream::unfold((running, first), |(mut running, first)| async move {
        if !first.is_empty() {
            return Some((Ok(Frame::data(first)), (running, Bytes::new())));
        }
        loop {
            match running.next().await {
                Next::Piece(Piece::Head(_)) => {}
                Next::Piece(Piece::Body(piece)) => {
                    return Some((Ok(Frame::data(piece)), (running, Bytes::new())));
                }
                Next::Ended(Ok(outcome)) if outcome.function_error.is_none() => return None,
                // The connection is cut, which is the only way to say that what was sent is not all.
                Next::Ended(_) => {
                    let error: aws::BodyError = "the function failed while it answered".into();
                    return Some((Err(error), (running, Bytes::new())));
                }
            }
        }
    });
    StreamBody::new(pieces).boxed_unsync()
}

/// The answer of a function that speaks HTTP.
async fn http(mut running: Running, parts: http::response::Parts) -> Result<Response, aws::Error> {
    let mut parts = parts;
    let hop: Vec<_> = parts.headers.keys().filter(|name| event::is_hop(name)).cloned().collect();
    for name in hop {
        parts.headers.remove(name);
    }
    // Small answers are there by now: they are sent with their length.
    let body = match running.next().await {
        Next::Piece(Piece::Body(first)) => match running.ended_well() {
            true => aws::body::full(first),
            false => rest(running, first),
        },
        Next::Piece(Piece::Head(_)) => rest(running, Bytes::new()),
        Next::Ended(outcome) => match outcome?.function_error {
            Some(_) => return Ok(bad_gateway()),
            None => aws::body::full(""),
        },
    };
    Ok(Response::from_parts(parts, body))
}

/// The description that a streamed answer begins with, and what came after it.
async fn prelude(running: &mut Running) -> Result<Option<(Response, Bytes)>, aws::Error> {
    let mut read = BytesMut::new();
    let end = loop {
        if let Some(end) = memchr::memmem::find(&read, &PRELUDE_END) {
            break end;
        }
        if read.len() > PRELUDE_LIMIT {
            return Ok(None);
        }
        match running.next().await {
            Next::Piece(Piece::Head(_)) => {}
            Next::Piece(Piece::Body(piece)) => read.extend_from_slice(&piece),
            Next::Ended(outcome) => {
                outcome?;
                return Ok(None);
            }
        }
    };
    let described = read.split_to(end);
    let _ = read.split_to(PRELUDE_END.len());
    let described: Result<event::Described, _> = serde_json::from_slice(&described);
    let Some((status, headers, _, _)) = described.ok().and_then(event::Described::into_head) else {
        return Ok(None);
    };
    let mut response = Response::new(aws::body::full(""));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    Ok(Some((response, read.freeze())))
}

fn with_content_type(mut response: Response, content_type: Option<String>) -> Response {
    let given = content_type.and_then(|text| HeaderValue::try_from(text).ok());
    let value = given.unwrap_or_else(|| HeaderValue::from_static("application/octet-stream"));
    response.headers_mut().entry(CONTENT_TYPE).or_insert(value);
    response
}

async fn stream(
    mut running: Running,
    content_type: Option<String>,
    with_prelude: bool,
) -> Result<Response, aws::Error> {
    if !with_prelude {
        let response = Response::new(rest(running, Bytes::new()));
        return Ok(with_content_type(response, content_type));
    }
    match prelude(&mut running).await? {
        Some((response, first)) => {
            let response = response.map(|_| rest(running, first));
            Ok(with_content_type(response, None))
        }
        None => Ok(bad_gateway()),
    }
}

async fn buffer(
    mut running: Running,
    content_type: Option<String>,
    with_prelude: bool,
) -> Result<Response, aws::Error> {
    let (response, first) = match with_prelude {
        true => match prelude(&mut running).await? {
            Some((response, first)) => (with_content_type(response, None), first),
            None => return Ok(bad_gateway()),
        },
        false => {
            let response = Response::new(aws::body::full(""));
            (with_content_type(response, content_type), Bytes::new())
        }
    };
    match collect(&mut running).await? {
        Ok(more) if first.is_empty() => Ok(response.map(|_| aws::body::full(more))),
        Ok(more) => Ok(response.map(|_| aws::body::full([first, more].concat()))),
        Err(failed) => Ok(failed),
    }
}
