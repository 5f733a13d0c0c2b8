//! An engine in memory: the same promises as the embedded one except that a restart forgets everything. For
//! tests, and as the oracle that the embedded engine is compared with.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;

use crate::watchers::Watchers;
use crate::{
    Commit, Committed, Engine, Entry, Error, Key, Page, Read, ReadRequest, ReadResponse, TableId, Version,
    Watch, rows,
};

/// Rows in a tree under a lock.
#[derive(Debug, Default)]
pub struct MemoryEngine {
    state: Mutex<State>,
    watchers: Watchers,
}

#[derive(Debug, Default)]
struct State {
    rows: BTreeMap<Key, (Version, Bytes)>,
    version: Version,
    bytes: u64,
    closed: bool,
}

impl MemoryEngine {
    /// An empty one.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Decisions, which can panic, are caught; a half-applied commit is not possible.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn page(&self, read: &Read) -> Page {
        let entry = |key: &Key, (version, value): &(Version, Bytes)| Entry {
            key: key.clone(),
            value: value.clone(),
            version: *version,
        };
        match read {
            Read::Key(key) => Page {
                entries: self.rows.get(key).map(|row| entry(key, row)).into_iter().collect(),
                more: false,
            },
            Read::Range(range) if range.start >= range.end => Page::default(),
            Read::Range(range) => {
                let bounds = (Bound::Included(&range.start), Bound::Excluded(&range.end));
                let rows = self.rows.range::<Key, _>(bounds).map(|(key, row)| Ok(entry(key, row)));
                let page: Result<Page, std::convert::Infallible> =
                    if range.reverse { rows::fill(range, rows.rev()) } else { rows::fill(range, rows) };
                page.unwrap_or_else(|never| match never {})
            }
        }
    }

    fn set(&mut self, key: Key, value: Option<Bytes>, version: Version) {
        let key_len = key.len();
        let size = |value: &Bytes| (key_len + value.len()) as u64;
        self.bytes += value.as_ref().map_or(0, size);
        let old = match value {
            Some(value) => self.rows.insert(key, (version, value)),
            None => self.rows.remove(&key),
        };
        self.bytes -= old.map_or(0, |(_, value)| size(&value));
    }
}

#[async_trait]
impl Engine for MemoryEngine {
    async fn read(&self, request: ReadRequest) -> Result<ReadResponse, Error> {
        let state = self.lock();
        let pages = request.reads.iter().map(|read| state.page(read)).collect();
        Ok(ReadResponse { pages, version: state.version })
    }

    async fn commit(&self, mut commit: Commit) -> Result<Committed, Error> {
        let mut state = self.lock();
        if state.closed {
            return Err(Error::Closed);
        }
        let pages: Vec<_> = commit.reads.iter().map(|read| state.page(read)).collect();
        let version = Version(state.version.0 + 1);
        let writes = rows::decide(&mut commit.decide, &pages, version)?.unwrap_or_default();
        let changes = rows::changes(writes, version)?;
        if changes.is_empty() {
            return Ok(Committed { version: state.version, written: false });
        }
        for (key, value) in &changes {
            state.set(key.clone(), value.clone(), version);
        }
        state.version = version;
        // Under the lock, so that watchers see keys in commit order.
        self.watchers.notify(changes.iter().map(|(key, _)| key));
        Ok(Committed { version, written: true })
    }

    fn watch(&self, table: TableId) -> Watch {
        self.watchers.watch(table)
    }

    fn size_bytes(&self) -> u64 {
        self.lock().bytes
    }

    async fn close(&self) -> Result<(), Error> {
        self.lock().closed = true;
        Ok(())
    }
}
