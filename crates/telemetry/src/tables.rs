//! What is stored.
//!
//! A group and a stream have a number besides their name, never used again, so that what belonged to a deleted
//! one can not come back with a new one of the same name.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use store::key::KeyReader;
use store::{JsonRecord, Key, Table, tables};
use types::{AccountId, RequestId};

use crate::Error;
use crate::chunk::{Chunk, Pointer};
use crate::packed::{Invocations, Spans, TraceStart, Traces};
use crate::record::{Invocation, Span};

/// Key: `0`, name.
pub(crate) const GROUPS: Table<Group> = Table::new(tables::LOG_GROUPS, "log_groups");
/// Rows of the node. Key: `1`, account number, group number, stream number (0: the whole group).
pub(crate) const GARBAGE: Table<Garbage> = Table::new(tables::LOG_GROUPS, "log_groups");
/// Rows of the node: groups whose events expire. Key: `2`, account number, name.
pub(crate) const EXPIRING: Table<Expiring> = Table::new(tables::LOG_GROUPS, "log_groups");
/// Key: group number, name.
pub(crate) const STREAMS: Table<Stream> = Table::new(tables::LOG_STREAMS, "log_streams");
/// Events of a stream. Key: `0`, group, stream, first timestamp (ms), commit, ordinal (2 bytes).
pub(crate) const CHUNKS: Table<Chunk> = Table::new(tables::LOG_EVENTS, "log_events");
/// Events of a group. Key: `1`, group, first timestamp (ms), commit, ordinal (2 bytes).
pub(crate) const POINTERS: Table<Pointer> = Table::new(tables::LOG_EVENTS, "log_events");
/// Key: `0`, function, start (us), request id, attempt, of the first in the row.
pub(crate) const INVOCATIONS: Table<Invocations> = Table::new(tables::INVOCATIONS, "invocations");
/// What was billed and may be recorded again. Key: `1`, request id, attempt.
pub(crate) const BILLED: Table<Billed> = Table::new(tables::INVOCATIONS, "invocations");
/// Key: `0`, hour since the epoch, function.
pub(crate) const USAGE: Table<Usage> = Table::new(tables::USAGE, "usage");
/// Rows of the node: accounts that have traces or usage, and how far they were swept. Key: `1`, account number.
pub(crate) const SWEPT: Table<Swept> = Table::new(tables::USAGE, "usage");
/// Key: `0`, root, start (us), id, of the first in the row.
pub(crate) const SPANS: Table<Spans> = Table::new(tables::SPANS, "spans");
/// Traces by time. Key: `1`, start (us), root, of the first in the row.
pub(crate) const TRACES: Table<Traces> = Table::new(tables::SPANS, "spans");

/// A log group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Group {
    pub(crate) name: String,
    pub(crate) number: u64,
    pub(crate) created_ms: i64,
    pub(crate) retention_days: Option<u32>,
    #[serde(default)]
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) stored_bytes: u64,
    /// Chunks that begin before this are gone.
    #[serde(default)]
    pub(crate) swept_ms: i64,
}
impl JsonRecord for Group {}

impl Group {
    /// Events before this have expired.
    pub(crate) fn cutoff_ms(&self, now_ms: i64) -> i64 {
        self.retention_days.map_or(0, |days| now_ms - i64::from(days) * 86_400_000).max(self.swept_ms)
    }
}

/// A log stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stream {
    pub(crate) name: String,
    pub(crate) number: u64,
    pub(crate) created_ms: i64,
    pub(crate) first_event_ms: Option<i64>,
    pub(crate) last_event_ms: Option<i64>,
    pub(crate) last_ingestion_ms: Option<i64>,
}
impl JsonRecord for Stream {}

/// Events that nobody can reach any more.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Garbage {
    pub(crate) account: AccountId,
    pub(crate) group: u64,
    /// One stream of the group, or all of it.
    pub(crate) stream: Option<u64>,
}
impl JsonRecord for Garbage {}

/// A group with a retention.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Expiring {
    pub(crate) account: AccountId,
    pub(crate) name: String,
}
impl JsonRecord for Expiring {}

