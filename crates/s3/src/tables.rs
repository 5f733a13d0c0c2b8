//! What is stored, and under which keys.
//!
//! | table | account | key | value |
//! |---|---|---|---|
//! | `BUCKETS` | node | name | [`NameRow`]: who owns the name |
//! | `ACCOUNT_BUCKETS` | owner | name | [`Bucket`] |
//! | `OBJECTS` | owner | bucket, key | [`Object`]: the current version, if it is an object: metadata only, so that listings stay lean |
//! | `OBJECT_VERSIONS` | owner | bucket, key, order (descending) | [`VersionRow`]: the other versions, and delete markers |
//! | `OBJECT_NULLS` | owner | bucket, key | [`NullRow`]: which of those is the null version |
//! | `OBJECT_DATA` | owner | 0, bucket, key | format byte, bytes of a small object that is the null version |
//! | `OBJECT_DATA` | owner | 1, id (16 bytes) | [`Parts`]: the blobs of a large object made of parts |
//! | `OBJECT_DATA` | owner | 2, bucket, key, order | format byte, bytes of a small object that has a version id |
//! | `BUCKET_CHORES` | node | bucket | [`Chore`]: it has lifecycle rules |
//! | `UPLOADS` | owner | bucket, key, upload id | [`Upload`] |
//! | `UPLOAD_PARTS` | owner | upload id, part number | [`Part`] |
//! | `BLOB_PENDING` | node | blob id (16 bytes) | [`Pending`]: being written, or written and not yet visible |
//! | `BLOB_GARBAGE` | node | commit order | [`Garbage`]: what no row refers to any more |
//!
//! Invariant: every blob on disk is named by a `BLOB_PENDING` row, by one row that makes it visible, or by
//! `BLOB_GARBAGE`; it passes from one to the next in one commit.

use std::collections::BTreeMap;
use std::sync::Arc;

use blobs::BlobId;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use store::key::{KeyError, KeyReader};
use store::{JsonRecord, Key, Record, Table, TableId, tables};
use types::{AccountId, Timestamp};

use crate::access::{Acl, Ownership, PublicAccessBlock};
use crate::access_log::LogTarget;
use crate::checksum::{Checksum, PartChecksum};
use crate::encryption::{AskedKey, Encryption};
use crate::lock::{BucketLock, Lock};
use crate::notify::Target;
use crate::versions::{VersionId, Versioning};
use crate::website::Website;
use crate::{cors, lifecycle};

pub(crate) const NAMES: Table<NameRow> = Table::new(tables::BUCKETS, "buckets");
pub(crate) const BUCKETS: Table<Bucket> = Table::new(tables::ACCOUNT_BUCKETS, "account_buckets");
pub(crate) const OBJECTS: Table<Object> = Table::new(tables::OBJECTS, "objects");
/// The same rows, of which a listing reads less.
pub(crate) const LISTED: Table<Listed> = Table::new(tables::OBJECTS, "objects");
pub(crate) const VERSIONS: Table<VersionRow> = Table::new(tables::OBJECT_VERSIONS, "object_versions");
/// The same rows, of which a listing reads less.
pub(crate) const LISTED_VERSIONS: Table<ListedVersion> =
    Table::new(tables::OBJECT_VERSIONS, "object_versions");
pub(crate) const NULLS: Table<NullRow> = Table::new(tables::OBJECT_NULLS, "object_nulls");
pub(crate) const CHORES: Table<Chore> = Table::new(tables::BUCKET_CHORES, "bucket_chores");
pub(crate) const PARTS: Table<Parts> = Table::new(tables::OBJECT_DATA, "object_data");
pub(crate) const UPLOADS: Table<Upload> = Table::new(tables::UPLOADS, "uploads");
pub(crate) const UPLOAD_PARTS: Table<Part> = Table::new(tables::UPLOAD_PARTS, "upload_parts");
pub(crate) const PENDING: Table<Pending> = Table::new(tables::BLOB_PENDING, "blob_pending");
pub(crate) const GARBAGE: Table<Garbage> = Table::new(tables::BLOB_GARBAGE, "blob_garbage");

/// The format byte of an inline object's row: as the bytes are.
pub(crate) const INLINE_FORMAT: u8 = 1;
/// The same, sealed.
pub(crate) const INLINE_SEALED_FORMAT: u8 = 2;

