//! A large body on its way to a blob: put into chunks on the connection's task, hashed and sealed on another thread.
//!
//! Hashing is the slowest step of an upload. While one run of chunks is hashed and sealed, the next is received and the
//! one before is written: three steps of one upload at once, without a copy but that into the chunks.
//!
//! Invariants: a chunk is hashed and sealed once, in order; what is not yet a full chunk is all that a slow client
//! holds; once the full ones of all uploads together have reached a limit, an upload has one waiting and no more.

use std::sync::{Arc, Mutex};

use blobs::ByteStream;
use bytes::{Bytes, BytesMut};
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;

use crate::Error;
use crate::checksum::{Digests, Hashers};
use crate::encryption::{CHUNK_BYTES, StreamKey, TAG_BYTES};

const CHUNK: usize = CHUNK_BYTES as usize;

/// How many full chunks of one upload may wait for the thread that hashes: enough to keep it busy.
const WAITING_CHUNKS: usize = 8;

/// The first room of a chunk that is filled slowly, which doubles as it is needed.
const FIRST_BYTES: usize = 8 << 10;

/// How many threads hash at one time. More are no faster, and each keeps memory of its own.
pub(crate) const HASHING_THREADS: usize = 8;

/// How many full chunks of all uploads may be on their way, 32 MiB.
pub(crate) const CHUNKS_UNDER_WAY: usize = 512;

/// Where the digests are found once the stream has ended.
pub(crate) type Outcome = Arc<Mutex<Option<Digests>>>;

/// The stream that a blob store takes, and where the digests will be. It fails unless the body has `length` bytes.
pub(crate) fn taken_in(
    frames: BoxStream<'static, Result<Bytes, blobs::Error>>,
    length: u64,
    hashers: Hashers,
    key: Option<StreamKey>,
    room: Arc<Semaphore>,
    threads: Arc<Semaphore>,
) -> (ByteStream, Outcome) {
    let intake = Intake::new(frames, length, hashers, key, room, threads);
    let outcome = intake.outcome.clone();
    let chunks = stream::try_unfold(intake, |mut intake| async move {
        let sealed = intake.next().await?;
        Ok::<_, blobs::Error>(sealed.map(|sealed| (stream::iter(sealed.into_iter().map(Ok)), intake)))
    });
    (chunks.try_flatten().boxed(), outcome)
}

struct Intake {
    frames: BoxStream<'static, Result<Bytes, blobs::Error>>,
    length: u64,
    seen: u64,
    filling: BytesMut,
    full: Vec<Chunk>,
    worker: Worker,
    room: Arc<Semaphore>,
    threads: Arc<Semaphore>,
    ended: bool,
    outcome: Outcome,
}

/// A chunk, and its part of the room that there is for those of all uploads, if there was any left.
struct Chunk {
    bytes: BytesMut,
    room: Option<OwnedSemaphorePermit>,
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// What hashes and seals.
struct Work {
    hashers: Hashers,
    key: Option<StreamKey>,
    chunk: u64,
}

impl Work {
    fn run(&mut self, chunks: Vec<Chunk>) -> Vec<Bytes> {
        let sealed = chunks.into_iter().map(|mut chunk| {
            self.hashers.update(&chunk.bytes);
            if let Some(key) = &self.key {
                key.seal_chunk(self.chunk, &mut chunk.bytes);
            }
            self.chunk += 1;
            Bytes::from_owner(chunk)
        });
        sealed.collect()
    }
}

enum Worker {
    Idle(Box<Work>),
    Busy(JoinHandle<(Box<Work>, Vec<Bytes>)>),
    Ended,
}

impl Intake {
    fn new(
        frames: BoxStream<'static, Result<Bytes, blobs::Error>>,
        length: u64,
        hashers: Hashers,
        key: Option<StreamKey>,
        room: Arc<Semaphore>,
        threads: Arc<Semaphore>,
    ) -> Self {
        let worker = Worker::Idle(Box::new(Work { hashers, key, chunk: 0 }));
        let outcome = Outcome::default();
        let (filling, full) = (BytesMut::new(), Vec::new());
        Self { frames, length, seen: 0, filling, full, worker, room, threads, ended: false, outcome }
    }

