//! What is stored, and under which keys.
//!
//! | table         | key                                                                    | value          |
//! |---------------|------------------------------------------------------------------------|----------------|
//! | `DDB_TABLES`  | account, name (text)                                                   | [`TableRecord`]|
//! | `DDB_ITEMS`   | account, table id (u64), hash (u16), partition key, sort key (to end)  | an item        |
//! | `DDB_DROPPED` | the node's account, account (u64), table id (u64)                      | [`Dropped`]    |
//! | `DDB_TOKENS`  | account, token (text)                                                  | [`Token`]      |
//! | `DDB_TOKENS`  | the node's account, end (ms, i64), account (u64), token (text)         | [`Token`]      |
//! | `DDB_ENTRIES` | account, table id (u64), index (u16), hash (u16), the index's partition keys and sort keys, the item's key from its hash on (to end) | the projected item |
//! | `DDB_STREAMS` | account, table name (text), label (text)                               | [`StreamRecord`] |
//! | `DDB_STREAM_RECORDS` | account, stream id (u64), commit version and ordinal            | a change       |
//! | `DDB_STREAM_HEADS` | account, stream id (u64)                                          | [`StreamHead`] |
//! | `DDB_EXPIRY`  | the node's account, end (s, i64), account (u64), table id (u64), the item's key from its hash on (to end) | [`Expiring`] |
//! | `DDB_HISTORY` | account, table id (u64), commit version and ordinal of the change        | an item before |
//! | `DDB_HISTORY_HEADS` | account, table id (u64)                                          | [`HistoryHead`] |
//! | `DDB_BACKUPS` | account, table name (text), backup id (text)                           | [`BackupRecord`] |
//! | `DDB_RESTORES` | the node's account, account (u64), table id (u64)                     | [`Restore`]    |
//! | `DDB_COLLECTIONS` | account, table id (u64), hash (u16), partition key (to end)       | the size of an item collection |
//! | `DDB_BACKFILLS` | the node's account, account (u64), table id (u64), kind and index (u8, u16) | [`Backfill`] |
//!
//! Exports and imports have tables of their own: see `transfer::rows`.
//!
//! Invariants: a table's id is the commit that made it, so a table made again under an old name never sees
//! old items; an index's number is never used again in its table. The hash spreads partitions evenly, so that a
//! scan can be split into segments that are runs of keys. What is stored as JSON grows by fields with defaults.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use store::key::KeyWriter;
use store::{JsonRecord, Key, Write};
use types::{AccountId, Timestamp};

use crate::value::Kind;

/// Tables by name.
pub(crate) const TABLES: store::Table<TableRecord> =
    store::Table::new(store::tables::DDB_TABLES, "ddb_tables");

/// Tables whose items are still to be removed.
pub(crate) const DROPPED: store::Table<Dropped> =
    store::Table::new(store::tables::DDB_DROPPED, "ddb_dropped");

/// What existing items still have to be entered into.
pub(crate) const BACKFILLS: store::Table<Backfill> =
    store::Table::new(store::tables::DDB_BACKFILLS, "ddb_backfills");

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
    /// Attributes of keys, the table's and its indexes', in the order given; empty if they are the table's.
    #[serde(default)]
    pub(crate) definitions: Vec<KeyAttribute>,
    #[serde(default)]
    pub(crate) indexes: Vec<IndexRecord>,
    /// The number that the next index gets.
    #[serde(default)]
    pub(crate) next_index: u16,
    /// The latest stream.
    #[serde(default)]
    pub(crate) stream: Option<StreamSetting>,
    /// The attribute that says when an item expires.
    #[serde(default)]
    pub(crate) ttl: Option<String>,
    /// The commits at which backups were made.
    #[serde(default)]
    pub(crate) backups: Vec<u64>,
    #[serde(default)]
    pub(crate) recovery: Option<Recovery>,
    /// Where its items come from, while they do and after.
    #[serde(default)]
    pub(crate) restored: Option<Restored>,
    /// It is being filled from a bucket.
    #[serde(default)]
    pub(crate) importing: bool,
    /// The sizes of its item collections are kept, if it has local indexes.
    #[serde(default)]
    pub(crate) collections: bool,
    /// When throughput was raised and lowered last.
    #[serde(default)]
    pub(crate) increased_at: Option<Timestamp>,
    #[serde(default)]
    pub(crate) decreased_at: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) policy: Option<ResourcePolicy>,
}

