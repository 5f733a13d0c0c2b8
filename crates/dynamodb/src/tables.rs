//! What is stored, and under which keys.
//!
//! | table         | key                                                                    | value          |
//! |---------------|------------------------------------------------------------------------|----------------|
//! | `DDB_TABLES`  | account, name (text)                                                   | [`TableRecord`]|
//! | `DDB_ITEMS`   | account, table id (u64), hash (u16), partition key, sort key (to end)  | an item        |
//! | `DDB_DROPPED` | the node's account, account (u64), table id (u64)                      | [`Dropped`]    |
//! | `DDB_TOKENS`  | account, token (text)                                                  | [`Token`]      |
//! | `DDB_TOKENS`  | the node's account, end (ms, i64), account (u64), token (text)         | [`Token`]      |
//!
//! Invariants: a table's id is the commit that made it, so a table made again under an old name never sees
//! old items. Every read or write of items reads the table's row at the same snapshot or in the same
//! transaction, so none goes to a table that is gone; a row is parsed once per version. The hash spreads
//! partitions evenly, so that a scan can be split into segments that are runs of keys.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use store::key::{KeyWriter, prefix_end};
use store::{Entry, JsonRecord, Key, Page, Read, Store, Version, Write};
use types::{AccountId, Timestamp};

use crate::Error;
use crate::value::{AttributeValue, Attributes, ItemView, Kind};

/// Tables by name.
pub(crate) const TABLES: store::Table<TableRecord> =
    store::Table::new(store::tables::DDB_TABLES, "ddb_tables");

/// Tables whose items are still to be removed.
pub(crate) const DROPPED: store::Table<Dropped> =
    store::Table::new(store::tables::DDB_DROPPED, "ddb_dropped");

/// The largest partition key and sort key, in bytes.
const MAX_PARTITION_KEY_BYTES: usize = 2048;
const MAX_SORT_KEY_BYTES: usize = 1024;

/// A key attribute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeyAttribute {
    pub(crate) name: String,
    pub(crate) kind: KeyKind,
}

/// The types that key attributes may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum KeyKind {
    S,
    N,
    B,
}

impl KeyKind {
    pub(crate) fn kind(self) -> Kind {
        match self {
            Self::S => Kind::S,
            Self::N => Kind::N,
            Self::B => Kind::B,
        }
    }
}

/// How reads and writes are paid for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Billing {
    PayPerRequest { since: Timestamp },
    Provisioned { read_units: u64, write_units: u64 },
}

/// A table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct TableRecord {
    pub(crate) name: String,
    /// The commit that made it: the prefix of its items.
    pub(crate) id: u64,
    /// `TableId`.
    pub(crate) uuid: String,
    pub(crate) created_at: Timestamp,
    pub(crate) partition: KeyAttribute,
    pub(crate) sort: Option<KeyAttribute>,
    pub(crate) billing: Billing,
    pub(crate) deletion_protection: bool,
    /// Whether `TableClass` was asked for; there is one class.
    pub(crate) class_given: bool,
    pub(crate) tags: BTreeMap<String, String>,
}

impl JsonRecord for TableRecord {}

/// A table that was deleted, until its items are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Dropped {
    pub(crate) account: AccountId,
    pub(crate) id: u64,
}

impl JsonRecord for Dropped {}

impl Dropped {
    pub(crate) fn key(&self) -> Key {
        DROPPED.key(AccountId::NODE, |k| {
            k.u64(self.account.number()).u64(self.id);
        })
    }
}

/// Tokens of transactions, and the same by the time at which they end.
pub(crate) const TOKENS: store::Table<Token> = store::Table::new(store::tables::DDB_TOKENS, "ddb_tokens");

/// A client request token of a transaction, remembered so that the same is not done twice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Token {
    pub(crate) token: String,
    pub(crate) account: AccountId,
    /// Digest of the request.
    pub(crate) fingerprint: String,
    pub(crate) expires_at: Timestamp,
}

impl JsonRecord for Token {}

impl Token {
    pub(crate) fn key(&self) -> Key {
        TOKENS.key(self.account, |k| {
            k.text(&self.token);
        })
    }

