//! `ItemCollectionMetrics`: what is told of the item collections that a write changed, of tables with local indexes.

use indexmap::IndexMap;

use super::capacity::Object;
use crate::table::Table;
use crate::value::{Attributes, ValueView, encode_value};
use crate::wire::write;

/// A change within an item collection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CollectionChange<'c> {
    pub(crate) table: &'c Table,
    /// Attributes of the item, its partition key among them.
    pub(crate) key: &'c Attributes,
    /// The collection's size afterwards, if it is kept.
    pub(crate) size_bytes: Option<u64>,
}

impl CollectionChange<'_> {
    /// `ItemCollectionKey`, if the table has local indexes.
    fn key(self) -> Option<Vec<u8>> {
        if !self.table.record.has_collections() {
            return None;
        }
        let name = &self.table.record.partition.name;
        let mut encoded = Vec::new();
        encode_value(self.key.get(name)?, &mut encoded);
        let mut key = vec![b'{'];
        write::attribute(&mut key, (name.as_bytes(), ValueView::of(&encoded)));
        key.push(b'}');
        Some(key)
    }

    /// The metrics of the collection with that key.
    fn metrics(self, key: &[u8]) -> Vec<u8> {
        let mut out = Object::new();
        out.member("ItemCollectionKey").extend_from_slice(key);
        // Whole gigabytes, between which the size is.
        let lower = self.size_bytes.unwrap_or(0) >> 30;
        out.member("SizeEstimateRangeGB")
            .extend_from_slice(format!("[{lower}.0,{}.0]", lower + 1).as_bytes());
        out.finish()
    }
}

/// Appends the member of an operation on one item, if it is wanted.
pub(crate) fn member(out: &mut Object, wanted: bool, change: CollectionChange<'_>) {
    if let Some(key) = wanted.then(|| change.key()).flatten() {
        out.member("ItemCollectionMetrics").extend_from_slice(&change.metrics(&key));
    }
}

/// Appends the member of an operation on several items, if it is wanted: each collection once.
pub(crate) fn members<'c>(
    out: &mut Object,
    wanted: bool,
    changes: impl Iterator<Item = CollectionChange<'c>>,
) {
    if !wanted {
        return;
    }
    // The last change of a collection knows its size after all of them.
    let mut tables: IndexMap<&str, IndexMap<Vec<u8>, CollectionChange<'c>>> = IndexMap::new();
    for change in changes {
        if let Some(key) = change.key() {
            tables.entry(&change.table.record.name).or_default().insert(key, change);
        }
    }
    if !tables.is_empty() {
        write::list(out.member("ItemCollectionMetrics"), *b"{}", tables.iter(), |out, (table, changes)| {
            write::key(out, table);
            write::list(out, *b"[]", changes.iter(), |out, (key, change)| {
                out.extend_from_slice(&change.metrics(key));
            });
        });
    }
}