/// Who owns a bucket's name, and what every request to the bucket has to know.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct NameRow {
    pub(crate) owner: AccountId,
    /// Whether versioning was ever switched on.
    #[serde(default, skip_serializing_if = "types::is_default")]
    pub(crate) versioned: bool,
    /// The bucket's policy, as it was put.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) policy: Option<Arc<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) public_access_block: Option<PublicAccessBlock>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ownership: Option<Ownership>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) acl: Acl,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) cors: Vec<cors::Rule>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) website: Option<Website>,
    /// Where lines about its requests go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) logging: Option<LogTarget>,
    /// The key of KMS under which objects are that ask for nothing else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) encryption: Option<AskedKey>,
    /// Whether it has lifecycle rules.
    #[serde(default, skip_serializing_if = "types::is_default")]
    pub(crate) has_rules: bool,
}

/// A bucket.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Bucket {
    pub(crate) created_at: Timestamp,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) notifications: Vec<Target>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) tags: Vec<(String, String)>,
    #[serde(default, skip_serializing_if = "Versioning::is_unset")]
    pub(crate) versioning: Versioning,
    /// What PutBucketEncryption said of bucket keys, which concern keys of KMS only.
    #[serde(default, skip_serializing_if = "types::is_default")]
    pub(crate) bucket_key: bool,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) lifecycle: Vec<lifecycle::Rule>,
    /// Whether it locks objects, and how.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) lock: Option<BucketLock>,
}

/// A bucket with lifecycle rules.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Chore {
    pub(crate) owner: AccountId,
}

impl NameRow {
    /// Of a new bucket.
    pub(crate) fn new(owner: AccountId) -> Self {
        Self {
            owner,
            versioned: false,
            policy: None,
            public_access_block: Some(PublicAccessBlock::ALL),
            ownership: Some(Ownership::BucketOwnerEnforced),
            acl: Acl::new(),
            cors: Vec::new(),
            website: None,
            logging: None,
            encryption: None,
            has_rules: false,
        }
    }
}

impl Bucket {
    /// One that was just made.
    pub(crate) fn new(created_at: Timestamp) -> Self {
        Self {
            created_at,
            notifications: Vec::new(),
            tags: Vec::new(),
            versioning: Versioning::Unset,
            bucket_key: false,
            lifecycle: Vec::new(),
            lock: None,
        }
    }
}

/// Where an object's bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Data {
    /// In the `OBJECT_DATA` row of its key (and version).
    #[serde(rename = "i")]
    Inline,
    /// In one blob.
    #[serde(rename = "b")]
    Blob(#[serde(with = "blob_id")] BlobId),
    /// In the blobs that an `OBJECT_DATA` row of this id lists.
    #[serde(rename = "p")]
    Parts(#[serde(with = "blob_id")] BlobId),
}

/// An object, without its bytes. Field names are short because listings read a thousand of these.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Object {
    #[serde(rename = "s")]
    pub(crate) size: u64,
    #[serde(rename = "e")]
    pub(crate) etag: String,
    /// Seconds since the epoch: the resolution that S3 has.
    #[serde(rename = "m")]
    pub(crate) modified: i64,
    #[serde(rename = "d")]
    pub(crate) data: Data,
    #[serde(rename = "c")]
    pub(crate) checksum: Checksum,
    #[serde(rename = "h", default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) headers: BTreeMap<String, String>,
    #[serde(rename = "u", default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) metadata: BTreeMap<String, String>,
    #[serde(rename = "t", default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) tags: Vec<(String, String)>,
    /// How many parts it was uploaded in; 0 if not in parts.
    #[serde(rename = "n", default, skip_serializing_if = "types::is_default")]
    pub(crate) parts: u32,
    /// The upload that made it, so that a repeated completion finds its own work.
    #[serde(rename = "o", default, skip_serializing_if = "Option::is_none")]
    pub(crate) upload: Option<String>,
    /// How its bytes are sealed, if they are.
    #[serde(rename = "k", default, skip_serializing_if = "Option::is_none")]
    pub(crate) encryption: Option<Encryption>,
    /// `None`: the null version.
    #[serde(rename = "v", default, skip_serializing_if = "Option::is_none")]
    pub(crate) version: Option<VersionId>,
    /// Who else may do something with it.
    #[serde(rename = "g", default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) acl: Acl,
    /// Where a web site sends those who ask for it.
    #[serde(rename = "w", default, skip_serializing_if = "Option::is_none")]
    pub(crate) redirect: Option<String>,
    /// What keeps it.
    #[serde(rename = "l", default, skip_serializing_if = "Lock::is_empty")]
    pub(crate) lock: Lock,
}

