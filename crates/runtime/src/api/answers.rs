//! The answers of the APIs, worded as AWS's runtime interface emulator words them.

use bytes::Bytes;
use functions::InvokeRequest;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;

pub(super) type Answered = Response<Full<Bytes>>;

/// An event, for the runtime.
pub(super) fn invocation(request: &InvokeRequest) -> Answered {
    let mut response = json(StatusCode::OK, request.event.payload().clone());
    let headers = response.headers_mut();
    let mut put = |name: &'static str, value: String| {
        // Header values are bytes: text that is not ASCII passes as UTF-8.
        if let Ok(value) = HeaderValue::from_maybe_shared(Bytes::from(value)) {
            headers.insert(name, value);
        }
    };
    put("lambda-runtime-aws-request-id", request.request_id.to_string());
    put("lambda-runtime-deadline-ms", request.deadline.as_millisecond().to_string());
    put("lambda-runtime-invoked-function-arn", request.invoked_function_arn.clone());
    put("lambda-runtime-trace-id", request.trace.to_string());
    if let Some(parent) = request.trace.to_w3c() {
        put("traceparent", parent);
    }
    if let Some(context) = &request.client_context {
        put("lambda-runtime-client-context", context.clone());
    }
    response
}

pub(super) fn accepted() -> Answered {
    json(StatusCode::ACCEPTED, Bytes::from_static(b"{\"status\":\"OK\"}\n"))
}

pub(super) fn not_found() -> Answered {
    refuse(StatusCode::NOT_FOUND, "NotFound", "404 page not found")
}

pub(super) fn refuse_id() -> Answered {
    refuse(StatusCode::BAD_REQUEST, "InvalidRequestID", "Invalid request ID")
}

pub(super) fn wrong_state(from: &str, to: &str) -> Answered {
    let message = format!(
        "State transition from {from} to {to} failed for runtime. Error: State transition is not allowed"
    );
    refuse(StatusCode::FORBIDDEN, "InvalidStateTransition", &message)
}

/// What extensions are refused with: it is always 403.
pub(super) fn forbid(kind: &str, message: &str) -> Answered {
    refuse(StatusCode::FORBIDDEN, kind, message)
}

pub(super) fn refuse(status: StatusCode, kind: &str, message: &str) -> Answered {
    json(status, error_payload(kind, message))
}

pub(super) fn json(status: StatusCode, body: Bytes) -> Answered {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The error object `{"errorMessage", "errorType"}`.
pub(crate) fn error_payload(kind: &str, message: &str) -> Bytes {
    serde_json::json!({ "errorMessage": message, "errorType": kind }).to_string().into()
}

/// What the function sent, if it is an error object; one made for it otherwise.
pub(super) fn error_object(payload: Bytes, kind: &str) -> Bytes {
    match serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&payload) {
        Ok(_) => payload,
        Err(_) => error_payload(kind, &String::from_utf8_lossy(&payload)),
    }
}
