//! A table as one version of its row describes it, and how what it holds is found.
//!
//! Invariant: every read or write of items reads the table's row at the same snapshot or in the same
//! transaction, so none goes to a table that is gone or misses an index; a row is parsed once per version.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use store::key::KeyWriter;
use store::{Entry, Key, Page, Read, Store, Version};
use types::AccountId;

use crate::Error;
use crate::index::Index;
use crate::tables::{KeyAttribute, KeyKind, TABLES, TableRecord, items_prefix, table_key};
use crate::value::{AttributeValue, Attributes, ItemView};

/// The largest partition key and sort key, in bytes.
pub(crate) const MAX_PARTITION_KEY_BYTES: usize = 2048;
pub(crate) const MAX_SORT_KEY_BYTES: usize = 1024;

/// The length of what the keys of all items of a table begin with.
pub(crate) const ITEM_PREFIX_LEN: usize = store::key::PREFIX_LEN + 8;

/// A table as one version of its row describes it.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) account: AccountId,
    pub(crate) record: TableRecord,
    /// Its indexes, ready for work.
    pub(crate) indexes: Vec<Index>,
    /// Its policy, for whoever decides on rights.
    pub(crate) policy: Option<Arc<str>>,
    /// The key of its row.
    row: Key,
    version: Version,
}

/// Why a try at something ended early.
#[derive(Debug)]
pub(crate) enum Attempt {
    /// The table's row is not the version that the try began with: begin again.
    Stale,
    Failed(Error),
}

impl From<Error> for Attempt {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<store::Error> for Attempt {
    fn from(error: store::Error) -> Self {
        Self::Failed(error.into())
    }
}

impl Table {
    fn of(account: AccountId, entry: &Entry) -> Result<Arc<Self>, Error> {
        let stored = TABLES.decode(entry)?;
        let record = stored.value;
        let indexes = record.indexes.iter().map(|index| Index::new(account, &record, index)).collect();
        let policy = record.policy.as_ref().map(|policy| Arc::from(&*policy.document));
        Ok(Arc::new(Self { account, record, indexes, policy, row: stored.key, version: stored.version }))
    }

    /// The read that [`Self::check`] needs.
    pub(crate) fn read(&self) -> Read {
        Read::Key(self.row.clone())
    }

    /// The table must be there still, and unchanged.
    pub(crate) fn check(&self, page: &Page) -> Result<(), Attempt> {
        match page.first() {
            None => Err(Error::table_not_found().into()),
            Some(entry) if entry.version == self.version => Ok(()),
            Some(_) => Err(Attempt::Stale),
        }
    }

    /// Its key attributes.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &KeyAttribute> {
        std::iter::once(&self.record.partition).chain(&self.record.sort)
    }

    /// Whether an attribute is part of the key.
    pub(crate) fn is_key(&self, name: &str) -> bool {
        self.keys().any(|key| key.name == name)
    }

    /// The key of an item given whole.
    pub(crate) fn key_of_item(&self, item: &Attributes) -> Result<Key, Error> {
        for key in self.keys() {
            let Some(value) = item.get(&key.name) else {
                let name = &key.name;
                return Err(Error::invalid_parameter(format_args!("Missing the key {name} in the item")));
            };
            if value.kind() != key.kind.kind() {
                return Err(Error::invalid_parameter(format_args!(
                    "Type mismatch for key {} expected: {} actual: {}",
                    key.name,
                    key.kind.kind().name(),
                    value.kind().name()
                )));
            }
            check_not_empty(&key.name, value)?;
        }
        self.key(item)
    }

    /// The key of an item given by its key attributes alone.
    pub(crate) fn key_of_key(&self, attributes: &Attributes) -> Result<Key, Error> {
        let mismatch = || Error::validation("The provided key element does not match the schema");
        if attributes.len() != self.keys().count() {
            return Err(mismatch());
        }
        for key in self.keys() {
            let value = attributes.get(&key.name).ok_or_else(mismatch)?;
            if value.kind() != key.kind.kind() {
                return Err(mismatch());
            }
            // Of a key alone the same rule is told in other words than of an item.
            check_not_empty(&key.name, value).map_err(|error| match error {
                Error::Validation(message) => {
                    Error::Validation(message.replace("are not valid.", "were invalid:"))
                }
                other => other,
            })?;
        }
        self.key(attributes)
    }

