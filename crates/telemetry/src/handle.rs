//! The handle through which everything is recorded.

use std::sync::Arc;

use store::Store;
use tokio::sync::oneshot;
use types::SharedEnv;

use crate::config::Config;
use crate::queue::Queue;
use crate::record::{Invocation, LogLines, Span};
use crate::service::{MAX_BATCH, Service};
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
    queue: Arc<Queue>,
    pub(crate) writer: Arc<Writer>,
    pub(crate) config: Arc<Config>,
}

impl Telemetry {
    /// A handle, and the service that writes what it records.
    pub fn new(store: Store, env: SharedEnv, config: Config) -> (Self, Service) {
        let queue = Arc::new(Queue::new(config.buffer, MAX_BATCH));
        let writer = Arc::new(Writer::new(store, env));
        let config = Arc::new(config);
        let service = Service::new(queue.clone(), writer.clone(), config.clone());
        (Self { queue, writer, config }, service)
    }

    /// Records log events. Waits while the buffer is full.
    pub async fn log(&self, lines: LogLines) {
        if !lines.events.is_empty() {
            self.push(vec![Item::Log(lines)]).await;
        }
    }

    /// Records an invocation, and bills it.
    pub async fn invocation(&self, invocation: Invocation) {
        self.push(vec![Item::Invocation(Box::new(invocation))]).await;
    }

    /// Records a hop of a trace, if the trace is kept.
    pub async fn span(&self, span: Span) {
        if span.trace.sampled {
            self.push(vec![Item::Span(Box::new(span))]).await;
        }
    }

    /// Records all that there is to say of an invocation.
    pub async fn run(&self, invocation: Invocation, span: Span, lines: LogLines) {
        let mut items = Vec::with_capacity(3);
        items.push(Item::Invocation(Box::new(invocation)));
        if span.trace.sampled {
            items.push(Item::Span(Box::new(span)));
        }
        if !lines.events.is_empty() {
            items.push(Item::Log(lines));
        }
        self.push(items).await;
    }

    /// Returns when everything recorded before is on disk (or was given up, which the log says).
    pub async fn flush(&self) {
        let (done, wait) = oneshot::channel();
        self.push(vec![Item::Flush(done)]).await;
        // A service that has ended has written what it had.
        let _ = wait.await;
    }

    async fn push(&self, items: Vec<Item>) {
        if !self.queue.push(items).await {
            tracing::warn!("telemetry was recorded after its service had ended, and is lost");
        }
    }

    pub(crate) fn store(&self) -> &Store {
        &self.writer.store
    }
}
