//! Answers that go on: events for as long as their caller listens and has the right to.
//!
//! A service answers with a stream of events; how they travel (server-sent events, WebSocket), how long, and what
//! ends them from outside is the pipeline's, which asks for the rights to them again and again. Invariant: a stream is
//! pulled, so that a caller that does not read makes nothing grow.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use futures_core::Stream;

use crate::{Access, Error, Response, body};

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

/// The rights to an answer as they are when this is called: policies and tags of what it is about change meanwhile.
pub type Needs =
    Box<dyn Fn() -> Pin<Box<dyn Future<Output = Result<Vec<Access>, Error>> + Send>> + Send + Sync>;

/// An answer that goes on.
pub struct Live {
    /// With what.
    pub events: Events,
    /// By what rights.
    pub needs: Needs,
}

/// In an answer's extensions: what it goes on with, until the pipeline takes it.
#[derive(Clone)]
struct Slot(Arc<Mutex<Option<Live>>>);

/// The answer that goes on with these events.
pub fn answer(live: Live) -> Response {
    let mut response = Response::new(body::full(""));
    response.extensions_mut().insert(Slot(Arc::new(Mutex::new(Some(live)))));
    response
}

/// Whether an answer goes on.
pub fn is_live(response: &Response) -> bool {
    response.extensions().get::<Slot>().is_some()
}

/// What an answer goes on with.
pub fn take(response: &mut Response) -> Option<Live> {
    let slot = response.extensions_mut().remove::<Slot>()?;
    slot.0.lock().expect("no holder of this lock panics").take()
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live").finish_non_exhaustive()
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").finish_non_exhaustive()
    }
}
