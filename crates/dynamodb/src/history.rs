//! What items were before they changed: how backups and recovery to a point in time see a table as of a commit.
//!
//! Invariant: while a table has a backup, an item that the backup shows is kept when it changes, in the commit
//! that changes it; with recovery, every item is, and every change leaves a row with its time. So of each key,
//! either the item that is there or one row of the history is what was there at a commit: the item if it is not
//! newer, else the row whose item was written by then and changed later.

use bytes::Bytes;
use store::key::KeyReader;
use store::{Entry, Key, Write};
use types::Timestamp;

use crate::stream::Moment;
use crate::table::{ITEM_PREFIX_LEN, Table};
use crate::tables::history_prefix;

/// The format that this code writes.
const FORMAT: u8 = 1;

/// A row of the history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Past {
    /// When the item changed.
    pub(crate) at: Timestamp,
    /// The item's key, from its hash on.
    pub(crate) tail: Bytes,
    /// What it was, and the commit that had written that; `None` if there was none.
    pub(crate) item: Option<(u64, Bytes)>,
}

impl Past {
    fn encode(&self) -> Bytes {
        let len = u16::try_from(self.tail.len()).expect("keys are short");
        let image = self.item.as_ref().map_or(0, |(_, item)| item.len());
        let mut out = Vec::with_capacity(20 + self.tail.len() + image);
        out.push(FORMAT);
        out.extend_from_slice(&self.at.as_millisecond().to_be_bytes());
        out.extend_from_slice(&len.to_be_bytes());
        out.extend_from_slice(&self.tail);
        if let Some((version, item)) = &self.item {
            out.extend_from_slice(&version.to_be_bytes());
            out.extend_from_slice(item);
        }
        out.into()
    }

    /// A row as it is stored.
    pub(crate) fn decode(bytes: &Bytes) -> Result<Self, store::Error> {
        Self::read(bytes).ok_or_else(|| store::Error::Corrupt {
            table: "ddb_history",
            reason: "it is not a row of a history, or has a newer format".into(),
        })
    }

    fn read(bytes: &Bytes) -> Option<Self> {
        let (head, _) = bytes.split_first_chunk::<11>()?;
        if head[0] != FORMAT {
            return None;
        }
        let at = i64::from_be_bytes(*head[1..].first_chunk()?);
        let len = usize::from(u16::from_be_bytes(*head.last_chunk()?));
        let mut rest = bytes.slice(11..);
        if rest.len() < len {
            return None;
        }
        let tail = rest.split_to(len);
        let item = if rest.is_empty() {
            None
        } else {
            let version = u64::from_be_bytes(*rest.first_chunk()?);
            Some((version, rest.slice(8..)))
        };
        Some(Self { at: Timestamp::from_millisecond(at).ok()?, tail, item })
    }
}

/// Appends what is to be kept of a change.
pub(crate) fn write(table: &Table, key: &Key, old: Option<&Entry>, moment: Moment, writes: &mut Vec<Write>) {
    let record = &table.record;
    let keeps = match old {
        _ if record.recovery.is_some() => true,
        Some(entry) => record.backups.iter().any(|backup| *backup >= entry.version.0),
        None => false,
    };
    if !keeps {
        return;
    }
    let past = Past {
        at: moment.at,
        tail: key.slice(ITEM_PREFIX_LEN..),
        item: old.map(|entry| (entry.version.0, entry.value.clone())),
    };
    let prefix = history_prefix(table.account, record.id).finish();
    writes.push(Write::Append(prefix, past.encode()));
}

/// The commit that a row of the history belongs to.
pub(crate) fn version_of(key: &[u8]) -> Result<u64, store::Error> {
    let read = || {
        let mut reader = KeyReader::new(key)?;
        reader.u64()?;
        reader.u64()
    };
    read().map_err(|error: store::key::KeyError| store::Error::Corrupt {
        table: "ddb_history",
        reason: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_round_trip() {
        for item in [None, Some((7, Bytes::from_static(b"item")))] {
            let past = Past {
                at: Timestamp::from_millisecond(1_700_000_000_123).unwrap(),
                tail: Bytes::from_static(b"tail"),
                item,
            };
            let encoded = past.encode();
            assert_eq!(Past::decode(&encoded).unwrap(), past);
            for cut in 0..15 {
                assert!(Past::decode(&encoded.slice(..cut)).is_err());
            }
        }
    }
}
