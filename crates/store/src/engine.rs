//! The seam that a storage engine implements.
//!
//! A commit names the rows it depends on and a pure function from those rows to writes. An engine that has
//! one committer runs that function inside it, so nothing ever conflicts or retries; an engine shared by
//! many nodes reads, decides, and commits on condition that the rows are unchanged, as often as it takes.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;

use crate::{Error, Key, TableId};

/// The number of the commit that wrote a row; commits are numbered in the order in which they became visible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Version(pub u64);

/// One row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its whole key.
    pub key: Key,
    /// Its value.
    pub value: Bytes,
    /// The commit that wrote it.
    pub version: Version,
}

/// Keys from `start` (included) to `end` (excluded), at most `limit` rows, from either end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    /// First key, included.
    pub start: Key,
    /// Last key, excluded.
    pub end: Key,
    /// Most rows to return, at least 1.
    pub limit: usize,
    /// Stop after the row with which keys and values reach this many bytes.
    pub limit_bytes: usize,
    /// From `end` down.
    pub reverse: bool,
}

/// One thing to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read {
    /// One row.
    Key(Key),
    /// A run of rows.
    Range(Range),
}

/// Reads, all at one snapshot.
#[derive(Debug, Clone, Default)]
pub struct ReadRequest {
    /// What to read.
    pub reads: Vec<Read>,
}

/// The rows of one [`Read`], in the order asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// The rows; for [`Read::Key`] at most one.
    pub entries: Vec<Entry>,
    /// True if the range holds more rows than the limits let through.
    pub more: bool,
}

impl Page {
    /// The first row: for [`Read::Key`], the row or its absence.
    pub fn first(&self) -> Option<&Entry> {
        self.entries.first()
    }
}

/// A page for each read, in order, and how new they are.
#[derive(Debug, Clone, Default)]
pub struct ReadResponse {
    /// One page for each read.
    pub pages: Vec<Page>,
    /// The last commit known to be visible in them: every one up to it is, and one made meanwhile may be.
    pub version: Version,
}

/// One change to the rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// Sets a row, whether or not it was there.
    Put(Key, Bytes),
    /// Removes a row, if it is there.
    Delete(Key),
    /// Adds a row whose key is the given prefix, then the commit's version (8 bytes, big-endian), then the
    /// ordinal of this write within its commit (2 bytes, big-endian): rows so added are in commit order.
    Append(Key, Bytes),
}

/// What a transaction's function decided.
pub type Decision = Option<Vec<Write>>;

/// A pure function from the pages of a commit's reads, and the version that the commit will have if it
/// writes, to its writes; `None` writes nothing. It may run more than once, and runs where every other
/// commit waits for it: no I/O, no blocking, microseconds.
pub type Decide = Box<dyn FnMut(&[Page], Version) -> Decision + Send>;

/// A transaction.
pub struct Commit {
    /// What the decision depends on. Ranges are allowed, and cost more than keys.
    pub reads: Vec<Read>,
    /// The decision.
    pub decide: Decide,
}

impl Commit {
    /// Writes without conditions.
    pub fn of(writes: Vec<Write>) -> Self {
        Self { reads: Vec::new(), decide: Box::new(move |_, _| Some(writes.clone())) }
    }
}

impl fmt::Debug for Commit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Commit").field("reads", &self.reads).finish_non_exhaustive()
    }
}

/// The outcome of a commit that is on disk (or decided to write nothing).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// Its version; the last visible one if nothing was written.
    pub version: Version,
    /// Whether anything was written.
    pub written: bool,
}

/// Keys of one table as they are written: see [`Engine::watch`].
#[derive(Debug)]
pub struct Watch {
    pub(crate) receiver: tokio::sync::broadcast::Receiver<Key>,
}

impl Watch {
    /// The next key written or deleted in the table since the watch began; `None` if some were missed (the
    /// watcher fell behind, and must read the table again). Waits for ever if the store closes.
    pub async fn next(&mut self) -> Option<Key> {
        match self.receiver.recv().await {
            Ok(key) => Some(key),
            Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => None,
            Err(tokio::sync::broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }
}

impl Watch {
    /// The same without waiting: `None` if nothing was written since; within it, `None` if some keys were missed.
    /// A key is there before the commit that wrote it is acknowledged.
    pub fn try_next(&mut self) -> Option<Option<Key>> {
        use tokio::sync::broadcast::error::TryRecvError;
        match self.receiver.try_recv() {
            Ok(key) => Some(Some(key)),
            Err(TryRecvError::Lagged(_)) => Some(None),
            Err(TryRecvError::Empty | TryRecvError::Closed) => None,
        }
    }
}

/// A storage engine. The conformance suite in `tests/` says what each method promises.
#[async_trait]
pub trait Engine: Send + Sync + fmt::Debug {
    /// Reads at one snapshot, which includes every commit acknowledged before the call.
    async fn read(&self, request: ReadRequest) -> Result<ReadResponse, Error>;

    /// Commits atomically; returns once it is durable.
    async fn commit(&self, commit: Commit) -> Result<Committed, Error>;

    /// Follows the keys written in a table, from now on, after they became durable.
    fn watch(&self, table: TableId) -> Watch;

    /// Bytes on disk (or in memory).
    fn size_bytes(&self) -> u64;

    /// Refuses further commits and returns when those under way are done.
    async fn close(&self) -> Result<(), Error>;
}
