//! Secondary indexes: the entry that an item has in one, and where it lies.
//!
//! Invariants: an entry is a function of its item alone, so that a change of the item says all that happens to
//! its entries, in the same commit; an item without the index's key attributes has no entry. Entries are made
//! from the stored form of items, and nothing is rebuilt.

use bytes::Bytes;
use store::key::KeyWriter;
use store::{Key, Write};
use types::AccountId;

use crate::Error;
use crate::change::Image;
use crate::table::{ITEM_PREFIX_LEN, MAX_PARTITION_KEY_BYTES, MAX_SORT_KEY_BYTES, delimited, spread};
use crate::tables::{IndexRecord, IndexScope, KeyAttribute, KeyKind, Projected, TableRecord, entries_prefix};
use crate::value::{AttributeValue, Attributes, ItemView, Kind, ValueView, item_size, project_item};

/// An index, ready for work.
#[derive(Debug)]
pub(crate) struct Index {
    pub(crate) record: IndexRecord,
    account: AccountId,
    table_id: u64,
    /// The attributes of its entries; `None` is all.
    kept: Option<Vec<String>>,
}

impl Index {
    pub(crate) fn new(account: AccountId, table: &TableRecord, record: &IndexRecord) -> Self {
        let kept = match &record.projected {
            Projected::All => None,
            Projected::KeysOnly => Some(Vec::new()),
            Projected::Include(names) => Some(names.clone()),
        };
        let kept = kept.map(|mut names| {
            let table_keys = std::iter::once(&table.partition).chain(&table.sort);
            names.extend(table_keys.chain(record.keys()).map(|key| key.name.clone()));
            names.sort_unstable();
            names.dedup();
            names
        });
        Self { record: record.clone(), account, table_id: table.id, kept }
    }

    /// Whether its entries have that attribute of their items.
    pub(crate) fn projects(&self, name: &str) -> bool {
        self.kept.as_ref().is_none_or(|kept| kept.binary_search_by(|kept| kept.as_str().cmp(name)).is_ok())
    }

    /// Whether its entries have all attributes of their items.
    pub(crate) fn projects_all(&self) -> bool {
        self.kept.is_none()
    }

    /// The beginning of the keys of its entries.
    pub(crate) fn prefix(&self) -> KeyWriter {
        entries_prefix(self.account, self.table_id, Some(self.record.number))
    }

    /// The key of the entry of the item with that key, if it has one.
    pub(crate) fn entry_key(&self, item_key: &[u8], item: ItemView<'_>) -> Option<Key> {
        let mut writer = self.partition_of(item)?;
        for key in &self.record.sort {
            delimited(&mut writer, key.kind, key_value(key, MAX_SORT_KEY_BYTES, item)?.scalar());
        }
        writer.raw(&item_key[ITEM_PREFIX_LEN..]);
        Some(writer.finish())
    }

    /// The beginning of the keys of a partition's entries; the values, one for each attribute of the partition key,
    /// are the bytes in whose order they are.
    pub(crate) fn partition_prefix(&self, values: &[impl AsRef<[u8]>]) -> KeyWriter {
        let mut writer = self.prefix();
        let hash = match values {
            [value] => spread(value.as_ref()),
            several => spread(&several.iter().flat_map(AsRef::as_ref).copied().collect::<Vec<_>>()),
        };
        writer.raw(&hash.to_be_bytes());
        for (key, value) in self.record.partition.iter().zip(values) {
            delimited(&mut writer, key.kind, value.as_ref());
        }
        writer
    }

    /// The beginning of the keys of the partition that an item's entry is in, if it has the attributes.
    pub(crate) fn partition_of(&self, item: ItemView<'_>) -> Option<KeyWriter> {
        let value = |key| key_value(key, MAX_PARTITION_KEY_BYTES, item).map(ValueView::scalar);
        let values: Option<Vec<&[u8]>> = self.record.partition.iter().map(value).collect();
        Some(self.partition_prefix(&values?))
    }

    /// The entry's value.
    fn entry_value(&self, item: Image<'_>) -> Bytes {
        match &self.kept {
            None => item.encoded.clone(),
            Some(kept) => {
                let is_kept = |name: &[u8]| kept.binary_search_by(|kept| kept.as_bytes().cmp(name)).is_ok();
                project_item(item.view, is_kept)
            }
        }
    }

    /// The entry of an item.
    pub(crate) fn entry(&self, item_key: &[u8], item: Image<'_>) -> Option<(Key, Bytes)> {
        let key = self.entry_key(item_key, item.view)?;
        Some((key, self.entry_value(item)))
    }

