//! What a batch writes: all that can be is made ready before the commit, the rest is decided within it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use store::{Page, Read, Version, Write};
use types::AccountId;

use crate::Error;
use crate::chunk::{ChunkId, Pointer, pack};
use crate::packed::{Invocations, Spans, TraceStart, Traces, window};
use crate::record::{Invocation, LogEvent, Outcome, Span};
use crate::tables::{
    self, BILLED, Billed, GROUPS, Group, INVOCATIONS, POINTERS, SPANS, STREAMS, SWEPT, Stream, Swept, TRACES,
    USAGE, Usage,
};
use crate::writer::Batch;

/// A batch of an account, encoded as far as it can be.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) account: AccountId,
    /// The log groups it writes to, each once, in order.
    pub(crate) groups: Vec<String>,
    logs: BTreeMap<(String, String), Vec<PreparedChunk>>,
    /// In order of function and time.
    invocations: Vec<Invocation>,
    /// Traces that are not in the list yet.
    traces: Vec<TraceStart>,
    /// Spans, and the list of traces.
    spans: Vec<Write>,
    now_ms: i64,
}

/// Log events as they are stored.
#[derive(Debug)]
struct PreparedChunk {
    first_ms: i64,
    last_ms: i64,
    size_bytes: u64,
    value: Bytes,
}

/// Whether logs may make their group and stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    Create,
    Refuse,
}

/// What became of a try.
pub(crate) enum Tried {
    Done,
    /// These groups have other numbers than was thought; nothing was written.
    Stale(Vec<(String, u64)>),
}

impl Prepared {
    /// Of a batch; `is_new` says of each span whether its trace is not in the list yet.
    pub(crate) fn new(account: AccountId, batch: Batch, is_new: &[bool], now_ms: i64) -> Self {
        let Batch { logs, mut invocations, spans } = batch;
        let mut groups: Vec<_> = logs.keys().map(|(group, _)| group.clone()).collect();
        groups.dedup();
        let mut traces: Vec<TraceStart> = Vec::new();
        let mut listed = HashSet::new();
        for (span, is_new) in spans.iter().zip(is_new) {
            if *is_new && listed.insert(&span.trace.root) {
                let started_us = span.started_at.as_microsecond();
                traces.push(TraceStart {
                    root: span.trace.root.clone(),
                    started_us,
                    name: span.name.clone(),
                });
            }
        }
        traces.sort_by_key(|trace| trace.started_us);
        invocations.sort_by(|a, b| (&a.function, a.started_at).cmp(&(&b.function, b.started_at)));
        let mut writes = span_rows(spans);
        writes.extend(trace_rows(account, &traces));
        Self {
            account,
            groups,
            logs: logs
                .into_iter()
                .map(|(key, events)| (key.clone(), chunks(&key.1, now_ms, events)))
                .collect(),
            invocations,
            traces,
            spans: writes,
            now_ms,
        }
    }

    /// Whether it adds rows that the sweeper of accounts has to know of.
    pub(crate) fn has_to_be_swept(&self) -> bool {
        !self.spans.is_empty() || !self.invocations.is_empty()
    }

    /// Traces that the batch adds to the list.
    pub(crate) fn new_roots(&self) -> impl Iterator<Item = &str> {
        self.traces.iter().map(|trace| trace.root.as_str())
    }
}

fn chunks(stream: &str, now_ms: i64, events: Vec<LogEvent>) -> Vec<PreparedChunk> {
    let prepared = |chunk: crate::chunk::Chunk| PreparedChunk {
        first_ms: chunk.first_ms,
        last_ms: chunk.first_ms + chunk.events.last().map_or(0, |(offset, _)| i64::from(*offset)),
        size_bytes: chunk.events.iter().map(|(_, message)| message.len() as u64 + 26).sum(),
        value: store::Table::encode(&chunk),
    };
    pack(stream, now_ms, events).into_iter().map(prepared).collect()
}

/// A row for the spans of each trace.
fn span_rows(mut spans: Vec<Span>) -> Vec<Write> {
    let order =
        |a: &Span, b: &Span| (&a.trace.root, a.started_at, &a.id).cmp(&(&b.trace.root, b.started_at, &b.id));
    spans.sort_by(order);
    let mut writes = Vec::new();
    let mut spans = spans.into_iter().peekable();
    while let Some(first) = spans.next() {
        let key = tables::span(&first);
        let mut row = vec![first];
        while let Some(next) = spans.next_if(|next| next.trace.root == row[0].trace.root) {
            row.push(next);
        }
        writes.push(SPANS.put(key, &Spans(row)));
    }
    writes
}

