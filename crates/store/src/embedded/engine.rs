//! The engine as callers see it: opens the directory, reads at snapshots, hands commits to the committer.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use async_trait::async_trait;
use fjall::config::{CompressionPolicy, PartitioningPolicy};
use fjall::{CompressionType, Database, Keyspace, KeyspaceCreateOptions, Snapshot};
use tokio::sync::{oneshot, watch};

use super::committer::{Committer, Job, Room};
use super::config::FjallConfig;
use super::directory::Directory;
use super::failure;
use super::journal;
use super::long_reads::LongReads;
use super::queue::Queue;
use super::rows;
use crate::watchers::Watchers;
use crate::{
    Commit, Committed, Engine, Error, Key, Page, Range, Read, ReadRequest, ReadResponse, TableId, Version,
    Watch, key,
};

/// So many rows are read where they were asked for: they take microseconds, and a hop to another thread takes
/// more. What is left of a read after that is left to such a thread.
const INLINE_ROWS: usize = 128;

/// The tree writes and compacts its table files on this many threads. One of them is kept for writing: it puts
/// what there is to compact back, again and again, for as long as all others compact. So there are more than
/// compact at one time, or that one would take a core to itself.
const WORKERS: usize = 4;

/// A journal file is kept until all its rows are in table files; this much of them forces that.
const JOURNAL_BYTES: u64 = 128 << 20;

/// Open table files: well under the usual limit of 1,024 descriptors, which connections need too.
const OPEN_FILES: usize = 256;

/// The embedded engine.
pub struct FjallEngine {
    // Dropped first: what it runs holds what is shared.
    long_reads: LongReads,
    shared: Arc<Shared>,
    ended: watch::Receiver<bool>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What callers and the committer share.
pub(super) struct Shared {
    // Dropped in this order: the directory outlives what works in it.
    pub(super) rows: Keyspace,
    pub(super) db: Database,
    pub(super) queue: Queue<Job>,
    visible: AtomicU64,
    watchers: Watchers,
    reserve_bytes: u64,
    pub(super) directory: Directory,
}

impl FjallEngine {
    /// Opens the directory, and makes it if it is not there. Blocks for as long as it takes to read the
    /// journal, which is bounded.
    pub fn open(config: FjallConfig) -> Result<Arc<Self>, Error> {
        let directory = Directory::open(&config.dir)?;
        let db = open_tree(&config, &directory)?;
        let open = |error: fjall::Error| failed(&config, &error);
        // Beyond the first level, a table file's index and filter are kept in parts of which a read takes what it
        // needs: whole, those of a file of 64 MiB are more than a MiB, and a read of one row would take them all.
        let in_parts = || PartitioningPolicy::new([false, true]);
        // What is written to disk is what commits wait behind, so the youngest levels are compressed too: a third more
        // puts of text, a fourteenth less of what does not compress.
        let compressed = || CompressionPolicy::all(CompressionType::Lz4);
        let options = || {
            KeyspaceCreateOptions::default()
                .max_memtable_size(config.memtable_bytes)
                .index_block_partitioning_policy(in_parts())
                .filter_block_partitioning_policy(in_parts())
                .data_block_compression_policy(compressed())
        };
        let rows = db.keyspace("rows", options).map_err(open)?;
        let version = rows::version_limit(&rows)?;
        let shared = Arc::new(Shared {
            rows,
            db,
            queue: Queue::new(config.queue_len),
            visible: AtomicU64::new(version.0),
            watchers: Watchers::default(),
            reserve_bytes: config.reserve_bytes,
            directory,
        });
        let committer = Committer::new(shared.clone(), version);
        let (sender, ended) = watch::channel(false);
        let thread = std::thread::Builder::new()
            .name("commit".to_owned())
            .spawn(move || committer.run(sender))
            .map_err(|e| Error::Io(format!("can not start the commit thread: {e}")))?;
        let long_reads = LongReads::start()?;
        Ok(Arc::new(Self { long_reads, shared, ended, thread: Mutex::new(Some(thread)) }))
    }
}

fn open_tree(config: &FjallConfig, directory: &Directory) -> Result<Database, Error> {
    let open = || {
        Database::builder(directory.tree())
            .cache_size(config.cache_bytes)
            .worker_threads(WORKERS)
            .max_journaling_size(JOURNAL_BYTES)
            .max_cached_files(Some(OPEN_FILES))
            // On the one thread that commits, and most large values (images) are compressed already.
            .journal_compression(CompressionType::None)
            .open()
    };
    let damaged = match open() {
        Err(error @ fjall::Error::JournalRecovery(_)) => error,
        outcome => return outcome.map_err(|error| failed(config, &error)),
    };
    let journal = |e: std::io::Error| failure::io("can not repair the journal in", &config.dir, &e);
    let Some(removed) = journal::remove_last_batch(&directory.tree()).map_err(journal)? else {
        return Err(failed(config, &damaged));
    };
    match open() {
        Ok(db) => {
            tracing::warn!("a commit that a crash had cut off, and nobody was told of, was removed");
            Ok(db)
        }
        // It was not the last one.
        Err(_) => {
            removed.restore().map_err(journal)?;
            Err(failed(config, &damaged))
        }
    }
}

/// The error of a directory that does not open.
fn failed(config: &FjallConfig, error: &fjall::Error) -> Error {
    let dir = config.dir.display();
    match error {
        fjall::Error::Locked => Error::Locked(dir.to_string()),
        fjall::Error::Io(e) => failure::io("can not open the store in", &config.dir, e),
        fjall::Error::JournalRecovery(why) => Error::Io(format!(
            "the journal in `{dir}` is damaged ({why:?}) before its end, so that commits which were \
             acknowledged can not be read; restore the directory from a backup"
        )),
        other => Error::Io(format!("can not open the store in `{dir}`: {other:?}")),
    }
}

impl Shared {
    /// Makes a durable group known.
    pub(super) fn publish(&self, version: Version, written: &[Key]) {
        self.visible.store(version.0, Ordering::Release);
        self.watchers.notify(written);
    }

