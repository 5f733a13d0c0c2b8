//! Reads events of a group or a stream in order of time, a page at a time.
//!
//! Chunks are in order of their first event and may overlap; since none spans more than [`MAX_SPAN_MS`], a
//! reader knows when no chunk to come can hold an event that belongs before those it has.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use store::{Key, Range, Read, Store, key};
use types::AccountId;

use crate::Error;
use crate::chunk::{Chunk, ChunkId, MAX_SPAN_MS};
use crate::tables::{CHUNKS, POINTERS};

/// Chunks read at a time.
const PAGE: usize = 128;

/// Where an event stands among all others of its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    pub(crate) ms: i64,
    pub(crate) version: u64,
    pub(crate) ordinal: u16,
    pub(crate) index: u32,
}

impl Position {
    /// Before every event from `ms` on.
    pub(crate) fn before(ms: i64) -> Self {
        Self { ms, version: 0, ordinal: 0, index: 0 }
    }

    /// 56 digits, as event ids and tokens show it.
    pub(crate) fn id(self) -> String {
        format!("{:020}{:020}{:06}{:010}", self.ms.max(0), self.version, self.ordinal, self.index)
    }

    /// Reads [`Position::id`].
    pub(crate) fn parse(id: &str) -> Option<Self> {
        if id.len() != 56 || !id.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        Some(Self {
            ms: id[..20].parse().ok()?,
            version: id[20..40].parse().ok()?,
            ordinal: id[40..46].parse().ok()?,
            index: id[46..].parse().ok()?,
        })
    }
}

/// Whose events.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Source {
    Group(u64),
    Stream(u64, u64),
}

/// What to read.
#[derive(Debug, Clone)]
pub(crate) struct Query {
    pub(crate) account: AccountId,
    pub(crate) source: Source,
    /// First millisecond, included.
    pub(crate) from_ms: i64,
    /// Last millisecond, excluded.
    pub(crate) to_ms: i64,
    /// Only events beyond this one, in the direction of reading.
    pub(crate) beyond: Option<Position>,
    pub(crate) reverse: bool,
    pub(crate) limit: usize,
    pub(crate) limit_bytes: usize,
    /// Stop after this many chunks even if few events were wanted.
    pub(crate) limit_chunks: usize,
}

/// An event that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) position: Position,
    pub(crate) stream: String,
    pub(crate) ingested_ms: i64,
    pub(crate) message: String,
}

/// A page of events, in the order of reading.
#[derive(Debug)]
pub(crate) struct Events {
    pub(crate) events: Vec<Found>,
    /// The last event that was looked at; `None` if there is nothing beyond.
    pub(crate) next: Option<Position>,
}

/// In a heap, the next event in the order of reading is the greatest.
struct Candidate {
    found: Found,
    reverse: bool,
}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> Ordering {
        let order = self.found.position.cmp(&other.found.position);
        if self.reverse { order } else { order.reverse() }
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        self.found.position == other.found.position
    }
}

impl Eq for Candidate {}

impl Query {
    fn bound(&self, ms: i64) -> Key {
        match self.source {
            Source::Group(group) => POINTERS.key(self.account, |k| {
                k.u8(1).u64(group).i64(ms);
            }),
            Source::Stream(group, stream) => CHUNKS.key(self.account, |k| {
                k.u8(0).u64(group).u64(stream).i64(ms);
            }),
        }
    }

    fn range(&self) -> Range {
        let beyond_ms = self.beyond.map(|p| p.ms);
        let (from, to) = if self.reverse {
            (self.from_ms, beyond_ms.map_or(self.to_ms, |ms| self.to_ms.min(ms.saturating_add(1))))
        } else {
            (beyond_ms.map_or(self.from_ms, |ms| self.from_ms.max(ms)), self.to_ms)
        };
        let start = self.bound(from.saturating_sub(MAX_SPAN_MS));
        let end = self.bound(to).max(start.clone());
        Range { start, end, limit: PAGE, limit_bytes: 4 << 20, reverse: self.reverse }
    }

