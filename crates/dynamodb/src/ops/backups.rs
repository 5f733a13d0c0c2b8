//! Backups, recovery to a point in time, and restoring from either.
//!
//! A backup is made at once: it is the number of a commit, and from then on what the table was is kept. A restored
//! table is filled in the background, and is `CREATING` until it is whole.

use std::time::Duration;

use async_trait::async_trait;
use aws::Access;
use serde::Deserialize;
use serde_json::{Value, json};
use store::{Key, Range, Read, Write};
use types::{AccountId, RequestId, Timestamp};

use super::describe_table::{Sizes, description, measure, seconds, table_name};
use super::schema::Throughput;
use super::table_change::{Fate, change_table};
use super::{Run, document};
use crate::Error;
use crate::history::{Past, version_of};
use crate::service::{Node, Scope};
use crate::tables::{
    BACKUPS, BackupRecord, Billing, DROPPED, Dropped, IndexScope, IndexState, RESTORES, Recovery, Restore,
    Restored, TABLES, TableRecord, backup_key, history_prefix, table_key,
};
use crate::wire::{self, Constraints};

/// How many days back a table can be recovered.
const MAX_DAYS: i64 = 35;

const DAY: Duration = Duration::from_secs(24 * 3600);

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

/// A backup's ARN, taken apart.
#[derive(Debug, Clone)]
struct BackupName {
    arn: String,
    table: String,
    id: String,
}

impl BackupName {
    fn parse(arn: Option<String>, at: &str, scope: &Scope) -> Result<Self, Error> {
        let mut constraints = Constraints::default();
        constraints.required(arn.as_ref(), at);
        let arn = arn.unwrap_or_default();
        if !constraints.any() {
            constraints.text_len(&arn, at, 37, 1024);
        }
        constraints.finish()?;
        let invalid = || Error::Validation(format!("Invalid BackupArn: {arn}"));
        let parsed: types::Arn = arn.parse().map_err(|_| invalid())?;
        let rest = parsed.resource.strip_prefix("table/").ok_or_else(invalid)?;
        let (table, id) = rest.split_once("/backup/").ok_or_else(invalid)?;
        let name = Self { table: scope.table_name(table)?, id: id.to_owned(), arn: arn.clone() };
        if arn != backup_arn(scope, &name.table, &name.id) {
            return Err(name.missing());
        }
        Ok(name)
    }

    fn missing(&self) -> Error {
        Error::BackupNotFound(format!("Backup not found: {}", self.arn))
    }

    fn key(&self, account: AccountId) -> Key {
        backup_key(account, &self.table, &self.id)
    }

    fn access(&self, action: &'static str) -> Vec<Access> {
        vec![Access::new(action, self.arn.clone())]
    }

    async fn find(&self, node: &Node, account: AccountId) -> Result<BackupRecord, Error> {
        let row = BACKUPS.get(&node.store, self.key(account)).await?;
        row.map(|row| row.value).ok_or_else(|| self.missing())
    }
}

fn backup_arn(scope: &Scope, table: &str, id: &str) -> String {
    format!("{}/backup/{id}", scope.table_arn(table))
}

fn details(backup: &BackupRecord, scope: &Scope, status: &str) -> Value {
    json!({
        "BackupArn": backup_arn(scope, &backup.table.name, &backup.id),
        "BackupName": backup.name,
        "BackupSizeBytes": backup.size_bytes,
        "BackupStatus": status,
        "BackupType": "USER",
        "BackupCreationDateTime": seconds(backup.created_at),
    })
}

