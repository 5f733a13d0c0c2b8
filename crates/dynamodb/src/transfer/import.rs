//! Fills a new table from the objects of a bucket.
//!
//! Objects are read in the order of their keys, in parts, and unpacked as they come. A record that is no item of the
//! table is counted and left out, and the import goes on, though it has failed in the end; what else goes wrong ends it,
//! and the table has what was put by then.

use std::collections::HashMap;
use std::io::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use flate2::write::MultiGzDecoder;
use store::{Key, Page, Read, Write};
use types::AccountId;

use super::records::{Reader, Splitter};
use super::rows::{IMPORTS, ImportRecord, Sse, Status, Transfer};
use super::{Bucket, Listed, Stop, own_bucket};
use crate::Error;
use crate::change::Change;
use crate::collection::Collections;
use crate::service::Node;
use crate::stream::Moment;
use crate::table::{Attempt, Table};
use crate::tables::{TABLES, table_key};
use crate::value::{Attributes, MAX_ITEM_BYTES, encode_item, size_bytes};

/// Bytes of an object read at a time.
const PART_BYTES: u64 = 4 << 20;

/// Bytes unpacked at a time: packed as well as gzip can, they come to sixteen million.
const SLICE_BYTES: usize = 16 << 10;

/// Objects looked up at a time.
const OBJECTS: usize = 100;

/// Items put by one commit: others wait for it.
const ITEMS: usize = 64;
const ITEMS_BYTES: usize = 1 << 20;

/// Does an import, from where it stands.
pub(super) async fn run(node: &Arc<Node>, transfer: &Transfer) -> Result<(), Error> {
    let key = super::import_key(transfer.account, &transfer.table, &transfer.id);
    let Some(row) = IMPORTS.get(&node.store, key).await? else {
        return Ok(node.store.write(vec![Write::Delete(transfer.key())]).await.map(drop)?);
    };
    let bucket = own_bucket(node, transfer.account, &row.value.bucket, Sse::Default);
    let mut import = Import { node, account: transfer.account, bucket, record: row.value };
    let status = match import.read_all().await {
        Ok(()) => import.outcome(),
        Err(Stop::Failed(code, message)) => Status::Failed { code, message },
        Err(Stop::Later(error)) => return Err(error),
    };
    import.end(transfer, status).await
}

struct Import<'n> {
    node: &'n Arc<Node>,
    account: AccountId,
    bucket: Bucket,
    record: ImportRecord,
}

/// Items that are to be put together.
#[derive(Default)]
struct Batch {
    items: HashMap<Key, Bytes>,
    size_bytes: usize,
    processed: u64,
    imported: u64,
    errors: u64,
    first_error: Option<String>,
    raw_bytes: u64,
}

impl Batch {
    fn is_full(&self) -> bool {
        self.processed >= ITEMS as u64 || self.size_bytes >= ITEMS_BYTES
    }
}

/// Unpacks, or not.
enum Unpacked {
    Plain(Vec<u8>),
    Gzip(Box<MultiGzDecoder<Vec<u8>>>),
}

impl Unpacked {
    fn push(&mut self, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
        match self {
            Self::Plain(out) => {
                out.extend_from_slice(bytes);
                Ok(std::mem::take(out))
            }
            Self::Gzip(decoder) => {
                decoder.write_all(bytes)?;
                Ok(std::mem::take(decoder.get_mut()))
            }
        }
    }

    fn finish(self) -> std::io::Result<Vec<u8>> {
        match self {
            Self::Plain(out) => Ok(out),
            Self::Gzip(decoder) => decoder.finish(),
        }
    }
}

fn unreadable(object: &Listed, why: &dyn std::fmt::Display) -> Stop {
    Stop::Failed("ObjectUnreadable".into(), format!("{}: {why}", object.key))
}

