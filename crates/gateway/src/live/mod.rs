//! Answers that go on: how their events travel, and what ends them.
//!
//! The map: [`Session`] is one such answer, whichever way it travels: the service's events, heartbeats between
//! them, and one last event when the caller's rights or credentials end or the node stops. It travels as
//! server-sent events (HTML Living Standard, "Server-sent events") or over a WebSocket (`socket`, RFC 6455).
//!
//! Invariants: a session holds no event that its client has not read, so what a slow client costs is bounded; one
//! that reads nothing is cut off as any other connection; none lasts longer than the right to it, give or take
//! the time between two looks.

mod socket;

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws::live::{Events, Live, LiveEvent, Needs};
use aws::{BodyError, Caller, Error, Response};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderValue};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use serde_json::json;
use types::{AccountId, ErrorKind, SharedEnv, Timestamp};

use crate::gateway::Gateway;

pub(crate) use socket::Handshake;

/// Where live answers are: browsers may ask from any page, since each request carries its own signature.
const LIVE_PATHS: &str = "/_hawker/tables/";

/// To whom an answer goes on, in its extensions.
#[derive(Debug, Clone)]
pub(crate) struct Granted(pub(crate) Caller);

/// What a caller's rights hang on, beyond policies.
#[derive(Debug, Clone)]
pub(crate) struct Standing {
    pub(crate) access_key_id: String,
    pub(crate) session_token: Option<String>,
    pub(crate) expires_at: Option<Timestamp>,
}

/// How many answers go on, in all and by account.
#[derive(Debug, Default)]
pub(crate) struct Places {
    taken: Mutex<(usize, HashMap<AccountId, usize>)>,
}

/// A place; given back when this is dropped.
#[derive(Debug)]
struct Place {
    gateway: Arc<Gateway>,
    account: AccountId,
}

impl Place {
    fn take(gateway: &Arc<Gateway>, account: AccountId) -> Result<Self, Error> {
        let config = &gateway.config;
        let mut taken = gateway.places.taken.lock().expect("no holder of this lock panics");
        let (all, accounts) = &mut *taken;
        let own = accounts.get(&account).copied().unwrap_or(0);
        if *all >= config.max_live || own >= config.max_live_per_account {
            let message = "Too many live requests are open; close some, or try again later.";
            let error = Error::new(ErrorKind::Throttled, "LimitExceededException", message);
            return Err(error.with_status(429));
        }
        *all += 1;
        *accounts.entry(account).or_default() += 1;
        Ok(Self { gateway: gateway.clone(), account })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.gateway.places.taken.lock().expect("no holder of this lock panics");
        let (all, accounts) = &mut *taken;
        *all -= 1;
        if let Some(own) = accounts.get_mut(&self.account) {
            *own -= 1;
            if *own == 0 {
                accounts.remove(&self.account);
            }
        }
    }
}

/// What a session has to send next.
#[derive(Debug)]
pub(crate) enum Next {
    Event(LiveEvent),
    Heartbeat,
}

/// An answer that goes on.
pub(crate) struct Session {
    events: Events,
    /// Done when something outside the service ends it.
    ending: Pin<Box<dyn Future<Output = LiveEvent> + Send>>,
    ended: bool,
    heartbeat: Pin<Box<dyn Future<Output = ()> + Send>>,
    pause: Duration,
    env: SharedEnv,
    _place: Place,
}

impl Session {
    /// What comes next; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<Next> {
        if self.ended {
            return None;
        }
        let next = tokio::select! {
            biased;
            last = self.ending.as_mut() => {
                self.ended = true;
                Some(Next::Event(last))
            }
            event = self.events.next() => event.map(Next::Event),
            () = self.heartbeat.as_mut() => Some(Next::Heartbeat),
        };
        self.ended |= next.is_none();
        self.heartbeat = self.env.sleep(self.pause);
        next
    }
}

