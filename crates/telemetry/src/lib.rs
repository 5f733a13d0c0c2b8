//! What people look at afterwards: logs, invocations and what they cost, spans of traces.
//!
//! Everything is handed to [`Telemetry`], a cheap handle with a bounded buffer, and written in batches by
//! [`Service`]; the CloudWatch Logs API ([`LogsApi`]) and the node's own pages (`native`) read it from the
//! store. `queue` is the buffer; `chunk` and `reader` know how log events are laid out, `packed` how the rest is;
//! `writer` is the one place that commits what a `plan` decides, `sweep` removes what has expired.
//!
//! Invariant: recording never fails a request; when the buffer is full the recorder waits.

mod chunk;
mod config;
mod error;
mod handle;
mod logs;
mod native;
mod packed;
mod plan;
mod queue;
mod reader;
mod record;
mod service;
mod sweep;
mod tables;
mod writer;

pub use config::{Config, Price};
pub use error::Error;
pub use handle::Telemetry;
pub use logs::LogsApi;
pub use record::{Invocation, LogEvent, LogLines, Outcome, Span};
pub use service::Service;
pub use tables::Usage;
