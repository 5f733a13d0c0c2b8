//! Receives from one queue for one function (AWS Lambda developer guide, "Using Lambda with Amazon SQS").
//!
//! A queue is waited at, not asked again and again. Messages are hidden in it while the function has them; what the
//! function has done is deleted, and what it has not comes back when the queue's visibility timeout ends.

use std::sync::Arc;
use std::time::Duration;

use aws::Caller;
use functions::{Filter, SourceMapping, queue_request};
use serde_json::{Map, Value, json};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use types::{AccountId, Arn, TraceHeader};

use super::reader::MOST_BYTES;
use super::{invocation, mapping};
use crate::service::Shared;

/// How long one receive waits, in seconds.
const WAIT_S: u64 = 20;
/// Messages that one receive gives.
const MOST_RECEIVED: usize = 10;
/// An empty answer that came sooner than this was not waited for: the node stops.
const SOON: Duration = Duration::from_secs(1);
/// How long an invocation waits for room: messages come again when they are visible again, mostly after 30 seconds.
const LONGEST_QUEUED: Duration = Duration::from_secs(20);
/// Longest pause after a failure.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// See the module.
pub(super) struct Poller {
    shared: Arc<Shared>,
    account: AccountId,
    id: String,
    wake: Arc<Notify>,
}

/// A message, as the function gets it.
#[derive(Debug)]
struct Record {
    value: Value,
    size_bytes: usize,
}

/// What receiving needs.
struct Source {
    mapping: SourceMapping,
    arn: Arn,
    caller: Caller,
    filters: Vec<Filter>,
}

impl Poller {
    pub(super) fn new(shared: Arc<Shared>, (account, id): (AccountId, String), wake: Arc<Notify>) -> Self {
        Self { shared, account, id, wake }
    }

    /// Receives until the mapping is gone, or the service ends.
    pub(super) async fn run(self) {
        let mut failures = 0_u32;
        let mut room: Option<(usize, Arc<Semaphore>)> = None;
        while let Some(mapping) = mapping(&self.shared, self.account, &self.id).await {
            if !mapping.enabled {
                self.wait(Duration::from_secs(3600)).await;
                continue;
            }
            let most =
                mapping.max_concurrency.map_or(self.shared.config.lane_concurrency, |most| most as usize);
            let room = match &room {
                Some((size, room)) if *size == most => room.clone(),
                _ => room.insert((most, Arc::new(Semaphore::new(most)))).1.clone(),
            };
            let permit = tokio::select! {
                permit = room.acquire_owned() => permit,
                () = self.wake.notified() => continue,
                () = self.shared.shutdown.cancelled() => return,
            };
            let Ok(permit) = permit else { return };
            match self.round(mapping, permit).await {
                Ok(()) => failures = 0,
                Err(error) => {
                    failures = (failures + 1).min(10);
                    tracing::warn!(mapping = self.id, %error, "a queue can not be received from");
                    self.note(&format!("PROBLEM: {}", error.message)).await;
                    let base = Duration::from_millis(self.shared.config.throttle_base_ms);
                    self.wait(base.saturating_mul(2_u32.saturating_pow(failures - 1)).min(LONGEST_PAUSE))
                        .await;
                }
            }
        }
    }

    /// Waits until something may have changed.
    async fn wait(&self, pause: Duration) {
        tokio::select! {
            () = self.wake.notified() => {}
            () = self.shared.env.sleep(pause) => {}
            () = self.shared.shutdown.cancelled() => {}
        }
    }

    /// Shows in the mapping what became of it.
    async fn note(&self, result: &str) {
        note(&self.shared, self.account, &self.id, result).await;
    }

    /// Receives one batch and has the function take it, in a task of its own.
    async fn round(&self, mapping: SourceMapping, permit: OwnedSemaphorePermit) -> Result<(), aws::Error> {
        let settings =
            self.shared.functions.async_settings(self.account, &mapping.function_name(), None).await?;
        let caller = self.shared.functions.role_caller(self.account, &settings).await?;
        let arn: Arn = mapping.source.parse().map_err(|error| aws::Error::internal(&error))?;
        let source = Source { filters: mapping.patterns(), mapping, arn, caller };
        let wanted = source.mapping.batch_size as usize;
        let began = self.shared.env.monotonic();
        let Some(mut records) = self.receive(&source, wanted, WAIT_S).await? else { return Ok(()) };
        if records.is_empty() {
            if self.shared.env.monotonic() - began < SOON {
                self.wait(SOON).await;
            }
            return Ok(());
        }
        // A batch may become fuller while it waits.
        let first = self.shared.env.monotonic();
        let window = Duration::from_secs(u64::from(source.mapping.window_s));
        while records.len() < wanted && size(&records) < MOST_BYTES && !self.shared.shutdown.is_cancelled() {
            let left = window.saturating_sub(self.shared.env.monotonic() - first);
            if left.is_zero() {
                break;
            }
            let seconds = left.as_millis().div_ceil(1000).min(u128::from(WAIT_S)) as u64;
            let asked = self.shared.env.monotonic();
            // What has been received goes on, whatever has changed.
            match self.receive(&source, wanted - records.len(), seconds).await? {
                Some(more) if !more.is_empty() => records.extend(more),
                Some(_) if self.shared.env.monotonic() - asked >= SOON => {}
                Some(_) | None => break,
            }
        }
        let task = Batches { shared: self.shared.clone(), account: self.account, source };
        self.shared.tasks.spawn(async move {
            task.carry_out(records).await;
            drop(permit);
        });
        Ok(())
    }

