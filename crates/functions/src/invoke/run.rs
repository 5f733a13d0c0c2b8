//! One run on one instance, and the record of it.
//!
//! Billing: whole milliseconds of the run, rounded up; the first run on an instance pays for its init as well
//! (AWS Lambda billing since August 2025 includes the INIT phase for every runtime).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use telemetry::{Invocation as Record, LogEvent, LogLines, Outcome as Ending, Span};
use types::{RequestId, Timestamp, TraceHeader};

use super::function::Deployed;
use super::lines::{Report, iso};
use super::pool::{InitFailure, Lease};
use super::start::{error_type, log_format};
use super::{Outcome, lines};
use crate::service::Inner;
use crate::{Event, InvokeRequest, InvokeResult, ResponseStream, RunError};

/// Largest answer of a function, in bytes.
const ANSWER_LIMIT: usize = 6_291_556;

/// Instances that may end before they take a request, of which none then is to blame.
const MOST_TRIES: u32 = 3;

/// What is run.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) request_id: RequestId,
    pub(super) event: Event,
    pub(super) stream: Option<ResponseStream>,
    pub(super) client_context: Option<String>,
    pub(super) invoked_arn: String,
    pub(super) trace: TraceHeader,
    pub(super) attempt: u32,
    pub(super) redeliverable: bool,
    pub(super) log_tail: bool,
    /// The key under which it runs once.
    pub(super) idempotency: Option<String>,
    /// Instances that ended before they took it.
    pub(super) tries: u32,
}

/// How a run went, before it is told to anybody.
struct Ended {
    ending: Ending,
    payload: Bytes,
    function_error: Option<String>,
    /// Set where the platform says that it failed.
    error_type: Option<String>,
    /// What the platform adds to the log.
    line: Option<String>,
    /// What is in the log already and belongs to the invocation: of an init that failed.
    before: Vec<LogEvent>,
    logs: Vec<LogEvent>,
    duration: Duration,
    init: Option<Duration>,
    max_memory_bytes: u64,
}

impl Inner {
    /// Runs it to its end, gives the instance back, records, answers. What the instance did not take comes back.
    pub(super) async fn run(self: Arc<Self>, mut lease: Lease, mut run: Run) -> Result<Outcome, Box<Run>> {
        let live = lease.live();
        let deployed = live.deployed.clone();
        let log_stream = live.log_stream.clone();
        let init = live.init.take();
        let span = self.span_id();
        let started_at = self.env.now();
        let timeout = Duration::from_secs(u64::from(deployed.row.timeout_s));
        if deployed.row.tracing == "Active" {
            run.trace = run.trace.decided();
        }
        let request = InvokeRequest {
            request_id: run.request_id,
            event: std::mem::replace(&mut run.event, Event::Json(Bytes::new())),
            stream: run.stream.take(),
            deadline: started_at + timeout,
            timeout,
            invoked_function_arn: run.invoked_arn.clone(),
            trace: run.trace.child(span.clone()),
            client_context: run.client_context.clone(),
        };
        let result = live.instance.invoke(request).await;
        let ended = match result {
            Ok(result) if live.instance.is_settling() => {
                return Ok(self.settle(lease, run, answered(result, init), started_at, span).await);
            }
            Ok(result) => {
                drop(lease);
                answered(result, init)
            }
            Err(RunError::NotTaken { request, error }) if run.tries < MOST_TRIES => {
                run.tries += 1;
                tracing::debug!(request = %run.request_id, %error, "an instance ended before it took a request");
                lease.lost();
                self.keep_logs(&deployed, log_stream, *error).await;
                (run.event, run.stream) = (request.event, request.stream);
                return Err(Box::new(run));
            }
            Err(error) => {
                lease.lost();
                failed(error, init, run.request_id, timeout, self.env.now())
            }
        };
        Ok(self.record(&deployed, log_stream, started_at, span, run, ended).await)
    }

    /// What an instance wrote for no invocation is in its log all the same.
    async fn keep_logs(&self, deployed: &Deployed, stream: String, error: RunError) {
        let (RunError::Exited { logs: events, .. } | RunError::Timeout { logs: events, .. }) = error else {
            return;
        };
        if !events.is_empty() {
            let (account, group) = (deployed.account, deployed.row.log_group.clone());
            self.telemetry.log(LogLines { account, group, stream, events }).await;
        }
    }

