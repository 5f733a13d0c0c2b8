//! Records of a stream, taken to their end in their order: retries, halving, what the function reports, what is given up.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use aws::Caller;
use bytes::Bytes;
use functions::{Outcome, SourceMapping, SourceWindow, is_queue};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use tokio::sync::Notify;
use types::{AccountId, ErrorKind, RequestId, Timestamp, TraceHeader};

use super::invocation;
use super::reader::{MOST_BYTES, Record};
use super::windows::STATE_LIMIT;
use super::windows::{End, state_of};
use crate::service::Shared;

/// What stays as it is in a path.
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/');

/// How records ended.
pub(super) enum Ended {
    /// Every one is done or was given up; what became of the last batch.
    Done(&'static str),
    /// Some are not.
    Interrupted,
}

/// What they need to get there.
pub(super) struct Batch<'a> {
    pub(super) shared: &'a Arc<Shared>,
    pub(super) account: AccountId,
    pub(super) mapping: &'a SourceMapping,
    pub(super) shard: &'a str,
    pub(super) caller: &'a Caller,
    pub(super) wake: &'a Notify,
    /// The window that the records are in, if the function aggregates them: its state goes from one invocation to the
    /// next.
    pub(super) window: Option<SourceWindow>,
}

/// Records that go to the function together.
struct Piece {
    records: Vec<Record>,
    failures: u32,
}

/// What a try has come to.
pub(super) enum Tried {
    Done,
    /// From this record on they have failed.
    Failed {
        from: usize,
        outcome: Outcome,
    },
    /// The function could not be asked.
    Later(String),
}

