//! The Runtime API: what the function asks and answers.

use std::time::Duration;

use bytes::Bytes;
use functions::{Piece, ResponseHead};
use http::{Method, Request, StatusCode, header};
use hyper::body::Incoming;
use tokio::sync::oneshot;

use super::answers::{
    Answered, accepted, error_object, error_payload, invocation, not_found, refuse, refuse_id, wrong_state,
};
use super::body::{self, MAX_PAYLOAD_BYTES, MAX_STREAMED_BYTES, Read, Taken};
use super::{Answer, Exchange, Running, Stage, State};

/// An answer that is being taken. If it is not brought to its end, the event is still out.
struct Taking<'a> {
    exchange: &'a Exchange,
    id: &'a str,
}

impl Drop for Taking<'_> {
    fn drop(&mut self) {
        if let Some(running) = &mut self.exchange.lock().running
            && running.id == self.id
        {
            running.stage = Stage::Truncated;
        }
        if self.exchange.changed.receiver_count() > 0 {
            self.exchange.tell();
        }
    }
}

impl Exchange {
    pub(super) async fn route_runtime(&self, rest: &str, request: Request<Incoming>) -> Answered {
        if rest == "ping" && request.method() == Method::GET {
            return Answered::new(http_body_util::Full::from("pong"));
        }
        let Some(rest) = rest.strip_prefix("runtime/") else { return not_found() };
        match (request.method(), rest.split_once('/')) {
            (&Method::GET, Some(("invocation", "next"))) => self.next().await,
            (&Method::POST, Some(("init", "error"))) => self.fail_init(request).await,
            (&Method::POST, Some(("invocation", rest))) => match rest.rsplit_once('/') {
                Some((id, "response")) => self.answer(id, request, false).await,
                Some((id, "error")) => self.answer(id, request, true).await,
                _ => not_found(),
            },
            _ => not_found(),
        }
    }

    async fn next(&self) -> Answered {
        // On one connection this can not be; on another, the end of the answer may not have been seen yet.
        if self.lock().is_answering() {
            self.until(|state| (!state.is_answering()).then_some(())).await;
        }
        let waiting = {
            let mut state = self.lock();
            match &state.running {
                // It goes on although its answer never came to an end.
                Some(Running { stage: Stage::Truncated, .. }) => {
                    let payload = error_payload("Runtime.TruncatedResponse", "Truncated response");
                    if let Some(running) = state.running.take() {
                        running.end(payload, Some("Unhandled"), None, 0);
                    }
                }
                Some(_) => return wrong_state("Running", "Ready"),
                None => {}
            }
            if !state.booted {
                state.booted = true;
                self.tell();
            }
            match state.queued.take() {
                Some(event) => {
                    let request = event.request.clone();
                    state.run(event);
                    return invocation(&request);
                }
                None => {
                    let (waiter, waiting) = oneshot::channel();
                    state.waiter = Some(waiter);
                    waiting
                }
            }
        };
        match waiting.await {
            Ok(request) => invocation(&request),
            // Another connection asked after this one.
            Err(_) => wrong_state("Ready", "Ready"),
        }
    }

