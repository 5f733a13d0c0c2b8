//! Bodies on their way in and out.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use aws::{BodyError, Protocol};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::PollSemaphore;
use types::{ErrorKind, SharedEnv};

use crate::gateway::HELD_UNIT_BYTES;
use crate::io::{Activity, Busy, Timer};

/// Bodies up to this size are not counted: connections bound them well enough.
const UNCOUNTED_BODY_BYTES: usize = 64 * 1024;
/// How fast a body must arrive that is kept in memory, after the time for which any body may stall.
const MIN_BYTES_PER_SECOND: usize = 16 * 1024;

/// A request's body, which fails if it stalls.
pub(crate) struct Inbound {
    inner: Incoming,
    timer: Timer,
    /// When the last bytes came, while it waits.
    waiting_since: Option<Duration>,
    timeout: Duration,
    protocol: Protocol,
    activity: Arc<Activity>,
    done: bool,
}

impl Inbound {
    pub(crate) fn new(
        inner: Incoming,
        activity: Arc<Activity>,
        env: &SharedEnv,
        timeout: Duration,
        protocol: Protocol,
    ) -> Self {
        let done = inner.is_end_stream();
        let timer = Timer::new(env.clone());
        Self { inner, timer, waiting_since: None, timeout, protocol, activity, done }
    }
}

fn stalled(protocol: Protocol) -> aws::Error {
    let message = "Your socket connection to the server was not read from or written to within the timeout period. \
                   Idle connections will be closed.";
    match protocol {
        Protocol::RestXml => aws::Error::new(ErrorKind::Timeout, "RequestTimeout", message).with_status(400),
        Protocol::Json10 | Protocol::Json11 | Protocol::RestJson => {
            aws::Error::new(ErrorKind::Timeout, "RequestTimeoutException", message)
        }
        Protocol::Query => aws::Error::new(ErrorKind::Timeout, "RequestTimeout", message),
    }
}

impl Body for Inbound {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        match Pin::new(&mut this.inner).poll_frame(cx) {
            Poll::Ready(frame) => {
                this.waiting_since = None;
                this.done = matches!(frame, None | Some(Err(_))) || this.inner.is_end_stream();
                Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
            }
            Poll::Pending => {
                let since = *this.waiting_since.get_or_insert_with(|| this.timer.now());
                if this.timer.poll_until(cx, since + this.timeout).is_pending() {
                    return Poll::Pending;
                }
                Poll::Ready(Some(Err(stalled(this.protocol).into())))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for Inbound {
    fn drop(&mut self) {
        if !self.done {
            self.activity.leave_unread();
        }
    }
}

/// The memory that the body of one request fills; given back when this is dropped.
pub(crate) type Held = Arc<Mutex<Option<OwnedSemaphorePermit>>>;

/// A body that its service reads whole. It takes of the memory for such bodies what has arrived, not what was
/// announced; the whole must arrive at [`MIN_BYTES_PER_SECOND`] at least: so nobody holds memory by being slow.
pub(crate) struct Counted {
    inner: Inbound,
    /// `None` for bodies that are not kept.
    memory: Option<PollSemaphore>,
    held: Held,
    /// How many units it may still take: a body that is larger than all the memory takes all of it.
    may_take: usize,
    /// Arrived in all, and of that what is not paid for yet.
    arrived: usize,
    owed: usize,
    began: Duration,
    timer: Timer,
    /// A frame that waits for memory.
    waiting: Option<Frame<Bytes>>,
    waiting_since: Option<Duration>,
}

impl Counted {
    /// `memory` and how many units there are of it, for bodies that are kept.
    pub(crate) fn new(
        inner: Inbound,
        memory: Option<(Arc<Semaphore>, usize)>,
        env: &SharedEnv,
    ) -> (Self, Held) {
        let held = Held::default();
        let may_take = memory.as_ref().map_or(0, |(_, all)| *all);
        let timer = Timer::new(env.clone());
        let counted = Self {
            inner,
            memory: memory.map(|(memory, _)| PollSemaphore::new(memory)),
            held: held.clone(),
            may_take,
            arrived: 0,
            owed: 0,
            began: timer.now(),
            timer,
            waiting: None,
            waiting_since: None,
        };
        (counted, held)
    }

    /// Ready once what has arrived is paid for.
    fn poll_paid(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        let units = (self.owed / HELD_UNIT_BYTES).min(self.may_take);
        let Some(memory) = &mut self.memory else { return Poll::Ready(Ok(())) };
        if self.arrived <= UNCOUNTED_BODY_BYTES || units == 0 {
            return Poll::Ready(Ok(()));
        }
        match memory.poll_acquire_many(cx, u32::try_from(units).unwrap_or(u32::MAX)) {
            Poll::Ready(permit) => {
                self.waiting_since = None;
                self.may_take -= units;
                self.owed %= HELD_UNIT_BYTES;
                let mut held = self.held.lock().expect("no holder of this lock panics");
                match (&mut *held, permit) {
                    (Some(held), Some(permit)) => held.merge(permit),
                    (none, permit) => *none = permit,
                }
                Poll::Ready(Ok(()))
            }
            Poll::Pending => {
                let since = *self.waiting_since.get_or_insert_with(|| self.timer.now());
                ready!(self.timer.poll_until(cx, since + self.inner.timeout));
                let message = "The node is reading too many large requests at once; try again later.";
                let error = aws::Error::new(ErrorKind::Unavailable, "ServiceUnavailable", message);
                Poll::Ready(Err(error.into()))
            }
        }
    }
}

impl Body for Counted {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        if this.waiting.is_none() {
            let Poll::Ready(frame) = Pin::new(&mut this.inner).poll_frame(cx) else {
                if this.memory.is_none() {
                    return Poll::Pending;
                }
                let earned = Duration::from_secs((this.arrived / MIN_BYTES_PER_SECOND) as u64);
                let deadline = this.began + this.inner.timeout + earned;
                ready!(this.timer.poll_until(cx, deadline));
                return Poll::Ready(Some(Err(stalled(this.inner.protocol).into())));
            };
            match frame {
                Some(Ok(frame)) => {
                    let bytes = frame.data_ref().map_or(0, Bytes::len);
                    this.arrived += bytes;
                    this.owed += bytes;
                    this.waiting = Some(frame);
                }
                end => return Poll::Ready(end),
            }
        }
        ready!(this.poll_paid(cx))
            .map_or_else(|error| Poll::Ready(Some(Err(error))), |()| Poll::Ready(this.waiting.take().map(Ok)))
    }

    fn is_end_stream(&self) -> bool {
        self.waiting.is_none() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        if self.waiting.is_some() { SizeHint::default() } else { self.inner.size_hint() }
    }
}

/// An answer's body: the connection is busy until it is sent.
pub(crate) struct Outbound {
    pub(crate) inner: aws::Body,
    pub(crate) _busy: Busy,
}

impl Body for Outbound {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Pin::new(&mut self.inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