    /// Up to `most` messages that the function wants; those that it does not want are deleted. `None` if the mapping has
    /// changed or the service ends.
    async fn receive(
        &self,
        source: &Source,
        most: usize,
        wait_s: u64,
    ) -> Result<Option<Vec<Record>>, aws::Error> {
        let body = json!({
            "MaxNumberOfMessages": most.clamp(1, MOST_RECEIVED),
            "WaitTimeSeconds": wait_s,
            "MessageSystemAttributeNames": ["All"],
            "MessageAttributeNames": ["All"],
        });
        let answer = tokio::select! {
            answer = ask(&self.shared, source, "ReceiveMessage", body) => answer?,
            () = self.wake.notified() => return Ok(None),
            () = self.shared.shutdown.cancelled() => return Ok(None),
        };
        let messages = answer["Messages"].as_array().cloned().unwrap_or_default();
        let region = source.arn.region.as_str();
        let records = messages.into_iter().map(|message| record(message, &source.mapping.source, region));
        let (wanted, unwanted): (Vec<_>, Vec<_>) =
            records.partition(|record| source.filters.is_empty() || matches(&source.filters, &record.value));
        if !unwanted.is_empty() {
            delete(&self.shared, source, unwanted.iter()).await?;
        }
        Ok(Some(wanted))
    }
}

fn size(records: &[Record]) -> usize {
    records.iter().map(|record| record.size_bytes).sum()
}

async fn note(shared: &Shared, account: AccountId, id: &str, result: &str) {
    let noted = async {
        let mut position = shared.functions.source_position(account, id).await?;
        if position.result != result {
            result.clone_into(&mut position.result);
            shared.functions.save_source_position(account, id, position).await?;
        }
        Ok::<_, functions::Error>(())
    };
    if let Err(error) = noted.await {
        tracing::error!(%error, mapping = id, "what became of a batch could not be noted");
    }
}

async fn ask(shared: &Shared, source: &Source, operation: &str, body: Value) -> Result<Value, aws::Error> {
    let request = queue_request(&source.arn, operation, body)?;
    let trace = TraceHeader::new(&*shared.env);
    let answer = shared.dispatch.call(&source.caller, &trace, "sqs", request).await?;
    if answer.body().is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(answer.body()).map_err(|error| aws::Error::internal(&error))
}

/// Deletes messages that are done.
async fn delete(
    shared: &Shared,
    source: &Source,
    records: impl Iterator<Item = &Record>,
) -> Result<(), aws::Error> {
    let entries: Vec<_> = records
        .enumerate()
        .map(|(i, record)| json!({ "Id": i.to_string(), "ReceiptHandle": record.value["receiptHandle"] }))
        .collect();
    for entries in entries.chunks(MOST_RECEIVED) {
        ask(shared, source, "DeleteMessageBatch", json!({ "Entries": entries })).await?;
    }
    Ok(())
}

/// A message as it stands in a function's event.
fn record(mut message: Value, source: &str, region: &str) -> Record {
    let mut attributes = Map::new();
    if let Value::Object(given) = message["MessageAttributes"].take() {
        for (name, mut value) in given {
            let mut shown = json!({ "stringListValues": [], "binaryListValues": [], "dataType": value["DataType"].take() });
            for (from, to) in [("StringValue", "stringValue"), ("BinaryValue", "binaryValue")] {
                if !value[from].is_null() {
                    shown[to] = value[from].take();
                }
            }
            attributes.insert(name, shown);
        }
    }
    let mut value = json!({
        "messageId": message["MessageId"].take(),
        "receiptHandle": message["ReceiptHandle"].take(),
        "body": message["Body"].take(),
        "attributes": message["Attributes"].take(),
        "messageAttributes": attributes,
        "md5OfBody": message["MD5OfBody"].take(),
        "eventSource": "aws:sqs",
        "eventSourceARN": source,
        "awsRegion": region,
    });
    let md5 = message["MD5OfMessageAttributes"].take();
    if !md5.is_null() {
        value["md5OfMessageAttributes"] = md5;
    }
    let size_bytes = value.to_string().len();
    Record { value, size_bytes }
}

/// Whether a function wants a message: patterns see its body as text, and as what its JSON says.
fn matches(filters: &[Filter], record: &Value) -> bool {
    if filters.iter().any(|filter| filter.matches(record)) {
        return true;
    }
    let body = record["body"].as_str().and_then(|body| serde_json::from_str::<Value>(body).ok());
    let Some(body) = body.filter(Value::is_object) else { return false };
    let mut read = record.clone();
    read["body"] = body;
    filters.iter().any(|filter| filter.matches(&read))
}

