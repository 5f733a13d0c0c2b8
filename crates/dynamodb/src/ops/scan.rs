//! Scan.

use async_trait::async_trait;
use aws::Access;
use indexmap::IndexMap;
use serde::Deserialize;
use store::key::after;

use super::Run;
use super::capacity::ReturnCapacity;
use super::legacy;
use super::search::{Parameters, Search};
use crate::Error;
use crate::expr::Placeholders;
use crate::service::{Node, Scope};
use crate::table::Attempt;
use crate::wire::{self, AttributeMap};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Input {
    table_name: Option<String>,
    index_name: Option<String>,
    select: Option<String>,
    limit: Option<i64>,
    consistent_read: Option<bool>,
    segment: Option<i64>,
    total_segments: Option<i64>,
    exclusive_start_key: Option<AttributeMap>,
    filter_expression: Option<String>,
    projection_expression: Option<String>,
    expression_attribute_names: Option<IndexMap<String, String>>,
    expression_attribute_values: Option<AttributeMap>,
    return_consumed_capacity: Option<String>,
    scan_filter: Option<legacy::Conditions>,
    conditional_operator: Option<String>,
    attributes_to_get: Option<Vec<String>>,
}

/// The most segments of a parallel scan.
const MAX_SEGMENTS: i64 = 1_000_000;

/// Reads a table from end to end, or a segment of it.
pub(crate) struct Scan {
    table: String,
    segment: u64,
    total: u64,
    search: Search,
}

#[async_trait]
impl Run for Scan {
    const NAME: &'static str = "Scan";

    fn parse(body: &[u8], scope: &Scope) -> Result<Self, Error> {
        let input: Input = wire::input(body)?;
        let parameters = Parameters {
            table: input.table_name.as_deref(),
            index: input.index_name.as_deref(),
            select: input.select.as_deref(),
            limit: input.limit,
            capacity: input.return_consumed_capacity.as_deref(),
            start: input.exclusive_start_key.as_ref(),
            consistent: input.consistent_read,
            filter: input.filter_expression.as_deref(),
            projection: input.projection_expression.as_deref(),
            names: input.expression_attribute_names.as_ref(),
            values: input.expression_attribute_values.as_ref(),
            legacy_filter: ("ScanFilter", input.scan_filter.as_ref()),
            conditional_operator: input.conditional_operator.as_deref(),
            attributes_to_get: input.attributes_to_get.as_ref(),
        };
        parameters
            .constraints()
            .range(input.total_segments, "totalSegments", 1, MAX_SEGMENTS)
            .range(input.segment, "segment", 0, MAX_SEGMENTS - 1)
            .finish()?;
        parameters.exclusive(None, None)?;
        let legacy = parameters.legacy()?;
        let start = parameters.start()?;
        let (segment, total) = match (input.segment, input.total_segments) {
            (None, None) => (0, 1),
            (Some(segment), Some(total)) if segment < total => (segment, total),
            (Some(segment), Some(total)) => {
                return Err(Error::Validation(format!(
                    "The Segment parameter is zero-based and must be less than parameter TotalSegments: Segment: {segment} is not less than TotalSegments: {total}"
                )));
            }
            (Some(_), None) => {
                return Err(Error::validation(
                    "The TotalSegments parameter is required but was not present in the request when Segment parameter is present",
                ));
            }
            (None, Some(_)) => {
                return Err(Error::validation(
                    "The Segment parameter is required but was not present in the request when parameter TotalSegments is present",
                ));
            }
        };
        let mut placeholders = Placeholders::new(parameters.names, parameters.values)?;
        let search = parameters.parse(&mut placeholders, start, legacy)?;
        placeholders.all_used()?;
        Ok(Self {
            table: scope.table_name(&input.table_name.unwrap_or_default())?,
            segment: segment.cast_unsigned(),
            total: total.cast_unsigned(),
            search,
        })
    }

    fn capacity(&self) -> Option<ReturnCapacity> {
        Some(self.search.capacity())
    }

    async fn access(&self, _node: &Node, scope: &Scope) -> Vec<Access> {
        let access = Access::new("dynamodb:Scan", self.search.arn(scope, &self.table));
        vec![self.search.describe(access, Vec::new())]
    }

    async fn run(self, node: &Node, scope: &Scope) -> Result<Vec<u8>, Error> {
        let account = scope.account;
        loop {
            let attempt: Result<_, Attempt> = async {
                let table = node.table(account, &self.table).await?;
                let place = self.search.place(&table)?;
                self.search.check_projected(place)?;
                let (mut start, end) = place.segment(self.segment, self.total);
                if let Some(given) = &self.search.start {
                    let invalid =
                        |rule: &str| Error::Validation(format!("The provided starting key is invalid: {rule}"));
                    let key = place.cursor(given).map_err(|error| match error {
                        Error::Validation(rule) if place.index.is_none() => invalid(&rule),
                        other => other,
                    })?;
                    if !(start <= key && key < end) {
                        let (segment, total) = (self.segment, self.total);
                        return Err(invalid(&format!(
                            "Invalid ExclusiveStartKey. Please use ExclusiveStartKey with correct Segment. TotalSegments: {total} Segment: {segment}"
                        )).into());
                    }
                    start = after(&key);
                }
                self.search.check_nested(place)?;
                self.search.page(node, place, (start, end), false).await
            }
            .await;
            if let Some(done) = node.settle(account, &[&self.table], attempt)? {
                return Ok(done);
            }
        }
    }
}
