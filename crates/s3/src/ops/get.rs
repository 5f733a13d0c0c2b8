//! GetObject, HeadObject.

use std::ops::Range;

use http::{HeaderMap, HeaderName, HeaderValue};
use s3s::S3Response;
use s3s::dto::{ChecksumType, GetObjectInput, GetObjectOutput, HeadObjectInput, HeadObjectOutput};
use types::AccountId;

use crate::checksum::{Kind, encode, show_checksum};
use crate::ops::conditions::ReadConditions;
use crate::ops::range::{Wanted, wanted};
use crate::ops::{etag, lifecycle, timestamp};
use crate::read::{self, Found};
use crate::route::Query;
use crate::service::Cx;
use crate::tables::{Data, NameRow, Object};
use crate::{Error, checksum, encryption, lock, versions};

/// Which bytes are asked for, and how the answer says so.
struct Selection {
    range: Range<u64>,
    /// `Content-Range`, if not all.
    content_range: Option<String>,
    /// The checksum of those bytes, if it is known: algorithm, value, and the kind if of the whole.
    checksum: Option<(checksum::Algorithm, String, Option<Kind>)>,
}

async fn select(
    cx: &Cx,
    account: AccountId,
    object: &Object,
    part_number: Option<i32>,
    show_checksum: bool,
) -> Result<Selection, Error> {
    let size = object.size;
    let content_range = |range: &Range<u64>| format!("bytes {}-{}/{size}", range.start, range.end - 1);
    let range_header = cx.header("range");
    let whole = &object.checksum;
    let whole = show_checksum.then(|| (whole.algorithm, whole.value.clone(), Some(whole.kind)));
    let Some(number) = part_number else {
        return match wanted(range_header, size) {
            Wanted::Whole => Ok(Selection { range: 0..size, content_range: None, checksum: whole }),
            Wanted::Part(range) => {
                let content_range = Some(content_range(&range));
                Ok(Selection { range, content_range, checksum: None })
            }
            Wanted::Unsatisfiable => {
                Err(Error::InvalidRange { asked: range_header.unwrap_or_default().to_owned(), size })
            }
        };
    };
    if range_header.is_some() {
        return Err(Error::invalid_request(
            "Cannot specify both Range header and partNumber query parameter",
        ));
    }
    if !(1..=super::MAX_PARTS).contains(&number) {
        let message = "Part number must be an integer between 1 and 10000, inclusive";
        return Err(Error::argument("partNumber", number.to_string(), message));
    }
    let missing = || Error::InvalidPartNumber { asked: number, count: object.parts.max(1) };
    let (range, checksum) = match object.data {
        Data::Parts(id) => {
            let parts = read::parts(&cx.inner, account, id).await?.0;
            let mut start = 0;
            let mut found = None;
            for part in &parts {
                if i64::from(part.number) == i64::from(number) {
                    found = Some(part);
                    break;
                }
                start += part.size;
            }
            let part = found.ok_or_else(missing)?;
            let known = show_checksum && object.checksum.kind == Kind::Composite && !part.checksum.is_empty();
            let checksum = known.then(|| (object.checksum.algorithm, encode(&part.checksum), None));
            (start..start + part.size, checksum)
        }
        Data::Inline | Data::Blob(_) if number == 1 => (0..size, whole),
        Data::Inline | Data::Blob(_) => return Err(missing()),
    };
    let content_range = (!range.is_empty()).then(|| content_range(&range));
    Ok(Selection { range, content_range, checksum })
}

/// The headers that the object keeps, with what the query puts in their place.
fn headers(cx: &Cx, object: &Object, query: &str) -> Result<HeaderMap, Error> {
    let query = Query::parse(query);
    let mut headers = HeaderMap::new();
    let valid = |value: &str| {
        HeaderValue::from_str(value)
            .or_else(|_| HeaderValue::from_bytes(value.as_bytes()))
            .map_err(|_| Error::argument("response", value, "Header value cannot be represented"))
    };
    for name in super::SYSTEM_HEADERS {
        let instead = query.get(&format!("response-{name}"));
        if let Some(value) = instead.or(object.headers.get(name).map(String::as_str)) {
            headers.insert(HeaderName::from_static(name), valid(value)?);
        }
    }
    if !object.tags.is_empty() {
        headers.insert("x-amz-tagging-count", HeaderValue::from(object.tags.len()));
    }
    encryption::show(object.encryption.as_ref(), &cx.state.headers, &mut headers);
    lock::show(&object.lock, &mut headers);
    if let Some(to) = &object.redirect {
        headers.insert("x-amz-website-redirect-location", valid(to)?);
    }
    if object.parts > 0 && query.has("partNumber") {
        headers.insert("x-amz-mp-parts-count", HeaderValue::from(object.parts));
    }
    Ok(headers)
}

