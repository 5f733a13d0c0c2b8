//! What is recorded.

use serde::{Deserialize, Serialize};
use types::{AccountId, RequestId, Timestamp, TraceHeader};

/// One line (or block) of a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEvent {
    /// When it was written.
    pub timestamp: Timestamp,
    /// Its text, without the final newline.
    pub message: String,
}

/// Events for one log stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLines {
    /// Whose.
    pub account: AccountId,
    /// The log group, such as `/aws/lambda/thumbnail`; made if it does not exist.
    pub group: String,
    /// The log stream, such as `2026/11/23/[$LATEST]0123456789abcdef0123456789abcdef`.
    pub stream: String,
    /// In order.
    pub events: Vec<LogEvent>,
}

/// How an invocation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Outcome {
    /// It answered.
    Success,
    /// The function reported an error, or its process died.
    Error,
    /// It ran out of time.
    Timeout,
    /// It ran out of memory.
    OutOfMemory,
}

/// One run of a function, as it is billed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Invocation {
    /// Whose.
    pub account: AccountId,
    /// The function's name.
    pub function: String,
    /// The version that ran, `$LATEST` or a number.
    pub version: String,
    /// The request's id; the same at each try of an asynchronous invocation.
    pub request_id: RequestId,
    /// Which try this was, from 0.
    pub attempt: u32,
    /// When it began to run.
    pub started_at: Timestamp,
    /// How long the handler ran, in microseconds.
    pub duration_us: u64,
    /// How long the environment took to get ready, in microseconds, if this run was a cold start.
    pub init_us: Option<u64>,
    /// What is paid for: whole milliseconds, rounded up, init included where Lambda includes it.
    pub billed_ms: u64,
    /// The memory that was configured, which is what is paid for.
    pub memory_mb: u32,
    /// The most memory that was used.
    pub max_memory_mb: u32,
    /// How it ended.
    pub outcome: Outcome,
    /// The trace it belongs to.
    pub trace: TraceHeader,
    /// Whether it was delivered at least once, and so may be recorded again under the same id and attempt after a
    /// crash: such are looked up before they are billed.
    #[serde(default = "always", skip_serializing)]
    pub redeliverable: bool,
}

/// Of rows from before there was a difference.
fn always() -> bool {
    true
}

/// One hop of a trace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Span {
    /// Whose.
    pub account: AccountId,
    /// The trace and the span above this one.
    pub trace: TraceHeader,
    /// This span's id, 16 hex digits.
    pub id: String,
    /// What it did, such as `s3 PutObject` or `invoke thumbnail`.
    pub name: String,
    /// When it began.
    pub started_at: Timestamp,
    /// How long it took, in microseconds.
    pub duration_us: u64,
    /// The error code it ended with, if it did.
    pub error: Option<String>,
}
