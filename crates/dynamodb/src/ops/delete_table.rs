//! DeleteTable.

use async_trait::async_trait;
use aws::Access;
use serde_json::json;

use super::describe_table::{Sizes, description, table_name};
use super::restore::restoring_from;
use super::table_change::{Fate, TableChange, change_table};
use super::{Run, document};
use crate::Error;
use crate::service::{Node, Scope};
use crate::stream;
use crate::tables::{DROPPED, Dropped, TABLES, table_key};

/// What is not told of a table that goes.
const NOT_TOLD: [&str; 6] = [
    "AttributeDefinitions",
    "CreationDateTime",
    "GlobalSecondaryIndexes",
    "KeySchema",
    "LocalSecondaryIndexes",
    "WarmThroughput",
];

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
        let row = TABLES.get(&node.store, table_key(account, &self.name)).await?;
        if let Some(row) = row
            && restoring_from(node, row.value.id).await?
        {
            return Err(Error::ResourceInUse(format!(
                "Attempt to change a resource which is still in use: Table is being restored from: {}",
                self.name
            )));
        }
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
                let keep_items = !record.backups.is_empty();
                let dropped = Dropped { keep_items, ..Dropped::table(account, record.id) };
                writes.push(DROPPED.put(dropped.key(), &dropped));
                Ok(Fate::Deleted)
            })
            .await?;
        node.dropped.notify_one();
        let mut description = description(&record, scope, &Sizes::default(), "DELETING");
        if let Some(members) = description.as_object_mut() {
            members.retain(|name, _| !NOT_TOLD.contains(&name.as_str()));
        }
        Ok(document(&json!({ "TableDescription": description })))
    }
}
