//! CreateMultipartUpload, UploadPart, UploadPartCopy, AbortMultipartUpload.

use http::HeaderMap;
use s3s::S3Response;
use s3s::dto::{
    AbortMultipartUploadInput, AbortMultipartUploadOutput, ChecksumAlgorithm, ChecksumType, CopyPartResult,
    CreateMultipartUploadInput, CreateMultipartUploadOutput, UploadPartCopyInput, UploadPartCopyOutput,
    UploadPartInput, UploadPartOutput,
};
use store::{Read, Write};
use types::AccountId;

use crate::checksum::{Digests, Expected, Hashers, Kind, UploadPlan, show_checksum};
use crate::encryption::{CustomerKey, Encryption, Seal};
use crate::garbage::discard;
use crate::ingest::Content;
use crate::ops::conditions::ReadConditions;
use crate::ops::install::{bucket_of, settled};
use crate::ops::range::{Wanted, wanted};
use crate::ops::{
    self, MAX_PARTS, MAX_UPLOAD_BYTES, system_headers, tagging, timestamp, user_metadata, website,
};
use crate::service::{Cx, Inner};
use crate::tables::{self, Dead, Part, UPLOAD_PARTS, UPLOADS, Upload};
use crate::{Error, encryption, ingest, read, versions};

pub(crate) async fn create(
    cx: &Cx,
    input: CreateMultipartUploadInput,
) -> Result<S3Response<CreateMultipartUploadOutput>, Error> {
    let home = cx.home().await?;
    let owner = home.owner;
    let plan = UploadPlan::new(
        input.checksum_algorithm.as_ref().map(ChecksumAlgorithm::as_str),
        input.checksum_type.as_ref().map(ChecksumType::as_str),
    )?;
    let now = cx.now();
    let encryption = cx.seal().await?.encryption;
    let upload = Upload {
        initiated_at: now,
        initiator: cx.state.context.caller.principal.arn(),
        plan,
        headers: system_headers(cx),
        metadata: user_metadata(input.metadata)?,
        tags: tagging::of_header(input.tagging.as_deref())?,
        encryption: Some(encryption.clone()),
        acl: home.acl_of_new(&cx.state.headers, &cx.state.context.caller)?,
        redirect: website::redirect(cx)?,
        lock: cx.lock()?,
    };
    // The time first, so that a key's uploads are listed in the order in which they began.
    let id = format!("{:012x}{}", now.as_millisecond(), cx.inner.random_id());
    let row_key = tables::upload_key(owner, cx.bucket(), cx.key(), &id);
    let name = cx.bucket().to_owned();
    let reads = vec![Read::Key(tables::bucket_key(owner, &name))];
    cx.inner
        .store
        .transact(reads, move |pages, _| {
            bucket_of(&pages[0], &name)?;
            Ok::<_, Error>((vec![UPLOADS.put(row_key.clone(), &upload)], ()))
        })
        .await?;
    let output = CreateMultipartUploadOutput {
        bucket: Some(input.bucket),
        key: Some(input.key),
        upload_id: Some(id),
        checksum_algorithm: plan.asked.then(|| ChecksumAlgorithm::from_static(plan.algorithm.name())),
        checksum_type: plan.asked.then(|| ChecksumType::from_static(plan.kind.name())),
        ..CreateMultipartUploadOutput::default()
    };
    Ok(S3Response::with_headers(output, sealed_headers(cx, Some(&encryption))))
}

fn sealed_headers(cx: &Cx, encryption: Option<&Encryption>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    encryption::show(encryption, &cx.state.headers, &mut headers);
    headers
}

/// How a part of an upload that was begun so is sealed.
async fn part_seal(cx: &Cx, upload: &Upload) -> Result<Option<Seal>, Error> {
    let customer = CustomerKey::of_request(&cx.state.headers)?;
    encryption::of_part(upload.encryption.as_ref(), cx.means(customer.as_ref())).await
}

/// An upload under way.
pub(crate) async fn find(cx: &Cx, owner: AccountId, id: &str) -> Result<Upload, Error> {
    let key = tables::upload_key(owner, cx.bucket(), cx.key(), id);
    let row = UPLOADS.get(&cx.inner.store, key).await?;
    Ok(row.ok_or_else(|| Error::NoSuchUpload(id.to_owned()))?.value)
}

