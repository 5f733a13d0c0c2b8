//! One running instance: events in, answers out, until it ends.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use functions::{Instance, InvokeRequest, InvokeResult, RunError};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::api::{Answer, Exchange, Fault, Reason};
use crate::door::Door;
use crate::ending::exit_reason_of;
use crate::host::Sandbox;
use crate::logs::Logs;
use crate::telemetry_api::{InvokeStatus, Telemetry};

/// An instance in a sandbox of its own.
#[derive(Debug)]
pub(crate) struct ProcessInstance {
    pub(crate) sandbox: Sandbox,
    pub(crate) exchange: Arc<Exchange>,
    pub(crate) logs: Arc<Logs>,
    pub(crate) telemetry: Arc<Telemetry>,
    pub(crate) door: Arc<Door>,
    /// The names of the external extensions.
    pub(crate) extensions: Vec<String>,
    /// The servers of the sandbox's listeners: they end with the instance.
    _servers: Vec<AbortOnDropHandle<()>>,
    /// How long it took to get ready, until that was told once.
    init: Option<Duration>,
    last: Option<Last>,
}

/// The last event, as long as something of it is to be done.
#[derive(Debug)]
struct Last {
    request_id: String,
    status: InvokeStatus,
    began: Instant,
    deadline: Instant,
    answered: Instant,
}

impl ProcessInstance {
    pub(crate) fn new(
        sandbox: Sandbox,
        exchange: Arc<Exchange>,
        logs: Arc<Logs>,
        telemetry: Arc<Telemetry>,
        door: Arc<Door>,
        extensions: Vec<String>,
        servers: Vec<AbortOnDropHandle<()>>,
    ) -> Self {
        Self {
            sandbox,
            exchange,
            logs,
            telemetry,
            door,
            extensions,
            _servers: servers,
            init: None,
            last: None,
        }
    }

    /// Notes how long it took to get ready.
    pub(crate) fn set_init(&mut self, duration: Duration) {
        self.init = Some(duration);
    }

    /// Tells subscribers that all is done with the last event.
    pub(crate) fn report(&mut self) {
        let Some(last) = self.last.take() else { return };
        let init = self.init.take();
        if self.telemetry.is_silent() {
            return;
        }
        let duration = last.began.elapsed();
        let peak = self.sandbox.peak_bytes();
        self.telemetry.report(&last.request_id, last.status, duration, init, peak);
    }

    /// Ends it because something of it has ended, or says that it can not go on.
    async fn break_off(&mut self, fault: Option<Fault>, began: Instant) -> RunError {
        let duration = began.elapsed();
        let end = self.end(Reason::Failure).await;
        let (message, error_type) = match fault {
            Some(fault) => (fault.message, fault.kind),
            None => exit_reason_of(&end, &self.extensions),
        };
        RunError::Exited {
            message,
            error_type: error_type.to_owned(),
            out_of_memory: end.out_of_memory,
            duration,
            logs: self.logs.take(),
            max_memory_bytes: end.peak_bytes,
        }
    }

    async fn time_out(&mut self) -> RunError {
        let end = self.end(Reason::Timeout).await;
        RunError::Timeout { logs: self.logs.take(), max_memory_bytes: end.peak_bytes }
    }
}

#[async_trait]
impl Instance for ProcessInstance {
    async fn invoke(&mut self, request: InvokeRequest) -> Result<InvokeResult, RunError> {
        self.report();
        let began = Instant::now();
        if !self.sandbox.is_whole() {
            let error = self.break_off(None, began).await;
            return Err(RunError::NotTaken { request: Box::new(request), error: Box::new(error) });
        }
        let deadline = began + request.timeout;
        // Only for those who listen.
        let told = (!self.telemetry.is_silent()).then(|| request.request_id.to_string());
        self.telemetry.start(&request);
        self.sandbox.set_busy(true);
        let answer = self.exchange.hand_out(request);
        enum What {
            Answered(Answer),
            Broken(Option<Fault>),
            TimedOut,
        }
        let has_extensions = self.exchange.has_extensions();
        let what = tokio::select! {
            biased;
            Ok(answer) = answer => What::Answered(answer),
            fault = self.exchange.fault(), if has_extensions => What::Broken(Some(fault)),
            () = self.sandbox.broken() => What::Broken(None),
            () = tokio::time::sleep_until(deadline) => What::TimedOut,
        };
        self.sandbox.set_busy(false);
        let status = match &what {
            What::Answered(Answer { function_error: None, .. }) => InvokeStatus::Success,
            What::Answered(_) => InvokeStatus::Error,
            What::Broken(_) => InvokeStatus::Failure,
            What::TimedOut => InvokeStatus::Timeout,
        };
        if let Some(request_id) = told {
            let elapsed = began.elapsed();
            let (duration, latency, bytes) = match &what {
                What::Answered(answer) => (answer.duration, answer.latency, answer.bytes),
                What::Broken(_) | What::TimedOut => (elapsed, elapsed, 0),
            };
            self.telemetry.runtime_done(&request_id, status, duration, latency, bytes);
            self.last = Some(Last { request_id, status, began, deadline, answered: Instant::now() });
        } else if has_extensions {
            let request_id = String::new();
            self.last = Some(Last { request_id, status, began, deadline, answered: Instant::now() });
        }
        match what {
            What::Answered(answer) => {
                // What was written before the answer is in the pipe by now.
                let logs = self.logs.take();
                if !has_extensions {
                    self.report();
                }
                Ok(InvokeResult {
                    payload: answer.payload,
                    function_error: answer.function_error,
                    duration: answer.duration,
                    max_memory_bytes: self.sandbox.peak_bytes(),
                    logs,
                })
            }
            What::Broken(fault) => {
                let untaken = self.exchange.take_back();
                let error = self.break_off(fault, began).await;
                Err(match untaken {
                    Some(request) => {
                        RunError::NotTaken { request: Box::new(request), error: Box::new(error) }
                    }
                    None => error,
                })
            }
            What::TimedOut => Err(self.time_out().await),
        }
    }

    fn is_settling(&self) -> bool {
        self.exchange.is_settling()
    }

    async fn settle(&mut self) -> Result<Duration, RunError> {
        let Some(last) = &self.last else { return Ok(Duration::ZERO) };
        let (began, answered, deadline) = (last.began, last.answered, last.deadline);
        let settled = tokio::select! {
            biased;
            () = self.exchange.settled() => Ok(()),
            fault = self.exchange.fault() => Err(Some(Some(fault))),
            () = self.sandbox.broken() => Err(Some(None)),
            () = tokio::time::sleep_until(deadline) => Err(None),
        };
        match settled {
            Ok(()) => {
                self.report();
                Ok(answered.elapsed())
            }
            Err(Some(fault)) => Err(self.break_off(fault, began).await),
            Err(None) => Err(self.time_out().await),
        }
    }

    /// A function that has ended beside an extension that goes on is of no use.
    fn is_alive(&mut self) -> bool {
        self.sandbox.is_whole()
    }

    async fn stop(mut self: Box<Self>) {
        self.end(Reason::Spindown).await;
    }
}
