//! UpdateTable: how a table is paid for and protected, its global indexes, its stream.

use async_trait::async_trait;
use aws::Access;
use serde::Deserialize;
use serde_json::json;
use store::Write;
use types::{AccountId, Timestamp};

use super::create_table::{BILLING_MODES, StreamSpecification, check_class};
use super::describe_table::{description, measure};
use super::schema::{
    Definition, IndexInput, MAX_GLOBAL_INDEXES, Throughput, check_included, definitions,
    definitions_constraints, index_name_constraints, new_global_index,
};
use super::table_change::{Fate, TableChange, change_table};
use super::{Run, document};
use crate::Error;
use crate::service::{Node, Scope};
use crate::stream;
use crate::tables::{
    BACKFILLS, Backfill, BackfillInto, Billing, DROPPED, Dropped, IndexRecord, IndexScope, IndexState,
    KeyAttribute, TableRecord, ViewType,
};
use crate::wire::{self, Constraints};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Input {
    table_name: Option<String>,
    attribute_definitions: Option<Vec<Definition>>,
    billing_mode: Option<String>,
    provisioned_throughput: Option<Throughput>,
    global_secondary_index_updates: Option<Vec<IndexUpdateInput>>,
    stream_specification: Option<StreamSpecification>,
    deletion_protection_enabled: Option<bool>,
    table_class: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase", expecting = "struct GlobalSecondaryIndexUpdate")]
struct IndexUpdateInput {
    update: Option<ThroughputInput>,
    create: Option<IndexInput>,
    delete: Option<DeleteInput>,
}

#[derive(Deserialize)]
#[serde(
    deny_unknown_fields,
    rename_all = "PascalCase",
    expecting = "struct UpdateGlobalSecondaryIndexAction"
)]
struct ThroughputInput {
    index_name: Option<String>,
    provisioned_throughput: Option<Throughput>,
}

#[derive(Deserialize)]
#[serde(
    deny_unknown_fields,
    rename_all = "PascalCase",
    expecting = "struct DeleteGlobalSecondaryIndexAction"
)]
struct DeleteInput {
    index_name: Option<String>,
}

/// What happens to a global index.
#[derive(Clone)]
enum IndexUpdate {
    Throughput(String, (u64, u64)),
    /// With the throughput that was given, which has to suit how the table is paid for.
    Create(Box<IndexRecord>, Option<(u64, u64)>),
    Delete(String),
}

/// What happens to the stream.
#[derive(Clone, Copy)]
enum StreamUpdate {
    Open(ViewType),
    Close,
}

/// Changes a table. All of it takes effect at once, except that a new index is filled in the background.
#[derive(Clone)]
pub(crate) struct UpdateTable {
    name: String,
    on_demand: bool,
    /// Whether `BillingMode` says that the table becomes provisioned.
    becomes_provisioned: bool,
    provisioned: Option<(u64, u64)>,
    definitions: Vec<KeyAttribute>,
    index: Vec<IndexUpdate>,
    stream: Option<StreamUpdate>,
    deletion_protection: Option<bool>,
    class_given: bool,
}

fn index_constraints(updates: &[IndexUpdateInput], constraints: &mut Constraints) {
    for (nth, update) in (1..).zip(updates) {
        let at = |member: &str| format!("globalSecondaryIndexUpdates.{nth}.member.{member}");
        if let Some(update) = &update.update {
            index_name_constraints(update.index_name.as_deref(), &at("update.indexName"), constraints);
            constraints.required(update.provisioned_throughput.as_ref(), &at("update.provisionedThroughput"));
            if let Some(throughput) = update.provisioned_throughput {
                throughput.constraints(constraints, &at("update.provisionedThroughput"));
            }
        }
        if let Some(create) = &update.create {
            create.constraints(IndexScope::Global, &at("create"), constraints);
        }
        if let Some(delete) = &update.delete {
            index_name_constraints(delete.index_name.as_deref(), &at("delete.indexName"), constraints);
        }
    }
}

