//! Sources that are read: mappings of streams and queues to functions, each in a task of its own.
//!
//! Invariants: a mapping has one reader; the place up to which a source was read moves on when what was read is done or
//! was given up, so that every record reaches its function at least once, and those of one item in their order. A
//! mapping that is switched off or idle holds no records. What a queue gives is hidden in it until it is done.

mod batch;
mod queue;
mod reader;
mod windows;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use functions::{Event, Invocation, SourceMapping};
use serde_json::Value;
use store::key::{KeyReader, account_of};
use store::tables;
use tokio::sync::Notify;
use types::{AccountId, RequestId, TraceHeader};

use crate::service::Shared;
use queue::Poller;
use reader::Reader;

/// How often mappings are looked for if the store failed.
const PAUSE: Duration = Duration::from_secs(1);

type Name = (AccountId, String);

/// What wakes readers.
#[derive(Debug, Default)]
pub(crate) struct Readers(Mutex<HashMap<Name, Wake>>);

/// What wakes one.
#[derive(Debug, Clone)]
struct Wake {
    wake: Arc<Notify>,
    /// It waits at its queue, and need not know of records of streams.
    of_queue: Arc<AtomicBool>,
}

impl Readers {
    fn lock(&self) -> MutexGuard<'_, HashMap<Name, Wake>> {
        self.0.lock().expect("no holder of this lock panics")
    }

    /// How many mappings are read.
    pub(crate) fn count(&self) -> usize {
        self.lock().len()
    }
}

/// The invocation that has a function take an event with records.
fn invocation(
    shared: &Shared,
    account: AccountId,
    mapping: &SourceMapping,
    event: &Value,
    queue_timeout: Duration,
) -> Invocation {
    Invocation {
        account,
        function: mapping.function_name(),
        request_id: RequestId::new(&*shared.env),
        event: Event::Json(Bytes::from(event.to_string())),
        stream: None,
        client_context: None,
        idempotency_key: None,
        fingerprint: None,
        trace: TraceHeader::new(&*shared.env),
        attempt: 0,
        redeliverable: false,
        queue_timeout: Some(queue_timeout),
        log_tail: false,
    }
}

/// A mapping as it is now; `None` if it is gone or the service ends. If it can not be read, after a pause once more.
async fn mapping(shared: &Shared, account: AccountId, id: &str) -> Option<SourceMapping> {
    while !shared.shutdown.is_cancelled() {
        match shared.functions.source_mapping(account, id).await {
            Ok(mapping) => return mapping,
            Err(error) => {
                tracing::error!(%error, mapping = id, "a mapping could not be read");
                shared.pause(PAUSE).await;
            }
        }
    }
    None
}

/// Keeps a reader for each mapping until the service ends.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut mappings = shared.store.watch(tables::EVENT_SOURCE_MAPPINGS);
    let mut records = shared.store.watch(tables::DDB_STREAM_RECORDS);
    let mut lost = true;
    loop {
        if lost {
            match shared.functions.source_mappings().await {
                Ok(all) => {
                    all.into_iter().for_each(|name| read(&shared, name));
                    lost = false;
                }
                Err(error) => {
                    tracing::error!(%error, "event source mappings could not be looked for");
                    shared.pause(PAUSE).await;
                }
            }
        }
        tokio::select! {
            () = shared.shutdown.cancelled() => return,
            key = mappings.next(), if !lost => match key.as_ref().and_then(name_of) {
                Some(name) => read(&shared, name),
                None => lost = true,
            },
            // Which stream a record is of is the tables' own affair: the readers of its account look.
            key = records.next(), if !lost => {
                let account = key.as_ref().and_then(|key| account_of(key).ok());
                let readers = shared.readers.lock();
                let woken = readers.iter().filter(|((owner, _), _)| account.is_none_or(|account| account == *owner));
                let woken = woken.filter(|(_, wake)| !wake.of_queue.load(Ordering::Relaxed));
                woken.for_each(|(_, wake)| wake.wake.notify_one());
            }
            () = std::future::ready(()), if lost => {}
        }
    }
}

fn name_of(key: &store::Key) -> Option<Name> {
    Some((account_of(key).ok()?, KeyReader::new(key).ok()?.text().ok()?))
}

/// Wakes the reader of a mapping, or begins to read it.
fn read(shared: &Arc<Shared>, name: Name) {
    let mut readers = shared.readers.lock();
    if let Some(wake) = readers.get(&name) {
        wake.wake.notify_one();
        return;
    }
    let (wake, of_queue) = (Arc::new(Notify::new()), Arc::new(AtomicBool::new(false)));
    readers.insert(name.clone(), Wake { wake: wake.clone(), of_queue: of_queue.clone() });
    let task = shared.clone();
    shared.tasks.spawn(async move {
        // It may be made anew under its id while its reader ends.
        while let Some(mapping) = mapping(&task, name.0, &name.1).await {
            if mapping.is_of_queue() {
                of_queue.store(true, Ordering::Relaxed);
                Poller::new(task.clone(), name.clone(), wake.clone()).run().await;
            } else {
                Reader::new(task.clone(), name.clone(), wake.clone()).run().await;
            }
        }
        task.readers.lock().remove(&name);
    });
}
