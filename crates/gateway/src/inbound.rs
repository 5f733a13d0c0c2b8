//! Bodies on their way in and out.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use aws::{BodyError, Protocol};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use types::{ErrorKind, SharedEnv};

use crate::io::{Activity, Busy, Timer};

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
