//! Item collections: what lies under one partition key of a table with local indexes, items and their entries in
//! those together.
//!
//! Invariants: a collection's size is changed by the commits that change what it holds, and by nothing else; it
//! grows no larger than [`MAX_BYTES`]. A table made before sizes were kept has none and no limit.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use store::key::KeyWriter;
use store::{JsonRecord, Key, Page, Read, Write};
use types::AccountId;

use crate::Error;
use crate::table::{ITEM_PREFIX_LEN, Table};
use crate::tables::KeyKind;
use crate::value::Number;

/// The largest size (Developer Guide, "Local secondary indexes", size limit of item collections).
const MAX_BYTES: u64 = 10 << 30;

/// The length of a partition's hash in keys.
const HASH_LEN: usize = size_of::<u16>();

/// Collections by the key of their items.
const COLLECTIONS: store::Table<Collection> =
    store::Table::new(store::tables::DDB_COLLECTIONS, "ddb_collections");

/// What is kept of a collection; none if it holds nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Collection {
    size_bytes: u64,
}

impl JsonRecord for Collection {}

/// The beginning of the keys of all collections of a table.
pub(crate) fn prefix(account: AccountId, table_id: u64) -> KeyWriter {
    let mut writer = KeyWriter::new(account, store::tables::DDB_COLLECTIONS);
    writer.u64(table_id);
    writer
}

/// Whether the sizes of the table's collections are kept.
pub(crate) fn keeps_sizes(table: &Table) -> bool {
    table.record.collections && table.record.has_collections()
}

/// The key of the collection of the item with that key, if its table keeps sizes.
fn key(table: &Table, item_key: &[u8]) -> Option<Key> {
    if !keeps_sizes(table) {
        return None;
    }
    // Of the item's key all but its sort key: the hash, and the partition key, which delimits itself.
    let tail = item_key.get(ITEM_PREFIX_LEN..)?;
    let partition = tail.get(HASH_LEN..)?;
    let len = match table.record.partition.kind {
        KeyKind::N => Number::encoded_len(partition)?,
        KeyKind::S | KeyKind::B => store::key::bytes_len(partition).ok()?,
    };
    let mut writer = prefix(table.account, table.record.id);
    writer.raw(tail.get(..HASH_LEN + len)?);
    Some(writer.finish())
}

/// The collections that a transaction changes, and where among its pages their sizes are.
#[derive(Debug)]
pub(crate) struct Collections {
    places: IndexMap<Key, usize>,
}

impl Collections {
    /// Those of the items with these keys; their reads are appended to the transaction's.
    pub(crate) fn of<'k>(
        items: impl IntoIterator<Item = (&'k Table, &'k Key)>,
        reads: &mut Vec<Read>,
    ) -> Self {
        let mut places = IndexMap::new();
        for key in items.into_iter().filter_map(|(table, item)| key(table, item)) {
            places.entry(key.clone()).or_insert_with(|| {
                reads.push(Read::Key(key));
                reads.len() - 1
            });
        }
        Self { places }
    }

    /// Their sizes as the transaction finds them.
    pub(crate) fn sizes(&self, pages: &[Page]) -> Result<Sizes, store::Error> {
        let mut sizes = IndexMap::with_capacity(self.places.len());
        for (key, place) in &self.places {
            let size = COLLECTIONS.first(&pages[*place])?.map_or(0, |row| row.value.size_bytes);
            sizes.insert(key.clone(), size);
        }
        Ok(Sizes { sizes })
    }
}

/// Sizes within a transaction, in bytes.
#[derive(Debug)]
pub(crate) struct Sizes {
    sizes: IndexMap<Key, u64>,
}

impl Sizes {
    /// Counts a change of the item with that key; answers with the size of its collection, if one is kept.
    pub(super) fn change(
        &mut self,
        table: &Table,
        item_key: &[u8],
        (old_bytes, new_bytes): (usize, usize),
    ) -> Result<Option<u64>, Error> {
        let Some(size) = key(table, item_key).and_then(|key| self.sizes.get_mut(&key)) else {
            return Ok(None);
        };
        let now = (*size + new_bytes as u64).saturating_sub(old_bytes as u64);
        if now > MAX_BYTES && new_bytes > old_bytes {
            return Err(Error::CollectionTooLarge);
        }
        *size = now;
        Ok(Some(now))
    }

    /// Appends what is to be kept of them.
    pub(crate) fn writes(self, writes: &mut Vec<Write>) {
        writes.extend(self.sizes.into_iter().map(|(key, size_bytes)| match size_bytes {
            0 => Write::Delete(key),
            _ => COLLECTIONS.put(key, &Collection { size_bytes }),
        }));
    }
}