fn index_updates(updates: &[IndexUpdateInput], defined: &[KeyAttribute]) -> Result<Vec<IndexUpdate>, Error> {
    let mut out = Vec::with_capacity(updates.len());
    let mut names: Vec<String> = Vec::new();
    for update in updates {
        let (name, update) = match (&update.update, &update.create, &update.delete) {
            (Some(ThroughputInput { index_name, provisioned_throughput }), None, None) => {
                let name = index_name.clone().unwrap_or_default();
                let units = provisioned_throughput.map(Throughput::unchecked_units).unwrap_or_default();
                (name.clone(), IndexUpdate::Throughput(name, units))
            }
            (None, Some(create), None) => {
                let index = new_global_index(create, defined)?;
                let units = create.provisioned_throughput.map(Throughput::units).transpose()?;
                (index.name.clone(), IndexUpdate::Create(Box::new(index), units))
            }
            (None, None, Some(DeleteInput { index_name })) => {
                let name = index_name.clone().unwrap_or_default();
                (name.clone(), IndexUpdate::Delete(name))
            }
            (None, None, None) => {
                return Err(Error::invalid_parameter(
                    "One of GlobalSecondaryIndexUpdate.Update, GlobalSecondaryIndexUpdate.Create, GlobalSecondaryIndexUpdate.Delete must not be null",
                ));
            }
            _ => {
                return Err(Error::invalid_parameter(
                    "Only one of GlobalSecondaryIndexUpdate.Update, GlobalSecondaryIndexUpdate.Create, GlobalSecondaryIndexUpdate.Delete may be specified",
                ));
            }
        };
        if names.contains(&name) {
            return Err(Error::invalid_parameter(format_args!(
                "Only one global secondary index update per index is allowed simultaneously. Index: {name}"
            )));
        }
        names.push(name);
        out.push(update);
    }
    Ok(out)
}

#[async_trait]
impl Run for UpdateTable {
    const NAME: &'static str = "UpdateTable";

    fn parse(body: &[u8], scope: &Scope) -> Result<Self, Error> {
        let input: Input = wire::input(body)?;
        let updates = input.global_secondary_index_updates.as_deref().unwrap_or_default();
        let given = input.attribute_definitions.as_deref().unwrap_or_default();
        let mut constraints = Constraints::default();
        constraints
            .table(input.table_name.as_deref(), "tableName")
            .one_of(input.billing_mode.as_deref(), "billingMode", &BILLING_MODES)
            .one_of(input.table_class.as_deref(), "tableClass", &["STANDARD", "STANDARD_INFREQUENT_ACCESS"]);
        definitions_constraints(given, &mut constraints);
        if let Some(throughput) = input.provisioned_throughput {
            throughput.constraints(&mut constraints, "provisionedThroughput");
        }
        index_constraints(updates, &mut constraints);
        if let Some(stream) = &input.stream_specification {
            stream.constraints(&mut constraints);
        }
        constraints.finish()?;
        let nothing = input.billing_mode.is_none()
            && input.provisioned_throughput.is_none()
            && input.deletion_protection_enabled.is_none()
            && input.table_class.is_none()
            && input.stream_specification.is_none()
            && updates.is_empty();
        if nothing {
            return Err(Error::validation(
                "At least one of ProvisionedThroughput, BillingMode, UpdateStreamEnabled, GlobalSecondaryIndexUpdates or SSESpecification or ReplicaUpdates is required",
            ));
        }
        check_class(input.table_class.as_deref())?;
        let on_demand = input.billing_mode.as_deref() == Some("PAY_PER_REQUEST");
        if on_demand && input.provisioned_throughput.is_some() {
            return Err(not_on_demand());
        }
        if input.billing_mode.as_deref() == Some("PROVISIONED") && input.provisioned_throughput.is_none() {
            return Err(Error::invalid_parameter(
                "ProvisionedThroughput must be specified when BillingMode is PROVISIONED",
            ));
        }
        let provisioned = input.provisioned_throughput.map(Throughput::units).transpose()?;
        let definitions = definitions(given);
        let index = index_updates(updates, &definitions)?;
        let made_or_dropped =
            index.iter().filter(|update| !matches!(update, IndexUpdate::Throughput(..))).count();
        if made_or_dropped > 1 {
            return Err(one_index_at_a_time());
        }
        let stream = input.stream_specification.as_ref().map(StreamSpecification::view).transpose()?;
        Ok(Self {
            name: scope.table_name(&input.table_name.unwrap_or_default())?,
            on_demand,
            becomes_provisioned: input.billing_mode.as_deref() == Some("PROVISIONED"),
            provisioned,
            definitions,
            index,
            stream: stream.map(|view| view.map_or(StreamUpdate::Close, StreamUpdate::Open)),
            deletion_protection: input.deletion_protection_enabled,
            class_given: input.table_class.is_some(),
        })
    }

