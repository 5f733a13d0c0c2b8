//! Tables that are made as another was: from a backup, or at a point in time.
//!
//! A restored table is filled in the background, and is `CREATING` until it is whole.

use std::collections::HashSet;

use async_trait::async_trait;
use aws::Access;
use serde::Deserialize;
use serde_json::json;
use store::{Range, Read};
use types::{AccountId, RequestId, Timestamp};

use super::backups::BackupName;
use super::describe_table::{Sizes, description};
use super::recovery::earliest;
use super::schema::{IndexInput, Throughput};
use super::{Run, document};
use crate::Error;
use crate::history::{Past, version_of};
use crate::service::{Node, Scope};
use crate::tables::{
    Billing, IndexRecord, IndexScope, IndexState, RESTORES, Restore, Restored, TABLES, TableRecord,
    history_prefix, table_key,
};
use crate::wire::{self, Constraints};

/// Whether a restore is reading what that table holds.
pub(super) async fn restoring_from(node: &Node, id: u64) -> Result<bool, Error> {
    let mut range = RESTORES.range(AccountId::NODE, 100, |_| {});
    loop {
        let (rows, more) = RESTORES.scan(&node.store, range.clone()).await?;
        if rows.iter().any(|row| row.value.source == id) {
            return Ok(true);
        }
        match rows.last() {
            Some(last) if more => range.start = store::key::after(&last.key),
            _ => return Ok(false),
        }
    }
}

/// The parameters by which a restored table differs from its source.
struct Overrides {
    billing_mode: Option<String>,
    throughput: Option<Throughput>,
    global_indexes: Option<Vec<IndexInput>>,
    local_indexes: Option<Vec<IndexInput>>,
}

/// How a restored table differs from its source.
struct Target {
    name: String,
    billing: Option<Billing>,
    on_demand: bool,
    global_indexes: Option<Vec<IndexInput>>,
    local_indexes: Option<Vec<IndexInput>>,
}

impl Target {
    fn parse(
        name: Option<String>,
        overrides: Overrides,
        scope: &Scope,
        constraints: &mut Constraints,
    ) -> Result<Self, Error> {
        let Overrides { billing_mode: mode, throughput, global_indexes, local_indexes } = overrides;
        constraints.table(name.as_deref(), "targetTableName").one_of(
            mode.as_deref(),
            "billingModeOverride",
            &super::create_table::BILLING_MODES,
        );
        if let Some(throughput) = throughput {
            throughput.constraints(constraints, "provisionedThroughputOverride");
        }
        for (parameter, scope, indexes) in [
            ("globalSecondaryIndexOverride", IndexScope::Global, &global_indexes),
            ("localSecondaryIndexOverride", IndexScope::Local, &local_indexes),
        ] {
            for (nth, index) in (1..).zip(indexes.iter().flatten()) {
                index.constraints(scope, &format!("{parameter}.{nth}.member"), constraints);
            }
        }
        constraints.finish()?;
        let on_demand = mode.as_deref() == Some("PAY_PER_REQUEST");
        if on_demand && throughput.is_some() {
            return Err(Error::invalid_parameter(
                "Neither ReadCapacityUnits nor WriteCapacityUnits can be specified when BillingMode is PAY_PER_REQUEST",
            ));
        }
        if mode.as_deref() == Some("PROVISIONED") && throughput.is_none() {
            return Err(Error::invalid_parameter(
                "ProvisionedThroughputOverride must be specified when BillingModeOverride is PROVISIONED",
            ));
        }
        let billing = throughput.map(Throughput::billing).transpose()?;
        let name = scope.table_name(&name.unwrap_or_default())?;
        Ok(Self { name, billing, on_demand, global_indexes, local_indexes })
    }

    fn access(&self, scope: &Scope) -> Access {
        Access::new("dynamodb:CreateTable", scope.table_arn(&self.name))
    }

    /// The indexes that are named of a kind, if any are named.
    fn named(&self, scope: IndexScope) -> Option<&Vec<IndexInput>> {
        match scope {
            IndexScope::Global => self.global_indexes.as_ref(),
            IndexScope::Local => self.local_indexes.as_ref(),
        }
    }

    /// The indexes of the source that the table gets: all, or those that are named.
    fn indexes(&self, source: Vec<IndexRecord>, billing: Billing) -> Result<Vec<IndexRecord>, Error> {
        for scope in [IndexScope::Global, IndexScope::Local] {
            let mut seen = HashSet::new();
            for input in self.named(scope).into_iter().flatten() {
                let name = input.index_name.as_deref().unwrap_or_default();
                if !seen.insert(name) {
                    return Err(Error::invalid_parameter(format_args!("Duplicate index name: {name}")));
                }
                let index = source.iter().find(|index| index.scope == scope && index.name == name);
                if !index.is_some_and(|index| input.is_as(index)) {
                    return Err(Error::invalid_parameter(format_args!(
                        "The index {name} to restore does not match an index of the source table"
                    )));
                }
            }
        }
        let provisioned = match billing {
            Billing::PayPerRequest { .. } => None,
            Billing::Provisioned { read_units, write_units } => Some((read_units, write_units)),
        };
        let mut kept = Vec::with_capacity(source.len());
        for mut index in source {
            let named = self.named(index.scope);
            let input = named
                .into_iter()
                .flatten()
                .find(|input| input.index_name.as_deref() == Some(index.name.as_str()));
            if named.is_some() && input.is_none() {
                continue;
            }
            if index.scope == IndexScope::Global {
                let own = input.and_then(|input| input.provisioned_throughput).map(Throughput::units);
                let own = own.transpose()?.or(index.throughput);
                index.throughput = provisioned.map(|table| own.unwrap_or(table));
                // Items enter it as they come.
                index.state = IndexState::Active;
            }
            kept.push(index);
        }
        Ok(kept)
    }
}

