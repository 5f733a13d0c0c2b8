//! Blobs as files.
//!
//! Layout: `<first byte of the id>/<id>`, both in hexadecimal; `tmp/` for what is being written, emptied when
//! the directory is opened; `lock`, held by the process that has it open. A file is the blob's bytes, then
//! the checksum of each of its blocks, then a trailer (see `format`): a blob's bytes are contiguous and a
//! range of them is read without reading the rest.
//!
//! A blob is written to a temporary file, synced, renamed into place, and its directory synced, so that there
//! is never a part of one under its name. All file work is on blocking threads, in steps of many pieces.

pub(crate) mod format;
mod reader;
mod steps;
mod writer;

use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;

use crate::{BlobId, Blobs, ByteStream, Error};
use reader::Reader;
pub(crate) use steps::gather;
use steps::{Gathered, Steps};
use writer::Writer;

/// Free disk space, in bytes, below which blobs are refused. More than the store's, which may share the
/// disk: it has to be able to record removals after blobs have filled it.
const RESERVE_BYTES: u64 = 256 << 20;

/// How many blobs are read in large chunks, the next one while the last is used. Those that are read beside so many
/// others are read in small ones, each when it is asked for: slow readers hold little memory.
const LANES: usize = 32;

/// How many threads work on files at one time. More are no faster, and each keeps memory of its own.
const THREADS: usize = 8;

/// How many more wait for the disk to have written what it was given, while their blobs go on.
const SYNC_THREADS: usize = 4;

/// Blobs in a directory of a local file system.
#[derive(Debug)]
pub struct FsBlobs {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    dir: PathBuf,
    reserve_bytes: u64,
    /// Names of temporary files.
    next: AtomicU64,
    gathered: Gathered,
    /// How many blobs may be read ahead of who reads them.
    lanes: Arc<Semaphore>,
    threads: Arc<Semaphore>,
    sync_threads: Arc<Semaphore>,
    // Held for its lock.
    _lock: File,
}

impl FsBlobs {
    /// Opens a directory, makes it if it is not there, and removes what a crash left half written. Blocks.
    pub fn open(dir: impl Into<PathBuf>) -> Result<Arc<Self>, Error> {
        Self::open_with_reserve(dir, RESERVE_BYTES)
    }

    /// As [`Self::open`], refusing blobs once the disk has less than `reserve_bytes` free.
    pub fn open_with_reserve(dir: impl Into<PathBuf>, reserve_bytes: u64) -> Result<Arc<Self>, Error> {
        let dir = dir.into();
        let lock = prepare(&dir).map_err(|error| {
            let why = format!("can not use `{}` for blobs: {error}", dir.display());
            Error::Io(io::Error::new(error.kind(), why))
        })?;
        let shared = Shared {
            dir,
            reserve_bytes,
            next: AtomicU64::new(0),
            gathered: Gathered::default(),
            lanes: Arc::new(Semaphore::new(LANES)),
            threads: Arc::new(Semaphore::new(THREADS)),
            sync_threads: Arc::new(Semaphore::new(SYNC_THREADS)),
            _lock: lock,
        };
        Ok(Arc::new(Self { shared: Arc::new(shared) }))
    }
}

fn prepare(dir: &Path) -> io::Result<File> {
    fs::create_dir_all(dir)?;
    let lock = File::options().create(true).truncate(false).write(true).open(dir.join("lock"))?;
    lock.try_lock().map_err(|error| match error {
        fs::TryLockError::WouldBlock => {
            io::Error::new(io::ErrorKind::ResourceBusy, "another process has it open")
        }
        fs::TryLockError::Error(error) => error,
    })?;
    match fs::remove_dir_all(dir.join("tmp")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => fs::create_dir(dir.join("tmp"))?,
    }
    Ok(lock)
}

impl Shared {
    fn folder(&self, prefix: u8) -> PathBuf {
        self.dir.join(hex::encode([prefix]))
    }

    fn path(&self, id: BlobId) -> PathBuf {
        self.folder(id.0[0]).join(id.to_string())
    }

    fn temporary(&self, id: BlobId) -> PathBuf {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.dir.join("tmp").join(format!("{id}.{number}"))
    }

    /// Refuses to write where the disk is nearly full.
    fn check_room(&self) -> Result<(), Error> {
        let stat = rustix::fs::statvfs(&self.dir).map_err(|e| failure(e.into()))?;
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        if free < self.reserve_bytes { Err(Error::DiskFull) } else { Ok(()) }
    }

    fn delete(&self, id: BlobId) -> Result<(), Error> {
        match fs::remove_file(self.path(id)) {
            // Synced, so that what the caller forgets after this does not come back.
            Ok(()) => sync_dir(&self.folder(id.0[0])),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(failure(error)),
        }
    }

    fn list(&self, after: Option<BlobId>, limit: usize) -> Result<Vec<BlobId>, Error> {
        let mut found = Vec::new();
        for prefix in after.map_or(0, |id| id.0[0])..=u8::MAX {
            if found.len() >= limit {
                break;
            }
            let mut ids = Vec::new();
            let entries = match fs::read_dir(self.folder(prefix)) {
                Ok(entries) => entries,
                // Made when a blob first needs it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(failure(error)),
            };
            for entry in entries {
                let name = entry.map_err(failure)?.file_name();
                // Files that are not ours are left alone.
                let id = name.to_str().and_then(parse_id);
                ids.extend(id.filter(|id| id.0[0] == prefix && after.is_none_or(|after| *id > after)));
            }
            ids.sort_unstable();
            ids.truncate(limit - found.len());
            found.append(&mut ids);
        }
        Ok(found)
    }
}