    /// The writes that remember it until it ends.
    pub(crate) fn writes(&self, writes: &mut Vec<Write>) {
        let by_time = TOKENS.key(AccountId::NODE, |k| {
            k.i64(self.expires_at.as_millisecond()).u64(self.account.number()).text(&self.token);
        });
        writes.push(TOKENS.put(self.key(), self));
        writes.push(TOKENS.put(by_time, self));
    }
}

/// The key of a table's row.
pub(crate) fn table_key(account: AccountId, name: &str) -> Key {
    TABLES.key(account, |k| {
        k.text(name);
    })
}

/// The beginning of the keys of a table's items.
pub(crate) fn items_prefix(account: AccountId, id: u64) -> KeyWriter {
    let mut writer = KeyWriter::new(account, store::tables::DDB_ITEMS);
    writer.u64(id);
    writer
}

/// What happens to an item.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Change {
    Keep,
    Put(Bytes),
    Delete,
}

/// A table as one version of its row describes it.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) account: AccountId,
    pub(crate) record: TableRecord,
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
        Ok(Arc::new(Self { account, record: stored.value, row: stored.key, version: stored.version }))
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
            check_not_empty(&key.name, value)?;
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
        match partition {
            // Delimits itself.
            AttributeValue::N(_) => writer.raw(&bytes),
            _ => writer.bytes(&bytes),
        };
        writer
    }

    /// The keys of segment `segment` of `total`: from the first, to the last excluded.
    pub(crate) fn segment(&self, segment: u64, total: u64) -> (Key, Key) {
        let bound = |segment: u64| {
            let mut writer = items_prefix(self.account, self.record.id);
            match u16::try_from((segment << 16).div_ceil(total)) {
                Ok(hash) => {
                    writer.raw(&hash.to_be_bytes());
                    writer.finish()
                }
                Err(_) => prefix_end(&writer.finish()),
            }
        };
        (bound(segment), bound(segment + 1))
    }

    /// The key attributes of a stored item.
    pub(crate) fn key_attributes(&self, item: ItemView<'_>) -> Option<Attributes> {
        self.keys().map(|key| Some((key.name.clone(), item.get(&key.name)?.decode()?))).collect()
    }

    /// The writes of a change of one item. Everything that follows from a change (indexes, streams) belongs
    /// here, where it becomes part of the same commit.
    pub(crate) fn writes(&self, key: &Key, change: Change, writes: &mut Vec<Write>) {
        match change {
            Change::Keep => {}
            Change::Put(item) => writes.push(Write::Put(key.clone(), item)),
            Change::Delete => writes.push(Write::Delete(key.clone())),
        }
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

fn scalar_len(value: &AttributeValue) -> usize {
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

/// Spreads partitions over 65,536 places: FNV-1a, folded. Stored, so it never changes.
fn spread(bytes: &[u8]) -> u16 {
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
    tables: Mutex<HashMap<Key, Arc<Table>>>,
}

/// Beyond so many the cache begins anew, so that a million tables do not live in memory.
const MAX_CACHED: usize = 4096;

impl Cache {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Arc<Table>>> {
        self.tables.lock().expect("no holder of this lock panics")
    }

    /// The table of that name, perhaps as it was a moment ago.
    pub(crate) async fn get(
        &self,
        store: &Store,
        account: AccountId,
        name: &str,
    ) -> Result<Option<Arc<Table>>, Error> {
        let key = table_key(account, name);
        if let Some(table) = self.lock().get(&key) {
            return Ok(Some(table.clone()));
        }
        let Some(entry) = store.get(key.clone()).await? else { return Ok(None) };
        let table = Table::of(account, &entry)?;
        let mut tables = self.lock();
        if tables.len() >= MAX_CACHED {
            tables.clear();
        }
        tables.insert(key, table.clone());
        Ok(Some(table))
    }

    /// Forgets a table that turned out to be stale or gone.
    pub(crate) fn forget(&self, account: AccountId, name: &str) {
        self.lock().remove(&table_key(account, name));
    }
}
