//! Recovery to a point in time: whether a table can be recovered, and to which.

use std::time::Duration;

use async_trait::async_trait;
use aws::Access;
use serde::Deserialize;
use serde_json::{Value, json};
use types::Timestamp;

use super::backups::table_not_found;
use super::describe_table::{seconds, table_name};
use super::table_change::{Fate, change_table};
use super::{Run, document};
use crate::Error;
use crate::service::{Node, Scope};
use crate::tables::{DROPPED, Dropped, Recovery, TABLES, table_key};
use crate::wire::{self, Constraints};

/// How many days back a table can be recovered.
const MAX_DAYS: i64 = 35;

const DAY: Duration = Duration::from_secs(24 * 3600);

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

/// From when on a table can be recovered.
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
