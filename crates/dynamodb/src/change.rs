//! What follows from a change of one item: the one place where a change becomes writes.
//!
//! Invariant: the item, its entries in every index and all else that tells of the change are one commit, so
//! that none is ever seen without the others. Whatever writes items writes them through [`Table::writes`].

use bytes::Bytes;
use store::{Entry, Key, Write};

use crate::history;
use crate::stream::{self, Moment};
use crate::table::Table;
use crate::tables::Billing;
use crate::ttl;
use crate::value::{ItemView, MAX_ITEM_BYTES};

/// What happens to an item.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Change {
    Keep,
    Put(Bytes),
    Delete,
}

/// An item as it is stored, and a look into it: one for all that follows from its change.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Image<'i> {
    pub(crate) encoded: &'i Bytes,
    pub(crate) view: ItemView<'i>,
}

impl<'i> Image<'i> {
    /// Looks into it. An item that can not be looked into is not written; one that was read before has been.
    pub(crate) fn of(encoded: &'i Bytes) -> Option<Self> {
        ItemView::new(encoded).ok().map(|view| Self { encoded, view })
    }
}

impl Table {
    /// Whether what follows from a change depends on what was there before. If not, an item can be put without
    /// reading the one in its place.
    pub(crate) fn looks_back(&self) -> bool {
        let record = &self.record;
        !self.indexes.is_empty()
            || record.stream.as_ref().is_some_and(|stream| stream.enabled)
            || record.ttl.is_some()
            || record.recovery.is_some()
            || !record.backups.is_empty()
            // The larger of both is what it costs.
            || matches!(record.billing, Billing::Provisioned { .. })
    }

    /// About how many bytes follow from a change of an item that has so many now, at most.
    pub(crate) fn weight(&self, size_bytes: usize) -> usize {
        let record = &self.record;
        let copies = 1 + self.indexes.len() + usize::from(record.stream.is_some());
        let past = usize::from(record.stream.is_some())
            + usize::from(record.recovery.is_some() || !record.backups.is_empty());
        size_bytes * copies + MAX_ITEM_BYTES * past
    }

    /// Appends the writes of a change of the item with that key, which was `old`; answers with the write units
    /// that each index took, in the order of the indexes (none without indexes).
    pub(crate) fn writes(
        &self,
        key: &Key,
        old: Option<&Entry>,
        change: Change,
        moment: Moment,
        writes: &mut Vec<Write>,
    ) -> Vec<f64> {
        let new = match &change {
            Change::Keep => return Vec::new(),
            Change::Put(item) => Some(item),
            Change::Delete => None,
        };
        let mut units = Vec::new();
        if self.looks_back() {
            history::write(self, key, old, moment, writes);
            let old = old.and_then(|entry| Image::of(&entry.value));
            let new = new.and_then(Image::of);
            units.extend(self.indexes.iter().map(|index| index.writes(key, old, new, writes)));
            ttl::write(self, key, (old, new), moment.at, writes);
            stream::write(self.account, &self.record, (old, new), moment, writes);
        }
        writes.push(match change {
            Change::Put(item) => Write::Put(key.clone(), item),
            Change::Keep | Change::Delete => Write::Delete(key.clone()),
        });
        units
    }
}
