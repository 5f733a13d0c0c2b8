//! Clients that leave while their request is carried out: it goes on to its end, and an operation that merely waits can
//! know that nobody waits for its answer any more.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};

thread_local! {
    static LEFT: Cell<bool> = const { Cell::new(false) };
}

/// What is carried out though its client has left.
#[derive(Debug)]
pub struct Deserted<F>(pub F);

impl<F: Future + Unpin> Future for Deserted<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let before = LEFT.replace(true);
        let poll = Pin::new(&mut self.0).poll(cx);
        LEFT.set(before);
        poll
    }
}

/// Whether the client of what is running has left.
pub fn has_left() -> bool {
    LEFT.get()
}

/// Completes when the client has left: what is carried out is looked at again at that moment.
pub fn left() -> impl Future<Output = ()> + Send {
    poll_fn(|_| if has_left() { Poll::Ready(()) } else { Poll::Pending })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_known_inside_and_nowhere_else() {
        let waker = std::task::Waker::noop();
        let mut cx = Context::from_waker(waker);
        let mut waits = Box::pin(left());
        assert!(waits.as_mut().poll(&mut cx).is_pending());
        let mut deserted = Deserted(waits);
        assert!(Pin::new(&mut deserted).poll(&mut cx).is_ready());
        assert!(!has_left());
    }
}
