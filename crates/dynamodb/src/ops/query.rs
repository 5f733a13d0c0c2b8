//! Query.

use async_trait::async_trait;
use aws::Access;
use indexmap::IndexMap;
use serde::Deserialize;
use store::Key;
use store::key::after;

use super::Run;
use super::capacity::ReturnCapacity;
use super::item_write::key_text;
use super::legacy;
use super::search::{Parameters, Search};
use crate::Error;
use crate::expr::key_condition::{self, KeyTest, KeyTests};
use crate::expr::{Comparator, Placeholders};
use crate::place::{Place, SortTest};
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
    pub(crate) tests: KeyTests,
    /// The filter is a `QueryFilter`, for the words of an error.
    legacy_filter: bool,
    pub(crate) reverse: bool,
    pub(crate) search: Search,
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
        // All expressions are read before it matters what the key condition says.
        let condition = expression.map(|text| key_condition::read(text, &mut placeholders)).transpose()?;
        let search = parameters.parse(&mut placeholders, start, legacy)?;
        placeholders.all_used()?;
        let tests = match (condition, key_conditions) {
            (Some(condition), _) => key_condition::tests(condition)?,
            (None, conditions) => conditions.map(legacy::key_conditions).transpose()?.unwrap_or_default(),
        };
        Ok(Self {
            table: scope.table_name(&input.table_name.unwrap_or_default())?,
            tests,
            legacy_filter: input.query_filter.is_some(),
            reverse: input.scan_index_forward == Some(false),
            search,
        })
    }

    fn capacity(&self) -> Option<ReturnCapacity> {
        Some(self.search.capacity())
    }

    async fn access(&self, node: &Node, scope: &Scope) -> Vec<Access> {
        let names = self.tests.iter().map(|(name, _)| name.clone()).collect();
        let table = node.table(scope.account, &self.table).await.ok();
        let leads = |name: &str| {
            let place = table.as_deref().and_then(|table| self.search.place(table).ok());
            place.is_some_and(|place| place.partition()[0].name == name)
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
                self.search.check_nested(place)?;
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
    /// What is asked of a key attribute, which has to be something that a run of keys can answer.
    fn test(&self, key: &KeyAttribute, is_partition: bool) -> Result<&KeyTest, Error> {
        let Some((_, test)) = self.tests.iter().find(|(name, _)| *name == key.name) else {
            let name = &key.name;
            return Err(Error::Validation(format!("Query condition missed key schema element: {name}")));
        };
        let typed = |value: &AttributeValue| value.kind() == key.kind.kind();
        let fits = match test {
            KeyTest::Compare(_, value) => typed(value),
            KeyTest::BeginsWith(value) => typed(value) && !matches!(value, AttributeValue::N(_)),
            KeyTest::Between(low, high) => typed(low) && typed(high),
            KeyTest::Unindexable => {
                return Err(Error::validation(
                    "Attempted conditional constraint is not an indexable operation",
                ));
            }
        };
        if !fits {
            return Err(Error::invalid_parameter("Condition parameter type does not match schema type"));
        }
        if is_partition && !matches!(test, KeyTest::Compare(Comparator::Eq, _)) {
            return Err(not_supported());
        }
        Ok(test)
    }

    /// The starting key must have the keys of where the search looks; of which, this one.
    fn check_start(&self, key: &KeyAttribute) -> Result<(), Error> {
        let Some(start) = &self.search.start else { return Ok(()) };
        let value = start.get(&key.name).ok_or_else(invalid_start)?;
        if value.kind() != key.kind.kind() {
            return Err(Error::validation("The provided key element does not match the schema"));
        }
        Ok(())
    }

    /// What the keys of its partition begin with.
    pub(crate) fn partition_prefix(&self, place: Place<'_>) -> Result<Key, Error> {
        let mut values = Vec::with_capacity(1);
        for key in place.partition() {
            let KeyTest::Compare(_, value) = self.test(key, true)? else { return Err(not_supported()) };
            check_not_empty(&key.name, value)?;
            values.push(value);
        }
        Ok(place.partition_prefix(&values))
    }

    /// What the keys begin with that the condition leaves, and what it asks of the sort key attribute after that: of
    /// those before it, that they are equal to something.
    fn narrow<'p>(&'p self, place: Place<'p>, partition: &Key) -> Result<(Key, Option<SortTest<'p>>), Error> {
        let mut prefix = partition.clone();
        let mut left = self.tests.len() - place.partition().len();
        for key in place.sort() {
            if left == 0 {
                break;
            }
            let test = self.test(key, false)?;
            left -= 1;
            if left == 0 {
                return Ok((prefix, Some(SortTest { key, test })));
            }
            let KeyTest::Compare(Comparator::Eq, value) = test else { return Err(not_supported()) };
            prefix = place.narrowed(&prefix, key, value);
        }
        Ok((prefix, None))
    }

    /// The run of keys that the key condition and the starting key leave.
    pub(crate) fn bounds(&self, place: Place<'_>) -> Result<(Key, Key), Error> {
        if self.search.start.as_ref().is_some_and(|start| start.len() != place.cursor_names().len()) {
            return Err(invalid_start());
        }
        place.partition().iter().try_for_each(|key| self.check_start(key))?;
        if self.tests.len() > place.keys().count().max(2) {
            return Err(Error::validation("Conditions can be of length 1 or 2 only"));
        }
        if place.sort().is_empty() && self.tests.len() > place.partition().len() {
            return Err(not_supported());
        }
        let partition = self.partition_prefix(place)?;
        place.sort().iter().try_for_each(|key| self.check_start(key))?;
        let (prefix, sort) = self.narrow(place, &partition)?;
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
        let (mut start, mut end) = place.run(&prefix, sort);
        if let Some(given) = &self.search.start {
            let key = place.cursor(given).map_err(|error| match error {
                Error::Validation(rule) if place.index.is_none() => {
                    Error::Validation(format!("The provided starting key is invalid: {rule}"))
                }
                other => other,
            })?;
            if sort.is_none() && !key.starts_with(&prefix) {
                return Err(Error::validation(
                    "The provided starting key is outside query boundaries based on provided conditions",
                ));
            }
            if sort.is_some_and(|test| !place.passes(given, test)) {
                return Err(Error::validation(
                    "The provided starting key does not match the range key predicate",
                ));
            }
            if !key.starts_with(&prefix) {
                return Err(Error::validation(
                    "The query can return at most one row and cannot be restarted",
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

fn not_supported() -> Error {
    Error::validation("Query key condition not supported")
}

fn invalid_start() -> Error {
    Error::validation("The provided starting key is invalid")
}