    async fn access(&self, _node: &Node, scope: &Scope) -> Vec<Access> {
        vec![Access::new("dynamodb:UpdateTable", scope.table_arn(&self.name))]
    }

    async fn run(self, node: &Node, scope: &Scope) -> Result<Vec<u8>, Error> {
        let (account, now, name) = (scope.account, node.env.now(), self.name.clone());
        let record = change_table(node, scope, &name, move |mut change| {
            self.change_billing(change.record, now)?;
            let most = 1_000_000_000_000;
            let too_much =
                |update: &IndexUpdate| matches!(update, IndexUpdate::Throughput(_, (r, w)) if r.max(w) > &most);
            if self.index.iter().any(too_much) {
                return Err(Error::validation(
                    "This operation cannot be performed with given input values. Please contact DynamoDB service team for more info: Action Blocked: IndexUpdate",
                ));
            }
            self.index.iter().try_for_each(|update| self.change_index(account, update, &mut change))?;
            let record = &mut *change.record;
            match self.stream {
                None => {}
                Some(StreamUpdate::Open(view)) if change.stream.is_none() => {
                    stream::open(account, record, view, now, change.version, change.writes);
                }
                Some(StreamUpdate::Open(_)) => {
                    return Err(Error::Validation(format!(
                        "Table already has an enabled stream: TableName: {}",
                        record.name
                    )));
                }
                Some(StreamUpdate::Close) => {
                    let stream = change.stream.take().ok_or_else(|| {
                        Error::Validation(format!(
                            "Table has no stream to disable: TableName: {}",
                            record.name
                        ))
                    })?;
                    stream::close(account, record, stream, now, change.version, change.writes);
                }
            }
            if let Some(protected) = self.deletion_protection {
                record.deletion_protection = protected;
            }
            record.class_given |= self.class_given;
            Ok(Fate::Changed)
        })
        .await?;
        // There may be an index to fill, or one to remove.
        node.dropped.notify_one();
        let sizes = measure(node, scope, &record).await?;
        Ok(document(&json!({ "TableDescription": description(&record, scope, &sizes, "ACTIVE") })))
    }
}

