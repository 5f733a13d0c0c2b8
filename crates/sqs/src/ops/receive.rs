//! ReceiveMessage: at once, or when there is something to receive.

use std::collections::BTreeMap;
use std::time::Duration;

use aws::{Access, Response};
use serde::{Deserialize, Serialize};

use super::{Input, one_queue};
use crate::Error;
use crate::find::Found;
use crate::message::{ShownAttribute, chosen, md5_of_attributes};
use crate::service::Scope;
use crate::take::{Taken, take};

/// What can be asked of a message beside its own attributes.
const SYSTEM: [&str; 10] = [
    "All",
    "SenderId",
    "SentTimestamp",
    "ApproximateReceiveCount",
    "ApproximateFirstReceiveTimestamp",
    "SequenceNumber",
    "MessageDeduplicationId",
    "MessageGroupId",
    "AWSTraceHeader",
    "DeadLetterQueueSourceArn",
];

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(crate) struct ReceiveMessage {
    queue_url: Option<String>,
    attribute_names: Option<Vec<String>>,
    message_system_attribute_names: Option<Vec<String>>,
    message_attribute_names: Option<Vec<String>>,
    max_number_of_messages: Option<i64>,
    visibility_timeout: Option<i64>,
    wait_time_seconds: Option<i64>,
    receive_request_attempt_id: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Messages<'a> {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    messages: Vec<Message<'a>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Message<'a> {
    message_id: &'a str,
    receipt_handle: String,
    #[serde(rename = "MD5OfBody")]
    md5_of_body: &'a str,
    body: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    attributes: BTreeMap<&'static str, String>,
    #[serde(rename = "MD5OfMessageAttributes", skip_serializing_if = "Option::is_none")]
    md5_of_attributes: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    message_attributes: BTreeMap<&'a str, ShownAttribute<'a>>,
}

impl<'a> Message<'a> {
    fn new(taken: &'a Taken, system: &[String], asked: &'a [String]) -> Self {
        let head = &taken.message.head;
        let mut attributes = BTreeMap::from([
            ("SenderId", head.sender.clone()),
            ("SentTimestamp", head.sent_ms.to_string()),
            ("ApproximateReceiveCount", taken.receives.to_string()),
            ("ApproximateFirstReceiveTimestamp", taken.first_ms.to_string()),
        ]);
        for (name, value) in [
            ("AWSTraceHeader", &head.trace),
            ("MessageGroupId", &head.group),
            ("DeadLetterQueueSourceArn", &head.given_up_by),
        ] {
            if let Some(value) = value {
                attributes.insert(name, value.clone());
            }
        }
        attributes.retain(|name, _| system.iter().any(|asked| asked == "All" || asked == name));
        Self {
            message_id: &head.id,
            receipt_handle: taken.handle.text(),
            md5_of_body: &head.md5,
            // It came as text, and is stored as it came.
            body: std::str::from_utf8(&taken.message.body).unwrap_or_default(),
            attributes,
            md5_of_attributes: md5_of_attributes(chosen(&head.attributes, asked)),
            message_attributes: chosen(&head.attributes, asked)
                .map(|(name, attribute)| (name, attribute.shown()))
                .collect(),
        }
    }
}

fn within(value: Option<i64>, name: &str, least: i64, most: i64) -> Result<Option<i64>, Error> {
    match value {
        Some(value) if !(least..=most).contains(&value) => {
            let reason = format!("Must be between {least} and {most}, if provided.");
            Err(Error::value(value, name, &reason))
        }
        value => Ok(value),
    }
}

impl Input<Scope> for ReceiveMessage {
    const NAME: &'static str = "ReceiveMessage";
    type Found = Found;

    async fn find(&self, scope: &Scope) -> Result<(Vec<Access>, Found), Error> {
        one_queue(scope, self.queue_url.as_deref(), Self::NAME).await
    }

    async fn run(self, scope: Scope, found: Found) -> Result<Response, Error> {
        let queue = found.clone().there()?;
        if self.receive_request_attempt_id.is_some_and(|id| !id.is_empty()) {
            return Err(Error::InvalidParameterValue(
                "The request include parameter ReceiveRequestAttemptId which is not valid for this queue type".into(),
            ));
        }
        let most = within(self.max_number_of_messages, "MaxNumberOfMessages", 1, 10)?.unwrap_or(1);
        let hidden = within(self.visibility_timeout, "VisibilityTimeout", 0, 43_200)?;
        let wait = within(self.wait_time_seconds, "WaitTimeSeconds", 0, 20)?;
        let mut system = self.attribute_names.unwrap_or_default();
        system.extend(self.message_system_attribute_names.unwrap_or_default());
        if let Some(unknown) = system.iter().find(|name| !SYSTEM.contains(&name.as_str())) {
            return Err(Error::InvalidAttributeName(unknown.clone()));
        }
        let asked = self.message_attribute_names.unwrap_or_default();
        let wait = wait.unwrap_or(i64::from(queue.row.settings.wait_s));
        let wait = Duration::from_secs(u64::try_from(wait).unwrap_or(0));
        let most = usize::try_from(most).unwrap_or(1);
        let taken = receive(&scope, &found, most, hidden, wait).await?;
        let messages = taken.iter().map(|taken| Message::new(taken, &system, &asked)).collect();
        Ok(aws::json::output(&Messages { messages }))
    }
}

/// Receives messages, and waits that long for the first.
async fn receive(
    scope: &Scope,
    found: &Found,
    most: usize,
    hidden_s: Option<i64>,
    wait: Duration,
) -> Result<Vec<Taken>, Error> {
    let inner = &scope.inner;
    let deadline = inner.env.monotonic() + wait;
    let mut waited = false;
    loop {
        // What is set of the queue may change while somebody waits, and where its messages are.
        let queue = scope.named(found.account, &found.name).await?.there()?;
        let desk = scope.desk(&queue);
        let hidden_s = hidden_s.unwrap_or(i64::from(queue.row.settings.visibility_s));
        let claims = desk.claim(&inner.store, &inner.env, most).await?;
        if !claims.places.is_empty() {
            if let Some(taken) = take(scope, &queue, claims, hidden_s * 1000).await?
                && !taken.is_empty()
            {
                if desk.has_ready() {
                    desk.wake.notify_one();
                }
                return Ok(taken);
            }
            continue;
        }
        let left = deadline.saturating_sub(inner.env.monotonic());
        if left.is_zero() || inner.closing.is_cancelled() || aws::departure::has_left() {
            if waited {
                // Another may wait for what this one was to be woken for.
                desk.wake.notify_one();
            }
            return Ok(Vec::new());
        }
        waited = true;
        let next_ms = desk.next_ms(&inner.store, &inner.env).await?;
        let next = next_ms.map_or(left, |ms| Duration::from_millis(u64::try_from(ms).unwrap_or(0)));
        tokio::select! {
            () = desk.wake.notified() => {}
            () = inner.env.sleep(left.min(next)) => {}
            () = inner.closing.cancelled() => {}
            () = aws::departure::left() => {}
        }
    }
}
