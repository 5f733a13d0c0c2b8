//! DeleteItem.

use async_trait::async_trait;
use aws::Access;
use indexmap::IndexMap;
use serde::Deserialize;

use super::Run;
use super::capacity::{Object, ReturnCapacity};
use super::item_write::{self, Action, Expressions, ItemWrite};
use super::legacy;
use super::put_item::RETURN_VALUES;
use crate::Error;
use crate::service::{Node, Scope};
use crate::value::ItemView;
use crate::wire::{self, AttributeMap, Constraints, write};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Input {
    table_name: Option<String>,
    key: Option<AttributeMap>,
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

/// Deletes an item, if it is there.
pub(crate) struct DeleteItem {
    write: ItemWrite,
    return_old: bool,
    capacity: ReturnCapacity,
    /// Whether item collection metrics are wanted.
    metrics: bool,
}

#[async_trait]
impl Run for DeleteItem {
    const NAME: &'static str = "DeleteItem";
    const TELLS_OF_INPUT: bool = true;

    fn parse(body: &[u8], scope: &Scope) -> Result<Self, Error> {
        let input: Input = wire::input(body)?;
        let on_failure = input.return_values_on_condition_check_failure.as_deref();
        let mut constraints = Constraints::default();
        constraints
            .table(input.table_name.as_deref(), "tableName")
            .required(input.key.as_ref(), "key")
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
        let key = input.key.map(AttributeMap::into_valid).transpose()?.unwrap_or_default();
        if !matches!(input.return_values.as_deref(), None | Some("ALL_OLD" | "NONE")) {
            return Err(Error::validation("ReturnValues can only be ALL_OLD or NONE"));
        }
        let (_, condition) = expressions.parse()?;
        Ok(Self {
            write: ItemWrite {
                table: scope.table_name(&input.table_name.unwrap_or_default())?,
                action: Action::Delete { key },
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
        let done = write.run(node, scope, true).await?;
        let mut out = Object::new();
        if let Some(old) = done.outcome.old.as_ref().filter(|_| return_old) {
            write::item(out.member("Attributes"), ItemView::new(old).map_err(store::Error::from)?);
        }
        Ok(done.finish(out, capacity, metrics))
    }
}
