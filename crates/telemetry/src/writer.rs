//! One commit for a batch of an account: log events, invocations and their usage, spans.
//!
//! Invariant: usage changes in the commit that adds the invocation's row, and only if there was none with the
//! same request id and attempt: nothing is billed twice.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex};

use store::{Page, Read, Store, Version, Write};
use tokio::sync::Notify;
use types::{AccountId, SharedEnv};

use crate::Error;
use crate::chunk::{ChunkId, Pointer, pack};
use crate::record::{Invocation, LogEvent, LogLines, Outcome, Span};
use crate::tables::{
    self, BILLED, Billed, CHUNKS, GROUPS, Group, INVOCATIONS, POINTERS, SPANS, STREAMS, SWEPT, Stream, Swept,
    TRACES, TraceStart, USAGE, Usage,
};

const LOCK: &str = "no holder of this lock panics";
/// How many traces and accounts are remembered as written.
const REMEMBERED: usize = 16_384;

/// What is written together.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// By group and stream.
    pub(crate) logs: BTreeMap<(String, String), Vec<LogEvent>>,
    pub(crate) invocations: Vec<Invocation>,
    pub(crate) spans: Vec<Span>,
}

impl Batch {
    pub(crate) fn log(&mut self, lines: LogLines) {
        self.logs.entry((lines.group, lines.stream)).or_default().extend(lines.events);
    }
}

/// Writes to the store.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) store: Store,
    pub(crate) env: SharedEnv,
    /// Rung when something was deleted whose events must be swept.
    pub(crate) garbage: Notify,
    /// Numbers of groups; a hint, checked in the commit.
    groups: Mutex<HashMap<(AccountId, String), u64>>,
    /// Traces that are in the list already.
    traces: Mutex<HashSet<(AccountId, String)>>,
    /// Accounts that the sweeper knows.
    accounts: Mutex<HashSet<AccountId>>,
}

/// What became of a try.
enum Tried {
    Done,
    /// These groups have other numbers than was thought; nothing was written.
    Stale(Vec<(String, u64)>),
}

/// Whether logs may make their group and stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    Create,
    Refuse,
}

impl Writer {
    pub(crate) fn new(store: Store, env: SharedEnv) -> Self {
        Self {
            store,
            env,
            garbage: Notify::new(),
            groups: Mutex::default(),
            traces: Mutex::default(),
            accounts: Mutex::default(),
        }
    }

    pub(crate) fn now_ms(&self) -> i64 {
        self.env.now().as_millisecond()
    }

    /// Writes a batch, making the groups and streams it needs.
    pub(crate) async fn write(&self, account: AccountId, batch: Arc<Batch>) -> Result<(), Error> {
        self.write_logs(account, batch, Missing::Create).await
    }

    pub(crate) async fn write_logs(
        &self,
        account: AccountId,
        batch: Arc<Batch>,
        missing: Missing,
    ) -> Result<(), Error> {
        let names: Vec<String> = {
            let mut names: Vec<_> = batch.logs.keys().map(|(group, _)| group.clone()).collect();
            names.dedup();
            names
        };
        self.learn_groups(account, &names).await?;
        loop {
            match self.try_write(account, &names, batch.clone(), missing).await? {
                Tried::Done => return Ok(()),
                Tried::Stale(found) => {
                    let mut groups = self.groups.lock().expect(LOCK);
                    groups.extend(found.into_iter().map(|(name, number)| ((account, name), number)));
                }
            }
        }
    }

    async fn learn_groups(&self, account: AccountId, names: &[String]) -> Result<(), Error> {
        let unknown: Vec<_> = {
            let mut groups = self.groups.lock().expect(LOCK);
            if groups.len() > REMEMBERED {
                groups.clear();
            }
            names.iter().filter(|name| !groups.contains_key(&(account, (*name).clone()))).collect()
        };
        if unknown.is_empty() {
            return Ok(());
        }
        let reads = unknown.iter().map(|name| Read::Key(tables::group(account, name))).collect();
        let pages = self.store.read(reads).await?;
        for (name, page) in unknown.into_iter().zip(pages) {
            if let Some(row) = GROUPS.first(&page)? {
                self.groups.lock().expect(LOCK).insert((account, name.clone()), row.value.number);
            }
        }
        Ok(())
    }