/// A row for the traces that began in each second.
fn trace_rows(account: AccountId, traces: &[TraceStart]) -> impl Iterator<Item = Write> {
    traces.chunk_by(|a, b| window(a.started_us) == window(b.started_us)).map(move |row| {
        let key = tables::trace(account, row[0].started_us, &row[0].root);
        TRACES.put(key, &Traces::Listed(row.to_vec()))
    })
}

/// A batch with what is thought to be known, and the decision made from what is.
pub(crate) struct Plan {
    prepared: Arc<Prepared>,
    missing: Missing,
    numbers: HashMap<String, u64>,
    new_account: bool,
    /// Streams of groups whose number is known.
    streams: Vec<(String, String)>,
    usage: Vec<(i64, String)>,
}

impl Plan {
    pub(crate) fn new(
        prepared: Arc<Prepared>,
        missing: Missing,
        numbers: HashMap<String, u64>,
        new_account: bool,
    ) -> Self {
        Self { prepared, missing, numbers, new_account, streams: Vec::new(), usage: Vec::new() }
    }

    /// Groups; streams; billed invocations; usage; the account, if it may be new.
    pub(crate) fn reads(&mut self) -> Vec<Read> {
        let Prepared { account, groups, logs, invocations, .. } = &*self.prepared;
        let account = *account;
        let mut reads: Vec<_> = groups.iter().map(|name| Read::Key(tables::group(account, name))).collect();
        let known = logs.keys().filter(|(group, _)| self.numbers.contains_key(group));
        self.streams = known.cloned().collect();
        for (group, stream) in &self.streams {
            reads.push(Read::Key(tables::stream(account, self.numbers[group], stream)));
        }
        for row in invocations.iter().filter(|row| row.redeliverable) {
            reads.push(Read::Key(tables::billed(account, row.request_id, row.attempt)));
        }
        let usage = invocations.chunk_by(|a, b| a.function == b.function && hour(a) == hour(b));
        self.usage = usage.map(|rows| (hour(&rows[0]), rows[0].function.clone())).collect();
        for (hour, function) in &self.usage {
            reads.push(Read::Key(tables::usage(account, *hour, function)));
        }
        if self.new_account {
            reads.push(Read::Key(tables::swept(account)));
        }
        reads
    }

    pub(crate) fn decide(&mut self, pages: &[Page], version: Version) -> Result<(Vec<Write>, Tried), Error> {
        let prepared = &*self.prepared;
        let account = prepared.account;
        let mut writes = Vec::new();
        let mut pages = pages.iter();
        let mut next = || pages.next().expect("there is a page for each read");

        let mut groups: BTreeMap<&str, Group> = BTreeMap::new();
        let mut stale = Vec::new();
        for name in &prepared.groups {
            let group = GROUPS.first(next())?.map(|row| row.value);
            match (group, self.numbers.get(name)) {
                (Some(group), Some(number)) if group.number == *number => {
                    groups.insert(name, group);
                }
                (Some(group), _) => stale.push((name.clone(), group.number)),
                (None, _) if self.missing == Missing::Refuse => {
                    return Err(Error::NotFound("The specified log group does not exist.".into()));
                }
                // A new number: whatever number was thought to be known was that of a deleted group.
                (None, _) => {
                    let number = version.0 << 16 | groups.len() as u64;
                    let group = Group {
                        name: name.clone(),
                        number,
                        created_ms: prepared.now_ms,
                        retention_days: None,
                        tags: BTreeMap::new(),
                        stored_bytes: 0,
                        swept_ms: 0,
                    };
                    groups.insert(name, group);
                }
            }
        }
        if !stale.is_empty() {
            return Ok((Vec::new(), Tried::Stale(stale)));
        }
        let mut streams: HashMap<(&str, &str), Stream> = HashMap::new();
        for (group, stream) in &self.streams {
            let row = STREAMS.first(next())?;
            if let Some(row) = row
                && self.numbers.get(group) == Some(&groups[group.as_str()].number)
            {
                streams.insert((group, stream), row.value);
            }
        }
        self.logs(&mut writes, groups, streams, version)?;

        let mut new = Vec::with_capacity(prepared.invocations.len());
        let mut seen = HashSet::new();
        for row in &prepared.invocations {
            if row.redeliverable {
                let billed = BILLED.first(next())?;
                if billed.is_some() || !seen.insert((row.request_id, row.attempt)) {
                    continue;
                }
                let billed = Billed { started_us: row.started_at.as_microsecond() };
                writes.push(BILLED.put(tables::billed(account, row.request_id, row.attempt), &billed));
            }
            new.push(row);
        }
        let mut usage: HashMap<(i64, &str), Usage> = HashMap::new();
        for (hour, function) in &self.usage {
            let row = USAGE.first(next())?;
            usage.insert((*hour, function), row.map(|row| row.value).unwrap_or_default());
        }
        for row in &new {
            let sum = usage.get_mut(&(hour(row), row.function.as_str())).expect("it was read for each row");
            add(sum, row);
        }
        let second = |row: &Invocation| window(row.started_at.as_microsecond());
        for rows in new.chunk_by(|a, b| a.function == b.function && second(a) == second(b)) {
            let row = Invocations(rows.iter().copied().cloned().collect());
            writes.push(INVOCATIONS.put(tables::invocation(rows[0]), &row));
        }
        for ((hour, function), sum) in usage {
            writes.push(USAGE.put(tables::usage(account, hour, function), &sum));
        }
        if self.new_account && SWEPT.first(next())?.is_none() {
            let swept = Swept { account, until_us: 0 };
            writes.push(SWEPT.put(tables::swept(account), &swept));
        }
        writes.extend_from_slice(&prepared.spans);
        Ok((writes, Tried::Done))
    }

