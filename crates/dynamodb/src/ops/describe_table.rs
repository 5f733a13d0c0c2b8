//! DescribeTable, and the description that other operations on tables answer with.

use async_trait::async_trait;
use aws::Access;
use serde::Deserialize;
use serde_json::{Value, json};
use store::Range;
use store::key::prefix_end;

use super::{Run, document};
use crate::Error;
use crate::service::{Node, Scope};
use crate::tables::{Billing, TABLES, TableRecord, items_prefix, table_key};
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
    items: usize,
    bytes: usize,
}

/// Seconds since the epoch, as JSON protocols have times.
pub(super) fn seconds(at: types::Timestamp) -> f64 {
    at.as_millisecond() as f64 / 1000.0
}

/// `TableDescription`.
pub(super) fn description(record: &TableRecord, scope: &Scope, size: Size, status: &str) -> Value {
    let keys =
        || std::iter::once((&record.partition, "HASH")).chain(record.sort.iter().map(|k| (k, "RANGE")));
    let mut out = json!({
        "AttributeDefinitions": keys()
            .map(|(key, _)| json!({"AttributeName": key.name, "AttributeType": key.kind.kind().name()}))
            .collect::<Vec<_>>(),
        "TableName": record.name,
        "KeySchema": keys()
            .map(|(key, role)| json!({"AttributeName": key.name, "KeyType": role}))
            .collect::<Vec<_>>(),
        "TableStatus": status,
        "CreationDateTime": seconds(record.created_at),
        "TableSizeBytes": size.bytes,
        "ItemCount": size.items,
        "TableArn": scope.table_arn(&record.name),
        "TableId": record.uuid,
        "DeletionProtectionEnabled": record.deletion_protection,
    });
    let (read_units, write_units) = match record.billing {
        Billing::PayPerRequest { since } => {
            out["BillingModeSummary"] = json!({
                "BillingMode": "PAY_PER_REQUEST",
                "LastUpdateToPayPerRequestDateTime": seconds(since),
            });
            (0, 0)
        }
        Billing::Provisioned { read_units, write_units } => (read_units, write_units),
    };
    out["ProvisionedThroughput"] = json!({
        "NumberOfDecreasesToday": 0,
        "ReadCapacityUnits": read_units,
        "WriteCapacityUnits": write_units,
    });
    if record.class_given {
        out["TableClassSummary"] = json!({"TableClass": "STANDARD"});
    }
    out
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
        let size = measure(node, scope, &record).await?;
        Ok(document(&json!({ "Table": description(&record, scope, size, "ACTIVE") })))
    }
}

/// Items that are counted for a description. A table that holds more is described with at least this.
const MAX_COUNTED: usize = 10_000;

/// Counts items, up to a bound.
pub(super) async fn measure(node: &Node, scope: &Scope, record: &TableRecord) -> Result<Size, Error> {
    let mut size = Size::default();
    let mut start = items_prefix(scope.account, record.id).finish();
    let end = prefix_end(&start);
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