    /// Answers while extensions still work on the event; what they take belongs to the invocation, so the record
    /// waits for them, and so does the instance's next event.
    async fn settle(
        self: Arc<Self>,
        mut lease: Lease,
        run: Run,
        mut ended: Ended,
        started_at: Timestamp,
        span: String,
    ) -> Outcome {
        let deployed = lease.live().deployed.clone();
        let log_stream = lease.live().log_stream.clone();
        let (answer, answered) = tokio::sync::oneshot::channel();
        let early = (!run.log_tail).then(|| Outcome {
            payload: ended.payload.clone(),
            function_error: ended.function_error.clone(),
            executed_version: deployed.version,
            log_tail: None,
            repeated: false,
        });
        let work = async move {
            match lease.live().instance.settle().await {
                Ok(more) => {
                    ended.duration += more;
                    drop(lease);
                }
                // The answer stands; the instance does not.
                Err(error) => {
                    tracing::debug!(%error, "an instance ended while its extensions worked");
                    lease.lost();
                }
            }
            let outcome = self.record(&deployed, log_stream, started_at, span, run, ended).await;
            // Whoever asked may have been answered already.
            let _ = answer.send(outcome);
        };
        match early {
            Some(outcome) => {
                tokio::spawn(work);
                outcome
            }
            None => {
                work.await;
                answered.await.expect("it was sent just now")
            }
        }
    }

    /// The outcome of a request whose instance failed to start through the function's own fault.
    pub(super) async fn init_failed(self: Arc<Self>, run: Run, failure: InitFailure) -> Outcome {
        let InitFailure { deployed, log_stream, payload, reported, duration, out_of_memory, events } =
            failure;
        let started_at = self.env.now();
        let reported_type = error_type(&payload, out_of_memory);
        let ended = Ended {
            ending: if out_of_memory { Ending::OutOfMemory } else { Ending::Error },
            function_error: Some("Unhandled".to_owned()),
            payload,
            error_type: Some(reported_type),
            line: None,
            before: events,
            logs: Vec::new(),
            duration: Duration::ZERO,
            init: Some(duration),
            max_memory_bytes: 0,
        };
        let ended = if reported { ended } else { without_a_word(ended, run.request_id, started_at) };
        let span = self.span_id();
        self.record(&deployed, log_stream, started_at, span, run, ended).await
    }

    fn span_id(&self) -> String {
        let mut id = [0; 8];
        self.env.fill(&mut id);
        hex::encode(id)
    }

    async fn record(
        &self,
        deployed: &Deployed,
        stream: String,
        started_at: Timestamp,
        span: String,
        run: Run,
        ended: Ended,
    ) -> Outcome {
        let (account, row, request_id) = (deployed.account, &deployed.row, run.request_id);
        let (format, version) = (log_format(&row.logging), deployed.version);
        let billed_ms = whole_ms(ended.duration + ended.init.unwrap_or_default());
        let max_memory_mb = u32::try_from(ended.max_memory_bytes.div_ceil(1 << 20)).unwrap_or(u32::MAX);
        let report = Report {
            request_id,
            duration: ended.duration,
            billed_ms,
            memory_mb: row.memory_mb,
            max_memory_mb,
            init: ended.init,
            outcome: ended.ending,
            error_type: ended.error_type.as_deref(),
            trace: (row.tracing == "Active").then_some((&run.trace, span.as_str())),
            idempotency: run.idempotency.as_deref(),
        };
        let now = self.env.now();
        let at = |timestamp, message| LogEvent { timestamp, message };
        let mut events = Vec::with_capacity(ended.logs.len() + 4);
        let start = lines::start(format, started_at, request_id, version);
        events.extend(start.map(|line| at(started_at, line)));
        events.extend(ended.logs);
        let last = [ended.line, lines::end(format, request_id), report.line(format, now)];
        events.extend(last.into_iter().flatten().map(|line| at(now, line)));
        let log_tail = run.log_tail.then(|| lines::tail(ended.before.iter().chain(&events)));

        let lines = LogLines { account, group: row.log_group.clone(), stream, events };
        let error = match ended.ending {
            Ending::Success => None,
            Ending::Error | Ending::Timeout | Ending::OutOfMemory => {
                Some(ended.error_type.clone().unwrap_or_else(|| error_type(&ended.payload, false)))
            }
        };
        let span = Span {
            account,
            trace: run.trace.clone(),
            id: span,
            name: format!("invoke {}", row.name),
            started_at,
            duration_us: micros(ended.duration),
            error,
        };
        let record = Record {
            account,
            function: row.name.clone(),
            version: version.to_string(),
            request_id,
            attempt: run.attempt,
            started_at,
            duration_us: micros(ended.duration),
            init_us: ended.init.map(micros),
            billed_ms,
            memory_mb: row.memory_mb,
            max_memory_mb,
            outcome: ended.ending,
            trace: run.trace,
            redeliverable: run.redeliverable,
        };
        self.telemetry.run(record, span, lines).await;
        Outcome {
            payload: ended.payload,
            function_error: ended.function_error,
            executed_version: version,
            log_tail,
            repeated: false,
        }
    }
}

