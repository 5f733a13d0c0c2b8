//! What is stored of exports and imports.
//!
//! | table              | key                                      | value            |
//! |--------------------|------------------------------------------|------------------|
//! | `DDB_EXPORTS`      | account, table name (text), id (text)    | [`ExportRecord`] |
//! | `DDB_EXPORT_FILES` | account, export id (text), number (u64)  | [`ExportFile`]   |
//! | `DDB_EXPORT_CHANGES` | account, export id (text), the item's key from its hash on (to end) | [`ExportChange`] |
//! | `DDB_IMPORTS`      | account, table name (text), id (text)    | [`ImportRecord`] |
//! | `DDB_TRANSFERS`    | the node's account, account (u64), id (text) | [`Transfer`] |
//!
//! Invariant: what is under way has a row in `DDB_TRANSFERS`, which goes in the commit that ends it; each step is one
//! commit with where the work stands, so that a restart goes on.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use store::{JsonRecord, Key, Record, Table, tables};
use types::{AccountId, Timestamp};

/// Exports by table and id.
pub(crate) const EXPORTS: Table<ExportRecord> = Table::new(tables::DDB_EXPORTS, "ddb_exports");

/// The files of exports that are under way.
pub(crate) const EXPORT_FILES: Table<ExportFile> = Table::new(tables::DDB_EXPORT_FILES, "ddb_export_files");

/// What incremental exports have gathered.
pub(crate) const EXPORT_CHANGES: Table<ExportChange> =
    Table::new(tables::DDB_EXPORT_CHANGES, "ddb_export_changes");

/// Imports by table and id.
pub(crate) const IMPORTS: Table<ImportRecord> = Table::new(tables::DDB_IMPORTS, "ddb_imports");

/// What is under way.
pub(crate) const TRANSFERS: Table<Transfer> = Table::new(tables::DDB_TRANSFERS, "ddb_transfers");

/// How an export or import stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Status {
    InProgress,
    Completed,
    Failed { code: String, message: String },
}

impl Status {
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::InProgress => "IN_PROGRESS",
            Self::Completed => "COMPLETED",
            Self::Failed { .. } => "FAILED",
        }
    }
}

/// How the objects of an export are encrypted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Sse {
    /// As the bucket has it.
    Default,
    Aes256,
    /// Under a key of KMS, if not the bucket's own.
    Kms(Option<String>),
}

impl Sse {
    /// `S3SseAlgorithm`, and the key.
    pub(crate) fn words(&self) -> (Option<&'static str>, Option<&str>) {
        match self {
            Self::Default => (None, None),
            Self::Aes256 => (Some("AES256"), None),
            Self::Kms(key) => (Some("KMS"), key.as_deref()),
        }
    }
}

/// An export.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ExportRecord {
    pub(crate) id: String,
    pub(crate) table: String,
    pub(crate) table_id: u64,
    pub(crate) table_uuid: String,
    /// The commit since which the table can be recovered: another one is another history.
    pub(crate) recovery: u64,
    /// What is exported is the table as of this commit.
    pub(crate) version: u64,
    pub(crate) at: Timestamp,
    pub(crate) bucket: String,
    pub(crate) bucket_owner: Option<String>,
    pub(crate) prefix: Option<String>,
    pub(crate) sse: Sse,
    pub(crate) client_token: Option<String>,
    /// Digest of the request.
    pub(crate) fingerprint: String,
    pub(crate) started_at: Timestamp,
    pub(crate) ended_at: Option<Timestamp>,
    pub(crate) status: Status,
    pub(crate) items: u64,
    pub(crate) size_bytes: u64,
    /// Items that are there still are exported; those in the history follow.
    pub(crate) in_history: bool,
    /// The rows before this key are done.
    pub(crate) from: Option<Vec<u8>>,
    /// The number of the next file.
    pub(crate) next_file: u64,
    /// What it begins after, if it is of changes.
    #[serde(default)]
    pub(crate) span: Option<Span>,
}

/// The changes between two commits, of which the second is the export's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Span {
    pub(crate) from: Timestamp,
    pub(crate) from_version: u64,
    /// Whether items are shown as they were before.
    pub(crate) with_old: bool,
    pub(crate) step: Step,
    /// What changed after the span has been looked at up to this key of the history.
    pub(crate) settled: Option<Vec<u8>>,
}

/// What is being done about a [`Span`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Step {
    Gather,
    Settle,
    Write,
}

/// What is known of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ExportChange {
    /// Its last change in the span.
    pub(crate) at_ms: i64,
    /// The item before.
    pub(crate) old: Option<Bytes>,
    /// The item after; `None` if that is not known yet.
    pub(crate) new: Option<Option<Bytes>>,
}

impl Record for ExportChange {
    const FORMAT: u8 = 1;

    fn encode(&self, out: &mut Vec<u8>) {
        let bit = |set: bool, bit: u8| u8::from(set) << bit;
        let new = self.new.as_ref().and_then(Option::as_ref);
        let old_len = self.old.as_ref().map_or(0, Bytes::len);
        out.extend_from_slice(&self.at_ms.to_be_bytes());
        out.push(bit(self.old.is_some(), 0) | bit(self.new.is_some(), 1) | bit(new.is_some(), 2));
        out.extend_from_slice(&u32::try_from(old_len).expect("items are small").to_be_bytes());
        out.extend_from_slice(self.old.as_deref().unwrap_or_default());
        out.extend_from_slice(new.map_or(&[][..], |new| new));
    }

