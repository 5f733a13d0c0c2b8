//! Rows that cause work. A service that changes something adds its deliveries to the same commit; `events`
//! carries them out, at least once, in commit order within a lane, and removes each in the commit that
//! records its end.
//!
//! A lane is one target (a function's ARN): lanes do not wait for each other. A delivery that failed moves
//! from [`tables::OUTBOX`] to [`tables::OUTBOX_DELAYED`] and comes back when its time has come.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use types::{AccountId, RequestId, Timestamp, TraceHeader};

use crate::key::KeyWriter;
use crate::{JsonRecord, Key, Table, Write, tables};

/// Deliveries that are due. Key: lane (text), commit version and ordinal.
pub const DUE: Table<Delivery> = Table::new(tables::OUTBOX, "outbox");

/// Deliveries that wait. Key: due time (ms since the epoch, i64), commit version and ordinal.
pub const DELAYED: Table<Delivery> = Table::new(tables::OUTBOX_DELAYED, "outbox_delayed");

/// One event on its way to one target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Delivery {
    /// The invocation's request id: the same at every try, so that a target can tell a repetition.
    pub request_id: RequestId,
    /// ARN of the target, which is also the lane: a function (with or without qualifier).
    pub target: String,
    /// ARN of what caused it (a bucket), or the caller's ARN for an asynchronous invocation.
    pub source: String,
    /// The service that delivers on the account's behalf (`s3.amazonaws.com`); `None` for a direct
    /// invocation, which was authorised when it was accepted.
    pub service: Option<String>,
    /// The event, JSON text as the target gets it.
    #[serde(with = "payload")]
    pub payload: Bytes,
    /// The client context of a direct invocation, base64, as it came.
    #[serde(default)]
    pub client_context: Option<String>,
    /// How many tries have failed.
    #[serde(default)]
    pub failures: u32,
    /// When it was accepted; its age is counted from here.
    pub accepted_at: Timestamp,
    /// The trace it belongs to.
    pub trace: TraceHeader,
}

impl JsonRecord for Delivery {}

impl Delivery {
    /// A write that makes it due, in the same commit as the change that caused it.
    pub fn due(&self, account: AccountId) -> Write {
        DUE.append(lane(account, &self.target), self)
    }

    /// A write that makes it due at `at`.
    pub fn due_at(&self, account: AccountId, at: Timestamp) -> Write {
        let prefix = DELAYED.key(account, |k| {
            k.i64(at.as_millisecond());
        });
        DELAYED.append(prefix, self)
    }
}

/// The prefix of the keys of one lane.
pub fn lane(account: AccountId, target: &str) -> Key {
    let mut writer = KeyWriter::new(account, tables::OUTBOX);
    writer.text(target);
    writer.finish()
}

mod payload {
    //! A payload is UTF-8 JSON text: stored as a string, without another layer of encoding.
    use bytes::Bytes;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(payload: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
        let text = std::str::from_utf8(payload).map_err(serde::ser::Error::custom)?;
        serializer.serialize_str(text)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        String::deserialize(deserializer).map(Bytes::from)
    }
}
