//! ListObjects, ListObjectsV2.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use s3s::S3Response;
use s3s::dto::{
    ChecksumAlgorithm, ChecksumType, CommonPrefix, EncodingType, ListObjectsInput, ListObjectsOutput,
    ListObjectsV2Input, ListObjectsV2Output, Object as ObjectShape, ObjectStorageClass,
};
use store::{Key, tables as ids};
use types::AccountId;

use crate::Error;
use crate::notify::url_encode;
use crate::ops::{MAX_PAGE, etag, owner, timestamp};
use crate::service::Cx;
use crate::tables::{LISTED, Listed};
use crate::walk::{Item, Walk};

/// How many entries a page may have: what was asked for, at most a thousand.
pub(crate) fn page_size(name: &'static str, asked: Option<i32>) -> Result<usize, Error> {
    match asked.map(usize::try_from) {
        None => Ok(MAX_PAGE),
        Some(Ok(asked)) => Ok(asked.min(MAX_PAGE)),
        Some(Err(_)) => {
            let message = format!("Argument {name} must be an integer between 0 and 2147483647");
            Err(Error::argument(name, asked.unwrap_or_default().to_string(), message))
        }
    }
}

/// How keys are written in an answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Encoding {
    url: bool,
}

impl Encoding {
    pub(crate) fn of(encoding: Option<&EncodingType>) -> Result<Self, Error> {
        match encoding.map(EncodingType::as_str) {
            None => Ok(Self { url: false }),
            Some("url") => Ok(Self { url: true }),
            Some(other) => {
                Err(Error::argument("encoding-type", other, "Invalid Encoding Method specified in Request"))
            }
        }
    }

    pub(crate) fn text(self, text: &str) -> String {
        if self.url { url_encode(text) } else { text.to_owned() }
    }

    pub(crate) fn optional(self, text: Option<&String>) -> Option<String> {
        // As on AWS, an empty one is not told back.
        text.filter(|text| !text.is_empty()).map(|text| self.text(text))
    }
}

/// A listing as its request describes it.
struct Listing<'a> {
    owner: AccountId,
    walk: Walk<'a>,
    from: Option<Key>,
    limit: usize,
    encoding: Encoding,
    with_owner: bool,
}

struct ListedPage {
    contents: Vec<ObjectShape>,
    prefixes: Vec<CommonPrefix>,
    truncated: bool,
    /// The last key or prefix of the page, as it is.
    last: Option<String>,
    last_is_prefix: bool,
}

impl Listing<'_> {
    async fn page(&self, cx: &Cx) -> Result<ListedPage, Error> {
        let (items, truncated) = self.walk.run(&cx.inner, self.from.clone(), self.limit).await?;
        let mut page = ListedPage {
            contents: Vec::with_capacity(items.len()),
            prefixes: Vec::new(),
            truncated,
            last: None,
            last_is_prefix: false,
        };
        for item in items {
            page.last_is_prefix = matches!(item, Item::Prefix(_));
            match item {
                Item::Prefix(prefix) => {
                    page.prefixes.push(CommonPrefix { prefix: Some(self.encoding.text(&prefix)) });
                    page.last = Some(prefix);
                }
                Item::Row(key, entry) => {
                    let row = LISTED.decode(&entry)?.value;
                    page.contents.push(self.shape(&key, row));
                    page.last = Some(key);
                }
            }
        }
        Ok(page)
    }

    fn shape(&self, key: &str, row: Listed) -> ObjectShape {
        ObjectShape {
            checksum_algorithm: Some(vec![ChecksumAlgorithm::from_static(row.checksum.algorithm.name())]),
            checksum_type: Some(ChecksumType::from_static(row.checksum.kind.name())),
            e_tag: Some(etag(&row.etag)),
            key: Some(self.encoding.text(key)),
            last_modified: Some(timestamp(row.modified)),
            owner: self.with_owner.then(|| owner(self.owner)),
            restore_status: None,
            size: i64::try_from(row.size).ok(),
            storage_class: Some(ObjectStorageClass::from_static(ObjectStorageClass::STANDARD)),
        }
    }
}