    /// Appends the writes that follow from a change of an item (Developer Guide, "Using Global Secondary Indexes in
    /// DynamoDB", provisioned throughput considerations, says what they cost).
    pub(crate) fn writes(
        &self,
        item_key: &[u8],
        old: Option<Image<'_>>,
        new: Option<Image<'_>>,
        writes: &mut Vec<Write>,
    ) -> EntryWrite {
        let old = old.and_then(|item| self.entry(item_key, item));
        let new = new.and_then(|item| self.entry(item_key, item));
        if old == new {
            return EntryWrite::NONE;
        }
        let size = |entry: &Option<(Key, Bytes)>| entry.as_ref().map_or(0, |(_, value)| item_size(value));
        let (old_bytes, new_bytes) = (size(&old), size(&new));
        let units = match (old, new) {
            (Some((old_key, _)), Some((new_key, new))) if old_key == new_key => {
                writes.push(Write::Put(new_key, new));
                units(old_bytes).max(units(new_bytes))
            }
            (old, new) => {
                let mut total = 0.0;
                if let Some((key, _)) = old {
                    total += units(old_bytes);
                    writes.push(Write::Delete(key));
                }
                if let Some((key, value)) = new {
                    total += units(new_bytes);
                    writes.push(Write::Put(key, value));
                }
                total
            }
        };
        EntryWrite { units, old_bytes, new_bytes }
    }

    /// Checks what an item holds for the key of this index, as far as `changed` wants it.
    pub(crate) fn check(&self, item: &Attributes, changed: impl Fn(&str) -> bool) -> Result<(), Error> {
        self.check_types(|name| item.get(name).filter(|_| changed(name)))?;
        let index = &self.record.name;
        let partition = self.record.partition.iter().map(|key| (key, MAX_PARTITION_KEY_BYTES));
        let sort = self.record.sort.iter().map(|key| (key, MAX_SORT_KEY_BYTES));
        for (key, max) in partition.chain(sort).filter(|(key, _)| changed(&key.name)) {
            let Some(value) = item.get(&key.name) else { continue };
            let len = crate::table::scalar_len(value);
            if len == 0 && key.kind != KeyKind::N {
                let what = if value.kind() == Kind::S { "string" } else { "binary" };
                return Err(Error::Validation(format!(
                    "One or more parameter values are not valid. A value specified for a secondary index key is not supported. The AttributeValue for a key attribute cannot contain an empty {what} value. IndexName: {index}, IndexKey: {}",
                    key.name
                )));
            }
            if len > max {
                return Err(Error::invalid_parameter(match max {
                    MAX_SORT_KEY_BYTES => {
                        "Aggregated size of all range keys has exceeded the size limit of 1024 bytes"
                    }
                    _ => "Size of hashkey has exceeded the maximum size limit of2048 bytes",
                }));
            }
        }
        Ok(())
    }

    /// Values of the index's key attributes must have their types.
    pub(crate) fn check_types<'v>(
        &self,
        value: impl Fn(&str) -> Option<&'v AttributeValue>,
    ) -> Result<(), Error> {
        for key in self.record.keys() {
            let Some(value) = value(&key.name).filter(|value| value.kind() != key.kind.kind()) else {
                continue;
            };
            return Err(Error::invalid_parameter(format_args!(
                "Type mismatch for Index Key {} Expected: {} Actual: {} IndexName: {}",
                key.name,
                key.kind.kind().name(),
                value.kind().name(),
                self.record.name
            )));
        }
        Ok(())
    }

    pub(crate) fn is_global(&self) -> bool {
        self.record.scope == IndexScope::Global
    }
}

/// What an item has for a key attribute, if it can be one.
fn key_value<'v>(key: &KeyAttribute, max_bytes: usize, item: ItemView<'v>) -> Option<ValueView<'v>> {
    let value = item.get(&key.name)?;
    let fits = value.kind() == key.kind.kind()
        && (key.kind == KeyKind::N || (1..=max_bytes).contains(&value.scalar().len()));
    fits.then_some(value)
}

/// What a change of an item meant for its entry in an index.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EntryWrite {
    /// The write units that it took.
    pub(crate) units: f64,
    /// The entry's size before and after, 0 for none and for one that stays as it is.
    pub(crate) old_bytes: usize,
    pub(crate) new_bytes: usize,
}

impl EntryWrite {
    /// The entry stays as it is.
    const NONE: Self = Self { units: 0.0, old_bytes: 0, new_bytes: 0 };
}

fn units(entry_bytes: usize) -> f64 {
    entry_bytes.div_ceil(1024).max(1) as f64
}
