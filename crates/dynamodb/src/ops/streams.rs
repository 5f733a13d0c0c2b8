//! The DynamoDB Streams API: ListStreams, DescribeStream, GetShardIterator, GetRecords.
//!
//! A stream has one shard, so its records are in the order of the changes. An iterator says where the next
//! record is to be looked for and when it was handed out; it is not a secret, since whoever uses it needs the
//! right to the stream that it names.

use std::time::Duration;

use async_trait::async_trait;
use aws::Access;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use store::{Entry, Key, Range, Read};
use types::{AccountId, Timestamp};

use super::capacity::Object;
use super::describe_table::seconds;
use super::{Run, document};
use crate::Error;
use crate::service::{Node, Scope};
use crate::stream::{Cause, ChangeRecord, Position, records_from};
use crate::tables::{STREAM_HEADS, STREAMS, StreamRecord, TABLES, stream_head_key, stream_key, table_key};
use crate::value::ItemView;
use crate::wire::{self, Constraints, write};

/// The most records of one answer, and the bytes with which an answer ends.
const MAX_RECORDS: i64 = 1000;
const MAX_ANSWER_BYTES: usize = 1 << 20;

/// The most streams or shards of one answer.
const MAX_LISTED: i64 = 100;

/// How long an iterator can be used.
const ITERATOR_LIFE: Duration = Duration::from_secs(15 * 60);

/// In place of a label: the latest stream of the table. Templates refer to streams so, before they are made.
pub(crate) const LATEST: &str = "latest";

/// A stream's ARN, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StreamName {
    arn: String,
    table: String,
    label: String,
}

impl StreamName {
    pub(super) fn parse(arn: &str, scope: &Scope) -> Result<Self, Error> {
        let invalid = || Error::Validation(format!("Invalid StreamArn: {arn}"));
        let parsed: types::Arn = arn.parse().map_err(|_| invalid())?;
        let rest = parsed.resource.strip_prefix("table/").ok_or_else(invalid)?;
        let (table, label) = rest.split_once("/stream/").ok_or_else(invalid)?;
        if parsed.service != "dynamodb" || label.is_empty() {
            return Err(invalid());
        }
        let name = Self { arn: arn.to_owned(), table: table.to_owned(), label: label.to_owned() };
        if parsed.region != scope.region.as_str() || parsed.partition != "aws" {
            return Err(name.missing());
        }
        // The table's own ARN: it may be another account's.
        scope.table_name(arn.strip_suffix(&format!("/stream/{label}")).unwrap_or(arn))?;
        Ok(name)
    }

    pub(super) fn arn(&self) -> &str {
        &self.arn
    }

    pub(super) fn key(&self, account: AccountId) -> Key {
        stream_key(account, &self.table, &self.label)
    }

    pub(super) fn missing(&self) -> Error {
        Error::ResourceNotFound(format!("Requested resource not found: Stream: {} not found", self.arn))
    }

    fn access(&self, action: &'static str) -> Vec<Access> {
        vec![Access::new(action, self.arn.clone())]
    }

    async fn find(&self, node: &Node, account: AccountId) -> Result<StreamRecord, Error> {
        let mut label = self.label.clone();
        if label == LATEST {
            let table = TABLES.get(&node.store, table_key(account, &self.table)).await?;
            let stream = table.and_then(|table| table.value.stream);
            label = stream.ok_or_else(|| self.missing())?.label;
        }
        let key = stream_key(account, &self.table, &label);
        STREAMS.get(&node.store, key).await?.map(|row| row.value).ok_or_else(|| self.missing())
    }
}

/// The id of a stream's shard.
fn shard_id(stream: &StreamRecord) -> String {
    let spread = stream.id.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
    format!("shardId-{:020}-{spread:08x}", stream.created_at.as_millisecond())
}

/// Lists streams, of all tables or one.
pub(crate) struct ListStreams {
    table: Option<String>,
    limit: usize,
    after: Option<StreamName>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct ListInput {
    table_name: Option<String>,
    limit: Option<i64>,
    exclusive_start_stream_arn: Option<String>,
}

fn limit(limit: Option<i64>, max: i64) -> usize {
    usize::try_from(limit.unwrap_or(max).clamp(1, max)).expect("it is small")
}

#[async_trait]
impl Run for ListStreams {
    const NAME: &'static str = "ListStreams";