    async fn try_write(
        &self,
        account: AccountId,
        names: &[String],
        batch: Arc<Batch>,
        missing: Missing,
    ) -> Result<Tried, Error> {
        let numbers: HashMap<String, u64> = {
            let groups = self.groups.lock().expect(LOCK);
            let known = names.iter().filter_map(|name| {
                groups.get(&(account, name.clone())).map(|number| (name.clone(), *number))
            });
            known.collect()
        };
        let new_traces = self.new_traces(account, &batch.spans);
        let new_account = (!batch.spans.is_empty() || !batch.invocations.is_empty())
            && !self.accounts.lock().expect(LOCK).contains(&account);

        let mut plan = Plan {
            account,
            missing,
            now_ms: self.now_ms(),
            numbers,
            batch,
            new_traces,
            new_account,
            group_names: Vec::new(),
            streams: Vec::new(),
            usage: Vec::new(),
        };
        let reads = plan.reads();
        let remember = (plan.new_traces.clone(), new_account);
        let tried = self.store.transact(reads, move |pages, version| plan.decide(pages, version)).await?;
        if let Tried::Done = tried {
            let mut traces = self.traces.lock().expect(LOCK);
            if traces.len() > REMEMBERED {
                traces.clear();
            }
            traces.extend(remember.0.into_iter().map(|root| (account, root)));
            drop(traces);
            if remember.1 {
                self.accounts.lock().expect(LOCK).insert(account);
            }
        }
        Ok(tried)
    }

    fn new_traces(&self, account: AccountId, spans: &[Span]) -> HashSet<String> {
        let known = self.traces.lock().expect(LOCK);
        let roots = spans.iter().map(|span| span.trace.root.clone());
        roots.map(|root| (account, root)).filter(|key| !known.contains(key)).map(|(_, root)| root).collect()
    }
}

/// A batch with what is thought to be known, and the decision made from what is.
struct Plan {
    account: AccountId,
    missing: Missing,
    now_ms: i64,
    numbers: HashMap<String, u64>,
    batch: Arc<Batch>,
    new_traces: HashSet<String>,
    new_account: bool,
    group_names: Vec<String>,
    /// Streams of groups whose number is known.
    streams: Vec<(String, String)>,
    usage: Vec<(i64, String)>,
}

impl Plan {
    /// Groups; streams; billed invocations; usage; the account, if it may be new.
    fn reads(&mut self) -> Vec<Read> {
        let account = self.account;
        let mut reads = Vec::new();
        for (group, stream) in self.batch.logs.keys() {
            if self.group_names.last() != Some(group) {
                self.group_names.push(group.clone());
            }
            if self.numbers.contains_key(group) {
                self.streams.push((group.clone(), stream.clone()));
            }
        }
        reads.extend(self.group_names.iter().map(|name| Read::Key(tables::group(account, name))));
        for (group, stream) in &self.streams {
            reads.push(Read::Key(tables::stream(account, self.numbers[group], stream)));
        }
        for row in &self.batch.invocations {
            reads.push(Read::Key(tables::billed(account, row.request_id, row.attempt)));
        }
        let usage: HashSet<_> =
            self.batch.invocations.iter().map(|row| (hour(row), row.function.clone())).collect();
        self.usage = usage.into_iter().collect();
        for (hour, function) in &self.usage {
            reads.push(Read::Key(tables::usage(account, *hour, function)));
        }
        if self.new_account {
            reads.push(Read::Key(tables::swept(account)));
        }
        reads
    }

