//! Tells subscribers which records of a stream concern them.
//!
//! A feed is a stream that somebody follows. One task reads the records of all feeds, each record once, and sends its
//! position to the subscribers of the partitions that it is about; they read the record when they come to it.
//! Invariants: a feed's position moves under the lock under which its records are sent, so a subscriber knows from
//! where on it is told of everything; tables that nobody watches cost nothing.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_util::FutureExt;
use store::key::{KeyReader, account_of};
use store::{Key, Range};
use tokio::sync::{Notify, broadcast};
use tokio_util::sync::CancellationToken;
use types::AccountId;

use crate::Error;
use crate::service::Node;
use crate::stream::{ChangeRecord, Position, records_from};
use crate::table::Table;
use crate::tables::{TABLES, table_key};
use crate::value::{ItemView, ValueView};

/// How many records a subscriber may be behind of what it is told, before it reads the stream itself.
const BACKLOG: usize = 256;

/// Records read at a time.
const BATCH: usize = 256;
const BATCH_BYTES: usize = 4 << 20;

/// How often to look at all feeds, whether or not something was heard of them.
const PAUSE: Duration = Duration::from_secs(30);

/// A stream.
type FeedId = (AccountId, u64);

/// A stream that somebody follows.
#[derive(Debug)]
struct Feed {
    table: String,
    /// The next record to be sent.
    position: Position,
    /// By the beginning of the keys of a partition: of the table, or of one of its indexes.
    topics: HashMap<Key, Topic>,
}

#[derive(Debug)]
struct Topic {
    /// The name of the index.
    index: Option<String>,
    sender: broadcast::Sender<Position>,
}

/// The feeds of a node.
#[derive(Debug, Default)]
pub(crate) struct Hub {
    feeds: Mutex<HashMap<FeedId, Feed>>,
    /// Told of a feed that is new.
    begun: Notify,
}

/// What a subscriber hears from.
#[derive(Debug)]
pub(super) struct Subscriber {
    node: Arc<Node>,
    feed: FeedId,
    topic: Key,
    pub(super) receiver: broadcast::Receiver<Position>,
    /// From here on, everything is heard of.
    pub(super) from: Position,
}

impl Hub {
    fn lock(&self) -> MutexGuard<'_, HashMap<FeedId, Feed>> {
        self.feeds.lock().expect("no holder of this lock panics")
    }

    /// Follows the partition whose keys begin with `topic`; `latest` is where the stream ended a moment ago.
    pub(super) fn subscribe(
        node: &Arc<Node>,
        (table, index): (&Table, Option<&str>),
        stream: u64,
        latest: Position,
        topic: Key,
    ) -> Subscriber {
        let id = (table.account, stream);
        let mut feeds = node.hub.lock();
        let feed = feeds.entry(id).or_insert_with(|| {
            node.hub.begun.notify_one();
            Feed { table: table.record.name.clone(), position: latest, topics: HashMap::new() }
        });
        let new = || Topic { index: index.map(str::to_owned), sender: broadcast::channel(BACKLOG).0 };
        let receiver = feed.topics.entry(topic.clone()).or_insert_with(new).sender.subscribe();
        Subscriber { node: node.clone(), feed: id, topic, receiver, from: feed.position }
    }

    fn ids(&self) -> Vec<FeedId> {
        self.lock().keys().copied().collect()
    }
}

impl Subscriber {
    /// Forgets what it was told and did not hear; false if nothing is told any more.
    pub(super) fn begin_again(&mut self) -> bool {
        let feeds = self.node.hub.lock();
        let feed = feeds.get(&self.feed);
        let Some((feed, topic)) = feed.and_then(|feed| Some((feed, feed.topics.get(&self.topic)?))) else {
            return false;
        };
        self.receiver = topic.sender.subscribe();
        self.from = feed.position;
        true
    }

    /// Up to where the subscriber has been told of everything, if it has heard all that it was told.
    pub(super) fn heard(&self) -> Option<Position> {
        let position = self.node.hub.lock().get(&self.feed)?.position;
        // What was sent before the position moved would be here.
        self.receiver.is_empty().then_some(position)
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        let mut feeds = self.node.hub.lock();
        let Some(feed) = feeds.get_mut(&self.feed) else { return };
        // This one is still counted.
        if feed.topics.get(&self.topic).is_some_and(|topic| topic.sender.receiver_count() <= 1) {
            feed.topics.remove(&self.topic);
        }
        if feed.topics.is_empty() {
            feeds.remove(&self.feed);
        }
    }
}

/// What tells subscribers of changes.
#[derive(Debug)]
pub struct Feeds {
    node: Arc<Node>,
}

impl Feeds {
    pub(super) fn new(node: Arc<Node>) -> Self {
        Self { node }
    }

