//! Backups: made, described, listed and deleted.
//!
//! A backup is made at once: it is the number of a commit, and from then on what the table was is kept.

use async_trait::async_trait;
use aws::Access;
use serde::Deserialize;
use serde_json::{Value, json};
use store::{Key, Read, Write};
use types::{AccountId, RequestId};

use super::describe_table::{Sizes, description, measure, seconds};
use super::restore::restoring_from;
use super::table_arn::TableArn;
use super::table_change::{Fate, change_table};
use super::{Run, document};
use crate::Error;
use crate::service::{Node, Scope};
use crate::tables::{BACKUPS, BackupRecord, Billing, DROPPED, Dropped, TABLES, backup_key, table_key};
use crate::wire::{self, Constraints};

/// A backup's ARN, taken apart.
#[derive(Debug, Clone)]
pub(super) struct BackupName {
    pub(super) arn: String,
    table: String,
    id: String,
}

impl BackupName {
    pub(super) fn parse(arn: Option<String>, at: &str, scope: &Scope) -> Result<Self, Error> {
        let TableArn { arn, table, id } = TableArn::parse(arn, at, "backup", "BackupArn", scope)?;
        let name = Self { arn, table, id };
        if name.arn != backup_arn(scope, &name.table, &name.id) {
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

    pub(super) fn access(&self, action: &'static str) -> Vec<Access> {
        vec![Access::new(action, self.arn.clone())]
    }

    pub(super) async fn find(&self, node: &Node, account: AccountId) -> Result<BackupRecord, Error> {
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

pub(super) fn table_not_found(error: Error, name: &str) -> Error {
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
