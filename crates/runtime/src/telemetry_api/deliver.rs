//! Brings records to a subscriber: batches over HTTP, lines over TCP, on connections to its own loopback.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Request, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::SendRequest;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use types::SharedEnv;

use super::records;
use crate::door::Door;

/// How long a subscriber has to take a batch, and how often it is tried again.
const PATIENCE: Duration = Duration::from_secs(2);
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(100);

/// What waits beyond a full batch, as a multiple of one.
const BATCHES: usize = 4;

/// When a batch is complete.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Buffering {
    pub(crate) max_items: usize,
    pub(crate) max_bytes: usize,
    pub(crate) timeout: Duration,
}

/// Where records go, on the sandbox's loopback.
#[derive(Debug, Clone)]
pub(crate) enum Destination {
    Http { port: u16, authority: String, path: String },
    Tcp { port: u16 },
}

/// What waits for a subscriber.
#[derive(Debug)]
pub(super) struct Queue {
    buffering: Buffering,
    waiting: Mutex<Waiting>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    records: VecDeque<Bytes>,
    bytes: usize,
    /// When the first of them came.
    since: Option<Instant>,
    at_once: bool,
    dropped: u64,
    dropped_bytes: u64,
}

impl Queue {
    pub(super) fn new(buffering: Buffering) -> Arc<Self> {
        Arc::new(Self { buffering, waiting: Mutex::default(), changed: Notify::new() })
    }

    pub(super) fn put(&self, record: Bytes) {
        let Buffering { max_items, max_bytes, .. } = self.buffering;
        let mut waiting = self.lock();
        if waiting.records.len() >= BATCHES * max_items || waiting.bytes + record.len() > BATCHES * max_bytes
        {
            waiting.dropped += 1;
            waiting.dropped_bytes += record.len() as u64;
            return;
        }
        waiting.bytes += record.len();
        waiting.records.push_back(record);
        // The one who waits has to know when the first comes, and when there are enough.
        let first = waiting.since.is_none();
        waiting.since.get_or_insert_with(Instant::now);
        if first || waiting.records.len() >= max_items || waiting.bytes >= max_bytes {
            self.changed.notify_one();
        }
    }

    pub(super) fn flush(&self) {
        self.lock().at_once = true;
        self.changed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a batch that is complete.
    async fn batch(&self, env: &SharedEnv) -> Vec<Bytes> {
        loop {
            let until = {
                let mut waiting = self.lock();
                let due = waiting.since.map(|since| since + self.buffering.timeout);
                let complete = waiting.at_once
                    || waiting.records.len() >= self.buffering.max_items
                    || waiting.bytes >= self.buffering.max_bytes
                    || due.is_some_and(|due| due <= Instant::now());
                waiting.at_once &= !waiting.records.is_empty();
                if complete && !waiting.records.is_empty() {
                    return self.take(&mut waiting, env);
                }
                due
            };
            match until {
                None => self.changed.notified().await,
                Some(until) => {
                    let _ = tokio::time::timeout_at(until, self.changed.notified()).await;
                }
            }
        }
    }

    fn take(&self, waiting: &mut Waiting, env: &SharedEnv) -> Vec<Bytes> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        if waiting.dropped > 0 {
            batch.push(records::dropped(env.now(), waiting.dropped, waiting.dropped_bytes));
            (waiting.dropped, waiting.dropped_bytes) = (0, 0);
        }
        while batch.len() < self.buffering.max_items && bytes < self.buffering.max_bytes {
            let Some(record) = waiting.records.pop_front() else { break };
            bytes += record.len();
            batch.push(record);
        }
        waiting.bytes -= bytes;
        waiting.since = (!waiting.records.is_empty()).then(Instant::now);
        batch
    }

    fn drop_batch(&self, batch: &[Bytes]) {
        let mut waiting = self.lock();
        waiting.dropped += batch.len() as u64;
        waiting.dropped_bytes += batch.iter().map(Bytes::len).sum::<usize>() as u64;
    }
}