/// The version's id, in buckets that keep versions or did.
fn shown_version(home: &NameRow, object: &Object) -> Option<String> {
    home.versioned.then(|| versions::name(object.version))
}

fn length(range: &Range<u64>) -> Option<i64> {
    i64::try_from(range.end - range.start).ok()
}

fn is_enabled(mode: Option<&s3s::dto::ChecksumMode>) -> bool {
    mode.is_some_and(|mode| mode.as_str() == "ENABLED")
}

pub(crate) async fn get(cx: &Cx, input: GetObjectInput) -> Result<S3Response<GetObjectOutput>, Error> {
    let home = cx.home().await?;
    let account = home.owner;
    let address = cx.address(&home, input.version_id.as_deref())?;
    let found = read::find(&cx.inner, address, true).await?;
    let Found { object, .. } = &found;
    let key = cx.opener(object.encryption.as_ref()).await?;
    cx.note(|facts| facts.size = Some(object.size));
    let conditions = ReadConditions {
        if_match: input.if_match.as_ref(),
        if_none_match: input.if_none_match.as_ref(),
        if_modified_since: input.if_modified_since.as_ref(),
        if_unmodified_since: input.if_unmodified_since.as_ref(),
    };
    conditions.check(object)?;
    let show = is_enabled(input.checksum_mode.as_ref());
    let selection = select(cx, account, object, input.part_number, show).await?;
    let mut headers = headers(cx, object, &cx.state.query)?;
    if found.other.is_none() {
        let expiration = lifecycle::expiration(cx, &home, object).await?;
        headers.extend(expiration.map(|at| (HeaderName::from_static(lifecycle::EXPIRATION), at)));
    }
    let mut output = GetObjectOutput {
        accept_ranges: Some("bytes".to_owned()),
        content_length: length(&selection.range),
        content_range: selection.content_range,
        e_tag: Some(etag(&object.etag)),
        last_modified: Some(timestamp(object.modified)),
        metadata: Some(object.metadata.clone().into_iter().collect()),
        version_id: shown_version(&home, object),
        ..GetObjectOutput::default()
    };
    if let Some((algorithm, value, kind)) = selection.checksum {
        show_checksum!(output, algorithm, value);
        output.checksum_type = kind.map(|kind| ChecksumType::from_static(kind.name()));
    }
    let body = read::body(&cx.inner, account, &found, key, selection.range).await?;
    *cx.state.answer.lock().expect("no holder of this lock panics") = Some(body);
    Ok(S3Response::with_headers(output, headers))
}

pub(crate) async fn head(cx: &Cx, input: HeadObjectInput) -> Result<S3Response<HeadObjectOutput>, Error> {
    let home = cx.home().await?;
    let account = home.owner;
    let address = cx.address(&home, input.version_id.as_deref())?;
    let found = read::find(&cx.inner, address, false).await?;
    let object = &found.object;
    cx.check_customer(object.encryption.as_ref())?;
    cx.note(|facts| facts.size = Some(object.size));
    let conditions = ReadConditions {
        if_match: input.if_match.as_ref(),
        if_none_match: input.if_none_match.as_ref(),
        if_modified_since: input.if_modified_since.as_ref(),
        if_unmodified_since: input.if_unmodified_since.as_ref(),
    };
    conditions.check(object)?;
    let show = is_enabled(input.checksum_mode.as_ref());
    let selection = select(cx, account, object, input.part_number, show).await?;
    let mut headers = headers(cx, object, &cx.state.query)?;
    if found.other.is_none() {
        let expiration = lifecycle::expiration(cx, &home, object).await?;
        headers.extend(expiration.map(|at| (HeaderName::from_static(lifecycle::EXPIRATION), at)));
    }
    let mut output = HeadObjectOutput {
        accept_ranges: Some("bytes".to_owned()),
        content_length: length(&selection.range),
        content_range: selection.content_range,
        e_tag: Some(etag(&object.etag)),
        last_modified: Some(timestamp(object.modified)),
        metadata: Some(object.metadata.clone().into_iter().collect()),
        version_id: shown_version(&home, object),
        ..HeadObjectOutput::default()
    };
    if let Some((algorithm, value, kind)) = selection.checksum {
        show_checksum!(output, algorithm, value);
        output.checksum_type = kind.map(|kind| ChecksumType::from_static(kind.name()));
    }
    Ok(S3Response::with_headers(output, headers))
}
