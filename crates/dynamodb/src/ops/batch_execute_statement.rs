//! BatchExecuteStatement.

use async_trait::async_trait;
use aws::Access;
use indexmap::IndexMap;
use serde::Deserialize;
use serde_json::json;

use super::Run;
use super::capacity::{self, Consumed, Object, ReturnCapacity, Split};
use super::select::{Continuation, Reading};
use super::statement::{Prepared, StatementInput};
use crate::Error;
use crate::partiql::{Statement, whole_key};
use crate::service::{Node, Scope};
use crate::wire::{self, Constraints, counted, write};

/// The most statements of a batch.
const MAX_BATCH: usize = 25;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct BatchInput {
    statements: Option<Vec<StatementInput>>,
    return_consumed_capacity: Option<String>,
}

/// Carries out up to 25 statements, each for itself; all read an item or all write one.
pub(crate) struct BatchExecuteStatement {
    statements: Vec<Result<Prepared, Error>>,
    capacity: ReturnCapacity,
}

#[async_trait]
impl Run for BatchExecuteStatement {
    const NAME: &'static str = "BatchExecuteStatement";

    fn parse(body: &[u8], scope: &Scope) -> Result<Self, Error> {
        let input: BatchInput = wire::input(body)?;
        let mut constraints = Constraints::default();
        constraints
            .return_consumed_capacity(input.return_consumed_capacity.as_deref())
            .required(input.statements.as_ref(), "statements");
        let statements = input.statements.unwrap_or_default();
        if !constraints.any() {
            let shown = counted(statements.len(), "statements");
            constraints.len(statements.len(), shown, "statements", 1, MAX_BATCH);
        }
        for (nth, statement) in (1..).zip(&statements) {
            statement.constraints(&format!("statements.{nth}.member."), &mut constraints);
        }
        constraints.finish()?;
        let statements: Vec<_> = statements.iter().map(|statement| statement.prepare(scope)).collect();
        let mut kinds = statements.iter().filter_map(|s| s.as_ref().ok()).map(Prepared::is_write);
        if let Some(first) = kinds.next()
            && kinds.any(|kind| kind != first)
        {
            return Err(Error::validation("Statements of a batch must either all read or all write"));
        }
        Ok(Self { statements, capacity: ReturnCapacity::of(input.return_consumed_capacity.as_deref()) })
    }

    async fn access(&self, node: &Node, scope: &Scope) -> Vec<Access> {
        let mut needs = Vec::with_capacity(self.statements.len());
        for statement in self.statements.iter().flatten() {
            needs.push(statement.access(node, scope).await);
        }
        needs
    }

    async fn run(self, node: &Node, scope: &Scope) -> Result<Vec<u8>, Error> {
        let mut costs = IndexMap::<String, Consumed>::new();
        let mut responses = Vec::with_capacity(self.statements.len());
        for statement in &self.statements {
            let mut out = Object::new();
            let done = match statement {
                Err(error) => Err(error.clone()),
                Ok(prepared) => one_of_batch(node, scope, prepared, self.capacity).await,
            };
            if let Ok(prepared) = statement {
                write::string(out.member("TableName"), prepared.table.as_bytes());
            }
            match done {
                Ok((item, cost)) => {
                    if let Ok(prepared) = statement {
                        costs.entry(prepared.table.clone()).or_default().add(&cost, 1.0);
                    }
                    if !item.is_empty() {
                        out.member("Item").extend_from_slice(&item);
                    }
                }
                Err(error) => {
                    out.member("Error").extend_from_slice(&super::document(&batch_error(error)?));
                }
            }
            responses.push(out.finish());
        }
        let mut out = Object::new();
        write::list(out.member("Responses"), *b"[]", responses.iter(), |out, response| {
            out.extend_from_slice(response);
        });
        capacity::members(&mut out, self.capacity, &costs, Split::None);
        Ok(out.finish())
    }
}

/// The item that a statement of a batch gives, if any, and what it cost.
async fn one_of_batch(
    node: &Node,
    scope: &Scope,
    prepared: &Prepared,
    capacity: ReturnCapacity,
) -> Result<(Vec<u8>, Consumed), Error> {
    let Statement::Select(select) = &prepared.statement else {
        let done = prepared.write(node, scope).await?;
        let mut item = Vec::new();
        prepared.returned(&done, &mut item)?;
        return Ok((item, done.cost));
    };
    let table = node.table(scope.account, &prepared.table).await?;
    if whole_key(&select.conditions, table.keys().map(|key| key.name.as_str())).is_none() {
        return Err(Error::validation(
            "Select statements within BatchExecuteStatement must specify the primary key in the where clause.",
        ));
    }
    let (table, consistent) = (&*prepared.table, prepared.consistent);
    let reading = Reading { select, table, consistent, limit: None, capacity };
    let found = reading.read(node, scope, &Continuation::default()).await?;
    Ok((found.items, found.cost))
}

/// The error of one statement; a fault of the store is one of all.
fn batch_error(error: Error) -> Result<serde_json::Value, Error> {
    let code = match &error {
        Error::Store(_) => return Err(error),
        Error::Validation(_) | Error::Serialization(_) => "ValidationError",
        other => other.code().trim_end_matches("Exception"),
    };
    let mut out = json!({"Code": code, "Message": error.to_string()});
    if let Error::ConditionalCheckFailed { item: Some(item) } = error {
        out["Item"] = item;
    }
    Ok(out)
}
