//! DescribeTable, and the description that other operations on tables answer with.

use async_trait::async_trait;
use aws::Access;
use serde::Deserialize;
use serde_json::{Value, json};
use store::key::prefix_end;
use store::{Key, Range};

use super::{Run, document};
use crate::Error;
use crate::service::{Node, Scope};
use crate::tables::{
    Billing, IndexRecord, IndexScope, IndexState, KeyAttribute, Projected, TABLES, TableRecord,
    entries_prefix, items_prefix, table_key,
};
use crate::value::ItemView;
use crate::wire::{self, Constraints};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Input {
    table_name: Option<String>,
}

/// Reads `{"TableName": ...}`.
pub(super) fn table_name(body: &[u8], scope: &Scope) -> Result<String, Error> {
    let input: Input = wire::input(body)?;
    Constraints::default().table(input.table_name.as_deref(), "tableName").finish()?;
    scope.table_name(&input.table_name.unwrap_or_default())
}

/// How much a table holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) items: usize,
    pub(super) bytes: usize,
}

/// Seconds since the epoch, as JSON protocols have times.
pub(super) fn seconds(at: types::Timestamp) -> f64 {
    at.as_millisecond() as f64 / 1000.0
}

/// How much a table and each of its indexes hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Sizes {
    pub(super) table: Size,
    indexes: Vec<Size>,
}

fn key_schema(partition: &[KeyAttribute], sort: &[KeyAttribute]) -> Value {
    let element = |key: &KeyAttribute, role| json!({"AttributeName": key.name, "KeyType": role});
    let partition = partition.iter().map(|key| element(key, "HASH"));
    partition.chain(sort.iter().map(|key| element(key, "RANGE"))).collect()
}

fn throughput(units: Option<(u64, u64)>) -> Value {
    let (read_units, write_units) = units.unwrap_or_default();
    json!({
        "NumberOfDecreasesToday": 0,
        "ReadCapacityUnits": read_units,
        "WriteCapacityUnits": write_units,
    })
}

/// Units per second that are there without warming up: what is provisioned, or what AWS has of every table on demand.
/// Nothing here has to warm up.
fn warm_throughput(units: Option<(u64, u64)>) -> Value {
    let (read_units, write_units) = units.unwrap_or((12_000, 4_000));
    json!({"ReadUnitsPerSecond": read_units, "WriteUnitsPerSecond": write_units, "Status": "ACTIVE"})
}

fn index_description(index: &IndexRecord, table_arn: &str, size: Size) -> Value {
    let mut projection = json!({"ProjectionType": match &index.projected {
        Projected::All => "ALL",
        Projected::KeysOnly => "KEYS_ONLY",
        Projected::Include(_) => "INCLUDE",
    }});
    if let Projected::Include(names) = &index.projected {
        projection["NonKeyAttributes"] = json!(names);
    }
    let mut out = json!({
        "IndexName": index.name,
        "KeySchema": key_schema(&index.partition, &index.sort),
        "Projection": projection,
        "IndexSizeBytes": size.bytes,
        "ItemCount": size.items,
        "IndexArn": format!("{table_arn}/index/{}", index.name),
    });
    if index.scope == IndexScope::Global {
        let creating = index.state == IndexState::Creating;
        out["IndexStatus"] = json!(if creating { "CREATING" } else { "ACTIVE" });
        if creating {
            out["Backfilling"] = json!(true);
        }
        out["ProvisionedThroughput"] = throughput(index.throughput);
        out["WarmThroughput"] = warm_throughput(index.throughput);
    }
    out
}

