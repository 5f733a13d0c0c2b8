//! The one path by which everything runs: admit, place, run, record.
//!
//! The map: [`pools`] finds a [`function`], which knows its versions and has a [`pool`] for each that runs: the
//! instances and the queue. [`room`] and [`machine`] count what is shared, [`scaling`] and [`pattern`] say how fast
//! instances come and how long they stay; [`start`] makes them; [`run`] uses one and records it.

mod detached;
mod function;
mod lines;
mod machine;
mod once;
mod pattern;
mod pool;
mod pools;
mod room;
mod run;
mod running;
mod scaling;
mod start;

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use types::{AccountId, RequestId, TraceHeader};

use crate::Error;
use crate::name::{FunctionName, Version};
use crate::service::Inner;
use crate::{Event, ResponseStream};
use detached::Detached;
use function::Deployed;
use pool::{Lease, Placed, Pool, StartFailure};
use run::Run;

pub(crate) use function::{Known, MOST_QUALIFIERS};
pub(crate) use machine::Machine;
pub(crate) use once::Once;
pub(crate) use pools::Pools;
pub(crate) use running::{Next, Running};

/// How long an init takes before it is begun again under the function's own timeout.
const INIT_TIMEOUT: Duration = Duration::from_secs(10);

/// How often a request that waits for what is made once looks whether it is still being made, at most.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// One request to run a function, from any trigger. It was authorised before.
#[derive(Debug, Clone)]
pub struct Invocation {
    /// Whose function.
    pub account: AccountId,
    /// Which.
    pub function: FunctionName,
    /// The request's id.
    pub request_id: RequestId,
    /// The event.
    pub event: Event,
    /// Where the answer goes while it is written; without it, the answer is in the outcome.
    pub stream: Option<ResponseStream>,
    /// The client context, base64, as a client sends it.
    pub client_context: Option<String>,
    /// The key under which the caller wants it to run once, for functions that take one.
    pub idempotency_key: Option<String>,
    /// SHA-256 of what makes two events with one key the same, where the event tells more than that (its time).
    pub fingerprint: Option<[u8; 32]>,
    /// The trace it belongs to.
    pub trace: TraceHeader,
    /// Which try this is, from 0.
    pub attempt: u32,
    /// Whether it is delivered at least once: after a crash the same try may come again, and is billed once.
    pub redeliverable: bool,
    /// How long it may wait for an instance; by default what the node's configuration says.
    pub queue_timeout: Option<Duration>,
    /// Whether the end of the log is wanted in the outcome.
    pub log_tail: bool,
}

/// What a function answered.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The answer, or the error object, JSON.
    pub payload: Bytes,
    /// `Unhandled` or `Handled` if it failed.
    pub function_error: Option<String>,
    /// The version that ran.
    pub executed_version: Version,
    /// The last 4 KB of its log, if that was asked for.
    pub log_tail: Option<Vec<u8>>,
    /// It did not run for this request: an earlier one with the same idempotency key did.
    pub repeated: bool,
}

/// What an invocation runs: an alias that shares its invocations out is asked once.
#[derive(Debug)]
pub(crate) struct Chosen {
    pool: Arc<Pool>,
    deployed: Arc<Deployed>,
    may_recur: bool,
}

impl Chosen {
    /// The version.
    pub(crate) fn version(&self) -> Version {
        self.deployed.version
    }

    /// The runtime's identifier.
    pub(crate) fn runtime(&self) -> &str {
        &self.deployed.row.runtime
    }
}

impl Inner {
    /// Runs a function.
    pub(crate) async fn invoke(self: &Arc<Self>, invocation: Invocation) -> Result<Outcome, Error> {
        let chosen = self.choose(invocation.account, &invocation.function).await?;
        self.invoke_chosen(chosen, invocation).await
    }

    /// What an invocation of this name runs.
    pub(crate) async fn choose(
        self: &Arc<Self>,
        account: AccountId,
        name: &FunctionName,
    ) -> Result<Chosen, Error> {
        if self.is_draining() {
            return Err(Error::ShuttingDown);
        }
        let function = self.function(account, &name.name).await?;
        let known = self.known(&function).await?;
        let version = known.version(name.qualifier.as_deref(), || self.dice())?;
        let (pool, deployed) = self.deployed(&function, &known, version).await?;
        Ok(Chosen { pool, deployed, may_recur: known.row.allow_recursion })
    }

