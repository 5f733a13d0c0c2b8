//! Events as HTTP requests: those that are HTTP as they are, others as CloudEvents (CloudEvents 1.0, "HTTP Protocol
//! Binding", binary content mode).

use bytes::Bytes;
use functions::{Event, InvokeRequest};
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderName, HeaderValue, Method, Request};
use serde::Deserialize;

use crate::api::error_payload;

/// The host by which functions are called with events.
const EVENT_HOST: HeaderValue = HeaderValue::from_static("hawker.internal");

/// What an event's payload says of itself: as EventBridge, S3, SQS, SNS and DynamoDB write it.
#[derive(Debug, Default, Deserialize)]
struct Shape<'a> {
    #[serde(borrow, default, rename = "detail-type")]
    detail_type: Option<std::borrow::Cow<'a, str>>,
    #[serde(borrow, default)]
    source: Option<std::borrow::Cow<'a, str>>,
    #[serde(borrow, default, rename = "Records")]
    records: Vec<Record<'a>>,
}

#[derive(Debug, Deserialize)]
struct Record<'a> {
    #[serde(borrow, default, alias = "EventSource", rename = "eventSource")]
    source: Option<std::borrow::Cow<'a, str>>,
    #[serde(borrow, default, alias = "EventSubscriptionArn", rename = "eventSourceARN")]
    source_arn: Option<std::borrow::Cow<'a, str>>,
    #[serde(borrow, default, rename = "eventName")]
    name: Option<std::borrow::Cow<'a, str>>,
    #[serde(borrow, default)]
    s3: Option<S3Entity<'a>>,
}

#[derive(Debug, Deserialize)]
struct S3Entity<'a> {
    #[serde(borrow)]
    bucket: S3Bucket<'a>,
}

#[derive(Debug, Deserialize)]
struct S3Bucket<'a> {
    #[serde(borrow)]
    arn: std::borrow::Cow<'a, str>,
}

/// The request that the component gets.
pub(super) fn request(invocation: &InvokeRequest) -> Request<Bytes> {
    match &invocation.event {
        Event::Http(request) => {
            let mut request = Request::clone(request);
            if request.uri().authority().is_none() {
                // A request needs an authority, which a client of HTTP/1.0 may leave out.
                request.headers_mut().entry(HOST).or_insert(EVENT_HOST);
            }
            // As any hop does: below the client's span there is ours.
            let parent = invocation.trace.to_w3c().and_then(|parent| HeaderValue::try_from(parent).ok());
            if let Some(parent) = parent {
                request.headers_mut().insert(HeaderName::from_static("traceparent"), parent);
            }
            request
        }
        Event::Json(payload) => cloud_event(invocation, payload.clone()),
    }
}

