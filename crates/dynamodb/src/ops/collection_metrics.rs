//! `ItemCollectionMetrics`: what is told of the partitions that a write changed, of tables with local indexes.
//!
//! Item collections have no limit here, and no size of them is kept: the estimate is the smallest there is.

use indexmap::IndexMap;

use super::capacity::Object;
use super::item_write::ItemWrite;
use crate::table::Table;
use crate::tables::IndexScope;
use crate::value::encode_value;
use crate::wire::write;

/// The metrics of a write, if its table has local indexes.
fn of(table: &Table, change: &ItemWrite) -> Option<Vec<u8>> {
    table.record.indexes.iter().find(|index| index.scope == IndexScope::Local)?;
    let name = &table.record.partition.name;
    let mut encoded = Vec::new();
    encode_value(change.attributes().get(name)?, &mut encoded);
    let mut out = Object::new();
    let key = out.member("ItemCollectionKey");
    key.push(b'{');
    write::attribute(key, (name.as_bytes(), crate::value::ValueView::of(&encoded)));
    key.push(b'}');
    out.member("SizeEstimateRangeGB").extend_from_slice(b"[0.0,1.0]");
    Some(out.finish())
}

/// Appends the member of an operation on one item, if it is wanted.
pub(crate) fn member(out: &mut Object, wanted: bool, table: &Table, change: &ItemWrite) {
    if let Some(metrics) = wanted.then(|| of(table, change)).flatten() {
        out.member("ItemCollectionMetrics").extend_from_slice(&metrics);
    }
}

/// Appends the member of an operation on several items, if it is wanted: each partition once.
pub(crate) fn members<'c>(
    out: &mut Object,
    wanted: bool,
    changes: impl Iterator<Item = (&'c Table, &'c ItemWrite)>,
) {
    if !wanted {
        return;
    }
    let mut tables: IndexMap<&str, Vec<Vec<u8>>> = IndexMap::new();
    for (table, change) in changes {
        let Some(metrics) = of(table, change) else { continue };
        let known = tables.entry(&table.record.name).or_default();
        if !known.contains(&metrics) {
            known.push(metrics);
        }
    }
    if !tables.is_empty() {
        write::list(out.member("ItemCollectionMetrics"), *b"{}", tables.iter(), |out, (table, metrics)| {
            write::key(out, table);
            write::list(out, *b"[]", metrics.iter(), |out, metrics| out.extend_from_slice(metrics));
        });
    }
}