    /// The next chunks, as soon as they are sealed.
    async fn next(&mut self) -> Result<Option<Vec<Bytes>>, blobs::Error> {
        loop {
            self.worker = match std::mem::replace(&mut self.worker, Worker::Ended) {
                Worker::Idle(mut work) if !self.full.is_empty() => {
                    let thread = self.threads.clone().acquire_owned().await;
                    let thread = thread.expect("this semaphore is never closed");
                    let chunks = std::mem::take(&mut self.full);
                    Worker::Busy(tokio::task::spawn_blocking(move || {
                        let _thread = thread;
                        let sealed = work.run(chunks);
                        (work, sealed)
                    }))
                }
                Worker::Idle(work) if self.ended => {
                    let digests = work.hashers.finish();
                    *self.outcome.lock().expect("no holder of this lock panics") = Some(digests);
                    return Ok(None);
                }
                worker @ (Worker::Idle(_) | Worker::Busy(_) | Worker::Ended) => worker,
            };
            let has_room = self.full.last().is_none_or(|chunk| chunk.room.is_some());
            let wants_more = !self.ended && self.full.len() < WAITING_CHUNKS && has_room;
            let done = match &mut self.worker {
                Worker::Busy(job) if wants_more => tokio::select! {
                    done = job => Some(done),
                    frame = self.frames.try_next() => {
                        let frame = frame?;
                        self.take(frame)?;
                        None
                    }
                },
                Worker::Busy(job) => Some(job.await),
                Worker::Idle(_) => {
                    let frame = self.frames.try_next().await?;
                    self.take(frame)?;
                    None
                }
                Worker::Ended => return Ok(None),
            };
            if let Some(done) = done {
                let (work, sealed) = done.map_err(|e| blobs::Error::Io(std::io::Error::other(e)))?;
                self.worker = Worker::Idle(work);
                return Ok(Some(sealed));
            }
        }
    }

    /// Puts a frame, or the end, into chunks.
    fn take(&mut self, frame: Option<Bytes>) -> Result<(), blobs::Error> {
        let wrong_length = || blobs::Error::Body(Box::new(Error::IncompleteBody));
        let Some(mut frame) = frame else {
            if self.seen != self.length {
                return Err(wrong_length());
            }
            self.ended = true;
            if !self.filling.is_empty() {
                self.end_chunk();
            }
            return Ok(());
        };
        let begin = self.seen;
        self.seen += frame.len() as u64;
        if self.seen > self.length {
            return Err(wrong_length());
        }
        let mut left = self.length - begin;
        while !frame.is_empty() {
            let piece = frame.split_to(frame.len().min(CHUNK - self.filling.len()));
            self.make_room(piece.len(), left);
            left -= piece.len() as u64;
            self.filling.extend_from_slice(&piece);
            if self.filling.len() == CHUNK {
                self.end_chunk();
            }
        }
        Ok(())
    }

    /// Makes room for a piece of a chunk, when `left` bytes of the body are still to be put into chunks.
    fn make_room(&mut self, piece: usize, left: u64) {
        let filled = self.filling.len();
        let chunk = usize::try_from(left).map_or(CHUNK, |left| left.saturating_add(filled).min(CHUNK));
        let needed = filled + piece;
        // In the end as long as the chunk will be, with room for its tag.
        let room = match needed > chunk / 2 {
            true => chunk + TAG_BYTES as usize,
            false => needed.next_power_of_two().max(FIRST_BYTES),
        };
        if self.filling.capacity() < room {
            self.filling.reserve(room - filled);
        }
    }

