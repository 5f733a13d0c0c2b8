//! The one path by which everything runs: admit, place, run, record.
//!
//! The map: [`pools`] finds a function's [`pool`], which holds its instances and its queue; [`account`] and
//! [`machine`] count what is shared; [`start`] makes instances; [`run`] uses one and records it.

mod account;
mod deployed;
mod detached;
mod lines;
mod machine;
mod pool;
mod pools;
mod run;
mod start;

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use types::{AccountId, RequestId, TraceHeader};

use crate::Error;
use crate::name::FunctionName;
use crate::service::Inner;
use detached::Detached;
use pool::{Placed, StartFailure};
use run::Run;

pub(crate) use machine::Machine;
pub(crate) use pools::Pools;

/// One request to run a function, from any trigger. It was authorised before.
#[derive(Debug, Clone)]
pub struct Invocation {
    /// Whose function.
    pub account: AccountId,
    /// Which.
    pub function: FunctionName,
    /// The request's id.
    pub request_id: RequestId,
    /// The event, JSON.
    pub payload: Bytes,
    /// The client context, base64, as a client sends it.
    pub client_context: Option<String>,
    /// The trace it belongs to.
    pub trace: TraceHeader,
    /// Which try this is, from 0.
    pub attempt: u32,
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
    pub executed_version: &'static str,
    /// The last 4 KB of its log, if that was asked for.
    pub log_tail: Option<Vec<u8>>,
}

impl Inner {
    /// Runs a function.
    pub(crate) async fn invoke(self: &Arc<Self>, invocation: Invocation) -> Result<Outcome, Error> {
        let Invocation { account, function, .. } = &invocation;
        function.require_latest(*account, &self.region)?;
        if self.is_draining() {
            return Err(Error::ShuttingDown);
        }
        let pool = self.pool(*account, &function.name).await?;
        let deployed = self.deployed(&pool).await?;
        let run = Run {
            request_id: invocation.request_id,
            client_context: invocation.client_context.as_deref().map(client_context).transpose()?,
            invoked_arn: match &function.qualifier {
                Some(qualifier) => format!("{}:{qualifier}", deployed.arn),
                None => deployed.arn.clone(),
            },
            payload: invocation.payload,
            trace: invocation.trace,
            attempt: invocation.attempt,
            log_tail: invocation.log_tail,
        };
        let lease = match pool.place(self, &deployed).map_err(Error::Throttled)? {
            Placed::Ready(lease) => Ok(lease),
            Placed::Queued(mut receiver) => {
                let limit = Duration::from_millis(self.config.queue_timeout_ms);
                let patience = self.env.sleep(invocation.queue_timeout.unwrap_or(limit));
                let waited = tokio::select! {
                    biased;
                    answer = &mut receiver => answer.ok(),
                    () = patience => {
                        receiver.close();
                        receiver.try_recv().ok()
                    }
                };
                match waited {
                    Some(answer) => answer,
                    None => return Err(Error::Throttled(pool.gave_up(&deployed))),
                }
            }
        };
        drop(pool);
        match lease {
            Ok(lease) => Ok(Detached::new(self.clone().run(lease, run)).await),
            Err(StartFailure::Init { deployed, log_stream, payload, duration, out_of_memory }) => {
                let failed =
                    self.clone().init_failed(deployed, log_stream, run, payload, duration, out_of_memory);
                Ok(Detached::new(failed).await)
            }
            Err(StartFailure::Other(error)) => Err(error),
        }
    }
}

/// Decodes a client context: base64 of a JSON object.
pub(crate) fn client_context(text: &str) -> Result<String, Error> {
    let invalid = || Error::Content("the client context is not base64 of a JSON object".into());
    let bytes = STANDARD.decode(text).map_err(|_| invalid())?;
    let json = String::from_utf8(bytes).map_err(|_| invalid())?;
    let object: serde_json::Value = serde_json::from_str(&json).map_err(|_| invalid())?;
    object.is_object().then_some(json).ok_or_else(invalid)
}

/// Takes a lock that is held for a few moves only.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no holder of this lock panics")
}