fn cloud_event(invocation: &InvokeRequest, payload: Bytes) -> Request<Bytes> {
    // Objects only: others say nothing of themselves.
    let shape = if payload.first() == Some(&b'{') {
        serde_json::from_slice::<Shape<'_>>(&payload).unwrap_or_default()
    } else {
        Shape::default()
    };
    let (source, kind) = describe(&shape, &invocation.invoked_function_arn);
    let mut request = Request::new(Bytes::new());
    *request.method_mut() = Method::POST;
    let headers = request.headers_mut();
    headers.reserve(12);
    headers.insert(HOST, EVENT_HOST);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(HeaderName::from_static("ce-specversion"), HeaderValue::from_static("1.0"));
    let mut put = |name: &'static str, value: &str| {
        // The binding wants what is not printable ASCII percent-encoded.
        let value = HeaderValue::try_from(value).or_else(|_| HeaderValue::try_from(percent_encoded(value)));
        if let Ok(value) = value {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    put("ce-id", &invocation.request_id.to_string());
    put("ce-source", &source);
    put("ce-type", &kind);
    put("ce-time", &now(invocation));
    put("lambda-runtime-aws-request-id", &invocation.request_id.to_string());
    put("lambda-runtime-deadline-ms", &invocation.deadline.as_millisecond().to_string());
    put("lambda-runtime-invoked-function-arn", &invocation.invoked_function_arn);
    put("x-amzn-trace-id", &invocation.trace.to_string());
    if let Some(parent) = invocation.trace.to_w3c() {
        put("traceparent", &parent);
    }
    if let Some(context) = &invocation.client_context {
        put("lambda-runtime-client-context", context);
    }
    *request.body_mut() = payload;
    request
}

/// When the invocation began: what is left of its time is told beside its deadline.
fn now(invocation: &InvokeRequest) -> String {
    let began = invocation.deadline.as_millisecond()
        - i64::try_from(invocation.timeout.as_millis()).unwrap_or_default();
    types::Timestamp::from_millisecond(began).unwrap_or(invocation.deadline).to_string()
}

/// Source and type of an event.
fn describe(shape: &Shape<'_>, function_arn: &str) -> (String, String) {
    if let (Some(source), Some(kind)) = (&shape.source, &shape.detail_type) {
        return (source.clone().into_owned(), kind.clone().into_owned());
    }
    let first = shape.records.first();
    if let Some((record, service)) = first.and_then(|record| Some((record, record.source.as_deref()?))) {
        let arn = record.s3.as_ref().map(|s3| &s3.bucket.arn).or(record.source_arn.as_ref());
        let source = arn.map_or(service, |arn| arn).to_owned();
        let service = service.strip_prefix("aws:").unwrap_or(service);
        let kind = match &record.name {
            Some(name) => format!("com.amazonaws.{service}.{name}"),
            None => format!("com.amazonaws.{service}"),
        };
        return (source, kind);
    }
    (function_arn.to_owned(), "hawker.invoke".to_owned())
}

fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// The answer to an event: the body as JSON, or what went wrong.
pub(super) fn answer(status: http::StatusCode, body: Bytes) -> Result<Bytes, Bytes> {
    if status.is_success() {
        return Ok(json(body));
    }
    #[derive(Deserialize)]
    struct ErrorObject {
        #[serde(rename = "errorMessage")]
        _message: serde::de::IgnoredAny,
    }
    if serde_json::from_slice::<ErrorObject>(&body).is_ok() {
        return Err(body);
    }
    let text = String::from_utf8_lossy(&body);
    let message =
        if text.trim().is_empty() { status.canonical_reason().unwrap_or("no reason") } else { &text };
    Err(error_payload(&format!("Http.{}", status.as_u16()), message))
}

/// A body as JSON: as it is if it is that, else as a string; nothing as null.
fn json(body: Bytes) -> Bytes {
    if body.is_empty() {
        return Bytes::from_static(b"null");
    }
    if serde_json::from_slice::<serde::de::IgnoredAny>(&body).is_ok() {
        return body;
    }
    serde_json::Value::from(String::from_utf8_lossy(&body)).to_string().into()
}

/// An HTTP answer as JSON, for a caller that does not take HTTP: in the form in which functions give one to a
/// function URL (AWS Lambda developer guide, "Response payload format").
pub(super) fn http_as_json(head: &http::response::Parts, body: &Bytes) -> Bytes {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    let mut headers = serde_json::Map::new();
    let mut cookies = Vec::new();
    for (name, value) in &head.headers {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        if *name == http::header::SET_COOKIE {
            cookies.push(value);
            continue;
        }
        match headers.get_mut(name.as_str()) {
            Some(serde_json::Value::String(all)) => {
                all.push(',');
                all.push_str(&value);
            }
            Some(_) | None => {
                headers.insert(name.as_str().to_owned(), value.into());
            }
        }
    }
    let (text, is_base64) = match std::str::from_utf8(body) {
        Ok(text) => (text.to_owned(), false),
        Err(_) => (STANDARD.encode(body), true),
    };
    serde_json::json!({
        "statusCode": head.status.as_u16(),
        "headers": headers,
        "cookies": cookies,
        "body": text,
        "isBase64Encoded": is_base64,
    })
    .to_string()
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(payload: &str) -> (String, String) {
        let shape: Shape<'_> = serde_json::from_str(payload).unwrap_or_default();
        describe(&shape, "arn:f")
    }

    #[test]
    fn events_are_known_by_what_they_say() {
        let pair = |source: &str, kind: &str| (source.to_owned(), kind.to_owned());
        assert_eq!(described(r#"{"a": 1}"#), pair("arn:f", "hawker.invoke"));
        assert_eq!(described(r#"{"Records": 1}"#), pair("arn:f", "hawker.invoke"));
        assert_eq!(
            described(r#"{"source": "my.shop", "detail-type": "Order \"placed\"", "detail": {}}"#),
            pair("my.shop", "Order \"placed\"")
        );
        assert_eq!(
            described(
                r#"{"Records": [{"eventSource": "aws:s3", "eventName": "ObjectCreated:Put",
                    "s3": {"bucket": {"name": "b", "arn": "arn:aws:s3:::b"}}}]}"#
            ),
            pair("arn:aws:s3:::b", "com.amazonaws.s3.ObjectCreated:Put")
        );
        assert_eq!(
            described(r#"{"Records": [{"eventSource": "aws:sqs", "eventSourceARN": "arn:q", "body": "x"}]}"#),
            pair("arn:q", "com.amazonaws.sqs")
        );
        assert_eq!(
            described(
                r#"{"Records": [{"EventSource": "aws:sns", "EventSubscriptionArn": "arn:t:1", "Sns": {}}]}"#
            ),
            pair("arn:t:1", "com.amazonaws.sns")
        );
    }

    #[test]
    fn answers_are_json_and_errors_are_objects() {
        let ok = |body: &'static str| answer(http::StatusCode::OK, body.into()).unwrap();
        assert_eq!(ok(r#"{"a": 1}"#), r#"{"a": 1}"#);
        assert_eq!(ok("plain \"text\""), r#""plain \"text\"""#);
        assert_eq!(ok(""), "null");
        let bad = |body: &'static str| answer(http::StatusCode::IM_A_TEAPOT, body.into()).unwrap_err();
        assert_eq!(
            bad(r#"{"errorMessage": "m", "errorType": "T"}"#),
            r#"{"errorMessage": "m", "errorType": "T"}"#
        );
        assert_eq!(bad("short"), r#"{"errorMessage":"short","errorType":"Http.418"}"#);
        assert_eq!(bad(""), r#"{"errorMessage":"I'm a teapot","errorType":"Http.418"}"#);
    }

    #[test]
    fn names_outside_of_ascii_fit_into_headers() {
        assert_eq!(percent_encoded("grün 5%"), "gr%C3%BCn 5%25");
    }
}