/// `TableDescription`.
pub(super) fn description(record: &TableRecord, scope: &Scope, sizes: &Sizes, status: &str) -> Value {
    let size = sizes.table;
    let mut out = json!({
        "AttributeDefinitions": record.definitions()
            .into_iter()
            .map(|key| json!({"AttributeName": key.name, "AttributeType": key.kind.kind().name()}))
            .collect::<Vec<_>>(),
        "TableName": record.name,
        "KeySchema": key_schema(std::slice::from_ref(&record.partition), record.sort.as_slice()),
        "TableStatus": status,
        "CreationDateTime": seconds(record.created_at),
        "TableSizeBytes": size.bytes,
        "ItemCount": size.items,
        "TableArn": scope.table_arn(&record.name),
        "TableId": record.uuid,
        "DeletionProtectionEnabled": record.deletion_protection,
    });
    let units = match record.billing {
        Billing::PayPerRequest { since } => {
            out["BillingModeSummary"] = json!({
                "BillingMode": "PAY_PER_REQUEST",
                "LastUpdateToPayPerRequestDateTime": seconds(since),
            });
            None
        }
        Billing::Provisioned { read_units, write_units } => Some((read_units, write_units)),
    };
    out["ProvisionedThroughput"] = throughput(units);
    out["WarmThroughput"] = warm_throughput(units);
    for (at, member) in
        [(record.increased_at, "LastIncreaseDateTime"), (record.decreased_at, "LastDecreaseDateTime")]
    {
        if let Some(at) = at {
            out["ProvisionedThroughput"][member] = json!(seconds(at));
        }
    }
    let arn = scope.table_arn(&record.name);
    for (kind, member) in
        [(IndexScope::Local, "LocalSecondaryIndexes"), (IndexScope::Global, "GlobalSecondaryIndexes")]
    {
        let sizes = sizes.indexes.iter().copied().chain(std::iter::repeat(Size::default()));
        let own = record.indexes.iter().zip(sizes).filter(|(index, _)| index.scope == kind);
        let own: Vec<_> = own.map(|(index, size)| index_description(index, &arn, size)).collect();
        if !own.is_empty() {
            out[member] = json!(own);
        }
    }
    if let Some(restored) = &record.restored {
        let mut summary = json!({
            "SourceTableArn": restored.source_arn,
            "RestoreDateTime": seconds(restored.at),
            "RestoreInProgress": restored.in_progress,
        });
        if let Some(backup) = &restored.backup_arn {
            summary["SourceBackupArn"] = json!(backup);
        }
        out["RestoreSummary"] = summary;
    }
    if let Some(stream) = &record.stream {
        if stream.enabled {
            out["StreamSpecification"] = json!({"StreamEnabled": true, "StreamViewType": stream.view.word()});
        }
        out["LatestStreamLabel"] = json!(stream.label);
        out["LatestStreamArn"] = json!(scope.stream_arn(&record.name, &stream.label));
    }
    if record.class_given {
        out["TableClassSummary"] = json!({"TableClass": "STANDARD"});
    }
    out
}

/// Whether a table can be used.
fn status(record: &TableRecord) -> &'static str {
    if record.is_filling() { "CREATING" } else { "ACTIVE" }
}

/// Describes a table.
pub(crate) struct DescribeTable {
    name: String,
}

#[async_trait]
impl Run for DescribeTable {
    const NAME: &'static str = "DescribeTable";

    fn parse(body: &[u8], scope: &Scope) -> Result<Self, Error> {
        Ok(Self { name: table_name(body, scope)? })
    }

    async fn access(&self, _node: &Node, scope: &Scope) -> Vec<Access> {
        vec![Access::new("dynamodb:DescribeTable", scope.table_arn(&self.name))]
    }

    async fn run(self, node: &Node, scope: &Scope) -> Result<Vec<u8>, Error> {
        let found = TABLES.get(&node.store, table_key(scope.account, &self.name)).await?;
        let record = found.ok_or_else(|| Error::table_not_found_named(&self.name))?.value;
        let sizes = measure(node, scope, &record).await?;
        Ok(document(&json!({ "Table": description(&record, scope, &sizes, status(&record)) })))
    }
}

/// Items that are counted for a description. A table that holds more is described with at least this.
const MAX_COUNTED: usize = 10_000;

/// Counts items, up to a bound.
pub(super) async fn measure(node: &Node, scope: &Scope, record: &TableRecord) -> Result<Sizes, Error> {
    let table = count(node, items_prefix(scope.account, record.id).finish()).await?;
    let mut indexes = Vec::with_capacity(record.indexes.len());
    for index in &record.indexes {
        let prefix = entries_prefix(scope.account, record.id, Some(index.number)).finish();
        indexes.push(count(node, prefix).await?);
    }
    Ok(Sizes { table, indexes })
}

async fn count(node: &Node, prefix: Key) -> Result<Size, Error> {
    let mut size = Size::default();
    let end = prefix_end(&prefix);
    let mut start = prefix;
    while size.items < MAX_COUNTED {
        let range = Range { start, end: end.clone(), limit: 1000, limit_bytes: 1 << 20, reverse: false };
        let page = node.store.scan(range).await?;
        for entry in &page.entries {
            size.items += 1;
            size.bytes += ItemView::new(&entry.value).map_err(store::Error::from)?.size_bytes();
        }
        match page.entries.last() {
            Some(last) if page.more => start = store::key::after(&last.key),
            _ => break,
        }
    }
    Ok(size)
}
