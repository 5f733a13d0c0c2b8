//! One subscription: its items, then its changes, as events.
//!
//! Items are read in pages. Each page is read at one snapshot with the place where the stream ended then; before it
//! is sent come the changes since the page before, of what was sent already. So what a client has is at each `ready`
//! and after each change what a Query would have shown at that moment.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use aws::live::{Events, LiveEvent};
use bytes::Bytes;
use futures_util::stream;
use serde_json::json;
use store::key::after;
use store::{Entry, Key, Page, Range, Read};
use tokio::sync::broadcast::error::RecvError;
use types::AccountId;

use super::hub::{Hub, Subscriber};
use super::token::{Fingerprint, Token};
use super::{Watch, end, event};
use crate::Error;
use crate::change::Image;
use crate::ops::capacity::{Consumed, Object, read_units};
use crate::ops::{Query, stream_head};
use crate::place::Place;
use crate::service::Node;
use crate::stream::{Cause, ChangeRecord, Event, Position, records_from};
use crate::table::{Attempt, Table};
use crate::tables::{StreamSetting, TABLES, ViewType, table_key};
use crate::throttle::Side;
use crate::value::{ItemView, project_item};
use crate::wire::write;

/// Items of one event, and records read at a time.
const BATCH: usize = 64;
const BATCH_BYTES: usize = 256 << 10;

/// Beyond so many records it is cheaper to begin with the items again.
const MAX_CATCH_UP: usize = 100_000;

/// How often a client is told of a newer token while nothing happens to what it watches.
const TOKEN_PAUSE: Duration = Duration::from_secs(30);

/// A run of keys.
type Bounds = (Key, Key);

/// A subscription.
pub(super) struct Subscription {
    node: Arc<Node>,
    account: AccountId,
    name: String,
    query: Query,
    fingerprint: Fingerprint,
    table: Arc<Table>,
    stream: StreamSetting,
    bounds: Bounds,
    /// What the keys of its partition begin with, in bytes.
    prefix_len: usize,
    subscriber: Subscriber,
    state: State,
    /// Events to be sent next: those of one batch.
    queue: VecDeque<LiveEvent>,
}

/// How far it has come.
enum State {
    /// The items of `rest` are still to be read; `at` is where the stream ended when the last ones were.
    Items {
        rest: Bounds,
        at: Option<Position>,
    },
    /// A page was read; before it is sent come the changes of `sent` up to it.
    Between {
        sent: Bounds,
        from: Position,
        to: Position,
        page: LiveEvent,
        rest: Option<Bounds>,
    },
    /// The changes since a token, or since it fell behind; so many records have been looked at.
    CatchUp {
        from: Position,
        seen: usize,
        is_first: bool,
    },
    /// The changes as they come, from this one on.
    Live(Position),
    Done,
}

/// Why a subscription ends.
enum Ended {
    TableDeleted,
    /// The stream, or the index, is gone.
    NotWatchable,
    Failed(Error),
}