    fn end_chunk(&mut self) {
        let room = self.room.clone().try_acquire_owned().ok();
        self.full.push(Chunk { bytes: std::mem::take(&mut self.filling), room });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checksum::Algorithm;
    use crate::encryption::stream_key;
    use proptest::prelude::*;

    fn frames(bytes: &[u8], size: usize) -> BoxStream<'static, Result<Bytes, blobs::Error>> {
        let frames: Vec<_> = bytes.chunks(size).map(|b| Ok(Bytes::copy_from_slice(b))).collect();
        stream::iter(frames).boxed()
    }

    fn run(bytes: &[u8], size: usize, length: u64, room: usize) -> Result<(Vec<u8>, Digests), blobs::Error> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        runtime.block_on(async {
            let (hashers, key) = (Hashers::new([Algorithm::Crc32c]), stream_key(length));
            let room = Arc::new(Semaphore::new(room));
            let (mut sealed, outcome) =
                taken_in(frames(bytes, size), length, hashers, Some(key), room, Arc::new(Semaphore::new(1)));
            let mut all = Vec::new();
            while let Some(piece) = sealed.try_next().await? {
                all.extend_from_slice(&piece);
            }
            let digests = outcome.lock().unwrap().take().expect("they are there at the end");
            Ok((all, digests))
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn bodies_are_hashed_and_sealed(length in 1_usize..900_000, size in 1000_usize..300_000) {
            let plain: Vec<u8> = (0..length).map(|n| u8::try_from((n * 31 + n / 251) % 256).unwrap()).collect();
            let (sealed, digests) = run(&plain, size, length as u64, CHUNKS_UNDER_WAY).unwrap();
            let mut whole = plain.clone();
            stream_key(length as u64).seal_whole(&mut whole, 0);
            prop_assert!(sealed == whole);
            let mut hashers = Hashers::new([Algorithm::Crc32c]);
            hashers.update(&plain);
            let expected = hashers.finish();
            prop_assert_eq!(digests.md5, expected.md5);
            prop_assert_eq!(digests.checksum(Algorithm::Crc32c), expected.checksum(Algorithm::Crc32c));
        }
    }

    #[test]
    fn a_body_of_another_length_fails() {
        for (bytes, length) in [(200_000, 200_001), (200_001, 200_000), (0, 1)] {
            let error = run(&vec![7; bytes], 4096, length, CHUNKS_UNDER_WAY).unwrap_err();
            assert!(matches!(error, blobs::Error::Body(_)), "{error:?}");
        }
    }

    #[test]
    fn a_slow_body_holds_little() {
        let (room, threads) = (Arc::new(Semaphore::new(1)), Arc::new(Semaphore::new(1)));
        let mut intake =
            Intake::new(stream::pending().boxed(), 1 << 20, Hashers::new([]), None, room, threads);
        intake.take(Some(Bytes::from(vec![7; 65 << 10]))).unwrap();
        assert_eq!(intake.full.len(), 1);
        assert_eq!(intake.filling.capacity(), FIRST_BYTES);
        intake.take(Some(Bytes::from(vec![7; 20 << 10]))).unwrap();
        assert_eq!(intake.filling.capacity(), 32 << 10);
        intake.take(Some(Bytes::from(vec![7; 20 << 10]))).unwrap();
        assert_eq!(intake.filling.capacity(), CHUNK + TAG_BYTES as usize);
    }

    #[tokio::test]
    async fn many_chunks_need_room() {
        let length = 100 * CHUNK as u64;
        let room = Arc::new(Semaphore::new(3));
        let body = frames(&vec![7; 100 * CHUNK], 50_000);
        let (mut sealed, _) =
            taken_in(body, length, Hashers::new([]), None, room.clone(), Arc::new(Semaphore::new(1)));
        let mut kept = Vec::new();
        while kept.len() < 20 {
            kept.push(sealed.try_next().await.unwrap().unwrap());
        }
        assert_eq!(room.available_permits(), 0);
        drop(kept);
        let rest = sealed.try_fold(0, |n, piece| async move { Ok(n + piece.len()) }).await.unwrap();
        assert_eq!(rest, 80 * CHUNK);
        assert_eq!(room.available_permits(), 3);
    }
}
