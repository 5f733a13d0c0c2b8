//! Functions that run once for each key: the outcome is kept for a window, and who asks again gets that.
//!
//! Invariants: of invocations with one key, one runs and the others wait for it; what failed, or was cut off by a
//! crash, frees the key; an outcome is on disk before it is answered. A row says which life of the node runs it: the
//! store is one process's, so a row of another life is of one that ended.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use sha2::{Digest, Sha256};
use store::{Key, Read, Write, tables};
use telemetry::{LogEvent, LogLines};
use tokio::sync::watch;
use types::{AccountId, RequestId, Timestamp};

use super::detached::Detached;
use super::function::Deployed;
use super::pool::Pool;
use super::running::Next;
use super::start::log_format;
use super::{Invocation, Outcome, lines, lock};
use crate::extras::KeySource;
use crate::service::Inner;
use crate::tables::{EndRow, OUTCOME_ENDS, OUTCOMES, OutcomeHead, OutcomeRow, OutcomeState};
use crate::{Error, Event, Piece, ResponseHead};

/// Largest outcome that is kept, in bytes.
const OUTCOME_LIMIT: usize = 6 << 20;
/// How many ended outcomes go in one commit.
const SWEEP_AT_ONCE: usize = 200;

type Hash = [u8; 32];
type Flight = (AccountId, Box<str>, Hash);

/// What runs under a key now, and how far ended outcomes were removed.
#[derive(Debug, Default)]
pub(crate) struct Once {
    flights: Mutex<HashMap<Flight, watch::Receiver<()>>>,
    swept_ms: Mutex<i64>,
}

/// The right to run under a key; others wait until it is dropped.
struct Turn {
    inner: Arc<Inner>,
    flight: Flight,
    // Dropped with the turn, which is what those who wait see.
    _sender: watch::Sender<()>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        lock(&self.inner.once.flights).remove(&self.flight);
    }
}

/// What the row of a key says.
enum Found {
    /// Nothing that holds: run.
    Free,
    /// This outcome.
    Done(Box<OutcomeRow>),
    /// Another event had this key.
    Mismatch,
}

/// The key under which an invocation runs; `None` if it has none.
pub(super) fn key(source: &KeySource, invocation: &Invocation) -> Option<String> {
    let json = || serde_json::from_slice::<serde_json::Value>(invocation.event.payload()).ok();
    let text = |value: &serde_json::Value| match value {
        serde_json::Value::String(text) => Some(text.clone()),
        serde_json::Value::Null => None,
        other => Some(other.to_string()),
    };
    match source {
        KeySource::Header => invocation.idempotency_key.clone(),
        KeySource::EventId => {
            let id = match &invocation.event {
                Event::Http(request) => {
                    request.headers().get("ce-id").and_then(|id| id.to_str().ok()).map(str::to_owned)
                }
                Event::Json(_) => json().and_then(|event| event_id(&event)),
            };
            Some(id.unwrap_or_else(|| invocation.request_id.to_string()))
        }
        KeySource::Path(members) => members
            .iter()
            .try_fold(json()?, |value, member| match value {
                serde_json::Value::Array(mut items) => {
                    let index = member.parse::<usize>().ok().filter(|index| *index < items.len())?;
                    Some(items.swap_remove(index))
                }
                serde_json::Value::Object(mut object) => object.remove(member),
                _ => None,
            })
            .as_ref()
            .and_then(text),
    }
}

/// The id of an event as its source gives it: of a message, a record, a notification, or of the event itself.
fn event_id(event: &serde_json::Value) -> Option<String> {
    let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
    if let Some(records) = event.get("Records").and_then(|records| records.as_array()) {
        let ids: Option<Vec<_>> = records
            .iter()
            .map(|record| {
                let plain = [&record["messageId"], &record["eventID"], &record["Sns"]["MessageId"]];
                plain.into_iter().find_map(text).or_else(|| {
                    let object = &record["s3"]["object"];
                    let (key, sequencer) = (text(&object["key"])?, text(&object["sequencer"])?);
                    Some(format!("{}/{key}/{sequencer}", text(&record["s3"]["bucket"]["name"])?))
                })
            })
            .collect();
        return ids.filter(|ids| !ids.is_empty()).map(|ids| ids.join(","));
    }
    event.get("id").and_then(text)
}