    fn parse(body: &[u8], scope: &Scope) -> Result<Self, Error> {
        let input: ListInput = wire::input(body)?;
        let mut constraints = Constraints::default();
        if let Some(name) = &input.table_name {
            constraints.table(Some(name), "tableName");
        }
        constraints.range(input.limit, "limit", 1, MAX_LISTED).finish()?;
        let after = input.exclusive_start_stream_arn.map(|arn| StreamName::parse(&arn, scope)).transpose()?;
        let table = input.table_name.map(|name| scope.table_name(&name)).transpose()?;
        Ok(Self { table, limit: limit(input.limit, MAX_LISTED), after })
    }

    async fn access(&self, _node: &Node, scope: &Scope) -> Vec<Access> {
        let resource = self.table.as_ref().map_or("*".to_owned(), |table| scope.stream_arn(table, "*"));
        vec![Access::new("dynamodb:ListStreams", resource)]
    }

    async fn run(self, node: &Node, scope: &Scope) -> Result<Vec<u8>, Error> {
        let mut range = STREAMS.range(scope.account, self.limit, |k| {
            if let Some(table) = &self.table {
                k.text(table);
            }
        });
        if let Some(after) = &self.after {
            let key = stream_key(scope.account, &after.table, &after.label);
            range.start = range.start.max(store::key::after(&key));
        }
        let page = if range.start < range.end {
            STREAMS.scan(&node.store, range).await?
        } else {
            (Vec::new(), false)
        };
        let (rows, more) = page;
        let arn = |stream: &StreamRecord| scope.stream_arn(&stream.table, &stream.label);
        let streams: Vec<_> = rows.iter().map(|row| &row.value).collect();
        let mut out = json!({"Streams": streams.iter().map(|stream| json!({
            "StreamArn": arn(stream),
            "TableName": stream.table,
            "StreamLabel": stream.label,
        })).collect::<Vec<_>>()});
        if let Some(last) = streams.last().filter(|_| more) {
            out["LastEvaluatedStreamArn"] = json!(arn(last));
        }
        Ok(document(&out))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct DescribeInput {
    stream_arn: Option<String>,
    limit: Option<i64>,
    exclusive_start_shard_id: Option<String>,
    shard_filter: Option<ShardFilter>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct ShardFilter {
    #[serde(rename = "Type")]
    kind: Option<String>,
    shard_id: Option<String>,
}

/// Describes a stream and its shard.
pub(crate) struct DescribeStream {
    stream: StreamName,
    /// The shard is not shown to who has seen it.
    after: Option<String>,
    /// Children are asked for, and there are none.
    children: bool,
}

fn stream_constraints(arn: Option<&str>) -> Constraints {
    let mut constraints = Constraints::default();
    constraints.required(arn, "streamArn");
    if let Some(arn) = arn {
        constraints.text_len(arn, "streamArn", 37, 1024);
    }
    constraints
}

fn shard_id_constraints(id: Option<&str>, at: &str, constraints: &mut Constraints) {
    if let Some(id) = id {
        constraints.text_len(id, at, 28, 65);
    }
}

#[async_trait]
impl Run for DescribeStream {
    const NAME: &'static str = "DescribeStream";

    fn parse(body: &[u8], scope: &Scope) -> Result<Self, Error> {
        let input: DescribeInput = wire::input(body)?;
        let mut constraints = stream_constraints(input.stream_arn.as_deref());
        constraints.range(input.limit, "limit", 1, i64::from(i32::MAX));
        let filter = input.shard_filter;
        if let Some(filter) = &filter {
            constraints
                .required(filter.kind.as_ref(), "shardFilter.type")
                .one_of(filter.kind.as_deref(), "shardFilter.type", &["CHILD_SHARDS"])
                .required(filter.shard_id.as_ref(), "shardFilter.shardId");
            shard_id_constraints(filter.shard_id.as_deref(), "shardFilter.shardId", &mut constraints);
        }
        let after = input.exclusive_start_shard_id;
        shard_id_constraints(after.as_deref(), "exclusiveStartShardId", &mut constraints);
        constraints.finish()?;
        Ok(Self {
            stream: StreamName::parse(&input.stream_arn.unwrap_or_default(), scope)?,
            after,
            children: filter.is_some(),
        })
    }

    async fn access(&self, _node: &Node, _scope: &Scope) -> Vec<Access> {
        self.stream.access("dynamodb:DescribeStream")
    }

    async fn run(self, node: &Node, scope: &Scope) -> Result<Vec<u8>, Error> {
        let stream = self.stream.find(node, scope.account).await?;
        let id = shard_id(&stream);
        let mut range = json!({"StartingSequenceNumber": Position::new(stream.id, 0).sequence_number()});
        if let Some((_, version)) = stream.closed {
            range["EndingSequenceNumber"] = json!(Position::new(version, 0).sequence_number());
        }
        let shown = !self.children && self.after.is_none_or(|after| after < id);
        let shards: Vec<Value> =
            shown.then(|| json!({"ShardId": id, "SequenceNumberRange": range})).into_iter().collect();
        let mut keys = vec![json!({"AttributeName": stream.partition, "KeyType": "HASH"})];
        keys.extend(stream.sort.iter().map(|name| json!({"AttributeName": name, "KeyType": "RANGE"})));
        Ok(document(&json!({"StreamDescription": {
            "StreamArn": scope.stream_arn(&stream.table, &stream.label),
            "StreamLabel": stream.label,
            "StreamStatus": if stream.closed.is_some() { "DISABLED" } else { "ENABLED" },
            "StreamViewType": stream.view.word(),
            "CreationRequestDateTime": seconds(stream.created_at),
            "TableName": stream.table,
            "KeySchema": keys,
            "Shards": shards,
        }})))
    }
}

/// Where an iterator begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    TrimHorizon,
    Latest,
    At(Position),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct IteratorInput {
    stream_arn: Option<String>,
    shard_id: Option<String>,
    shard_iterator_type: Option<String>,
    sequence_number: Option<String>,
}

/// Hands out an iterator.
pub(crate) struct GetShardIterator {
    stream: StreamName,
    shard: String,
    start: Start,
}

#[async_trait]
impl Run for GetShardIterator {
    const NAME: &'static str = "GetShardIterator";

    fn parse(body: &[u8], scope: &Scope) -> Result<Self, Error> {
        let input: IteratorInput = wire::input(body)?;
        let kinds = ["TRIM_HORIZON", "LATEST", "AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER"];
        let mut constraints = stream_constraints(input.stream_arn.as_deref());
        constraints.required(input.shard_id.as_ref(), "shardId");
        shard_id_constraints(input.shard_id.as_deref(), "shardId", &mut constraints);
        constraints.required(input.shard_iterator_type.as_ref(), "shardIteratorType").one_of(
            input.shard_iterator_type.as_deref(),
            "shardIteratorType",
            &kinds,
        );
        if let Some(number) = &input.sequence_number {
            constraints.text_len(number, "sequenceNumber", 21, 40);
        }
        constraints.finish()?;
        let position = |kind: &str| {
            let number = input.sequence_number.as_deref().ok_or_else(|| {
                Error::Validation(format!("SequenceNumber must be given with ShardIteratorType {kind}"))
            })?;
            Position::parse(number)
                .ok_or_else(|| Error::Validation(format!("Invalid SequenceNumber: {number}")))
        };
        let kind = input.shard_iterator_type.as_deref();
        if let Some(kind @ ("LATEST" | "TRIM_HORIZON")) = kind
            && input.sequence_number.is_some()
        {
            let message = format!("SequenceNumber can not be given with ShardIteratorType {kind}");
            return Err(Error::Validation(message));
        }
        let start = match kind {
            Some("LATEST") => Start::Latest,
            Some("AT_SEQUENCE_NUMBER") => Start::At(position("AT_SEQUENCE_NUMBER")?),
            Some("AFTER_SEQUENCE_NUMBER") => Start::At(position("AFTER_SEQUENCE_NUMBER")?.next()),
            _ => Start::TrimHorizon,
        };
        let stream = StreamName::parse(&input.stream_arn.unwrap_or_default(), scope)?;
        Ok(Self { stream, shard: input.shard_id.unwrap_or_default(), start })
    }

    async fn access(&self, _node: &Node, _scope: &Scope) -> Vec<Access> {
        self.stream.access("dynamodb:GetShardIterator")
    }

    async fn run(self, node: &Node, scope: &Scope) -> Result<Vec<u8>, Error> {
        let account = scope.account;
        let stream = self.stream.find(node, account).await?;
        if self.shard != shard_id(&stream) {
            return Err(Error::ResourceNotFound(format!(
                "Requested resource not found: Shard: {} in Stream: {} not found",
                self.shard, self.stream.arn
            )));
        }
        let head = head(node, account, stream.id).await?;
        let position = match self.start {
            Start::TrimHorizon => head,
            Start::At(position) if position < head => return Err(trimmed()),
            Start::At(position) => position,
            Start::Latest => {
                let (start, end) = records_from(account, stream.id, head);
                let range = Range { start, end, limit: 1, limit_bytes: 1, reverse: true };
                match node.store.scan(range).await?.first() {
                    Some(last) => position_of(last)?.next(),
                    None => head,
                }
            }
        };
        let iterator = Iterator { stream: self.stream, position, issued_at: node.env.now() };
        Ok(document(&json!({"ShardIterator": iterator.to_text()})))
    }
}

fn trimmed() -> Error {
    Error::TrimmedData(
        "The operation attempted to read past the oldest stream record in a shard; begin again with TRIM_HORIZON"
            .into(),
    )
}

fn position_of(entry: &Entry) -> Result<Position, Error> {
    Position::of_key(&entry.key).map_err(|error| {
        store::Error::Corrupt { table: "ddb_stream_records", reason: error.to_string() }.into()
    })
}

/// Where the stream's oldest record may be.
pub(crate) async fn head(node: &Node, account: AccountId, stream: u64) -> Result<Position, Error> {
    let row = STREAM_HEADS.get(&node.store, stream_head_key(account, stream)).await?;
    Ok(row.map_or(Position::new(stream, 0), |row| Position::new(row.value.version, row.value.ordinal)))
}

/// A place in a stream, handed out at a time.
#[derive(Debug)]
struct Iterator {
    stream: StreamName,
    position: Position,
    issued_at: Timestamp,
}

impl Iterator {
    fn to_text(&self) -> String {
        let place = format!("{}|{}", self.position.sequence_number(), self.issued_at.as_millisecond());
        format!("{}|1|{}", self.stream.arn, URL_SAFE_NO_PAD.encode(place))
    }

    fn parse(text: &str, scope: &Scope) -> Result<Self, Error> {
        let invalid = || Error::validation("Invalid ShardIterator");
        let (arn, place) = text.split_once("|1|").ok_or_else(invalid)?;
        let place = URL_SAFE_NO_PAD.decode(place).map_err(|_| invalid())?;
        let place = String::from_utf8(place).map_err(|_| invalid())?;
        let (position, issued_at) = place.split_once('|').ok_or_else(invalid)?;
        let issued_at = issued_at.parse().ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
        Ok(Self {
            stream: StreamName::parse(arn, scope)?,
            position: Position::parse(position).ok_or_else(invalid)?,
            issued_at: issued_at.ok_or_else(invalid)?,
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct RecordsInput {
    shard_iterator: Option<String>,
    limit: Option<i64>,
}

/// Reads records from where an iterator stands.
pub(crate) struct GetRecords {
    iterator: Iterator,
    limit: usize,
}

#[async_trait]
impl Run for GetRecords {
    const NAME: &'static str = "GetRecords";

    fn parse(body: &[u8], scope: &Scope) -> Result<Self, Error> {
        let input: RecordsInput = wire::input(body)?;
        let mut constraints = Constraints::default();
        constraints.required(input.shard_iterator.as_ref(), "shardIterator");
        if let Some(iterator) = &input.shard_iterator {
            constraints.text_len(iterator, "shardIterator", 1, 2048);
        }
        constraints.range(input.limit, "limit", 1, MAX_RECORDS).finish()?;
        let iterator = Iterator::parse(&input.shard_iterator.unwrap_or_default(), scope)?;
        Ok(Self { iterator, limit: limit(input.limit, MAX_RECORDS) })
    }

    async fn access(&self, _node: &Node, _scope: &Scope) -> Vec<Access> {
        self.iterator.stream.access("dynamodb:GetRecords")
    }

    async fn run(self, node: &Node, scope: &Scope) -> Result<Vec<u8>, Error> {
        let (account, now) = (scope.account, node.env.now());
        let Iterator { stream: name, position, issued_at } = self.iterator;
        if now > issued_at + ITERATOR_LIFE {
            return Err(Error::ExpiredIterator(format!(
                "Iterator expired. The iterator was created at time {issued_at} while right now it is {now} which is further in the future than the tolerated delay of {} milliseconds.",
                ITERATOR_LIFE.as_millis()
            )));
        }
        let stream = name.find(node, account).await?;
        let (start, end): (Key, Key) = records_from(account, stream.id, position);
        let range = Range { start, end, limit: self.limit, limit_bytes: MAX_ANSWER_BYTES, reverse: false };
        let mut reads = vec![Read::Key(stream_head_key(account, stream.id))];
        reads.push(Read::Range(range));
        let pages = node.store.read(reads).await?;
        let head = STREAM_HEADS.first(&pages[0])?.map(|row| row.value);
        if head.is_some_and(|head| position < Position::new(head.version, head.ordinal)) {
            return Err(trimmed());
        }
        let page = &pages[1];
        let mut out = Object::new();
        let mut next = position;
        let records = out.member("Records");
        records.push(b'[');
        for (nth, entry) in page.entries.iter().enumerate() {
            if nth > 0 {
                records.push(b',');
            }
            let at = position_of(entry)?;
            next = at.next();
            write_record(records, &stream, scope, at, &ChangeRecord::decode(&entry.value)?)?;
        }
        records.push(b']');
        // A closed shard ends; an open one goes on.
        if stream.closed.is_none() || page.more {
            let iterator = Iterator { stream: name, position: next, issued_at: now };
            write::string(out.member("NextShardIterator"), iterator.to_text().as_bytes());
        }
        Ok(out.finish())
    }
}

fn write_record(
    out: &mut Vec<u8>,
    stream: &StreamRecord,
    scope: &Scope,
    at: Position,
    record: &ChangeRecord,
) -> Result<(), Error> {
    let number = at.sequence_number();
    let digest = Sha256::digest(format!("{}:{number}", stream.id));
    let id: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    let mut size_bytes = 0;
    let mut whole = Object::new();
    write::string(whole.member("eventID"), id.as_bytes());
    write::string(whole.member("eventName"), record.event.name().as_bytes());
    write::string(whole.member("eventVersion"), b"1.1");
    write::string(whole.member("eventSource"), b"aws:dynamodb");
    write::string(whole.member("awsRegion"), scope.region.as_str().as_bytes());
    let mut change = Object::new();
    let created = record.at.as_millisecond().div_euclid(1000);
    change.member("ApproximateCreationDateTime").extend_from_slice(created.to_string().as_bytes());
    let images =
        [("Keys", Some(&record.keys)), ("NewImage", record.new.as_ref()), ("OldImage", record.old.as_ref())];
    for (name, image) in images {
        let Some(image) = image else { continue };
        let view = ItemView::new(image).map_err(store::Error::from)?;
        size_bytes += view.size_bytes();
        write::item(change.member(name), view);
    }
    write::string(change.member("SequenceNumber"), number.as_bytes());
    change.member("SizeBytes").extend_from_slice(size_bytes.to_string().as_bytes());
    write::string(change.member("StreamViewType"), stream.view.word().as_bytes());
    whole.member("dynamodb").extend_from_slice(&change.finish());
    if record.cause == Cause::Expiry {
        whole
            .member("userIdentity")
            .extend_from_slice(br#"{"Type":"Service","PrincipalId":"dynamodb.amazonaws.com"}"#);
    }
    out.extend_from_slice(&whole.finish());
    Ok(())
}