    /// Runs what was chosen.
    pub(crate) async fn invoke_chosen(
        self: &Arc<Self>,
        chosen: Chosen,
        mut invocation: Invocation,
    ) -> Result<Outcome, Error> {
        let Chosen { pool, deployed, may_recur } = chosen;
        let (trace, times) = invocation.trace.through(&deployed.arn);
        if times > self.config.recursion_limit && !may_recur {
            tracing::warn!(function = %deployed.arn, times, "a function that causes itself was stopped");
            return Err(Error::Recursion);
        }
        invocation.trace = trace;
        if let Some((source, window)) = &deployed.extras.idempotency
            && let Some(key) = once::key(source, &invocation)
        {
            let window = *window;
            return self.once(pool, deployed, invocation, key, window).await;
        }
        self.invoke_at(pool, deployed, invocation, None).await
    }

    /// Runs a version of a function on an instance of its pool.
    async fn invoke_at(
        self: &Arc<Self>,
        pool: Arc<Pool>,
        deployed: Arc<Deployed>,
        invocation: Invocation,
        idempotency: Option<String>,
    ) -> Result<Outcome, Error> {
        let mut run = Run {
            request_id: invocation.request_id,
            client_context: invocation.client_context.as_deref().map(client_context).transpose()?,
            invoked_arn: match &invocation.function.qualifier {
                Some(qualifier) => format!("{}:{qualifier}", deployed.arn),
                None => deployed.arn.as_ref().to_owned(),
            },
            event: invocation.event,
            stream: invocation.stream,
            trace: invocation.trace,
            attempt: invocation.attempt,
            redeliverable: invocation.redeliverable,
            log_tail: invocation.log_tail,
            idempotency,
            tries: 0,
        };
        loop {
            let lease = self.place(&pool, &deployed, invocation.queue_timeout).await?;
            let ran = match lease {
                Ok(lease) => Detached::new(self.clone().run(lease, run)).await,
                Err(StartFailure::Init(failure)) => {
                    Ok(Detached::new(self.clone().init_failed(run, *failure)).await)
                }
                Err(StartFailure::Other(error)) => return Err(error),
            };
            match ran {
                Ok(outcome) => return Ok(outcome),
                Err(untaken) => run = *untaken,
            }
        }
    }

    /// An instance, as soon as there is one.
    async fn place(
        self: &Arc<Self>,
        pool: &Arc<Pool>,
        deployed: &Arc<Deployed>,
        queue_timeout: Option<Duration>,
    ) -> Result<Result<Lease, StartFailure>, Error> {
        let mut receiver = match pool.place(self, deployed).map_err(Error::Throttled)? {
            Placed::Ready(lease) => return Ok(Ok(lease)),
            Placed::Queued(receiver) => receiver,
        };
        let limit = Duration::from_millis(self.config.queue_timeout_ms);
        // Whoever says how long it waits comes again by itself.
        let waits_on = queue_timeout.is_none();
        let mut patience = queue_timeout.unwrap_or(limit);
        // As long as the slowest init takes that does not fail.
        let slowest = limit + INIT_TIMEOUT + Duration::from_secs(u64::from(deployed.row.timeout_s));
        let began = self.env.monotonic();
        let waited = loop {
            tokio::select! {
                biased;
                answer = &mut receiver => break answer.ok(),
                () = self.env.sleep(patience) => {
                    let row = &deployed.row;
                    let (runtime, handler, code) = (&row.runtime, &row.handler, &row.code.sha256);
                    let gets_ready = || self.env.monotonic() - began < slowest && pool.is_starting();
                    if waits_on && (self.runtime.is_being_set_up(runtime, handler, code) || gets_ready()) {
                        patience = patience.max(LOOK_AGAIN);
                        continue;
                    }
                    receiver.close();
                    break receiver.try_recv().ok();
                }
            }
        };
        waited.ok_or_else(|| Error::Throttled(pool.gave_up(deployed)))
    }

    /// A number from 0 to 1.
    fn dice(&self) -> f64 {
        let mut bytes = [0; 4];
        self.env.fill(&mut bytes);
        f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX)
    }
}

/// Decodes a client context: base64 of a JSON object.
pub(crate) fn client_context(text: &str) -> Result<String, Error> {
    let invalid = || Error::ClientContext("a valid Base64-encoded JSON object");
    let bytes = STANDARD.decode(text).map_err(|_| invalid())?;
    let json = String::from_utf8(bytes).map_err(|_| invalid())?;
    let object: serde_json::Value = serde_json::from_str(&json).map_err(|_| invalid())?;
    object.is_object().then_some(json).ok_or_else(invalid)
}

/// Takes a lock that is held for a few moves only.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no holder of this lock panics")
}