fn row_key(account: AccountId, name: &str, hash: &Hash) -> Key {
    OUTCOMES.key(account, |k| {
        k.text(name).raw(hash);
    })
}

fn end_key(account: AccountId, ends: Timestamp, name: &str, hash: &Hash) -> Key {
    OUTCOME_ENDS.key(account, |k| {
        k.i64(ends.as_millisecond()).text(name).raw(hash);
    })
}

impl Inner {
    /// Runs an invocation under `key`, or answers with what it came to before.
    pub(super) async fn once(
        self: &Arc<Self>,
        pool: Arc<Pool>,
        deployed: Arc<Deployed>,
        invocation: Invocation,
        key: String,
        window: Duration,
    ) -> Result<Outcome, Error> {
        let header = matches!(deployed.extras.idempotency, Some((KeySource::Header, _)));
        // Who sends a key of their own says that the event is the same; with the others it is by nature.
        let fingerprint =
            || invocation.fingerprint.unwrap_or_else(|| Sha256::digest(invocation.event.payload()).into());
        let event: Option<Hash> = header.then(fingerprint);
        let hash: Hash = Sha256::digest(&key).into();
        let longest = Duration::from_secs(u64::from(deployed.row.timeout_s))
            + Duration::from_millis(self.config.queue_timeout_ms);
        let deadline = self.env.monotonic() + longest;
        let turn = loop {
            match self.take_turn(deployed.account, &deployed.row.name, hash) {
                Ok(turn) => break turn,
                Err(mut other) => {
                    let left = deadline.saturating_sub(self.env.monotonic());
                    tokio::select! {
                        // It changes when it is dropped, and not before.
                        _ = other.changed() => {}
                        () = self.env.sleep(left) => return Err(Error::IdempotencyBusy),
                    }
                }
            }
        };
        match self.begin_once(&deployed, &hash, event, window, invocation.request_id).await? {
            Found::Mismatch => Err(Error::IdempotencyMismatch),
            Found::Done(row) => {
                drop(turn);
                self.replay(&deployed, invocation, &key, *row).await
            }
            Found::Free => {
                let inner = self.clone();
                let work = async move {
                    let outcome = inner.run_once(pool, &deployed, invocation, key, hash, event, window).await;
                    drop(turn);
                    outcome
                };
                Detached::new(work).await
            }
        }
    }

    fn take_turn(
        self: &Arc<Self>,
        account: AccountId,
        name: &str,
        hash: Hash,
    ) -> Result<Turn, watch::Receiver<()>> {
        let flight: Flight = (account, name.into(), hash);
        let mut flights = lock(&self.once.flights);
        if let Some(other) = flights.get(&flight) {
            return Err(other.clone());
        }
        let (sender, receiver) = watch::channel(());
        flights.insert(flight.clone(), receiver);
        Ok(Turn { inner: self.clone(), flight, _sender: sender })
    }

    /// Looks the key up, and takes it if it is free.
    async fn begin_once(
        &self,
        deployed: &Deployed,
        hash: &Hash,
        event: Option<Hash>,
        window: Duration,
        request_id: RequestId,
    ) -> Result<Found, Error> {
        let (account, name) = (deployed.account, &deployed.row.name);
        let key = row_key(account, name, hash);
        let now = self.env.now();
        let ends = now.checked_add(window).unwrap_or(Timestamp::MAX);
        let row =
            OutcomeRow { request_id, ends, event: event.map(hex::encode), state: OutcomeState::Running };
        let end = end_key(account, ends, name, hash);
        let found = self.store.transact(vec![Read::Key(key.clone())], move |pages, _| -> Result<_, Error> {
            if let Some(stored) = OUTCOMES.first(&pages[0])?
                && stored.value.ends > now
                && matches!(stored.value.state, OutcomeState::Done { .. })
            {
                let same = row.event.is_none() || stored.value.event == row.event;
                let found = if same { Found::Done(Box::new(stored.value)) } else { Found::Mismatch };
                return Ok((Vec::new(), found));
            }
            let writes = vec![OUTCOMES.put(key.clone(), &row), OUTCOME_ENDS.put(end.clone(), &EndRow {})];
            Ok((writes, Found::Free))
        });
        found.await
    }

