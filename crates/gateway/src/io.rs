//! A connection whose peer cannot hold it by being slow.
//!
//! What is timed depends on where the connection is: between requests, within a request's headers, or busy,
//! when only writing is timed here (bodies are timed where they are read). Timers are armed only when there is
//! something to wait for, and are not touched by a request that arrives whole.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use types::SharedEnv;

use crate::Config;

/// How long, and how much, is read from a client that is still sending a body nobody wants, so that it sees
/// the answer rather than a reset connection.
const LINGER: Duration = Duration::from_secs(5);
const LINGER_BYTES: usize = 64 * 1024 * 1024;

/// So many connections may read as much at once as there is room for. When more are open, each reads less: who reads a
/// connection makes its buffers as large as its reads are, and a slow one keeps them.
const ROOMY_CONNECTIONS: usize = 96;

/// What is read at once when it is crowded. Not a power of two: hyper would make room for twice as much.
const CROWDED_READ_BYTES: usize = 16 * 1024 - 1;

const IDLE: u8 = 0;
const HEAD: u8 = 1;
const BUSY: u8 = 2;

/// Where a connection is; shared by its socket and its requests.
#[derive(Debug)]
pub(crate) struct Activity {
    stage: AtomicU8,
    /// How many requests there were: tells one idle time from the next.
    requests: AtomicU32,
    unread: AtomicBool,
}

impl Activity {
    /// A new connection is expected to speak.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            stage: AtomicU8::new(HEAD),
            requests: AtomicU32::new(0),
            unread: AtomicBool::new(false),
        })
    }

    /// A request has begun; it ends when what is returned is dropped.
    pub(crate) fn begin(self: &Arc<Self>) -> Busy {
        self.requests.fetch_add(1, Ordering::AcqRel);
        self.stage.store(BUSY, Ordering::Release);
        Busy(self.clone())
    }

    /// A body was not read to its end.
    pub(crate) fn leave_unread(&self) {
        self.unread.store(true, Ordering::Release);
    }

    /// Whether that was so: then the connection ends with this answer.
    pub(crate) fn has_unread(&self) -> bool {
        self.unread.load(Ordering::Acquire)
    }
}

/// A request is in progress.
#[derive(Debug)]
pub(crate) struct Busy(Arc<Activity>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.stage.store(IDLE, Ordering::Release);
    }
}

type Sleep = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A timer that is armed rarely: it is left running when its deadline moves further off.
pub(crate) struct Timer {
    env: SharedEnv,
    armed: Option<(Duration, Sleep)>,
}

impl Timer {
    pub(crate) fn new(env: SharedEnv) -> Self {
        Self { env, armed: None }
    }

    pub(crate) fn now(&self) -> Duration {
        self.env.monotonic()
    }

    /// Ready once `deadline` (on the monotonic clock) has passed.
    pub(crate) fn poll_until(&mut self, cx: &mut Context<'_>, deadline: Duration) -> Poll<()> {
        loop {
            let now = self.env.monotonic();
            if now >= deadline {
                return Poll::Ready(());
            }
            match &mut self.armed {
                Some((at, sleep)) if *at <= deadline => {
                    ready!(sleep.as_mut().poll(cx));
                    self.armed = None;
                }
                _ => self.armed = Some((deadline, self.env.sleep(deadline - now))),
            }
        }
    }
}

/// How many connections are open.
#[derive(Debug, Default)]
pub(crate) struct Crowd(AtomicUsize);

impl Crowd {
    /// One more, until what is returned is dropped.
    fn join(self: &Arc<Self>) -> Member {
        self.0.fetch_add(1, Ordering::Relaxed);
        Member(self.clone())
    }
}

struct Member(Arc<Crowd>);

