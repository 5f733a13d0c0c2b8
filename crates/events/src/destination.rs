//! Tells others of the end of an event (AWS Lambda developer guide, "Capturing records of Lambda
//! asynchronous invocations").
//!
//! Whatever is done here is done with the rights of the function's own role.

use aws::Caller;
use bytes::Bytes;
use functions::{AsyncSettings, Outcome, queue_request};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use store::Key;
use store::outbox::Delivery;
use types::{AccountId, Arn, RequestId, Timestamp, TraceHeader};

use crate::service::Shared;

/// Largest event of an asynchronous invocation, in bytes.
const EVENT_LIMIT: usize = 1_048_576;
/// What stays as it is in a path.
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/');

/// Why an event has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Condition {
    Success,
    RetriesExhausted,
    EventAgeExceeded,
}

impl Condition {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Success => "Success",
            Self::RetriesExhausted => "RetriesExhausted",
            Self::EventAgeExceeded => "EventAgeExceeded",
        }
    }
}

/// An event at its end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ended<'a> {
    pub(crate) account: AccountId,
    pub(crate) delivery: &'a Delivery,
    pub(crate) settings: &'a AsyncSettings,
    pub(crate) condition: Condition,
    pub(crate) attempts: u32,
    /// What the function answered last, if it was asked.
    pub(crate) outcome: Option<&'a Outcome>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct InvocationRecord<'a> {
    version: &'static str,
    timestamp: String,
    request_context: RequestContext<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_payload: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_context: Option<ResponseContext<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_payload: Option<&'a RawValue>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RequestContext<'a> {
    request_id: RequestId,
    function_arn: String,
    condition: &'a str,
    approximate_invoke_count: u32,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResponseContext<'a> {
    status_code: u16,
    executed_version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    function_error: Option<&'a str>,
}

fn raw(payload: &Bytes) -> Option<&RawValue> {
    serde_json::from_slice(payload).ok()
}

impl Ended<'_> {
    /// The invocation record, with as much of the payloads as fits into `limit` bytes.
    fn record(&self, now: Timestamp, limit: usize) -> Bytes {
        let mut record = InvocationRecord {
            version: "1.0",
            timestamp: now.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string(),
            request_context: RequestContext {
                request_id: self.delivery.request_id,
                function_arn: self.settings.qualified_arn.clone(),
                condition: self.condition.as_str(),
                approximate_invoke_count: self.attempts,
            },
            request_payload: raw(&self.delivery.payload),
            response_context: self.outcome.map(|outcome| ResponseContext {
                status_code: 200,
                executed_version: outcome.executed_version.to_string(),
                function_error: outcome.function_error.as_deref(),
            }),
            response_payload: self.outcome.and_then(|outcome| raw(&outcome.payload)),
        };
        let text = |record: &InvocationRecord<'_>| -> Bytes {
            serde_json::to_vec(record).expect("records have string keys").into()
        };
        let mut bytes = text(&record);
        if bytes.len() > limit {
            record.response_payload = None;
            bytes = text(&record);
        }
        if bytes.len() > limit {
            record.request_payload = None;
            bytes = text(&record);
        }
        bytes
    }
}

/// The first 1 KiB of what a function said of its failure, as an attribute of a message may hold it.
fn error_message(ended: &Ended<'_>) -> String {
    let told = ended.outcome.and_then(|outcome| serde_json::from_slice::<Value>(&outcome.payload).ok());
    let told = told.as_ref().and_then(|told| told["errorMessage"].as_str()).filter(|told| !told.is_empty());
    let mut text = String::new();
    for c in told.unwrap_or(ended.condition.as_str()).chars() {
        let allowed =
            matches!(c, '\t' | '\n' | '\r' | ' '..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..);
        let c = if allowed { c } else { '\u{FFFD}' };
        if text.len() + c.len_utf8() > 1024 {
            break;
        }
        text.push(c);
    }
    text
}

impl Shared {
    /// Sends an event that has failed for good to the function's dead-letter queue (AWS Lambda developer guide, "Adding
    /// a dead-letter queue"). An error says why it has to be done again; a queue that takes nothing is said so.
    pub(crate) async fn bury(&self, queue: &str, ended: Ended<'_>) -> Result<(), String> {
        let text = |value: &str| json!({ "DataType": "String", "StringValue": value });
        let message = json!({
            "MessageBody": String::from_utf8_lossy(&ended.delivery.payload),
            "MessageAttributes": {
                "RequestID": text(&ended.delivery.request_id.to_string()),
                "ErrorCode": { "DataType": "Number", "StringValue": "200" },
                "ErrorMessage": text(&error_message(&ended)),
            },
        });
        let sent = match self.functions.role_caller(ended.account, ended.settings).await {
            Ok(caller) => self.send_message(queue, &caller, &ended.delivery.trace, message).await,
            Err(error) => Err(error),
        };
        match sent {
            Ok(()) => Ok(()),
            Err(error) if error.kind.is_retryable() => Err(error.to_string()),
            Err(error) => {
                let reason = format!("it could not be sent to the dead-letter queue {queue}: {error}");
                self.say_lost(ended.account, ended.delivery, ended.settings, &reason).await;
                Ok(())
            }
        }
    }

