//! BatchGetItem.

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use aws::Access;
use indexmap::IndexMap;
use serde::Deserialize;
use store::Read;

use super::Run;
use super::capacity::{self, Consumed, Object, ReturnCapacity, Split};
use super::{item_read, legacy};
use crate::Error;
use crate::expr::Projection;
use crate::place::Place;
use crate::service::{Node, Scope};
use crate::table::{Attempt, Table};
use crate::throttle::Side;
use crate::value::{Attributes, ItemView};
use crate::wire::{self, AttributeMap, Constraints, MapOf, Modelled, counted, write};

/// The most keys of one request, and the most bytes of items of one answer.
const MAX_KEYS: usize = 100;
const MAX_ANSWER_BYTES: usize = 16 << 20;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Input {
    request_items: Option<MapOf<KeysInput>>,
    return_consumed_capacity: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase", expecting = "struct KeysAndAttributes")]
struct KeysInput {
    keys: Option<Vec<AttributeMap>>,
    consistent_read: Option<bool>,
    attributes_to_get: Option<Vec<String>>,
    projection_expression: Option<String>,
    expression_attribute_names: Option<IndexMap<String, String>>,
}

impl Modelled for KeysInput {
    const CLASS: &'static str = "com.amazonaws.dynamodb.v20120810.KeysAndAttributes";
}

/// What is read of one table.
struct Batch {
    /// As the caller wrote it: a name or an ARN.
    given: String,
    table: String,
    keys: Vec<Attributes>,
    consistent: bool,
    projection: Option<Projection>,
    /// Given back with keys that were not read.
    projection_text: Option<String>,
    names: Option<IndexMap<String, String>>,
    attributes_to_get: Option<Vec<String>>,
}

/// Reads up to 100 items, all at one moment.
pub(crate) struct BatchGetItem {
    batches: Vec<Batch>,
    capacity: ReturnCapacity,
}

#[async_trait]
impl Run for BatchGetItem {
    const NAME: &'static str = "BatchGetItem";

    fn parse(body: &[u8], scope: &Scope) -> Result<Self, Error> {
        let input: Input = wire::input(body)?;
        let mut constraints = Constraints::default();
        constraints
            .return_consumed_capacity(input.return_consumed_capacity.as_deref())
            .required(input.request_items.as_ref(), "requestItems");
        let items = input.request_items.map(|items| items.0).unwrap_or_default();
        constraints.finish()?;
        if items.is_empty() {
            return Err(Error::validation(
                "1 validation error detected: Value '{}' at 'requestItems' failed to satisfy constraint: Member must have length greater than or equal to 1",
            ));
        }
        for (table, keys) in &items {
            let at = format!("requestItems.{table}.member.attributesToGet");
            legacy::attributes_constraints(keys.attributes_to_get.as_ref(), &at, &mut constraints);
            let at = format!("requestItems.{table}.member.keys");
            constraints.required(keys.keys.as_ref(), &at);
            if let Some(keys) = &keys.keys {
                constraints.len(keys.len(), counted(keys.len(), "keys"), &at, 1, MAX_KEYS);
            }
        }
        constraints.finish()?;
        let mut total = 0;
        let mut batches = Vec::with_capacity(items.len());
        for (given, input) in items {
            let projection = item_read::projection(
                input.projection_expression.as_deref(),
                input.expression_attribute_names.as_ref(),
                input.attributes_to_get.as_ref(),
            )?;
            let keys: Vec<_> = input
                .keys
                .unwrap_or_default()
                .into_iter()
                .map(AttributeMap::into_valid)
                .collect::<Result<_, _>>()?;
            if keys.iter().enumerate().any(|(at, key)| keys[..at].contains(key)) {
                return Err(Error::validation("Provided list of item keys contains duplicates"));
            }
            total += keys.len();
            if total > MAX_KEYS {
                return Err(Error::validation("Too many items requested for the BatchGetItem call"));
            }
            batches.push(Batch {
                table: scope.table_name(&given)?,
                given,
                keys,
                consistent: input.consistent_read.unwrap_or(false),
                projection,
                projection_text: input.projection_expression,
                names: input.expression_attribute_names,
                attributes_to_get: input.attributes_to_get,
            });
        }
        Ok(Self { batches, capacity: ReturnCapacity::of(input.return_consumed_capacity.as_deref()) })
    }

    fn capacity(&self) -> Option<ReturnCapacity> {
        Some(self.capacity)
    }

    async fn access(&self, node: &Node, scope: &Scope) -> Vec<Access> {
        let mut needs = Vec::with_capacity(self.batches.len());
        for batch in &self.batches {
            let projection = batch.projection.as_ref();
            let action = "dynamodb:BatchGetItem";
            needs.push(item_read::access(node, scope, action, &batch.table, &batch.keys, projection).await);
        }
        needs
    }

    async fn run(self, node: &Node, scope: &Scope) -> Result<Vec<u8>, Error> {
        let account = scope.account;
        let names: Vec<_> = self.batches.iter().map(|batch| batch.table.as_str()).collect();
        let (pages, tables) = loop {
            let attempt: Result<_, Attempt> = async {
                let mut tables = Vec::with_capacity(names.len());
                let mut reads = Vec::new();
                let mut seen = HashSet::new();
                for batch in &self.batches {
                    let table = node.table(account, &batch.table).await?;
                    if let Some(projection) = &batch.projection {
                        item_read::check_nested(&table, projection.nested_heads())?;
                    }
                    for key in &batch.keys {
                        let key = table.key_of_key(key)?;
                        if !seen.insert(key.clone()) {
                            return Err(
                                Error::validation("Provided list of item keys contains duplicates").into()
                            );
                        }
                        reads.push(Read::Key(key));
                    }
                    tables.push(table);
                }
                // What is not let in now is to be asked for again; only if that is all, it is an error.
                let admitted: Vec<_> =
                    tables.iter().map(|table| node.admit_read(Place::table(table))).collect();
                if admitted.iter().all(Result::is_err) {
                    admitted.into_iter().collect::<Result<Vec<_>, _>>()?;
                }
                let rows = reads.len();
                reads.extend(tables.iter().map(|table| table.read()));
                let mut pages = node.store.read(reads).await?;
                for (table, page) in tables.iter().zip(&pages[rows..]) {
                    table.check(page)?;
                }
                pages.truncate(rows);
                Ok((pages, tables))
            }
            .await;
            if let Some(found) = node.settle(account, &names, attempt)? {
                break found;
            }
        };
        self.answer(node, pages, &tables)
    }
}

impl BatchGetItem {
    fn answer(self, node: &Node, pages: Vec<store::Page>, tables: &[Arc<Table>]) -> Result<Vec<u8>, Error> {
        let mut pages = pages.into_iter();
        let mut answered = 0;
        let mut responses = Object::new();
        let mut unprocessed = Object::new();
        let mut units = Vec::with_capacity(self.batches.len());
        for (batch, table) in self.batches.iter().zip(tables) {
            let admitted = node.admit_read(Place::table(table)).is_ok();
            let mut left = Vec::new();
            let mut table_units = 0.0;
            let mut found = Vec::new();
            for (key, page) in batch.keys.iter().zip(&mut pages) {
                let size_bytes = match page.first() {
                    None => 0,
                    Some(entry) => ItemView::new(&entry.value).map_err(store::Error::from)?.size_bytes(),
                };
                if admitted {
                    answered += size_bytes;
                }
                if !admitted || answered > MAX_ANSWER_BYTES {
                    left.push(key);
                    continue;
                }
                table_units += capacity::read_units(size_bytes, batch.consistent);
                found.extend(page.first().map(|entry| entry.value.clone()));
            }
            let mut items = vec![b'['];
            for (at, item) in found.iter().enumerate() {
                if at > 0 {
                    items.push(b',');
                }
                item_read::write_item(&mut items, item, batch.projection.as_ref())?;
            }
            items.push(b']');
            responses.member(&batch.given).extend_from_slice(&items);
            if !left.is_empty() {
                batch.write_left(unprocessed.member(&batch.given), &left);
            }
            let cost = Consumed::from(table_units);
            node.charge(table, &cost, Side::Read);
            units.push((batch.table.clone(), cost));
        }
        let mut out = Object::new();
        out.member("Responses").extend_from_slice(&responses.finish());
        out.member("UnprocessedKeys").extend_from_slice(&unprocessed.finish());
        capacity::members(
            &mut out,
            self.capacity,
            units.iter().map(|(table, cost)| (table, cost)),
            Split::None,
        );
        Ok(out.finish())
    }
}

impl Batch {
    /// Keys that were not read, in the form of a request for them.
    fn write_left(&self, out: &mut Vec<u8>, keys: &[&Attributes]) {
        let mut object = Object::new();
        write::list(object.member("Keys"), *b"[]", keys.iter(), |out, key| write::attributes(out, key));
        if self.consistent {
            object.member("ConsistentRead").extend_from_slice(b"true");
        }
        if let Some(text) = &self.projection_text {
            write::string(object.member("ProjectionExpression"), text.as_bytes());
        }
        if let Some(attributes) = &self.attributes_to_get {
            object.member("AttributesToGet").extend_from_slice(&super::document(attributes));
        }
        if let Some(names) = &self.names {
            object.member("ExpressionAttributeNames").extend_from_slice(&super::document(names));
        }
        out.extend_from_slice(&object.finish());
    }
}
