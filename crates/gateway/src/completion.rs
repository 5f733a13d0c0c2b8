//! Handlers that finish what they have begun.
//!
//! A client that goes away makes the server drop its request's future. Up to the end of parsing that is right:
//! nothing has happened. A handler, though, may stand between a commit and what follows it. So a handler that
//! is dropped unfinished moves to a task of its own and runs on; its body, if it still reads one, fails at once.
//! This costs nothing while clients stay: a task is spawned only when one leaves.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio_util::task::TaskTracker;

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A future that runs to its end, even if this is dropped.
pub(crate) struct ToItsEnd<T: Send + 'static> {
    future: Option<BoxFuture<T>>,
    tracker: TaskTracker,
}

impl<T: Send + 'static> ToItsEnd<T> {
    pub(crate) fn new(future: BoxFuture<T>, tracker: TaskTracker) -> Self {
        Self { future: Some(future), tracker }
    }
}

impl<T: Send + 'static> Future for ToItsEnd<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        // Taken out while it runs: one that panics is gone, and does not run again when this is dropped.
        let mut future = self.future.take().expect("a future is not polled after its end");
        let poll = future.as_mut().poll(cx);
        if poll.is_pending() {
            self.future = Some(future);
        }
        poll
    }
}

impl<T: Send + 'static> Drop for ToItsEnd<T> {
    fn drop(&mut self) {
        if let Some(future) = self.future.take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            self.tracker.spawn_on(
                async move {
                    aws::departure::Deserted(future).await;
                    tracing::debug!("a request was finished whose client had left");
                },
                &runtime,
            );
        }
    }
}