fn backup_description(backup: &BackupRecord, scope: &Scope, status: &str) -> Value {
    let table = description(&backup.table, scope, &Sizes::default(), "ACTIVE");
    let mut source = json!({
        "TableName": backup.table.name,
        "TableId": backup.table.uuid,
        "TableArn": table["TableArn"],
        "TableSizeBytes": backup.size_bytes,
        "KeySchema": table["KeySchema"],
        "TableCreationDateTime": table["CreationDateTime"],
        "ItemCount": backup.items,
        "BillingMode": match backup.table.billing {
            Billing::PayPerRequest { .. } => "PAY_PER_REQUEST",
            Billing::Provisioned { .. } => "PROVISIONED",
        },
    });
    source["ProvisionedThroughput"] = json!({
        "ReadCapacityUnits": table["ProvisionedThroughput"]["ReadCapacityUnits"],
        "WriteCapacityUnits": table["ProvisionedThroughput"]["WriteCapacityUnits"],
    });
    let mut features = json!({});
    for member in ["LocalSecondaryIndexes", "GlobalSecondaryIndexes"] {
        let indexes = table[member].as_array().into_iter().flatten();
        let kept: Vec<_> = indexes
            .map(|index| {
                let mut out = json!({});
                for name in ["IndexName", "KeySchema", "Projection", "ProvisionedThroughput"] {
                    if !index[name].is_null() {
                        out[name] = index[name].clone();
                    }
                }
                out
            })
            .collect();
        if !kept.is_empty() {
            features[member] = json!(kept);
        }
    }
    if !table["StreamSpecification"].is_null() {
        features["StreamDescription"] = table["StreamSpecification"].clone();
    }
    if let Some(attribute) = &backup.table.ttl {
        features["TimeToLiveDescription"] =
            json!({"TimeToLiveStatus": "ENABLED", "AttributeName": attribute});
    }
    json!({
        "BackupDetails": details(backup, scope, status),
        "SourceTableDetails": source,
        "SourceTableFeatureDetails": features,
    })
}

