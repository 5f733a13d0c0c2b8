//! Windows over which a function aggregates a stream (AWS Lambda developer guide, "Implementing stateful DynamoDB stream
//! processing in Lambda").
//!
//! Invariants: a window is a stretch of the clock, and a record is in the one in which it was written; what the function
//! made of a window's records is stored with the place up to which they are done, so that neither is ahead of the other;
//! a window that was opened is closed by an invocation of its own, before anything of a later one.

use std::time::Duration;

use functions::{SourceMapping, SourceWindow};
use serde_json::{Value, json};
use types::Timestamp;

use super::batch::{Batch, Tried};
use super::reader::Record;

/// The largest state, in bytes of JSON.
pub(super) const STATE_LIMIT: usize = 1 << 20;
/// How long after its end a window may still get records: they are written by the second.
const LATE: Duration = Duration::from_secs(1);

/// How a window goes on after an invocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// It may get more records.
    Open,
    /// It is over.
    Over,
    /// Its state has become too large: it goes on with none.
    Early,
}

/// The window of a stream that a record is in.
pub(super) fn window_of(mapping: &SourceMapping, record: &Record) -> SourceWindow {
    let length = i64::from(mapping.tumbling_s.max(1));
    let start = (record.written_at() as i64).div_euclid(length) * length;
    SourceWindow { start, end: start + length, state: json!({}) }
}

/// How long it is until nothing comes any more that is in the window.
pub(super) fn left_of(window: &SourceWindow, now: Timestamp) -> Duration {
    let end = i128::from(window.end) * 1_000_000_000;
    let left = end - now.as_nanosecond() + i128::try_from(LATE.as_nanos()).unwrap_or_default();
    Duration::from_nanos(u64::try_from(left.max(0)).unwrap_or(u64::MAX))
}

/// The state that a function answers with; an answer without one has failed.
pub(super) fn state_of(payload: &[u8]) -> Option<Value> {
    let mut answer: Value = serde_json::from_slice(payload).ok()?;
    let state = answer.get_mut("state")?.take();
    (!state.is_null()).then_some(state)
}

fn time(seconds: i64) -> String {
    Timestamp::from_second(seconds).unwrap_or_default().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

impl Batch<'_> {
    /// What a function gets of a window.
    pub(super) fn window_event(&self, window: &SourceWindow, records: &[&Value], end: End) -> Value {
        json!({
            "Records": records,
            "window": { "start": time(window.start), "end": time(window.end) },
            "state": window.state,
            "shardId": self.shard,
            "eventSourceARN": self.mapping.source,
            "isFinalInvokeForWindow": end == End::Over,
            "isWindowTerminatedEarly": end == End::Early,
        })
    }

    /// Has the function take a state that is too large, and the window go on without; false if that was interrupted.
    pub(super) async fn close_if_too_large(&mut self) -> bool {
        let Some(window) = &self.window else { return true };
        if window.state.to_string().len() <= STATE_LIMIT {
            return true;
        }
        let closed = self.close(End::Early).await;
        if let Some(window) = self.window.as_mut().filter(|_| closed) {
            window.state = json!({});
        }
        closed
    }

    /// Tells the function that its window ends, until it has heard it; false if that was interrupted. Nothing else is
    /// done meanwhile.
    pub(super) async fn close(&self, end: End) -> bool {
        let Some(window) = &self.window else { return true };
        let event = self.window_event(window, &[], end);
        let (mut failures, mut pauses) = (0, 0);
        while !self.shared.shutdown.is_cancelled() {
            let pause = match self.ask(&event).await {
                Ok(_) | Err(Tried::Done) => return true,
                Err(Tried::Failed { .. }) => {
                    failures += 1;
                    pauses = 0;
                    if self.mapping.max_retries.is_some_and(|most| failures > most) {
                        tracing::warn!(
                            account = %self.account, mapping = self.mapping.id, source = self.mapping.source,
                            window = time(window.start), "a window of a stream was given up"
                        );
                        return true;
                    }
                    failures
                }
                Err(Tried::Later(reason)) => {
                    tracing::debug!(mapping = self.mapping.id, %reason, "the end of a window is put off");
                    pauses += 1;
                    pauses
                }
            };
            if !self.back_off(pause).await {
                return false;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_what_is_said_and_windows_end_a_little_later() {
        assert_eq!(state_of(br#"{"state":{"a":1},"batchItemFailures":[]}"#), Some(json!({ "a": 1 })));
        assert_eq!(state_of(br#"{"state":""}"#), Some(json!("")));
        for without in [&b""[..], b"null", b"3", b"{}", br#"{"state":null}"#, br#"["state"]"#] {
            assert_eq!(state_of(without), None);
        }
        let window = SourceWindow { start: 60, end: 120, state: json!({}) };
        let left = |at: i64| left_of(&window, Timestamp::from_millisecond(at).unwrap());
        assert_eq!(left(60_000), Duration::from_secs(61));
        assert_eq!(left(120_500), Duration::from_millis(500));
        assert_eq!((left(121_000), left(500_000)), (Duration::ZERO, Duration::ZERO));
        assert_eq!(time(60), "1970-01-01T00:01:00Z");
    }
}
