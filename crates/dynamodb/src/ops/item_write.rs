//! One change of one item: what PutItem, UpdateItem, DeleteItem, batches and transactions have in common.

use std::sync::Arc;

use aws::Access;
use bytes::Bytes;
use indexmap::IndexMap;
use store::{Key, Page, Read};

use super::capacity::{self, Consumed, IndexUnits, Object, ReturnCapacity};
use super::collection_metrics::{self, CollectionChange};
use super::legacy;
use crate::Error;
use crate::change::{Change, Effect};
use crate::collection::Collections;
use crate::expr::{Condition, Placeholders, Update};
use crate::service::{Node, Scope};
use crate::stream::Moment;
use crate::table::{Attempt, Table};
use crate::throttle::Side;
use crate::value::{
    AttributeValue, Attributes, ItemView, MAX_DEPTH, MAX_ITEM_BYTES, decode_item, encode_item, item_size,
    size_bytes,
};
use crate::wire::{AttributeMap, Constraints, write};

/// What is done to the item.
#[derive(Debug)]
pub(crate) enum Action {
    Put { item: Attributes, encoded: Bytes },
    Update { key: Attributes, update: Update },
    Delete { key: Attributes },
    Check { key: Attributes },
}

/// A change of one item, perhaps on a condition.
#[derive(Debug)]
pub(crate) struct ItemWrite {
    pub(crate) table: String,
    pub(crate) action: Action,
    pub(crate) condition: Option<Condition>,
    /// `ReturnValuesOnConditionCheckFailure` is `ALL_OLD`.
    pub(crate) return_on_failure: bool,
    /// It is an INSERT, which says so if there is such an item.
    pub(crate) insert: bool,
}

/// An item before and after.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    pub(crate) old: Option<Bytes>,
    pub(crate) new: Option<Bytes>,
    /// What followed from it.
    pub(crate) effect: Effect,
}

impl Outcome {
    /// What is told of its item collection, from the write that it is the outcome of.
    pub(crate) fn change<'o>(&'o self, table: &'o Table, write: &'o ItemWrite) -> CollectionChange<'o> {
        CollectionChange { table, key: write.attributes(), size_bytes: self.effect.collection_bytes }
    }

    /// What it cost. Of the table, the larger of before and after counts.
    pub(crate) fn cost(&self, table: &Table) -> Consumed {
        let size = |item: &Option<Bytes>| item.as_ref().map_or(0, |item| item_size(item));
        let indexes = table.indexes.iter().zip(&self.effect.index_units);
        Consumed {
            table: super::capacity::write_units(size(&self.old), size(&self.new)),
            indexes: indexes
                .filter(|(_, units)| **units > 0.0)
                .map(|(index, units)| IndexUnits::of(index, *units))
                .collect(),
        }
    }
}

/// A change that has been carried out.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) write: Arc<ItemWrite>,
    pub(crate) table: Arc<Table>,
    pub(crate) outcome: Outcome,
    pub(crate) cost: Consumed,
}

impl Done {
    /// Appends what is told of cost and item collection, as far as it is wanted.
    pub(crate) fn finish(self, mut out: Object, capacity: ReturnCapacity, metrics: bool) -> Vec<u8> {
        capacity::member(&mut out, capacity, &self.table.record.name, &self.cost);
        let change = self.outcome.change(&self.table, &self.write);
        collection_metrics::member(&mut out, metrics, change);
        out.finish()
    }
}

/// Checks and encodes an item to put.
pub(crate) fn put(map: AttributeMap) -> Result<Action, Error> {
    let item = map.into_valid()?;
    let size = size_bytes(&item);
    if size > MAX_ITEM_BYTES {
        return Err(Error::validation("Item size has exceeded the maximum allowed size"));
    }
    let encoded = encode_item(&item, size);
    Ok(Action::Put { item, encoded })
}

/// The expressions of a change.
#[derive(Debug, Default)]
pub(crate) struct Expressions<'a> {
    pub(crate) update: Option<&'a str>,
    pub(crate) condition: Option<&'a str>,
    pub(crate) names: Option<&'a IndexMap<String, String>>,
    pub(crate) values: Option<&'a AttributeMap>,
    /// Whether the operation has an UpdateExpression, for the words of an error.
    pub(crate) takes_update: bool,
    /// `Expected`, `ConditionalOperator` and `AttributeUpdates`, in whose place expressions stand.
    pub(crate) expected: Option<&'a legacy::Expected>,
    pub(crate) conditional_operator: Option<&'a str>,
    pub(crate) updates: Option<&'a legacy::Updates>,
}