impl From<Error> for Ended {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<store::Error> for Ended {
    fn from(error: store::Error) -> Self {
        Self::Failed(error.into())
    }
}

impl Ended {
    fn event(self) -> LiveEvent {
        match self {
            Self::TableDeleted => end("TableDeleted", "The table was deleted."),
            Self::NotWatchable => end(
                "StreamDisabled",
                "The stream of the table was disabled, or the index deleted: there is nothing to go on with.",
            ),
            Self::Failed(error) => {
                let error = aws::Error::from(error);
                end(&error.code, &error.message)
            }
        }
    }
}

/// What was found out when a subscription began.
struct Opening {
    table: Arc<Table>,
    stream: StreamSetting,
    bounds: Bounds,
    topic: Key,
    head: Position,
    latest: Position,
}

impl Subscription {
    /// Checks that what is asked for can be watched, and begins to.
    pub(super) async fn open(watch: Watch) -> Result<Self, Error> {
        let Watch { node, scope, table: name, query, is_key, fingerprint, token, .. } = watch;
        let account = scope.account;
        let opening = loop {
            let attempt = look(&node, account, &name, &query, is_key).await;
            if let Some(opening) = node.settle(account, &[&name], attempt)? {
                break opening;
            }
        };
        let Opening { table, stream, bounds, topic, head, latest } = opening;
        let prefix_len = topic.len();
        let index = query.search.index.as_deref();
        let subscriber = Hub::subscribe(&node, (&table, index), stream.id, latest, topic);
        let resumed = token.filter(|token| token.stream == stream.id && token.position >= head);
        let state = match resumed {
            Some(token) => State::CatchUp { from: token.position, seen: 0, is_first: true },
            None => State::Items { rest: bounds.clone(), at: None },
        };
        let mut this = Self {
            node,
            account,
            name,
            query,
            fingerprint,
            table,
            stream,
            bounds,
            prefix_len,
            subscriber,
            state,
            queue: VecDeque::new(),
        };
        let keys: Vec<_> = this.table.keys().map(|key| key.name.clone()).collect();
        let opened = json!({"Keys": keys, "Descending": this.query.reverse, "Resumed": resumed.is_some()});
        this.queue.push_back(event("open", &opened));
        if token.is_some() && resumed.is_none() {
            this.queue.push_back(reset());
        }
        Ok(this)
    }

    /// Its events.
    pub(super) fn events(self) -> Events {
        Box::pin(stream::unfold(self, |mut this| async move {
            let event = this.next().await?;
            Some((event, this))
        }))
    }

    async fn next(&mut self) -> Option<LiveEvent> {
        loop {
            if let Some(event) = self.queue.pop_front() {
                return Some(event);
            }
            if matches!(self.state, State::Done) {
                return None;
            }
            if let Err(ended) = self.step().await {
                self.state = State::Done;
                self.queue.push_back(ended.event());
            }
        }
    }

    async fn step(&mut self) -> Result<(), Ended> {
        self.state = match std::mem::replace(&mut self.state, State::Done) {
            State::Items { rest, at } => self.items(rest, at).await?,
            State::Between { sent, from, to, page, rest } => {
                let (from, _) = self.changes(from, to, &sent, false).await?;
                if from < to {
                    State::Between { sent, from, to, page, rest }
                } else {
                    self.queue.push_back(page);
                    self.after_page(rest, to)
                }
            }
            State::CatchUp { from, is_first, .. } if from >= self.subscriber.from => {
                if is_first {
                    self.ready(from);
                }
                State::Live(from)
            }
            State::CatchUp { from, seen, is_first } => match self.catch_up(from, seen).await? {
                Some((from, seen)) => State::CatchUp { from, seen, is_first },
                None => self.begin_again(),
            },
            State::Live(position) => self.listen(position).await?,
            State::Done => State::Done,
        };
        Ok(())
    }

    fn token(&self, position: Position) -> String {
        Token { stream: self.stream.id, position }.to_text(self.fingerprint)
    }

    /// All there was is sent.
    fn ready(&mut self, position: Position) {
        let token = Some(self.token(position));
        self.queue.push_back(LiveEvent { token, ..event("ready", &json!({})) });
    }

    /// The table as it is now; it must be the one that was begun with, and have the same stream.
    async fn refresh(&mut self) -> Result<(), Ended> {
        self.node.cache.forget(self.account, &self.name);
        let row = TABLES.get(&self.node.store, table_key(self.account, &self.name)).await?;
        let Some(record) = row.map(|row| row.value).filter(|record| record.id == self.table.record.id) else {
            return Err(Ended::TableDeleted);
        };
        if record.stream.is_none_or(|stream| stream.id != self.stream.id || !stream.enabled) {
            return Err(Ended::NotWatchable);
        }
        self.table = self.node.table(self.account, &self.name).await?;
        Ok(())
    }