pub(crate) fn parse_id(name: &str) -> Option<BlobId> {
    let mut id = [0; 16];
    hex::decode_to_slice(name, &mut id).ok()?;
    // Names are in lower case, and so is what we look for.
    (BlobId(id).to_string() == name).then_some(BlobId(id))
}

fn sync_dir(dir: &Path) -> Result<(), Error> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(failure)
}

/// The error of a file operation.
pub(crate) fn failure(error: io::Error) -> Error {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    match error.kind() {
        StorageFull | QuotaExceeded | FileTooLarge => Error::DiskFull,
        _ => Error::Io(error),
    }
}

/// The same, once one of the threads for it is free.
async fn on_a_thread<T: Send + 'static>(
    threads: &Arc<Semaphore>,
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let thread = threads.clone().acquire_owned().await.expect("this semaphore is never closed");
    blocking(move || {
        let _thread = thread;
        work()
    })
    .await
}

/// Runs file work where it may block.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(|e| Error::Io(io::Error::other(e)))?
}

#[async_trait]
impl Blobs for FsBlobs {
    async fn put(&self, id: BlobId, body: ByteStream) -> Result<u64, Error> {
        let writer = Writer::new(self.shared.clone(), id);
        Steps::new(writer, self.shared.gathered.clone(), self.shared.threads.clone()).run(body).await
    }

    async fn get(&self, id: BlobId, range: Range<u64>) -> Result<ByteStream, Error> {
        let path = self.shared.path(id);
        let lane = self.shared.lanes.clone().try_acquire_owned().ok();
        let threads = self.shared.threads.clone();
        // The first chunk comes with the open file: a small blob takes one step.
        let first = on_a_thread(&self.shared.threads, move || {
            State::read_next(Reader::open(&path, id, range, lane)?)
        })
        .await?;
        let next = move |state: State| {
            let threads = threads.clone();
            async move { state.next(&threads).await }
        };
        Ok(stream::unfold(State::Read(first), next).boxed())
    }

    async fn delete(&self, id: BlobId) -> Result<(), Error> {
        let shared = self.shared.clone();
        blocking(move || shared.delete(id)).await
    }

    async fn verify(&self, id: BlobId) -> Result<u64, Error> {
        let path = self.shared.path(id);
        let mut reader = blocking(move || Reader::open_whole(&path, id, None)).await?;
        let size = reader.size();
        // In steps, so that a large blob does not keep a thread.
        while !reader.is_done() {
            reader = blocking(move || {
                reader.next()?;
                Ok(reader)
            })
            .await?;
        }
        Ok(size)
    }

    async fn list(&self, after: Option<BlobId>, limit: usize) -> Result<Vec<BlobId>, Error> {
        let shared = self.shared.clone();
        blocking(move || shared.list(after, limit)).await
    }
}

/// Where a stream of a blob's bytes stands.
enum State {
    Read((Reader, Option<Bytes>)),
    /// The next chunk is being read.
    Ahead(JoinHandle<Result<(Reader, Option<Bytes>), Error>>),
    /// It is read when it is asked for.
    Waiting(Reader),
    Ended,
}

impl State {
    fn read(
        reader: Reader,
        thread: OwnedSemaphorePermit,
    ) -> JoinHandle<Result<(Reader, Option<Bytes>), Error>> {
        tokio::task::spawn_blocking(move || {
            let _thread = thread;
            Self::read_next(reader)
        })
    }

    fn read_next(mut reader: Reader) -> Result<(Reader, Option<Bytes>), Error> {
        let chunk = reader.next()?;
        Ok((reader, chunk))
    }

    async fn next(self, threads: &Arc<Semaphore>) -> Option<(Result<Bytes, Error>, Self)> {
        let ahead = match self {
            Self::Read(read) => return Self::give(Ok(read), threads),
            Self::Ahead(ahead) => ahead,
            Self::Waiting(reader) => match threads.clone().try_acquire_owned() {
                Ok(thread) => Self::read(reader, thread),
                // On a task of its own: a client that stops reading must not be given a thread that it does not take.
                Err(_) => {
                    let threads = threads.clone();
                    tokio::spawn(async move { on_a_thread(&threads, || Self::read_next(reader)).await })
                }
            },
            Self::Ended => return None,
        };
        Self::give(ahead.await.unwrap_or_else(|e| Err(Error::Io(io::Error::other(e)))), threads)
    }

    fn give(
        read: Result<(Reader, Option<Bytes>), Error>,
        threads: &Arc<Semaphore>,
    ) -> Option<(Result<Bytes, Error>, Self)> {
        match read {
            Ok((_, None)) => None,
            Ok((reader, Some(chunk))) if reader.is_done() => Some((Ok(chunk), Self::Ended)),
            Ok((reader, Some(chunk))) => {
                let thread = reader.is_fast().then(|| threads.clone().try_acquire_owned().ok()).flatten();
                let state = match thread {
                    Some(thread) => Self::Ahead(Self::read(reader, thread)),
                    None => Self::Waiting(reader),
                };
                Some((Ok(chunk), state))
            }
            Err(error) => Some((Err(error), Self::Ended)),
        }
    }
}
