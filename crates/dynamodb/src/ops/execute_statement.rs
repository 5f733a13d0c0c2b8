//! ExecuteStatement.

use async_trait::async_trait;
use aws::Access;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::Run;
use super::capacity::{self, Object, ReturnCapacity};
use super::select::{Continuation, Reading};
use super::statement::{Prepared, StatementInput};
use crate::Error;
use crate::partiql::Statement;
use crate::service::{Node, Scope};
use crate::wire::{self, Constraints, SingleValue, write};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct ExecuteInput {
    statement: Option<String>,
    parameters: Option<Vec<SingleValue>>,
    consistent_read: Option<bool>,
    return_values_on_condition_check_failure: Option<String>,
    next_token: Option<String>,
    return_consumed_capacity: Option<String>,
    limit: Option<i64>,
}

/// Carries out one statement.
pub(crate) struct ExecuteStatement {
    prepared: Prepared,
    from: Continuation,
    limit: Option<usize>,
    /// What a token must have been handed out for.
    digest: String,
    capacity: ReturnCapacity,
}

#[async_trait]
impl Run for ExecuteStatement {
    const NAME: &'static str = "ExecuteStatement";

    fn parse(body: &[u8], scope: &Scope) -> Result<Self, Error> {
        let input: ExecuteInput = wire::input(body)?;
        let statement = StatementInput {
            statement: input.statement,
            parameters: input.parameters,
            consistent_read: input.consistent_read,
            return_values_on_condition_check_failure: input.return_values_on_condition_check_failure,
        };
        let mut constraints = Constraints::default();
        statement.constraints("", &mut constraints);
        constraints.return_consumed_capacity(input.return_consumed_capacity.as_deref()).range(
            input.limit,
            "limit",
            1,
            i64::from(i32::MAX),
        );
        if let Some(token) = &input.next_token {
            constraints.text_len(token, "nextToken", 1, 32768);
        }
        constraints.finish()?;
        let mut hash = Sha256::new();
        hash.update(statement.statement.as_deref().unwrap_or_default());
        hash.update(format!("{:?}", statement.parameters));
        let digest: String = hash.finalize().iter().take(12).map(|byte| format!("{byte:02x}")).collect();
        let from = match &input.next_token {
            None => Continuation::default(),
            Some(token) => Continuation::parse(token, &digest)?,
        };
        Ok(Self {
            prepared: statement.prepare(scope)?,
            from,
            limit: input.limit.and_then(|limit| usize::try_from(limit).ok()),
            digest,
            capacity: ReturnCapacity::of(input.return_consumed_capacity.as_deref()),
        })
    }

    async fn access(&self, node: &Node, scope: &Scope) -> Vec<Access> {
        vec![self.prepared.access(node, scope).await]
    }

    async fn run(self, node: &Node, scope: &Scope) -> Result<Vec<u8>, Error> {
        let mut out = Object::new();
        let Statement::Select(select) = &self.prepared.statement else {
            let done = self.prepared.write(node, scope).await?;
            let items = out.member("Items");
            items.push(b'[');
            self.prepared.returned(&done, items)?;
            items.push(b']');
            return Ok(done.finish(out, self.capacity, false));
        };
        let reading = Reading {
            select,
            table: &self.prepared.table,
            consistent: self.prepared.consistent,
            limit: self.limit,
            capacity: self.capacity,
        };
        let found = reading.read(node, scope, &self.from).await?;
        let items = out.member("Items");
        items.push(b'[');
        items.extend_from_slice(&found.items);
        items.push(b']');
        if let Some(next) = &found.next {
            write::string(out.member("NextToken"), next.to_token(&self.digest).as_bytes());
            if let Some(after) = &next.after {
                write::attributes(out.member("LastEvaluatedKey"), after);
            }
        }
        capacity::member(&mut out, self.capacity, &found.table.record.name, &found.cost);
        Ok(out.finish())
    }
}
