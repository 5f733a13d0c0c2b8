//! SELECT: a page of what it finds, and the token that goes on after it.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use super::capacity::{Consumed, Object, ReturnCapacity};
use super::search::Search;
use crate::Error;
use crate::expr::key_condition::KeyTest;
use crate::expr::{Comparator, Condition, Operand};
use crate::partiql::{Select, check_partitions, partitions};
use crate::place::{Place, SortTest};
use crate::service::{Node, Scope};
use crate::table::{Attempt, Table, check_not_empty};
use crate::value::{AttributeValue, Attributes, ValueView};
use crate::wire::{AttributeMap, write};

/// Items of an answer come to about this at most.
const ANSWER_BYTES: usize = 1 << 20;

/// Reads one page of what a SELECT finds.
pub(super) struct Reading<'s> {
    pub(super) select: &'s Select,
    pub(super) table: &'s str,
    pub(super) consistent: bool,
    pub(super) limit: Option<usize>,
    pub(super) capacity: ReturnCapacity,
}

/// Where a SELECT goes on.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Continuation {
    /// Which of the partitions that it names.
    partition: usize,
    /// After this item of it.
    pub(super) after: Option<Attributes>,
}

/// What a SELECT has found.
pub(super) struct Selected {
    /// JSON, without brackets.
    pub(super) items: Vec<u8>,
    pub(super) next: Option<Continuation>,
    pub(super) cost: Consumed,
    pub(super) table: Arc<Table>,
}

impl Reading<'_> {
    /// The page after what was read before.
    pub(super) async fn read(
        &self,
        node: &Node,
        scope: &Scope,
        from: &Continuation,
    ) -> Result<Selected, Error> {
        loop {
            let attempt: Result<_, Attempt> = async {
                let table = node.table(scope.account, self.table).await?;
                let (items, next, cost) = self.attempt(node, &table, from.clone()).await?;
                Ok(Selected { items, next, cost, table })
            }
            .await;
            if let Some(found) = node.settle(scope.account, &[self.table], attempt)? {
                return Ok(found);
            }
        }
    }

    async fn attempt(
        &self,
        node: &Node,
        table: &Table,
        from: Continuation,
    ) -> Result<(Vec<u8>, Option<Continuation>, Consumed), Attempt> {
        let index = self.select.index.as_deref();
        if index.is_some_and(|name| table.record.index(name).is_none()) {
            return Err(Error::validation("The table does not have the specified index").into());
        }
        let place = Place::find(table, index)?;
        let mut rest = self.select.conditions.clone();
        // Of a partition key of several attributes no partition is made out: all are looked through.
        let partition = place.sole_partition();
        let named = partition.and_then(|key| Some((key, partitions(&rest, &key.name)?)));
        let reverse = self.order(place, named.as_ref().map(|(_, (_, values))| values.len()))?;
        let mut test = None;
        let named = match named {
            None => None,
            Some((partition, (at, mut values))) => {
                rest.remove(at);
                check_partitions(&values)?;
                let mut seen: Vec<AttributeValue> = Vec::with_capacity(values.len());
                values.retain(|value| {
                    let new = !seen.contains(value);
                    if new {
                        seen.push(value.clone());
                    }
                    new
                });
                if let Some(sort) = place.sort().first()
                    && let Some((at, found)) = rest
                        .iter()
                        .enumerate()
                        .find_map(|(at, condition)| Some((at, key_test(condition, &sort.name)?)))
                    && fits(&found, sort.kind.kind())
                {
                    rest.remove(at);
                    test = Some((sort, found));
                }
                Some((partition, values))
            }
        };
        let filter = (!rest.is_empty()).then_some(Condition::And(rest));
        let mut search = Search::select(self.select, self.limit, filter, self.consistent, self.capacity);
        search.check_place(place)?;
        let mut items = Vec::new();
        let mut cost = Consumed::default();
        let total = named.as_ref().map_or(1, |(_, values)| values.len());
        let mut after = from.after;
        for partition in from.partition..total {
            let (mut start, mut end) = match &named {
                None => place.segment(0, 1),
                Some((key, values)) => {
                    let value = &values[partition];
                    if value.kind() != key.kind.kind() {
                        return Err(Error::invalid_parameter(
                            "Condition parameter type does not match schema type",
                        )
                        .into());
                    }
                    check_not_empty(&key.name, value)?;
                    let test = test.as_ref().map(|(key, test)| SortTest { key, test });
                    place.run(&place.partition_prefix(&[value]), test)
                }
            };
            if let Some(key) = after.take() {
                let at = place.cursor(&key).map_err(|_| invalid_token())?;
                if !(start <= at && at < end) {
                    return Err(invalid_token().into());
                }
                if reverse {
                    end = at;
                } else {
                    start = store::key::after(&at);
                }
            }
            let found = search.find(node, place, (start, end), reverse).await?;
            cost.add(&found.cost, 1.0);
            if !found.items.is_empty() {
                if !items.is_empty() {
                    items.push(b',');
                }
                items.extend_from_slice(&found.items);
            }
            if let Some(last) = found.last {
                return Ok((items, Some(Continuation { partition, after: Some(last) }), cost));
            }
            let left = search.limit.map(|limit| limit.saturating_sub(found.scanned));
            if partition + 1 < total && (left == Some(0) || items.len() >= ANSWER_BYTES) {
                return Ok((items, Some(Continuation { partition: partition + 1, after: None }), cost));
            }
            search.limit = left;
        }
        Ok((items, None, cost))
    }

    /// Whether ORDER BY turns the order round; it can name keys only.
    fn order(&self, place: Place<'_>, partitions: Option<usize>) -> Result<bool, Error> {
        let mut reverse = false;
        for (name, descending) in &self.select.order {
            match partitions {
                None => {
                    return Err(Error::validation(
                        "Must have at least one non-optional hash key condition in WHERE clause when using ORDER BY clause.",
                    ));
                }
                Some(1) => {}
                Some(_) => {
                    return Err(Error::validation("ORDER BY over several partitions is not supported"));
                }
            }
            if place.sort().first().is_some_and(|sort| sort.name == *name) {
                reverse = *descending;
            } else if place.sole_partition().is_none_or(|key| key.name != *name) {
                return Err(Error::Validation(format!(
                    "Variable reference {name} in ORDER BY clause must be part of the primary key"
                )));
            }
        }
        Ok(reverse)
    }
}

