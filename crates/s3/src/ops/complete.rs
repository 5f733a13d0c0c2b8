//! CompleteMultipartUpload: the parts become the object without a byte being moved.

use std::collections::BTreeMap;

use http::{HeaderMap, HeaderName};
use s3s::S3Response;
use s3s::dto::{ChecksumType, CompleteMultipartUploadInput, CompleteMultipartUploadOutput, CompletedPart};
use store::key::after;
use store::{Stored, Write};
use types::AccountId;

use crate::checksum::{Checksum, Kind, UploadPlan, decode, given_checksums, show_checksum};
use crate::ops::conditions::WriteConditions;
use crate::ops::install::{Install, Placement};
use crate::ops::{MIN_PART_BYTES, etag, lifecycle};
use crate::service::Cx;
use crate::tables::{
    self, Data, Dead, NameRow, Object, PARTS, Part, Parts, Segment, UPLOAD_PARTS, UPLOADS, Upload,
};
use crate::{Error, encryption, read, versions};

/// What the listed parts come to.
struct Whole {
    segments: Vec<Segment>,
    size: u64,
    etag: String,
    checksum: Checksum,
}

pub(crate) async fn complete(
    cx: &Cx,
    input: CompleteMultipartUploadInput,
) -> Result<S3Response<CompleteMultipartUploadOutput>, Error> {
    let home = cx.home().await?;
    let owner = home.owner;
    let conditions = WriteConditions::new(input.if_match.clone(), input.if_none_match.clone())?;
    let listed = input.multipart_upload.as_ref().and_then(|list| list.parts.clone()).unwrap_or_default();
    if listed.is_empty() {
        return Err(Error::MalformedXml);
    }
    let (object, version) = loop {
        let key = tables::upload_key(owner, cx.bucket(), cx.key(), &input.upload_id);
        let Some(upload) = UPLOADS.get(&cx.inner.store, key).await? else {
            let object = completed_before(cx, &home, &input.upload_id).await?;
            let version = home.versioned.then(|| versions::name(object.version));
            break (object, version);
        };
        let parts = uploaded(cx, owner, &input.upload_id).await?;
        let whole = assemble(&input.upload_id, upload.value.plan, &listed, &parts)?;
        check(&input, &whole)?;
        // A part that was uploaded since then makes it begin anew.
        if let Some(done) =
            commit(cx, &home, &input.upload_id, upload, &parts, whole, conditions.clone()).await?
        {
            break done;
        }
    };
    let endpoint = &cx.state.context.endpoint;
    let location = format!("{endpoint}/{}/{}", input.bucket, crate::notify::url_encode(&input.key));
    let mut output = CompleteMultipartUploadOutput {
        bucket: Some(input.bucket),
        key: Some(input.key),
        location: Some(location),
        e_tag: Some(etag(&object.etag)),
        version_id: version,
        checksum_type: Some(ChecksumType::from_static(object.checksum.kind.name())),
        ..CompleteMultipartUploadOutput::default()
    };
    let expiration = lifecycle::expiration(cx, &home, &object).await?;
    show_checksum!(output, object.checksum.algorithm, object.checksum.value);
    let mut headers = HeaderMap::new();
    encryption::show(object.encryption.as_ref(), &cx.state.headers, &mut headers);
    headers.extend(expiration.map(|at| (HeaderName::from_static(lifecycle::EXPIRATION), at)));
    Ok(S3Response::with_headers(output, headers))
}

/// A completion whose answer was lost is asked for again: the same answer, if the object is still that one.
async fn completed_before(cx: &Cx, home: &NameRow, upload: &str) -> Result<Object, Error> {
    let gone = || Error::NoSuchUpload(upload.to_owned());
    let found = read::find(&cx.inner, cx.address(home, None)?, false).await.map_err(|error| {
        if matches!(error, Error::NoSuchKey(_) | Error::Deleted { .. }) { gone() } else { error }
    })?;
    (found.object.upload.as_deref() == Some(upload)).then_some(found.object).ok_or_else(gone)
}

/// All parts of the upload, by number.
async fn uploaded(cx: &Cx, owner: AccountId, upload: &str) -> Result<BTreeMap<u32, Part>, Error> {
    let mut range = UPLOAD_PARTS.range(owner, crate::ops::MAX_PAGE, |k| {
        k.text(upload);
    });
    let mut parts = BTreeMap::new();
    loop {
        let (rows, more) = UPLOAD_PARTS.scan(&cx.inner.store, range.clone()).await?;
        if let Some(last) = rows.last() {
            range.start = after(&last.key);
        }
        for row in rows {
            parts.insert(number_of(&row)?, row.value);
        }
        if !more {
            return Ok(parts);
        }
    }
}

/// The number in a part's key.
pub(crate) fn number_of(row: &Stored<Part>) -> Result<u32, Error> {
    let tail = row.key.last_chunk::<4>().copied();
    let corrupt = || store::Error::Corrupt { table: "upload_parts", reason: "its key is short".into() };
    Ok(u32::from_be_bytes(tail.ok_or_else(corrupt)?))
}