impl UpdateTable {
    fn change_billing(&self, record: &mut TableRecord, now: Timestamp) -> Result<(), Error> {
        if self.on_demand {
            if let Billing::Provisioned { .. } = record.billing {
                record.billing = Billing::PayPerRequest { since: now };
            }
            record.indexes.iter_mut().for_each(|index| index.throughput = None);
            return Ok(());
        }
        let Some((read_units, write_units)) = self.provisioned else { return Ok(()) };
        match record.billing {
            Billing::PayPerRequest { .. } if !self.becomes_provisioned => return Err(not_on_demand()),
            Billing::PayPerRequest { .. } => {
                let given = |name: &str| {
                    self.index.iter().any(
                        |update| matches!(update, IndexUpdate::Throughput(updated, _) if updated == name),
                    )
                };
                let global = record.indexes.iter().filter(|index| index.scope == IndexScope::Global);
                let missing: Vec<_> =
                    global.map(|index| index.name.as_str()).filter(|name| !given(name)).collect();
                if !missing.is_empty() {
                    return Err(Error::invalid_parameter(format_args!(
                        "ProvisionedThroughput must be specified for index: {}",
                        missing.join(",")
                    )));
                }
            }
            Billing::Provisioned { read_units: reads, write_units: writes } => {
                unchanged((reads, writes), (read_units, write_units))?;
                if read_units > reads || write_units > writes {
                    record.increased_at = Some(now);
                }
                if read_units < reads || write_units < writes {
                    record.decreased_at = Some(now);
                }
            }
        }
        record.billing = Billing::Provisioned { read_units, write_units };
        Ok(())
    }

    fn change_index(
        &self,
        account: AccountId,
        update: &IndexUpdate,
        change: &mut TableChange<'_>,
    ) -> Result<(), Error> {
        let record = &mut *change.record;
        let provisioned = matches!(record.billing, Billing::Provisioned { .. });
        let creating = record.indexes.iter().find(|index| index.state == IndexState::Creating);
        let creating = creating.map(|index| index.name.clone());
        let not_found = || Error::ResourceNotFound("Requested resource not found".into());
        let is_global =
            |index: &IndexRecord, name: &str| index.scope == IndexScope::Global && index.name == name;
        match update {
            IndexUpdate::Throughput(name, units) => {
                if !provisioned {
                    return Err(not_on_demand());
                }
                let index = record.indexes.iter_mut().find(|index| is_global(index, name));
                let index = index.ok_or_else(not_found)?;
                if let Some(current) = index.throughput {
                    unchanged(current, *units)?;
                }
                index.throughput = Some(*units);
            }
            IndexUpdate::Create(index, units) => {
                if creating.is_some() {
                    return Err(one_index_at_a_time());
                }
                if record.index(&index.name).is_some() {
                    return Err(Error::validation("Attempting to create an index which already exists"));
                }
                let global = record.indexes.iter().filter(|index| index.scope == IndexScope::Global).count();
                if global >= MAX_GLOBAL_INDEXES {
                    return Err(Error::LimitExceeded(format!(
                        "GlobalSecondaryIndex count exceeds the per-table limit of {MAX_GLOBAL_INDEXES}"
                    )));
                }
                let index = self.numbered(record, index, *units, provisioned)?;
                let backfill = Backfill {
                    account,
                    table: record.name.clone(),
                    id: record.id,
                    into: BackfillInto::Index(index.number),
                    from: None,
                };
                change.writes.push(BACKFILLS.put(backfill.key(), &backfill));
                record.indexes.push(index);
                check_included(&record.indexes)?;
            }
            IndexUpdate::Delete(name) => {
                if creating.as_ref().is_some_and(|creating| creating != name) {
                    return Err(one_index_at_a_time());
                }
                let at = record.indexes.iter().position(|index| is_global(index, name));
                let index = record.indexes.remove(at.ok_or_else(not_found)?);
                let dropped = Dropped { index: Some(index.number), ..Dropped::table(account, record.id) };
                change.writes.push(DROPPED.put(dropped.key(), &dropped));
                let backfill = Backfill {
                    account,
                    table: record.name.clone(),
                    id: record.id,
                    into: BackfillInto::Index(index.number),
                    from: None,
                };
                change.writes.push(Write::Delete(backfill.key()));
                forget_definitions(record);
            }
        }
        Ok(())
    }

