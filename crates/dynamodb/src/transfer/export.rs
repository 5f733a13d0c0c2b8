//! Writes a table as it was at a commit into a bucket (Developer Guide, "DynamoDB table export output format").
//!
//! Of each key, either the item that is there or one row of the history is what was there at the commit. The items
//! are read first, then the history; an item that changed after it was read is in both. So each page of items
//! remembers the last change that it saw, and of the history only what changed up to then is written.

use std::io::Write as _;
use std::sync::Arc;

use aws::Caller;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use md5::{Digest, Md5};
use serde_json::json;
use store::key::{after, prefix_end};
use store::{Entry, Key, Page, Range, Read, Write};
use types::{AccountId, Timestamp};

use super::rows::{
    EXPORT_CHANGES, EXPORT_FILES, EXPORTS, ExportFile, ExportRecord, Status, Transfer, export_file_key,
};
use super::{Bucket, Stop, own_bucket};
use crate::Error;
use crate::history::{Past, version_of};
use crate::service::{Node, Scope};
use crate::table::ITEM_PREFIX_LEN;
use crate::tables::{TABLES, history_prefix, items_prefix, table_key};
use crate::value::ItemView;
use crate::wire::write;

/// Rows read at a time.
const PAGE_ROWS: usize = 1024;
const PAGE_BYTES: usize = 1 << 20;

/// A file ends with the page with which its JSON reaches this.
const FILE_BYTES: usize = 32 << 20;

/// Files looked up at a time.
const FILES: usize = 1000;

/// Does an export, from where it stands.
pub(super) async fn run(node: &Arc<Node>, transfer: &Transfer) -> Result<(), Error> {
    let key = super::export_key(transfer.account, &transfer.table, &transfer.id);
    let Some(row) = EXPORTS.get(&node.store, key).await? else {
        return Ok(node.store.write(vec![Write::Delete(transfer.key())]).await.map(drop)?);
    };
    let bucket = own_bucket(node, transfer.account, &row.value.bucket, row.value.sse.clone());
    let mut export = Export { node, account: transfer.account, bucket, record: row.value };
    if export.record.status != Status::InProgress {
        return export.forget(transfer).await;
    }
    let status = match export.write_all().await {
        Ok(()) => Status::Completed,
        Err(Stop::Failed(code, message)) => Status::Failed { code, message },
        Err(Stop::Later(error)) => return Err(error),
    };
    export.end(transfer, status).await
}

pub(super) struct Export<'n> {
    pub(super) node: &'n Arc<Node>,
    pub(super) account: AccountId,
    bucket: Bucket,
    pub(super) record: ExportRecord,
}

/// A line of a file.
pub(super) enum Row {
    Item(Bytes),
    Change { at_ms: i64, keys: Bytes, new: Option<Bytes>, old: Option<Bytes> },
}

impl Row {
    /// Appends the line; answers with what it counts for.
    fn write(&self, line: &mut Vec<u8>) -> Result<usize, store::Error> {
        let mut size_bytes = 0;
        let mut image = |line: &mut Vec<u8>, name: &str, item: &Bytes| {
            let view = ItemView::new(item)?;
            write::key(line, name);
            write::item(line, view);
            size_bytes += view.size_bytes();
            Ok::<_, store::Error>(())
        };
        line.push(b'{');
        match self {
            Self::Item(item) => image(line, "Item", item)?,
            Self::Change { at_ms, keys, new, old } => {
                let micros =
                    format!("\"Metadata\":{{\"WriteTimestampMicros\":{{\"N\":\"{}\"}}}},", at_ms * 1000);
                line.extend_from_slice(micros.as_bytes());
                image(line, "Keys", keys)?;
                for (name, item) in [("NewImage", new), ("OldImage", old)] {
                    if let Some(item) = item {
                        line.push(b',');
                        image(line, name, item)?;
                    }
                }
            }
        }
        line.extend_from_slice(b"}\n");
        Ok(size_bytes)
    }
}

/// A file that is being made.
pub(super) struct File {
    encoder: GzEncoder<Vec<u8>>,
    raw_bytes: usize,
    items: u64,
    size_bytes: u64,
    pages: Vec<(Option<Vec<u8>>, u64)>,
}

