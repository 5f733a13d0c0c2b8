//! DeleteTable.

use async_trait::async_trait;
use aws::Access;
use serde_json::json;
use store::Write;

use super::describe_table::{Size, description, table_name};
use super::{Run, document};
use crate::Error;
use crate::service::{Node, Scope};
use crate::tables::{DROPPED, Dropped, TABLES, table_key};

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
        let key = table_key(account, &self.name);
        let arn = scope.table_arn(&self.name);
        let name = self.name.clone();
        let reads = vec![TABLES.read(key.clone())];
        let record = node
            .store
            .transact(reads, move |pages, _| {
                let row = TABLES.first(&pages[0])?.ok_or_else(|| Error::table_not_found_named(&name))?;
                let record = row.value;
                if record.deletion_protection {
                    return Err(Error::Validation(format!(
                        "Resource cannot be deleted as it is currently protected against deletion. Disable deletion protection first. Resource: {arn}"
                    )));
                }
                let dropped = Dropped { account, id: record.id };
                let writes = vec![Write::Delete(key.clone()), DROPPED.put(dropped.key(), &dropped)];
                Ok((writes, record))
            })
            .await?;
        node.cache.forget(account, &self.name);
        node.dropped.notify_one();
        let description = description(&record, scope, Size::default(), "DELETING");
        Ok(document(&json!({ "TableDescription": description })))
    }
}