    fn decide(&mut self, pages: &[Page], version: Version) -> Result<(Vec<Write>, Tried), Error> {
        let mut writes = Vec::new();
        let mut pages = pages.iter();
        let mut next = || pages.next().expect("there is a page for each read");

        let mut groups: BTreeMap<String, Group> = BTreeMap::new();
        let mut stale = Vec::new();
        for name in &self.group_names {
            let group = GROUPS.first(next())?.map(|row| row.value);
            match (group, self.numbers.get(name)) {
                (Some(group), Some(number)) if group.number == *number => {
                    groups.insert(name.clone(), group);
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
                        created_ms: self.now_ms,
                        retention_days: None,
                        tags: BTreeMap::new(),
                        stored_bytes: 0,
                        swept_ms: 0,
                    };
                    groups.insert(name.clone(), group);
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
                && self.numbers.get(group) == Some(&groups[group].number)
            {
                streams.insert((group, stream), row.value);
            }
        }
        self.logs(&mut writes, groups, streams, version)?;

        let mut new = Vec::new();
        let mut seen = HashSet::new();
        for row in &self.batch.invocations {
            let billed = BILLED.first(next())?;
            if billed.is_none() && seen.insert((row.request_id, row.attempt)) {
                new.push(row);
            }
        }
        let mut usage: HashMap<(i64, &str), Usage> = HashMap::new();
        for (hour, function) in &self.usage {
            let row = USAGE.first(next())?;
            usage.insert((*hour, function), row.map(|row| row.value).unwrap_or_default());
        }
        for row in new {
            let sum = usage.get_mut(&(hour(row), row.function.as_str())).expect("it was read for each row");
            add(sum, row);
            let billed = Billed { started_us: row.started_at.as_microsecond() };
            writes.push(BILLED.put(tables::billed(self.account, row.request_id, row.attempt), &billed));
            writes.push(INVOCATIONS.put(tables::invocation(row), row));
        }
        for ((hour, function), sum) in usage {
            writes.push(USAGE.put(tables::usage(self.account, hour, function), &sum));
        }
        if self.new_account && SWEPT.first(next())?.is_none() {
            let swept = Swept { account: self.account, until_us: 0 };
            writes.push(SWEPT.put(tables::swept(self.account), &swept));
        }

        let mut listed = HashSet::new();
        for span in &self.batch.spans {
            writes.push(SPANS.put(tables::span(span), span));
            let root = &span.trace.root;
            if self.new_traces.contains(root) && listed.insert(root) {
                let key = tables::trace(self.account, span.started_at.as_microsecond(), root);
                writes.push(TRACES.put(key, &TraceStart { name: span.name.clone() }));
            }
        }
        Ok((writes, Tried::Done))
    }

    fn logs<'a>(
        &'a self,
        writes: &mut Vec<Write>,
        mut groups: BTreeMap<String, Group>,
        mut streams: HashMap<(&'a str, &'a str), Stream>,
        version: Version,
    ) -> Result<(), Error> {
        let mut ordinal: u16 = 0;
        for (at, ((group_name, stream_name), events)) in self.batch.logs.iter().enumerate() {
            let group = groups.get_mut(group_name).expect("each group was read or made");
            let stream = match streams.remove(&(group_name.as_str(), stream_name.as_str())) {
                Some(stream) => Some(stream),
                None if self.missing == Missing::Refuse => None,
                None => Some(Stream {
                    name: stream_name.clone(),
                    number: version.0 << 16 | at as u64,
                    created_ms: self.now_ms,
                    first_event_ms: None,
                    last_event_ms: None,
                    last_ingestion_ms: None,
                }),
            };
            let mut stream =
                stream.ok_or_else(|| Error::NotFound("The specified log stream does not exist.".into()))?;
            for chunk in pack(stream_name, self.now_ms, events.clone()) {
                let last_ms =
                    chunk.first_ms + chunk.events.last().map_or(0, |(offset, _)| i64::from(*offset));
                let bytes: usize = chunk.events.iter().map(|(_, message)| message.len() + 26).sum();
                group.stored_bytes += bytes as u64;
                stream.first_event_ms =
                    Some(stream.first_event_ms.map_or(chunk.first_ms, |ms| ms.min(chunk.first_ms)));
                stream.last_event_ms = Some(stream.last_event_ms.map_or(last_ms, |ms| ms.max(last_ms)));
                let id = ChunkId { first_ms: chunk.first_ms, version: version.0, ordinal };
                ordinal = ordinal.checked_add(1).ok_or(Error::Corrupt("a batch of too many chunks"))?;
                writes.push(CHUNKS.put(id.in_stream(self.account, group.number, stream.number), &chunk));
                let pointer = Pointer { stream: stream.number };
                writes.push(POINTERS.put(id.in_group(self.account, group.number), &pointer));
            }
            stream.last_ingestion_ms = Some(self.now_ms);
            writes.push(STREAMS.put(tables::stream(self.account, group.number, stream_name), &stream));
        }
        for (name, group) in &groups {
            writes.push(GROUPS.put(tables::group(self.account, name), group));
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