fn answered(result: InvokeResult, init: Option<Duration>) -> Ended {
    let ended = Ended {
        ending: if result.function_error.is_some() { Ending::Error } else { Ending::Success },
        payload: result.payload,
        function_error: result.function_error,
        error_type: None,
        line: None,
        before: Vec::new(),
        logs: result.logs,
        duration: result.duration,
        init,
        max_memory_bytes: result.max_memory_bytes,
    };
    let size = ended.payload.len();
    if size <= ANSWER_LIMIT {
        return ended;
    }
    let message = format!(
        "Response payload size ({size} bytes) exceeded maximum allowed payload size ({ANSWER_LIMIT} bytes)."
    );
    Ended {
        ending: Ending::Error,
        payload: error_object("Function.ResponseSizeTooLarge", &message),
        function_error: Some("Unhandled".to_owned()),
        error_type: Some("Function.ResponseSizeTooLarge".to_owned()),
        ..ended
    }
}

fn failed(
    error: RunError,
    init: Option<Duration>,
    request_id: RequestId,
    timeout: Duration,
    now: Timestamp,
) -> Ended {
    match error {
        RunError::Timeout { logs, max_memory_bytes } => {
            let told = format!("Task timed out after {:.2} seconds", timeout.as_secs_f64());
            Ended {
                ending: Ending::Timeout,
                payload: error_object("Sandbox.Timedout", &format!("RequestId: {request_id} Error: {told}")),
                function_error: Some("Unhandled".to_owned()),
                error_type: Some("Sandbox.Timedout".to_owned()),
                line: Some(format!("{} {request_id} {told}", iso(now))),
                before: Vec::new(),
                logs,
                duration: timeout,
                init,
                max_memory_bytes,
            }
        }
        RunError::Exited { message, error_type, out_of_memory, duration, logs, max_memory_bytes } => {
            let told = format!("RequestId: {request_id} Error: {message}");
            let reported = if out_of_memory { "Runtime.OutOfMemory".to_owned() } else { error_type.clone() };
            Ended {
                ending: if out_of_memory { Ending::OutOfMemory } else { Ending::Error },
                payload: error_object(&error_type, &told),
                function_error: Some("Unhandled".to_owned()),
                line: Some(format!("{told}\n{error_type}")),
                error_type: Some(reported),
                before: Vec::new(),
                logs,
                duration,
                init,
                max_memory_bytes,
            }
        }
        RunError::NotTaken { error, .. } => failed(*error, init, request_id, timeout, now),
    }
}

/// An init that ended without saying why: the platform does, in the answer and in the log.
fn without_a_word(ended: Ended, request_id: RequestId, now: Timestamp) -> Ended {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Told {
        error_type: String,
        error_message: String,
    }
    let Ok(Told { error_type, error_message }) = serde_json::from_slice(&ended.payload) else { return ended };
    let told = format!("RequestId: {request_id} Error: {error_message}");
    let payload = error_object(&error_type, &told);
    if error_type == "Sandbox.Timedout" {
        let line = Some(format!("{} {request_id} {error_message}", iso(now)));
        return Ended { ending: Ending::Timeout, payload, line, ..ended };
    }
    Ended { payload, line: Some(format!("{told}\n{error_type}")), ..ended }
}

fn error_object(error_type: &str, message: &str) -> Bytes {
    json!({ "errorType": error_type, "errorMessage": message }).to_string().into()
}

fn whole_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros().div_ceil(1000)).unwrap_or(u64::MAX)
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
