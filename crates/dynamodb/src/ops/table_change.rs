//! One change of one table's row, with the row of its open stream at hand: what UpdateTable, UpdateTimeToLive and
//! DeleteTable have in common.

use store::{Read, Write};

use crate::Error;
use crate::service::{Node, Scope};
use crate::stream;
use crate::tables::{STREAMS, StreamRecord, TABLES, TableRecord, table_key};

/// A table's row as it is, to be changed, and what else the commit writes.
pub(super) struct TableChange<'c> {
    pub(super) record: &'c mut TableRecord,
    /// The table's open stream; taken by who closes it.
    pub(super) stream: &'c mut Option<StreamRecord>,
    /// The commit's version.
    pub(super) version: u64,
    pub(super) writes: &'c mut Vec<Write>,
}

/// What becomes of the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Changed,
    Deleted,
}

/// Changes the row of the table of that name in one transaction; answers with the row as it is then.
pub(super) async fn change_table<F>(
    node: &Node,
    scope: &Scope,
    name: &str,
    change: F,
) -> Result<TableRecord, Error>
where
    F: Fn(TableChange<'_>) -> Result<Fate, Error> + Clone + Send + 'static,
{
    let account = scope.account;
    let key = table_key(account, name);
    loop {
        // Which stream the table has is looked up first: the transaction begins again if that has changed.
        let row = TABLES.get(&node.store, key.clone()).await?;
        let row = row.ok_or_else(|| Error::table_not_found_named(name))?;
        let mut reads = vec![TABLES.read(key.clone())];
        reads.extend(stream::open_key(account, &row.value).map(Read::Key));
        let (key, change, missing, expected) =
            (key.clone(), change.clone(), Error::table_not_found_named(name), row.version);
        let changed = node
            .store
            .transact(reads, move |pages, version| {
                let row = TABLES.first(&pages[0])?.ok_or_else(|| missing.clone())?;
                if row.version != expected {
                    return Ok((Vec::new(), None));
                }
                let mut record = row.value;
                if record.is_filling() {
                    return Err(Error::ResourceInUse(format!(
                        "Attempt to change a resource which is still in use: Table is being created: {}",
                        record.name
                    )));
                }
                let stream = pages.get(1).map(|page| STREAMS.first(page)).transpose()?.flatten();
                let mut stream = stream.map(|stream| stream.value);
                let mut writes = Vec::new();
                let fate = change(TableChange {
                    record: &mut record,
                    stream: &mut stream,
                    version: version.0,
                    writes: &mut writes,
                })?;
                writes.push(match fate {
                    Fate::Changed => TABLES.put(key.clone(), &record),
                    Fate::Deleted => Write::Delete(key.clone()),
                });
                Ok::<_, Error>((writes, Some(record)))
            })
            .await?;
        if let Some(record) = changed {
            node.cache.forget(account, name);
            return Ok(record);
        }
    }
}
