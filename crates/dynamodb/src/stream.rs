//! Streams: what a record of a change is, where it lies, and how streams begin and end.
//!
//! Invariants: a record is part of the commit of its change, and its place in the stream is the commit's; so a
//! stream has every change once, in the order in which they became visible. A write that changes nothing leaves
//! no record. A stream has one shard, which is open as long as the stream is enabled.

use bytes::Bytes;
use store::key::{KeyReader, prefix_end};
use store::{Key, Write};
use types::{AccountId, Timestamp};

use crate::change::Image;
use crate::tables::{
    STREAMS, StreamRecord, StreamSetting, TableRecord, ViewType, stream_key, stream_records_prefix,
};
use crate::value::project_item;

/// How long a record can be read.
pub(crate) const RETENTION: std::time::Duration = std::time::Duration::from_secs(24 * 3600);

/// The format that this code writes.
const FORMAT: u8 = 1;

/// The length of an image that a record does not have.
const NONE: u32 = u32::MAX;

/// Who made a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    Caller,
    /// The item's time to live was over.
    Expiry,
}

/// When a change was made, and by whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moment {
    pub(crate) at: Timestamp,
    pub(crate) cause: Cause,
}

impl Moment {
    /// A change that a caller asks for.
    pub(crate) fn caller(at: Timestamp) -> Self {
        Self { at, cause: Cause::Caller }
    }
}

/// What happened to an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    Insert,
    Modify,
    Remove,
}

impl Event {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Insert => "INSERT",
            Self::Modify => "MODIFY",
            Self::Remove => "REMOVE",
        }
    }
}

/// A record, as it is read. Items are encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ChangeRecord {
    pub(crate) event: Event,
    pub(crate) cause: Cause,
    pub(crate) at: Timestamp,
    pub(crate) keys: Bytes,
    pub(crate) new: Option<Bytes>,
    pub(crate) old: Option<Bytes>,
}

impl ChangeRecord {
    fn encode(&self) -> Bytes {
        let images = [Some(&self.keys), self.new.as_ref(), self.old.as_ref()];
        let len = images.iter().map(|image| 4 + image.map_or(0, Bytes::len)).sum::<usize>();
        let mut out = Vec::with_capacity(11 + len);
        out.push(FORMAT);
        out.push(match self.event {
            Event::Insert => 0,
            Event::Modify => 1,
            Event::Remove => 2,
        });
        out.push(match self.cause {
            Cause::Caller => 0,
            Cause::Expiry => 1,
        });
        out.extend_from_slice(&self.at.as_millisecond().to_be_bytes());
        for image in images {
            let len = image.map_or(NONE, |image| u32::try_from(image.len()).expect("items are small"));
            out.extend_from_slice(&len.to_be_bytes());
            out.extend_from_slice(image.map_or(&[], |image| &image[..]));
        }
        out.into()
    }

    /// A record as it is stored.
    pub(crate) fn decode(bytes: &Bytes) -> Result<Self, store::Error> {
        Self::read(bytes).ok_or_else(|| store::Error::Corrupt {
            table: "ddb_stream_records",
            reason: "it is not a record, or has a newer format".into(),
        })
    }

    fn read(bytes: &Bytes) -> Option<Self> {
        let (head, _) = bytes.split_first_chunk::<11>()?;
        let event = match head[..2] {
            [FORMAT, 0] => Event::Insert,
            [FORMAT, 1] => Event::Modify,
            [FORMAT, 2] => Event::Remove,
            _ => return None,
        };
        let cause = if head[2] == 0 { Cause::Caller } else { Cause::Expiry };
        let at = i64::from_be_bytes(*head.last_chunk()?);
        let mut rest = bytes.slice(11..);
        let mut image = || {
            let len = u32::from_be_bytes(*rest.first_chunk()?);
            let mut tail = rest.slice(4..);
            if len == NONE {
                rest = tail;
                return Some(None);
            }
            let len = usize::try_from(len).ok().filter(|len| *len <= tail.len())?;
            let image = tail.split_to(len);
            rest = tail;
            Some(Some(image))
        };
        let (keys, new, old) = (image()??, image()?, image()?);
        Some(Self { event, cause, at: Timestamp::from_millisecond(at).ok()?, keys, new, old })
    }
}

/// Appends the record of a change, if the table has a stream and anything changed.
pub(crate) fn write(
    account: AccountId,
    table: &TableRecord,
    (old, new): (Option<Image<'_>>, Option<Image<'_>>),
    moment: Moment,
    writes: &mut Vec<Write>,
) {
    let Some(stream) = table.stream.as_ref().filter(|stream| stream.enabled) else { return };
    let (event, some) = match (old, new) {
        (None, None) => return,
        (Some(old), Some(new)) if old.encoded == new.encoded => return,
        (None, Some(new)) => (Event::Insert, new),
        (Some(_), Some(new)) => (Event::Modify, new),
        (Some(old), None) => (Event::Remove, old),
    };
    let is_key = |name: &[u8]| {
        std::iter::once(&table.partition).chain(&table.sort).any(|key| key.name.as_bytes() == name)
    };
    let (with_new, with_old) = match stream.view {
        ViewType::KeysOnly => (false, false),
        ViewType::NewImage => (true, false),
        ViewType::OldImage => (false, true),
        ViewType::NewAndOldImages => (true, true),
    };
    let record = ChangeRecord {
        event,
        cause: moment.cause,
        at: moment.at,
        keys: project_item(some.view, is_key),
        new: new.filter(|_| with_new).map(|item| item.encoded.clone()),
        old: old.filter(|_| with_old).map(|item| item.encoded.clone()),
    };
    let prefix = stream_records_prefix(account, stream.id).finish();
    writes.push(Write::Append(prefix, record.encode()));
}

