//! One instance: requests in, answers out.
//!
//! A request runs in its caller's own task: the component and the delivery of what it writes take turns, so that
//! nothing is spawned and nothing waits for another thread.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Instant;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use functions::{
    Event, Instance, InvokeRequest, InvokeResult, Piece, ResponseHead, ResponseStream, RunError,
};
use http_body_util::{BodyExt, Full};
use tokio::sync::oneshot;
use types::TraceHeader;
use wasmtime::{Store, Trap};
use wasmtime_wasi::I32Exit;
use wasmtime_wasi_http::WasiHttpView;
use wasmtime_wasi_http::p2::bindings::Proxy;
use wasmtime_wasi_http::p2::bindings::http::types::{ErrorCode, Scheme};
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;

use super::event;
use super::function::Function;
use super::host::{Host, MAX_CALL_BYTES};
use super::output::Output;
use crate::api::error_payload;
use crate::logs::Rules;

/// The largest answer that is not streamed: 6 MB and a little (AWS Lambda developer guide, "Lambda quotas").
const MAX_ANSWER_BYTES: usize = 6 * 1024 * 1024 + 100;

/// An instance of a function, for one event at a time.
pub(super) struct WasmInstance {
    function: Arc<Function>,
    output: Arc<Output>,
    /// What the last request left for the next one, if the function allows that.
    kept: Mutex<Session>,
    is_alive: bool,
}

/// A component in its store, as far as it has come.
#[derive(Default)]
struct Session {
    store: Option<Store<Host>>,
    proxy: Option<Proxy>,
    peak_bytes: u64,
    refused_memory: bool,
    /// How it broke, while what it wrote before is still on its way.
    broken: Option<wasmtime::Error>,
}

/// How the function answered.
#[derive(Debug)]
struct Answer {
    payload: Bytes,
    function_error: Option<String>,
}

/// Why it did not.
#[derive(Debug)]
enum Failure {
    /// The component trapped, or exited.
    Broken(wasmtime::Error),
    /// The platform could not.
    Platform(String),
}

impl fmt::Debug for WasmInstance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WasmInstance").field("function", &self.function.arn).finish_non_exhaustive()
    }
}

impl WasmInstance {
    pub(super) fn new(function: Arc<Function>) -> Self {
        let rules = Rules { limit_bytes: function.shared.max_log_bytes, least: function.least_level };
        let output = Output::new(rules, function.shared.env.clone());
        Self { function, output, kept: Mutex::default(), is_alive: true }
    }

    /// What is told of a component that did not answer.
    fn failed(&self, failure: Failure, session: &Session, began: Instant) -> RunError {
        let (message, error_type) = match failure {
            Failure::Platform(message) => (message, "Runtime.PlatformError"),
            Failure::Broken(error) => match error.downcast_ref::<I32Exit>() {
                Some(I32Exit(0)) => {
                    ("Runtime exited without providing a reason".to_owned(), "Runtime.ExitError")
                }
                Some(I32Exit(status)) => {
                    (format!("Runtime exited with error: exit status {status}"), "Runtime.ExitError")
                }
                None => {
                    // With the frames, where the component names its functions.
                    self.output.say(format!("{error:?}"));
                    let reason = match error.downcast_ref::<Trap>() {
                        Some(trap) => trap.to_string(),
                        None => error.root_cause().to_string(),
                    };
                    (format!("Runtime exited with error: {reason}"), "Runtime.ExitError")
                }
            },
        };
        let out_of_memory = session.refused_memory;
        RunError::Exited {
            message: if out_of_memory {
                "Runtime exited with error: signal: killed".to_owned()
            } else {
                message
            },
            error_type: if out_of_memory { "Runtime.OutOfMemory" } else { error_type }.to_owned(),
            out_of_memory,
            duration: began.elapsed(),
            logs: self.output.take(),
            max_memory_bytes: session.peak_bytes,
        }
    }
}