/// Delivers until it is dropped.
pub(super) async fn run(queue: Arc<Queue>, destination: Destination, door: Arc<Door>, env: SharedEnv) {
    let mut line = Line { destination, door, open: None };
    loop {
        let batch = queue.batch(&env).await;
        let mut tries = 0;
        while !line.send(&batch).await {
            tries += 1;
            if tries == TRIES {
                queue.drop_batch(&batch);
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// A connection to the subscriber, made when it is needed.
struct Line {
    destination: Destination,
    door: Arc<Door>,
    open: Option<Open>,
}

enum Open {
    /// With the task that drives the connection.
    Http(SendRequest<Full<Bytes>>, AbortOnDropHandle<()>),
    Tcp(TcpStream),
}

impl Line {
    /// True if the subscriber took it.
    async fn send(&mut self, batch: &[Bytes]) -> bool {
        let sent = tokio::time::timeout(PATIENCE, self.try_send(batch)).await;
        let sent = matches!(sent, Ok(Ok(true)));
        if !sent {
            self.open = None;
        }
        sent
    }

    async fn try_send(&mut self, batch: &[Bytes]) -> Result<bool, Box<dyn std::error::Error + Send + Sync>> {
        let open = match self.open.take() {
            Some(Open::Http(sender, driver)) if !sender.is_closed() => Open::Http(sender, driver),
            Some(Open::Tcp(stream)) => Open::Tcp(stream),
            Some(Open::Http(..)) | None => self.connect().await?,
        };
        match (open, &self.destination) {
            (Open::Http(mut sender, driver), Destination::Http { authority, path, .. }) => {
                let request = Request::post(path.as_str())
                    .header(header::HOST, authority.as_str())
                    .header(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))
                    .body(Full::new(array(batch)))?;
                sender.ready().await?;
                let answer = sender.send_request(request).await?;
                let taken = answer.status().is_success();
                // What it says is read, up to a limit, so that the connection can be used again.
                let rest = http_body_util::Limited::new(answer.into_body(), 64 * 1024).collect().await;
                if rest.is_ok() {
                    self.open = Some(Open::Http(sender, driver));
                }
                Ok(taken)
            }
            (Open::Tcp(mut stream), _) => {
                stream.write_all(&lines(batch)).await?;
                self.open = Some(Open::Tcp(stream));
                Ok(true)
            }
            (Open::Http(..), Destination::Tcp { .. }) => Ok(false),
        }
    }

    async fn connect(&self) -> Result<Open, Box<dyn std::error::Error + Send + Sync>> {
        match &self.destination {
            Destination::Http { port, .. } => {
                let stream = self.door.connect(*port).await?;
                let (sender, connection) =
                    hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(stream)).await?;
                let driver = tokio::spawn(async move {
                    // Its end shows in the sender.
                    let _ = connection.await;
                });
                Ok(Open::Http(sender, AbortOnDropHandle::new(driver)))
            }
            Destination::Tcp { port } => Ok(Open::Tcp(self.door.connect(*port).await?)),
        }
    }
}

/// A JSON array.
fn array(batch: &[Bytes]) -> Bytes {
    let mut text = BytesMut::with_capacity(batch.iter().map(|record| record.len() + 1).sum::<usize>() + 1);
    for (number, record) in batch.iter().enumerate() {
        text.extend_from_slice(if number == 0 { b"[" } else { b"," });
        text.extend_from_slice(record);
    }
    text.extend_from_slice(b"]");
    text.freeze()
}

/// A JSON object a line.
fn lines(batch: &[Bytes]) -> Bytes {
    let mut text = BytesMut::with_capacity(batch.iter().map(|record| record.len() + 1).sum());
    for record in batch {
        text.extend_from_slice(record);
        text.extend_from_slice(b"\n");
    }
    text.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(max_items: usize, max_bytes: usize) -> Arc<Queue> {
        Queue::new(Buffering { max_items, max_bytes, timeout: Duration::from_secs(3600) })
    }

    #[tokio::test]
    async fn a_batch_is_complete_when_full_or_flushed_and_what_is_too_much_is_counted() {
        let env: SharedEnv = types::SystemEnv::new();
        let full = queue(2, 1_000);
        for number in 0..20 {
            full.put(format!("{number}").into());
        }
        full.flush();
        let (mut records, mut told) = (0, Vec::new());
        while records < BATCHES * 2 {
            let batch = full.batch(&env).await;
            assert!(batch.len() <= 2);
            let (dropped, kept): (Vec<_>, Vec<_>) =
                batch.into_iter().partition(|record| record.starts_with(b"{"));
            told.extend(dropped);
            records += kept.len();
            full.flush();
        }
        assert_eq!(told.len(), 1);
        assert!(String::from_utf8_lossy(&told[0]).contains("\"droppedRecords\":12"), "{told:?}");
        let large = queue(100, 10);
        large.put("0123456789".into());
        assert_eq!(large.batch(&env).await, ["0123456789"]);
        large.put("one".into());
        large.flush();
        assert_eq!(large.batch(&env).await, ["one"]);
    }

    #[test]
    fn batches_are_arrays_or_lines() {
        let batch = ["{}".into(), "[1]".into()];
        assert_eq!(array(&batch), "[{},[1]]");
        assert_eq!(lines(&batch), "{}\n[1]\n");
    }
}
