//! The Lambda Runtime API (AWS Lambda developer guide, "Using the Lambda runtime API"), one server for each
//! instance, with the answers and states of AWS's runtime interface emulator.
//!
//! Invariant: at most one event is out at a time, and its answer is taken once.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use functions::InvokeRequest;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use tokio::sync::oneshot;

/// The largest answer: 6 MB and a little (AWS Lambda developer guide, "Lambda quotas").
const MAX_PAYLOAD_BYTES: usize = 6 * 1024 * 1024 + 100;

/// What a function answered to an event.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) payload: Bytes,
    pub(crate) function_error: Option<String>,
    /// From the handing out of the event to the answer.
    pub(crate) duration: Duration,
}

/// The meeting point of the host, which has events, and the function, which asks for them.
#[derive(Debug)]
pub(crate) struct Exchange {
    state: Mutex<State>,
    /// Told once when the function first asks for an event.
    ready: tokio::sync::watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct State {
    booted: bool,
    init_error: Option<Bytes>,
    queued: Option<Event>,
    waiter: Option<oneshot::Sender<Arc<InvokeRequest>>>,
    running: Option<Running>,
}

#[derive(Debug)]
struct Event {
    request: Arc<InvokeRequest>,
    reply: oneshot::Sender<Answer>,
}

#[derive(Debug)]
struct Running {
    id: String,
    since: Instant,
    reply: oneshot::Sender<Answer>,
}

impl Exchange {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), ready: tokio::sync::watch::channel(false).0 })
    }

    /// Waits until the function asks for its first event.
    pub(crate) async fn ready(&self) {
        // The sender lives as long as `self`.
        let _ = self.ready.subscribe().wait_for(|ready| *ready).await;
    }

    /// The error object that the function reported while it was loaded.
    pub(crate) fn init_error(&self) -> Option<Bytes> {
        self.lock().init_error.clone()
    }

    /// Hands out an event, at once or when the function asks; the answer comes from the receiver.
    pub(crate) fn hand_out(&self, request: InvokeRequest) -> oneshot::Receiver<Answer> {
        let (reply, answer) = oneshot::channel();
        let request = Arc::new(request);
        let mut state = self.lock();
        let taken = state.waiter.take().is_some_and(|waiter| waiter.send(request.clone()).is_ok());
        let event = Event { request, reply };
        if taken {
            state.run(event);
        } else {
            state.queued = Some(event);
        }
        answer
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn next(&self) -> Response<Full<Bytes>> {
        let waiting = {
            let mut state = self.lock();
            if state.running.is_some() {
                return wrong_state("Running", "Ready");
            }
            if !state.booted {
                state.booted = true;
                self.ready.send_replace(true);
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
    async fn answer(&self, id: &str, body: Incoming, error_type: Option<String>) -> Response<Full<Bytes>> {
        {
            let state = self.lock();
            match &state.running {
                None => return wrong_state("Ready", "InvocationResponse"),
                Some(running) if running.id != id => return refuse_id(),
                Some(_) => {}
            }
        }
        let (payload, function_error, response) = match read(body).await {
            Ok(Some(payload)) => match error_type {
                None => (payload, None, accepted()),
                Some(kind) => (error_object(payload, &kind), Some("Unhandled".to_owned()), accepted()),
            },
            Ok(None) => (
                error_payload(
                    "Function.ResponseSizeTooLarge",
                    &format!(
                        "Response payload size exceeded maximum allowed payload size ({MAX_PAYLOAD_BYTES} bytes)."
                    ),
                ),
                Some("Unhandled".to_owned()),
                refuse(
                    StatusCode::PAYLOAD_TOO_LARGE,
                    "RequestEntityTooLarge",
                    &format!("Exceeded maximum allowed payload size ({MAX_PAYLOAD_BYTES} bytes)."),
                ),
            ),
            Err(_) => {
                return refuse(
                    StatusCode::BAD_REQUEST,
                    "TruncatedHTTPRequest",
                    "HTTP request detected as truncated",
                );
            }
        };
        let mut state = self.lock();
        match state.running.take_if(|running| running.id == id) {
            Some(running) => {
                let duration = running.since.elapsed();
                // Whoever asked may have gone.
                let _ = running.reply.send(Answer { payload, function_error, duration });
                response
            }
            None => refuse_id(),
        }
    }

    async fn fail_init(&self, body: Incoming, error_type: String) -> Response<Full<Bytes>> {
        let Ok(Some(payload)) = read(body).await else {
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
        state.init_error = Some(error_object(payload, &error_type));
        accepted()
    }

    async fn route(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let error_type = |request: &Request<Incoming>| {
            let header = request.headers().get("lambda-runtime-function-error-type");
            header.and_then(|value| value.to_str().ok()).unwrap_or("Runtime.Unknown").to_owned()
        };
        let path = request.uri().path().to_owned();
        if path.starts_with("/2020-01-01/")
            || path.starts_with("/2020-08-15/")
            || path.starts_with("/2022-07-01/")
        {
            return refuse(
                StatusCode::FORBIDDEN,
                "ExtensionsNotSupported",
                "Lambda extensions and the Telemetry API are not supported here",
            );
        }
        let Some(rest) = path.strip_prefix("/2018-06-01/") else { return not_found() };
        if rest == "ping" && request.method() == Method::GET {
            return Response::new(Full::from("pong"));
        }
        let Some(rest) = rest.strip_prefix("runtime/") else { return not_found() };
        match (request.method(), rest.split_once('/')) {
            (&Method::GET, Some(("invocation", "next"))) => self.next().await,
            (&Method::POST, Some(("init", "error"))) => {
                let kind = error_type(&request);
                self.fail_init(request.into_body(), kind).await
            }
            (&Method::POST, Some(("invocation", rest))) => match rest.rsplit_once('/') {
                Some((id, "response")) => self.answer(id, request.into_body(), None).await,
                Some((id, "error")) => {
                    let kind = error_type(&request);
                    self.answer(id, request.into_body(), Some(kind)).await
                }
                _ => not_found(),
            },
            _ => not_found(),
        }
    }

    /// Serves one connection.
    pub(crate) async fn serve(self: Arc<Self>, stream: tokio::net::TcpStream) {
        // Events and answers are small and waited for.
        let _ = stream.set_nodelay(true);
        let service = hyper::service::service_fn(move |request| {
            let exchange = self.clone();
            async move { Ok::<_, Infallible>(exchange.route(request).await) }
        });
        let connection = hyper::server::conn::http1::Builder::new()
            .max_buf_size(1024 * 1024)
            .serve_connection(hyper_util::rt::TokioIo::new(stream), service);
        // A connection that breaks is the function's affair.
        let _ = connection.await;
    }
}

impl State {
    fn run(&mut self, event: Event) {
        let id = event.request.request_id.to_string();
        self.running = Some(Running { id, since: Instant::now(), reply: event.reply });
    }
}

/// Reads a body; `None` if it is too large, once it is over, so that the answer can be sent.
async fn read(mut body: Incoming) -> Result<Option<Bytes>, hyper::Error> {
    let mut whole = BytesMut::new();
    let mut first: Option<Bytes> = None;
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        length += data.len();
        if length > MAX_PAYLOAD_BYTES {
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
    Ok((length <= MAX_PAYLOAD_BYTES).then(|| first.unwrap_or_else(|| whole.freeze())))
}

fn invocation(request: &InvokeRequest) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(request.event.payload().clone()));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let mut put = |name: &'static str, value: String| {
        // Header values are bytes: text that is not ASCII passes as UTF-8.
        if let Ok(value) = HeaderValue::from_maybe_shared(Bytes::from(value)) {
            headers.insert(name, value);
        }
    };
    put("lambda-runtime-aws-request-id", request.request_id.to_string());
    put("lambda-runtime-deadline-ms", request.deadline.as_millisecond().to_string());
    put("lambda-runtime-invoked-function-arn", request.invoked_function_arn.clone());
    put("lambda-runtime-trace-id", request.trace.to_string());
    if let Some(context) = &request.client_context {
        put("lambda-runtime-client-context", context.clone());
    }
    response
}

fn accepted() -> Response<Full<Bytes>> {
    json(StatusCode::ACCEPTED, Bytes::from_static(b"{\"status\":\"OK\"}\n"))
}

fn not_found() -> Response<Full<Bytes>> {
    refuse(StatusCode::NOT_FOUND, "NotFound", "404 page not found")
}

fn refuse_id() -> Response<Full<Bytes>> {
    refuse(StatusCode::BAD_REQUEST, "InvalidRequestID", "Invalid request ID")
}

fn wrong_state(from: &str, to: &str) -> Response<Full<Bytes>> {
    let message = format!(
        "State transition from {from} to {to} failed for runtime. Error: State transition is not allowed"
    );
    refuse(StatusCode::FORBIDDEN, "InvalidStateTransition", &message)
}

fn refuse(status: StatusCode, kind: &str, message: &str) -> Response<Full<Bytes>> {
    json(status, error_payload(kind, message))
}

fn json(status: StatusCode, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The error object `{"errorMessage", "errorType"}`.
pub(crate) fn error_payload(kind: &str, message: &str) -> Bytes {
    serde_json::json!({ "errorMessage": message, "errorType": kind }).to_string().into()
}

/// What the function sent, if it is an error object; one made for it otherwise.
fn error_object(payload: Bytes, kind: &str) -> Bytes {
    match serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&payload) {
        Ok(_) => payload,
        Err(_) => error_payload(kind, &String::from_utf8_lossy(&payload)),
    }
}