fn table_not_found(error: Error, name: &str) -> Error {
    match error {
        Error::ResourceNotFound(_) => Error::TableNotFound(format!("Table not found: {name}")),
        other => other,
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct CreateInput {
    table_name: Option<String>,
    backup_name: Option<String>,
}

/// Makes a backup.
pub(crate) struct CreateBackup {
    table: String,
    name: String,
}

#[async_trait]
impl Run for CreateBackup {
    const NAME: &'static str = "CreateBackup";

    fn parse(body: &[u8], scope: &Scope) -> Result<Self, Error> {
        let input: CreateInput = wire::input(body)?;
        let mut constraints = Constraints::default();
        constraints
            .table(input.table_name.as_deref(), "tableName")
            .required(input.backup_name.as_ref(), "backupName");
        if let Some(name) = &input.backup_name {
            constraints.pattern(name, "backupName", "[a-zA-Z0-9_.-]+", |b| {
                b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-')
            });
            constraints.text_len(name, "backupName", 3, 255);
        }
        constraints.finish()?;
        Ok(Self {
            table: scope.table_name(&input.table_name.unwrap_or_default())?,
            name: input.backup_name.unwrap_or_default(),
        })
    }

    async fn access(&self, _node: &Node, scope: &Scope) -> Vec<Access> {
        vec![Access::new("dynamodb:CreateBackup", scope.table_arn(&self.table))]
    }

    async fn run(self, node: &Node, scope: &Scope) -> Result<Vec<u8>, Error> {
        let (account, now) = (scope.account, node.env.now());
        let row = TABLES.get(&node.store, table_key(account, &self.table)).await?;
        let row = row.ok_or_else(|| Error::TableNotFound(format!("Table not found: {}", self.table)))?;
        if row.value.is_filling() {
            return Err(Error::TableNotFound(format!("Table not found: {}", self.table)));
        }
        let sizes = measure(node, scope, &row.value).await?;
        let random = RequestId::new(&*node.env).to_string();
        let id = format!("{:014}-{}", now.as_millisecond(), &random[..8]);
        let backup = BackupRecord {
            id,
            name: self.name,
            created_at: now,
            version: 0,
            table: row.value,
            items: sizes.table.items,
            size_bytes: sizes.table.bytes,
        };
        let made = backup.clone();
        change_table(node, scope, &self.table, move |change| {
            change.record.backups.push(change.version);
            let backup =
                BackupRecord { version: change.version, table: change.record.clone(), ..made.clone() };
            change.writes.push(BACKUPS.put(backup.key(account), &backup));
            Ok(Fate::Changed)
        })
        .await
        .map_err(|error| table_not_found(error, &self.table))?;
        Ok(document(&json!({"BackupDetails": details(&backup, scope, "AVAILABLE")})))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct BackupInput {
    backup_arn: Option<String>,
}

/// Describes a backup.
pub(crate) struct DescribeBackup {
    backup: BackupName,
}

#[async_trait]
impl Run for DescribeBackup {
    const NAME: &'static str = "DescribeBackup";

    fn parse(body: &[u8], scope: &Scope) -> Result<Self, Error> {
        let input: BackupInput = wire::input(body)?;
        Ok(Self { backup: BackupName::parse(input.backup_arn, "backupArn", scope)? })
    }

    async fn access(&self, _node: &Node, _scope: &Scope) -> Vec<Access> {
        self.backup.access("dynamodb:DescribeBackup")
    }

    async fn run(self, node: &Node, scope: &Scope) -> Result<Vec<u8>, Error> {
        let backup = self.backup.find(node, scope.account).await?;
        Ok(document(&json!({"BackupDescription": backup_description(&backup, scope, "AVAILABLE")})))
    }
}

/// Deletes a backup, and with the last of a deleted table its items.
pub(crate) struct DeleteBackup {
    backup: BackupName,
}

#[async_trait]
impl Run for DeleteBackup {
    const NAME: &'static str = "DeleteBackup";

    fn parse(body: &[u8], scope: &Scope) -> Result<Self, Error> {
        let input: BackupInput = wire::input(body)?;
        Ok(Self { backup: BackupName::parse(input.backup_arn, "backupArn", scope)? })
    }

    async fn access(&self, _node: &Node, _scope: &Scope) -> Vec<Access> {
        self.backup.access("dynamodb:DeleteBackup")
    }

    async fn run(self, node: &Node, scope: &Scope) -> Result<Vec<u8>, Error> {
        let account = scope.account;
        let found = self.backup.find(node, account).await?;
        if restoring_from(node, found.table.id).await? {
            return Err(Error::BackupInUse(format!("Backup is being restored: {}", self.backup.arn)));
        }
        let own = self.backup.key(account);
        let table = table_key(account, &self.backup.table);
        let siblings = BACKUPS.range(account, usize::MAX, |k| {
            k.text(&self.backup.table);
        });
        let reads = vec![Read::Key(own.clone()), Read::Key(table.clone()), Read::Range(siblings)];
        let missing = self.backup.missing();
        let backup = node
            .store
            .transact(reads, move |pages, version| {
                let backup = BACKUPS.first(&pages[0])?.ok_or_else(|| missing.clone())?.value;
                let id = backup.table.id;
                let mut writes = vec![Write::Delete(own.clone())];
                let mut others = 0;
                for entry in &pages[2].entries {
                    let other = BACKUPS.decode(entry)?.value;
                    others += usize::from(other.table.id == id && other.id != backup.id);
                }
                match TABLES.first(&pages[1])?.filter(|row| row.value.id == id) {
                    Some(row) => {
                        let mut record = row.value;
                        record.backups.retain(|made| *made != backup.version);
                        if record.backups.is_empty() && record.recovery.is_none() {
                            let history = Some(version.0);
                            let dropped = Dropped { history_until: history, ..Dropped::table(account, id) };
                            writes.push(DROPPED.put(dropped.key(), &dropped));
                        }
                        writes.push(TABLES.put(table.clone(), &record));
                    }
                    None if others == 0 => {
                        let dropped = Dropped::table(account, id);
                        writes.push(DROPPED.put(dropped.key(), &dropped));
                    }
                    None => {}
                }
                Ok::<_, Error>((writes, backup))
            })
            .await?;
        node.cache.forget(account, &self.backup.table);
        node.dropped.notify_one();
        Ok(document(&json!({"BackupDescription": backup_description(&backup, scope, "DELETED")})))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct ListInput {
    table_name: Option<String>,
    limit: Option<i64>,
    time_range_lower_bound: Option<f64>,
    time_range_upper_bound: Option<f64>,
    exclusive_start_backup_arn: Option<String>,
    backup_type: Option<String>,
}

/// Lists backups, of one table or all.
pub(crate) struct ListBackups {
    table: Option<String>,
    limit: usize,
    from_s: f64,
    to_s: f64,
    after: Option<BackupName>,
    /// There are none of the kind that is asked for.
    none: bool,
}

#[async_trait]
impl Run for ListBackups {
    const NAME: &'static str = "ListBackups";

    fn parse(body: &[u8], scope: &Scope) -> Result<Self, Error> {
        let input: ListInput = wire::input(body)?;
        let mut constraints = Constraints::default();
        if let Some(name) = &input.table_name {
            constraints.table(Some(name), "tableName");
        }
        constraints.range(input.limit, "limit", 1, 100).one_of(
            input.backup_type.as_deref(),
            "backupType",
            &["USER", "SYSTEM", "AWS_BACKUP", "ALL"],
        );
        constraints.finish()?;
        let after = input.exclusive_start_backup_arn;
        let after = after.map(|arn| BackupName::parse(Some(arn), "exclusiveStartBackupArn", scope));
        Ok(Self {
            table: input.table_name.map(|name| scope.table_name(&name)).transpose()?,
            limit: usize::try_from(input.limit.unwrap_or(100)).unwrap_or(100),
            from_s: input.time_range_lower_bound.unwrap_or(f64::MIN),
            to_s: input.time_range_upper_bound.unwrap_or(f64::MAX),
            after: after.transpose()?,
            none: matches!(input.backup_type.as_deref(), Some("SYSTEM" | "AWS_BACKUP")),
        })
    }

    async fn access(&self, _node: &Node, _scope: &Scope) -> Vec<Access> {
        vec![Access::new("dynamodb:ListBackups", "*")]
    }

    async fn run(self, node: &Node, scope: &Scope) -> Result<Vec<u8>, Error> {
        let account = scope.account;
        let mut range = BACKUPS.range(account, 100, |k| {
            if let Some(table) = &self.table {
                k.text(table);
            }
        });
        if let Some(after) = &self.after {
            range.start = range.start.max(store::key::after(&after.key(account)));
        }
        let mut found: Vec<BackupRecord> = Vec::new();
        let mut more = false;
        while !self.none && range.start < range.end {
            let (rows, left) = BACKUPS.scan(&node.store, range.clone()).await?;
            for row in &rows {
                let created_s = seconds(row.value.created_at);
                if created_s < self.from_s || created_s >= self.to_s {
                    continue;
                }
                more = found.len() == self.limit;
                if more {
                    break;
                }
                found.push(row.value.clone());
            }
            match rows.last() {
                Some(last) if left && !more => range.start = store::key::after(&last.key),
                _ => break,
            }
        }
        let mut out = json!({"BackupSummaries": found.iter().map(|backup| {
            let mut summary = details(backup, scope, "AVAILABLE");
            summary["TableName"] = json!(backup.table.name);
            summary["TableId"] = json!(backup.table.uuid);
            summary["TableArn"] = json!(scope.table_arn(&backup.table.name));
            summary
        }).collect::<Vec<_>>()});
        if let Some(last) = found.last().filter(|_| more) {
            out["LastEvaluatedBackupArn"] = json!(backup_arn(scope, &last.table.name, &last.id));
        }
        Ok(document(&out))
    }
}

fn recovery_description(recovery: Option<Recovery>, now: Timestamp) -> Value {
    let point = match recovery {
        None => json!({"PointInTimeRecoveryStatus": "DISABLED"}),
        Some(recovery) => json!({
            "PointInTimeRecoveryStatus": "ENABLED",
            "RecoveryPeriodInDays": recovery.days,
            "EarliestRestorableDateTime": seconds(earliest(recovery, now)),
            "LatestRestorableDateTime": seconds(now),
        }),
    };
    json!({"ContinuousBackupsDescription": {
        "ContinuousBackupsStatus": "ENABLED",
        "PointInTimeRecoveryDescription": point,
    }})
}

pub(super) fn earliest(recovery: Recovery, now: Timestamp) -> Timestamp {
    recovery.since.max(now - DAY * recovery.days)
}

/// Says whether a table can be recovered to a point in time, and to which.
pub(crate) struct DescribeContinuousBackups {
    name: String,
}

#[async_trait]
impl Run for DescribeContinuousBackups {
    const NAME: &'static str = "DescribeContinuousBackups";

    fn parse(body: &[u8], scope: &Scope) -> Result<Self, Error> {
        Ok(Self { name: table_name(body, scope)? })
    }

    async fn access(&self, _node: &Node, scope: &Scope) -> Vec<Access> {
        vec![Access::new("dynamodb:DescribeContinuousBackups", scope.table_arn(&self.name))]
    }

    async fn run(self, node: &Node, scope: &Scope) -> Result<Vec<u8>, Error> {
        let found = TABLES.get(&node.store, table_key(scope.account, &self.name)).await?;
        let found = found.ok_or_else(|| Error::TableNotFound(format!("Table not found: {}", self.name)))?;
        Ok(document(&recovery_description(found.value.recovery, node.env.now())))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct UpdateInput {
    table_name: Option<String>,
    point_in_time_recovery_specification: Option<RecoverySpecification>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct RecoverySpecification {
    point_in_time_recovery_enabled: Option<bool>,
    recovery_period_in_days: Option<i64>,
}

/// Turns recovery to a point in time on or off.
pub(crate) struct UpdateContinuousBackups {
    table: String,
    enabled: bool,
    days: u32,
}

#[async_trait]
impl Run for UpdateContinuousBackups {
    const NAME: &'static str = "UpdateContinuousBackups";

    fn parse(body: &[u8], scope: &Scope) -> Result<Self, Error> {
        let input: UpdateInput = wire::input(body)?;
        let at = "pointInTimeRecoverySpecification";
        let mut constraints = Constraints::default();
        let specification = input.point_in_time_recovery_specification;
        constraints.table(input.table_name.as_deref(), "tableName").required(specification.as_ref(), at);
        let (enabled, days) = specification
            .map_or((None, None), |s| (s.point_in_time_recovery_enabled, s.recovery_period_in_days));
        if !constraints.any() {
            constraints.required(enabled.as_ref(), &format!("{at}.pointInTimeRecoveryEnabled")).range(
                days,
                &format!("{at}.recoveryPeriodInDays"),
                1,
                MAX_DAYS,
            );
        }
        constraints.finish()?;
        Ok(Self {
            table: scope.table_name(&input.table_name.unwrap_or_default())?,
            enabled: enabled.unwrap_or_default(),
            days: u32::try_from(days.unwrap_or(MAX_DAYS)).unwrap_or(35),
        })
    }

    async fn access(&self, _node: &Node, scope: &Scope) -> Vec<Access> {
        vec![Access::new("dynamodb:UpdateContinuousBackups", scope.table_arn(&self.table))]
    }

    async fn run(self, node: &Node, scope: &Scope) -> Result<Vec<u8>, Error> {
        let (account, now) = (scope.account, node.env.now());
        let (enabled, days) = (self.enabled, self.days);
        let record = change_table(node, scope, &self.table, move |change| {
            let record = change.record;
            record.recovery = match (record.recovery, enabled) {
                (_, false) => {
                    if record.backups.is_empty() {
                        let history = Some(change.version);
                        let dropped =
                            Dropped { history_until: history, ..Dropped::table(account, record.id) };
                        change.writes.push(DROPPED.put(dropped.key(), &dropped));
                    }
                    None
                }
                (Some(recovery), true) => Some(Recovery { days, ..recovery }),
                (None, true) => Some(Recovery { since: now, version: change.version, days }),
            };
            Ok(Fate::Changed)
        })
        .await
        .map_err(|error| table_not_found(error, &self.table))?;
        node.dropped.notify_one();
        Ok(document(&recovery_description(record.recovery, now)))
    }
}

/// How a restored table differs from its source.
struct Target {
    name: String,
    billing: Option<Billing>,
}

impl Target {
    fn parse(
        name: Option<String>,
        mode: Option<String>,
        throughput: Option<Throughput>,
        scope: &Scope,
        constraints: &mut Constraints,
    ) -> Result<(Self, bool), Error> {
        constraints.table(name.as_deref(), "targetTableName").one_of(
            mode.as_deref(),
            "billingModeOverride",
            &super::create_table::BILLING_MODES,
        );
        if let Some(throughput) = throughput {
            throughput.constraints(constraints, "provisionedThroughputOverride");
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
        Ok((Self { name: scope.table_name(&name.unwrap_or_default())?, billing }, on_demand))
    }

    fn access(&self, scope: &Scope) -> Access {
        Access::new("dynamodb:CreateTable", scope.table_arn(&self.name))
    }
}

/// Begins to restore a table as another was at a commit; without one, as it is now.
async fn restore(
    node: &Node,
    scope: &Scope,
    (target, on_demand): (Target, bool),
    source: TableRecord,
    at: Option<u64>,
    restored: Restored,
) -> Result<Vec<u8>, Error> {
    let (account, now) = (scope.account, node.env.now());
    let source_id = source.id;
    let mut billing = target.billing.unwrap_or(source.billing);
    if on_demand {
        billing = Billing::PayPerRequest { since: now };
    }
    let provisioned = match billing {
        Billing::PayPerRequest { .. } => None,
        Billing::Provisioned { read_units, write_units } => Some((read_units, write_units)),
    };
    let mut indexes = source.indexes;
    for index in indexes.iter_mut().filter(|index| index.scope == IndexScope::Global) {
        index.throughput = provisioned.map(|table| index.throughput.unwrap_or(table));
        // Items enter it as they come.
        index.state = IndexState::Active;
    }
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
        definitions: source.definitions,
        indexes,
        next_index: source.next_index,
        stream: None,
        ttl: None,
        backups: Vec::new(),
        recovery: None,
        restored: Some(restored),
        importing: false,
        increased_at: None,
        decreased_at: None,
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
}

/// Makes a table as a backup has it.
pub(crate) struct RestoreTableFromBackup {
    backup: BackupName,
    target: Target,
    on_demand: bool,
}

#[async_trait]
impl Run for RestoreTableFromBackup {
    const NAME: &'static str = "RestoreTableFromBackup";

    fn parse(body: &[u8], scope: &Scope) -> Result<Self, Error> {
        let input: FromBackupInput = wire::input(body)?;
        let mut constraints = Constraints::default();
        constraints.required(input.backup_arn.as_ref(), "backupArn");
        let (target, on_demand) = Target::parse(
            input.target_table_name,
            input.billing_mode_override,
            input.provisioned_throughput_override,
            scope,
            &mut constraints,
        )?;
        Ok(Self { backup: BackupName::parse(input.backup_arn, "backupArn", scope)?, target, on_demand })
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
        let target = (self.target, self.on_demand);
        restore(node, scope, target, backup.table, Some(backup.version), restored).await
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
}

/// Makes a table as another was at a time.
pub(crate) struct RestoreTableToPointInTime {
    source: String,
    /// Without one, as it is now.
    at: Option<Timestamp>,
    target: Target,
    on_demand: bool,
}

#[async_trait]
impl Run for RestoreTableToPointInTime {
    const NAME: &'static str = "RestoreTableToPointInTime";

    fn parse(body: &[u8], scope: &Scope) -> Result<Self, Error> {
        let input: ToPointInput = wire::input(body)?;
        let (target, on_demand) = Target::parse(
            input.target_table_name,
            input.billing_mode_override,
            input.provisioned_throughput_override,
            scope,
            &mut Constraints::default(),
        )?;
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
        Ok(Self { source, at, target, on_demand })
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
        restore(node, scope, (self.target, self.on_demand), row.value, version, restored).await
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