fn part_number(number: i32) -> Result<u32, Error> {
    let message = "Part number must be an integer between 1 and 10000, inclusive";
    let valid = (1..=MAX_PARTS).contains(&number);
    u32::try_from(number)
        .ok()
        .filter(|_| valid)
        .ok_or_else(|| Error::argument("partNumber", number.to_string(), message))
}

/// A part's bytes, taken in.
struct Taken {
    content: Content,
    digests: Digests,
    size: u64,
    etag: String,
}

/// Commits a part; what it replaces becomes garbage.
async fn commit(cx: &Cx, owner: AccountId, upload: &str, number: u32, taken: Taken) -> Result<Part, Error> {
    let Taken { content, digests, size, etag } = taken;
    let (blob, settle) = match &content {
        Content::Inline(_) => (None, None),
        Content::Blob(writing) => (Some(writing.id), Some(writing.settle())),
    };
    let checksums = digests.of_part();
    let now = cx.now();
    let part = Part { size, etag, blob, modified: now.as_second(), checksums };
    let upload_key = tables::upload_key(owner, cx.bucket(), cx.key(), upload);
    let part_key = tables::part_key(owner, upload, number);
    let reads = vec![Read::Key(upload_key.clone()), Read::Key(part_key.clone())];
    let (row, id, at_ms) = (part.clone(), upload.to_owned(), now.as_millisecond());
    cx.inner
        .store
        .transact(reads, move |pages, _| {
            let upload = UPLOADS.first(&pages[0])?.ok_or_else(|| Error::NoSuchUpload(id.clone()))?;
            // Written once more, so that a completion that has read the parts sees that they changed.
            let mut writes = vec![
                UPLOADS.put(upload_key.clone(), &upload.value),
                UPLOAD_PARTS.put(part_key.clone(), &row),
            ];
            writes.extend(settle.clone());
            let replaced = UPLOAD_PARTS.first(&pages[1])?.and_then(|row| row.value.blob);
            writes.extend(discard(replaced.map(Dead::Blob).into_iter().collect(), at_ms));
            Ok::<_, Error>((writes, ()))
        })
        .await?;
    settled(content);
    cx.inner.wake.notify_one();
    Ok(part)
}

pub(crate) async fn part(cx: &Cx, input: UploadPartInput) -> Result<S3Response<UploadPartOutput>, Error> {
    let owner = cx.owner().await?;
    let number = part_number(input.part_number)?;
    let upload = find(cx, owner, &input.upload_id).await?;
    let (plan, seal) = (upload.plan, part_seal(cx, &upload).await?);
    let expected = Expected::read(&cx.state.headers)?;
    // Of the parts of a composite checksum each has its own.
    let may_lack = plan.kind == Kind::FullObject && expected.algorithm.is_none();
    if plan.asked && !may_lack && expected.algorithm != Some(plan.algorithm) {
        return Err(Error::invalid_request(format!(
            "Checksum Type mismatch occurred, expected checksum Type: {}, actual checksum Type: {}",
            plan.algorithm.name().to_lowercase(),
            expected.algorithm.map_or_else(|| "null".to_owned(), |given| given.name().to_lowercase())
        )));
    }
    let algorithms = [Some(plan.algorithm), expected.algorithm];
    let hashers = Hashers::new(algorithms.into_iter().flatten());
    // A part is a blob however small it is, so that completing moves no bytes.
    let (content, digests, size) = ingest::request_body(cx, 0, &expected, hashers, seal.as_ref()).await?;
    cx.note(|facts| facts.size = Some(size));
    let etag = encryption::etag(seal.as_ref(), &digests);
    let taken = Taken { content, digests, size, etag };
    let part = commit(cx, owner, &input.upload_id, number, taken).await?;
    let mut output = UploadPartOutput { e_tag: Some(ops::etag(&part.etag)), ..UploadPartOutput::default() };
    let shown = expected.algorithm.unwrap_or(plan.algorithm);
    if let Some(checksum) = part.checksums.into_iter().find(|c| c.algorithm == shown) {
        show_checksum!(output, checksum.algorithm, checksum.value);
    }
    Ok(S3Response::with_headers(output, sealed_headers(cx, upload.encryption.as_ref())))
}