/// The event with which a session ends from outside.
fn end(reason: &str, message: &str) -> LiveEvent {
    let data = json!({"Reason": reason, "Message": message}).to_string().into_bytes();
    LiveEvent { name: "end", token: None, data }
}

impl Gateway {
    /// Sends the events of an answer that goes on.
    pub(crate) fn go_on(
        self: &Arc<Self>,
        Live { events, needs }: Live,
        mut response: Response,
        standing: Standing,
        handshake: Option<Handshake>,
    ) -> Result<Response, Error> {
        let granted = response.extensions_mut().remove::<Granted>();
        let Granted(caller) = granted.ok_or_else(|| Error::internal(&"a live answer to nobody"))?;
        let place = Place::take(self, caller.account)?;
        let pause = self.config.live_heartbeat();
        let session = Session {
            events,
            ending: Box::pin(self.clone().ending(caller, needs, standing)),
            ended: false,
            heartbeat: self.env.sleep(pause),
            pause,
            env: self.env.clone(),
            _place: place,
        };
        Ok(match handshake {
            Some(handshake) => handshake.answer(self, session),
            None => event_source(session),
        })
    }

    /// Waits until the caller may no longer listen.
    async fn ending(self: Arc<Self>, caller: Caller, needs: Needs, standing: Standing) -> LiveEvent {
        loop {
            let left = standing.expires_at.map(|end| end.duration_since(self.env.now()).unsigned_abs());
            let pause = left.map_or(self.config.live_check(), |left| left.min(self.config.live_check()));
            tokio::select! {
                () = self.stopping.cancelled() => {
                    return end("NodeStopping", "The node is stopping; go on with the last token.");
                }
                () = self.env.sleep(pause) => {}
            }
            if standing.expires_at.is_some_and(|end| end <= self.env.now()) {
                return end("CredentialsExpired", "The credentials have ended; sign again to go on.");
            }
            if let Err(error) = self.still_allowed(&caller, &needs, &standing).await {
                return match error.kind {
                    ErrorKind::Denied | ErrorKind::Unauthenticated => end("AccessDenied", &error.message),
                    _ => end("Unavailable", "Rights could not be looked up; go on with the last token."),
                };
            }
        }
    }

    async fn still_allowed(&self, caller: &Caller, needs: &Needs, standing: &Standing) -> Result<(), Error> {
        let key = self.credentials.find(&standing.access_key_id, standing.session_token.as_deref()).await?;
        if key.is_none() {
            let message = "The access key is no longer valid.";
            return Err(Error::new(ErrorKind::Unauthenticated, "InvalidClientTokenId", message));
        }
        self.authorizer.authorize(caller, &needs().await?).await
    }
}

/// An answer of server-sent events.
fn event_source(session: Session) -> Response {
    let first = Bytes::from_static(b"retry: 1000\n\n");
    let events = stream::unfold(session, |mut session| async move {
        let bytes = match session.next().await? {
            Next::Event(event) => server_sent(&event),
            Next::Heartbeat => Bytes::from_static(b":\n\n"),
        };
        Some((bytes, session))
    });
    let frames = stream::iter([first])
        .chain(events)
        .map(|bytes| Ok::<_, Infallible>(Frame::data(bytes)))
        .map(|frame| frame.map_err(|never| -> BodyError { match never {} }));
    let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn server_sent(event: &LiveEvent) -> Bytes {
    let token = event.token.as_deref();
    let mut out = Vec::with_capacity(event.data.len() + 64);
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(event.name.as_bytes());
    if let Some(token) = token {
        out.extend_from_slice(b"\nid: ");
        out.extend_from_slice(token.as_bytes());
    }
    out.extend_from_slice(b"\ndata: ");
    out.extend_from_slice(&event.data);
    out.extend_from_slice(b"\n\n");
    out.into()
}

/// Lets pages of any origin read what is answered on live paths.
pub(crate) fn allow_any_origin(path: &str, headers: &mut HeaderMap) {
    if path.starts_with(LIVE_PATHS) {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    }
}