pub(crate) async fn v1(cx: &Cx, input: ListObjectsInput) -> Result<S3Response<ListObjectsOutput>, Error> {
    let account = cx.owner().await?;
    let limit = page_size("max-keys", input.max_keys)?;
    let encoding = Encoding::of(input.encoding_type.as_ref())?;
    let (prefix, delimiter) = (input.prefix.as_ref(), input.delimiter.as_ref());
    let walk = Walk::of_request(ids::OBJECTS, account, &input.bucket, prefix, delimiter);
    let from = input.marker.as_deref().filter(|m| !m.is_empty()).map(|marker| walk.behind_marker(marker));
    let listing = Listing { owner: account, walk, from, limit, encoding, with_owner: true };
    let page = listing.page(cx).await?;
    // Without a delimiter the last key says where to go on.
    let next = page.truncated && walk.delimiter.is_some();
    Ok(S3Response::new(ListObjectsOutput {
        common_prefixes: Some(page.prefixes),
        contents: Some(page.contents),
        delimiter: encoding.optional(input.delimiter.as_ref()),
        encoding_type: input.encoding_type,
        is_truncated: Some(page.truncated),
        marker: Some(encoding.text(input.marker.as_deref().unwrap_or_default())),
        max_keys: i32::try_from(limit).ok(),
        name: Some(input.bucket.clone()),
        next_marker: page.last.filter(|_| next).map(|last| encoding.text(&last)),
        prefix: Some(encoding.text(input.prefix.as_deref().unwrap_or_default())),
        request_charged: None,
    }))
}

pub(crate) async fn v2(cx: &Cx, input: ListObjectsV2Input) -> Result<S3Response<ListObjectsV2Output>, Error> {
    let account = cx.owner().await?;
    let limit = page_size("max-keys", input.max_keys)?;
    let encoding = Encoding::of(input.encoding_type.as_ref())?;
    let (prefix, delimiter) = (input.prefix.as_ref(), input.delimiter.as_ref());
    let walk = Walk::of_request(ids::OBJECTS, account, &input.bucket, prefix, delimiter);
    let from = match (&input.continuation_token, &input.start_after) {
        (Some(token), _) => Some(place(&walk, token)?),
        (None, Some(key)) if !key.is_empty() => Some(walk.behind_marker(key)),
        (None, Some(_) | None) => None,
    };
    let with_owner = input.fetch_owner.unwrap_or(false);
    let page = Listing { owner: account, walk, from, limit, encoding, with_owner }.page(cx).await?;
    let token = page.last.filter(|_| page.truncated).map(|last| {
        let kind = if page.last_is_prefix { 'p' } else { 'k' };
        BASE64.encode(format!("{kind}{last}"))
    });
    Ok(S3Response::new(ListObjectsV2Output {
        key_count: i32::try_from(page.contents.len() + page.prefixes.len()).ok(),
        common_prefixes: Some(page.prefixes),
        contents: Some(page.contents),
        continuation_token: input.continuation_token.clone(),
        delimiter: encoding.optional(input.delimiter.as_ref()),
        encoding_type: input.encoding_type.clone(),
        is_truncated: Some(page.truncated),
        max_keys: i32::try_from(limit).ok(),
        name: Some(input.bucket.clone()),
        next_continuation_token: token,
        prefix: Some(encoding.text(input.prefix.as_deref().unwrap_or_default())),
        request_charged: None,
        start_after: encoding.optional(input.start_after.as_ref()),
    }))
}

/// The place that a continuation token stands for.
fn place(walk: &Walk<'_>, token: &str) -> Result<Key, Error> {
    let invalid =
        || Error::argument("continuation-token", token, "The continuation token provided is incorrect");
    let text = BASE64.decode(token).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let text = text.ok_or_else(invalid)?;
    if let Some(prefix) = text.strip_prefix('p') {
        Ok(walk.behind_prefix(prefix))
    } else if let Some(key) = text.strip_prefix('k') {
        Ok(walk.behind_key(key))
    } else {
        Err(invalid())
    }
}