/// An invocation that was billed, and where its row is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Billed {
    pub(crate) started_us: i64,
}
impl JsonRecord for Billed {}

/// What a function used in an hour.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// How often it ran.
    pub invocations: u64,
    /// How often it failed, timeouts included.
    pub errors: u64,
    /// How often it began in a new environment.
    pub cold_starts: u64,
    /// The time that is paid for.
    pub billed_ms: u64,
    /// The time that is paid for, each millisecond times its memory in MB.
    pub mb_ms: u64,
}
impl JsonRecord for Usage {}

/// How far an account's invocations and traces were swept.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Swept {
    pub(crate) account: AccountId,
    /// What began before this is gone.
    pub(crate) until_us: i64,
}
impl JsonRecord for Swept {}

pub(crate) fn group(account: AccountId, name: &str) -> Key {
    GROUPS.key(account, |k| {
        k.u8(0).text(name);
    })
}

pub(crate) fn garbage(garbage: &Garbage) -> Key {
    GARBAGE.key(AccountId::NODE, |k| {
        k.u8(1).u64(garbage.account.number()).u64(garbage.group).u64(garbage.stream.unwrap_or(0));
    })
}

pub(crate) fn expiring(account: AccountId, name: &str) -> Key {
    EXPIRING.key(AccountId::NODE, |k| {
        k.u8(2).u64(account.number()).text(name);
    })
}

pub(crate) fn stream(account: AccountId, group: u64, name: &str) -> Key {
    STREAMS.key(account, |k| {
        k.u64(group).text(name);
    })
}

pub(crate) fn invocation(row: &Invocation) -> Key {
    INVOCATIONS.key(row.account, |k| {
        k.u8(0).text(&row.function).i64(row.started_at.as_microsecond());
        k.text(&row.request_id.to_string()).u64(row.attempt.into());
    })
}

pub(crate) fn billed(account: AccountId, request_id: RequestId, attempt: u32) -> Key {
    BILLED.key(account, |k| {
        k.u8(1).text(&request_id.to_string()).u64(attempt.into());
    })
}

pub(crate) fn usage(account: AccountId, hour: i64, function: &str) -> Key {
    USAGE.key(account, |k| {
        k.u8(0).i64(hour).text(function);
    })
}

pub(crate) fn swept(account: AccountId) -> Key {
    SWEPT.key(AccountId::NODE, |k| {
        k.u8(1).u64(account.number());
    })
}

pub(crate) fn span(row: &Span) -> Key {
    SPANS.key(row.account, |k| {
        k.u8(0).text(&row.trace.root).i64(row.started_at.as_microsecond()).text(&row.id);
    })
}

pub(crate) fn trace(account: AccountId, started_us: i64, root: &str) -> Key {
    TRACES.key(account, |k| {
        k.u8(1).i64(started_us).text(root);
    })
}

/// Hour and function of a key of usage.
pub(crate) fn usage_key(key: &[u8]) -> Result<(i64, String), Error> {
    let mut reader = KeyReader::new(key)?;
    reader.u8()?;
    Ok((reader.i64()?, reader.text()?))
}

/// Start (us) of a key of invocations.
pub(crate) fn invocation_start(key: &[u8]) -> Result<i64, Error> {
    let mut reader = KeyReader::new(key)?;
    reader.u8()?;
    reader.text()?;
    Ok(reader.i64()?)
}

/// Start (us) and root of a key of the list of traces.
pub(crate) fn trace_key(key: &[u8]) -> Result<(i64, String), Error> {
    let mut reader = KeyReader::new(key)?;
    reader.u8()?;
    Ok((reader.i64()?, reader.text()?))
}

impl Traces {
    /// The traces of the row with that key.
    pub(crate) fn starts(self, key: &[u8]) -> Result<Vec<TraceStart>, Error> {
        match self {
            Self::Listed(traces) => Ok(traces),
            Self::Named(name) => {
                let (started_us, root) = trace_key(key)?;
                Ok(vec![TraceStart { root, started_us, name }])
            }
        }
    }
}
