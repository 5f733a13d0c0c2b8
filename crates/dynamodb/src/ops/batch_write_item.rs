//! BatchWriteItem.

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use aws::Access;
use indexmap::IndexMap;
use serde::Deserialize;
use store::Read;

use super::Run;
use super::capacity::{self, Consumed, Object, ReturnCapacity, Split};
use super::collection_metrics;
use super::item_write::{self, Action, ItemWrite, leading_keys};
use crate::Error;
use crate::collection::Collections;
use crate::service::{Node, Scope};
use crate::stream::Moment;
use crate::table::Attempt;
use crate::throttle::Side;
use crate::value::{Attributes, size_bytes};
use crate::wire::{self, AttributeMap, Constraints, MapOf, Modelled, write};

/// The most bytes that follow from the writes of one commit, far enough below what a commit takes.
const MAX_WEIGHT: usize = 48 << 20;

/// The most requests of one batch.
const MAX_WRITES: usize = 25;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Input {
    request_items: Option<MapOf<Vec<WriteInput>>>,
    return_consumed_capacity: Option<String>,
    return_item_collection_metrics: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase", expecting = "struct WriteRequest")]
struct WriteInput {
    put_request: Option<PutInput>,
    delete_request: Option<DeleteInput>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase", expecting = "struct PutRequest")]
struct PutInput {
    item: AttributeMap,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase", expecting = "struct DeleteRequest")]
struct DeleteInput {
    key: AttributeMap,
}

impl Modelled for Vec<WriteInput> {
    const CLASS: &'static str = "java.util.List<com.amazonaws.dynamodb.v20120810.WriteRequest>";
}

/// Puts and deletes up to 25 items, in one commit: here none is ever left unprocessed.
pub(crate) struct BatchWriteItem {
    writes: Vec<ItemWrite>,
    tables: Vec<String>,
    capacity: ReturnCapacity,
    /// Whether item collection metrics are wanted.
    metrics: bool,
}

#[async_trait]
impl Run for BatchWriteItem {
    const NAME: &'static str = "BatchWriteItem";

    fn parse(body: &[u8], scope: &Scope) -> Result<Self, Error> {
        let input: Input = wire::input(body)?;
        let mut constraints = Constraints::default();
        constraints
            .return_consumed_capacity(input.return_consumed_capacity.as_deref())
            .one_of(
                input.return_item_collection_metrics.as_deref(),
                "returnItemCollectionMetrics",
                &["SIZE", "NONE"],
            )
            .required(input.request_items.as_ref(), "requestItems");
        let items = input.request_items.map(|items| items.0).unwrap_or_default();
        constraints.finish()?;
        if items.is_empty() {
            return Err(Error::validation(
                "1 validation error detected: Value '{}' at 'requestItems' failed to satisfy constraint: Member must have length greater than or equal to 1",
            ));
        }
        for (table, writes) in &items {
            if !(1..=MAX_WRITES).contains(&writes.len()) {
                return Err(Error::Validation(format!(
                    "1 validation error detected: Value '{{{table}=[{} requests]}}' at 'requestItems' failed to satisfy constraint: Map value must satisfy constraint: [Member must have length less than or equal to 25, Member must have length greater than or equal to 1]",
                    writes.len()
                )));
            }
        }
        let mut writes = Vec::with_capacity(MAX_WRITES);
        let mut tables = Vec::with_capacity(items.len());
        for (given, requests) in items {
            let table = scope.table_name(&given)?;
            for request in requests {
                let action = match (request.put_request, request.delete_request) {
                    (Some(put), None) => item_write::put(put.item)?,
                    (None, Some(delete)) => Action::Delete { key: delete.key.into_valid()? },
                    _ => {
                        return Err(Error::validation(
                            "Supplied AttributeValue has more than one datatypes set, must contain exactly one of the supported datatypes",
                        ));
                    }
                };
                writes.push(ItemWrite {
                    table: table.clone(),
                    action,
                    condition: None,
                    return_on_failure: false,
                    insert: false,
                });
            }
            tables.push(table);
        }
        if writes.len() > MAX_WRITES {
            return Err(Error::validation("Too many items requested for the BatchWriteItem call"));
        }
        let capacity = ReturnCapacity::of(input.return_consumed_capacity.as_deref());
        let metrics = input.return_item_collection_metrics.as_deref() == Some("SIZE");
        Ok(Self { writes, tables, capacity, metrics })
    }

    fn capacity(&self) -> Option<ReturnCapacity> {
        Some(self.capacity)
    }

    async fn access(&self, node: &Node, scope: &Scope) -> Vec<Access> {
        let mut needs = Vec::with_capacity(self.tables.len());
        for table in &self.tables {
            let named: Vec<&Attributes> =
                self.writes.iter().filter(|write| write.table == *table).map(ItemWrite::attributes).collect();
            let mut names: Vec<_> = named.iter().flat_map(|attributes| attributes.keys().cloned()).collect();
            names.sort_unstable();
            names.dedup();
            let leading = leading_keys(node, scope, table, named).await;
            needs.push(
                Access::new("dynamodb:BatchWriteItem", scope.table_arn(table))
                    .with("dynamodb:Attributes", names)
                    .with("dynamodb:LeadingKeys", leading),
            );
        }
        needs
    }

    async fn run(self, node: &Node, scope: &Scope) -> Result<Vec<u8>, Error> {
        let account = scope.account;
        let names: Vec<_> = self.tables.iter().map(String::as_str).collect();
        // What is not let in now is to be asked for again; only if that is all, it is an error.
        let mut admitted = Vec::with_capacity(names.len());
        for name in &names {
            let table = node.table(account, name).await?;
            admitted.push(node.admit_write(&table).map(|()| table));
        }
        let mut weight = 0;
        let mut lets = |write: &ItemWrite| {
            let table = names.iter().zip(&admitted).find(|(name, _)| **name == write.table);
            let Some((_, Ok(table))) = table else { return false };
            let first = weight == 0;
            weight += table.weight(size_bytes(write.attributes()));
            first || weight <= MAX_WEIGHT
        };
        let (writes, left): (Vec<_>, Vec<_>) = self.writes.into_iter().partition(|write| lets(write));
        if writes.is_empty() {
            admitted.into_iter().collect::<Result<Vec<_>, _>>()?;
        }
        let writes = Arc::new(writes);
        let told = self.capacity != ReturnCapacity::None;
        let (outcomes, tables) = loop {
            let attempt: Result<_, Attempt> = async {
                let mut tables = IndexMap::new();
                for name in &names {
                    tables.insert((*name).to_owned(), node.table(account, name).await?);
                }
                let mut keys = Vec::with_capacity(writes.len());
                let mut seen = HashSet::new();
                for write in writes.iter() {
                    // Batches have one message for keys that do not fit, whatever is wrong with them.
                    let key = write.key(&tables[&write.table]).map_err(|error| match error {
                        Error::Validation(message)
                            if message.contains("Missing the key")
                                || message.contains("Type mismatch for key") =>
                        {
                            Error::validation("The provided key element does not match the schema")
                        }
                        other => other,
                    })?;
                    if !seen.insert(key.clone()) {
                        let message = "Provided list of item keys contains duplicates";
                        return Err(Error::validation(message).into());
                    }
                    keys.push(key);
                }
                let mut reads: Vec<_> = tables.values().map(|table| table.read()).collect();
                // The place of the page that shows what a write replaces, if that matters.
                let mut places = Vec::with_capacity(keys.len());
                for (write, key) in writes.iter().zip(&keys) {
                    let looks_back = write.looks_back(&tables[&write.table], told);
                    places.push(looks_back.then_some(reads.len()));
                    reads.extend(looks_back.then(|| Read::Key(key.clone())));
                }
                let items = writes.iter().zip(&keys).map(|(write, key)| (&*tables[&write.table], key));
                let collections = Collections::of(items, &mut reads);
                let (writes, in_force) = (writes.clone(), tables.clone());
                let moment = Moment::caller(node.env.now());
                let outcomes = node
                    .store
                    .transact::<_, Attempt, _>(reads, move |pages, _| {
                        for (table, page) in tables.values().zip(pages) {
                            table.check(page)?;
                        }
                        let mut sizes = collections.sizes(pages)?;
                        let mut out = Vec::with_capacity(keys.len());
                        let mut outcomes = Vec::with_capacity(keys.len());
                        for ((write, key), place) in writes.iter().zip(&keys).zip(&places) {
                            let table = &tables[&write.table];
                            let old = place.and_then(|place| pages[place].first());
                            let (change, mut outcome) = write.decide(table, old.map(|entry| &entry.value))?;
                            outcome.effect = table.writes(key, old, change, moment, &mut sizes, &mut out)?;
                            outcomes.push(outcome);
                        }
                        sizes.writes(&mut out);
                        Ok((out, outcomes))
                    })
                    .await?;
                Ok((outcomes, in_force))
            }
            .await;
            if let Some(found) = node.settle(account, &names, attempt)? {
                break found;
            }
        };
        let mut costs: IndexMap<String, Consumed> =
            self.tables.iter().map(|table| (table.clone(), Consumed::default())).collect();
        for (write, outcome) in writes.iter().zip(&outcomes) {
            let cost = outcome.cost(&tables[&write.table]);
            costs.entry(write.table.clone()).or_default().add(&cost, 1.0);
        }
        let mut out = Object::new();
        for (name, cost) in &costs {
            node.charge(&tables[name], cost, Side::Write);
        }
        write_left(out.member("UnprocessedItems"), &self.tables, &left);
        capacity::members(&mut out, self.capacity, &costs, Split::None);
        let changes = writes.iter().zip(&outcomes);
        let changes = changes.map(|(write, outcome)| outcome.change(&tables[&write.table], write));
        collection_metrics::members(&mut out, self.metrics, changes);
        Ok(out.finish())
    }
}

/// Writes that were not done, in the form of a request for them.
fn write_left(out: &mut Vec<u8>, tables: &[String], left: &[ItemWrite]) {
    let with_some = tables.iter().filter(|table| left.iter().any(|write| write.table == **table));
    write::list(out, *b"{}", with_some, |out, table| {
        write::key(out, table);
        let of_table = left.iter().filter(|write| write.table == *table);
        write::list(out, *b"[]", of_table, |out, change| {
            let (request, member) = match change.action {
                Action::Put { .. } => ("PutRequest", "Item"),
                Action::Update { .. } | Action::Delete { .. } | Action::Check { .. } => {
                    ("DeleteRequest", "Key")
                }
            };
            let mut inner = Object::new();
            write::attributes(inner.member(member), change.attributes());
            let mut outer = Object::new();
            outer.member(request).extend_from_slice(&inner.finish());
            out.extend_from_slice(&outer.finish());
        });
    });
}