/// Begins a stream of the table whose row is about to be written by commit `version`.
pub(crate) fn open(
    account: AccountId,
    table: &mut TableRecord,
    view: ViewType,
    at: Timestamp,
    version: u64,
    writes: &mut Vec<Write>,
) {
    let label = at.strftime("%Y-%m-%dT%H:%M:%S.%3f").to_string();
    let record = StreamRecord {
        table: table.name.clone(),
        label: label.clone(),
        id: version,
        view,
        created_at: at,
        partition: table.partition.name.clone(),
        sort: table.sort.as_ref().map(|key| key.name.clone()),
        closed: None,
        policy: None,
    };
    writes.push(STREAMS.put(record.key(account), &record));
    table.stream = Some(StreamSetting { id: version, label, view, enabled: true });
}

/// Ends the stream of a table that is being changed or deleted by commit `version`.
pub(crate) fn close(
    account: AccountId,
    table: &mut TableRecord,
    stream: StreamRecord,
    at: Timestamp,
    version: u64,
    writes: &mut Vec<Write>,
) {
    if let Some(setting) = &mut table.stream {
        setting.enabled = false;
    }
    let record = StreamRecord { closed: Some((at, version)), ..stream };
    writes.push(STREAMS.put(record.key(account), &record));
}

/// The key of the row of a table's enabled stream.
pub(crate) fn open_key(account: AccountId, table: &TableRecord) -> Option<Key> {
    let stream = table.stream.as_ref().filter(|stream| stream.enabled)?;
    Some(stream_key(account, &table.name, &stream.label))
}

/// A place in a stream: the number of a record, or of one that may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position(u128);

impl Position {
    /// The record that the given commit wrote as its write of that ordinal.
    pub(crate) fn new(version: u64, ordinal: u16) -> Self {
        Self(u128::from(version) << 16 | u128::from(ordinal))
    }

    /// Version and ordinal.
    pub(crate) fn parts(self) -> (u64, u16) {
        ((self.0 >> 16) as u64, (self.0 & 0xFFFF) as u16)
    }

    /// The position after it.
    pub(crate) fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// A sequence number: 21 digits, so that numbers are ordered as text, too.
    pub(crate) fn sequence_number(self) -> String {
        format!("1{:020}", self.0)
    }

    /// The position of a sequence number.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix('1').filter(|rest| rest.len() == 20)?;
        digits.parse().ok().filter(|n: &u128| *n >> 80 == 0).map(Self)
    }

    /// Of a record's key.
    pub(crate) fn of_key(key: &[u8]) -> Result<Self, store::key::KeyError> {
        let mut reader = KeyReader::new(key)?;
        reader.u64()?;
        let version = reader.u64()?;
        Ok(Self::new(version, u16::from_be_bytes(reader.raw()?)))
    }
}

/// The keys of a stream's records from a position on.
pub(crate) fn records_from(account: AccountId, id: u64, position: Position) -> (Key, Key) {
    let mut writer = stream_records_prefix(account, id);
    let end = prefix_end(&writer.clone().finish());
    let (version, ordinal) = position.parts();
    writer.u64(version).raw(&ordinal.to_be_bytes());
    (writer.finish(), end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_round_trip() {
        let images = [None, Some(Bytes::from_static(b"new")), Some(Bytes::new())];
        for (event, new) in [Event::Insert, Event::Modify, Event::Remove].into_iter().zip(images) {
            let record = ChangeRecord {
                event,
                cause: Cause::Expiry,
                at: Timestamp::from_millisecond(1_700_000_000_123).unwrap(),
                keys: Bytes::from_static(b"keys"),
                old: new.clone().map(|_| Bytes::from_static(b"old")),
                new,
            };
            let encoded = record.encode();
            assert_eq!(ChangeRecord::decode(&encoded).unwrap(), record);
            for cut in 0..encoded.len() {
                assert!(ChangeRecord::decode(&encoded.slice(..cut)).is_err());
            }
        }
    }

    #[test]
    fn sequence_numbers_are_ordered_as_text() {
        let position = Position::new(7, 3);
        let number = position.sequence_number();
        assert_eq!(number.len(), 21);
        assert_eq!(Position::parse(&number), Some(position));
        assert!(number < position.next().sequence_number());
        assert!(number < Position::new(70, 0).sequence_number());
        assert_eq!(Position::parse("1"), None);
        assert_eq!(Position::parse(&"9".repeat(21)), None);
    }
}
