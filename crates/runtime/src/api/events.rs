//! The events that extensions are told (AWS Lambda developer guide, "Using the Lambda Extensions API").

use bytes::Bytes;
use functions::InvokeRequest;
use serde_json::json;

/// Why an environment ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// It is not needed any more.
    Spindown,
    /// An event took too long.
    Timeout,
    /// Something in it failed.
    Failure,
}

impl Reason {
    fn as_str(self) -> &'static str {
        match self {
            Self::Spindown => "spindown",
            Self::Timeout => "timeout",
            Self::Failure => "failure",
        }
    }
}

pub(super) fn invoke(request: &InvokeRequest) -> Bytes {
    let event = json!({
        "eventType": "INVOKE",
        "deadlineMs": request.deadline.as_millisecond(),
        "requestId": request.request_id.to_string(),
        "invokedFunctionArn": request.invoked_function_arn,
        "tracing": { "type": "X-Amzn-Trace-Id", "value": request.trace.to_string() },
    });
    event.to_string().into()
}

pub(super) fn shutdown(reason: Reason, deadline_ms: i64) -> Bytes {
    let event = json!({
        "eventType": "SHUTDOWN",
        "shutdownReason": reason.as_str(),
        "deadlineMs": deadline_ms,
    });
    event.to_string().into()
}
