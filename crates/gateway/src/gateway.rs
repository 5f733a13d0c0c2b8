//! The gateway: what it was made of, the services it knows, and how the node calls them in process.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use aws::sigv4::Verifier;
use aws::{Api, Authorizer, Caller, CredentialSource, Dispatch, Place, Signed};
use bytes::Bytes;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use types::{AccountId, ErrorKind, Region, RequestId, SharedEnv, TraceHeader};

use crate::io::Crowd;
use crate::live::Places;
use crate::{Config, Error, SpanSink};

/// Bytes in one permit of the memory for bodies.
pub(crate) const HELD_UNIT_BYTES: usize = 1024;

/// The largest answer that a call in process may have.
const MAX_DISPATCHED_BYTES: usize = 64 * 1024 * 1024;

/// What a gateway is made of.
#[derive(Debug)]
pub struct Options {
    /// Limits and names.
    pub config: Config,
    /// The node's region.
    pub region: Region,
    /// The account that requests without credentials act in.
    pub account: AccountId,
    /// Finds the keys that requests are signed with.
    pub credentials: Arc<dyn CredentialSource>,
    /// Decides what callers may do.
    pub authorizer: Arc<dyn Authorizer>,
    /// Time and randomness.
    pub env: SharedEnv,
    /// Where the hops of traces go, if anywhere.
    pub spans: Option<Arc<dyn SpanSink>>,
}

/// The pipeline of the node. Services are registered before it serves; it serves any number of listeners and
/// connections, and is the node's `aws::Dispatch`.
#[derive(Debug)]
pub struct Gateway {
    pub(crate) config: Config,
    pub(crate) region: Region,
    pub(crate) account: AccountId,
    pub(crate) credentials: Arc<dyn CredentialSource>,
    pub(crate) authorizer: Arc<dyn Authorizer>,
    pub(crate) env: SharedEnv,
    pub(crate) spans: Option<Arc<dyn SpanSink>>,
    pub(crate) verifier: Verifier,
    /// Replaced as a whole when a service is registered, so that looking one up takes no lock.
    pub(crate) apis: ArcSwap<HashMap<&'static str, Arc<dyn Api>>>,
    /// What is left of the memory for bodies, in units of [`HELD_UNIT_BYTES`].
    pub(crate) held: Arc<Semaphore>,
    /// Handlers that outlived their connection.
    pub(crate) detached: TaskTracker,
    /// All open connections.
    pub(crate) crowd: Arc<Crowd>,
    /// Open connections by function.
    pub(crate) functions: Mutex<HashMap<String, Connections>>,
    /// Scheme and authority by which clients reach this node, once it listens: for URLs in answers to the node's
    /// own calls.
    pub(crate) endpoint: OnceLock<Arc<str>>,
    /// Answers that go on.
    pub(crate) places: Places,
    /// Cancelled when they have to end.
    pub(crate) stopping: CancellationToken,
    state: AtomicU8,
}

/// The connections of one function.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    pub(crate) open: usize,
    /// Whether one was refused since the first was opened.
    pub(crate) refused: bool,
}

/// Where the node is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum State {
    Starting,
    Ready,
    Stopping,
}

impl Gateway {
    /// A gateway without services yet.
    pub fn new(options: Options) -> Arc<Self> {
        let Options { config, region, account, credentials, authorizer, env, spans } = options;
        let held = (config.max_held_body_bytes / HELD_UNIT_BYTES).clamp(1, Semaphore::MAX_PERMITS);
        Arc::new(Self {
            config,
            verifier: Verifier::new(region.clone()),
            region,
            account,
            credentials,
            authorizer,
            env,
            spans,
            apis: ArcSwap::default(),
            held: Arc::new(Semaphore::new(held)),
            detached: TaskTracker::new(),
            crowd: Arc::default(),
            functions: Mutex::new(HashMap::new()),
            endpoint: OnceLock::new(),
            places: Places::default(),
            stopping: CancellationToken::new(),
            state: AtomicU8::new(State::Starting as u8),
        })
    }

    /// Adds a service.
    pub fn register(&self, api: Arc<dyn Api>) -> Result<(), Error> {
        let name = api.signing_name();
        let before = self.apis.rcu(|apis| {
            let mut apis = HashMap::clone(apis);
            apis.entry(name).or_insert_with(|| api.clone());
            apis
        });
        if before.contains_key(name) { Err(Error::Registered(name)) } else { Ok(()) }
    }

    /// Lets go of the services: they hold the gateway, which they call each other through, and would keep each
    /// other, and the store, for ever. What comes in afterwards finds no service.
    pub fn unregister_all(&self) {
        self.apis.store(Arc::default());
    }

    /// Says whether the node is ready: `GET /_hawker/health` answers 200 once it is.
    pub fn set_ready(&self, ready: bool) {
        self.set_state(if ready { State::Ready } else { State::Starting });
    }

    pub(crate) fn set_state(&self, state: State) {
        self.state.store(state as u8, Ordering::Release);
    }

    pub(crate) fn state(&self) -> State {
        match self.state.load(Ordering::Acquire) {
            0 => State::Starting,
            1 => State::Ready,
            _ => State::Stopping,
        }
    }

    pub(crate) fn api(&self, signing_name: &str) -> Option<Arc<dyn Api>> {
        self.apis.load().get(signing_name).cloned()
    }
}

#[async_trait]
impl Dispatch for Gateway {
    async fn call(
        &self,
        caller: &Caller,
        trace: &TraceHeader,
        service: &str,
        request: http::Request<Bytes>,
    ) -> Result<http::Response<Bytes>, aws::Error> {
        let api = self.api(service).ok_or_else(|| no_service(service))?;
        let (mut head, body) = request.into_parts();
        if service == "s3" {
            // As it would be signed, were it sent.
            let at = Some(self.env.now());
            head.extensions.insert(Signed { version: 4, place: Place::Header, at, payload: None });
        }
        let context = aws::RequestContext {
            caller: caller.clone(),
            request_id: RequestId::new(&*self.env),
            trace: trace.clone(),
            region: self.region.clone(),
            received_at: self.env.now(),
            endpoint: self.endpoint.get().cloned().unwrap_or_else(|| "http://localhost".into()),
        };
        let request = aws::Request { head, body: aws::body::full(body), context };
        let mut operation = "";
        let response = self.carry_out(&*api, request, &mut operation).await?;
        if aws::live::is_live(&response) {
            let message = "An answer that goes on can not be had in process.";
            return Err(aws::Error::new(ErrorKind::Unsupported, "NotImplemented", message));
        }
        let (parts, body) = response.into_parts();
        let body = aws::body::collect(body, MAX_DISPATCHED_BYTES).await?;
        Ok(http::Response::from_parts(parts, body))
    }
}

pub(crate) fn no_service(name: &str) -> aws::Error {
    let message = format!("This node does not offer the service `{name}`.");
    aws::Error::new(ErrorKind::Unsupported, "NotImplemented", message)
}