    /// A new index with its number; its attributes become the table's.
    fn numbered(
        &self,
        record: &mut TableRecord,
        index: &IndexRecord,
        units: Option<(u64, u64)>,
        provisioned: bool,
    ) -> Result<IndexRecord, Error> {
        let name = &index.name;
        let throughput = match (units, provisioned) {
            (Some(units), true) => Some(units),
            (None, false) => None,
            (Some(_), false) => {
                return Err(Error::invalid_parameter(format_args!(
                    "ProvisionedThroughput should not be specified for index: {name} when BillingMode is PAY_PER_REQUEST"
                )));
            }
            (None, true) => {
                return Err(Error::invalid_parameter(format_args!(
                    "ProvisionedThroughput must be specified for index: {name}"
                )));
            }
        };
        let mut known: Vec<KeyAttribute> = record.definitions().into_iter().cloned().collect();
        for given in &self.definitions {
            match known.iter().find(|key| key.name == given.name) {
                None => known.push(given.clone()),
                Some(key) if key == given => {}
                Some(key) => {
                    let shown = |key: &KeyAttribute, is_partition: bool| {
                        let role = if is_partition { "HASH" } else { "RANGE" };
                        format!(
                            "Schema:[SchemaElement: key{{{}:{}:{role}}}]",
                            key.name,
                            key.kind.kind().name()
                        )
                    };
                    let partitions = || record.indexes.iter().flat_map(|index| &index.partition);
                    let was =
                        std::iter::once(&record.partition).chain(partitions()).any(|k| k.name == key.name);
                    let is = index.partition.iter().any(|k| k.name == key.name);
                    return Err(Error::invalid_parameter(format_args!(
                        "Attributes cannot be redefined. Please check that your attribute has the same type as previously defined. Existing schema: {} New schema: {}",
                        shown(key, was),
                        shown(given, is)
                    )));
                }
            }
        }
        let used = |key: &KeyAttribute| {
            let table = std::iter::once(&record.partition).chain(&record.sort);
            let mut keys = table.chain(record.indexes.iter().flat_map(IndexRecord::keys)).chain(index.keys());
            keys.any(|used| used.name == key.name)
        };
        let unused = known.iter().find(|key| !used(key));
        if let Some(key) = unused {
            return Err(Error::invalid_parameter(format_args!(
                "Some AttributeDefinitions are not used. AttributeDefinitions: [{}]",
                key.name
            )));
        }
        record.definitions = known;
        let number = record.next_index;
        // The rows of an index that is gone may still be there: a number is used once.
        record.next_index = number.checked_add(1).ok_or_else(|| {
            Error::LimitExceeded("This table has had as many indexes as a table can have".into())
        })?;
        Ok(IndexRecord { number, throughput, ..index.clone() })
    }
}

fn forget_definitions(record: &mut TableRecord) {
    let TableRecord { definitions, partition, sort, indexes, .. } = record;
    definitions.retain(|key| {
        let table = std::iter::once(&*partition).chain(&*sort);
        table.chain(indexes.iter().flat_map(IndexRecord::keys)).any(|used| used.name == key.name)
    });
}

fn not_on_demand() -> Error {
    Error::invalid_parameter(
        "Neither ReadCapacityUnits nor WriteCapacityUnits can be specified when BillingMode is PAY_PER_REQUEST",
    )
}

fn one_index_at_a_time() -> Error {
    Error::LimitExceeded(
        "Subscriber limit exceeded: Only 1 online index can be created or deleted simultaneously per table"
            .into(),
    )
}

/// Throughput must change if it is given.
fn unchanged(current: (u64, u64), requested: (u64, u64)) -> Result<(), Error> {
    if current != requested {
        return Ok(());
    }
    Err(Error::Validation(format!(
        "The provisioned throughput for the table will not change. The requested value equals the current value. Current ReadCapacityUnits provisioned for the table: {}. Requested ReadCapacityUnits: {}. Current WriteCapacityUnits provisioned for the table: {}. Requested WriteCapacityUnits: {}. Refer to the Amazon DynamoDB Developer Guide for current limits and how to request higher limits.",
        current.0, requested.0, current.1, requested.1
    )))
}