impl Expressions<'_> {
    /// Constraints on the legacy parameters.
    pub(crate) fn constraints(&self, constraints: &mut Constraints) {
        legacy::operator_constraints(self.conditional_operator, constraints);
        legacy::expected_constraints(self.expected, constraints);
        legacy::updates_constraints(self.updates, constraints);
    }

    /// Either the ones or the others may be given, and names and values only with expressions.
    pub(crate) fn exclusive(&self) -> Result<(), Error> {
        let takers =
            [("UpdateExpression", self.update.is_some()), ("ConditionExpression", self.condition.is_some())];
        legacy::exclusive(
            &[
                ("AttributeUpdates", self.updates.is_some()),
                ("Expected", self.expected.is_some()),
                ("ConditionalOperator", self.conditional_operator.is_some()),
            ],
            &takers,
        )?;
        Placeholders::only_with_expressions(
            (self.names.is_some(), self.values.is_some()),
            takers.iter().any(|(_, given)| *given),
            if self.takes_update { &takers } else { &takers[1..] },
        )
    }

    /// Reads them.
    pub(crate) fn parse(&self) -> Result<(Update, Option<Condition>), Error> {
        let legacy_update = self.updates.map(legacy::updates).transpose()?;
        legacy::check_operator(self.conditional_operator, self.expected.is_some_and(|e| !e.is_empty()))?;
        let expected = self.expected.map(|expected| legacy::expected(expected, self.conditional_operator));
        let expected = expected.transpose()?.flatten();

        let mut placeholders = Placeholders::new(self.names, self.values)?;
        let update = self.update.map(|text| Update::parse(text, &mut placeholders)).transpose()?;
        let condition = self
            .condition
            .map(|text| Condition::parse("ConditionExpression", text, &mut placeholders))
            .transpose()?;
        placeholders.all_used()?;
        Ok((update.or(legacy_update).unwrap_or_default(), condition.or(expected)))
    }
}