#[async_trait]
impl Instance for WasmInstance {
    async fn invoke(&mut self, request: InvokeRequest) -> Result<InvokeResult, RunError> {
        let began = Instant::now();
        let mut session = std::mem::take(self.kept.get_mut().unwrap_or_else(PoisonError::into_inner));
        let running = run(&self.function, &self.output, &mut session, &request);
        let outcome = tokio::time::timeout(request.timeout, running).await;
        session.look();
        match outcome {
            Ok(Ok(answer)) => {
                let (duration, max_memory_bytes) = (began.elapsed(), session.peak_bytes);
                if session.proxy.is_some() {
                    *self.kept.get_mut().unwrap_or_else(PoisonError::into_inner) = session;
                }
                let Answer { payload, function_error } = answer;
                Ok(InvokeResult {
                    payload,
                    function_error,
                    duration,
                    max_memory_bytes,
                    logs: self.output.take(),
                })
            }
            Ok(Err(failure)) => {
                self.is_alive = false;
                Err(self.failed(failure, &session, began))
            }
            Err(_) => {
                self.is_alive = false;
                if let Some(error) = session.broken.take() {
                    return Err(self.failed(Failure::Broken(error), &session, began));
                }
                Err(RunError::Timeout { logs: self.output.take(), max_memory_bytes: session.peak_bytes })
            }
        }
    }

    fn is_alive(&mut self) -> bool {
        self.is_alive
    }

    async fn stop(self: Box<Self>) {}
}

impl Session {
    /// Sees what the component has used so far.
    fn look(&mut self) {
        if let Some(store) = &self.store {
            let limits = &store.data().limits;
            (self.peak_bytes, self.refused_memory) = (limits.peak_bytes(), limits.refused());
        }
    }

    /// Lets go of the component.
    fn end(&mut self) {
        self.look();
        (self.store, self.proxy) = (None, None);
    }
}

fn new_store(function: &Arc<Function>, output: &Arc<Output>, trace: TraceHeader) -> Store<Host> {
    let mut store = Store::new(function.component.proxy.engine(), Host::new(function, output, trace));
    store.limiter(|host| &mut host.limits);
    store.epoch_deadline_async_yield_and_update(1);
    store.set_hostcall_fuel(MAX_CALL_BYTES);
    store
}

/// Runs a request to its end. If the component may run another one, it is left in the session.
async fn run(
    function: &Arc<Function>,
    output: &Arc<Output>,
    session: &mut Session,
    request: &InvokeRequest,
) -> Result<Answer, Failure> {
    let shared = &function.shared;
    let _place = match shared.running.try_acquire() {
        Ok(place) => place,
        Err(_) => shared.running.acquire().await.map_err(|error| Failure::Platform(error.to_string()))?,
    };
    let _time = shared.ticker.running();
    let is_http = matches!(request.event, Event::Http(_));
    let http = event::request(request).map(Full::new);

    let store = session.store.get_or_insert_with(|| new_store(function, output, request.trace.clone()));
    store.set_epoch_deadline(1);
    let host = store.data_mut();
    host.limits.again();
    host.trace.clone_from(&request.trace);
    let (sender, receiver) = oneshot::channel();
    let mut view = host.http();
    let incoming = view.new_incoming_request(Scheme::Http, http);
    let incoming = incoming.map_err(|error| Failure::Platform(format!("passing the request on: {error}")))?;
    let outparam = view.new_response_outparam(sender);
    let outparam = outparam.map_err(|error| Failure::Platform(format!("passing the request on: {error}")))?;
    let proxy = match session.proxy.take() {
        Some(proxy) => proxy,
        None => function.component.proxy.instantiate_async(&mut *store).await.map_err(Failure::Broken)?,
    };

    let mut delivery = pin!(deliver(receiver, request.stream.clone(), is_http));
    let mut delivered = None;
    {
        let handler = proxy.wasi_http_incoming_handler();
        let mut handling = pin!(handler.call_handle(&mut *store, incoming, outparam));
        let both = poll_fn(|context| {
            let handled = handling.as_mut().poll(context);
            if delivered.is_none()
                && let Poll::Ready(answer) = delivery.as_mut().poll(context)
            {
                delivered = Some(answer);
            }
            handled
        });
        session.broken = both.await.err();
    }
    let reusable = function.reuse && store.data_mut().has_room();
    if session.broken.is_some() {
        session.end();
        if delivered.is_none() {
            delivery.as_mut().await;
        }
    }
    if let Some(error) = session.broken.take() {
        return Err(Failure::Broken(error));
    }
    match delivered {
        Some(answer) => {
            if reusable {
                session.proxy = Some(proxy);
            } else {
                session.end();
            }
            Ok(answer)
        }
        // Without the component there is an end to what was not ended.
        None => {
            session.end();
            Ok(delivery.await)
        }
    }
}

