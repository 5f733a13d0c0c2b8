//! The thread that commits for the whole node.
//!
//! Invariants: nothing is answered before what it saw and what it wrote is on disk; a version number is
//! never given twice, whatever crashes; the thread outlives any decision, and if it ends, callers get an
//! error rather than silence.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fjall::{AbstractTree, OwnedWriteBatch, PersistMode, Slice};
use tokio::sync::{oneshot, watch};

use super::engine::Shared;
use super::failure;
use super::group::Group;
use super::queue::Taken;
use super::rows as stored;
use crate::{Commit, Committed, Error, Page, Version, Write, rows};

/// A commit and who waits for it.
pub(super) struct Job {
    pub(super) commit: Commit,
    pub(super) answer: oneshot::Sender<Result<Committed, Error>>,
}

/// A group is closed when it has this many bytes, so that the first in it does not wait for megabytes of others.
const GROUP_BYTES: usize = 4 << 20;

/// Version numbers are reserved on disk this many at a time: a restart skips the rest of the block, which
/// costs nothing, and saves a row in every batch.
const VERSION_BLOCK: u64 = 1 << 20;

/// Without a commit for this long, rows in memory are written to a table file.
const IDLE: Duration = Duration::from_secs(5);

/// Less than this in memory, or in the journal, is not worth a table file.
const SETTLE_BYTES: u64 = 1 << 20;

/// How long an orderly end waits for that.
const END_PATIENCE: Duration = Duration::from_secs(10);

/// The tree stops its caller, in sleeps of 100 ms and with no way out, at 4 memtables waiting to be written
/// or 30 runs in level 0. We stop earlier, look more often, and notice if the writer of tables has died.
const MOST_SEALED_MEMTABLES: usize = 2;
const MOST_L0_RUNS: usize = 20;
const STALL_STEP: Duration = Duration::from_millis(2);

/// The committer's state.
pub(super) struct Committer {
    shared: Arc<Shared>,
    /// The last version given out.
    version: Version,
    /// Up to which version numbers are reserved on disk.
    version_limit: Version,
    /// Set once the tree refuses to write.
    stopped: Option<Error>,
}

impl Committer {
    pub(super) fn new(shared: Arc<Shared>, version: Version) -> Self {
        Self { shared, version, version_limit: version, stopped: None }
    }

    /// Commits until the queue is closed and empty.
    pub(super) fn run(mut self, ended: watch::Sender<bool>) {
        // If this thread panics, whoever waits must hear of it.
        let _guard = AtEnd { shared: self.shared.clone(), ended };
        let mut jobs = VecDeque::new();
        loop {
            match self.shared.queue.take(&mut jobs, IDLE) {
                Taken::Some => {
                    while !jobs.is_empty() {
                        self.commit(&mut jobs);
                    }
                }
                Taken::Idle => self.settle(),
                Taken::Closed => break,
            }
        }
        self.end();
    }

    /// Commits a group off the front of `jobs`.
    fn commit(&mut self, jobs: &mut VecDeque<Job>) {
        let ready = self.make_ready();
        let mut group = Group::default();
        let mut answers = Vec::with_capacity(jobs.len());
        while let Some(mut job) = jobs.pop_front() {
            let outcome = match &ready {
                Ok(room) => self.evaluate(&mut job.commit, &mut group, *room),
                Err(error) => Err(error.clone()),
            };
            answers.push((job.answer, outcome));
            if group.bytes() >= GROUP_BYTES {
                break;
            }
        }
        let durable = self.write(&group);
        if durable.is_ok() && !group.is_empty() {
            self.shared.publish(self.version, group.written());
        }
        for (answer, outcome) in answers {
            // Who is no longer there does not want to know.
            let _ = answer.send(outcome.and_then(|committed| durable.clone().map(|()| committed)));
        }
    }

    /// Waits until the tree can take a batch without stopping us, and looks how much room the disk has.
    fn make_ready(&mut self) -> Result<Room, Error> {
        if let Some(error) = &self.stopped {
            return Err(error.clone());
        }
        let tree = &self.shared.rows.tree;
        while tree.sealed_memtable_count() >= MOST_SEALED_MEMTABLES || tree.l0_run_count() >= MOST_L0_RUNS {
            if self.is_poisoned() {
                // The flush failed, most likely for want of room; the journal has everything.
                let error = failure::stopped(&Error::DiskFull);
                tracing::error!(%error, "rows could not be moved from memory to table files");
                return Err(self.stopped.insert(error).clone());
            }
            std::thread::sleep(STALL_STEP);
        }
        Ok(self.shared.room())
    }