/// A policy that hangs on a table or a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ResourcePolicy {
    /// The document (JSON) as it was put.
    pub(crate) document: String,
    /// When it was put, in milliseconds since the epoch.
    pub(crate) revision: String,
}

impl JsonRecord for TableRecord {}

impl TableRecord {
    /// Whether its items are still to come, so that it can be described and nothing else.
    pub(crate) fn is_filling(&self) -> bool {
        self.importing || self.restored.as_ref().is_some_and(|restored| restored.in_progress)
    }

    /// The attributes that `AttributeDefinitions` lists.
    pub(crate) fn definitions(&self) -> Vec<&KeyAttribute> {
        if self.definitions.is_empty() {
            std::iter::once(&self.partition).chain(&self.sort).collect()
        } else {
            self.definitions.iter().collect()
        }
    }

    /// Whether it has local indexes, so that its partitions are item collections.
    pub(crate) fn has_collections(&self) -> bool {
        self.indexes.iter().any(|index| index.scope == IndexScope::Local)
    }

    /// The index of that name.
    pub(crate) fn index(&self, name: &str) -> Option<&IndexRecord> {
        self.indexes.iter().find(|index| index.name == name)
    }
}

/// A secondary index.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct IndexRecord {
    pub(crate) name: String,
    /// What its entries' keys begin with, after the table's id.
    pub(crate) number: u16,
    pub(crate) scope: IndexScope,
    /// One, or of a global index up to four.
    #[serde(deserialize_with = "attributes")]
    pub(crate) partition: Vec<KeyAttribute>,
    /// One or none, or of a global index up to four.
    #[serde(deserialize_with = "attributes")]
    pub(crate) sort: Vec<KeyAttribute>,
    pub(crate) projected: Projected,
    /// Read and write units, of a global index of a provisioned table.
    pub(crate) throughput: Option<(u64, u64)>,
    pub(crate) state: IndexState,
}

impl IndexRecord {
    /// Its key attributes.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &KeyAttribute> {
        self.partition.iter().chain(&self.sort)
    }
}

/// Reads key attributes, of which rows once had one or none.
fn attributes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<KeyAttribute>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Stored {
        Several(Vec<KeyAttribute>),
        One(Option<KeyAttribute>),
    }
    Ok(match Stored::deserialize(deserializer)? {
        Stored::Several(keys) => keys,
        Stored::One(key) => key.into_iter().collect(),
    })
}

/// Whose partitions an index has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum IndexScope {
    /// The table's.
    Local,
    /// Its own.
    Global,
}

/// What an index's entries hold beside the keys of the index and of the table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Projected {
    All,
    KeysOnly,
    Include(Vec<String>),
}

/// Whether an index can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum IndexState {
    /// Every write enters it; what was there before is being entered.
    Creating,
    Active,
}

/// Recovery to any point in time, within so many days.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Recovery {
    pub(crate) since: Timestamp,
    /// The commit since which it is possible.
    pub(crate) version: u64,
    pub(crate) days: u32,
}

/// Where the items of a restored table come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Restored {
    pub(crate) source_arn: String,
    pub(crate) backup_arn: Option<String>,
    pub(crate) at: Timestamp,
    pub(crate) in_progress: bool,
}

/// What a table knows of its latest stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StreamSetting {
    /// The commit that made it: the prefix of its records.
    pub(crate) id: u64,
    pub(crate) label: String,
    pub(crate) view: ViewType,
    pub(crate) enabled: bool,
}

/// What the records of a stream show of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ViewType {
    KeysOnly,
    NewImage,
    OldImage,
    NewAndOldImages,
}

impl ViewType {
    pub(crate) const WORDS: [&str; 4] = ["NEW_IMAGE", "OLD_IMAGE", "NEW_AND_OLD_IMAGES", "KEYS_ONLY"];

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::NewImage => Self::WORDS[0],
            Self::OldImage => Self::WORDS[1],
            Self::NewAndOldImages => Self::WORDS[2],
            Self::KeysOnly => Self::WORDS[3],
        }
    }

    pub(crate) fn of(word: &str) -> Option<Self> {
        [Self::NewImage, Self::OldImage, Self::NewAndOldImages, Self::KeysOnly]
            .into_iter()
            .find(|view| view.word() == word)
    }
}