    #[expect(clippy::too_many_arguments, reason = "it is the second half of `once`, in a task of its own")]
    async fn run_once(
        self: &Arc<Self>,
        pool: Arc<Pool>,
        deployed: &Arc<Deployed>,
        mut invocation: Invocation,
        key: String,
        hash: Hash,
        event: Option<Hash>,
        window: Duration,
    ) -> Result<Outcome, Error> {
        let request_id = invocation.request_id;
        let caller = invocation.stream.take();
        let streams = caller.is_some();
        let mut running = self.running_at(pool, deployed.clone(), invocation, streams, Some(shortened(&key)));
        let mut head = None;
        let mut body = BytesMut::new();
        let mut fits = true;
        let outcome = loop {
            match running.next().await {
                Next::Piece(piece) => {
                    match &piece {
                        Piece::Head(given) => head = Some(OutcomeHead::of(given)),
                        Piece::Body(bytes) => {
                            fits &= body.len() + bytes.len() <= OUTCOME_LIMIT;
                            if fits {
                                body.extend_from_slice(bytes);
                            }
                        }
                    }
                    if let Some(caller) = &caller {
                        // A caller that has gone is answered when it comes again.
                        let _ = caller.send(piece).await;
                    }
                }
                Next::Ended(outcome) => break outcome,
            }
        };
        let (account, name) = (deployed.account, &deployed.row.name);
        let row = row_key(account, name, &hash);
        let write = match &outcome {
            Ok(outcome) if outcome.function_error.is_none() && fits => {
                if head.is_none() {
                    body.extend_from_slice(&outcome.payload);
                }
                let ends = self.env.now().checked_add(window).unwrap_or(Timestamp::MAX);
                let version = outcome.executed_version;
                let done = OutcomeState::Done { head, body: body.freeze(), version };
                let done = OutcomeRow { request_id, ends, event: event.map(hex::encode), state: done };
                vec![
                    OUTCOMES.put(row, &done),
                    OUTCOME_ENDS.put(end_key(account, ends, name, &hash), &EndRow {}),
                ]
            }
            Ok(_) | Err(_) => vec![Write::Delete(row)],
        };
        if let Err(error) = self.store.write(write).await {
            // Not answered, since it would run again: the caller hears that it may have to ask again.
            return Err(error.into());
        }
        outcome
    }

    /// Answers with an outcome that was there.
    async fn replay(
        &self,
        deployed: &Deployed,
        invocation: Invocation,
        key: &str,
        row: OutcomeRow,
    ) -> Result<Outcome, Error> {
        let OutcomeState::Done { head, body, version } = row.state else {
            return Err(Error::Platform("an outcome that is not there was to be repeated".into()));
        };
        let now = self.env.now();
        let format = log_format(&deployed.row.logging);
        let line = lines::repeated(format, now, invocation.request_id, &shortened(key), row.request_id);
        let stream = format!("{}/[{}]repeated", now.strftime("%Y/%m/%d"), deployed.version);
        let events: Vec<_> = line.into_iter().map(|message| LogEvent { timestamp: now, message }).collect();
        if !events.is_empty() {
            let group = deployed.row.log_group.clone();
            self.telemetry.log(LogLines { account: deployed.account, group, stream, events }).await;
        }
        let outcome = |payload| Outcome {
            payload,
            function_error: None,
            executed_version: version,
            log_tail: None,
            repeated: true,
        };
        match (invocation.stream, head) {
            (Some(stream), Some(head)) => {
                let stored = head.into_head()?;
                // A caller that has gone wants neither.
                if stream.send(Piece::Head(stored)).await.is_ok() {
                    let _ = stream.send(Piece::Body(body)).await;
                }
                Ok(outcome(Bytes::new()))
            }
            (_, _) => Ok(outcome(body)),
        }
    }

