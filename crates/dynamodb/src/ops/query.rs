//! Query.

use async_trait::async_trait;
use aws::Access;
use indexmap::IndexMap;
use serde::Deserialize;
use store::Key;
use store::key::after;

use super::Run;
use super::item_write::key_text;
use super::legacy;
use super::search::{Parameters, Search};
use crate::Error;
use crate::expr::key_condition::{self, KeyTest, KeyTests};
use crate::expr::{Comparator, Placeholders};
use crate::place::Place;
use crate::service::{Node, Scope};
use crate::table::{Attempt, check_not_empty};
use crate::tables::KeyAttribute;
use crate::value::AttributeValue;
use crate::wire::{self, AttributeMap};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Input {
    table_name: Option<String>,
    index_name: Option<String>,
    select: Option<String>,
    limit: Option<i64>,
    consistent_read: Option<bool>,
    scan_index_forward: Option<bool>,
    exclusive_start_key: Option<AttributeMap>,
    key_condition_expression: Option<String>,
    filter_expression: Option<String>,
    projection_expression: Option<String>,
    expression_attribute_names: Option<IndexMap<String, String>>,
    expression_attribute_values: Option<AttributeMap>,
    return_consumed_capacity: Option<String>,
    query_filter: Option<legacy::Conditions>,
    conditional_operator: Option<String>,
    attributes_to_get: Option<Vec<String>>,
    key_conditions: Option<legacy::Conditions>,
}

/// Reads a run of items of one partition.
pub(crate) struct Query {
    table: String,
    tests: KeyTests,
    /// The filter is a `QueryFilter`, for the words of an error.
    legacy_filter: bool,
    reverse: bool,
    search: Search,
}

#[async_trait]
impl Run for Query {
    const NAME: &'static str = "Query";

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
            legacy_filter: ("QueryFilter", input.query_filter.as_ref()),
            conditional_operator: input.conditional_operator.as_deref(),
            attributes_to_get: input.attributes_to_get.as_ref(),
        };
        let mut constraints = parameters.constraints();
        let key_conditions = input.key_conditions.as_ref();
        legacy::conditions_constraints(key_conditions, "keyConditions", &mut constraints);
        constraints.finish()?;
        let expression = input.key_condition_expression.as_deref();
        // Key conditions of the old form go with expressions of other parameters.
        let both = key_conditions.is_some() && expression.is_some();
        parameters.exclusive(
            Some(("KeyConditions", both)),
            Some(("KeyConditionExpression", expression.is_some())),
        )?;
        let legacy = parameters.legacy()?;
        let start = parameters.start()?;
        if expression.is_none() && key_conditions.is_none() {
            return Err(Error::validation(
                "Either the KeyConditions or KeyConditionExpression parameter must be specified in the request.",
            ));
        }
        let mut placeholders = Placeholders::new(parameters.names, parameters.values)?;
        placeholders.only_with_expressions(
            expression.is_some() || parameters.filter.is_some() || parameters.projection.is_some(),
            &[
                ("FilterExpression", parameters.filter.is_some()),
                ("KeyConditionExpression", expression.is_some()),
            ],
        )?;
        let tests = match (expression, key_conditions) {
            (Some(text), _) => key_condition::parse(text, &mut placeholders)?,
            (None, conditions) => conditions.map(legacy::key_conditions).transpose()?.unwrap_or_default(),
        };
        let search = parameters.parse(&mut placeholders, start, legacy)?;
        placeholders.all_used()?;
        Ok(Self {
            table: scope.table_name(&input.table_name.unwrap_or_default())?,
            tests,
            legacy_filter: input.query_filter.is_some(),
            reverse: input.scan_index_forward == Some(false),
            search,
        })
    }

    async fn access(&self, node: &Node, scope: &Scope) -> Vec<Access> {
        let names = self.tests.iter().map(|(name, _)| name.clone()).collect();
        let table = node.table(scope.account, &self.table).await.ok();
        let leads = |name: &str| {
            let place = table.as_deref().and_then(|table| self.search.place(table).ok());
            place.is_some_and(|place| place.partition().name == name)
        };
        let leading = self.tests.iter().find_map(|(name, test)| match test {
            KeyTest::Compare(Comparator::Eq, value) if leads(name) => key_text(value),
            _ => None,
        });
        let access = Access::new("dynamodb:Query", self.search.arn(scope, &self.table))
            .with("dynamodb:LeadingKeys", leading.into_iter().collect());
        vec![self.search.describe(access, names)]
    }

    async fn run(self, node: &Node, scope: &Scope) -> Result<Vec<u8>, Error> {
        let account = scope.account;
        loop {
            let attempt: Result<_, Attempt> = async {
                let table = node.table(account, &self.table).await?;
                let place = self.search.place(&table)?;
                let bounds = self.bounds(place)?;
                self.search.check_projected(place)?;
                self.search.page(node, place, bounds, self.reverse).await
            }
            .await;
            if let Some(done) = node.settle(account, &[&self.table], attempt)? {
                return Ok(done);
            }
        }
    }
}

