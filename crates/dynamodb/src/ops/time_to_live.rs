//! UpdateTimeToLive and DescribeTimeToLive.

use async_trait::async_trait;
use aws::Access;
use serde::Deserialize;
use serde_json::json;
use store::Write;

use super::describe_table::table_name;
use super::table_change::{Fate, change_table};
use super::{Run, document};
use crate::Error;
use crate::service::{Node, Scope};
use crate::tables::{BACKFILLS, Backfill, BackfillInto, TABLES, table_key};
use crate::wire::{self, Constraints};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Input {
    table_name: Option<String>,
    time_to_live_specification: Option<Specification>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Specification {
    enabled: Option<bool>,
    attribute_name: Option<String>,
}

/// Says which attribute of a table's items tells when they expire, or that they do not. Items that are there
/// already are taken in, in the background.
pub(crate) struct UpdateTimeToLive {
    table: String,
    enabled: bool,
    attribute: String,
}

#[async_trait]
impl Run for UpdateTimeToLive {
    const NAME: &'static str = "UpdateTimeToLive";

    fn parse(body: &[u8], scope: &Scope) -> Result<Self, Error> {
        let input: Input = wire::input(body)?;
        let at = |member: &str| format!("timeToLiveSpecification.{member}");
        let mut constraints = Constraints::default();
        constraints
            .table(input.table_name.as_deref(), "tableName")
            .required(input.time_to_live_specification.as_ref(), "timeToLiveSpecification");
        if let Some(specification) = &input.time_to_live_specification {
            let attribute = specification.attribute_name.as_ref();
            constraints
                .required(specification.enabled.as_ref(), &at("enabled"))
                .required(attribute, &at("attributeName"));
            if let Some(attribute) = attribute {
                constraints.text_len(attribute, &at("attributeName"), 1, 255);
            }
        }
        constraints.finish()?;
        let specification = input.time_to_live_specification;
        let (enabled, attribute) = specification.map(|s| (s.enabled, s.attribute_name)).unwrap_or_default();
        Ok(Self {
            table: scope.table_name(&input.table_name.unwrap_or_default())?,
            enabled: enabled.unwrap_or_default(),
            attribute: attribute.unwrap_or_default(),
        })
    }

    async fn access(&self, _node: &Node, scope: &Scope) -> Vec<Access> {
        vec![Access::new("dynamodb:UpdateTimeToLive", scope.table_arn(&self.table))]
    }

    async fn run(self, node: &Node, scope: &Scope) -> Result<Vec<u8>, Error> {
        let account = scope.account;
        let (enabled, attribute) = (self.enabled, self.attribute.clone());
        change_table(node, scope, &self.table, move |change| {
            let record = change.record;
            let backfill = Backfill {
                account,
                table: record.name.clone(),
                id: record.id,
                into: BackfillInto::Expiry,
                from: None,
            };
            match (&record.ttl, enabled) {
                (Some(current), true) if *current == attribute => {
                    return Err(Error::validation("TimeToLive is already enabled"));
                }
                (Some(current), _) if *current != attribute => {
                    return Err(Error::Validation(format!(
                        "TimeToLive is active on a different AttributeName: current AttributeName is {current}"
                    )));
                }
                (None, false) => return Err(Error::validation("TimeToLive is already disabled")),
                (Some(_), _) => {
                    record.ttl = None;
                    change.writes.push(Write::Delete(backfill.key()));
                }
                (None, true) => {
                    record.ttl = Some(attribute.clone());
                    change.writes.push(BACKFILLS.put(backfill.key(), &backfill));
                }
            }
            Ok(Fate::Changed)
        })
        .await?;
        node.dropped.notify_one();
        Ok(document(&json!({"TimeToLiveSpecification": {
            "Enabled": self.enabled,
            "AttributeName": self.attribute,
        }})))
    }
}

/// Says whether and by which attribute items expire.
pub(crate) struct DescribeTimeToLive {
    name: String,
}

#[async_trait]
impl Run for DescribeTimeToLive {
    const NAME: &'static str = "DescribeTimeToLive";

    fn parse(body: &[u8], scope: &Scope) -> Result<Self, Error> {
        Ok(Self { name: table_name(body, scope)? })
    }

    async fn access(&self, _node: &Node, scope: &Scope) -> Vec<Access> {
        vec![Access::new("dynamodb:DescribeTimeToLive", scope.table_arn(&self.name))]
    }

    async fn run(self, node: &Node, scope: &Scope) -> Result<Vec<u8>, Error> {
        let found = TABLES.get(&node.store, table_key(scope.account, &self.name)).await?;
        let record = found.ok_or_else(|| Error::table_not_found_named(&self.name))?.value;
        let description = match record.ttl {
            Some(attribute) => json!({"TimeToLiveStatus": "ENABLED", "AttributeName": attribute}),
            None => json!({"TimeToLiveStatus": "DISABLED"}),
        };
        Ok(document(&json!({ "TimeToLiveDescription": description })))
    }
}