/// A table that was deleted, or an index, until what it holds is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Dropped {
    pub(crate) account: AccountId,
    pub(crate) id: u64,
    /// The index, if the table is still there.
    #[serde(default)]
    pub(crate) index: Option<u16>,
    /// Backups need the items; only what indexes held goes.
    #[serde(default)]
    pub(crate) keep_items: bool,
    /// Nothing but history, up to this commit.
    #[serde(default)]
    pub(crate) history_until: Option<u64>,
}

impl Dropped {
    /// A table whole.
    pub(crate) fn table(account: AccountId, id: u64) -> Self {
        Self { account, id, index: None, keep_items: false, history_until: None }
    }
}

impl JsonRecord for Dropped {}

impl Dropped {
    pub(crate) fn key(&self) -> Key {
        DROPPED.key(AccountId::NODE, |k| {
            k.u64(self.account.number()).u64(self.id);
            if let Some(index) = self.index {
                k.raw(&index.to_be_bytes());
            }
            if let Some(version) = self.history_until {
                k.u64(version);
            }
        })
    }
}

/// Something that items which were there before it still have to be entered into.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Backfill {
    pub(crate) account: AccountId,
    pub(crate) table: String,
    pub(crate) id: u64,
    pub(crate) into: BackfillInto,
    /// The items before this key are done.
    pub(crate) from: Option<Vec<u8>>,
}

/// What a [`Backfill`] enters items into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum BackfillInto {
    Index(u16),
    /// Items by the time at which they expire.
    Expiry,
}

impl JsonRecord for Backfill {}

impl Backfill {
    pub(crate) fn key(&self) -> Key {
        BACKFILLS.key(AccountId::NODE, |k| {
            k.u64(self.account.number()).u64(self.id);
            match self.into {
                BackfillInto::Index(number) => k.u8(0).raw(&number.to_be_bytes()),
                BackfillInto::Expiry => k.u8(1),
            };
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
    pub(crate) fn writes(&self) -> [Write; 2] {
        let by_time = TOKENS.key(AccountId::NODE, |k| {
            k.i64(self.expires_at.as_millisecond()).u64(self.account.number()).text(&self.token);
        });
        let value = store::Table::encode(self);
        [Write::Put(self.key(), value.clone()), Write::Put(by_time, value)]
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

/// The beginning of the keys of all entries of a table's indexes, or of one of them.
pub(crate) fn entries_prefix(account: AccountId, id: u64, index: Option<u16>) -> KeyWriter {
    let mut writer = KeyWriter::new(account, store::tables::DDB_ENTRIES);
    writer.u64(id);
    if let Some(index) = index {
        writer.raw(&index.to_be_bytes());
    }
    writer
}

/// Streams by table and label.
pub(crate) const STREAMS: store::Table<StreamRecord> =
    store::Table::new(store::tables::DDB_STREAMS, "ddb_streams");

/// Where each stream's oldest record stands, once something has been trimmed.
pub(crate) const STREAM_HEADS: store::Table<StreamHead> =
    store::Table::new(store::tables::DDB_STREAM_HEADS, "ddb_stream_heads");

/// A stream: the changes of one table, from when it was enabled until it was disabled or the table deleted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct StreamRecord {
    pub(crate) table: String,
    pub(crate) label: String,
    pub(crate) id: u64,
    pub(crate) view: ViewType,
    pub(crate) created_at: Timestamp,
    pub(crate) partition: String,
    pub(crate) sort: Option<String>,
    /// When, and by which commit.
    pub(crate) closed: Option<(Timestamp, u64)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) policy: Option<ResourcePolicy>,
}

impl JsonRecord for StreamRecord {}

impl StreamRecord {
    pub(crate) fn key(&self, account: AccountId) -> Key {
        stream_key(account, &self.table, &self.label)
    }
}

/// The key of a stream's row.
pub(crate) fn stream_key(account: AccountId, table: &str, label: &str) -> Key {
    STREAMS.key(account, |k| {
        k.text(table).text(label);
    })
}

/// Records before this one are gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StreamHead {
    pub(crate) version: u64,
    pub(crate) ordinal: u16,
}

impl JsonRecord for StreamHead {}

/// The key of a stream's head.
pub(crate) fn stream_head_key(account: AccountId, id: u64) -> Key {
    STREAM_HEADS.key(account, |k| {
        k.u64(id);
    })
}

/// The beginning of the keys of a stream's records.
pub(crate) fn stream_records_prefix(account: AccountId, id: u64) -> KeyWriter {
    let mut writer = KeyWriter::new(account, store::tables::DDB_STREAM_RECORDS);
    writer.u64(id);
    writer
}

/// Items by the time at which they expire.
pub(crate) const EXPIRY: store::Table<Expiring> = store::Table::new(store::tables::DDB_EXPIRY, "ddb_expiry");

/// Whose item expires; the rest is in the key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Expiring {
    pub(crate) account: AccountId,
    pub(crate) table: String,
    pub(crate) id: u64,
}

impl JsonRecord for Expiring {}

/// Backups by table and id.
pub(crate) const BACKUPS: store::Table<BackupRecord> =
    store::Table::new(store::tables::DDB_BACKUPS, "ddb_backups");

/// Tables that are being restored.
pub(crate) const RESTORES: store::Table<Restore> =
    store::Table::new(store::tables::DDB_RESTORES, "ddb_restores");

/// Where each table's history begins, once some has been trimmed.
pub(crate) const HISTORY_HEADS: store::Table<HistoryHead> =
    store::Table::new(store::tables::DDB_HISTORY_HEADS, "ddb_history_heads");

/// A backup: the items as of one commit. They stay where they are; what changes later is kept as it was.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct BackupRecord {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) created_at: Timestamp,
    /// The commit.
    pub(crate) version: u64,
    /// The table as it was.
    pub(crate) table: TableRecord,
    pub(crate) items: usize,
    pub(crate) size_bytes: usize,
}