impl Query {
    fn test(&self, key: &KeyAttribute) -> Result<Option<&KeyTest>, Error> {
        let Some((_, test)) = self.tests.iter().find(|(name, _)| *name == key.name) else { return Ok(None) };
        let typed = |value: &AttributeValue| value.kind() == key.kind.kind();
        let fits = match test {
            KeyTest::Compare(_, value) | KeyTest::BeginsWith(value) => typed(value),
            KeyTest::Between(low, high) => typed(low) && typed(high),
        };
        let scalar = !matches!(test, KeyTest::BeginsWith(AttributeValue::N(_)));
        if !fits || !scalar {
            return Err(Error::invalid_parameter("Condition parameter type does not match schema type"));
        }
        Ok(Some(test))
    }

    /// The run of keys that the key condition and the starting key leave.
    fn bounds(&self, place: Place<'_>) -> Result<(Key, Key), Error> {
        let missed =
            |name: &str| Error::Validation(format!("Query condition missed key schema element: {name}"));
        let partition = match self.test(place.partition())? {
            None => return Err(missed(&place.partition().name)),
            Some(KeyTest::Compare(Comparator::Eq, value)) => value,
            Some(_) => return Err(Error::validation("Query key condition not supported")),
        };
        check_not_empty(&place.partition().name, partition)?;
        let sort = match place.sort() {
            None if self.tests.len() > 1 => {
                return Err(Error::validation("Query key condition not supported"));
            }
            None => None,
            Some(key) => {
                let test = self.test(key)?;
                if test.is_none() && self.tests.len() > 1 {
                    return Err(missed(&key.name));
                }
                test
            }
        };
        if let Some(filter) = &self.search.filter {
            let mut key = None;
            filter.each_path(&mut |path| {
                key = key.take().or(place.keys().any(|k| k.name == path.head).then(|| path.head.clone()))
            });
            if let Some(name) = key {
                let parameter = if self.legacy_filter { "QueryFilter" } else { "Filter Expression" };
                return Err(Error::Validation(format!(
                    "{parameter} can only contain non-primary key attributes: Primary key attribute: {name}"
                )));
            }
        }
        let prefix = place.partition_prefix(partition);
        let (mut start, mut end) = place.run(&prefix, sort);
        if let Some(given) = &self.search.start {
            let key = place.cursor(given).map_err(|error| match error {
                Error::Validation(_) if place.index.is_none() => Error::validation(
                    "The provided starting key is invalid: The provided key element does not match the schema",
                ),
                other => other,
            })?;
            if !key.starts_with(&prefix) {
                return Err(Error::validation(
                    "The provided starting key is outside query boundaries based on provided conditions",
                ));
            }
            if sort.is_some() && !(start <= key && key < end) {
                return Err(Error::validation(
                    "The provided starting key does not match the range key predicate",
                ));
            }
            if self.reverse {
                end = key;
            } else {
                start = after(&key);
            }
        }
        Ok((start, end))
    }
}
