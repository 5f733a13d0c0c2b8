//! What is told of a request afterwards.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use aws::Caller;
use telemetry::{Span, Telemetry};
use types::{Env, RequestId, Timestamp, TraceHeader};

/// Where the hops of traces go.
#[async_trait]
pub trait SpanSink: Send + Sync + fmt::Debug {
    /// Keeps a span.
    async fn record(&self, span: Span);
}

#[async_trait]
impl SpanSink for Telemetry {
    async fn record(&self, span: Span) {
        self.span(span).await;
    }
}

/// A request as it goes through the pipeline: what is known of it so far.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) request_id: RequestId,
    pub(crate) received_at: Timestamp,
    pub(crate) began: Duration,
    /// The trace as it came.
    pub(crate) trace: TraceHeader,
    /// The id of this hop, unless its trace is not to be kept.
    pub(crate) span_id: Option<String>,
    /// Whether somebody follows the trace already.
    pub(crate) followed: bool,
    pub(crate) service: &'static str,
    pub(crate) operation: &'static str,
    pub(crate) caller: Option<Caller>,
}

impl Exchange {
    pub(crate) fn new(env: &dyn Env, given: Option<TraceHeader>, from_function: bool) -> Self {
        let followed = given.is_some() || from_function;
        let trace = given.unwrap_or_else(|| TraceHeader::new(env));
        let span_id = trace.sampled.then(|| {
            let mut id = [0; 8];
            env.fill(&mut id);
            format!("{:016x}", u64::from_be_bytes(id))
        });
        Self {
            request_id: RequestId::new(env),
            received_at: env.now(),
            began: env.monotonic(),
            trace,
            span_id,
            followed,
            service: "",
            operation: "",
            caller: None,
        }
    }

    /// The trace as the service sees it: below this hop.
    pub(crate) fn inner_trace(&self) -> TraceHeader {
        match &self.span_id {
            Some(id) => self.trace.child(id.clone()),
            None => self.trace.clone(),
        }
    }

    /// Tells what came of it; `traced` if it caused something that is traced.
    pub(crate) async fn record(
        self,
        env: &dyn Env,
        spans: Option<&dyn SpanSink>,
        status: u16,
        error: Option<&aws::Error>,
        traced: bool,
    ) {
        let duration = env.monotonic().saturating_sub(self.began);
        let duration_us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        if tracing::enabled!(tracing::Level::DEBUG) {
            let principal = self.caller.as_ref().map(|caller| caller.principal.arn());
            tracing::debug!(
                request_id = %self.request_id,
                service = self.service,
                operation = self.operation,
                principal,
                status,
                error = error.map(|error| &*error.code),
                duration_us,
                "request"
            );
        }
        if (self.followed || traced)
            && let (Some(spans), Some(id), Some(caller)) = (spans, self.span_id, self.caller)
        {
            let span = Span {
                account: caller.account,
                trace: self.trace,
                id,
                name: format!("{} {}", self.service, self.operation),
                started_at: self.received_at,
                duration_us,
                error: error.map(|error| error.code.to_string()),
            };
            spans.record(span).await;
        }
    }
}