    /// Runs until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        tokio::select! {
            () = self.follow() => {}
            () = shutdown.cancelled() => {}
        }
    }

    async fn follow(&self) {
        let Node { store, hub, env, .. } = &*self.node;
        loop {
            hub.begun.notified().await;
            let mut records = store.watch(store::tables::DDB_STREAM_RECORDS);
            let mut tables = store.watch(TABLES.id());
            // What was written before this watch began.
            let mut due = Due::All;
            while !hub.lock().is_empty() {
                self.work(std::mem::take(&mut due)).await;
                tokio::select! {
                    key = records.next() => due.record(key.as_ref()),
                    key = tables.next() => due.table(key.as_ref()),
                    () = hub.begun.notified() => due = Due::All,
                    () = env.sleep(PAUSE) => due = Due::All,
                }
                while let Some(key) = records.next().now_or_never() {
                    due.record(key.as_ref());
                }
                while let Some(key) = tables.next().now_or_never() {
                    due.table(key.as_ref());
                }
            }
        }
    }

    async fn work(&self, due: Due) {
        for id in self.node.hub.ids() {
            let Some(table) = self.node.hub.lock().get(&id).map(|feed| feed.table.clone()) else { continue };
            let (read, check) = due.concerns(id, &table);
            let done = async {
                if read || check {
                    self.read(id, &table).await?;
                }
                if check {
                    self.check(id, &table).await?;
                }
                Ok::<_, Error>(())
            };
            if let Err(error) = done.await {
                tracing::warn!(%error, table, "a table that is watched could not be read; trying again");
            }
        }
    }

    /// Sends the records of a feed that were not sent yet.
    async fn read(&self, id: FeedId, table: &str) -> Result<(), Error> {
        loop {
            let Some(position) = self.node.hub.lock().get(&id).map(|feed| feed.position) else {
                return Ok(());
            };
            let (start, end) = records_from(id.0, id.1, position);
            let range = Range { start, end, limit: BATCH, limit_bytes: BATCH_BYTES, reverse: false };
            let page = self.node.store.scan(range).await?;
            if page.entries.is_empty() {
                return Ok(());
            }
            let table = self.node.cache.get(&self.node.store, id.0, table).await?;
            let mut sends = Vec::with_capacity(page.entries.len());
            for entry in &page.entries {
                let position = super::subscription::position_of(&entry.key)?;
                let topics = match &table {
                    Some(table) => topics(table, &ChangeRecord::decode(&entry.value)?)?,
                    None => Vec::new(),
                };
                sends.push((position, topics));
            }
            let mut feeds = self.node.hub.lock();
            let Some(feed) = feeds.get_mut(&id) else { return Ok(()) };
            for (position, topics) in sends {
                for topic in topics {
                    if let Some(topic) = feed.topics.get(&topic) {
                        // Without receivers it is about to be removed.
                        let _ = topic.sender.send(position);
                    }
                }
                feed.position = position.next();
            }
            if !page.more {
                return Ok(());
            }
        }
    }

    /// Ends what can not be followed any more: its table, stream or index is gone.
    async fn check(&self, id: FeedId, table: &str) -> Result<(), Error> {
        let row = TABLES.get(&self.node.store, table_key(id.0, table)).await?;
        let mut feeds = self.node.hub.lock();
        let Some(feed) = feeds.get_mut(&id) else { return Ok(()) };
        let record = row.map(|row| row.value);
        match record {
            Some(record) if record.stream.as_ref().is_some_and(|s| s.enabled && s.id == id.1) => {
                feed.topics.retain(|_, topic| {
                    topic.index.as_ref().is_none_or(|index| record.index(index).is_some())
                });
            }
            Some(_) | None => feed.topics.clear(),
        }
        if feed.topics.is_empty() {
            feeds.remove(&id);
        }
        Ok(())
    }
}

/// The partitions that a change is about, as the keys of the table and its indexes have them.
fn topics(table: &Table, change: &ChangeRecord) -> Result<Vec<Key>, Error> {
    let view = |image| ItemView::new(image).map_err(store::Error::from);
    let mut topics = Vec::with_capacity(1);
    let keys = view(&change.keys)?;
    if let Some(value) = keys.get(&table.record.partition.name).and_then(ValueView::decode) {
        topics.push(table.partition_prefix(&value).finish());
    }
    for index in &table.indexes {
        for image in change.new.iter().chain(&change.old) {
            let Some(partition) = index.partition_of(view(image)?) else { continue };
            let topic = partition.finish();
            if !topics.contains(&topic) {
                topics.push(topic);
            }
        }
    }
    Ok(topics)
}

/// Which feeds there is something to do for.
#[derive(Debug)]
enum Due {
    All,
    Some { streams: HashSet<FeedId>, tables: HashSet<Key> },
}

impl Default for Due {
    fn default() -> Self {
        Self::Some { streams: HashSet::new(), tables: HashSet::new() }
    }
}

impl Due {
    /// A record was written; `None`: some that were not told.
    fn record(&mut self, key: Option<&Key>) {
        let Self::Some { streams, .. } = self else { return };
        let id = key.and_then(|key| {
            let stream = KeyReader::new(key).and_then(|mut reader| reader.u64()).ok()?;
            Some((account_of(key).ok()?, stream))
        });
        match id {
            Some(id) => drop(streams.insert(id)),
            None => *self = Self::All,
        }
    }

    /// A table's row was written; `None`: some that were not told.
    fn table(&mut self, key: Option<&Key>) {
        let Self::Some { tables, .. } = self else { return };
        match key {
            Some(key) => drop(tables.insert(key.clone())),
            None => *self = Self::All,
        }
    }

    /// Whether a feed's records are to be read, and whether its table is to be looked at.
    fn concerns(&self, id: FeedId, table: &str) -> (bool, bool) {
        match self {
            Self::All => (true, true),
            Self::Some { streams, tables } => {
                (streams.contains(&id), !tables.is_empty() && tables.contains(&table_key(id.0, table)))
            }
        }
    }
}