impl Batch<'_> {
    /// Takes records to their end.
    pub(super) async fn carry_out(&mut self, records: Vec<Record>) -> Ended {
        let mut pieces: VecDeque<Piece> = VecDeque::new();
        // An event has what was aggregated in it, too.
        let most = match &self.window {
            Some(_) => MOST_BYTES - STATE_LIMIT,
            None => MOST_BYTES,
        };
        let mut records = records.into_iter().peekable();
        while records.peek().is_some() {
            let (mut piece, mut size) = (Vec::new(), 0);
            while piece.len() < self.mapping.batch_size as usize
                && let Some(record) =
                    records.next_if(|next| piece.is_empty() || size + next.size_bytes < most)
            {
                size += record.size_bytes;
                piece.push(record);
            }
            pieces.push_back(Piece { records: piece, failures: 0 });
        }
        let mut result = "OK";
        let mut pauses = 0;
        while let Some(piece) = pieces.pop_front() {
            if self.shared.shutdown.is_cancelled() {
                return Ended::Interrupted;
            }
            let Some(mut piece) = self.drop_old(piece).await else { continue };
            match self.attempt(&piece.records).await {
                Tried::Done => {
                    (result, pauses) = ("OK", 0);
                    if !self.close_if_too_large().await {
                        return Ended::Interrupted;
                    }
                }
                Tried::Failed { from, outcome } => {
                    result = "PROBLEM: Function call failed";
                    pauses = 0;
                    piece.records.drain(..from);
                    let progress = from > 0;
                    if progress && !self.close_if_too_large().await {
                        return Ended::Interrupted;
                    }
                    if self.mapping.bisect && piece.records.len() > 1 && !progress {
                        // Halving is no retry.
                        let rest = piece.records.split_off(piece.records.len() / 2);
                        pieces.push_front(Piece { records: rest, failures: piece.failures });
                        pieces.push_front(piece);
                        continue;
                    }
                    piece.failures += 1;
                    if self.mapping.max_retries.is_some_and(|most| piece.failures > most) {
                        self.give_up(&piece, "RetryAttemptsExhausted", Some(&outcome)).await;
                        continue;
                    }
                    let failures = piece.failures;
                    pieces.push_front(piece);
                    if !self.back_off(failures).await {
                        return Ended::Interrupted;
                    }
                }
                Tried::Later(reason) => {
                    tracing::debug!(mapping = self.mapping.id, %reason, "a batch is put off");
                    pauses += 1;
                    pieces.push_front(piece);
                    if !self.back_off(pauses).await {
                        return Ended::Interrupted;
                    }
                }
            }
        }
        Ended::Done(result)
    }

    /// Waits before the next try; false if the mapping is not what it was, so that it has to be looked at.
    pub(super) async fn back_off(&self, failures: u32) -> bool {
        let config = &self.shared.config;
        let pause = Duration::from_millis(config.throttle_base_ms)
            .saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1)))
            .min(Duration::from_millis(config.source_retry_limit_ms));
        let until = self.shared.env.monotonic() + pause;
        loop {
            let now = self.shared.env.monotonic();
            if now >= until {
                return true;
            }
            tokio::select! {
                () = self.shared.env.sleep(until - now) => return true,
                () = self.shared.shutdown.cancelled() => return false,
                // New records wake too, which changes nothing here.
                () = self.wake.notified() => {
                    let found = self.shared.functions.source_mapping(self.account, &self.mapping.id).await;
                    if !matches!(found, Ok(Some(mapping)) if mapping == *self.mapping) {
                        self.wake.notify_one();
                        return false;
                    }
                }
            }
        }
    }

    /// Gives up what is older than it may be; what is left.
    async fn drop_old(&self, piece: Piece) -> Option<Piece> {
        let Some(most) = self.mapping.max_age_s else { return Some(piece) };
        let oldest = self.shared.env.now().as_second() as f64 - f64::from(most);
        let (old, young): (Vec<_>, Vec<_>) =
            piece.records.into_iter().partition(|record| record.written_at() < oldest);
        if !old.is_empty() {
            let old = Piece { records: old, failures: piece.failures };
            self.give_up(&old, "RecordAgeExceeded", None).await;
        }
        (!young.is_empty()).then_some(Piece { records: young, failures: piece.failures })
    }

    async fn attempt(&mut self, records: &[Record]) -> Tried {
        let values: Vec<&Value> = records.iter().map(|record| &record.value).collect();
        let event = match &self.window {
            Some(window) => self.window_event(window, &values, End::Open),
            None => json!({ "Records": values }),
        };
        let outcome = match self.ask(&event).await {
            Ok(outcome) => outcome,
            Err(tried) => return tried,
        };
        let failed = self.mapping.report_failures.then(|| failed_from(&outcome.payload, records)).flatten();
        if let Some(window) = &mut self.window {
            match (state_of(&outcome.payload), failed) {
                // It has failed, whatever else it says.
                (None, _) => return Tried::Failed { from: 0, outcome },
                // Nothing of it is done.
                (Some(_), Some(0)) => {}
                (Some(state), _) => window.state = state,
            }
        }
        match failed {
            None => Tried::Done,
            Some(from) => Tried::Failed { from, outcome },
        }
    }

    /// Has the function take an event; what it answered without an error.
    pub(super) async fn ask(&self, event: &Value) -> Result<Outcome, Tried> {
        let queue_timeout = Duration::from_millis(self.shared.config.queue_timeout_ms);
        let invocation = invocation(self.shared, self.account, self.mapping, event, queue_timeout);
        let outcome = match self.shared.functions.invoke(invocation).await {
            Ok(outcome) => outcome,
            Err(error) => {
                return Err(match error.kind() {
                    ErrorKind::Throttled
                    | ErrorKind::Timeout
                    | ErrorKind::Unavailable
                    | ErrorKind::Internal
                    | ErrorKind::NotFound
                    | ErrorKind::Conflict
                    | ErrorKind::Denied => Tried::Later(error.to_string()),
                    ErrorKind::Invalid
                    | ErrorKind::PreconditionFailed
                    | ErrorKind::Unauthenticated
                    | ErrorKind::TooLarge
                    | ErrorKind::Unsupported => {
                        Tried::Failed { from: 0, outcome: crate::delivery::refusal(&error) }
                    }
                });
            }
        };
        match outcome.function_error {
            Some(_) => Err(Tried::Failed { from: 0, outcome }),
            None => Ok(outcome),
        }
    }

    /// What is not tried again: the bucket that hears of it gets a record, with all that was in the batch.
    async fn give_up(&self, piece: &Piece, condition: &str, outcome: Option<&Outcome>) {
        let (first, last) = (&piece.records[0], &piece.records[piece.records.len() - 1]);
        let mapping = self.mapping;
        tracing::warn!(
            account = %self.account, mapping = mapping.id, source = mapping.source, condition,
            records = piece.records.len(), first = first.sequence_number(), "records of a stream were given up"
        );
        let Some(destination) = mapping.on_failure.as_deref() else { return };
        let bucket = destination.strip_prefix("arn:aws:s3:::");
        if bucket.is_none() && !is_queue(destination) {
            return;
        }
        let now = self.shared.env.now();
        let time = |seconds: f64| {
            let at = Timestamp::from_millisecond((seconds * 1000.0) as i64).unwrap_or_default();
            at.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
        };
        let values: Vec<&Value> = piece.records.iter().map(|record| &record.value).collect();
        let id = RequestId::new(&*self.shared.env);
        let arn = self.shared.functions.mapped_arn(self.account, mapping);
        let mut record = json!({
            "requestContext": {
                "requestId": id,
                "functionArn": arn,
                "condition": condition,
                "approximateInvokeCount": piece.failures,
            },
            "version": "1.0",
            "timestamp": now.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string(),
            "DDBStreamBatchInfo": {
                "shardId": self.shard,
                "startSequenceNumber": first.sequence_number(),
                "endSequenceNumber": last.sequence_number(),
                "approximateArrivalOfFirstRecord": time(first.written_at()),
                "approximateArrivalOfLastRecord": time(last.written_at()),
                "batchSize": piece.records.len(),
                "streamArn": mapping.source,
            },
        });
        if bucket.is_some() {
            // A queue's messages only say where the records are.
            record["payload"] = json!(json!({ "Records": values }).to_string());
        }
        if let Some(outcome) = outcome {
            record["responseContext"] = json!({
                "statusCode": 200,
                "executedVersion": outcome.executed_version.to_string(),
                "functionError": outcome.function_error,
            });
        }
        let object = format!(
            "aws/lambda/{}/{}/{}-{id}",
            mapping.id,
            self.shard,
            now.strftime("%Y/%m/%d/%Y-%m-%dT%H.%M.%S")
        );
        let body = Bytes::from(record.to_string());
        let mut tries = 0;
        // It is told before it is passed over; only what can not be told is lost, and said so.
        while !self.shared.shutdown.is_cancelled() {
            let trace = TraceHeader::new(&*self.shared.env);
            let told = match bucket {
                Some(bucket) => {
                    let uri = format!(
                        "/{}/{}",
                        utf8_percent_encode(bucket, PATH),
                        utf8_percent_encode(&object, PATH)
                    );
                    let request = http::Request::put(uri)
                        .header(http::header::CONTENT_TYPE, "application/json")
                        .body(body.clone());
                    let Ok(request) = request else { return };
                    self.shared.dispatch.call(self.caller, &trace, "s3", request).await.map(|_| ())
                }
                None => {
                    let message = json!({ "MessageBody": String::from_utf8_lossy(&body) });
                    self.shared.send_message(destination, self.caller, &trace, message).await
                }
            };
            match told {
                Ok(()) => return,
                Err(error) if error.kind.is_retryable() && tries < 10 => {
                    tries += 1;
                    self.shared.pause(Duration::from_secs(tries)).await;
                }
                Err(error) => {
                    tracing::warn!(mapping = mapping.id, destination, %error, "records that were given up could not be told of");
                    return;
                }
            }
        }
    }
}

/// The first record that a function reports to have failed; all of them if it reports one that there is not.
fn failed_from(payload: &[u8], records: &[Record]) -> Option<usize> {
    let answer: Value = serde_json::from_slice(payload).unwrap_or_default();
    let failures = match &answer["batchItemFailures"] {
        Value::Null => return None,
        Value::Array(failures) if failures.is_empty() => return None,
        Value::Array(failures) => failures,
        _ => return Some(0),
    };
    let place = |failure: &Value| {
        let id = failure["itemIdentifier"].as_str().unwrap_or_default();
        records.iter().position(|record| record.sequence_number() == id)
    };
    let places: Option<Vec<usize>> = failures.iter().map(place).collect();
    Some(places.and_then(|places| places.into_iter().min()).unwrap_or(0))
}