impl File {
    pub(super) fn new() -> Self {
        let encoder = GzEncoder::new(Vec::new(), Compression::fast());
        Self { encoder, raw_bytes: 0, items: 0, size_bytes: 0, pages: Vec::new() }
    }

    /// Whether the next page goes into another one.
    pub(super) fn is_full(&self) -> bool {
        self.raw_bytes >= FILE_BYTES
    }

    /// Appends lines, off the threads that serve requests.
    pub(super) async fn add(mut self, rows: Vec<Row>) -> Result<Self, Error> {
        let written = tokio::task::spawn_blocking(move || {
            let mut line = Vec::new();
            for row in &rows {
                line.clear();
                self.size_bytes += row.write(&mut line)? as u64;
                self.encoder.write_all(&line).expect("memory does not fail");
                self.raw_bytes += line.len();
                self.items += 1;
            }
            Ok(self)
        });
        written
            .await
            .unwrap_or_else(|error| Err(store::Error::Io(format!("encoding ended early: {error}")).into()))
    }
}

fn md5_text(bytes: &[u8]) -> String {
    STANDARD.encode(Md5::digest(bytes))
}

impl Export<'_> {
    async fn write_all(&mut self) -> Result<(), Stop> {
        if self.record.span.is_some() {
            self.write_changes().await?;
            return self.manifest().await;
        }
        while !self.record.in_history {
            let (file, next) = self.item_file().await?;
            self.keep(file, next.is_none(), next).await?;
        }
        let pages = self.pages().await?;
        let last = pages.iter().map(|(_, version)| *version).max().unwrap_or(0);
        loop {
            let (file, next, done) = self.history_file(&pages, last).await?;
            self.keep(file, true, Some(next)).await?;
            if done {
                break;
            }
        }
        self.manifest().await
    }

    /// The table must be there still, with the same history.
    pub(super) fn check(&self, page: &Page) -> Result<(), Stop> {
        let row = TABLES.first(page)?;
        let same = row.is_some_and(|row| {
            row.value.id == self.record.table_id
                && row.value.recovery.is_some_and(|recovery| recovery.version == self.record.recovery)
        });
        if same {
            return Ok(());
        }
        let message = "The table was deleted, or its point-in-time recovery disabled, while it was exported";
        Err(Stop::Failed("TableNotRecoverable".into(), message.into()))
    }

    pub(super) fn table_read(&self) -> Read {
        Read::Key(table_key(self.account, &self.record.table))
    }

    /// A read of the last change of the table after the export's commit.
    pub(super) fn last_change_read(&self) -> Read {
        let mut changes = history_prefix(self.account, self.record.table_id);
        let end = prefix_end(&changes.clone().finish());
        changes.u64(self.record.version + 1);
        Read::Range(Range { start: changes.finish(), end, limit: 1, limit_bytes: 1, reverse: true })
    }

    /// The names of the table's key attributes.
    pub(super) async fn key_names(&self) -> Result<Vec<String>, Stop> {
        let row = TABLES.get(&self.node.store, table_key(self.account, &self.record.table)).await?;
        let table = row.map(|row| row.value);
        let keys = table.into_iter().flat_map(|table| std::iter::once(table.partition).chain(table.sort));
        Ok(keys.map(|key| key.name).collect())
    }

    /// A file of items that are there still, and where the next one begins.
    async fn item_file(&self) -> Result<(File, Option<Vec<u8>>), Stop> {
        let record = &self.record;
        let prefix = items_prefix(self.account, record.table_id).finish();
        let end = prefix_end(&prefix);
        let mut start = record.from.clone().map_or(prefix, Key::from);
        let mut file = File::new();
        loop {
            let items = Range {
                start: start.clone(),
                end: end.clone(),
                limit: PAGE_ROWS,
                limit_bytes: PAGE_BYTES,
                reverse: false,
            };
            let reads = vec![self.table_read(), Read::Range(items), self.last_change_read()];
            let pages = self.node.store.read(reads).await?;
            self.check(&pages[0])?;
            let seen = pages[2].first().map(|entry| version_of(&entry.key)).transpose()?;
            let seen = seen.unwrap_or(record.version);
            let next = pages[1].entries.last().filter(|_| pages[1].more).map(|last| after(&last.key));
            let is_wanted = |entry: &&Entry| entry.version.0 <= record.version;
            let wanted =
                pages[1].entries.iter().filter(is_wanted).map(|entry| Row::Item(entry.value.clone()));
            file = file.add(wanted.collect()).await?;
            let end_of_page = next.as_ref().map(|key| key[ITEM_PREFIX_LEN..].to_vec());
            file.pages.push((end_of_page, seen));
            match next {
                Some(next) if !file.is_full() => start = next,
                next => return Ok((file, next.map(|key| key.to_vec()))),
            }
        }
    }

    /// The pages of all files of items, in the order of keys.
    async fn pages(&self) -> Result<Vec<(Option<Vec<u8>>, u64)>, Error> {
        let mut pages = Vec::new();
        self.each_file(|file| pages.extend(file.pages)).await?;
        Ok(pages)
    }

    /// A file of items that have changed since, from the history up to `last`; where the next one begins, and whether
    /// there is none.
    async fn history_file(
        &self,
        pages: &[(Option<Vec<u8>>, u64)],
        last: u64,
    ) -> Result<(File, Vec<u8>, bool), Stop> {
        let record = &self.record;
        let from = |version: u64| {
            let mut writer = history_prefix(self.account, record.table_id);
            writer.u64(version);
            writer.finish()
        };
        let end = from(last.saturating_add(1));
        let mut start = record.from.clone().map_or_else(|| from(record.version + 1), Key::from);
        let mut file = File::new();
        while start < end {
            let range = Range {
                start: start.clone(),
                end: end.clone(),
                limit: PAGE_ROWS,
                limit_bytes: PAGE_BYTES,
                reverse: false,
            };
            let found = self.node.store.read(vec![self.table_read(), Read::Range(range)]).await?;
            self.check(&found[0])?;
            let mut items = Vec::new();
            for entry in &found[1].entries {
                let change = version_of(&entry.key)?;
                let past = Past::decode(&entry.value)?;
                let Some((_, item)) = past.item.filter(|(version, _)| *version <= record.version) else {
                    continue;
                };
                if change <= seen_by(pages, &past.tail) {
                    items.push(Row::Item(item));
                }
            }
            file = file.add(items).await?;
            match found[1].entries.last().filter(|_| found[1].more) {
                None => break,
                Some(last) => start = after(&last.key),
            }
            if file.is_full() {
                return Ok((file, start.to_vec(), false));
            }
        }
        Ok((file, end.to_vec(), true))
    }

    /// Writes a file, and keeps where the work stands. A file without items is not written.
    pub(super) async fn keep(
        &mut self,
        file: File,
        in_history: bool,
        from: Option<Vec<u8>>,
    ) -> Result<(), Stop> {
        let number = self.record.next_file;
        let mut row = ExportFile {
            object: String::new(),
            items: file.items,
            md5: String::new(),
            etag: String::new(),
            pages: file.pages,
        };
        if file.items > 0 {
            let body: Bytes = file.encoder.finish().expect("memory does not fail").into();
            row.object = format!("{}/{}.json.gz", self.record.data_folder(), self.file_name(number));
            row.md5 = md5_text(&body);
            row.etag = self.bucket.put(&row.object, body).await.map_err(|error| Stop::bucket(&error))?;
        }
        let entered_history = in_history && !self.record.in_history && self.record.span.is_none();
        self.record.in_history = in_history;
        self.record.from = if entered_history { None } else { from };
        self.record.next_file += 1;
        self.record.items += row.items;
        self.record.size_bytes += file.size_bytes;
        let writes = vec![
            EXPORT_FILES.put(export_file_key(self.account, &self.record.id, number), &row),
            EXPORTS.put(self.record.key(self.account), &self.record),
        ];
        self.node.store.write(writes).await?;
        Ok(())
    }

    /// The same at each try.
    fn file_name(&self, number: u64) -> String {
        use sha2::Sha256;
        let digest = Sha256::digest(format!("{}/{number}", self.record.id));
        digest.iter().take(13).map(|byte| format!("{byte:02x}")).collect()
    }

    async fn each_file(&self, mut each: impl FnMut(ExportFile)) -> Result<(), Error> {
        let mut range = EXPORT_FILES.range(self.account, FILES, |k| {
            k.text(&self.record.id);
        });
        loop {
            let (files, more) = EXPORT_FILES.scan(&self.node.store, range.clone()).await?;
            let last = files.last().map(|file| after(&file.key));
            files.into_iter().for_each(|file| each(file.value));
            match last {
                Some(last) if more => range.start = last,
                _ => return Ok(()),
            }
        }
    }

    /// Writes what says which files there are.
    async fn manifest(&mut self) -> Result<(), Stop> {
        let mut files = Vec::new();
        self.each_file(|file| {
            if file.items > 0 {
                let line = json!({
                    "itemCount": file.items,
                    "md5Checksum": file.md5,
                    "etag": file.etag,
                    "dataFileS3Key": file.object,
                });
                files.extend_from_slice(line.to_string().as_bytes());
                files.push(b'\n');
            }
        })
        .await?;
        let (record, folder) = (&self.record, self.record.folder());
        let scope = Scope {
            account: self.account,
            caller: Arc::new(Caller::platform(self.account)),
            region: self.node.region.clone(),
            endpoint: "".into(),
        };
        let time = |at: Timestamp| at.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string();
        let mut summary = json!({
            "version": if record.span.is_some() { "2023-08-01" } else { "2020-06-30" },
            "exportArn": format!("{}/export/{}", scope.table_arn(&record.table), record.id),
            "startTime": time(record.started_at),
            "endTime": time(self.node.env.now()),
            "tableArn": scope.table_arn(&record.table),
            "tableId": record.table_uuid,
            "exportTime": time(record.at),
            "s3Bucket": record.bucket,
            "s3Prefix": record.prefix,
            "s3SseAlgorithm": record.sse.words().0.unwrap_or("AES256"),
            "s3SseKmsKeyId": record.sse.words().1,
            "manifestFilesS3Key": format!("{folder}/manifest-files.json"),
            "billedSizeBytes": record.size_bytes,
            "itemCount": record.items,
            "outputFormat": "DYNAMODB_JSON",
            "exportType": if record.span.is_some() { "INCREMENTAL_EXPORT" } else { "FULL_EXPORT" },
        });
        if let Some(span) = &record.span {
            summary["exportFromTime"] = time(span.from).into();
            summary["exportToTime"] = time(record.at).into();
            summary["outputView"] = if span.with_old { "NEW_AND_OLD_IMAGES" } else { "NEW_IMAGE" }.into();
        }
        for (name, body) in
            [("manifest-files", files), ("manifest-summary", summary.to_string().into_bytes())]
        {
            let md5 = md5_text(&body);
            for (name, body) in [(format!("{name}.json"), body), (format!("{name}.md5"), md5.into_bytes())] {
                let put = self.bucket.put(&format!("{folder}/{name}"), body.into()).await;
                put.map_err(|error| Stop::bucket(&error))?;
            }
        }
        Ok(())
    }

    /// Keeps how it ended.
    async fn end(mut self, transfer: &Transfer, status: Status) -> Result<(), Error> {
        self.record.status = status;
        self.record.ended_at = Some(self.node.env.now());
        let writes = vec![EXPORTS.put(self.record.key(self.account), &self.record)];
        self.node.store.write(writes).await?;
        self.forget(transfer).await
    }

    /// Removes what is not needed once it has ended; the row of the transfer last, so that a crash repeats this.
    async fn forget(self, transfer: &Transfer) -> Result<(), Error> {
        let id = &self.record.id;
        let files = EXPORT_FILES.range(self.account, FILES, |k| {
            k.text(id);
        });
        let changes = EXPORT_CHANGES.range(self.account, FILES, |k| {
            k.text(id);
        });
        for mut range in [files, changes] {
            loop {
                let page = self.node.store.scan(range.clone()).await?;
                let writes: Vec<_> =
                    page.entries.iter().map(|entry| Write::Delete(entry.key.clone())).collect();
                let Some(last) = page.entries.last() else { break };
                range.start = after(&last.key);
                self.node.store.write(writes).await?;
                if !page.more {
                    break;
                }
            }
        }
        Ok(self.node.store.write(vec![Write::Delete(transfer.key())]).await.map(drop)?)
    }
}

/// The last change that the page saw which a key is in.
fn seen_by(pages: &[(Option<Vec<u8>>, u64)], tail: &[u8]) -> u64 {
    let at = pages.partition_point(|(end, _)| end.as_ref().is_some_and(|end| end.as_slice() <= tail));
    pages.get(at).map_or(0, |(_, version)| *version)
}