impl Import<'_> {
    /// How an import of which all was read has ended.
    fn outcome(&self) -> Status {
        let Some(error) = &self.record.first_error else { return Status::Completed };
        let message = format!("Some of the items failed validation checks; the first: {error}");
        Status::Failed { code: "ItemValidationError".into(), message }
    }

    async fn read_all(&mut self) -> Result<(), Stop> {
        if self.record.status != Status::InProgress {
            // It ended, and the rest was lost in a crash.
            return match self.record.status.clone() {
                Status::Failed { code, message } => Err(Stop::Failed(code, message)),
                Status::InProgress | Status::Completed => Ok(()),
            };
        }
        let prefix = self.record.prefix.clone().unwrap_or_default();
        loop {
            let after = self.record.after.clone();
            let listed = self.bucket.list(&prefix, after.as_deref(), OBJECTS).await;
            let listed = listed.map_err(|error| Stop::bucket(&error))?;
            if listed.is_empty() {
                // An empty bucket is a whole import, of nothing; a prefix that nothing has is a mistake.
                if after.is_none() && !prefix.is_empty() {
                    let message = "There are no objects whose keys begin with the prefix";
                    return Err(Stop::Failed("S3NoSuchKey".into(), message.into()));
                }
                return Ok(());
            }
            for object in listed {
                if object.size_bytes > 0 {
                    self.read(&object).await?;
                }
                self.record.after = Some(object.key);
                self.record.records = 0;
                self.put(Batch::default()).await?;
            }
        }
    }

    /// Reads one object, after the records of it that are done.
    async fn read(&mut self, object: &Listed) -> Result<(), Stop> {
        let mut unpacked = if self.record.gzip {
            Unpacked::Gzip(Box::new(MultiGzDecoder::new(Vec::new())))
        } else {
            Unpacked::Plain(Vec::new())
        };
        let format = self.record.format.clone();
        let table = self.table().await?;
        let keys = table.record.definitions().into_iter().cloned().collect::<Vec<_>>();
        let mut reader = Reader::new(&format, keys.iter().collect());
        let mut splitter = Splitter::new(&format);
        let mut done = self.record.records;
        let mut batch = Batch::default();
        let too_long = || unreadable(object, &"a record is longer than any item");
        let mut first = 0;
        while first < object.size_bytes {
            let last = (first + PART_BYTES).min(object.size_bytes) - 1;
            let part = self.bucket.get(object, first, last).await.map_err(|error| Stop::bucket(&error))?;
            first = last + 1;
            for slice in part.chunks(SLICE_BYTES) {
                let bytes = unpacked.push(slice).map_err(|error| unreadable(object, &error))?;
                for record in splitter.push(&bytes).map_err(|_| too_long())? {
                    self.take(&table, &mut reader, record, &mut done, &mut batch);
                    if batch.is_full() {
                        self.put(std::mem::take(&mut batch)).await?;
                    }
                }
                // Unpacking is work; others get their turn.
                tokio::task::yield_now().await;
            }
        }
        let rest = unpacked.finish().map_err(|error| unreadable(object, &error))?;
        let mut records = splitter.push(&rest).map_err(|_| too_long())?;
        records.extend(splitter.finish());
        for record in records {
            self.take(&table, &mut reader, record, &mut done, &mut batch);
        }
        self.put(batch).await
    }

    /// Takes a record; those that are done are only looked at for their header.
    fn take(
        &self,
        table: &Table,
        reader: &mut Reader<'_>,
        record: Vec<u8>,
        done: &mut u64,
        batch: &mut Batch,
    ) {
        let item = reader.item(&record);
        if let Ok(None) = item {
            // A header, or an empty line.
            return;
        }
        if *done > 0 {
            *done -= 1;
            return;
        }
        batch.processed += 1;
        batch.raw_bytes += record.len() as u64 + 1;
        match item.and_then(|item| encode(table, item.unwrap_or_default())) {
            Ok((key, item)) => {
                batch.imported += 1;
                batch.size_bytes += item.len();
                batch.items.insert(key, item);
            }
            Err(error) => {
                batch.errors += 1;
                batch.first_error.get_or_insert_with(|| error.to_string());
            }
        }
    }

    /// The table that is being filled.
    async fn table(&self) -> Result<Arc<Table>, Stop> {
        let table = self.node.cache.get(&self.node.store, self.account, &self.record.table).await?;
        let table = table.filter(|table| table.record.id == self.record.table_id);
        table.ok_or_else(|| Stop::Failed("TableDeleted".into(), "The table is gone".into()))
    }

    /// Puts items, and keeps where the work stands.
    async fn put(&mut self, batch: Batch) -> Result<(), Stop> {
        let mut record = self.record.clone();
        record.processed += batch.processed;
        record.records += batch.processed;
        record.imported += batch.imported;
        record.errors += batch.errors;
        record.size_bytes += batch.raw_bytes;
        if record.first_error.is_none() {
            record.first_error = batch.first_error;
        }
        let items: Vec<_> = batch.items.into_iter().collect();
        let own = record.key(self.account);
        loop {
            let table = self.table().await?;
            let mut reads = vec![table.read()];
            reads.extend(items.iter().map(|(key, _)| Read::Key(key.clone())));
            let collections = Collections::of(items.iter().map(|(key, _)| (&*table, key)), &mut reads);
            let moment = Moment::caller(self.node.env.now());
            let (items, own, kept) = (items.clone(), own.clone(), record.clone());
            let put = self.node.store.transact(reads, move |pages: &[Page], _| {
                table.check(&pages[0])?;
                let mut sizes = collections.sizes(pages)?;
                let mut writes = Vec::with_capacity(items.len() + 1);
                for ((key, item), page) in items.iter().zip(&pages[1..]) {
                    let change = Change::Put(item.clone());
                    table.writes(key, page.first(), change, moment, &mut sizes, &mut writes)?;
                }
                sizes.writes(&mut writes);
                writes.push(IMPORTS.put(own.clone(), &kept));
                Ok::<_, Attempt>((writes, ()))
            });
            match put.await {
                Ok(()) => {
                    self.record = record;
                    return Ok(());
                }
                Err(Attempt::Stale) => self.node.cache.forget(self.account, &self.record.table),
                Err(Attempt::Failed(Error::ResourceNotFound(_))) => {
                    self.node.cache.forget(self.account, &self.record.table);
                }
                Err(Attempt::Failed(error)) => return Err(error.into()),
            }
        }
    }

    /// Keeps how it ended; the table can be used.
    async fn end(mut self, transfer: &Transfer, status: Status) -> Result<(), Error> {
        self.record.status = status;
        self.record.ended_at = Some(self.node.env.now());
        let key = table_key(self.account, &self.record.table);
        let (record, own, transfer) = (self.record.clone(), self.record.key(self.account), transfer.key());
        self.node
            .store
            .transact(vec![Read::Key(key.clone())], move |pages, _| {
                let mut writes = vec![IMPORTS.put(own.clone(), &record), Write::Delete(transfer.clone())];
                if let Some(row) = TABLES.first(&pages[0])?.filter(|row| row.value.id == record.table_id) {
                    let mut table = row.value;
                    table.importing = false;
                    writes.push(TABLES.put(key.clone(), &table));
                }
                Ok::<_, Error>((writes, ()))
            })
            .await?;
        self.node.cache.forget(self.account, &self.record.table);
        Ok(())
    }
}

/// An item's key and stored form, if it is one of the table.
fn encode(table: &Table, item: Attributes) -> Result<(Key, Bytes), Error> {
    let key = table.key_of_item(&item)?;
    table.indexes.iter().try_for_each(|index| index.check(&item, |_| true))?;
    let size = size_bytes(&item);
    if size > MAX_ITEM_BYTES {
        return Err(Error::validation("Item size has exceeded the maximum allowed size"));
    }
    Ok((key, encode_item(&item, size)))
}