    /// The key of attributes that are there and have the types of the schema.
    fn key(&self, attributes: &Attributes) -> Result<Key, Error> {
        let partition = &attributes[&self.record.partition.name];
        if scalar_len(partition) > MAX_PARTITION_KEY_BYTES {
            return Err(Error::invalid_parameter(
                "Size of hashkey has exceeded the maximum size limit of2048 bytes",
            ));
        }
        let mut writer = self.partition_prefix(partition);
        if let Some(sort) = &self.record.sort {
            let sort = &attributes[&sort.name];
            if scalar_len(sort) > MAX_SORT_KEY_BYTES {
                return Err(Error::invalid_parameter(
                    "Aggregated size of all range keys has exceeded the size limit of 1024 bytes",
                ));
            }
            writer.raw(&sort_key_bytes(sort));
        }
        Ok(writer.finish())
    }

    /// The beginning of the keys of a partition's items.
    pub(crate) fn partition_prefix(&self, partition: &AttributeValue) -> KeyWriter {
        let mut writer = items_prefix(self.account, self.record.id);
        let bytes = sort_key_bytes(partition);
        writer.raw(&spread(&bytes).to_be_bytes());
        delimited(&mut writer, self.record.partition.kind, &bytes);
        writer
    }

    /// The key attributes of a stored item.
    pub(crate) fn key_attributes(&self, item: ItemView<'_>) -> Option<Attributes> {
        self.keys().map(|key| Some((key.name.clone(), item.get(&key.name)?.decode()?))).collect()
    }
}

/// Key attributes may not be empty.
pub(crate) fn check_not_empty(name: &str, value: &AttributeValue) -> Result<(), Error> {
    let what = match value {
        AttributeValue::S(text) if text.is_empty() => "string",
        AttributeValue::B(bytes) if bytes.is_empty() => "binary",
        _ => return Ok(()),
    };
    Err(Error::Validation(format!(
        "One or more parameter values are not valid. The AttributeValue for a key attribute cannot contain an empty {what} value. Key: {name}"
    )))
}

/// The length of a key attribute's value, as its limit counts it.
pub(crate) fn scalar_len(value: &AttributeValue) -> usize {
    match value {
        AttributeValue::S(text) => text.len(),
        AttributeValue::B(bytes) => bytes.len(),
        _ => 0,
    }
}

/// Bytes in whose order the values of a key attribute are.
pub(crate) fn sort_key_bytes(value: &AttributeValue) -> Vec<u8> {
    match value {
        AttributeValue::S(text) => text.as_bytes().to_vec(),
        AttributeValue::B(bytes) => bytes.to_vec(),
        AttributeValue::N(number) => {
            let mut out = Vec::with_capacity(24);
            number.encode(&mut out);
            out
        }
        other => unreachable!("a key attribute is S, N or B, and was checked: {:?}", other.kind()),
    }
}

/// Appends a partition key, which other elements follow.
pub(crate) fn delimited(writer: &mut KeyWriter, kind: KeyKind, bytes: &[u8]) {
    match kind {
        // Delimits itself.
        KeyKind::N => writer.raw(bytes),
        KeyKind::S | KeyKind::B => writer.bytes(bytes),
    };
}

/// Spreads partitions over 65,536 places: FNV-1a, folded. Stored, so it never changes.
pub(crate) fn spread(bytes: &[u8]) -> u16 {
    let mut hash = 0xCBF2_9CE4_8422_2325_u64;
    for &byte in bytes {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3);
    }
    // The last bytes have stirred the high bits little: mix before folding.
    hash = (hash ^ hash >> 32).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (hash >> 48) as u16
}

/// Tables that were parsed, for whoever names one next. Never trusted alone: see [`Table::check`].
#[derive(Debug, Default)]
pub(crate) struct Cache {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    tables: HashMap<Key, Arc<Table>>,
    /// Counts what was forgotten: a row that was read before is not kept after.
    forgotten: u64,
}

/// Beyond so many the cache begins anew, so that a million tables do not live in memory.
const MAX_CACHED: usize = 4096;

impl Cache {
    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().expect("no holder of this lock panics")
    }

    /// The table of that name, perhaps as it was a moment ago.
    pub(crate) async fn get(
        &self,
        store: &Store,
        account: AccountId,
        name: &str,
    ) -> Result<Option<Arc<Table>>, Error> {
        let key = table_key(account, name);
        let forgotten = {
            let known = self.lock();
            if let Some(table) = known.tables.get(&key) {
                return Ok(Some(table.clone()));
            }
            known.forgotten
        };
        let Some(entry) = store.get(key.clone()).await? else { return Ok(None) };
        let table = Table::of(account, &entry)?;
        let mut known = self.lock();
        if known.tables.len() >= MAX_CACHED {
            known.tables.clear();
        }
        if known.forgotten == forgotten {
            known.tables.insert(key, table.clone());
        }
        Ok(Some(table))
    }

    /// Forgets a table that turned out to be stale or gone.
    pub(crate) fn forget(&self, account: AccountId, name: &str) {
        let mut known = self.lock();
        known.forgotten += 1;
        known.tables.remove(&table_key(account, name));
    }
}
