//! Calls to the other services, as the deploying caller, as on the wire.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aws::{Caller, Dispatch};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Method, Request};
use serde_json::Value as Json;
use sha2::{Digest, Sha256};
use types::{ErrorKind, SharedEnv, Timestamp, TraceHeader};

use crate::template::Pseudo;

/// How often a call is tried that fails in passing.
const TRIES: u32 = 5;

/// Calls on behalf of one stack operation.
pub(crate) struct Calls {
    pub(crate) dispatch: Arc<dyn Dispatch>,
    pub(crate) caller: Caller,
    pub(crate) trace: TraceHeader,
    pub(crate) env: SharedEnv,
    pub(crate) pseudo: Pseudo,
    /// When the step that they are made for began, also if that was before a crash.
    pub(crate) begun_at: Timestamp,
    /// True once a call of the step has changed something, or may have.
    pub(crate) changed: AtomicBool,
}

impl Calls {
    /// True if a time that Lambda answered is not before the step began; it is in milliseconds.
    pub(crate) fn since_begun(&self, time: &Json) -> bool {
        let at = time.as_str().and_then(|text| {
            jiff::fmt::strtime::parse("%Y-%m-%dT%H:%M:%S%.f%z", text)
                .and_then(|time| time.to_timestamp())
                .ok()
        });
        at.is_some_and(|at| at.as_millisecond() >= self.begun_at.as_millisecond())
    }

    /// The same of a time in seconds since the epoch, to the millisecond.
    pub(crate) fn since_begun_at(&self, seconds: f64) -> bool {
        (seconds * 1000.0).round() >= self.begun_at.as_millisecond() as f64
    }

    /// A call; what fails in passing is tried again.
    pub(crate) async fn send(
        &self,
        service: &str,
        method: Method,
        path: &str,
        headers: &[(&'static str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<Bytes, aws::Error> {
        let body = body.into();
        let looks = looks(&method, headers, &body);
        let mut wait = Duration::from_millis(100);
        for attempt in 1.. {
            let mut request = Request::builder().method(method.clone()).uri(path);
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let request = request.body(body.clone()).map_err(|e| aws::Error::internal(&e))?;
            let answer = self.dispatch.call(&self.caller, &self.trace, service, request).await;
            if !looks && answer.as_ref().map_or_else(|error| error.kind.is_retryable(), |_| true) {
                self.changed.store(true, Ordering::Relaxed);
            }
            match answer {
                Ok(response) => return Ok(response.into_body()),
                Err(error) if attempt < TRIES && passing(error.kind) => {
                    tracing::debug!(%error, service, attempt, "a stack's call failed; trying again");
                    self.env.sleep(wait).await;
                    wait *= 2;
                }
                Err(error) => return Err(error),
            }
        }
        unreachable!("the loop ends by returning")
    }

    /// A call of DynamoDB or CloudWatch Logs.
    pub(crate) async fn json(&self, service: &str, target: &str, body: &Json) -> Result<Json, aws::Error> {
        let content_type = "application/x-amz-json-1.0";
        let headers = [("x-amz-target", target), ("content-type", content_type)];
        parse(&self.send(service, Method::POST, "/", &headers, body.to_string()).await?)
    }

    /// A call of Lambda.
    pub(crate) async fn lambda(
        &self,
        method: Method,
        path: &str,
        body: Option<&Json>,
    ) -> Result<Json, aws::Error> {
        let body = body.map(Json::to_string).unwrap_or_default();
        let headers = [("content-type", "application/json")];
        parse(&self.send("lambda", method, path, &headers, body).await?)
    }

    /// A call of IAM; answers with the XML.
    pub(crate) async fn iam(&self, action: &str, form: &[(&str, &str)]) -> Result<Bytes, aws::Error> {
        let body = {
            let mut body = form_urlencoded::Serializer::new(String::new());
            body.append_pair("Action", action).append_pair("Version", "2010-05-08");
            for (name, value) in form {
                body.append_pair(name, value);
            }
            body.finish()
        };
        let headers = [("content-type", "application/x-www-form-urlencoded; charset=utf-8")];
        self.send("iam", Method::POST, "/", &headers, body).await
    }

    /// A call of S3, which wants digests of some documents.
    pub(crate) async fn s3(&self, method: Method, path: &str, body: String) -> Result<Bytes, aws::Error> {
        if body.is_empty() {
            return self.send("s3", method, path, &[], body).await;
        }
        let digest = STANDARD.encode(Sha256::digest(&body));
        let headers = [("content-type", "application/xml"), ("x-amz-checksum-sha256", digest.as_str())];
        self.send("s3", method, path, &headers, body).await
    }
}

/// True if a request changes nothing, whatever comes of it.
fn looks(method: &Method, headers: &[(&'static str, &str)], body: &[u8]) -> bool {
    let operation = headers.iter().find(|(name, _)| *name == "x-amz-target");
    let operation = operation.and_then(|(_, target)| target.split('.').next_back());
    let said = operation.map_or_else(|| body.strip_prefix(b"Action="), |name| Some(name.as_bytes()));
    [Method::GET, Method::HEAD].contains(method)
        || said.is_some_and(|name| [&b"Describe"[..], b"Get", b"List"].iter().any(|p| name.starts_with(p)))
}

fn passing(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Throttled | ErrorKind::Timeout | ErrorKind::Unavailable)
}

fn parse(bytes: &[u8]) -> Result<Json, aws::Error> {
    if bytes.is_empty() {
        return Ok(Json::Null);
    }
    serde_json::from_slice(bytes).map_err(|e| aws::Error::internal(&e))
}

/// One segment of a path, escaped.
pub(crate) fn segment(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20")
}