fn literal(operand: &Operand) -> Option<AttributeValue> {
    match operand {
        Operand::Literal(encoded) => ValueView::of(encoded).decode(),
        Operand::Path(_) | Operand::Size(_) => None,
    }
}

/// A condition on a sort key, as a run of keys.
fn key_test(condition: &Condition, name: &str) -> Option<KeyTest> {
    let is_key = |operand: &Operand| matches!(operand, Operand::Path(path) if path.head == name && path.rest.is_empty());
    match condition {
        Condition::Compare(Comparator::Ne, ..) => None,
        Condition::Compare(comparator, left, right) if is_key(left) => {
            Some(KeyTest::Compare(*comparator, literal(right)?))
        }
        Condition::Compare(comparator, left, right) if is_key(right) => {
            Some(KeyTest::Compare(comparator.mirrored(), literal(left)?))
        }
        Condition::Between(value, low, high) if is_key(value) => {
            Some(KeyTest::Between(literal(low)?, literal(high)?))
        }
        Condition::BeginsWith(value, prefix) if is_key(value) => Some(KeyTest::BeginsWith(literal(prefix)?)),
        _ => None,
    }
}

/// Whether the values of a test have the key's type; else it filters, and finds nothing.
fn fits(test: &KeyTest, kind: crate::value::Kind) -> bool {
    match test {
        KeyTest::Compare(_, value) => value.kind() == kind,
        KeyTest::BeginsWith(value) => value.kind() == kind && kind != crate::value::Kind::N,
        KeyTest::Between(low, high) => low.kind() == kind && high.kind() == kind,
        KeyTest::Unindexable => false,
    }
}

fn invalid_token() -> Error {
    Error::validation("Given NextToken is not valid for this statement")
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Token {
    statement: String,
    partition: usize,
    after: Option<AttributeMap>,
}

impl Continuation {
    /// A token that goes on here, for the statement of that digest alone.
    pub(super) fn to_token(&self, statement: &str) -> String {
        let mut out = Object::new();
        write::string(out.member("statement"), statement.as_bytes());
        out.member("partition").extend_from_slice(self.partition.to_string().as_bytes());
        if let Some(after) = &self.after {
            write::attributes(out.member("after"), after);
        }
        URL_SAFE_NO_PAD.encode(out.finish())
    }

    /// Where a token goes on.
    pub(super) fn parse(token: &str, statement: &str) -> Result<Self, Error> {
        let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| invalid_token())?;
        let token: Token = serde_json::from_slice(&bytes).map_err(|_| invalid_token())?;
        if token.statement != statement {
            return Err(invalid_token());
        }
        let after = token.after.map(AttributeMap::into_valid).transpose().map_err(|_| invalid_token())?;
        Ok(Self { partition: token.partition, after })
    }
}
