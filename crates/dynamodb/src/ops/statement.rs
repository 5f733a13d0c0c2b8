//! A PartiQL statement: what it needs, and how it is carried out if it writes. ExecuteStatement,
//! BatchExecuteStatement and ExecuteTransaction have this in common.

use aws::Access;
use serde::Deserialize;

use super::item_write::{self, Action, Done, ItemWrite, key_text};
use crate::Error;
use crate::expr::{Condition, Path};
use crate::partiql::{MAX_STATEMENT, Returning, Statement, partitions, whole_key};
use crate::place::Place;
use crate::service::{Node, Scope};
use crate::table::Table;
use crate::value::ItemView;
use crate::wire::{AttributeMap, Constraints, SingleValue, counted, write};

/// A statement as it is given: alone, or in a batch or transaction.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(super) struct StatementInput {
    pub(super) statement: Option<String>,
    pub(super) parameters: Option<Vec<SingleValue>>,
    pub(super) consistent_read: Option<bool>,
    pub(super) return_values_on_condition_check_failure: Option<String>,
}

impl StatementInput {
    /// Constraints on its parameters.
    pub(super) fn constraints(&self, at: &str, constraints: &mut Constraints) {
        let name = |member: &str| format!("{at}{member}");
        constraints.required(self.statement.as_ref(), &name("statement"));
        if let Some(statement) = &self.statement {
            constraints.text_len(statement, &name("statement"), 1, MAX_STATEMENT);
        }
        if let Some(parameters) = &self.parameters {
            constraints.len(
                parameters.len(),
                counted(parameters.len(), "values"),
                &name("parameters"),
                1,
                usize::MAX,
            );
        }
        let on_failure = self.return_values_on_condition_check_failure.as_deref();
        constraints.one_of(on_failure, &name("returnValuesOnConditionCheckFailure"), &["ALL_OLD", "NONE"]);
    }

    /// Reads it.
    pub(super) fn prepare(&self, scope: &Scope) -> Result<Prepared, Error> {
        let text = self.statement.as_deref().unwrap_or_default();
        let statement = Statement::parse(text, self.parameters.as_deref().unwrap_or_default())?;
        Ok(Prepared {
            table: scope.table_name(statement.table())?,
            statement,
            consistent: self.consistent_read.unwrap_or(false),
            return_on_failure: item_write::returns_on_failure(
                self.return_values_on_condition_check_failure.as_deref(),
            ),
        })
    }
}

/// A statement, ready to be carried out.
pub(super) struct Prepared {
    pub(super) statement: Statement,
    pub(super) table: String,
    pub(super) consistent: bool,
    return_on_failure: bool,
}

fn exists(name: &str) -> Condition {
    Condition::Exists(Path { head: name.to_owned(), rest: Vec::new() })
}

/// A statement has to name its item whole.
pub(super) fn no_whole_key() -> Error {
    Error::validation("Where clause does not contain a mandatory equality on all key attributes")
}

impl Prepared {
    /// Whether it changes an item.
    pub(super) fn is_write(&self) -> bool {
        !self.statement.is_read()
    }

    /// Whether it has a RETURNING.
    pub(super) fn gives_back(&self) -> bool {
        match &self.statement {
            Statement::Update { returning, .. } | Statement::Delete { returning, .. } => {
                *returning != Returning::Nothing
            }
            Statement::Select(_) | Statement::Insert { .. } | Statement::Exists(_) => false,
        }
    }

    /// The right that it needs.
    pub(super) async fn access(&self, node: &Node, scope: &Scope) -> Access {
        let mut names: Vec<String> = Vec::new();
        let mut conditions: &[Condition] = &[];
        let mut resource = scope.table_arn(&self.table);
        let mut index = None;
        let action = match &self.statement {
            Statement::Select(select) | Statement::Exists(select) => {
                names.extend(select.columns.iter().map(|(_, path)| path.head.clone()));
                conditions = &select.conditions;
                index = select.index.as_deref();
                if let Some(index) = index {
                    resource = format!("{resource}/index/{index}");
                }
                "dynamodb:PartiQLSelect"
            }
            Statement::Insert { item, .. } => {
                names.extend(item.keys().cloned());
                "dynamodb:PartiQLInsert"
            }
            Statement::Update { update, conditions: given, .. } => {
                update.each_path(&mut |path| names.push(path.head.clone()));
                conditions = given;
                "dynamodb:PartiQLUpdate"
            }
            Statement::Delete { conditions: given, .. } => {
                conditions = given;
                "dynamodb:PartiQLDelete"
            }
        };
        conditions
            .iter()
            .for_each(|condition| condition.each_path(&mut |path| names.push(path.head.clone())));
        names.sort_unstable();
        names.dedup();
        let table = node.table(scope.account, &self.table).await.ok();
        let place = table.as_deref().and_then(|table| Place::find(table, index).ok());
        let leading = place.and_then(|place| match &self.statement {
            Statement::Insert { item, .. } => {
                item.get(&place.sole_partition()?.name).map(|value| vec![value.clone()])
            }
            _ => partitions(conditions, &place.sole_partition()?.name).map(|(_, values)| values),
        });
        let scans = self.statement.is_read() && leading.is_none();
        let leading = leading.into_iter().flatten().filter_map(|value| key_text(&value)).collect();
        let access = Access::new(action, resource)
            .with("dynamodb:Attributes", names)
            .with("dynamodb:LeadingKeys", leading);
        match &self.statement {
            Statement::Select(select) => {
                let select = match (select.columns.is_empty(), index) {
                    (false, _) => "SPECIFIC_ATTRIBUTES",
                    (true, None) => "ALL_ATTRIBUTES",
                    (true, Some(_)) => "ALL_PROJECTED_ATTRIBUTES",
                };
                access
                    .with("dynamodb:Select", vec![select.to_owned()])
                    .with("dynamodb:FullTableScan", vec![scans.to_string()])
            }
            Statement::Exists(_) => access.with("dynamodb:FullTableScan", vec![scans.to_string()]),
            Statement::Update { returning, .. } | Statement::Delete { returning, .. } => {
                access.with("dynamodb:ReturnValues", vec![returning.return_values().to_owned()])
            }
            Statement::Insert { .. } => access.with("dynamodb:ReturnValues", vec!["NONE".to_owned()]),
        }
    }

