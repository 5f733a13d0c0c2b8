//! The Extensions API: programs beside the function that are told of its events (external, each a process of its own)
//! and parts of the function's process that are (internal).
//!
//! Invariant: an extension has one event at a time, and is asked for nothing more before it asks for the next.

use bytes::Bytes;
use functions::InvokeRequest;
use http::{HeaderValue, Method, Request, StatusCode};
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::oneshot;

use super::answers::{Answered, accepted, forbid, json as answer, not_found};
use super::body;
use super::events::{self, Reason};
use super::{Exchange, header};

/// How many there may be (AWS Lambda developer guide, "Lambda quotas").
pub(crate) const MAX_EXTENSIONS: usize = 10;

/// What an extension reports when it can not go on.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    /// `Extension.InitError` or `Extension.ExitError`.
    pub(crate) kind: &'static str,
    pub(crate) message: String,
}

/// The extensions of an instance, the external ones first, in the order of their names.
#[derive(Debug, Default)]
pub(super) struct Extensions {
    all: Vec<Extension>,
    closed: bool,
    fault: Option<Fault>,
}

#[derive(Debug)]
struct Extension {
    name: String,
    external: bool,
    /// Given when it registers.
    id: String,
    state: State,
    invoke: bool,
    shutdown: bool,
    waiter: Option<oneshot::Sender<Bytes>>,
    pending: Option<Bytes>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Started,
    Registered,
    Ready,
    Running,
    InitError,
    ExitError,
}

impl State {
    fn as_str(self) -> &'static str {
        match self {
            Self::Started => "Started",
            Self::Registered => "Registered",
            Self::Ready => "Ready",
            Self::Running => "Running",
            Self::InitError => "InitError",
            Self::ExitError => "ExitError",
        }
    }
}

#[derive(Deserialize)]
struct Register {
    #[serde(default)]
    events: Vec<String>,
    #[serde(default, rename = "configurationKeys")]
    configuration_keys: Vec<serde::de::IgnoredAny>,
}

impl Extensions {
    pub(super) fn of(external: &[String]) -> Self {
        let all = external.iter().map(|name| Extension::new(name.clone(), true)).collect();
        Self { all, closed: false, fault: None }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(super) fn has_external(&self) -> bool {
        self.all.iter().any(|extension| extension.external)
    }

    pub(super) fn are_registered(&self) -> bool {
        self.all.iter().all(|extension| extension.state != State::Started)
    }

    /// True if all wait for their next event.
    pub(super) fn are_ready(&self) -> bool {
        self.all.iter().all(|extension| extension.state == State::Ready)
    }

    pub(super) fn fault(&self) -> Option<Fault> {
        self.fault.clone()
    }

    pub(super) fn close(&mut self) {
        self.closed = true;
    }

    pub(super) fn invoke(&mut self, request: &InvokeRequest) {
        let mut event = None;
        for extension in self.all.iter_mut().filter(|extension| extension.invoke) {
            extension.tell(event.get_or_insert_with(|| events::invoke(request)).clone());
        }
    }

    pub(super) fn shut_down(&mut self, reason: Reason, deadline_ms: i64) -> Vec<usize> {
        let event = events::shutdown(reason, deadline_ms);
        for extension in self.all.iter_mut().filter(|extension| extension.shutdown) {
            extension.tell(event.clone());
        }
        let unknowing = |(_, extension): &(usize, &Extension)| extension.external && !extension.shutdown;
        self.all.iter().enumerate().filter(unknowing).map(|(place, _)| place).collect()
    }

    fn find(&mut self, id: &str) -> Option<&mut Extension> {
        self.all.iter_mut().find(|extension| !extension.id.is_empty() && extension.id == id)
    }
}

impl Extension {
    fn new(name: String, external: bool) -> Self {
        Self {
            name,
            external,
            id: String::new(),
            state: State::Started,
            invoke: false,
            shutdown: false,
            waiter: None,
            pending: None,
        }
    }