fn assemble(
    upload: &str,
    plan: UploadPlan,
    listed: &[CompletedPart],
    parts: &BTreeMap<u32, Part>,
) -> Result<Whole, Error> {
    if !listed.is_sorted_by(|a, b| a.part_number < b.part_number) {
        return Err(Error::InvalidPartOrder(upload.to_owned()));
    }
    let mut segments = Vec::with_capacity(listed.len());
    let mut checksums = Vec::with_capacity(listed.len());
    let mut md5 = fast_md5::Md5::new();
    let mut size = 0;
    let mut too_small = None;
    for (i, listed_part) in listed.iter().enumerate() {
        let number = listed_part.part_number.ok_or(Error::MalformedXml)?;
        let tag = listed_part.e_tag.as_ref().ok_or(Error::MalformedXml)?.value().to_owned();
        let invalid = || Error::InvalidPart { upload: upload.to_owned(), number, etag: tag.clone() };
        if plan.asked && plan.kind == Kind::Composite && given_checksums!(listed_part).next().is_none() {
            return Err(Error::invalid_request(format!(
                "The upload was created using a {} checksum. The complete request must include the checksum for each part. It was missing for part {number} in the request.",
                plan.algorithm.name().to_lowercase()
            )));
        }
        let number = u32::try_from(number).map_err(|_| invalid())?;
        let part = parts.get(&number).filter(|part| part.etag == tag).ok_or_else(invalid)?;
        for (algorithm, value) in given_checksums!(listed_part) {
            let stored = part.checksums.iter().find(|stored| stored.algorithm == algorithm);
            if stored.is_none_or(|stored| stored.value != value) {
                return Err(invalid());
            }
        }
        if part.size < MIN_PART_BYTES && i + 1 < listed.len() && too_small.is_none() {
            let number = i32::try_from(number).unwrap_or(0);
            too_small = Some(Error::EntityTooSmall { number, proposed: part.size, etag: tag.clone() });
        }
        let checksum = part.checksums.iter().find(|stored| stored.algorithm == plan.algorithm);
        let checksum = decode(&checksum.ok_or_else(invalid)?.value);
        md5.update(&hex::decode(&part.etag).map_err(|_| invalid())?);
        checksums.push((checksum.clone(), part.size));
        size += part.size;
        segments.push(Segment { blob: part.blob, size: part.size, number, checksum });
    }
    // Only once all parts are known to be there.
    if let Some(error) = too_small {
        return Err(error);
    }
    let etag = format!("{}-{}", hex::encode(md5.finalize()), listed.len());
    Ok(Whole { segments, size, etag, checksum: plan.combine(&checksums) })
}

/// What the client says the whole is.
fn check(input: &CompleteMultipartUploadInput, whole: &Whole) -> Result<(), Error> {
    if let Some(kind) = &input.checksum_type
        && kind.as_str() != whole.checksum.kind.name()
    {
        return Err(Error::invalid_request(format!(
            "The upload was created using the {} checksum mode. The complete request must use the same checksum mode.",
            whole.checksum.kind.name()
        )));
    }
    for (algorithm, value) in given_checksums!(input) {
        if algorithm != whole.checksum.algorithm || value != whole.checksum.value {
            return Err(Error::bad_digest(format!(
                "The {} you specified did not match the calculated checksum.",
                algorithm.name()
            )));
        }
    }
    if let Some(size) = input.mpu_object_size
        && u64::try_from(size) != Ok(whole.size)
    {
        return Err(Error::invalid_request(
            "The provided 'x-amz-mp-object-size' header value does not match what was computed.",
        ));
    }
    Ok(())
}

/// Commits; `None` if the upload has changed since it was read. Answers with the object and its version as shown.
async fn commit(
    cx: &Cx,
    home: &NameRow,
    id: &str,
    upload: Stored<Upload>,
    parts: &BTreeMap<u32, Part>,
    whole: Whole,
    conditions: WriteConditions,
) -> Result<Option<(Object, Option<String>)>, Error> {
    let owner = home.owner;
    let list = cx.inner.random_id();
    let count = u32::try_from(whole.segments.len()).unwrap_or(u32::MAX);
    let used: std::collections::HashSet<u32> = whole.segments.iter().map(|segment| segment.number).collect();
    let Stored { key: upload_key, value: upload, version: read_at } = upload;
    let mut along = vec![
        Write::Delete(upload_key.clone()),
        PARTS.put(tables::parts_key(owner, list), &Parts(whole.segments)),
    ];
    along.extend(parts.keys().map(|number| Write::Delete(tables::part_key(owner, id, *number))));
    let unused = parts.iter().filter(|(number, _)| !used.contains(number));
    let dead = unused.filter_map(|(_, part)| part.blob).map(Dead::Blob).collect();
    let object = Object {
        size: whole.size,
        etag: whole.etag,
        modified: cx.now().as_second(),
        data: Data::Parts(list),
        checksum: whole.checksum,
        headers: upload.headers,
        metadata: upload.metadata,
        tags: upload.tags,
        parts: count,
        upload: Some(id.to_owned()),
        encryption: upload.encryption,
        version: None,
        acl: upload.acl,
        redirect: upload.redirect,
        lock: upload.lock,
    };
    let install = Install {
        owner,
        bucket: cx.bucket().to_owned(),
        key: cx.key().to_owned(),
        object: object.clone(),
        bytes: Placement::Elsewhere,
        conditions,
        event: "ObjectCreated:CompleteMultipartUpload",
        cause: cx.cause(),
        at_ms: cx.now().as_millisecond(),
        noise: if home.versioned { cx.noise() } else { 0 },
        unchanged: Some((upload_key, read_at)),
        along,
        dead,
    };
    let installed = install.commit(&cx.inner).await?;
    cx.inner.wake.notify_one();
    Ok(installed.ok().map(|installed| (object, installed.shown())))
}