    /// The change of an item that it is.
    pub(super) fn item_write(&self, table: &Table) -> Result<ItemWrite, Error> {
        let keys = || table.keys().map(|key| key.name.as_str());
        let partition = &table.record.partition.name;
        let (action, conditions) = match &self.statement {
            Statement::Insert { item, .. } => {
                let absent = Condition::NotExists(Path { head: partition.clone(), rest: Vec::new() });
                (item_write::put(AttributeMap::from(item.clone()))?, vec![absent])
            }
            Statement::Update { update, conditions, .. } => {
                let (key, mut rest) = whole_key(conditions, keys()).ok_or_else(no_whole_key)?;
                rest.push(exists(partition));
                (Action::Update { key, update: update.clone() }, rest)
            }
            Statement::Delete { conditions, .. } => {
                let (key, rest) = whole_key(conditions, keys()).ok_or_else(no_whole_key)?;
                // What is not there is deleted already.
                let absent = Condition::Not(Box::new(exists(partition)));
                let rest = if rest.is_empty() {
                    rest
                } else {
                    vec![Condition::Or(vec![absent, Condition::And(rest)])]
                };
                (Action::Delete { key }, rest)
            }
            Statement::Exists(select) => {
                let (key, mut rest) = whole_key(&select.conditions, keys()).ok_or_else(no_whole_key)?;
                rest.push(exists(partition));
                (Action::Check { key }, rest)
            }
            Statement::Select(_) => return Err(Error::validation("A SELECT does not write")),
        };
        Ok(ItemWrite {
            table: self.table.clone(),
            action,
            condition: (!conditions.is_empty()).then_some(Condition::And(conditions)),
            return_on_failure: self.return_on_failure,
            insert: matches!(self.statement, Statement::Insert { .. }),
        })
    }

    pub(super) async fn write(&self, node: &Node, scope: &Scope) -> Result<Done, Error> {
        if matches!(self.statement, Statement::Exists(_)) {
            return Err(Error::validation("EXISTS can be used in transactions only"));
        }
        let table = node.table(scope.account, &self.table).await?;
        self.item_write(&table)?.run(node, scope, true).await
    }

    /// Appends what RETURNING asks for.
    pub(super) fn returned(&self, done: &Done, out: &mut Vec<u8>) -> Result<bool, Error> {
        let view = |item: &'_ Option<bytes::Bytes>| -> Result<Option<Vec<u8>>, Error> {
            Ok(item.as_ref().map(|b| b.to_vec()))
        };
        let (returning, update) = match &self.statement {
            Statement::Update { returning, update, .. } => (*returning, Some(update)),
            Statement::Delete { returning, .. } => (*returning, None),
            Statement::Insert { .. } | Statement::Select(_) | Statement::Exists(_) => {
                (Returning::Nothing, None)
            }
        };
        let (item, modified) = match returning {
            Returning::Nothing => return Ok(false),
            Returning::AllOld => (view(&done.outcome.old)?, false),
            Returning::AllNew => (view(&done.outcome.new)?, false),
            Returning::ModifiedOld => (view(&done.outcome.old)?, true),
            Returning::ModifiedNew => (view(&done.outcome.new)?, true),
        };
        let Some(item) = item else { return Ok(false) };
        let item = ItemView::new(&item).map_err(store::Error::from)?;
        match update.filter(|_| modified) {
            Some(update) => update.projection().write(out, item),
            None => write::item(out, item),
        }
        Ok(true)
    }
}