/// What a listing shows of an object: decoding it skips the rest of the row.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Listed {
    #[serde(rename = "s")]
    pub(crate) size: u64,
    #[serde(rename = "e")]
    pub(crate) etag: String,
    #[serde(rename = "m")]
    pub(crate) modified: i64,
    #[serde(rename = "c")]
    pub(crate) checksum: Checksum,
    #[serde(rename = "v", default)]
    pub(crate) version: Option<VersionId>,
}

/// A version that is not the current object.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum VersionRow {
    #[serde(rename = "o")]
    Object {
        #[serde(rename = "o")]
        object: Box<Object>,
        /// Since when it is not the current one, in seconds since the epoch.
        #[serde(rename = "n")]
        since: i64,
    },
    #[serde(rename = "d")]
    Marker(Marker),
}

/// A delete marker.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Marker {
    /// `None`: the null version.
    #[serde(rename = "v", default, skip_serializing_if = "Option::is_none")]
    pub(crate) version: Option<VersionId>,
    #[serde(rename = "m")]
    pub(crate) modified: i64,
}

/// What a listing shows of a [`VersionRow`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum ListedVersion {
    #[serde(rename = "o")]
    Object {
        #[serde(rename = "o")]
        object: Listed,
    },
    #[serde(rename = "d")]
    Marker(Marker),
}

/// Where a null version is that is not the current object.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct NullRow {
    /// Its place among the versions.
    #[serde(rename = "q")]
    pub(crate) order: u64,
    /// Its bytes; `None` if it is a delete marker.
    #[serde(rename = "d", default, skip_serializing_if = "Option::is_none")]
    pub(crate) data: Option<Data>,
}

/// A multipart upload under way. Every part writes this row once more, so that its version tells a completion,
/// which reads the parts before its commit, whether they are still those.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Upload {
    pub(crate) initiated_at: Timestamp,
    /// The initiator's ARN.
    pub(crate) initiator: String,
    /// How the whole is checksummed.
    pub(crate) plan: crate::checksum::UploadPlan,
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) metadata: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) tags: Vec<(String, String)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) encryption: Option<Encryption>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) acl: Acl,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) redirect: Option<String>,
    #[serde(default, skip_serializing_if = "Lock::is_empty")]
    pub(crate) lock: Lock,
}

/// One part of an upload.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Part {
    pub(crate) size: u64,
    /// MD5 in hexadecimal.
    pub(crate) etag: String,
    /// `None` for a part without bytes.
    #[serde(with = "optional_blob_id", default)]
    pub(crate) blob: Option<BlobId>,
    pub(crate) modified: i64,
    /// The upload's own algorithm first; then the one that the client sent, if another.
    pub(crate) checksums: Vec<PartChecksum>,
}

/// A blob that no row makes visible yet.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Pending {
    pub(crate) started_at: Timestamp,
}

/// What a commit left behind.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Garbage {
    /// When, in milliseconds since the epoch.
    pub(crate) at_ms: i64,
    pub(crate) items: Vec<Dead>,
}

/// One thing that nothing refers to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Dead {
    /// A blob.
    Blob(#[serde(with = "blob_id")] BlobId),
    /// The blobs of a [`Parts`] row, and the row.
    Parts {
        account: AccountId,
        #[serde(with = "blob_id")]
        id: BlobId,
    },
    /// The parts of an upload, and their blobs.
    Upload { account: AccountId, id: String },
}

impl JsonRecord for NameRow {}
impl JsonRecord for Bucket {}
impl JsonRecord for Object {}
impl JsonRecord for Listed {}
impl JsonRecord for VersionRow {}
impl JsonRecord for ListedVersion {}
impl JsonRecord for NullRow {}
impl JsonRecord for Chore {}
impl JsonRecord for Upload {}
impl JsonRecord for Part {}
impl JsonRecord for Pending {}
impl JsonRecord for Garbage {}