/// Begins to restore a table as another was at a commit; without one, as it is now.
async fn restore(
    node: &Node,
    scope: &Scope,
    target: Target,
    source: TableRecord,
    at: Option<u64>,
    restored: Restored,
) -> Result<Vec<u8>, Error> {
    let (account, now) = (scope.account, node.env.now());
    let source_id = source.id;
    let mut billing = target.billing.unwrap_or(source.billing);
    if target.on_demand {
        billing = Billing::PayPerRequest { since: now };
    }
    let indexes = target.indexes(source.indexes, billing)?;
    let mut definitions = source.definitions;
    definitions.retain(|attribute| {
        let own = std::iter::once(&source.partition).chain(&source.sort);
        let mut keys = own.chain(indexes.iter().flat_map(IndexRecord::keys));
        keys.any(|key| key.name == attribute.name)
    });
    let record = TableRecord {
        name: target.name.clone(),
        id: 0,
        uuid: RequestId::new(&*node.env).to_string(),
        created_at: now,
        partition: source.partition,
        sort: source.sort,
        billing,
        deletion_protection: false,
        class_given: source.class_given,
        tags: std::collections::BTreeMap::new(),
        definitions,
        indexes,
        next_index: source.next_index,
        stream: None,
        ttl: None,
        backups: Vec::new(),
        recovery: None,
        restored: Some(restored),
        importing: false,
        collections: true,
        increased_at: None,
        decreased_at: None,
        policy: None,
    };
    let key = table_key(account, &target.name);
    let record = node
        .store
        .transact(vec![Read::Key(key.clone())], move |pages, version| {
            if pages[0].first().is_some() {
                return Err(Error::TableAlreadyExists(format!("Table already exists: {}", record.name)));
            }
            let record = TableRecord { id: version.0, ..record.clone() };
            let job = Restore {
                account,
                table: record.name.clone(),
                id: record.id,
                source: source_id,
                version: at.unwrap_or(version.0),
                in_history: false,
                from: None,
            };
            let writes = vec![TABLES.put(key.clone(), &record), RESTORES.put(job.key(), &job)];
            Ok((writes, record))
        })
        .await?;
    node.dropped.notify_one();
    let description = description(&record, scope, &Sizes::default(), "CREATING");
    Ok(document(&json!({ "TableDescription": description })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct FromBackupInput {
    target_table_name: Option<String>,
    backup_arn: Option<String>,
    billing_mode_override: Option<String>,
    provisioned_throughput_override: Option<Throughput>,
    global_secondary_index_override: Option<Vec<IndexInput>>,
    local_secondary_index_override: Option<Vec<IndexInput>>,
}

/// Makes a table as a backup has it.
pub(crate) struct RestoreTableFromBackup {
    backup: BackupName,
    target: Target,
}

#[async_trait]
impl Run for RestoreTableFromBackup {
    const NAME: &'static str = "RestoreTableFromBackup";

    fn parse(body: &[u8], scope: &Scope) -> Result<Self, Error> {
        let input: FromBackupInput = wire::input(body)?;
        let mut constraints = Constraints::default();
        constraints.required(input.backup_arn.as_ref(), "backupArn");
        let overrides = Overrides {
            billing_mode: input.billing_mode_override,
            throughput: input.provisioned_throughput_override,
            global_indexes: input.global_secondary_index_override,
            local_indexes: input.local_secondary_index_override,
        };
        let target = Target::parse(input.target_table_name, overrides, scope, &mut constraints)?;
        Ok(Self { backup: BackupName::parse(input.backup_arn, "backupArn", scope)?, target })
    }

    async fn access(&self, _node: &Node, scope: &Scope) -> Vec<Access> {
        let mut needs = self.backup.access("dynamodb:RestoreTableFromBackup");
        needs.push(self.target.access(scope));
        needs
    }

    async fn run(self, node: &Node, scope: &Scope) -> Result<Vec<u8>, Error> {
        let backup = self.backup.find(node, scope.account).await?;
        let restored = Restored {
            source_arn: scope.table_arn(&backup.table.name),
            backup_arn: Some(self.backup.arn),
            at: backup.created_at,
            in_progress: true,
        };
        restore(node, scope, self.target, backup.table, Some(backup.version), restored).await
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct ToPointInput {
    source_table_name: Option<String>,
    source_table_arn: Option<String>,
    target_table_name: Option<String>,
    use_latest_restorable_time: Option<bool>,
    restore_date_time: Option<f64>,
    billing_mode_override: Option<String>,
    provisioned_throughput_override: Option<Throughput>,
    global_secondary_index_override: Option<Vec<IndexInput>>,
    local_secondary_index_override: Option<Vec<IndexInput>>,
}

/// Makes a table as another was at a time.
pub(crate) struct RestoreTableToPointInTime {
    source: String,
    /// Without one, as it is now.
    at: Option<Timestamp>,
    target: Target,
}

#[async_trait]
impl Run for RestoreTableToPointInTime {
    const NAME: &'static str = "RestoreTableToPointInTime";

    fn parse(body: &[u8], scope: &Scope) -> Result<Self, Error> {
        let input: ToPointInput = wire::input(body)?;
        let overrides = Overrides {
            billing_mode: input.billing_mode_override,
            throughput: input.provisioned_throughput_override,
            global_indexes: input.global_secondary_index_override,
            local_indexes: input.local_secondary_index_override,
        };
        let target = Target::parse(input.target_table_name, overrides, scope, &mut Constraints::default())?;
        let source = match (input.source_table_name, input.source_table_arn) {
            (Some(name), None) | (None, Some(name)) => scope.table_name(&name)?,
            _ => {
                return Err(Error::validation(
                    "Either the SourceTableName or SourceTableArn parameter must be specified in the request.",
                ));
            }
        };
        let at = match (input.restore_date_time, input.use_latest_restorable_time == Some(true)) {
            (None, true) => None,
            (Some(seconds), false) => {
                let at = Timestamp::from_millisecond((seconds * 1000.0) as i64);
                Some(at.map_err(|_| Error::validation("Invalid RestoreDateTime"))?)
            }
            _ => {
                return Err(Error::validation(
                    "Either the RestoreDateTime or UseLatestRestorableTime parameter must be specified in the request.",
                ));
            }
        };
        Ok(Self { source, at, target })
    }

    async fn access(&self, _node: &Node, scope: &Scope) -> Vec<Access> {
        let source = Access::new("dynamodb:RestoreTableToPointInTime", scope.table_arn(&self.source));
        vec![source, self.target.access(scope)]
    }

    async fn run(self, node: &Node, scope: &Scope) -> Result<Vec<u8>, Error> {
        let (account, now) = (scope.account, node.env.now());
        let row = TABLES.get(&node.store, table_key(account, &self.source)).await?;
        let row = row.ok_or_else(|| Error::TableNotFound(format!("Table not found: {}", self.source)))?;
        let recovery = row.value.recovery.ok_or_else(|| Error::RecoveryUnavailable(self.source.clone()))?;
        let version = match self.at {
            None => None,
            Some(at) => {
                let from = earliest(recovery, now);
                // Clients round to seconds.
                if at > now || at.as_second() < from.as_second() {
                    return Err(Error::InvalidRestoreTime(format!(
                        "RestoreDateTime must be between {from} and {now}"
                    )));
                }
                commit_at(node, account, row.value.id, recovery.version, at).await?
            }
        };
        let restored = Restored {
            source_arn: scope.table_arn(&self.source),
            backup_arn: None,
            at: self.at.unwrap_or(now),
            in_progress: true,
        };
        restore(node, scope, self.target, row.value, version, restored).await
    }
}

/// The last commit up to a time; none if nothing has changed since. Every change has left a row, in the order of
/// commits, with its time.
pub(super) async fn commit_at(
    node: &Node,
    account: AccountId,
    id: u64,
    from: u64,
    at: Timestamp,
) -> Result<Option<u64>, Error> {
    let end = store::key::prefix_end(&history_prefix(account, id).finish());
    let first_from = async |version: u64| -> Result<Option<(u64, Timestamp)>, Error> {
        let mut start = history_prefix(account, id);
        start.u64(version);
        let range =
            Range { start: start.finish(), end: end.clone(), limit: 1, limit_bytes: 1, reverse: false };
        let page = node.store.scan(range).await?;
        let Some(entry) = page.first() else { return Ok(None) };
        Ok(Some((version_of(&entry.key)?, Past::decode(&entry.value)?.at)))
    };
    let range = Range {
        start: history_prefix(account, id).finish(),
        end: end.clone(),
        limit: 1,
        limit_bytes: 1,
        reverse: true,
    };
    let page = node.store.scan(range).await?;
    let Some(last) = page.first() else { return Ok(None) };
    if Past::decode(&last.value)?.at <= at {
        return Ok(None);
    }
    // The first row that is later, by halves.
    let (mut low, mut high) = (from, version_of(&last.key)?);
    while low < high {
        let middle = low + (high - low) / 2;
        match first_from(middle).await? {
            Some((version, time)) if time <= at => low = version + 1,
            _ => high = middle,
        }
    }
    let later = first_from(low).await?.map_or(low, |(version, _)| version);
    Ok(Some(later.saturating_sub(1)))
}