    /// Reads the next page of items.
    async fn items(&mut self, rest: Bounds, at: Option<Position>) -> Result<State, Ended> {
        let head = stream_head(&self.node, self.account, self.stream.id).await?;
        let table = self.table.clone();
        let place = self.query.search.place(&table).map_err(|_| Ended::NotWatchable)?;
        self.node.admit_read(place)?;
        let (start, end) = rest.clone();
        let reverse = self.query.reverse;
        let mut reads = vec![table.read(), last_record(self.account, self.stream.id, head)];
        if start < end {
            let limit_bytes = BATCH_BYTES;
            reads.push(Read::Range(Range { start, end, limit: BATCH, limit_bytes, reverse }));
        }
        let pages = self.node.store.read(reads).await?;
        match table.check(&pages[0]) {
            Ok(()) => {}
            Err(Attempt::Stale) => {
                self.refresh().await?;
                return Ok(State::Items { rest, at });
            }
            Err(Attempt::Failed(Error::ResourceNotFound(_))) => return Err(Ended::TableDeleted),
            Err(Attempt::Failed(error)) => return Err(error.into()),
        }
        let to = end_of(&pages[1], head)?;
        let none = Page::default();
        let found = pages.get(2).unwrap_or(&none);
        let size: usize = found.entries.iter().map(|entry| entry.value.len()).sum();
        self.node.charge(&table, &Consumed::search(place, read_units(size, false)), Side::Read);
        let page = self.page(place, &found.entries)?;
        let next = found.entries.last().filter(|_| found.more).map(|last| {
            if reverse { (rest.0.clone(), last.key.clone()) } else { (after(&last.key), rest.1.clone()) }
        });
        let sent = if reverse { (rest.1, self.bounds.1.clone()) } else { (self.bounds.0.clone(), rest.0) };
        Ok(match at {
            Some(from) if from < to => State::Between { sent, from, to, page, rest: next },
            _ => {
                self.queue.push_back(page);
                self.after_page(next, to)
            }
        })
    }

    fn after_page(&mut self, rest: Option<Bounds>, at: Position) -> State {
        match rest {
            Some(rest) => State::Items { rest, at: Some(at) },
            None => {
                self.ready(at);
                State::Live(at)
            }
        }
    }

    /// An event of items.
    fn page(&self, place: Place<'_>, entries: &[Entry]) -> Result<LiveEvent, Error> {
        let mut rows = Vec::with_capacity(entries.len());
        for entry in entries {
            let view = ItemView::new(&entry.value).map_err(store::Error::from)?;
            if self.query.search.filter.as_ref().is_none_or(|filter| filter.holds(view)) {
                rows.push((&entry.key, view));
            }
        }
        let mut out = Object::new();
        write::list(out.member("Items"), *b"[]", rows.into_iter(), |out, (key, view)| {
            let keys = project_item(view, |name| place.table.keys().any(|key| key.name.as_bytes() == name));
            let mut row = Object::new();
            self.describe(&mut row, &keys, key);
            self.show(row.member("Item"), view);
            out.extend_from_slice(&row.finish());
        });
        Ok(LiveEvent { name: "items", token: None, data: out.finish() })
    }

    /// Says which item, and where it stands among the others.
    fn describe(&self, out: &mut Object, keys: &Bytes, row: &Key) {
        let keys = ItemView::new(keys).unwrap_or(ItemView::ABSENT);
        write::item(out.member("Keys"), keys);
        let order: String =
            row.get(self.prefix_len..).unwrap_or_default().iter().map(|byte| format!("{byte:02x}")).collect();
        write::string(out.member("Order"), order.as_bytes());
    }

    fn show(&self, out: &mut Vec<u8>, view: ItemView<'_>) {
        match &self.query.search.projection {
            Some(projection) => projection.write(out, view),
            None => write::item(out, view),
        }
    }

    /// Reads some of the records from one place to another, and sends what concerns the keys in `window`; answers
    /// with where it came to, and how many there were.
    async fn changes(
        &mut self,
        from: Position,
        to: Position,
        window: &Bounds,
        with_token: bool,
    ) -> Result<(Position, usize), Ended> {
        let (start, _) = records_from(self.account, self.stream.id, from);
        let (end, _) = records_from(self.account, self.stream.id, to);
        let range = Range { start, end, limit: BATCH, limit_bytes: BATCH_BYTES, reverse: false };
        let page = self.node.store.scan(range).await?;
        let mut next = if page.more { from } else { to };
        for entry in &page.entries {
            let position = position_of(&entry.key)?;
            if page.more {
                next = position.next();
            }
            let change = self.change(&entry.value, window)?;
            if let Some(mut change) = change {
                change.token = with_token.then(|| self.token(position.next()));
                self.queue.push_back(change);
            }
        }
        Ok((next, page.entries.len()))
    }

