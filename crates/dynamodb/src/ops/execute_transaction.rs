//! ExecuteTransaction.

use async_trait::async_trait;
use aws::Access;
use serde::Deserialize;

use super::Run;
use super::capacity::ReturnCapacity;
use super::statement::{Prepared, StatementInput, no_whole_key};
use super::transact_get_items::TransactGetItems;
use super::transact_write_items::{RequestToken, TransactWriteItems, count_statements};
use crate::Error;
use crate::partiql::{Statement, whole_key};
use crate::service::{Node, Scope};
use crate::wire::{self, Constraints};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct TransactionInput {
    transact_statements: Option<Vec<StatementInput>>,
    client_request_token: Option<String>,
    return_consumed_capacity: Option<String>,
}

/// Carries out up to 100 statements, all or none; all read or all write.
pub(crate) struct ExecuteTransaction {
    statements: Vec<Prepared>,
    token: Option<RequestToken>,
    capacity: ReturnCapacity,
}

#[async_trait]
impl Run for ExecuteTransaction {
    const NAME: &'static str = "ExecuteTransaction";

    fn parse(body: &[u8], scope: &Scope) -> Result<Self, Error> {
        let input: TransactionInput = wire::input(body)?;
        let mut constraints = Constraints::default();
        constraints
            .return_consumed_capacity(input.return_consumed_capacity.as_deref())
            .required(input.transact_statements.as_ref(), "transactStatements");
        if let Some(token) = &input.client_request_token {
            constraints.text_len(token, "clientRequestToken", 1, 36);
        }
        let statements = input.transact_statements.unwrap_or_default();
        for (nth, statement) in (1..).zip(&statements) {
            statement.constraints(&format!("transactStatements.{nth}.member."), &mut constraints);
        }
        constraints.finish()?;
        count_statements(statements.len())?;
        let statements =
            statements.iter().map(|statement| statement.prepare(scope)).collect::<Result<Vec<_>, _>>()?;
        if statements.iter().any(Prepared::is_write) && !statements.iter().all(Prepared::is_write) {
            return Err(Error::validation("Statements of a transaction must either all read or all write"));
        }
        if statements.iter().any(Prepared::gives_back) {
            return Err(Error::validation("RETURNING is not supported in a transaction"));
        }
        Ok(Self {
            statements,
            token: RequestToken::of(input.client_request_token, body),
            capacity: ReturnCapacity::of(input.return_consumed_capacity.as_deref()),
        })
    }

    async fn access(&self, node: &Node, scope: &Scope) -> Vec<Access> {
        let mut needs = Vec::with_capacity(self.statements.len());
        for statement in &self.statements {
            let access = statement.access(node, scope).await;
            needs.push(access.with("dynamodb:EnclosingOperation", vec![Self::NAME.into()]));
        }
        needs
    }

    async fn run(self, node: &Node, scope: &Scope) -> Result<Vec<u8>, Error> {
        let mut writes = Vec::new();
        let mut gets = Vec::new();
        for prepared in &self.statements {
            let table = node.table(scope.account, &prepared.table).await?;
            let Statement::Select(select) = &prepared.statement else {
                writes.push(prepared.item_write(&table)?);
                continue;
            };
            let keys = table.keys().map(|key| key.name.as_str());
            let (key, rest) = whole_key(&select.conditions, keys).ok_or_else(no_whole_key)?;
            if !rest.is_empty() || select.index.is_some() {
                return Err(Error::validation(
                    "A SELECT of a transaction reads an item of a table by its primary key alone",
                ));
            }
            gets.push((prepared.table.clone(), key, select.columns.clone()));
        }
        if gets.is_empty() {
            let Self { token, capacity, .. } = self;
            return TransactWriteItems::of(writes, token, capacity)?.run(node, scope).await;
        }
        TransactGetItems::of(gets, self.capacity).run(node, scope).await
    }
}
