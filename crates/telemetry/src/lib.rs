//! What people look at afterwards: logs, invocations and what they cost, spans of traces.
//!
//! Everything is handed to [`Telemetry`], a cheap handle with a bounded buffer, and written in batches by
//! [`service::Service`]; the CloudWatch Logs API and the node's own pages read it from the store.
//!
//! Invariant: recording never fails a request; when the buffer is full the recorder waits.

mod record;

pub use record::{Invocation, LogEvent, LogLines, Outcome, Span};