    /// Goes on from a token; `None` if that is not possible any more, or not worth it.
    async fn catch_up(&mut self, from: Position, seen: usize) -> Result<Option<(Position, usize)>, Ended> {
        let bounds = self.bounds.clone();
        let (next, count) = self.changes(from, self.subscriber.from, &bounds, true).await?;
        // Looked at afterwards: what was there to be read was not trimmed before.
        let trimmed = stream_head(&self.node, self.account, self.stream.id).await? > from;
        if trimmed || seen > MAX_CATCH_UP {
            self.queue.clear();
            return Ok(None);
        }
        Ok(Some((next, seen + count)))
    }

    /// Tells the client to forget what it has, and sends it anew.
    fn begin_again(&mut self) -> State {
        self.queue.push_back(reset());
        State::Items { rest: self.bounds.clone(), at: None }
    }

    /// Waits for the next change. Who has fallen behind what is told reads it from the stream, at their own pace.
    async fn listen(&mut self, position: Position) -> Result<State, Ended> {
        let told = tokio::select! {
            told = self.subscriber.receiver.recv() => told,
            () = self.node.env.sleep(TOKEN_PAUSE) => {
                let heard = self.subscriber.heard().filter(|heard| *heard > position);
                if let Some(heard) = heard {
                    let token = Some(self.token(heard));
                    self.queue.push_back(LiveEvent { token, ..event("token", &json!({})) });
                }
                return Ok(State::Live(heard.unwrap_or(position)));
            }
        };
        let at = match told {
            // It was there when the items were read.
            Ok(at) if at < position => return Ok(State::Live(position)),
            Ok(at) => at,
            Err(RecvError::Lagged(_)) if self.subscriber.begin_again() => {
                return Ok(State::CatchUp { from: position, seen: 0, is_first: false });
            }
            Err(RecvError::Lagged(_) | RecvError::Closed) => {
                self.refresh().await?;
                return Err(Ended::NotWatchable);
            }
        };
        let (key, _) = records_from(self.account, self.stream.id, at);
        let Some(entry) = self.node.store.get(key).await? else {
            // It was trimmed before it was read.
            return Ok(self.begin_again());
        };
        let bounds = self.bounds.clone();
        if let Some(mut change) = self.change(&entry.value, &bounds)? {
            change.token = Some(self.token(at.next()));
            self.queue.push_back(change);
        }
        Ok(State::Live(at.next()))
    }