    /// Sends a message to a queue; `message` without the queue's URL.
    pub(crate) async fn send_message(
        &self,
        queue: &str,
        caller: &Caller,
        trace: &TraceHeader,
        message: Value,
    ) -> Result<(), aws::Error> {
        let arn: Arn = queue.parse().map_err(|error| aws::Error::internal(&error))?;
        let request = queue_request(&arn, "SendMessage", message)?;
        self.dispatch.call(caller, trace, "sqs", request).await.map(|_| ())
    }

    /// Sends the record to `destination` and ends the event. An error says why it has to be done again; a
    /// destination that can not be written to is said so, and the event ends all the same.
    pub(crate) async fn tell(&self, key: &Key, destination: &str, ended: Ended<'_>) -> Result<(), String> {
        let (account, delivery, settings) = (ended.account, ended.delivery, ended.settings);
        let told = match self.functions.role_caller(account, settings).await {
            Ok(caller) => self.send(key, destination, &caller, ended).await,
            Err(error) => Err(error),
        };
        match told {
            Ok(()) => Ok(()),
            Err(error) if error.kind.is_retryable() => Err(error.to_string()),
            Err(error) => {
                let reason = format!(
                    "{} after {} tries, and its record could not be sent to {destination}: {error}",
                    ended.condition.as_str(),
                    ended.attempts
                );
                self.discard(account, key, delivery, Some(settings), &reason).await
            }
        }
    }

    async fn send(
        &self,
        key: &Key,
        destination: &str,
        caller: &Caller,
        ended: Ended<'_>,
    ) -> Result<(), aws::Error> {
        let arn: Arn = destination.parse().map_err(|error| aws::Error::internal(&error))?;
        let retry =
            |reason: String| aws::Error::new(types::ErrorKind::Unavailable, "ServiceUnavailable", reason);
        let now = self.env.now();
        if arn.service == "s3" {
            self.put_record(&arn.resource, caller, ended, now).await?;
            return self.settle(key, Vec::new()).await.map_err(retry);
        }
        if arn.service == "sqs" {
            let record = ended.record(now, EVENT_LIMIT);
            let message = json!({ "MessageBody": String::from_utf8_lossy(&record) });
            self.send_message(destination, caller, &ended.delivery.trace, message).await?;
            return self.settle(key, Vec::new()).await.map_err(retry);
        }
        // Asks for the right, and whether the function is there; the event itself joins the commit.
        let uri = format!(
            "/2015-03-31/functions/{}/invocations",
            utf8_percent_encode(destination, NON_ALPHANUMERIC)
        );
        let request = http::Request::post(uri).header("x-amz-invocation-type", "DryRun").body(Bytes::new());
        let request = request.map_err(|error| aws::Error::internal(&error))?;
        self.dispatch.call(caller, &ended.delivery.trace, "lambda", request).await?;
        let delivery = Delivery {
            request_id: RequestId::new(&*self.env),
            target: destination.to_owned(),
            source: ended.settings.arn.clone(),
            service: None,
            payload: ended.record(now, EVENT_LIMIT),
            client_context: None,
            failures: 0,
            accepted_at: now,
            trace: ended.delivery.trace.clone(),
        };
        self.settle(key, vec![delivery.due(ended.account)]).await.map_err(retry)
    }

    /// Writes the record as an object. Its name ends in the event's id: a record that is written twice, since
    /// the node stopped in between, can be told by it.
    async fn put_record(
        &self,
        bucket: &str,
        caller: &Caller,
        ended: Ended<'_>,
        now: Timestamp,
    ) -> Result<(), aws::Error> {
        let function = ended.settings.arn.rsplit(':').next().unwrap_or_default();
        let object = format!(
            "aws/lambda/async/{function}/{}-{}",
            now.strftime("%Y/%m/%d/%Y-%m-%dT%H.%M.%S"),
            ended.delivery.request_id
        );
        let uri = format!("/{}/{}", utf8_percent_encode(bucket, PATH), utf8_percent_encode(&object, PATH));
        let request = http::Request::put(uri)
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(ended.record(now, usize::MAX))
            .map_err(|error| aws::Error::internal(&error))?;
        self.dispatch.call(caller, &ended.delivery.trace, "s3", request).await.map(|_| ())
    }
}