impl JsonRecord for BackupRecord {}

impl BackupRecord {
    pub(crate) fn key(&self, account: AccountId) -> Key {
        backup_key(account, &self.table.name, &self.id)
    }
}

/// The key of a backup's row.
pub(crate) fn backup_key(account: AccountId, table: &str, id: &str) -> Key {
    BACKUPS.key(account, |k| {
        k.text(table).text(id);
    })
}

/// A table that gets the items that another had at a commit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Restore {
    pub(crate) account: AccountId,
    pub(crate) table: String,
    pub(crate) id: u64,
    pub(crate) source: u64,
    pub(crate) version: u64,
    /// Items that are there still have been copied; those in the history follow.
    pub(crate) in_history: bool,
    /// The rows before this key are done.
    pub(crate) from: Option<Vec<u8>>,
}

impl JsonRecord for Restore {}

impl Restore {
    pub(crate) fn key(&self) -> Key {
        RESTORES.key(AccountId::NODE, |k| {
            k.u64(self.account.number()).u64(self.id);
        })
    }
}

/// History before this commit is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HistoryHead {
    pub(crate) version: u64,
}

impl JsonRecord for HistoryHead {}

/// The key of a table's history head.
pub(crate) fn history_head_key(account: AccountId, id: u64) -> Key {
    HISTORY_HEADS.key(account, |k| {
        k.u64(id);
    })
}

/// The beginning of the keys of a table's history.
pub(crate) fn history_prefix(account: AccountId, id: u64) -> KeyWriter {
    let mut writer = KeyWriter::new(account, store::tables::DDB_HISTORY);
    writer.u64(id);
    writer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_from_when_they_had_one_key_attribute_each_are_read() {
        let row = |sort: serde_json::Value| {
            serde_json::json!({
                "name": "i", "number": 0, "scope": "Global", "partition": {"name": "p", "kind": "S"}, "sort": sort,
                "projected": "All", "throughput": null, "state": "Active",
            })
        };
        let read = |sort| serde_json::from_value::<IndexRecord>(row(sort)).expect("it is read");
        let names = |index: &IndexRecord| index.keys().map(|key| key.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&read(serde_json::Value::Null)), ["p"]);
        let both = read(serde_json::json!({"name": "s", "kind": "N"}));
        assert_eq!(names(&both), ["p", "s"]);
        let again = serde_json::to_value(&both).and_then(serde_json::from_value::<IndexRecord>);
        assert_eq!(again.expect("it is read"), both);
    }
}
