//! What subscribers inside a sandbox are told of it: the records of the Telemetry API and of the Logs API before it
//! (AWS Lambda developer guide, "Accessing real-time telemetry data for extensions using the Telemetry API").
//!
//! Invariants: an instance without subscribers pays one look at a flag for each record. What waits for a slow
//! subscriber is bounded, and what is dropped is counted and told.

mod deliver;
mod records;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio_util::task::AbortOnDropHandle;
use types::{RequestId, SharedEnv};

use crate::door::Door;
use deliver::Queue;
pub(crate) use deliver::{Buffering, Destination};
pub(crate) use records::{About, InvokeStatus, init_report_line};

/// What happened before anybody could subscribe is kept up to this many records,
const MAX_HISTORY: usize = 1_000;
/// and this many bytes.
const MAX_HISTORY_BYTES: usize = 256 * 1024;

/// By which API somebody subscribed: the records differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Api {
    Telemetry,
    Logs,
}

/// Where a record comes from: what subscribers choose by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    Platform,
    Function,
    Extension,
}

impl Source {
    pub(crate) const ALL: [Self; 3] = [Self::Platform, Self::Function, Self::Extension];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Platform => "platform",
            Self::Function => "function",
            Self::Extension => "extension",
        }
    }
}

/// A subscription.
#[derive(Debug)]
pub(crate) struct Subscription {
    pub(crate) api: Api,
    pub(crate) name: String,
    pub(crate) sources: Vec<Source>,
    pub(crate) buffering: Buffering,
    pub(crate) destination: Destination,
}

/// A record, as each API words it; not every one is known to both.
#[derive(Debug, Clone)]
struct Record {
    source: Source,
    telemetry: Option<Bytes>,
    logs: Option<Bytes>,
}

impl Record {
    fn bytes(&self) -> usize {
        self.telemetry.as_ref().map_or(0, Bytes::len) + self.logs.as_ref().map_or(0, Bytes::len)
    }
}

/// The subscriptions of an instance, and what they are told.
#[derive(Debug)]
pub(crate) struct Telemetry {
    about: About,
    env: SharedEnv,
    door: Arc<Door>,
    /// True if a record would reach nobody, now or later.
    silent: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// While subscriptions are taken.
    history: Option<VecDeque<Record>>,
    history_bytes: usize,
    subscribers: Vec<Subscriber>,
}

#[derive(Debug)]
struct Subscriber {
    api: Api,
    name: String,
    sources: Vec<Source>,
    queue: Arc<Queue>,
    _delivery: AbortOnDropHandle<()>,
}

impl Subscriber {
    fn tell(&self, record: &Record) {
        let text = match self.api {
            Api::Telemetry => &record.telemetry,
            Api::Logs => &record.logs,
        };
        if let Some(text) = text
            && self.sources.contains(&record.source)
        {
            self.queue.put(text.clone());
        }
    }
}

impl Telemetry {
    pub(crate) fn new(about: About, door: Arc<Door>, env: SharedEnv) -> Arc<Self> {
        let state = State { history: Some(VecDeque::new()), history_bytes: 0, subscribers: Vec::new() };
        Arc::new(Self { about, env, door, silent: AtomicBool::new(false), state: Mutex::new(state) })
    }

    /// One that nobody can subscribe to.
    #[cfg(test)]
    pub(crate) fn for_nobody(env: SharedEnv) -> Arc<Self> {
        let about = About {
            function_name: String::new(),
            version: String::new(),
            runtime: String::new(),
            region: String::new(),
            memory_mb: 128,
            initialization: functions::Initialization::OnDemand,
            log_format: functions::LogFormat::Text,
        };
        let (line, _) = std::os::unix::net::UnixDatagram::pair().expect("a socket pair");
        line.set_nonblocking(true).expect("a flag");
        let telemetry = Self::new(about, Arc::new(Door::new(line.into(), false).expect("a line")), env);
        telemetry.close();
        telemetry
    }

    /// A fresh UUID.
    pub(crate) fn new_id(&self) -> String {
        RequestId::new(&*self.env).to_string()
    }

    /// When `duration` is over.
    pub(crate) fn in_future(&self, duration: std::time::Duration) -> types::Timestamp {
        self.env.now() + duration
    }

    /// True if a record would reach nobody.
    pub(crate) fn is_silent(&self) -> bool {
        self.silent.load(Ordering::Relaxed)
    }

    /// Takes a subscription, and tells it what happened so far; false if it comes too late.
    pub(crate) fn subscribe(&self, subscription: Subscription) -> bool {
        let Subscription { api, name, sources, buffering, destination } = subscription;
        let record = self.subscribed(api, &name, &sources);
        let mut state = self.lock();
        if state.history.is_none() {
            return false;
        }
        let queue = Queue::new(buffering);
        let delivery = deliver::run(queue.clone(), destination, self.door.clone(), self.env.clone());
        let delivery = AbortOnDropHandle::new(tokio::spawn(delivery));
        let subscriber = Subscriber { api, name, sources, queue, _delivery: delivery };
        for record in state.history.iter().flatten() {
            subscriber.tell(record);
        }
        // One that subscribes again changes its subscription.
        state.subscribers.retain(|other| other.name != subscriber.name || other.api != api);
        state.subscribers.push(subscriber);
        drop(state);
        self.tell(record);
        true
    }

    /// Takes no more subscriptions.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.history = None;
        self.silent.store(state.subscribers.is_empty(), Ordering::Relaxed);
    }

    /// Sends at once what waits for more to come.
    pub(crate) fn flush(&self) {
        for subscriber in &self.lock().subscribers {
            subscriber.queue.flush();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, record: Record) {
        let mut state = self.lock();
        for subscriber in &state.subscribers {
            subscriber.tell(&record);
        }
        let bytes = record.bytes();
        if state.history_bytes + bytes <= MAX_HISTORY_BYTES
            && let Some(history) = &mut state.history
            && history.len() < MAX_HISTORY
        {
            history.push_back(record);
            state.history_bytes += bytes;
        }
    }
}