/// Takes what the component answers to where it belongs.
async fn deliver(
    response: oneshot::Receiver<Result<http::Response<HyperOutgoingBody>, ErrorCode>>,
    stream: Option<ResponseStream>,
    is_http: bool,
) -> Answer {
    let (head, body) = match response.await {
        Ok(Ok(response)) => response.into_parts(),
        Ok(Err(code)) => {
            return Answer::error("Http.Error", &format!("The component answered with an error: {code:?}"));
        }
        Err(_) => return Answer::error("Runtime.NoResponse", "The component ended without an answer."),
    };
    match stream {
        Some(stream) if is_http || head.status.is_success() => {
            let head = if is_http {
                ResponseHead::Http(Box::new(head))
            } else {
                let content_type = head.headers.get(http::header::CONTENT_TYPE);
                let content_type =
                    content_type.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
                ResponseHead::Runtime { content_type, streaming: true }
            };
            stream_out(head, body, stream).await
        }
        Some(_) | None => {
            let body = match collect(body).await {
                Ok(body) => body,
                Err(answer) => return answer,
            };
            if is_http {
                return Answer { payload: event::http_as_json(&head, &body), function_error: None };
            }
            match event::answer(head.status, body) {
                Ok(payload) => Answer { payload, function_error: None },
                Err(payload) => Answer { payload, function_error: Some("Unhandled".to_owned()) },
            }
        }
    }
}

async fn stream_out(head: ResponseHead, mut body: HyperOutgoingBody, stream: ResponseStream) -> Answer {
    // A caller that is gone does not end the function.
    let _ = stream.send(Piece::Head(head)).await;
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => {
                if let Ok(bytes) = frame.into_data()
                    && !bytes.is_empty()
                {
                    let _ = stream.send(Piece::Body(bytes)).await;
                }
            }
            Err(error) => return Answer::broken(&error),
        }
    }
    Answer { payload: Bytes::new(), function_error: None }
}

/// The whole body; its first piece is not copied if it is the only one.
async fn collect(mut body: HyperOutgoingBody) -> Result<Bytes, Answer> {
    let mut first = Bytes::new();
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(bytes) = frame.map_err(|error| Answer::broken(&error))?.into_data() else { continue };
        let size = first.len() + whole.len() + bytes.len();
        if size > MAX_ANSWER_BYTES {
            let message = format!(
                "Response payload size exceeded maximum allowed payload size ({MAX_ANSWER_BYTES} bytes)."
            );
            return Err(Answer::error("Function.ResponseSizeTooLarge", &message));
        }
        if first.is_empty() && whole.is_empty() {
            first = bytes;
        } else {
            whole.extend_from_slice(&std::mem::take(&mut first));
            whole.extend_from_slice(&bytes);
        }
    }
    Ok(if whole.is_empty() { first } else { whole.freeze() })
}

impl Answer {
    fn error(error_type: &str, message: &str) -> Self {
        Self { payload: error_payload(error_type, message), function_error: Some("Unhandled".to_owned()) }
    }

    fn broken(error: &wasmtime_wasi_http::Error) -> Self {
        Self::error("Runtime.BrokenResponse", &format!("The component did not finish its answer: {error}"))
    }
}