impl ItemWrite {
    /// The IAM action that it is.
    fn iam_action(&self) -> &'static str {
        match self.action {
            Action::Put { .. } => "dynamodb:PutItem",
            Action::Update { .. } => "dynamodb:UpdateItem",
            Action::Delete { .. } => "dynamodb:DeleteItem",
            Action::Check { .. } => "dynamodb:ConditionCheckItem",
        }
    }

    /// The attributes that it names.
    pub(crate) fn attributes(&self) -> &Attributes {
        match &self.action {
            Action::Put { item, .. } => item,
            Action::Update { key, .. } | Action::Delete { key } | Action::Check { key } => key,
        }
    }

    /// The right that it needs.
    pub(crate) async fn access(&self, node: &Node, scope: &Scope) -> Access {
        let mut names: Vec<String> = self.attributes().keys().cloned().collect();
        if let Action::Update { update, .. } = &self.action {
            update.each_path(&mut |path| names.push(path.head.clone()));
        }
        if let Some(condition) = &self.condition {
            condition.each_path(&mut |path| names.push(path.head.clone()));
        }
        names.sort_unstable();
        names.dedup();
        let leading = leading_keys(node, scope, &self.table, [self.attributes()]).await;
        Access::new(self.iam_action(), scope.table_arn(&self.table))
            .with("dynamodb:Attributes", names)
            .with("dynamodb:LeadingKeys", leading)
    }

    /// The key of its item; an error if it does not fit the table.
    pub(crate) fn key(&self, table: &Table) -> Result<Key, Error> {
        match &self.action {
            Action::Put { item, .. } => {
                let row = table.key_of_item(item)?;
                table.indexes.iter().try_for_each(|index| index.check(item, |_| true))?;
                Ok(row)
            }
            Action::Delete { key } | Action::Check { key } => table.key_of_key(key),
            Action::Update { key, update } => {
                let row = table.key_of_key(key)?;
                for path in update.paths() {
                    if table.is_key(&path.head) {
                        let name = &path.head;
                        return Err(Error::invalid_parameter(format_args!(
                            "Cannot update attribute {name}. This attribute is part of the key"
                        )));
                    }
                }
                table.indexes.iter().try_for_each(|index| index.check_types(|name| update.literal(name)))?;
                let mut nested = Vec::new();
                update.each_path(&mut |path| {
                    if !path.rest.is_empty() {
                        nested.push(path.head.clone());
                    }
                });
                super::item_read::check_nested(table, nested.iter().map(String::as_str))?;
                Ok(row)
            }
        }
    }

    /// Whether the item that is there has to be read for it: to put one without conditions it need not be, if
    /// nobody wants to know what was there or what that cost.
    pub(crate) fn looks_back(&self, table: &Table, told: bool) -> bool {
        let replaces = matches!(self.action, Action::Put { .. }) && self.condition.is_none();
        told || !replaces || table.looks_back()
    }

    /// Decides on the change, from the item as it is. Runs inside the transaction.
    pub(crate) fn decide(&self, table: &Table, old: Option<&Bytes>) -> Result<(Change, Outcome), Error> {
        let view = match old {
            Some(bytes) => ItemView::new(bytes).map_err(store::Error::from)?,
            None => ItemView::ABSENT,
        };
        if self.condition.as_ref().is_some_and(|condition| !condition.holds(view)) {
            if self.insert {
                return Err(Error::DuplicateItem);
            }
            let wanted = self.return_on_failure && old.is_some();
            return Err(Error::ConditionalCheckFailed { item: wanted.then(|| write::item_json(view)) });
        }
        let before = old.cloned();
        let outcome = |old, new| Outcome { old, new, effect: Effect::default() };
        match &self.action {
            Action::Put { encoded, .. } => {
                Ok((Change::Put(encoded.clone()), outcome(before, Some(encoded.clone()))))
            }
            Action::Delete { .. } => {
                let change = if old.is_some() { Change::Delete } else { Change::Keep };
                Ok((change, outcome(before, None)))
            }
            Action::Check { .. } => Ok((Change::Keep, outcome(before.clone(), before))),
            Action::Update { update, .. } if old.is_none() && update.only_takes_away() => {
                Ok((Change::Keep, outcome(None, None)))
            }
            Action::Update { key, update } => {
                let mut item = match old {
                    Some(bytes) => decode_item(bytes).map_err(store::Error::from)?,
                    None => key.clone(),
                };
                update.apply(&mut item)?;
                let changes = |name: &str| update.paths().any(|path| path.head == name);
                for index in &table.indexes {
                    if index.check_types(|name| item.get(name).filter(|_| changes(name))).is_err() {
                        return Err(Error::validation(
                            "The update expression attempted to update the secondary index key to unsupported type",
                        ));
                    }
                    index.check(&item, changes)?;
                }
                if item.values().map(AttributeValue::depth).max() > Some(MAX_DEPTH) {
                    return Err(Error::validation("Nesting Levels have exceeded supported limits"));
                }
                let size = size_bytes(&item);
                if size > MAX_ITEM_BYTES {
                    return Err(Error::validation(
                        "Item size to update has exceeded the maximum allowed size",
                    ));
                }
                let encoded = encode_item(&item, size);
                Ok((Change::Put(encoded.clone()), outcome(before, Some(encoded))))
            }
        }
    }

    /// Carries it out by itself, in one transaction; `told` if what was there before, or what it cost, is told.
    pub(crate) async fn run(self, node: &Node, scope: &Scope, told: bool) -> Result<Done, Error> {
        let this = Arc::new(self);
        let (account, name) = (scope.account, this.table.as_str());
        loop {
            let attempt: Result<_, Attempt> = async {
                let table = node.table(account, name).await?;
                let key = this.key(&table)?;
                node.admit_write(&table)?;
                let mut reads = vec![table.read()];
                let looks_back = this.looks_back(&table, told);
                reads.extend(looks_back.then(|| Read::Key(key.clone())));
                let collections = Collections::of([(&*table, &key)], &mut reads);
                let (this, in_force) = (this.clone(), table.clone());
                let moment = Moment::caller(node.env.now());
                let decide = move |pages: &[Page], _| {
                    table.check(&pages[0])?;
                    let old = looks_back.then(|| pages[1].first()).flatten();
                    let (change, mut outcome) = this.decide(&table, old.map(|entry| &entry.value))?;
                    let mut sizes = collections.sizes(pages)?;
                    let mut writes = Vec::with_capacity(1);
                    outcome.effect = table.writes(&key, old, change, moment, &mut sizes, &mut writes)?;
                    sizes.writes(&mut writes);
                    Ok((writes, outcome))
                };
                Ok((in_force, node.store.transact::<_, Attempt, _>(reads, decide).await?))
            }
            .await;
            if let Some((table, outcome)) = node.settle(account, &[name], attempt)? {
                let cost = outcome.cost(&table);
                node.charge(&table, &cost, Side::Write);
                return Ok(Done { write: this.clone(), table, outcome, cost });
            }
        }
    }
}

/// The partition keys of items or keys, as `dynamodb:LeadingKeys` has them; none if the table is not there.
pub(crate) async fn leading_keys<'k>(
    node: &Node,
    scope: &Scope,
    table: &str,
    keys: impl IntoIterator<Item = &'k Attributes>,
) -> Vec<String> {
    let Ok(table) = node.table(scope.account, table).await else { return Vec::new() };
    let name = &table.record.partition.name;
    keys.into_iter().filter_map(|key| key.get(name)).filter_map(key_text).collect()
}

/// A key attribute as text.
pub(crate) fn key_text(value: &AttributeValue) -> Option<String> {
    use base64::Engine;
    match value {
        AttributeValue::S(text) => Some(text.clone()),
        AttributeValue::N(number) => Some(number.to_string()),
        AttributeValue::B(bytes) => Some(base64::engine::general_purpose::STANDARD.encode(bytes)),
        _ => None,
    }
}

/// `ReturnValuesOnConditionCheckFailure`, checked.
pub(crate) fn returns_on_failure(word: Option<&str>) -> bool {
    word == Some("ALL_OLD")
}
