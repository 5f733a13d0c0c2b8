//! One kind of row: a table's id, and how its keys and values are encoded.

use std::marker::PhantomData;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use types::AccountId;

use crate::key::{KeyWriter, prefix_end};
use crate::{Entry, Error, Key, Page, Range, Read, Store, TableId, Version, Write};

/// The value of a row. The first stored byte is the format: a newer binary reads every older one.
pub trait Record: Sized {
    /// The format that [`Record::encode`] writes.
    const FORMAT: u8;

    /// Appends the value, without the format byte.
    fn encode(&self, out: &mut Vec<u8>);

    /// Reads a value of format `format`, at most [`Record::FORMAT`]; the error says what is wrong.
    fn decode(format: u8, bytes: &[u8]) -> Result<Self, String>;
}

/// A record stored as JSON, for rows that are small and not on a hot path: fields can be added with
/// `#[serde(default)]` without a new format.
pub trait JsonRecord: Serialize + DeserializeOwned {}

impl<T: JsonRecord> Record for T {
    const FORMAT: u8 = 1;

    fn encode(&self, out: &mut Vec<u8>) {
        serde_json::to_writer(out, self).expect("records have string keys and memory does not fail");
    }

    fn decode(_format: u8, bytes: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(bytes).map_err(|e| e.to_string())
    }
}

/// A value as it was read.
#[derive(Debug, Clone)]
pub struct Stored<V> {
    /// The row's whole key.
    pub key: Key,
    /// The value.
    pub value: V,
    /// The commit that wrote it.
    pub version: Version,
}

/// A table of values `V`. Keys are written by the caller's closure, so that each table documents its layout in
/// one place (its crate's `tables.rs`).
#[derive(Debug)]
pub struct Table<V> {
    id: TableId,
    name: &'static str,
    value: PhantomData<fn() -> V>,
}

impl<V: Record> Table<V> {
    /// The table of that id; `name` is for error messages.
    pub const fn new(id: TableId, name: &'static str) -> Self {
        Self { id, name, value: PhantomData }
    }

    /// Its id.
    pub fn id(&self) -> TableId {
        self.id
    }

    /// The key with the elements that `elements` writes.
    pub fn key(&self, account: AccountId, elements: impl FnOnce(&mut KeyWriter)) -> Key {
        let mut writer = KeyWriter::new(account, self.id);
        elements(&mut writer);
        writer.finish()
    }

    /// Every row whose key begins with the elements that `elements` writes, up to `limit` rows.
    pub fn range(&self, account: AccountId, limit: usize, elements: impl FnOnce(&mut KeyWriter)) -> Range {
        let start = self.key(account, elements);
        let end = prefix_end(&start);
        Range { start, end, limit, limit_bytes: 4 << 20, reverse: false }
    }

    /// A write that sets the row.
    pub fn put(&self, key: Key, value: &V) -> Write {
        Write::Put(key, Self::encode(value))
    }

    /// A write that adds a row in commit order: see [`Write::Append`].
    pub fn append(&self, prefix: Key, value: &V) -> Write {
        Write::Append(prefix, Self::encode(value))
    }

    /// The value as it is stored.
    pub fn encode(value: &V) -> Bytes {
        let mut out = vec![V::FORMAT];
        value.encode(&mut out);
        out.into()
    }

    /// The value of a row that was read.
    pub fn decode(&self, entry: &Entry) -> Result<Stored<V>, Error> {
        let corrupt = |reason| Error::Corrupt { table: self.name, reason };
        let (&format, bytes) = entry.value.split_first().ok_or_else(|| corrupt("it is empty".into()))?;
        if format > V::FORMAT {
            return Err(corrupt(format!("it has format {format}, newer than {}", V::FORMAT)));
        }
        let value = V::decode(format, bytes).map_err(corrupt)?;
        Ok(Stored { key: entry.key.clone(), value, version: entry.version })
    }

    /// The value of a page that was read by key.
    pub fn first(&self, page: &Page) -> Result<Option<Stored<V>>, Error> {
        page.first().map(|entry| self.decode(entry)).transpose()
    }

    /// Reads one row.
    pub async fn get(&self, store: &Store, key: Key) -> Result<Option<Stored<V>>, Error> {
        store.get(key).await?.map(|entry| self.decode(&entry)).transpose()
    }

    /// Reads a run of rows, and whether there are more.
    pub async fn scan(&self, store: &Store, range: Range) -> Result<(Vec<Stored<V>>, bool), Error> {
        let page = store.scan(range).await?;
        let rows = page.entries.iter().map(|entry| self.decode(entry)).collect::<Result<_, _>>()?;
        Ok((rows, page.more))
    }

    /// A read of one row, for [`Store::read`] and [`Store::transact`].
    pub fn read(&self, key: Key) -> Read {
        Read::Key(key)
    }
}