    fn decode(_format: u8, bytes: &[u8]) -> Result<Self, String> {
        let read = || {
            let (at_ms, rest) = bytes.split_first_chunk()?;
            let (&flags, rest) = rest.split_first()?;
            let (len, rest) = rest.split_first_chunk()?;
            let (old, new) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*len)).ok()?)?;
            let image =
                |bit: u8, bytes: &[u8]| (flags >> bit & 1 == 1).then(|| Bytes::copy_from_slice(bytes));
            let new = (flags >> 1 & 1 == 1).then(|| image(2, new));
            Some(Self { at_ms: i64::from_be_bytes(*at_ms), old: image(0, old), new })
        };
        read().ok_or_else(|| "it is too short".to_owned())
    }
}

/// The key of what is known of the key of an item, given from its hash on.
pub(crate) fn export_change_key(account: AccountId, id: &str, tail: &[u8]) -> Key {
    EXPORT_CHANGES.key(account, |k| {
        k.text(id).raw(tail);
    })
}

impl JsonRecord for ExportRecord {}

impl ExportRecord {
    pub(crate) fn key(&self, account: AccountId) -> Key {
        export_key(account, &self.table, &self.id)
    }

    /// The beginning of the keys of the objects that say which files there are.
    pub(crate) fn folder(&self) -> String {
        format!("{}/{}", self.root(), self.id)
    }

    /// The same of the files: incremental exports of a table share a folder.
    pub(crate) fn data_folder(&self) -> String {
        match self.span {
            Some(_) => format!("{}/data", self.root()),
            None => format!("{}/data", self.folder()),
        }
    }

    fn root(&self) -> String {
        let prefix = self.prefix.as_deref().map(|prefix| prefix.trim_end_matches('/'));
        match prefix.filter(|prefix| !prefix.is_empty()) {
            Some(prefix) => format!("{prefix}/AWSDynamoDB"),
            None => "AWSDynamoDB".to_owned(),
        }
    }
}

/// The key of an export's row.
pub(crate) fn export_key(account: AccountId, table: &str, id: &str) -> Key {
    EXPORTS.key(account, |k| {
        k.text(table).text(id);
    })
}

/// A file of an export.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ExportFile {
    /// The object.
    pub(crate) object: String,
    pub(crate) items: u64,
    /// Base64.
    pub(crate) md5: String,
    pub(crate) etag: String,
    /// The pages of items that it was made of: up to which key each went (an item's key from its hash on, excluded;
    /// none is all that was left), and the last change of the table that it saw.
    pub(crate) pages: Vec<(Option<Vec<u8>>, u64)>,
}

impl JsonRecord for ExportFile {}

/// The key of a file's row.
pub(crate) fn export_file_key(account: AccountId, id: &str, number: u64) -> Key {
    EXPORT_FILES.key(account, |k| {
        k.text(id).u64(number);
    })
}

/// How what is imported is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum InputFormat {
    /// A JSON object on each line, with the member `Item`.
    DynamoDbJson,
    Csv {
        delimiter: char,
        /// The names of attributes; without them they are in the first record of each object.
        header: Option<Vec<String>>,
    },
}

/// An import.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ImportRecord {
    pub(crate) id: String,
    pub(crate) table: String,
    pub(crate) table_id: u64,
    pub(crate) table_uuid: String,
    pub(crate) bucket: String,
    pub(crate) bucket_owner: Option<String>,
    pub(crate) prefix: Option<String>,
    pub(crate) format: InputFormat,
    /// Whether `InputFormatOptions` were given, as they came.
    pub(crate) format_options: Option<serde_json::Value>,
    pub(crate) gzip: bool,
    /// `InputCompressionType` as it came.
    pub(crate) compression: Option<String>,
    /// `TableCreationParameters` as they came.
    pub(crate) creation: serde_json::Value,
    pub(crate) client_token: Option<String>,
    /// Digest of the request.
    pub(crate) fingerprint: String,
    pub(crate) started_at: Timestamp,
    pub(crate) ended_at: Option<Timestamp>,
    pub(crate) status: Status,
    /// Records read, items put, and records that are none.
    pub(crate) processed: u64,
    pub(crate) imported: u64,
    pub(crate) errors: u64,
    /// What was wrong with the first of those.
    pub(crate) first_error: Option<String>,
    pub(crate) size_bytes: u64,
    /// The objects up to this one are done.
    pub(crate) after: Option<String>,
    /// Of the next one, so many records are.
    pub(crate) records: u64,
}

impl JsonRecord for ImportRecord {}

impl ImportRecord {
    pub(crate) fn key(&self, account: AccountId) -> Key {
        import_key(account, &self.table, &self.id)
    }
}

/// The key of an import's row.
pub(crate) fn import_key(account: AccountId, table: &str, id: &str) -> Key {
    IMPORTS.key(account, |k| {
        k.text(table).text(id);
    })
}

/// Something that is under way.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Transfer {
    pub(crate) account: AccountId,
    pub(crate) table: String,
    pub(crate) id: String,
    pub(crate) kind: Kind,
}

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Kind {
    Export,
    Import,
}

impl JsonRecord for Transfer {}

impl Transfer {
    pub(crate) fn key(&self) -> Key {
        TRANSFERS.key(AccountId::NODE, |k| {
            k.u64(self.account.number()).text(&self.id);
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_round_trip() {
        let images = [None, Some(Bytes::new()), Some(Bytes::from_static(b"item"))];
        for old in &images {
            for new in images.iter().cloned().map(Some).chain([None]) {
                let change = ExportChange { at_ms: -7, old: old.clone(), new };
                let mut encoded = Vec::new();
                change.encode(&mut encoded);
                assert_eq!(ExportChange::decode(1, &encoded).unwrap(), change);
                assert!(ExportChange::decode(1, &encoded[..10]).is_err());
            }
        }
    }
}
