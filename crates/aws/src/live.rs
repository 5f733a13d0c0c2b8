//! Answers that go on: events for as long as their caller listens and has the right to.
//!
//! A service answers with a stream of events; how they travel (server-sent events, WebSocket), how long, and what
//! ends them from outside is the pipeline's. Invariant: a stream is pulled, so that a caller that does not read
//! makes nothing grow.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use futures_core::Stream;

use crate::{Response, body};

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveEvent {
    /// What kind of event.
    pub name: &'static str,
    /// Where a new request goes on after this event; an empty one makes the client forget what it had.
    pub token: Option<String>,
    /// A JSON document, on one line.
    pub data: Vec<u8>,
}

/// Events, until the service ends them.
pub type Events = Pin<Box<dyn Stream<Item = LiveEvent> + Send>>;

/// In an answer's extensions: its events, until the pipeline takes them.
#[derive(Clone)]
struct Slot(Arc<Mutex<Option<Events>>>);

/// The answer that goes on with these events.
pub fn answer(events: Events) -> Response {
    let mut response = Response::new(body::full(""));
    response.extensions_mut().insert(Slot(Arc::new(Mutex::new(Some(events)))));
    response
}

/// Whether an answer goes on.
pub fn is_live(response: &Response) -> bool {
    response.extensions().get::<Slot>().is_some()
}

/// The events of an answer that goes on.
pub fn take(response: &mut Response) -> Option<Events> {
    let slot = response.extensions_mut().remove::<Slot>()?;
    slot.0.lock().expect("no holder of this lock panics").take()
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").finish_non_exhaustive()
    }
}