/// A run of an object's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Segment {
    /// `None` if the part has no bytes.
    pub(crate) blob: Option<BlobId>,
    pub(crate) size: u64,
    /// The part's number as it was uploaded.
    pub(crate) number: u32,
    /// The part's checksum in the object's algorithm.
    pub(crate) checksum: Vec<u8>,
}

/// The blobs of an object, in order. An object may have ten thousand: this is binary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Parts(pub(crate) Vec<Segment>);

impl Record for Parts {
    const FORMAT: u8 = 1;

    fn encode(&self, out: &mut Vec<u8>) {
        for segment in &self.0 {
            out.push(u8::from(segment.blob.is_some()));
            out.extend_from_slice(&segment.blob.map_or([0; 16], |id| id.0));
            out.extend_from_slice(&segment.size.to_be_bytes());
            out.extend_from_slice(&segment.number.to_be_bytes());
            out.push(u8::try_from(segment.checksum.len()).expect("checksums are at most 32 bytes"));
            out.extend_from_slice(&segment.checksum);
        }
    }

    fn decode(_format: u8, mut bytes: &[u8]) -> Result<Self, String> {
        fn take<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], String> {
            let (head, rest) = bytes.split_first_chunk().ok_or("it ends early")?;
            *bytes = rest;
            Ok(*head)
        }
        let mut segments = Vec::new();
        while !bytes.is_empty() {
            let [present] = take(&mut bytes)?;
            let id = BlobId(take(&mut bytes)?);
            let size = u64::from_be_bytes(take(&mut bytes)?);
            let number = u32::from_be_bytes(take(&mut bytes)?);
            let [len] = take(&mut bytes)?;
            let (checksum, rest) = bytes.split_at_checked(usize::from(len)).ok_or("it ends early")?;
            bytes = rest;
            let blob = (present != 0).then_some(id);
            segments.push(Segment { blob, size, number, checksum: checksum.to_vec() });
        }
        Ok(Self(segments))
    }
}

/// Key of a bucket's name.
pub(crate) fn name_key(bucket: &str) -> Key {
    NAMES.key(AccountId::NODE, |k| {
        k.text(bucket);
    })
}

/// Key of a bucket.
pub(crate) fn bucket_key(owner: AccountId, bucket: &str) -> Key {
    BUCKETS.key(owner, |k| {
        k.text(bucket);
    })
}

/// Key of a bucket with lifecycle rules.
pub(crate) fn chore_key(bucket: &str) -> Key {
    CHORES.key(AccountId::NODE, |k| {
        k.text(bucket);
    })
}

/// Key of an object.
pub(crate) fn object_key(owner: AccountId, bucket: &str, key: &str) -> Key {
    OBJECTS.key(owner, |k| {
        k.text(bucket).text(key);
    })
}

/// Key of a small object's bytes.
pub(crate) fn inline_key(owner: AccountId, bucket: &str, key: &str, version: Option<VersionId>) -> Key {
    PARTS.key(owner, |k| {
        match version {
            None => k.u8(0).text(bucket).text(key),
            Some(version) => k.u8(2).text(bucket).text(key).u64(version.order),
        };
    })
}

/// Key of a version: the newest first.
pub(crate) fn version_key(owner: AccountId, bucket: &str, key: &str, order: u64) -> Key {
    VERSIONS.key(owner, |k| {
        k.text(bucket).text(key).u64(!order);
    })
}

/// Key of where the null version is.
pub(crate) fn null_key(owner: AccountId, bucket: &str, key: &str) -> Key {
    NULLS.key(owner, |k| {
        k.text(bucket).text(key);
    })
}

/// Key of a list of parts.
pub(crate) fn parts_key(owner: AccountId, id: BlobId) -> Key {
    PARTS.key(owner, |k| {
        k.u8(1).raw(&id.0);
    })
}

/// Key of an upload.
pub(crate) fn upload_key(owner: AccountId, bucket: &str, key: &str, upload: &str) -> Key {
    UPLOADS.key(owner, |k| {
        k.text(bucket).text(key).text(upload);
    })
}

/// Key of a part of an upload.
pub(crate) fn part_key(owner: AccountId, upload: &str, number: u32) -> Key {
    UPLOAD_PARTS.key(owner, |k| {
        k.text(upload).u64(u64::from(number));
    })
}

