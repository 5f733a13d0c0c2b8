//! Descriptions of what is not offered, which say so: backups; and the limits.

use async_trait::async_trait;
use aws::Access;
use serde::Deserialize;
use serde_json::{Value, json};

use super::describe_table::table_name;
use super::{Run, document};
use crate::Error;
use crate::service::{Node, Scope};
use crate::tables::{TABLES, table_key};
use crate::wire;

async fn existing(node: &Node, scope: &Scope, name: &str, answer: Value) -> Result<Vec<u8>, Error> {
    let found = TABLES.get(&node.store, table_key(scope.account, name)).await?;
    found.map(|_| document(&answer)).ok_or_else(|| Error::table_not_found_named(name))
}

/// There are no continuous backups.
pub(crate) struct DescribeContinuousBackups {
    name: String,
}

#[async_trait]
impl Run for DescribeContinuousBackups {
    const NAME: &'static str = "DescribeContinuousBackups";

    fn parse(body: &[u8], scope: &Scope) -> Result<Self, Error> {
        Ok(Self { name: table_name(body, scope)? })
    }

    async fn access(&self, _node: &Node, scope: &Scope) -> Vec<Access> {
        vec![Access::new("dynamodb:DescribeContinuousBackups", scope.table_arn(&self.name))]
    }

    async fn run(self, node: &Node, scope: &Scope) -> Result<Vec<u8>, Error> {
        let answer = json!({"ContinuousBackupsDescription": {
            "ContinuousBackupsStatus": "DISABLED",
            "PointInTimeRecoveryDescription": {"PointInTimeRecoveryStatus": "DISABLED"},
        }});
        existing(node, scope, &self.name, answer).await
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// The limits of throughput: as high as they go, since throughput is not limited here.
pub(crate) struct DescribeLimits;

#[async_trait]
impl Run for DescribeLimits {
    const NAME: &'static str = "DescribeLimits";

    fn parse(body: &[u8], _scope: &Scope) -> Result<Self, Error> {
        let Nothing {} = wire::input(body)?;
        Ok(Self)
    }

    async fn access(&self, _node: &Node, _scope: &Scope) -> Vec<Access> {
        vec![Access::new("dynamodb:DescribeLimits", "*")]
    }

    async fn run(self, _node: &Node, _scope: &Scope) -> Result<Vec<u8>, Error> {
        let most = 1_000_000_000_000_u64;
        Ok(document(&json!({
            "AccountMaxReadCapacityUnits": most,
            "AccountMaxWriteCapacityUnits": most,
            "TableMaxReadCapacityUnits": most,
            "TableMaxWriteCapacityUnits": most,
        })))
    }
}