    fn tell(&mut self, event: Bytes) {
        self.state = State::Running;
        match self.waiter.take() {
            Some(waiter) => self.pending = waiter.send(event).err(),
            None => self.pending = Some(event),
        }
    }
}

impl Exchange {
    pub(super) async fn route_extension(&self, rest: &str, request: Request<Incoming>) -> Answered {
        match (request.method(), rest) {
            (&Method::POST, "register") => self.register(request).await,
            (&Method::GET, "event/next") => self.next_event(&request).await,
            (&Method::POST, "init/error") => self.fail_extension(request, State::InitError).await,
            (&Method::POST, "exit/error") => self.fail_extension(request, State::ExitError).await,
            _ => not_found(),
        }
    }

    async fn register(&self, request: Request<Incoming>) -> Answered {
        let (head, incoming) = request.into_parts();
        let Some(name) = header(&head.headers, "lambda-extension-name").filter(|name| !name.is_empty())
        else {
            return forbid("Extension.InvalidExtensionName", "Empty extension name");
        };
        let features = header(&head.headers, "lambda-extension-accept-feature").unwrap_or_default();
        let wants_account = features.split(',').any(|feature| feature.trim() == "accountId");
        let Some(body) = body::small(incoming).await else {
            return forbid("InvalidRequestFormat", "the request could not be read");
        };
        let register: Register = match serde_json::from_slice(&body) {
            Ok(register) => register,
            Err(error) => return forbid("InvalidRequestFormat", &error.to_string()),
        };
        if !register.configuration_keys.is_empty() {
            let message = "configurationKeys are deprecated; use environment variables instead";
            return forbid("InvalidRequestFormat", message);
        }
        let mut state = self.lock();
        let extensions = &mut state.extensions;
        let place = extensions.all.iter().position(|extension| extension.name == name);
        let external = place.is_some_and(|place| extensions.all[place].external);
        for event in &register.events {
            let reason = match (event.as_str(), external) {
                ("INVOKE", _) | ("SHUTDOWN", true) => continue,
                ("SHUTDOWN", false) => "ShutdownEventNotSupportedForInternalExtension",
                _ => "InvalidEventType",
            };
            return forbid("Extension.InvalidEventType", &format!("{event}: {reason}"));
        }
        let extension = match place {
            Some(place) if external => {
                let extension = &mut extensions.all[place];
                if extension.state != State::Started {
                    return wrong_state(extension.state, "Registered", name);
                }
                extension
            }
            Some(_) => {
                return forbid(
                    "Extension.InvalidExtensionState",
                    "Extension with this name already registered",
                );
            }
            None if extensions.closed => {
                return forbid("Extension.RegistrationClosed", "Extension registration closed already");
            }
            None if extensions.all.len() >= MAX_EXTENSIONS => {
                let message = format!("Extension limit ({MAX_EXTENSIONS}) reached");
                return forbid("Extension.TooManyExtensions", &message);
            }
            None => {
                extensions.all.push(Extension::new(name.to_owned(), false));
                extensions.all.last_mut().expect("one was just added")
            }
        };
        extension.id = self.telemetry.new_id();
        extension.state = State::Registered;
        extension.invoke = register.events.iter().any(|event| event == "INVOKE");
        extension.shutdown = register.events.iter().any(|event| event == "SHUTDOWN");
        let id = extension.id.clone();
        drop(state);
        self.telemetry.extension(name, "Registered", &register.events, None);
        self.tell();
        let mut facts = json!({
            "functionName": self.facts.function_name,
            "functionVersion": self.facts.version,
            "handler": self.facts.handler,
        });
        if wants_account {
            facts["accountId"] = self.facts.account.as_str().into();
        }
        with_header(answer(StatusCode::OK, facts.to_string().into()), "lambda-extension-identifier", &id)
    }

