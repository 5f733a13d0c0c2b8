//! Writing in steps: while one is on a blocking thread, the pieces of the next are gathered.
//!
//! A step is begun as soon as the one before it is done and there is a block to write: a fast body is written in large
//! steps, and of a slow one no more than a block is held. What was written goes to the disk meanwhile, so that the sync
//! at the end of a large blob has little left to do.
//!
//! Invariants: no failure of a step or of a sync is lost: the blob is not finished then. What is gathered for all blobs
//! together has a limit, beyond which each has one block.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::format::BLOCK_BYTES;
use super::writer::Writer;
use super::{blocking, on_a_thread};
use crate::{ByteStream, Error};

/// The most that is gathered for one step.
const STEP_BYTES: usize = 1 << 20;
const STEP_PIECES: usize = 1024;

/// The most that is gathered for the steps of all blobs; each may have a block beyond that.
const GATHERED_BYTES: usize = 64 << 20;

/// So much is written before it is sent on to the disk.
const SYNC_BYTES: u64 = 8 << 20;

/// So much may wait in the page cache.
const UNSYNCED_BYTES: u64 = 64 << 20;

/// How much is gathered for all blobs.
pub(super) type Gathered = Arc<AtomicUsize>;

/// What is gathered for one step.
struct Pieces {
    pieces: Vec<Bytes>,
    bytes: usize,
    gathered: Gathered,
}

impl Pieces {
    fn push(&mut self, piece: Bytes) {
        self.bytes += piece.len();
        self.gathered.fetch_add(piece.len(), Ordering::Relaxed);
        self.pieces.push(piece);
    }

    fn has_a_block(&self) -> bool {
        self.bytes as u64 >= BLOCK_BYTES
    }

    fn is_full(&self) -> bool {
        let many = self.gathered.load(Ordering::Relaxed) >= GATHERED_BYTES;
        self.bytes >= STEP_BYTES || self.pieces.len() >= STEP_PIECES || many && self.has_a_block()
    }
}

impl Drop for Pieces {
    fn drop(&mut self) {
        self.gathered.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A blob that is being written.
pub(super) struct Steps {
    gathered: Gathered,
    threads: Arc<Semaphore>,
    step: Step,
    sync: Option<JoinHandle<Result<(), Error>>>,
}

enum Step {
    Running(JoinHandle<Result<Box<Writer>, Error>>),
    Done(Result<Box<Writer>, Error>),
}

impl Step {
    fn poll_done(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Self::Running(handle) = self {
            let outcome = ready!(Pin::new(handle).poll(cx));
            *self = Self::Done(outcome.unwrap_or_else(|e| Err(Error::Io(io::Error::other(e)))));
        }
        Poll::Ready(())
    }

    async fn writer(mut self) -> Result<Box<Writer>, Error> {
        std::future::poll_fn(|cx| self.poll_done(cx)).await;
        match self {
            Self::Done(outcome) => outcome,
            Self::Running(_) => Err(Error::Io(io::Error::other("a step of a blob did not end"))),
        }
    }
}

impl Steps {
    pub(super) fn new(writer: Writer, gathered: Gathered, threads: Arc<Semaphore>) -> Self {
        Self { gathered, threads, step: Step::Done(Ok(Box::new(writer))), sync: None }
    }

    /// Writes all of a body and gives it its name; the blob's size. A writer that is dropped, here or on its thread,
    /// removes its file.
    pub(super) async fn run(mut self, mut body: ByteStream) -> Result<u64, Error> {
        loop {
            let gathered = self.gather(&mut body).await;
            let writer = self.step.writer().await;
            let (pieces, ended) = match gathered {
                Ok(gathered) => gathered,
                Err(error) => {
                    // Gone before the caller hears of it.
                    blocking(move || {
                        drop(writer);
                        Ok(())
                    })
                    .await?;
                    return Err(error);
                }
            };
            let mut writer = writer?;
            if ended {
                if let Some(sync) = self.sync {
                    synced(sync).await?;
                }
                return on_a_thread(&self.threads, move || {
                    writer.write(&pieces.pieces)?;
                    writer.finish()
                })
                .await;
            }
            self.sync = keep_up(&mut writer, self.sync).await?;
            let thread = self.threads.clone().acquire_owned().await.expect("this semaphore is never closed");
            self.step = Step::Running(tokio::task::spawn_blocking(move || {
                let _thread = thread;
                writer.write(&pieces.pieces)?;
                Ok(writer)
            }));
        }
    }

    /// What the body gives until there is enough of it for the next step, and whether it has ended.
    async fn gather(&mut self, body: &mut ByteStream) -> Result<(Pieces, bool), Error> {
        let mut pieces = Pieces { pieces: Vec::new(), bytes: 0, gathered: self.gathered.clone() };
        let ended = std::future::poll_fn(|cx| {
            loop {
                if pieces.is_full() {
                    return Poll::Ready(Ok(false));
                }
                match body.as_mut().poll_next(cx) {
                    Poll::Ready(Some(Ok(piece))) => pieces.push(piece),
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                    Poll::Ready(None) => return Poll::Ready(Ok(true)),
                    Poll::Pending => {
                        ready!(self.step.poll_done(cx));
                        let has_failed = matches!(self.step, Step::Done(Err(_)));
                        let enough = pieces.has_a_block() || has_failed;
                        return if enough { Poll::Ready(Ok(false)) } else { Poll::Pending };
                    }
                }
            }
        });
        let ended = ended.await?;
        Ok((pieces, ended))
    }
}

/// What a body gives at once, a block at least, and whether it has ended: for who writes it elsewhere.
pub(crate) async fn gather(body: &mut ByteStream) -> Result<(Vec<Bytes>, bool), Error> {
    let (mut pieces, mut bytes) = (Vec::new(), 0);
    let ended = std::future::poll_fn(|cx| {
        while bytes < STEP_BYTES && pieces.len() < STEP_PIECES {
            match body.as_mut().poll_next(cx) {
                Poll::Ready(Some(Ok(piece))) => {
                    bytes += piece.len();
                    pieces.push(piece);
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                Poll::Ready(None) => return Poll::Ready(Ok(true)),
                Poll::Pending if bytes as u64 >= BLOCK_BYTES => break,
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(false))
    });
    let ended = ended.await?;
    Ok((pieces, ended))
}

/// Has the disk write what it was given, on yet another thread if there is one; waits only if it has fallen far behind.
async fn keep_up(
    writer: &mut Writer,
    sync: Option<JoinHandle<Result<(), Error>>>,
) -> Result<Option<JoinHandle<Result<(), Error>>>, Error> {
    let unsynced = writer.unsynced_bytes();
    if let Some(sync) = sync {
        if !sync.is_finished() && unsynced < UNSYNCED_BYTES {
            return Ok(Some(sync));
        }
        synced(sync).await?;
    }
    let thread = match unsynced {
        ..SYNC_BYTES => None,
        SYNC_BYTES..UNSYNCED_BYTES => writer.sync_threads().try_acquire_owned().ok(),
        UNSYNCED_BYTES.. => writer.sync_threads().acquire_owned().await.ok(),
    };
    Ok(thread.and_then(|thread| writer.sync(thread)))
}

async fn synced(sync: JoinHandle<Result<(), Error>>) -> Result<(), Error> {
    sync.await.map_err(|e| Error::Io(io::Error::other(e)))?
}
