//! The operations, each named as in S3's model, and the limits and small shapes they share.

pub(crate) mod acl;
mod actions;
pub(crate) mod attributes;
pub(crate) mod bucket;
pub(crate) mod change;
pub(crate) mod complete;
pub(crate) mod conditions;
pub(crate) mod copy;
pub(crate) mod cors;
pub(crate) mod delete;
pub(crate) mod encryption;
pub(crate) mod get;
pub(crate) mod install;
pub(crate) mod lifecycle;
pub(crate) mod list;
pub(crate) mod list_uploads;
pub(crate) mod list_versions;
pub(crate) mod lock;
pub(crate) mod logging;
pub(crate) mod notification;
pub(crate) mod policy;
pub(crate) mod post;
pub(crate) mod put;
pub(crate) mod range;
pub(crate) mod tagging;
pub(crate) mod upload;
pub(crate) mod versioning;
pub(crate) mod website;

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use s3s::dto;
use types::{AccountId, Timestamp};

use crate::Error;
use crate::notify::canonical_id;
use crate::service::Cx;

/// The largest object that one request may send.
pub(crate) const MAX_UPLOAD_BYTES: u64 = 5 << 30;
/// The smallest part that is not the last.
pub(crate) const MIN_PART_BYTES: u64 = 5 << 20;
pub(crate) const MAX_PARTS: i32 = 10_000;
pub(crate) const MAX_KEY_BYTES: usize = 1024;
const MAX_METADATA_BYTES: usize = 2048;
/// The most keys, parts or uploads on a page.
pub(crate) const MAX_PAGE: usize = 1000;
/// The largest XML body: a completion with ten thousand parts and their checksums fits.
pub(crate) const MAX_XML_BYTES: usize = 4 << 20;

/// Headers that an object keeps and gives back.
const SYSTEM_HEADERS: [&str; 6] = [
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-type",
    "expires",
];

/// The system headers of the request, as the object keeps them.
pub(crate) fn system_headers(cx: &Cx) -> BTreeMap<String, String> {
    let mut headers = BTreeMap::new();
    for name in SYSTEM_HEADERS {
        let Some(value) = cx.header(name) else { continue };
        let value = match name {
            // How the request was sent, not how the object is.
            "content-encoding" => {
                let chunked = |encoding: &&str| encoding.trim() == "aws-chunked";
                let encodings = value.split(',').filter(|encoding| !chunked(encoding));
                encodings.collect::<Vec<_>>().join(",").trim().to_owned()
            }
            _ => value.to_owned(),
        };
        if !value.is_empty() {
            headers.insert(name.to_owned(), value);
        }
    }
    headers.entry("content-type".to_owned()).or_insert_with(|| "binary/octet-stream".to_owned());
    headers
}

/// User metadata within its limit.
pub(crate) fn user_metadata(metadata: Option<dto::Metadata>) -> Result<BTreeMap<String, String>, Error> {
    let metadata: BTreeMap<_, _> = metadata.unwrap_or_default().into_iter().collect();
    let size = metadata.iter().map(|(name, value)| name.len() + value.len()).sum();
    if size > MAX_METADATA_BYTES {
        return Err(Error::MetadataTooLarge { size });
    }
    Ok(metadata)
}

/// Seconds since the epoch in the protocol crate's type.
pub(crate) fn timestamp(seconds: i64) -> dto::Timestamp {
    let since = Duration::from_secs(seconds.unsigned_abs());
    (if seconds < 0 { SystemTime::UNIX_EPOCH - since } else { SystemTime::UNIX_EPOCH + since }).into()
}

/// A time in the protocol crate's type.
pub(crate) fn precise(at: Timestamp) -> dto::Timestamp {
    let since = Duration::from_millis(at.as_millisecond().unsigned_abs());
    (SystemTime::UNIX_EPOCH + since).into()
}

/// The second that a time of the protocol crate is in.
pub(crate) fn seconds(at: &dto::Timestamp) -> Option<i64> {
    let mut text = Vec::new();
    at.format(dto::TimestampFormat::DateTime, &mut text).ok()?;
    let at: Timestamp = std::str::from_utf8(&text).ok()?.parse().ok()?;
    Some(at.as_second())
}

/// Seconds since the epoch as HTTP writes them.
pub(crate) fn http_date(seconds: i64) -> String {
    let mut text = Vec::new();
    let _ = timestamp(seconds).format(dto::TimestampFormat::HttpDate, &mut text);
    String::from_utf8(text).unwrap_or_default()
}

pub(crate) fn etag(value: &str) -> dto::ETag {
    dto::ETag::Strong(value.to_owned())
}

pub(crate) fn owner(account: AccountId) -> dto::Owner {
    dto::Owner { display_name: None, id: Some(canonical_id(account)) }
}