/// The object's key in that of a row: (bucket, key, ...).
pub(crate) fn key_in(row_key: &[u8]) -> Result<String, store::Error> {
    text_in(row_key, 1)
}

/// The upload's id in the key of its row.
pub(crate) fn upload_in(row_key: &[u8]) -> Result<String, store::Error> {
    text_in(row_key, 2)
}

/// The first text in the key of a row: a bucket's name.
pub(crate) fn bucket_in(row_key: &[u8]) -> Result<String, store::Error> {
    text_in(row_key, 0)
}

/// The text behind so many others.
fn text_in(row_key: &[u8], behind: usize) -> Result<String, store::Error> {
    let read = || {
        let mut reader = KeyReader::new(row_key)?;
        for _ in 0..behind {
            reader.bytes()?;
        }
        reader.text()
    };
    read().map_err(|error: KeyError| store::Error::Corrupt {
        table: "buckets and objects",
        reason: error.to_string(),
    })
}

/// Key of a pending blob.
pub(crate) fn pending_key(id: BlobId) -> Key {
    PENDING.key(AccountId::NODE, |k| {
        k.raw(&id.0);
    })
}

/// The prefix under which garbage is appended.
pub(crate) fn garbage_prefix() -> Key {
    GARBAGE.key(AccountId::NODE, |_| {})
}

/// The beginning of the keys of all rows of `bucket` in `table` whose key begins with `prefix`.
pub(crate) fn listing_prefix(owner: AccountId, table: TableId, bucket: &str, prefix: &str) -> Key {
    let mut writer = store::key::KeyWriter::new(owner, table);
    writer.text(bucket).text(prefix);
    // Without the two bytes that end a text, what is left begins every text that begins with `prefix`.
    let key = writer.finish();
    key.slice(..key.len() - 2)
}

/// The value of an inline object's row, without its format byte, and whether it is sealed.
pub(crate) fn inline_bytes(entry: &store::Entry) -> Result<(Bytes, bool), store::Error> {
    match entry.value.first() {
        Some(&INLINE_FORMAT) => Ok((entry.value.slice(1..), false)),
        Some(&INLINE_SEALED_FORMAT) => Ok((entry.value.slice(1..), true)),
        other => Err(store::Error::Corrupt {
            table: "object_data",
            reason: format!("its format is {other:?}, newer than {INLINE_SEALED_FORMAT}"),
        }),
    }
}

mod blob_id {
    //! A blob's id as hexadecimal text.
    use blobs::BlobId;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(id: &BlobId, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(id)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BlobId, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        let mut id = [0; 16];
        hex::decode_to_slice(text.as_bytes(), &mut id).map_err(serde::de::Error::custom)?;
        Ok(BlobId(id))
    }
}

mod optional_blob_id {
    //! The same, or null.
    use blobs::BlobId;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    struct Wrapped(#[serde(with = "super::blob_id")] BlobId);

    pub(super) fn serialize<S: Serializer>(id: &Option<BlobId>, serializer: S) -> Result<S::Ok, S::Error> {
        id.map(Wrapped).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<BlobId>, D::Error> {
        Ok(Option::<Wrapped>::deserialize(deserializer)?.map(|wrapped| wrapped.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_parts_round_trip() {
        let parts = Parts(vec![
            Segment { blob: Some(BlobId([7; 16])), size: 5 << 20, number: 1, checksum: vec![1, 2, 3, 4] },
            Segment { blob: None, size: 0, number: 9, checksum: Vec::new() },
        ]);
        let mut bytes = Vec::new();
        parts.encode(&mut bytes);
        assert_eq!(Parts::decode(1, &bytes).unwrap(), parts);
        assert!(Parts::decode(1, &bytes[..bytes.len() - 1]).is_err());
    }

    #[test]
    fn rows_keep_their_shape() {
        let json = r#"{"s":3,"e":"x","m":0,"d":{"b":"07070707070707070707070707070707"},"c":{"a":"CRC32","k":"F","v":"AAAA"}}"#;
        let object: Object = serde_json::from_str(json).unwrap();
        assert_eq!(object.data, Data::Blob(BlobId([7; 16])));
        assert_eq!(serde_json::to_string(&object).unwrap(), json);
    }
}