impl Member {
    fn is_crowded(&self) -> bool {
        self.0.0.load(Ordering::Relaxed) > ROOMY_CONNECTIONS
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The socket.
pub(crate) struct Guarded<S> {
    inner: S,
    crowd: Member,
    activity: Arc<Activity>,
    reading: Timer,
    writing: Timer,
    /// The stage and the count of requests when reading last had to wait, and since when they are so.
    noticed: (u8, u32, Duration),
    /// Since when a write has been waiting.
    blocked: Option<Duration>,
    lingering: Option<(Duration, usize)>,
    header_timeout: Duration,
    keep_alive: Duration,
    stall_timeout: Duration,
}

impl<S> Guarded<S> {
    pub(crate) fn new(
        inner: S,
        crowd: &Arc<Crowd>,
        activity: Arc<Activity>,
        env: &SharedEnv,
        config: &Config,
    ) -> Self {
        let reading = Timer::new(env.clone());
        let noticed = (HEAD, 0, reading.now());
        Self {
            inner,
            crowd: crowd.join(),
            activity,
            reading,
            writing: Timer::new(env.clone()),
            noticed,
            blocked: None,
            lingering: None,
            header_timeout: config.header_timeout(),
            keep_alive: config.keep_alive(),
            stall_timeout: config.stall_timeout(),
        }
    }

    /// How long the peer may say nothing more, if that is limited now.
    fn read_deadline(&mut self) -> Option<Duration> {
        let stage = self.activity.stage.load(Ordering::Acquire);
        let requests = self.activity.requests.load(Ordering::Acquire);
        if (self.noticed.0, self.noticed.1) != (stage, requests) {
            self.noticed = (stage, requests, self.reading.now());
        }
        match stage {
            IDLE => Some(self.noticed.2 + self.keep_alive),
            HEAD => Some(self.noticed.2 + self.header_timeout),
            _ => None,
        }
    }
}

impl<S: AsyncRead + Unpin> Guarded<S> {
    /// Reads as much as is read at once, and tells how much that was.
    fn poll_some(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<usize>> {
        if !self.crowd.is_crowded() {
            let before = buf.filled().len();
            ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
            return Poll::Ready(Ok(buf.filled().len() - before));
        }
        let space = buf.initialize_unfilled_to(buf.remaining().min(CROWDED_READ_BYTES));
        let mut part = ReadBuf::new(space);
        ready!(Pin::new(&mut self.inner).poll_read(cx, &mut part))?;
        let read = part.filled().len();
        buf.advance(read);
        Poll::Ready(Ok(read))
    }
}

fn timed_out(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, what)
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if let Poll::Ready(result) = this.poll_some(cx, buf) {
            if matches!(result, Ok(1..)) {
                // The first bytes of a request: its headers are timed from here.
                let stage = &this.activity.stage;
                let _ = stage.compare_exchange(IDLE, HEAD, Ordering::AcqRel, Ordering::Acquire);
            }
            return Poll::Ready(result.map(|_| ()));
        }
        match this.read_deadline() {
            None => Poll::Pending,
            Some(deadline) => {
                ready!(this.reading.poll_until(cx, deadline));
                Poll::Ready(Err(timed_out("the client sent nothing for too long")))
            }
        }
    }
}

impl<S: AsyncWrite + AsyncRead + Unpin> Guarded<S> {
    /// Notes how a write went; fails one that has waited too long.
    fn timed_write<T>(&mut self, cx: &mut Context<'_>, poll: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match poll {
            Poll::Ready(result) => {
                self.blocked = None;
                Poll::Ready(result)
            }
            Poll::Pending => {
                let since = *self.blocked.get_or_insert_with(|| self.writing.now());
                ready!(self.writing.poll_until(cx, since + self.stall_timeout));
                Poll::Ready(Err(timed_out("the client does not read its answer")))
            }
        }
    }

    /// Reads on, for a while, what the client is still sending.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut space = [std::mem::MaybeUninit::uninit(); 16 * 1024];
        let now = self.reading.now();
        let (deadline, mut left) = *self.lingering.get_or_insert((now + LINGER, LINGER_BYTES));
        loop {
            let mut buf = ReadBuf::uninit(&mut space);
            match Pin::new(&mut self.inner).poll_read(cx, &mut buf) {
                Poll::Ready(Ok(())) if !buf.filled().is_empty() && buf.filled().len() <= left => {
                    left -= buf.filled().len();
                    self.lingering = Some((deadline, left));
                    if self.reading.now() >= deadline {
                        return Poll::Ready(Ok(()));
                    }
                }
                Poll::Ready(_) => return Poll::Ready(Ok(())),
                Poll::Pending => {
                    ready!(self.reading.poll_until(cx, deadline));
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

impl<S: AsyncWrite + AsyncRead + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.timed_write(cx, poll)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.timed_write(cx, poll)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.inner).poll_flush(cx);
        self.timed_write(cx, poll)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.lingering.is_none() {
            ready!(Pin::new(&mut self.inner).poll_shutdown(cx))?;
        }
        if self.activity.has_unread() { self.poll_linger(cx) } else { Poll::Ready(Ok(())) }
    }
}
