//! TransactGetItems.

use std::collections::HashSet;

use async_trait::async_trait;
use aws::Access;
use indexmap::IndexMap;
use serde::Deserialize;
use store::Read;

use super::Run;
use super::capacity::{self, Consumed, Object, ReturnCapacity, Split};
use super::item_read;
use super::transact_write_items::{MAX_ACTIONS, canceled, count_actions};
use crate::Error;
use crate::expr::{Columns, Projection};
use crate::place::Place;
use crate::service::{Node, Scope};
use crate::table::Attempt;
use crate::throttle::Side;
use crate::value::{Attributes, ItemView};
use crate::wire::{self, AttributeMap, Constraints, write};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Input {
    transact_items: Option<Vec<ActionInput>>,
    return_consumed_capacity: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct ActionInput {
    get: Option<GetInput>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct GetInput {
    table_name: Option<String>,
    key: Option<AttributeMap>,
    projection_expression: Option<String>,
    expression_attribute_names: Option<IndexMap<String, String>>,
}

struct Get {
    table: String,
    key: Attributes,
    projection: Option<Projection>,
}

/// Reads up to 100 items at one moment.
pub(crate) struct TransactGetItems {
    gets: Vec<Get>,
    capacity: ReturnCapacity,
}

#[async_trait]
impl Run for TransactGetItems {
    const NAME: &'static str = "TransactGetItems";

    fn parse(body: &[u8], scope: &Scope) -> Result<Self, Error> {
        let input: Input = wire::input(body)?;
        let mut constraints = Constraints::default();
        constraints
            .return_consumed_capacity(input.return_consumed_capacity.as_deref())
            .required(input.transact_items.as_ref(), "transactItems");
        let actions = input.transact_items.unwrap_or_default();
        constraints.finish()?;
        count_actions(actions.len())?;
        let mut gets = Vec::with_capacity(actions.len().min(MAX_ACTIONS));
        for (at, action) in (1..).zip(actions) {
            let at = |member: &str| format!("transactItems.{at}.member.get{member}");
            let get = action.get.as_ref();
            constraints.required(get, &at(""));
            if let Some(get) = get {
                constraints
                    .table(get.table_name.as_deref(), &at(".tableName"))
                    .required(get.key.as_ref(), &at(".key"));
            }
            constraints.finish()?;
            let Some(get) = action.get else { continue };
            let projection = item_read::projection(
                get.projection_expression.as_deref(),
                get.expression_attribute_names.as_ref(),
                None,
            )?;
            gets.push(Get {
                table: scope.table_name(&get.table_name.unwrap_or_default())?,
                key: get.key.unwrap_or_default().into_valid()?,
                projection,
            });
        }
        Ok(Self { gets, capacity: ReturnCapacity::of(input.return_consumed_capacity.as_deref()) })
    }

    fn capacity(&self) -> Option<ReturnCapacity> {
        Some(self.capacity)
    }

    async fn access(&self, node: &Node, scope: &Scope) -> Vec<Access> {
        let mut needs = Vec::with_capacity(self.gets.len());
        for get in &self.gets {
            let (keys, projection) = (std::slice::from_ref(&get.key), get.projection.as_ref());
            let action = "dynamodb:GetItem";
            let access = item_read::access(node, scope, action, &get.table, keys, projection).await;
            needs.push(access.with("dynamodb:EnclosingOperation", vec![Self::NAME.into()]));
        }
        needs
    }

    async fn run(self, node: &Node, scope: &Scope) -> Result<Vec<u8>, Error> {
        let account = scope.account;
        let names: Vec<_> = self.gets.iter().map(|get| get.table.as_str()).collect();
        let (pages, tables) = loop {
            let attempt: Result<_, Attempt> = async {
                let mut tables = IndexMap::new();
                for name in &names {
                    tables.insert(*name, node.table(account, name).await?);
                }
                let mut keys = Vec::with_capacity(self.gets.len());
                for get in &self.gets {
                    let table = &tables[get.table.as_str()];
                    let nested = get.projection.iter().flat_map(Projection::nested_heads);
                    keys.push(table.key_of_key(&get.key).and_then(|key| {
                        item_read::check_nested(table, nested)?;
                        Ok(key)
                    }));
                }
                let keys = canceled(keys)?;
                if keys.iter().collect::<HashSet<_>>().len() < keys.len() {
                    let message = "Transaction request cannot include multiple operations on one item";
                    return Err(Error::validation(message).into());
                }
                let admitted =
                    self.gets.iter().map(|get| node.admit_read(Place::table(&tables[get.table.as_str()])));
                canceled(admitted.collect())?;
                let rows = keys.len();
                let mut reads: Vec<_> = keys.into_iter().map(Read::Key).collect();
                reads.extend(tables.values().map(|table| table.read()));
                let mut pages = node.store.read(reads).await?;
                for (table, page) in tables.values().zip(&pages[rows..]) {
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

        let mut costs: IndexMap<String, Consumed> = IndexMap::new();
        let mut responses = Vec::new();
        let mut items = Vec::with_capacity(pages.len());
        for (get, page) in self.gets.iter().zip(&pages) {
            let mut item = None;
            let mut size_bytes = 0;
            if let Some(entry) = page.first() {
                let mut out = Vec::new();
                size_bytes = ItemView::new(&entry.value).map_err(store::Error::from)?.size_bytes();
                item_read::write_item(&mut out, &entry.value, get.projection.as_ref())?;
                item = Some(out);
            }
            let units = capacity::read_units(size_bytes, true);
            costs.entry(get.table.clone()).or_default().add(&units.into(), 2.0);
            items.push(item);
        }
        write::list(&mut responses, *b"[]", items.iter(), |out, item| match item {
            None => out.extend_from_slice(b"{}"),
            Some(item) => {
                let mut object = Object::new();
                object.member("Item").extend_from_slice(item);
                out.extend_from_slice(&object.finish());
            }
        });
        for (name, cost) in &costs {
            node.charge(&tables[name.as_str()], cost, Side::Read);
        }
        let mut out = Object::new();
        out.member("Responses").extend_from_slice(&responses);
        capacity::members(&mut out, self.capacity, &costs, Split::Read);
        Ok(out.finish())
    }
}

impl TransactGetItems {
    /// Reads of items by key, each with the columns that are wanted (none is all).
    pub(super) fn of(gets: Vec<(String, Attributes, Columns)>, capacity: ReturnCapacity) -> Self {
        let gets = gets.into_iter().map(|(table, key, columns)| {
            let projection = (!columns.is_empty()).then(|| Projection::columns(&columns));
            Get { table, key, projection }
        });
        Self { gets: gets.collect(), capacity }
    }
}