    /// The event of a record, if it concerns what is watched.
    fn change(&self, record: &Bytes, window: &Bounds) -> Result<Option<LiveEvent>, Ended> {
        let change = ChangeRecord::decode(record)?;
        let table = &*self.table;
        let place = self.query.search.place(table).map_err(|_| Ended::NotWatchable)?;
        let keys = ItemView::new(&change.keys).map_err(store::Error::from)?;
        let attributes = table.key_attributes(keys).ok_or(Ended::NotWatchable)?;
        let item_key = table.key_of_key(&attributes)?;
        let inside = |key: &Key| window.0 <= *key && *key < window.1;
        let row = |image: &Option<Bytes>| -> Option<(Key, Bytes)> {
            let image = image.as_ref()?;
            let (key, row) = match place.index {
                None => (item_key.clone(), image.clone()),
                Some(index) => index.entry(&item_key, Image::of(image)?)?,
            };
            let view = ItemView::new(&row).ok()?;
            let filter = self.query.search.filter.as_ref();
            (inside(&key) && filter.is_none_or(|filter| filter.holds(view))).then_some((key, row))
        };
        let (old, new) = (row(&change.old), row(&change.new));
        // Whether the client has the item can not be told from a stream of new images.
        let old_unknown = self.stream.view == ViewType::NewImage && change.event != Event::Insert;
        let (name, shown) = match (&old, &new) {
            (Some(old), Some(new)) if old == new => return Ok(None),
            (None, Some(new)) if !old_unknown => (Event::Insert, new),
            (_, Some(new)) => (Event::Modify, new),
            (Some(old), None) => (Event::Remove, old),
            (None, None) if old_unknown && inside(&item_key) => {
                (Event::Remove, &(item_key.clone(), Bytes::new()))
            }
            (None, None) => return Ok(None),
        };
        let mut out = Object::new();
        write::string(out.member("EventName"), name.name().as_bytes());
        self.describe(&mut out, &change.keys, &shown.0);
        if name != Event::Remove {
            self.show(out.member("Item"), ItemView::new(&shown.1).map_err(store::Error::from)?);
        }
        out.member("At").extend_from_slice(change.at.as_millisecond().to_string().as_bytes());
        if change.cause == Cause::Expiry {
            out.member("Expired").extend_from_slice(b"true");
        }
        Ok(Some(LiveEvent { name: "change", token: None, data: out.finish() }))
    }
}

/// Tells a client to forget the items it has: what happened since its token is not known any more.
fn reset() -> LiveEvent {
    let message =
        "The token is older than what is kept of the table's changes; the items follow as they are now.";
    let data = json!({"Reason": "TokenExpired", "Message": message});
    LiveEvent { token: Some(String::new()), ..event("reset", &data) }
}

/// Looks at what a subscription asks for, at one version of the table.
async fn look(
    node: &Arc<Node>,
    account: AccountId,
    name: &str,
    query: &Query,
    is_key: bool,
) -> Result<Opening, Attempt> {
    let table = node.table(account, name).await?;
    let stream = table.record.stream.as_ref().filter(|stream| stream.enabled).cloned();
    let id = stream.as_ref().map_or(0, |stream| stream.id);
    let head = stream_head(node, account, id).await?;
    let pages = node.store.read(vec![table.read(), last_record(account, id, head)]).await?;
    table.check(&pages[0])?;
    let place = query.search.place(&table)?;
    let bounds = query.bounds(place)?;
    query.search.check_projected(place)?;
    query.search.check_nested(place)?;
    if query.search.fetches(place) {
        return Err(Error::validation("Of a local index, only what it projects can be watched").into());
    }
    if is_key && query.tests.len() != table.keys().count() {
        return Err(Error::validation("The provided key element does not match the schema").into());
    }
    let topic = query.partition_prefix(place)?;
    let wanted = if place.index.is_some() { "NEW_AND_OLD_IMAGES" } else { "NEW_IMAGE or NEW_AND_OLD_IMAGES" };
    let stream = stream.filter(|stream| match stream.view {
        ViewType::NewAndOldImages => true,
        ViewType::NewImage => place.index.is_none(),
        ViewType::OldImage | ViewType::KeysOnly => false,
    });
    let stream = stream.ok_or_else(|| {
        Error::Validation(format!(
            "To be watched, the table needs a stream with StreamViewType {wanted}; UpdateTable enables one"
        ))
    })?;
    let latest = end_of(&pages[1], head)?;
    Ok(Opening { stream, bounds, topic, head, latest, table })
}

/// A read of the last record of a stream whose first one may be at `head`.
fn last_record(account: AccountId, stream: u64, head: Position) -> Read {
    let (start, end) = records_from(account, stream, head);
    Read::Range(Range { start, end, limit: 1, limit_bytes: 1, reverse: true })
}

/// Where the next record of a stream will be, from the last one.
fn end_of(last: &Page, head: Position) -> Result<Position, Error> {
    Ok(last.first().map(|entry| position_of(&entry.key)).transpose()?.map_or(head, Position::next))
}

/// The position of a record with that key.
pub(super) fn position_of(key: &[u8]) -> Result<Position, Error> {
    Position::of_key(key).map_err(|error| {
        store::Error::Corrupt { table: "ddb_stream_records", reason: error.to_string() }.into()
    })
}