    /// Removes outcomes whose window is over.
    pub(crate) async fn sweep_outcomes(&self) {
        let now_ms = self.env.now().as_millisecond();
        let from_ms = *lock(&self.once.swept_ms);
        match self.sweep_ended(from_ms, now_ms).await {
            // Ends are always to come when they are written: nothing appears below.
            Ok(true) => *lock(&self.once.swept_ms) = now_ms,
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, "idempotent outcomes could not be removed"),
        }
    }

    /// True if nothing is left to do up to `to_ms`.
    async fn sweep_ended(&self, from_ms: i64, to_ms: i64) -> Result<bool, Error> {
        let corrupt = |e: store::key::KeyError| store::Error::Corrupt {
            table: "function_outcome_ends",
            reason: e.to_string(),
        };
        let at = |account, ms: i64| {
            OUTCOME_ENDS.key(account, |k| {
                k.i64(ms);
            })
        };
        let mut all = true;
        let mut from = Some(AccountId::DEFAULT);
        while let Some(start) = from {
            let next = self.store.next_account(tables::FUNCTION_OUTCOME_ENDS, start).await?;
            let Some(account) = next else { break };
            let mut range = OUTCOME_ENDS.range(account, SWEEP_AT_ONCE, |_| {});
            (range.start, range.end) = (at(account, from_ms), at(account, to_ms));
            let page = self.store.scan(range).await?;
            all &= !page.more;
            for entry in &page.entries {
                let mut reader = store::key::KeyReader::new(&entry.key).map_err(corrupt)?;
                reader.i64().map_err(corrupt)?;
                let name = reader.text().map_err(corrupt)?;
                let key = row_key(account, &name, &reader.raw().map_err(corrupt)?);
                let end = entry.key.clone();
                let removed =
                    self.store.transact(vec![Read::Key(key.clone())], move |pages, _| -> Result<_, Error> {
                        let mut writes = vec![Write::Delete(end.clone())];
                        // It may have been taken again since, and then ends later.
                        if OUTCOMES
                            .first(&pages[0])?
                            .is_some_and(|row| row.value.ends.as_millisecond() <= to_ms)
                        {
                            writes.push(Write::Delete(key.clone()));
                        }
                        Ok((writes, ()))
                    });
                removed.await?;
            }
            from = AccountId::from_number(account.number() + 1);
        }
        Ok(all)
    }
}

/// A key as the log shows it.
fn shortened(key: &str) -> String {
    key.chars().filter(|c| !c.is_control()).take(128).collect()
}

impl OutcomeHead {
    fn of(head: &ResponseHead) -> Self {
        match head {
            ResponseHead::Runtime { content_type, streaming } => {
                Self::Runtime { content_type: content_type.clone(), streaming: *streaming }
            }
            ResponseHead::Http(parts) => Self::Http {
                status: parts.status.as_u16(),
                headers: parts
                    .headers
                    .iter()
                    .map(|(name, value)| {
                        (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
                    })
                    .collect(),
            },
        }
    }

    fn into_head(self) -> Result<ResponseHead, Error> {
        match self {
            Self::Runtime { content_type, streaming } => {
                Ok(ResponseHead::Runtime { content_type, streaming })
            }
            Self::Http { status, headers } => {
                let mut response = http::Response::builder().status(status);
                for (name, value) in headers {
                    response = response.header(name, value);
                }
                let (parts, ()) =
                    response.body(()).map_err(|error| Error::Platform(error.to_string()))?.into_parts();
                Ok(ResponseHead::Http(Box::new(parts)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn events_are_known_by_what_their_source_calls_them() {
        let s3 = json!({ "s3": { "bucket": { "name": "b" }, "object": { "key": "k", "sequencer": "7" } } });
        for (event, id) in [
            (json!({ "id": "e-1" }), Some("e-1")),
            (json!({ "Records": [{ "messageId": "m-1" }, { "messageId": "m-2" }] }), Some("m-1,m-2")),
            (json!({ "Records": [{ "Sns": { "MessageId": "n" } }] }), Some("n")),
            (json!({ "Records": [s3] }), Some("b/k/7")),
            (json!({ "Records": [{ "x": 1 }] }), None),
            (json!({ "Records": [] }), None),
            (json!([1]), None),
        ] {
            assert_eq!(event_id(&event).as_deref(), id, "{event}");
        }
    }
}
