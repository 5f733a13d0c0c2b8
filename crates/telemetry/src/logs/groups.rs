//! Log groups and how long their events are kept.

use std::collections::BTreeMap;

use aws::Response;
use serde::{Deserialize, Serialize};
use store::{Range, Read, Write, key};

use super::{Input, Scope, check_limit, check_name, invalid, no_group};
use crate::Error;
use crate::tables::{self, EXPIRING, Expiring, GARBAGE, GROUPS, Garbage, Group};

const RETENTIONS: [u32; 22] =
    [1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653];

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct CreateLogGroup {
    log_group_name: String,
    #[serde(default)]
    tags: BTreeMap<String, String>,
    log_group_class: Option<Class>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum Class {
    Standard,
}

impl Input for CreateLogGroup {
    const NAME: &'static str = "CreateLogGroup";

    fn resource(&self, scope: &Scope) -> String {
        scope.group_resource(&self.log_group_name)
    }

    async fn run(self, scope: Scope) -> Result<Response, Error> {
        let Self { log_group_name: name, tags, log_group_class: None | Some(Class::Standard) } = self;
        check_name("logGroupName", &name, |b| b.is_ascii_alphanumeric() || b"_-/.#".contains(&b))?;
        super::tags::check(&tags)?;
        let group_key = tables::group(scope.account, &name);
        let reads = vec![Read::Key(group_key.clone())];
        let created_ms = scope.now_ms();
        let decide = move |pages: &[store::Page], version: store::Version| {
            if GROUPS.first(&pages[0])?.is_some() {
                return Err(Error::AlreadyExists("The specified log group already exists".into()));
            }
            let group = Group {
                name: name.clone(),
                number: version.0 << 16,
                created_ms,
                retention_days: None,
                tags: tags.clone(),
                stored_bytes: 0,
                swept_ms: 0,
            };
            Ok((vec![GROUPS.put(group_key.clone(), &group)], ()))
        };
        scope.store().transact(reads, decide).await?;
        Ok(aws::json::empty(200))
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct DeleteLogGroup {
    log_group_name: String,
}

impl Input for DeleteLogGroup {
    const NAME: &'static str = "DeleteLogGroup";

    fn resource(&self, scope: &Scope) -> String {
        scope.group_resource(&self.log_group_name)
    }

    async fn run(self, scope: Scope) -> Result<Response, Error> {
        let (account, name) = (scope.account, self.log_group_name);
        let group_key = tables::group(account, &name);
        let reads = vec![Read::Key(group_key.clone())];
        let decide = move |pages: &[store::Page], _| {
            let group = GROUPS.first(&pages[0])?.ok_or_else(no_group)?.value;
            let garbage = Garbage { account, group: group.number, stream: None };
            let writes = vec![
                Write::Delete(group_key.clone()),
                Write::Delete(tables::expiring(account, &name)),
                GARBAGE.put(tables::garbage(&garbage), &garbage),
            ];
            Ok::<_, Error>((writes, ()))
        };
        scope.store().transact(reads, decide).await?;
        scope.telemetry.writer.garbage.notify_one();
        Ok(aws::json::empty(200))
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct DescribeLogGroups {
    log_group_name_prefix: Option<String>,
    log_group_name_pattern: Option<String>,
    next_token: Option<String>,
    limit: Option<i64>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct LogGroups {
    log_groups: Vec<LogGroup>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_token: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct LogGroup {
    log_group_name: String,
    creation_time: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    retention_in_days: Option<u32>,
    metric_filter_count: u32,
    arn: String,
    stored_bytes: u64,
    log_group_class: &'static str,
    log_group_arn: String,
}

impl Input for DescribeLogGroups {
    const NAME: &'static str = "DescribeLogGroups";

    fn resource(&self, scope: &Scope) -> String {
        scope.group_resource(self.log_group_name_prefix.as_deref().unwrap_or_default())
    }

    async fn run(self, scope: Scope) -> Result<Response, Error> {
        let limit = check_limit(self.limit, 50)?;
        if self.log_group_name_prefix.is_some() && self.log_group_name_pattern.is_some() {
            return Err(invalid(
                "LogGroup name prefix and LogGroup name pattern are mutually exclusive parameters.",
            ));
        }
        let prefix = self.log_group_name_prefix.unwrap_or_default();
        let pattern = self.log_group_name_pattern.map(|pattern| pattern.to_ascii_lowercase());
        let mut range = GROUPS.range(scope.account, 200, |k| {
            k.u8(0).raw(prefix.as_bytes());
        });
        if let Some(after) = &self.next_token {
            range.start = range.start.max(key::after(&tables::group(scope.account, after)));
        }
        let mut groups: Vec<LogGroup> = Vec::new();
        let mut next_token = None;
        'pages: loop {
            let (rows, more) = GROUPS.scan(scope.store(), range.clone()).await?;
            let Some(last) = rows.last() else { break };
            range = Range { start: key::after(&last.key), ..range };
            for row in rows {
                let name = &row.value.name;
                if pattern.as_ref().is_some_and(|pattern| !name.to_ascii_lowercase().contains(pattern)) {
                    continue;
                }
                if groups.len() == limit {
                    next_token = groups.last().map(|group| group.log_group_name.clone());
                    break 'pages;
                }
                groups.push(describe(&scope, row.value));
            }
            if !more {
                break;
            }
        }
        Ok(aws::json::output(&LogGroups { log_groups: groups, next_token }))
    }
}

fn describe(scope: &Scope, group: Group) -> LogGroup {
    let log_group_arn = scope.group_arn(&group.name);
    LogGroup {
        log_group_name: group.name,
        creation_time: group.created_ms,
        retention_in_days: group.retention_days,
        metric_filter_count: 0,
        arn: format!("{log_group_arn}:*"),
        stored_bytes: group.stored_bytes,
        log_group_class: "STANDARD",
        log_group_arn,
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct PutRetentionPolicy {
    log_group_name: String,
    retention_in_days: u32,
}

impl Input for PutRetentionPolicy {
    const NAME: &'static str = "PutRetentionPolicy";

    fn resource(&self, scope: &Scope) -> String {
        scope.group_resource(&self.log_group_name)
    }

    async fn run(self, scope: Scope) -> Result<Response, Error> {
        if !RETENTIONS.contains(&self.retention_in_days) {
            let days = self.retention_in_days;
            return Err(invalid(format!(
                "Value '{days}' at 'retentionInDays' failed to satisfy constraint: Member must satisfy enum \
                 value set: {RETENTIONS:?}"
            )));
        }
        set_retention(&scope, self.log_group_name, Some(self.retention_in_days)).await
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct DeleteRetentionPolicy {
    log_group_name: String,
}

impl Input for DeleteRetentionPolicy {
    const NAME: &'static str = "DeleteRetentionPolicy";

    fn resource(&self, scope: &Scope) -> String {
        scope.group_resource(&self.log_group_name)
    }

    async fn run(self, scope: Scope) -> Result<Response, Error> {
        set_retention(&scope, self.log_group_name, None).await
    }
}

async fn set_retention(scope: &Scope, name: String, days: Option<u32>) -> Result<Response, Error> {
    let account = scope.account;
    let group_key = tables::group(account, &name);
    let reads = vec![Read::Key(group_key.clone())];
    let decide = move |pages: &[store::Page], _| {
        let mut group = GROUPS.first(&pages[0])?.ok_or_else(no_group)?.value;
        group.retention_days = days;
        let expiring_key = tables::expiring(account, &name);
        let expiring = match days {
            Some(_) => EXPIRING.put(expiring_key, &Expiring { account, name: name.clone() }),
            None => Write::Delete(expiring_key),
        };
        Ok::<_, Error>((vec![GROUPS.put(group_key.clone(), &group), expiring], ()))
    };
    scope.store().transact(reads, decide).await?;
    Ok(aws::json::empty(200))
}
