//! UpdateItem.

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
use crate::expr::Projection;
use crate::service::{Node, Scope};
use crate::value::ItemView;
use crate::wire::{self, AttributeMap, Constraints, write};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Input {
    table_name: Option<String>,
    key: Option<AttributeMap>,
    update_expression: Option<String>,
    condition_expression: Option<String>,
    expression_attribute_names: Option<IndexMap<String, String>>,
    expression_attribute_values: Option<AttributeMap>,
    return_values: Option<String>,
    return_values_on_condition_check_failure: Option<String>,
    return_consumed_capacity: Option<String>,
    return_item_collection_metrics: Option<String>,
    expected: Option<legacy::Expected>,
    conditional_operator: Option<String>,
    attribute_updates: Option<legacy::Updates>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ReturnValues {
    None,
    AllOld,
    UpdatedOld,
    AllNew,
    UpdatedNew,
}

/// Changes attributes of an item, which need not exist.
pub(crate) struct UpdateItem {
    write: ItemWrite,
    returns: ReturnValues,
    updated: Projection,
    capacity: ReturnCapacity,
    /// Whether item collection metrics are wanted.
    metrics: bool,
}

#[async_trait]
impl Run for UpdateItem {
    const NAME: &'static str = "UpdateItem";
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
            update: input.update_expression.as_deref(),
            condition: input.condition_expression.as_deref(),
            names: input.expression_attribute_names.as_ref(),
            values: input.expression_attribute_values.as_ref(),
            takes_update: true,
            expected: input.expected.as_ref(),
            conditional_operator: input.conditional_operator.as_deref(),
            updates: input.attribute_updates.as_ref(),
        };
        expressions.constraints(&mut constraints);
        constraints.finish()?;
        expressions.exclusive()?;
        let key = input.key.map(AttributeMap::into_valid).transpose()?.unwrap_or_default();
        let (update, condition) = expressions.parse()?;
        let updated = update.projection();
        Ok(Self {
            write: ItemWrite {
                table: scope.table_name(&input.table_name.unwrap_or_default())?,
                action: Action::Update { key, update },
                condition,
                return_on_failure: item_write::returns_on_failure(on_failure),
                insert: false,
            },
            returns: match input.return_values.as_deref() {
                Some("ALL_OLD") => ReturnValues::AllOld,
                Some("UPDATED_OLD") => ReturnValues::UpdatedOld,
                Some("ALL_NEW") => ReturnValues::AllNew,
                Some("UPDATED_NEW") => ReturnValues::UpdatedNew,
                _ => ReturnValues::None,
            },
            updated,
            capacity: ReturnCapacity::of(input.return_consumed_capacity.as_deref()),
            metrics: input.return_item_collection_metrics.as_deref() == Some("SIZE"),
        })
    }

    fn capacity(&self) -> Option<ReturnCapacity> {
        Some(self.capacity)
    }

    async fn access(&self, node: &Node, scope: &Scope) -> Vec<Access> {
        let access = self.write.access(node, scope).await;
        let word = match self.returns {
            ReturnValues::None => "NONE",
            ReturnValues::AllOld => "ALL_OLD",
            ReturnValues::UpdatedOld => "UPDATED_OLD",
            ReturnValues::AllNew => "ALL_NEW",
            ReturnValues::UpdatedNew => "UPDATED_NEW",
        };
        vec![access.with("dynamodb:ReturnValues", vec![word.into()])]
    }

    async fn run(self, node: &Node, scope: &Scope) -> Result<Vec<u8>, Error> {
        let Self { write, returns, updated, capacity, metrics } = self;
        let done = write.run(node, scope, true).await?;
        let outcome = &done.outcome;
        let (old, new) = (view(outcome.old.as_ref())?, view(outcome.new.as_ref())?);
        let mut out = Object::new();
        match (returns, old, new) {
            (ReturnValues::AllOld, Some(item), _) | (ReturnValues::AllNew, _, Some(item)) => {
                write::item(out.member("Attributes"), item);
            }
            (ReturnValues::UpdatedOld, Some(item), _) | (ReturnValues::UpdatedNew, _, Some(item))
                if updated.matches(item) =>
            {
                updated.write(out.member("Attributes"), item);
            }
            _ => {}
        }
        Ok(done.finish(out, capacity, metrics))
    }
}

fn view(item: Option<&bytes::Bytes>) -> Result<Option<ItemView<'_>>, store::Error> {
    item.map(|item| ItemView::new(item).map_err(store::Error::from)).transpose()
}