    /// Runs one decision; its writes go into the group.
    fn evaluate(&mut self, commit: &mut Commit, group: &mut Group, room: Room) -> Result<Committed, Error> {
        let base = &self.shared.rows;
        let pages: Vec<Page> =
            commit.reads.iter().map(|read| group.page(base, read)).collect::<Result<_, _>>()?;
        let version = Version(self.version.0 + 1);
        let writes = rows::decide(&mut commit.decide, &pages, version)?.unwrap_or_default();
        if writes.is_empty() {
            return Ok(Committed { version: self.version, written: false });
        }
        match room {
            Room::Enough => {}
            Room::ToRemove if writes.iter().any(|write| matches!(write, Write::Delete(_))) => {}
            Room::ToRemove | Room::None => return Err(Error::DiskFull),
        }
        group.apply(rows::changes(writes, version)?, version);
        self.version = version;
        Ok(Committed { version, written: true })
    }

    /// Puts the group on disk.
    fn write(&mut self, group: &Group) -> Result<(), Error> {
        if group.is_empty() {
            return Ok(());
        }
        let shared = &self.shared;
        let mut batch = OwnedWriteBatch::with_capacity(shared.db.clone(), group.rows().len() + 1)
            .durability(Some(PersistMode::SyncData));
        for (key, value) in group.rows() {
            // Copied: a key that came out of a read is a view of the block it was read from, and a memtable
            // of such keys would hold those blocks.
            let key = Slice::from(&key[..]);
            match value {
                Some(value) => batch.insert(&shared.rows, key, value.clone()),
                None => batch.remove(&shared.rows, key),
            }
        }
        if self.version > self.version_limit {
            let limit = Version(self.version.0 + VERSION_BLOCK);
            batch.insert(&shared.rows, stored::VERSION_LIMIT, limit.0.to_be_bytes());
            self.version_limit = limit;
        }
        batch.commit().map_err(|error| {
            let first = failure::tree(&error);
            tracing::error!(%error, "a commit could not be written");
            self.stopped = Some(failure::stopped(&first));
            first
        })
    }

    /// Has rows in memory written to a table file, so that an idle node is small and starts quickly.
    fn settle(&self) {
        let rows = &self.shared.rows;
        if rows.tree.active_memtable().size() >= SETTLE_BYTES
            && let Err(error) = rows.rotate_memtable()
        {
            // The journal has everything.
            tracing::warn!(%error, "rows stay in memory");
        }
    }

    /// Leaves nothing in the journal that the next start would have to read, unless it is little anyway.
    fn end(&self) {
        let shared = &self.shared;
        let tree = &shared.rows.tree;
        if self.stopped.is_some() || shared.directory.journal_bytes() < SETTLE_BYTES {
            return;
        }
        if let Err(error) = shared.rows.rotate_memtable() {
            tracing::warn!(%error, "the next start reads the journal");
            return;
        }
        let start = Instant::now();
        while tree.sealed_memtable_count() > 0 {
            if self.is_poisoned() || start.elapsed() > END_PATIENCE {
                return;
            }
            std::thread::sleep(STALL_STEP);
        }
        // All rows are in table files. Older journals go when the flush that frees them ends, a moment after
        // its memtable is gone.
        while shared.db.journal_count() > 1 && start.elapsed() < END_PATIENCE {
            std::thread::sleep(STALL_STEP);
        }
        if tree.active_memtable().size() == 0 && shared.db.journal_count() == 1 && !self.is_poisoned() {
            shared.directory.set_journal_spent();
        }
    }

    /// Whether the tree has stopped writing for good; to persist nothing is the one cheap way to ask it.
    fn is_poisoned(&self) -> bool {
        matches!(self.shared.db.persist(PersistMode::Buffer), Err(fjall::Error::Poisoned))
    }
}

/// What the disk has room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    /// Any commit.
    Enough,
    /// Commits that remove rows.
    ToRemove,
    /// None.
    None,
}

struct AtEnd {
    shared: Arc<Shared>,
    ended: watch::Sender<bool>,
}

impl Drop for AtEnd {
    fn drop(&mut self) {
        self.shared.queue.abandon();
        self.ended.send_replace(true);
    }
}