    /// Takes the answer to the event `id`.
    async fn answer(&self, id: &str, request: Request<Incoming>, failed: bool) -> Answered {
        let (stream, latency) = {
            let mut state = self.lock();
            match &mut state.running {
                None => return wrong_state("Ready", "InvocationResponse"),
                Some(running) if running.id != id => return refuse_id(),
                Some(Running { stage: Stage::Answering, .. }) => {
                    return wrong_state("InvocationResponse", "InvocationResponse");
                }
                Some(running) => {
                    running.stage = Stage::Answering;
                    (running.request.stream.clone(), running.since.elapsed())
                }
            }
        };
        let taking = Taking { exchange: self, id };
        let (head, incoming) = request.into_parts();
        let content_type = || super::header(&head.headers, header::CONTENT_TYPE.as_str()).map(str::to_owned);
        let streams = match super::header(&head.headers, "lambda-runtime-function-response-mode") {
            None => false,
            Some(mode) if mode.eq_ignore_ascii_case("streaming") => true,
            Some(_) => {
                let kind = "Runtime.InvalidResponseModeHeader";
                let payload = error_payload(kind, "Invalid function response mode");
                self.end(taking, payload, Some("Unhandled"), latency, 0);
                // Read to its end, so that the answer can be sent.
                body::whole(incoming).await;
                return refuse(
                    StatusCode::BAD_REQUEST,
                    "InvalidFunctionResponseMode",
                    "Invalid function response mode",
                );
            }
        };
        let taken = match &stream {
            Some(stream) if streams && !failed => body::hand_on(incoming, content_type(), stream).await,
            _ => body::whole(incoming).await,
        };
        let Taken { read, bytes } = taken;
        let streamed = streams && !failed && stream.is_some();
        let error = Some("Unhandled");
        let (payload, function_error, response) = match read {
            Read::Whole(payload) if failed => {
                let kind = super::header(&head.headers, "lambda-runtime-function-error-type");
                (error_object(payload, kind.unwrap_or("Runtime.Unknown")), error, accepted())
            }
            Read::Whole(payload) => match stream {
                Some(stream) if !streamed => {
                    let head = ResponseHead::Runtime { content_type: content_type(), streaming: false };
                    // Whoever reads may have gone.
                    if stream.send(Piece::Head(head)).await.is_ok() {
                        let _ = stream.send(Piece::Body(payload)).await;
                    }
                    (Bytes::new(), None, accepted())
                }
                Some(_) | None => (payload, None, accepted()),
            },
            Read::Failed(payload) => (payload, error, accepted()),
            Read::TooLarge => {
                let limit = if streamed { MAX_STREAMED_BYTES } else { MAX_PAYLOAD_BYTES as u64 };
                let message =
                    format!("Response payload size exceeded maximum allowed payload size ({limit} bytes).");
                let refused = format!("Exceeded maximum allowed payload size ({limit} bytes).");
                (
                    error_payload("Function.ResponseSizeTooLarge", &message),
                    error,
                    refuse(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", &refused),
                )
            }
            Read::Truncated => {
                return refuse(
                    StatusCode::BAD_REQUEST,
                    "TruncatedHTTPRequest",
                    "HTTP request detected as truncated",
                );
            }
        };
        if self.end(taking, payload, function_error, latency, bytes) { response } else { refuse_id() }
    }

    /// Ends the event that is out; false if there is none any more.
    fn end(
        &self,
        taking: Taking<'_>,
        payload: Bytes,
        function_error: Option<&str>,
        latency: Duration,
        bytes: u64,
    ) -> bool {
        let running = self.lock().running.take_if(|running| running.id == taking.id);
        match running {
            Some(running) => {
                running.end(payload, function_error, Some(latency), bytes);
                true
            }
            None => false,
        }
    }

    async fn fail_init(&self, request: Request<Incoming>) -> Answered {
        let (head, incoming) = request.into_parts();
        let Some(payload) = body::small(incoming).await else {
            return refuse(
                StatusCode::PAYLOAD_TOO_LARGE,
                "RequestEntityTooLarge",
                "the error object is too large",
            );
        };
        let mut state = self.lock();
        if state.booted || state.init_error.is_some() {
            return wrong_state("Ready", "InitError");
        }
        let kind = super::header(&head.headers, "lambda-runtime-function-error-type");
        state.init_error = Some(error_object(payload, kind.unwrap_or("Runtime.Unknown")));
        accepted()
    }
}

impl Running {
    fn end(self, payload: Bytes, function_error: Option<&str>, latency: Option<Duration>, bytes: u64) {
        let duration = self.since.elapsed();
        let latency = latency.unwrap_or(duration);
        let function_error = function_error.map(str::to_owned);
        // The request holds the other end of a streamed answer: it goes first, so that nobody waits for more.
        drop(self.request);
        // Whoever asked may have gone.
        let _ = self.reply.send(Answer { payload, function_error, duration, latency, bytes });
    }
}

impl State {
    fn is_answering(&self) -> bool {
        matches!(self.running, Some(Running { stage: Stage::Answering, .. }))
    }
}
