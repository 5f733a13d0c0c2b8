//! Log events as they are stored: several of one stream in a row.
//!
//! Invariant: the events of a chunk are in order of time and lie within [`MAX_SPAN_MS`], so that a reader who
//! looks for a moment needs to look back no further than that.

use store::{Key, Record};
use types::AccountId;

use crate::record::LogEvent;
use crate::tables::{CHUNKS, POINTERS};

/// The most time between the first and the last event of a chunk.
pub(crate) const MAX_SPAN_MS: i64 = 10_000;
/// The most text in a chunk of more than one event.
const MAX_BYTES: usize = 64 << 10;
/// The most events in a chunk.
const MAX_EVENTS: usize = 4096;

/// Events of one stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chunk {
    pub(crate) stream: String,
    pub(crate) ingested_ms: i64,
    pub(crate) first_ms: i64,
    /// Milliseconds after `first_ms`, and text.
    pub(crate) events: Vec<(u32, String)>,
}

/// Where a chunk's first event stands among all others of its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ChunkId {
    pub(crate) first_ms: i64,
    pub(crate) version: u64,
    pub(crate) ordinal: u16,
}

/// A group's reference to a chunk of one of its streams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pointer {
    pub(crate) stream: u64,
}

impl Record for Pointer {
    const FORMAT: u8 = 1;

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.stream.to_be_bytes());
    }

    fn decode(_format: u8, bytes: &[u8]) -> Result<Self, String> {
        let stream = bytes.try_into().map_err(|_| "it is not 8 bytes long".to_owned())?;
        Ok(Self { stream: u64::from_be_bytes(stream) })
    }
}

impl Record for Chunk {
    const FORMAT: u8 = 1;

    fn encode(&self, out: &mut Vec<u8>) {
        let text = |out: &mut Vec<u8>, text: &str| {
            let len = u32::try_from(text.len()).expect("messages are far below 4 GiB");
            out.extend_from_slice(&len.to_le_bytes());
            out.extend_from_slice(text.as_bytes());
        };
        out.extend_from_slice(&self.ingested_ms.to_le_bytes());
        out.extend_from_slice(&self.first_ms.to_le_bytes());
        text(out, &self.stream);
        for (offset, message) in &self.events {
            out.extend_from_slice(&offset.to_le_bytes());
            text(out, message);
        }
    }

    fn decode(_format: u8, bytes: &[u8]) -> Result<Self, String> {
        let mut reader = Reader { rest: bytes };
        let (Some(ingested_ms), Some(first_ms), Some(stream)) =
            (reader.take().map(i64::from_le_bytes), reader.take().map(i64::from_le_bytes), reader.text())
        else {
            return Err("it is cut short".into());
        };
        let mut events = Vec::new();
        while !reader.rest.is_empty() {
            let event = reader.take().map(u32::from_le_bytes).zip(reader.text());
            events.push(event.ok_or("it is cut short")?);
        }
        Ok(Self { stream, ingested_ms, first_ms, events })
    }
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(*head)
    }

    fn text(&mut self) -> Option<String> {
        let len = u32::from_le_bytes(self.take()?) as usize;
        let (text, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        String::from_utf8(text.to_vec()).ok()
    }
}

/// Packs events of one stream.
pub(crate) fn pack(stream: &str, ingested_ms: i64, mut events: Vec<LogEvent>) -> Vec<Chunk> {
    // Stable: events of one millisecond keep their order.
    events.sort_by_key(|event| event.timestamp.as_millisecond());
    let mut chunks: Vec<Chunk> = Vec::new();
    let mut bytes = 0;
    for LogEvent { timestamp, message } in events {
        let at = timestamp.as_millisecond();
        bytes += message.len();
        match chunks.last_mut() {
            Some(chunk)
                if at - chunk.first_ms <= MAX_SPAN_MS
                    && bytes <= MAX_BYTES
                    && chunk.events.len() < MAX_EVENTS =>
            {
                let offset = u32::try_from(at - chunk.first_ms).expect("a span is at most ten seconds");
                chunk.events.push((offset, message));
            }
            _ => {
                bytes = message.len();
                let stream = stream.to_owned();
                chunks.push(Chunk { stream, ingested_ms, first_ms: at, events: vec![(0, message)] });
            }
        }
    }
    chunks
}

impl ChunkId {
    /// The key of the chunk in its stream.
    pub(crate) fn in_stream(self, account: AccountId, group: u64, stream: u64) -> Key {
        CHUNKS.key(account, |k| {
            k.u8(0).u64(group).u64(stream);
            k.i64(self.first_ms).u64(self.version).raw(&self.ordinal.to_be_bytes());
        })
    }

    /// The key of the pointer in its group.
    pub(crate) fn in_group(self, account: AccountId, group: u64) -> Key {
        POINTERS.key(account, |k| {
            k.u8(1).u64(group);
            k.i64(self.first_ms).u64(self.version).raw(&self.ordinal.to_be_bytes());
        })
    }

    /// Reads the end of either key.
    pub(crate) fn from_key(key: &[u8]) -> Option<Self> {
        let tail: &[u8; 18] = key.last_chunk()?;
        let (first, rest) = tail.split_first_chunk::<8>()?;
        let (version, ordinal) = rest.split_first_chunk::<8>()?;
        Some(Self {
            first_ms: (u64::from_be_bytes(*first) ^ 1 << 63).cast_signed(),
            version: u64::from_be_bytes(*version),
            ordinal: u16::from_be_bytes(ordinal.try_into().ok()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use types::Timestamp;

    proptest! {
        #[test]
        fn packing_keeps_every_event_in_order(
            events in proptest::collection::vec((0i64..60_000, ".{0,20}"), 0..200),
        ) {
            let events: Vec<_> = events
                .into_iter()
                .map(|(ms, message)| LogEvent { timestamp: Timestamp::from_millisecond(ms).unwrap(), message })
                .collect();
            let chunks = pack("s", 7, events.clone());
            let mut sorted: Vec<_> =
                events.into_iter().map(|e| (e.timestamp.as_millisecond(), e.message)).collect();
            sorted.sort_by_key(|e| e.0);
            let mut unpacked = Vec::new();
            for chunk in &chunks {
                let mut bytes = Vec::new();
                chunk.encode(&mut bytes);
                prop_assert_eq!(&Chunk::decode(1, &bytes).unwrap(), chunk);
                prop_assert!(Chunk::decode(1, &bytes[..bytes.len() - 1]).is_err());
                prop_assert!(i64::from(chunk.events.last().unwrap().0) <= MAX_SPAN_MS);
                unpacked.extend(chunk.events.iter().map(|(o, m)| (chunk.first_ms + i64::from(*o), m.clone())));
            }
            prop_assert_eq!(unpacked, sorted);
        }
    }

    #[test]
    fn ids_round_trip_through_keys() {
        let id = ChunkId { first_ms: 1_700_000_000_123, version: 42, ordinal: 7 };
        assert_eq!(ChunkId::from_key(&id.in_stream(AccountId::DEFAULT, 1, 2)), Some(id));
        assert_eq!(ChunkId::from_key(&id.in_group(AccountId::DEFAULT, 1)), Some(id));
    }
}