/// Messages on their way to the function.
struct Batches {
    shared: Arc<Shared>,
    account: AccountId,
    source: Source,
}

impl Batches {
    /// Has the function take them, in as many invocations as their size asks for.
    async fn carry_out(self, records: Vec<Record>) {
        let mut records = records.into_iter().peekable();
        while records.peek().is_some() {
            let (mut batch, mut bytes) = (Vec::new(), 0);
            while let Some(record) =
                records.next_if(|next| batch.is_empty() || bytes + next.size_bytes < MOST_BYTES)
            {
                bytes += record.size_bytes;
                batch.push(record);
            }
            let result = self.attempt(&batch).await;
            note(&self.shared, self.account, &self.source.mapping.id, result).await;
        }
    }

    async fn attempt(&self, batch: &[Record]) -> &'static str {
        let values: Vec<&Value> = batch.iter().map(|record| &record.value).collect();
        let mapping = &self.source.mapping;
        let queue_timeout = Duration::from_millis(self.shared.config.queue_timeout_ms).min(LONGEST_QUEUED);
        let event = json!({ "Records": values });
        let invocation = invocation(&self.shared, self.account, mapping, &event, queue_timeout);
        let outcome = match self.shared.functions.invoke(invocation).await {
            Ok(outcome) => outcome,
            Err(error) => {
                tracing::warn!(mapping = mapping.id, %error, "a function could not take messages; they come again");
                return "PROBLEM: Function call failed";
            }
        };
        if outcome.function_error.is_some() {
            return "PROBLEM: Function call failed";
        }
        let failed =
            if mapping.report_failures { failures(&outcome.payload, batch) } else { Some(Vec::new()) };
        let Some(failed) = failed else { return "PROBLEM: Function call failed" };
        let done = batch.iter().enumerate().filter(|(i, _)| !failed.contains(i)).map(|(_, record)| record);
        if let Err(error) = delete(&self.shared, &self.source, done).await {
            tracing::warn!(mapping = mapping.id, %error, "messages that are done could not be deleted; they come again");
            return "PROBLEM: messages could not be deleted";
        }
        "OK"
    }
}

/// The messages that a function reports to have failed; `None` if all have.
fn failures(payload: &[u8], batch: &[Record]) -> Option<Vec<usize>> {
    let answer: Value = serde_json::from_slice(payload).unwrap_or_default();
    let failures = match &answer["batchItemFailures"] {
        Value::Null => return Some(Vec::new()),
        Value::Array(failures) => failures,
        _ => return None,
    };
    failures
        .iter()
        .map(|failure| {
            let id = failure["itemIdentifier"].as_str()?;
            batch.iter().position(|record| record.value["messageId"] == id)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(ids: &[&str]) -> Vec<Record> {
        ids.iter().map(|id| Record { value: json!({ "messageId": id }), size_bytes: 1 }).collect()
    }

    #[test]
    fn functions_report_what_has_failed() {
        let batch = records(&["a", "b"]);
        let of = |answer: Value| failures(answer.to_string().as_bytes(), &batch);
        assert_eq!(of(json!(null)), Some(vec![]));
        assert_eq!(of(json!({ "batchItemFailures": [] })), Some(vec![]));
        assert_eq!(of(json!({ "batchItemFailures": [{ "itemIdentifier": "b" }] })), Some(vec![1]));
        for bad in
            [json!("x"), json!([{ "itemIdentifier": "c" }]), json!([{ "itemIdentifier": "" }]), json!([{}])]
        {
            assert_eq!(of(json!({ "batchItemFailures": bad })), None);
        }
    }

    #[test]
    fn patterns_see_bodies_as_text_and_as_json() {
        let filter = |text: &str| vec![Filter::parse(text).unwrap()];
        let of = |body: &str| record(json!({ "Body": body, "MessageId": "m" }), "arn", "region").value;
        assert!(matches(&filter(r#"{"body":{"kind":["a"]}}"#), &of(r#"{"kind":"a"}"#)));
        assert!(!matches(&filter(r#"{"body":{"kind":["a"]}}"#), &of(r#"{"kind":"b"}"#)));
        assert!(!matches(&filter(r#"{"body":{"kind":["a"]}}"#), &of("plain")));
        assert!(matches(&filter(r#"{"body":["plain"]}"#), &of("plain")));
    }

    #[test]
    fn records_look_as_functions_expect() {
        let message = json!({
            "MessageId": "m", "ReceiptHandle": "h", "Body": "b", "MD5OfBody": "5",
            "Attributes": { "SentTimestamp": "1" },
            "MessageAttributes": { "n": { "DataType": "Binary", "BinaryValue": "AA==" } },
        });
        let value = record(message, "arn:aws:sqs:us-east-1:0:q", "us-east-1").value;
        assert_eq!(value["messageAttributes"]["n"]["binaryValue"], "AA==");
        assert!(value["messageAttributes"]["n"].get("stringValue").is_none());
        assert_eq!(value["eventSource"], "aws:sqs");
        assert_eq!(value["attributes"]["SentTimestamp"], "1");
    }
}
