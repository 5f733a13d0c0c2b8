//! The data directory: one process at a time, in a format this binary knows.
//!
//! Layout: `lock`, `format` (the format's number as text), `tree/` (fjall's files). A start that was cut off
//! before the tree was whole leaves nothing that a later start trips over.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use super::failure;
use crate::Error;

/// The format that this binary writes, and the newest that it reads.
pub(super) const FORMAT: u32 = 1;

/// A directory that is ours as long as this value lives.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    journal_is_spent: AtomicBool,
    // Held for its lock.
    _lock: File,
}

impl Directory {
    /// Makes it if needed, locks it, and checks its format.
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        fs::create_dir_all(path).map_err(|e| failure::io("can not make the data directory", path, &e))?;
        let lock_path = path.join("lock");
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(|e| failure::io("can not write in the data directory", path, &e))?;
        lock.try_lock().map_err(|error| match error {
            fs::TryLockError::WouldBlock => Error::Locked(path.display().to_string()),
            fs::TryLockError::Error(e) => failure::io("can not lock", &lock_path, &e),
        })?;
        let directory = Self { path: path.to_owned(), journal_is_spent: AtomicBool::new(false), _lock: lock };
        directory.check_format()?;
        directory.remove_unfinished_tree()?;
        Ok(directory)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the tree's files are.
    pub(super) fn tree(&self) -> PathBuf {
        self.path.join("tree")
    }

    /// Bytes that its files take on disk. Journals are preallocated, so their length says nothing.
    pub(super) fn size_bytes(&self) -> u64 {
        allocated(&self.path)
    }

    /// Bytes that the journals take on disk.
    pub(super) fn journal_bytes(&self) -> u64 {
        self.journals()
            .iter()
            .filter_map(|path| fs::metadata(path).ok())
            .map(|meta| meta.blocks() * 512)
            .sum()
    }

    /// Notes that every row of the journal is in table files. The journal is then emptied once the tree is
    /// closed: a start would read all of it, up to 64 MiB, to find that it has each row already.
    pub(super) fn set_journal_spent(&self) {
        self.journal_is_spent.store(true, Ordering::Release);
    }

    fn journals(&self) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(self.tree()) else { return Vec::new() };
        let paths = entries.flatten().map(|entry| entry.path());
        paths.filter(|path| path.extension().is_some_and(|extension| extension == "jnl")).collect()
    }

    fn check_format(&self) -> Result<(), Error> {
        let path = self.path.join("format");
        match fs::read_to_string(&path) {
            Ok(text) => match text.trim().parse() {
                Ok(found) if found > FORMAT => Err(Error::NewerFormat { found, supported: FORMAT }),
                Ok(_) => Ok(()),
                Err(_) => Err(Error::Io(format!("`{}` does not hold a format's number", path.display()))),
            },
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                self.write_format(&path).map_err(|e| failure::io("can not write", &path, &e))
            }
            Err(e) => Err(failure::io("can not read", &path, &e)),
        }
    }

    fn write_format(&self, path: &Path) -> io::Result<()> {
        let new = self.path.join("format.new");
        let mut file = File::create(&new)?;
        writeln!(file, "{FORMAT}")?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        File::open(&self.path)?.sync_all()
    }

    /// The tree's version marker is the last file made when a tree is new: without it no commit was ever
    /// accepted, and the tree would refuse to open.
    fn remove_unfinished_tree(&self) -> Result<(), Error> {
        let tree = self.tree();
        let whole = fs::metadata(tree.join("version")).is_ok_and(|marker| marker.len() > 0);
        if whole {
            return Ok(());
        }
        match fs::remove_dir_all(&tree) {
            Ok(()) => Ok(()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(failure::io("can not remove the unfinished", &tree, &e)),
        }
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // The tree is closed: what holds this directory drops it last.
        if !self.journal_is_spent.load(Ordering::Acquire) {
            return;
        }
        if let [journal] = &self.journals()[..] {
            let emptied = File::options().write(true).open(journal).and_then(|file| {
                file.set_len(0)?;
                file.sync_all()
            });
            if let Err(error) = emptied {
                tracing::warn!(%error, "the next start reads the journal");
            }
        }
    }
}

fn allocated(dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => allocated(&entry.path()),
            Ok(meta) => meta.blocks() * 512,
            // Removed by a compaction meanwhile.
            Err(_) => 0,
        })
        .sum()
}
