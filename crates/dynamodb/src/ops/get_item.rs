//! GetItem.

use async_trait::async_trait;
use aws::Access;
use indexmap::IndexMap;
use serde::Deserialize;
use store::Read;

use super::Run;
use super::capacity::{self, Consumed, Object, ReturnCapacity};
use super::{item_read, legacy};
use crate::Error;
use crate::expr::{Placeholders, Projection};
use crate::place::Place;
use crate::service::{Node, Scope};
use crate::table::Attempt;
use crate::throttle::Side;
use crate::value::Attributes;
use crate::wire::{self, AttributeMap, Constraints};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Input {
    table_name: Option<String>,
    key: Option<AttributeMap>,
    consistent_read: Option<bool>,
    attributes_to_get: Option<Vec<String>>,
    projection_expression: Option<String>,
    expression_attribute_names: Option<IndexMap<String, String>>,
    return_consumed_capacity: Option<String>,
}

/// Reads an item, if it is there.
pub(crate) struct GetItem {
    table: String,
    key: Attributes,
    /// Every read is consistent; this one is also paid for as such.
    consistent: bool,
    projection: Option<Projection>,
    capacity: ReturnCapacity,
}

#[async_trait]
impl Run for GetItem {
    const NAME: &'static str = "GetItem";

    fn parse(body: &[u8], scope: &Scope) -> Result<Self, Error> {
        let input: Input = wire::input(body)?;
        let mut constraints = Constraints::default();
        let attributes = input.attributes_to_get.as_ref();
        legacy::attributes_constraints(attributes, "attributesToGet", &mut constraints);
        constraints
            .table(input.table_name.as_deref(), "tableName")
            .required(input.key.as_ref(), "key")
            .return_consumed_capacity(input.return_consumed_capacity.as_deref())
            .finish()?;
        // What is wrong with the other parameters comes before what is wrong with the key, except in expressions.
        let texts = (input.projection_expression.is_some(), attributes.is_some());
        legacy::exclusive(&[("AttributesToGet", texts.1)], &[("ProjectionExpression", texts.0)])?;
        Placeholders::only_with_expressions(
            (input.expression_attribute_names.is_some(), false),
            texts.0,
            &[],
        )?;
        let key = input.key.map(AttributeMap::into_valid).transpose()?.unwrap_or_default();
        let projection = item_read::projection(
            input.projection_expression.as_deref(),
            input.expression_attribute_names.as_ref(),
            attributes,
        )?;
        Ok(Self {
            table: scope.table_name(&input.table_name.unwrap_or_default())?,
            key,
            consistent: input.consistent_read.unwrap_or(false),
            projection,
            capacity: ReturnCapacity::of(input.return_consumed_capacity.as_deref()),
        })
    }

    fn capacity(&self) -> Option<ReturnCapacity> {
        Some(self.capacity)
    }

    async fn access(&self, node: &Node, scope: &Scope) -> Vec<Access> {
        let keys = std::slice::from_ref(&self.key);
        let projection = self.projection.as_ref();
        vec![item_read::access(node, scope, "dynamodb:GetItem", &self.table, keys, projection).await]
    }

    async fn run(self, node: &Node, scope: &Scope) -> Result<Vec<u8>, Error> {
        let account = scope.account;
        let (found, table) = loop {
            let attempt: Result<_, Attempt> = async {
                let table = node.table(account, &self.table).await?;
                let key = table.key_of_key(&self.key)?;
                node.admit_read(Place::table(&table))?;
                if let Some(projection) = &self.projection {
                    item_read::check_nested(&table, projection.nested_heads())?;
                }
                let mut pages = node.store.read(vec![table.read(), Read::Key(key)]).await?;
                table.check(&pages[0])?;
                Ok((pages.swap_remove(1).entries.pop(), table))
            }
            .await;
            if let Some(found) = node.settle(account, &[&self.table], attempt)? {
                break found;
            }
        };
        let mut out = Object::new();
        let mut size_bytes = 0;
        if let Some(entry) = found {
            size_bytes = item_read::write_item(out.member("Item"), &entry.value, self.projection.as_ref())?;
        }
        let cost = Consumed::from(capacity::read_units(size_bytes, self.consistent));
        node.charge(&table, &cost, Side::Read);
        capacity::member(&mut out, self.capacity, &self.table, &cost);
        Ok(out.finish())
    }
}
