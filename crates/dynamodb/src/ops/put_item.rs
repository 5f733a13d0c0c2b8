//! PutItem.

use async_trait::async_trait;
use aws::Access;
use indexmap::IndexMap;
use serde::Deserialize;

use super::Run;
use super::capacity::{Object, ReturnCapacity};
use super::item_write::{self, Expressions, ItemWrite};
use super::legacy;
use crate::Error;
use crate::service::{Node, Scope};
use crate::value::ItemView;
use crate::wire::{self, AttributeMap, Constraints, write};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Input {
    table_name: Option<String>,
    item: Option<AttributeMap>,
    condition_expression: Option<String>,
    expression_attribute_names: Option<IndexMap<String, String>>,
    expression_attribute_values: Option<AttributeMap>,
    return_values: Option<String>,
    return_values_on_condition_check_failure: Option<String>,
    return_consumed_capacity: Option<String>,
    return_item_collection_metrics: Option<String>,
    expected: Option<legacy::Expected>,
    conditional_operator: Option<String>,
}

/// Puts an item, whole.
pub(crate) struct PutItem {
    write: ItemWrite,
    return_old: bool,
    capacity: ReturnCapacity,
    /// Whether item collection metrics are wanted.
    metrics: bool,
}

/// The words of `ReturnValues`.
pub(super) const RETURN_VALUES: [&str; 5] = ["ALL_NEW", "UPDATED_OLD", "ALL_OLD", "NONE", "UPDATED_NEW"];

#[async_trait]
impl Run for PutItem {
    const NAME: &'static str = "PutItem";
    const TELLS_OF_INPUT: bool = true;

    fn parse(body: &[u8], scope: &Scope) -> Result<Self, Error> {
        let input: Input = wire::input(body)?;
        let on_failure = input.return_values_on_condition_check_failure.as_deref();
        let mut constraints = Constraints::default();
        constraints
            .table(input.table_name.as_deref(), "tableName")
            .required(input.item.as_ref(), "item")
            .return_consumed_capacity(input.return_consumed_capacity.as_deref())
            .one_of(
                input.return_item_collection_metrics.as_deref(),
                "returnItemCollectionMetrics",
                &["SIZE", "NONE"],
            )
            .one_of(input.return_values.as_deref(), "returnValues", &RETURN_VALUES)
            .one_of(on_failure, "returnValuesOnConditionCheckFailure", &["ALL_OLD", "NONE"]);
        let expressions = Expressions {
            condition: input.condition_expression.as_deref(),
            names: input.expression_attribute_names.as_ref(),
            values: input.expression_attribute_values.as_ref(),
            expected: input.expected.as_ref(),
            conditional_operator: input.conditional_operator.as_deref(),
            ..Expressions::default()
        };
        expressions.constraints(&mut constraints);
        constraints.finish()?;
        expressions.exclusive()?;
        let item = input.item.unwrap_or_default();
        item.valid()?;
        if !matches!(input.return_values.as_deref(), None | Some("ALL_OLD" | "NONE")) {
            return Err(Error::validation("ReturnValues can only be ALL_OLD or NONE"));
        }
        let action = item_write::put(item)?;
        let (_, condition) = expressions.parse()?;
        Ok(Self {
            write: ItemWrite {
                table: scope.table_name(&input.table_name.unwrap_or_default())?,
                action,
                condition,
                return_on_failure: item_write::returns_on_failure(on_failure),
                insert: false,
            },
            return_old: input.return_values.as_deref() == Some("ALL_OLD"),
            capacity: ReturnCapacity::of(input.return_consumed_capacity.as_deref()),
            metrics: input.return_item_collection_metrics.as_deref() == Some("SIZE"),
        })
    }

    fn capacity(&self) -> Option<ReturnCapacity> {
        Some(self.capacity)
    }

    async fn access(&self, node: &Node, scope: &Scope) -> Vec<Access> {
        let access = self.write.access(node, scope).await;
        let word = if self.return_old { "ALL_OLD" } else { "NONE" };
        vec![access.with("dynamodb:ReturnValues", vec![word.into()])]
    }

    async fn run(self, node: &Node, scope: &Scope) -> Result<Vec<u8>, Error> {
        let Self { write, return_old, capacity, metrics } = self;
        let told = return_old || capacity != ReturnCapacity::None;
        let done = write.run(node, scope, told).await?;
        let mut out = Object::new();
        if let Some(old) = done.outcome.old.as_ref().filter(|_| return_old) {
            write::item(out.member("Attributes"), ItemView::new(old).map_err(store::Error::from)?);
        }
        Ok(done.finish(out, capacity, metrics))
    }
}
