//! What a sandbox and its host say to each other over HTTP, one server for each instance: the Runtime API (AWS Lambda
//! developer guide, "Using the Lambda runtime API for custom runtimes"), the Extensions API and the Telemetry API,
//! with the answers and states of AWS's runtime interface emulator.
//!
//! Invariant: at most one event is out at a time, and its answer is taken once. Of what the sandbox can make the host
//! keep, everything has a limit.

mod answers;
mod body;
mod events;
mod extensions;
mod runtime;
mod subscribe;

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use functions::InvokeRequest;
use http::{Method, Request};
use hyper::body::Incoming;
use tokio::sync::{oneshot, watch};

use crate::telemetry_api::Telemetry;
pub(crate) use answers::error_payload;
use answers::{Answered, not_found};
pub(crate) use events::Reason;
use extensions::Extensions;
pub(crate) use extensions::Fault;

/// What a function answered to an event.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) payload: Bytes,
    pub(crate) function_error: Option<String>,
    /// From the handing out of the event to the answer.
    pub(crate) duration: Duration,
    /// From the handing out of the event to the beginning of the answer.
    pub(crate) latency: Duration,
    /// How long the answer was.
    pub(crate) bytes: u64,
}

/// What extensions are told of the function.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) account: String,
    pub(crate) function_name: String,
    pub(crate) version: String,
    pub(crate) handler: String,
}

/// The meeting point of the host, which has events, and the sandbox, which asks for them.
#[derive(Debug)]
pub(crate) struct Exchange {
    facts: Facts,
    state: Mutex<State>,
    /// Told of what somebody may wait for.
    changed: watch::Sender<()>,
    telemetry: Arc<Telemetry>,
}

#[derive(Debug, Default)]
struct State {
    booted: bool,
    init_error: Option<Bytes>,
    queued: Option<Event>,
    waiter: Option<oneshot::Sender<Arc<InvokeRequest>>>,
    running: Option<Running>,
    extensions: Extensions,
}

#[derive(Debug)]
struct Event {
    request: Arc<InvokeRequest>,
    reply: oneshot::Sender<Answer>,
}

#[derive(Debug)]
struct Running {
    id: String,
    request: Arc<InvokeRequest>,
    since: Instant,
    reply: oneshot::Sender<Answer>,
    stage: Stage,
}

/// How far the event that is out has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The function has it.
    Out,
    /// It is answering.
    Answering,
    /// It was, but the connection ended before the answer did.
    Truncated,
}

impl Exchange {
    /// An exchange with a sandbox that has external extensions of these names.
    pub(crate) fn new(facts: Facts, external: &[String], telemetry: Arc<Telemetry>) -> Arc<Self> {
        let state = State { extensions: Extensions::of(external), ..State::default() };
        Arc::new(Self { facts, state: Mutex::new(state), changed: watch::channel(()).0, telemetry })
    }

    /// Waits until the function and all extensions ask for their first event.
    pub(crate) async fn ready(&self) {
        self.until(|state| (state.booted && state.extensions.are_ready()).then_some(())).await;
    }

    /// Waits until the function asks for its first event.
    pub(crate) async fn booted(&self) {
        self.until(|state| state.booted.then_some(())).await;
    }

    /// Waits until all external extensions have registered.
    pub(crate) async fn extensions_registered(&self) {
        self.until(|state| state.extensions.are_registered().then_some(())).await;
    }

    /// Waits until an extension reports that it can not go on.
    pub(crate) async fn fault(&self) -> Fault {
        self.until(|state| state.extensions.fault()).await
    }

    /// Closes what is open during init only.
    pub(crate) fn close_registration(&self) {
        self.lock().extensions.close();
        self.telemetry.close();
    }

    /// The error object that the function reported while it was loaded.
    pub(crate) fn init_error(&self) -> Option<Bytes> {
        self.lock().init_error.clone()
    }

    /// True if there are extensions.
    pub(crate) fn has_extensions(&self) -> bool {
        !self.lock().extensions.is_empty()
    }

    /// True if there are external extensions that have not ended.
    pub(crate) fn has_external_extensions(&self) -> bool {
        self.lock().extensions.has_external()
    }

    /// True while an extension works on the last event.
    pub(crate) fn is_settling(&self) -> bool {
        !self.lock().extensions.are_ready()
    }

    /// Waits until none does.
    pub(crate) async fn settled(&self) {
        self.until(|state| state.extensions.are_ready().then_some(())).await;
    }

    /// Hands out an event, at once or when the function asks; the answer comes from the receiver.
    pub(crate) fn hand_out(&self, request: InvokeRequest) -> oneshot::Receiver<Answer> {
        let (reply, answer) = oneshot::channel();
        let request = Arc::new(request);
        let mut state = self.lock();
        state.extensions.invoke(&request);
        let taken = state.waiter.take().is_some_and(|waiter| waiter.send(request.clone()).is_ok());
        let event = Event { request, reply };
        if taken {
            state.run(event);
        } else {
            state.queued = Some(event);
        }
        answer
    }

    /// Takes back the event that the function has not asked for.
    pub(crate) fn take_back(&self) -> Option<InvokeRequest> {
        let event = self.lock().queued.take()?;
        Some(Arc::unwrap_or_clone(event.request))
    }

    /// Lets go of the event that is out: whoever reads its answer sees the end. A function that asks for the next one
    /// goes on waiting: it is to end by what it is sent.
    pub(crate) fn abandon(&self) {
        let mut state = self.lock();
        (state.queued, state.running) = (None, None);
    }

    /// Tells the extensions that want to know that it is over; the places of the external ones that do not.
    pub(crate) fn shut_down(&self, reason: Reason, deadline_ms: i64) -> Vec<usize> {
        self.lock().extensions.shut_down(reason, deadline_ms)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self) {
        self.changed.send_replace(());
    }

    /// Waits until there is what is looked for.
    async fn until<T>(&self, look: impl Fn(&State) -> Option<T>) -> T {
        let mut changes = self.changed.subscribe();
        loop {
            changes.mark_unchanged();
            let found = look(&self.lock());
            if let Some(found) = found {
                return found;
            }
            // The sender lives as long as `self`.
            let _ = changes.changed().await;
        }
    }

    async fn route(&self, request: Request<Incoming>) -> Answered {
        let path = request.uri().path().to_owned();
        if let Some(rest) = path.strip_prefix("/2018-06-01/") {
            return self.route_runtime(rest, request).await;
        }
        if let Some(rest) = path.strip_prefix("/2020-01-01/extension/") {
            return self.route_extension(rest, request).await;
        }
        match (request.method(), path.trim_end_matches('/')) {
            (&Method::PUT, "/2022-07-01/telemetry") => self.subscribe_telemetry(request).await,
            (&Method::PUT, "/2020-08-15/logs") => self.subscribe_logs(request).await,
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
        let Event { request, reply } = event;
        let id = request.request_id.to_string();
        self.running = Some(Running { id, request, since: Instant::now(), reply, stage: Stage::Out });
    }
}

/// The text of a header.
fn header<'a>(headers: &'a http::HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}