pub(crate) async fn part_copy(
    cx: &Cx,
    input: UploadPartCopyInput,
) -> Result<S3Response<UploadPartCopyOutput>, Error> {
    let owner = cx.owner().await?;
    let number = part_number(input.part_number)?;
    let upload = find(cx, owner, &input.upload_id).await?;
    let (plan, seal) = (upload.plan, part_seal(cx, &upload).await?);
    let source = crate::route::copy_source(&cx.state.headers)?;
    let source_home = cx.source_home(&source.bucket)?;
    let found =
        read::find(&cx.inner, source.address(&source_home)?, true).await.map_err(Error::of_copy_source)?;
    let source_key = CustomerKey::of_copy_source(&cx.state.headers)?;
    let opener = encryption::opener(found.object.encryption.as_ref(), cx.means(source_key.as_ref())).await?;
    let conditions = ReadConditions {
        if_match: input.copy_source_if_match.as_ref(),
        if_none_match: input.copy_source_if_none_match.as_ref(),
        if_modified_since: input.copy_source_if_modified_since.as_ref(),
        if_unmodified_since: input.copy_source_if_unmodified_since.as_ref(),
    };
    conditions.check_source(&found.object)?;
    let size = found.object.size;
    let range = match input.copy_source_range.as_deref() {
        None => 0..size,
        Some(header) => match wanted(Some(header), size) {
            // Here, unlike in a read, a range must be of bytes that are there.
            Wanted::Part(range) if header.ends_with(&format!("-{}", range.end - 1)) => range,
            Wanted::Part(_) | Wanted::Whole | Wanted::Unsatisfiable => {
                let message = format!("Range specified is not valid for source object of size: {size}");
                return Err(Error::argument("x-amz-copy-source-range", header, message));
            }
        },
    };
    let length = range.end - range.start;
    cx.note(|facts| facts.size = Some(length));
    if length > MAX_UPLOAD_BYTES {
        return Err(Error::EntityTooLarge { proposed: length, limit: MAX_UPLOAD_BYTES });
    }
    let body = read::body(&cx.inner, source_home.owner, &found, opener, range).await?;
    let hashers = Hashers::new([plan.algorithm]);
    let (content, digests) = ingest::body_of(&cx.inner, body, length, 0, hashers, seal.as_ref()).await?;
    let etag = encryption::etag(seal.as_ref(), &digests);
    let taken = Taken { content, digests, size: length, etag };
    let part = commit(cx, owner, &input.upload_id, number, taken).await?;
    let mut result = CopyPartResult {
        e_tag: Some(ops::etag(&part.etag)),
        last_modified: Some(timestamp(part.modified)),
        ..CopyPartResult::default()
    };
    if let Some(checksum) = part.checksums.into_iter().next().filter(|_| plan.asked) {
        show_checksum!(result, checksum.algorithm, checksum.value);
    }
    let output = UploadPartCopyOutput {
        copy_part_result: Some(result),
        copy_source_version_id: source_home.versioned.then(|| versions::name(found.object.version)),
        ..UploadPartCopyOutput::default()
    };
    Ok(S3Response::with_headers(output, sealed_headers(cx, upload.encryption.as_ref())))
}

pub(crate) async fn abort(
    cx: &Cx,
    input: AbortMultipartUploadInput,
) -> Result<S3Response<AbortMultipartUploadOutput>, Error> {
    let account = cx.owner().await?;
    let key = tables::upload_key(account, cx.bucket(), cx.key(), &input.upload_id);
    abort_upload(&cx.inner, account, key, input.upload_id).await?;
    Ok(S3Response::new(AbortMultipartUploadOutput::default()))
}

/// Ends an upload; its parts become garbage.
pub(crate) async fn abort_upload(
    inner: &Inner,
    account: AccountId,
    key: store::Key,
    id: String,
) -> Result<(), Error> {
    let at_ms = inner.env.now().as_millisecond();
    inner
        .store
        .transact(vec![Read::Key(key.clone())], move |pages, _| {
            if pages[0].entries.is_empty() {
                return Err(Error::NoSuchUpload(id.clone()));
            }
            let mut writes = vec![Write::Delete(key.clone())];
            writes.extend(discard(vec![Dead::Upload { account, id: id.clone() }], at_ms));
            Ok((writes, ()))
        })
        .await?;
    inner.wake.notify_one();
    Ok(())
}
