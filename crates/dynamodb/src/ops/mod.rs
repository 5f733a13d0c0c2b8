//! The operations: each reads its input, says what rights it needs, and runs.

mod backups;
mod batch_execute_statement;
mod batch_get_item;
mod batch_write_item;
pub(crate) mod capacity;
mod collection_metrics;
mod create_table;
mod delete_item;
mod delete_table;
mod describe;
mod describe_table;
mod execute_statement;
mod execute_transaction;
mod exports;
mod get_item;
mod imports;
mod item_read;
mod item_write;
mod legacy;
mod list_tables;
mod put_item;
mod query;
mod recovery;
mod resource_policy;
mod restore;
mod scan;
mod schema;
mod search;
mod select;
mod statement;
mod streams;
mod table_arn;
mod table_change;
mod tags;
mod time_to_live;
mod transact_get_items;
mod transact_write_items;
mod update_item;
mod update_table;

use async_trait::async_trait;
use aws::Access;

use self::capacity::ReturnCapacity;
use crate::Error;
use crate::service::{Node, Scope};

pub(crate) use backups::{CreateBackup, DeleteBackup, DescribeBackup, ListBackups};
pub(crate) use batch_execute_statement::BatchExecuteStatement;
pub(crate) use batch_get_item::BatchGetItem;
pub(crate) use batch_write_item::BatchWriteItem;
pub(crate) use create_table::CreateTable;
pub(crate) use delete_item::DeleteItem;
pub(crate) use delete_table::DeleteTable;
pub(crate) use describe::{DescribeEndpoints, DescribeLimits};
pub(crate) use describe_table::DescribeTable;
pub(crate) use execute_statement::ExecuteStatement;
pub(crate) use execute_transaction::ExecuteTransaction;
pub(crate) use exports::{DescribeExport, ExportTable, ListExports};
pub(crate) use get_item::GetItem;
pub(crate) use imports::{DescribeImport, ImportTable, ListImports};
pub(crate) use list_tables::ListTables;
pub(crate) use put_item::PutItem;
pub(crate) use query::Query;
pub(crate) use recovery::{DescribeContinuousBackups, UpdateContinuousBackups};
pub(crate) use resource_policy::{DeleteResourcePolicy, GetResourcePolicy, PutResourcePolicy};
pub(crate) use restore::{RestoreTableFromBackup, RestoreTableToPointInTime};
pub(crate) use scan::Scan;
pub(crate) use streams::{DescribeStream, GetRecords, GetShardIterator, ListStreams};
pub(crate) use streams::{LATEST, head as stream_head};
pub(crate) use tags::{ListTagsOfResource, TagResource, UntagResource};
pub(crate) use time_to_live::{DescribeTimeToLive, UpdateTimeToLive};
pub(crate) use transact_get_items::TransactGetItems;
pub(crate) use transact_write_items::TransactWriteItems;
pub(crate) use update_item::UpdateItem;
pub(crate) use update_table::UpdateTable;

/// An operation.
#[async_trait]
pub(crate) trait Run: Sized + Send + Sync + 'static {
    /// Its name in the service's model.
    const NAME: &'static str;

    /// Whether what is wrong with its input is told with [`Error::of_input`]'s words.
    const TELLS_OF_INPUT: bool = false;

    /// Reads and checks the input as far as that needs no stored state.
    fn parse(body: &[u8], scope: &Scope) -> Result<Self, Error>;

    /// The consumed capacity that it returns, where policies may ask for that.
    fn capacity(&self) -> Option<ReturnCapacity> {
        None
    }

    /// The rights it needs.
    async fn access(&self, node: &Node, scope: &Scope) -> Vec<Access>;

    /// Carries it out; the answer is a JSON document.
    async fn run(self, node: &Node, scope: &Scope) -> Result<Vec<u8>, Error>;
}

/// A document of a type that serde writes.
fn document(output: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(output).expect("outputs have string keys")
}