    async fn next_event(&self, request: &Request<Incoming>) -> Answered {
        let id = match identifier(request.headers()) {
            Ok(id) => id,
            Err(refusal) => return *refusal,
        };
        let waiting = {
            let mut state = self.lock();
            let Some(extension) = state.extensions.find(id) else {
                let message = format!("Unknown extension {id}");
                return forbid("Extension.UnknownExtensionIdentifier", &message);
            };
            match extension.pending.take() {
                // It was told while it worked on the last one.
                Some(event) => Err(event),
                None => {
                    match extension.state {
                        // Ready: it asks again, perhaps because the connection broke.
                        State::Registered | State::Running | State::Ready => {}
                        State::Started | State::InitError | State::ExitError => {
                            return wrong_state(extension.state, "Ready", id);
                        }
                    }
                    extension.state = State::Ready;
                    let (waiter, waiting) = oneshot::channel();
                    extension.waiter = Some(waiter);
                    Ok(waiting)
                }
            }
        };
        let event = match waiting {
            Err(event) => Ok(event),
            Ok(waiting) => {
                self.tell();
                waiting.await
            }
        };
        match event {
            Ok(event) => {
                let event_id = self.telemetry.new_id();
                with_header(answer(StatusCode::OK, event), "lambda-extension-event-identifier", &event_id)
            }
            // Another connection asked after this one.
            Err(_) => wrong_state(State::Ready, "Ready", id),
        }
    }

    async fn fail_extension(&self, request: Request<Incoming>, to: State) -> Answered {
        let (head, incoming) = request.into_parts();
        let id = match identifier(&head.headers) {
            Ok(id) => id,
            Err(refusal) => return *refusal,
        };
        let Some(kind) = header(&head.headers, "lambda-extension-function-error-type") else {
            let message = "Lambda-Extension-Function-Error-Type not found";
            return forbid("Extension.MissingHeader", message);
        };
        let message = body::small(incoming).await.and_then(|body| message_of(&body));
        let mut state = self.lock();
        let Some(extension) = state.extensions.find(id) else {
            return forbid("Extension.UnknownExtensionIdentifier", "Unknown Lambda-Extension-Identifier");
        };
        let from = extension.state;
        let possible = from == State::Registered
            || to == State::ExitError && matches!(from, State::Ready | State::Running);
        if !possible {
            return wrong_state(from, to.as_str(), id);
        }
        extension.state = to;
        let name = extension.name.clone();
        let fault = if to == State::InitError { "Extension.InitError" } else { "Extension.ExitError" };
        let message = message.unwrap_or_else(|| format!("{name}: {kind}"));
        state.extensions.fault.get_or_insert(Fault { kind: fault, message });
        drop(state);
        self.telemetry.extension(&name, to.as_str(), &[], Some(kind));
        self.tell();
        accepted()
    }

    /// Who subscribes: the name of the extension that sent these headers.
    pub(super) fn subscriber(&self, headers: &http::HeaderMap) -> Result<String, Box<Answered>> {
        let id = identifier(headers)?;
        match self.lock().extensions.find(id) {
            Some(extension) => Ok(extension.name.clone()),
            None => {
                let message = format!("Unknown extension {id}");
                Err(Box::new(forbid("Extension.UnknownExtensionIdentifier", &message)))
            }
        }
    }
}

fn identifier(headers: &http::HeaderMap) -> Result<&str, Box<Answered>> {
    let (kind, message) = match header(headers, "lambda-extension-identifier") {
        None | Some("") => {
            ("Extension.MissingExtensionIdentifier", "Missing Lambda-Extension-Identifier header")
        }
        Some(id) if is_uuid(id) => return Ok(id),
        Some(_) => ("Extension.InvalidExtensionIdentifier", "Invalid Lambda-Extension-Identifier"),
    };
    Err(Box::new(forbid(kind, message)))
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

fn wrong_state(from: State, to: &str, who: &str) -> Answered {
    let from = from.as_str();
    let message = format!(
        "State transition from {from} to {to} failed for extension {who}. Error: State transition is not allowed"
    );
    forbid("Extension.InvalidExtensionState", &message)
}

/// The message of an error object.
fn message_of(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct ErrorObject {
        #[serde(rename = "errorMessage")]
        message: String,
    }
    serde_json::from_slice::<ErrorObject>(body).ok().map(|error| error.message)
}

fn with_header(mut answered: Answered, name: &'static str, value: &str) -> Answered {
    if let Ok(value) = HeaderValue::from_str(value) {
        answered.headers_mut().insert(name, value);
    }
    answered
}