    fn logs<'a>(
        &'a self,
        writes: &mut Vec<Write>,
        mut groups: BTreeMap<&'a str, Group>,
        mut streams: HashMap<(&'a str, &'a str), Stream>,
        version: Version,
    ) -> Result<(), Error> {
        let Prepared { account, now_ms, .. } = *self.prepared;
        let mut ordinal: u16 = 0;
        for (at, ((group_name, stream_name), chunks)) in self.prepared.logs.iter().enumerate() {
            let group = groups.get_mut(group_name.as_str()).expect("each group was read or made");
            let stream = match streams.remove(&(group_name.as_str(), stream_name.as_str())) {
                Some(stream) => Some(stream),
                None if self.missing == Missing::Refuse => None,
                None => Some(Stream {
                    name: stream_name.clone(),
                    number: version.0 << 16 | at as u64,
                    created_ms: now_ms,
                    first_event_ms: None,
                    last_event_ms: None,
                    last_ingestion_ms: None,
                }),
            };
            let mut stream =
                stream.ok_or_else(|| Error::NotFound("The specified log stream does not exist.".into()))?;
            for PreparedChunk { first_ms, last_ms, size_bytes, value } in chunks {
                group.stored_bytes += size_bytes;
                stream.first_event_ms = Some(stream.first_event_ms.map_or(*first_ms, |ms| ms.min(*first_ms)));
                stream.last_event_ms = Some(stream.last_event_ms.map_or(*last_ms, |ms| ms.max(*last_ms)));
                let id = ChunkId { first_ms: *first_ms, version: version.0, ordinal };
                ordinal = ordinal.checked_add(1).ok_or(Error::Corrupt("a batch of too many chunks"))?;
                writes.push(Write::Put(id.in_stream(account, group.number, stream.number), value.clone()));
                let pointer = Pointer { stream: stream.number };
                writes.push(POINTERS.put(id.in_group(account, group.number), &pointer));
            }
            stream.last_ingestion_ms = Some(now_ms);
            writes.push(STREAMS.put(tables::stream(account, group.number, stream_name), &stream));
        }
        for (name, group) in &groups {
            writes.push(GROUPS.put(tables::group(account, name), group));
        }
        Ok(())
    }
}

fn hour(row: &Invocation) -> i64 {
    row.started_at.as_second().div_euclid(3600)
}

fn add(sum: &mut Usage, row: &Invocation) {
    sum.invocations += 1;
    sum.errors += u64::from(row.outcome != Outcome::Success);
    sum.cold_starts += u64::from(row.init_us.is_some());
    sum.billed_ms += row.billed_ms;
    sum.mb_ms += row.billed_ms * u64::from(row.memory_mb);
}
