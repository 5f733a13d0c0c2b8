//! What follows from a change of one item: the one place where a change becomes writes.
//!
//! Invariant: the item, its entries in every index and all else that tells of the change are one commit, so
//! that none is ever seen without the others. Whatever writes items writes them through [`Table::writes`].

use bytes::Bytes;
use store::{Entry, Key, Write};

use crate::Error;
use crate::collection::{self, Sizes};
use crate::history;
use crate::stream::{self, Moment};
use crate::table::Table;
use crate::tables::Billing;
use crate::ttl;
use crate::value::{ItemView, MAX_ITEM_BYTES, item_size};

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

/// What a change costs and leads to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Effect {
    /// The write units that each index took, in the order of the indexes; none without indexes.
    pub(crate) index_units: Vec<f64>,
    /// The size of its item collection after it, if one is kept.
    pub(crate) collection_bytes: Option<u64>,
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

    /// Appends the writes of a change of the item with that key, which was `old`, but for the sizes of collections.
    pub(crate) fn writes(
        &self,
        key: &Key,
        old: Option<&Entry>,
        change: Change,
        moment: Moment,
        sizes: &mut Sizes,
        writes: &mut Vec<Write>,
    ) -> Result<Effect, Error> {
        let mut effect = Effect::default();
        let new = match &change {
            Change::Keep => return Ok(effect),
            Change::Put(item) => Some(item),
            Change::Delete => None,
        };
        if self.looks_back() {
            history::write(self, key, old, moment, writes);
            let old = old.and_then(|entry| Image::of(&entry.value));
            let new = new.and_then(Image::of);
            // In its collection an item has itself and its entries in local indexes, as far as they change.
            let mut bytes = (0, 0);
            for index in &self.indexes {
                let write = index.writes(key, old, new, writes);
                effect.index_units.push(write.units);
                if !index.is_global() {
                    bytes = (bytes.0 + write.old_bytes, bytes.1 + write.new_bytes);
                }
            }
            if collection::keeps_sizes(self) {
                let size = |image: Option<Image<'_>>| image.map_or(0, |image| item_size(image.encoded));
                bytes = (bytes.0 + size(old), bytes.1 + size(new));
                effect.collection_bytes = sizes.change(self, key, bytes)?;
            }
            ttl::write(self, key, (old, new), moment.at, writes);
            stream::write(self.account, &self.record, (old, new), moment, writes);
        }
        writes.push(match change {
            Change::Put(item) => Write::Put(key.clone(), item),
            Change::Keep | Change::Delete => Write::Delete(key.clone()),
        });
        Ok(effect)
    }
}
