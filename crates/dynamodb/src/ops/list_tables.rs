//! ListTables.

use async_trait::async_trait;
use aws::Access;
use serde::Deserialize;
use serde_json::json;
use store::key::after;

use super::{Run, document};
use crate::Error;
use crate::service::{Node, Scope};
use crate::tables::{TABLES, table_key};
use crate::wire::{self, Constraints};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Input {
    exclusive_start_table_name: Option<String>,
    limit: Option<i64>,
}

/// Lists tables by name.
pub(crate) struct ListTables {
    start: Option<String>,
    limit: usize,
}

#[async_trait]
impl Run for ListTables {
    const NAME: &'static str = "ListTables";

    fn parse(body: &[u8], _scope: &Scope) -> Result<Self, Error> {
        let input: Input = wire::input(body)?;
        let mut constraints = Constraints::default();
        if let Some(start) = &input.exclusive_start_table_name {
            constraints.text_len(start, "exclusiveStartTableName", 3, 255);
        }
        constraints.range(input.limit, "limit", 1, 100).finish()?;
        let limit = usize::try_from(input.limit.unwrap_or(100)).unwrap_or(100);
        Ok(Self { start: input.exclusive_start_table_name, limit })
    }

    async fn access(&self, _node: &Node, _scope: &Scope) -> Vec<Access> {
        vec![Access::new("dynamodb:ListTables", "*")]
    }

    async fn run(self, node: &Node, scope: &Scope) -> Result<Vec<u8>, Error> {
        let mut range = TABLES.range(scope.account, self.limit, |_| {});
        if let Some(start) = &self.start {
            range.start = after(&table_key(scope.account, start));
        }
        let (tables, more) = TABLES.scan(&node.store, range).await?;
        let names: Vec<_> = tables.into_iter().map(|table| table.value.name).collect();
        let mut out = json!({});
        if let Some(last) = names.last().filter(|_| more) {
            out["LastEvaluatedTableName"] = json!(last);
        }
        out["TableNames"] = json!(names);
        Ok(document(&out))
    }
}
