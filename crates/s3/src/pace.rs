//! How far a download runs ahead of its client.
//!
//! A connection takes several frames of an answer before the socket has taken the first, so that the socket never waits.
//! For a thousand clients that do not read, that adds up: once the frames that wait in all connections have reached a
//! limit, each has one. So a slow client holds one frame, and the others still have theirs.
//!
//! Invariant: an answer gets on whenever its client reads, however little room there is.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use blobs::ByteStream;
use bytes::Bytes;
use futures_util::Stream;
use futures_util::task::AtomicWaker;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many frames, of 64 KiB, all connections may hold beyond one each.
pub(crate) const FRAMES_AHEAD: usize = 256;

/// The frames of one answer, held back while its connection has enough of them.
pub(crate) struct Paced {
    frames: ByteStream,
    held: Arc<Held>,
    room: Arc<Semaphore>,
}

/// What the connection holds of one answer.
#[derive(Default)]
struct Held {
    frames: AtomicUsize,
    /// Waits for it to hold nothing.
    waiting: AtomicWaker,
}

/// A frame, counted until its last byte is sent.
struct Frame {
    bytes: Bytes,
    held: Arc<Held>,
    _room: Option<OwnedSemaphorePermit>,
}

impl AsRef<[u8]> for Frame {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        self.held.frames.fetch_sub(1, Ordering::AcqRel);
        self.held.waiting.wake();
    }
}

impl Paced {
    pub(crate) fn new(frames: ByteStream, room: Arc<Semaphore>) -> Self {
        Self { frames, held: Arc::default(), room }
    }
}

impl Stream for Paced {
    type Item = Result<Bytes, blobs::Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let room = this.room.clone().try_acquire_owned().ok();
        if room.is_none() {
            this.held.waiting.register(cx.waker());
            if this.held.frames.load(Ordering::Acquire) > 0 {
                return Poll::Pending;
            }
        }
        let frame = ready!(this.frames.as_mut().poll_next(cx));
        Poll::Ready(frame.map(|frame| {
            let bytes = frame?;
            this.held.frames.fetch_add(1, Ordering::AcqRel);
            Ok(Bytes::from_owner(Frame { bytes, held: this.held.clone(), _room: room }))
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::{StreamExt, poll, stream};

    #[tokio::test]
    async fn without_room_there_is_one_frame() {
        let frames = || stream::iter((0..5_u8).map(|n| Ok(Bytes::from(vec![n; 10])))).boxed();
        let room = Arc::new(Semaphore::new(3));
        let (mut slow, mut other) = (Paced::new(frames(), room.clone()), Paced::new(frames(), room.clone()));
        let mut held = Vec::new();
        for _ in 0..3 {
            held.push(slow.next().await.unwrap().unwrap());
        }
        assert!(poll!(slow.next()).is_pending());
        let first = other.next().await.unwrap().unwrap();
        assert_eq!(first[0], 0);
        assert!(poll!(other.next()).is_pending());
        drop(first);
        assert_eq!(other.next().await.unwrap().unwrap()[0], 1);
        // A client that reads gets on.
        held.remove(0);
        assert_eq!(slow.next().await.unwrap().unwrap()[0], 3);
        drop(held);
        assert_eq!(slow.next().await.unwrap().unwrap()[0], 4);
        assert!(slow.next().await.is_none());
        assert_eq!(room.available_permits(), 3);
    }
}