    fn wants(&self, position: &Position) -> bool {
        let beyond = self.beyond.is_none_or(|b| if self.reverse { *position < b } else { *position > b });
        (self.from_ms..self.to_ms).contains(&position.ms) && beyond
    }

    /// Reads the events for which `keep` is true.
    pub(crate) async fn run(self, store: &Store, keep: impl Fn(&Found) -> bool) -> Result<Events, Error> {
        let mut range = self.range();
        let mut heap: BinaryHeap<Candidate> = BinaryHeap::new();
        let mut page = Events { events: Vec::new(), next: None };
        let (mut bytes, mut chunks_read) = (0, 0);
        let mut more = range.start < range.end;
        loop {
            // Everything up to here is known.
            let mut known = None;
            if more {
                let (chunks, again) = self.chunks(store, &mut range).await?;
                more = again;
                chunks_read += chunks.len();
                known = chunks.last().map(|(id, _)| id.first_ms);
                for (id, chunk) in chunks {
                    self.offer(id, chunk, &mut heap);
                }
            }
            while let Some(top) = heap.peek() {
                let at = top.found.position.ms;
                let settled = !more
                    || known.is_some_and(|ms| if self.reverse { at > ms + MAX_SPAN_MS } else { at < ms });
                if !settled {
                    break;
                }
                let found = heap.pop().expect("it was just looked at").found;
                let size = found.message.len() + 26;
                let wanted = keep(&found);
                if wanted && (page.events.len() >= self.limit || bytes + size > self.limit_bytes && bytes > 0)
                {
                    return Ok(page);
                }
                page.next = Some(found.position);
                if wanted {
                    bytes += size;
                    page.events.push(found);
                }
            }
            if !more {
                page.next = None;
                return Ok(page);
            }
            if chunks_read >= self.limit_chunks && page.next.is_some() {
                return Ok(page);
            }
        }
    }

    fn offer(&self, id: ChunkId, chunk: Chunk, heap: &mut BinaryHeap<Candidate>) {
        for (index, (offset, message)) in chunk.events.into_iter().enumerate() {
            let position = Position {
                ms: id.first_ms + i64::from(offset),
                version: id.version,
                ordinal: id.ordinal,
                index: u32::try_from(index).unwrap_or(u32::MAX),
            };
            if self.wants(&position) {
                let stream = chunk.stream.clone();
                let found = Found { position, stream, ingested_ms: chunk.ingested_ms, message };
                heap.push(Candidate { found, reverse: self.reverse });
            }
        }
    }

    /// The next chunks of the range, which is moved on.
    async fn chunks(&self, store: &Store, range: &mut Range) -> Result<(Vec<(ChunkId, Chunk)>, bool), Error> {
        let page = store.scan(range.clone()).await?;
        if let Some(last) = page.entries.last() {
            if range.reverse {
                range.end = last.key.clone();
            } else {
                range.start = key::after(&last.key);
            }
        }
        let id = |key: &[u8]| ChunkId::from_key(key).ok_or(Error::Corrupt("a key"));
        let entries = match self.source {
            Source::Stream(..) => page.entries,
            Source::Group(group) => {
                let mut reads = Vec::with_capacity(page.entries.len());
                for entry in &page.entries {
                    let stream = POINTERS.decode(entry)?.value.stream;
                    reads.push(Read::Key(id(&entry.key)?.in_stream(self.account, group, stream)));
                }
                // A chunk that was swept away in between is not there.
                store.read(reads).await?.into_iter().flat_map(|page| page.entries).collect()
            }
        };
        let chunks = entries.iter().map(|entry| Ok((id(&entry.key)?, CHUNKS.decode(entry)?.value)));
        Ok((chunks.collect::<Result<_, Error>>()?, page.more))
    }
}
