//! DeleteTable.

use async_trait::async_trait;
use aws::Access;
use serde_json::json;

use super::describe_table::{Sizes, description, table_name};
use super::table_change::{Fate, TableChange, change_table};
use super::{Run, document};
use crate::Error;
use crate::service::{Node, Scope};
use crate::stream;
use crate::tables::{DROPPED, Dropped};

/// Deletes a table. It is gone with the answer; its items are removed in the background, and no table of the
/// same name will see them.
pub(crate) struct DeleteTable {
    name: String,
}

#[async_trait]
impl Run for DeleteTable {
    const NAME: &'static str = "DeleteTable";

    fn parse(body: &[u8], scope: &Scope) -> Result<Self, Error> {
        Ok(Self { name: table_name(body, scope)? })
    }

    async fn access(&self, _node: &Node, scope: &Scope) -> Vec<Access> {
        vec![Access::new("dynamodb:DeleteTable", scope.table_arn(&self.name))]
    }

    async fn run(self, node: &Node, scope: &Scope) -> Result<Vec<u8>, Error> {
        let account = scope.account;
        let arn = scope.table_arn(&self.name);
        let now = node.env.now();
        let record = change_table(node, scope, &self.name, move |change| {
                let TableChange { record, stream, version, writes } = change;
                if record.deletion_protection {
                    return Err(Error::Validation(format!(
                        "Resource cannot be deleted as it is currently protected against deletion. Disable deletion protection first. Resource: {arn}"
                    )));
                }
                if let Some(stream) = stream.take() {
                    stream::close(account, record, stream, now, version, writes);
                }
                let dropped = Dropped { account, id: record.id, index: None };
                writes.push(DROPPED.put(dropped.key(), &dropped));
                Ok(Fate::Deleted)
            })
            .await?;
        node.dropped.notify_one();
        let description = description(&record, scope, &Sizes::default(), "DELETING");
        Ok(document(&json!({ "TableDescription": description })))
    }
}
