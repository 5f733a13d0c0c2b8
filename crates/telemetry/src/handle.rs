//! The handle through which everything is recorded.

use std::sync::Arc;

use store::Store;
use tokio::sync::{mpsc, oneshot};
use types::SharedEnv;

use crate::config::Config;
use crate::record::{Invocation, LogLines, Span};
use crate::service::Service;
use crate::writer::Writer;

/// What waits to be written.
#[derive(Debug)]
pub(crate) enum Item {
    Log(LogLines),
    Invocation(Box<Invocation>),
    Span(Box<Span>),
    /// Answered when everything before it is on disk.
    Flush(oneshot::Sender<()>),
}

/// Records, and reads what was recorded. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Telemetry {
    sender: mpsc::Sender<Item>,
    pub(crate) writer: Arc<Writer>,
    pub(crate) config: Arc<Config>,
}

impl Telemetry {
    /// A handle, and the service that writes what it records.
    pub fn new(store: Store, env: SharedEnv, config: Config) -> (Self, Service) {
        let (sender, receiver) = mpsc::channel(config.buffer.max(1));
        let writer = Arc::new(Writer::new(store, env));
        let config = Arc::new(config);
        let service = Service::new(receiver, writer.clone(), config.clone());
        (Self { sender, writer, config }, service)
    }

    /// Records log events. Waits while the buffer is full.
    pub async fn log(&self, lines: LogLines) {
        if !lines.events.is_empty() {
            self.send(Item::Log(lines)).await;
        }
    }

    /// Records an invocation, and bills it: once for each request id and attempt.
    pub async fn invocation(&self, invocation: Invocation) {
        self.send(Item::Invocation(Box::new(invocation))).await;
    }

    /// Records a hop of a trace, if the trace is kept.
    pub async fn span(&self, span: Span) {
        if span.trace.sampled {
            self.send(Item::Span(Box::new(span))).await;
        }
    }

    /// Returns when everything recorded before is on disk (or was given up, which the log says).
    pub async fn flush(&self) {
        let (done, wait) = oneshot::channel();
        self.send(Item::Flush(done)).await;
        // A service that has ended has written what it had.
        let _ = wait.await;
    }

    async fn send(&self, item: Item) {
        if self.sender.send(item).await.is_err() {
            tracing::warn!("telemetry was recorded after its service had ended, and is lost");
        }
    }

    pub(crate) fn store(&self) -> &Store {
        &self.writer.store
    }
}