    /// How much room the disk has.
    pub(super) fn room(&self) -> Room {
        let Ok(stat) = rustix::fs::statvfs(self.directory.path()) else { return Room::Enough };
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        if free >= self.reserve_bytes {
            Room::Enough
        } else if free >= self.reserve_bytes / 2 {
            Room::ToRemove
        } else {
            Room::None
        }
    }
}

/// A request that is being read, at one snapshot.
struct Reading {
    shared: Arc<Shared>,
    snapshot: Snapshot,
    /// The reads that are not done, of which the first may be in part.
    left: VecDeque<Read>,
    part: Page,
    response: ReadResponse,
}

impl Reading {
    fn begin(shared: Arc<Shared>, request: ReadRequest) -> Self {
        // Before the snapshot, which therefore shows it.
        let version = Version(shared.visible.load(Ordering::Acquire));
        let snapshot = shared.db.snapshot();
        let pages = Vec::with_capacity(request.reads.len());
        let response = ReadResponse { pages, version };
        Self { shared, snapshot, left: request.reads.into(), part: Page::default(), response }
    }

    /// Reads up to about so many rows; true once everything is read.
    fn go_on(&mut self, mut rows: usize) -> Result<bool, Error> {
        let source = rows::At(&self.snapshot, &self.shared.rows);
        while let Some(read) = self.left.front_mut() {
            if rows == 0 {
                return Ok(false);
            }
            let page = match read {
                Read::Key(_) => rows::page(&source, read)?,
                Read::Range(range) => {
                    let page =
                        rows::range(&source, &Range { limit: range.limit.min(rows), ..range.clone() })?;
                    narrow(range, &page);
                    page
                }
            };
            rows = rows.saturating_sub(page.entries.len().max(1));
            let newest = page.entries.iter().map(|entry| entry.version);
            self.response.version = newest.fold(self.response.version, Version::max);
            self.part.more = page.more;
            if self.part.entries.is_empty() {
                self.part.entries = page.entries;
            } else {
                self.part.entries.extend(page.entries);
            }
            let is_done = match read {
                Read::Key(_) => true,
                Read::Range(range) => !self.part.more || range.limit == 0 || range.limit_bytes == 0,
            };
            if is_done {
                self.response.pages.push(std::mem::take(&mut self.part));
                self.left.pop_front();
            }
        }
        Ok(true)
    }
}

/// Takes what has been read off a range.
fn narrow(range: &mut Range, page: &Page) {
    let Some(last) = page.entries.last() else { return };
    if range.reverse {
        range.end = last.key.clone();
    } else {
        range.start = key::after(&last.key);
    }
    let bytes: usize = page.entries.iter().map(|entry| entry.key.len() + entry.value.len()).sum();
    range.limit = range.limit.saturating_sub(page.entries.len());
    range.limit_bytes = range.limit_bytes.saturating_sub(bytes);
}

#[async_trait]
impl Engine for FjallEngine {
    async fn read(&self, request: ReadRequest) -> Result<ReadResponse, Error> {
        let mut reading = Reading::begin(self.shared.clone(), request);
        if reading.go_on(INLINE_ROWS)? {
            return Ok(reading.response);
        }
        self.long_reads.run(move || reading.go_on(usize::MAX).map(|_| reading.response)).await
    }

    async fn commit(&self, commit: Commit) -> Result<Committed, Error> {
        let (answer, answered) = oneshot::channel();
        self.shared.queue.push(Job { commit, answer })?;
        answered
            .await
            .unwrap_or_else(|_| Err(Error::Io("the commit thread ended; restart hawker".to_owned())))
    }

    fn watch(&self, table: TableId) -> Watch {
        self.shared.watchers.watch(table)
    }

    fn size_bytes(&self) -> u64 {
        self.shared.directory.size_bytes()
    }

    async fn close(&self) -> Result<(), Error> {
        self.shared.queue.close();
        // An error means that the thread is gone already.
        let _ = self.ended.clone().wait_for(|ended| *ended).await;
        Ok(())
    }
}

impl Drop for FjallEngine {
    fn drop(&mut self) {
        self.shared.queue.close();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // So that the directory can be opened again. An error is a panic, which was reported already.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for FjallEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FjallEngine").field("dir", &self.shared.directory.path()).finish_non_exhaustive()
    }
}
