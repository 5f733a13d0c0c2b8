//! ListMultipartUploads, ListParts.

use s3s::S3Response;
use s3s::dto::{
    ChecksumAlgorithm, ChecksumType, CommonPrefix, Initiator, ListMultipartUploadsInput,
    ListMultipartUploadsOutput, ListPartsInput, ListPartsOutput, MultipartUpload, Part as PartShape,
    StorageClass,
};
use store::key::after;
use store::tables as ids;

use crate::Error;
use crate::checksum::show_checksum;
use crate::ops::complete::number_of;
use crate::ops::list::{Encoding, page_size};
use crate::ops::{etag, owner, precise, timestamp, upload};
use crate::service::Cx;
use crate::tables::{self, UPLOAD_PARTS, UPLOADS, upload_in};
use crate::walk::{Item, Walk};

fn standard() -> StorageClass {
    StorageClass::from_static(StorageClass::STANDARD)
}

fn initiator(arn: String) -> Initiator {
    Initiator { display_name: None, id: Some(arn) }
}

pub(crate) async fn uploads(
    cx: &Cx,
    input: ListMultipartUploadsInput,
) -> Result<S3Response<ListMultipartUploadsOutput>, Error> {
    let account = cx.owner().await?;
    let limit = page_size("max-uploads", input.max_uploads)?;
    let encoding = Encoding::of(input.encoding_type.as_ref())?;
    let (prefix, delimiter) = (input.prefix.as_ref(), input.delimiter.as_ref());
    let walk = Walk::of_request(ids::UPLOADS, account, &input.bucket, prefix, delimiter);
    let marker = input.key_marker.as_deref().filter(|marker| !marker.is_empty());
    let from = match (marker, input.upload_id_marker.as_deref().filter(|marker| !marker.is_empty())) {
        (Some(key), Some(id)) => Some(after(&tables::upload_key(account, &input.bucket, key, id))),
        (Some(key), None) => Some(walk.behind_marker(key)),
        (None, _) => None,
    };
    let (items, truncated) = walk.run(&cx.inner, from, limit).await?;
    let (mut uploads, mut prefixes) = (Vec::new(), Vec::new());
    let mut last = (None, None);
    for item in items {
        match item {
            Item::Prefix(prefix) => {
                prefixes.push(CommonPrefix { prefix: Some(encoding.text(&prefix)) });
                last = (Some(prefix), None);
            }
            Item::Row(key, entry) => {
                let id = upload_in(&entry.key)?;
                let row = UPLOADS.decode(&entry)?.value;
                let plan = row.plan;
                uploads.push(MultipartUpload {
                    checksum_algorithm: plan
                        .asked
                        .then(|| ChecksumAlgorithm::from_static(plan.algorithm.name())),
                    checksum_type: plan.asked.then(|| ChecksumType::from_static(plan.kind.name())),
                    initiated: Some(precise(row.initiated_at)),
                    initiator: Some(initiator(row.initiator)),
                    key: Some(encoding.text(&key)),
                    owner: Some(owner(account)),
                    storage_class: Some(standard()),
                    upload_id: Some(id.clone()),
                });
                last = (Some(key), Some(id));
            }
        }
    }
    let (next_key, next_id) = if truncated { last } else { (None, None) };
    Ok(S3Response::new(ListMultipartUploadsOutput {
        bucket: Some(input.bucket.clone()),
        common_prefixes: Some(prefixes),
        delimiter: encoding.optional(input.delimiter.as_ref()),
        encoding_type: input.encoding_type.clone(),
        is_truncated: Some(truncated),
        key_marker: Some(encoding.text(input.key_marker.as_deref().unwrap_or_default())),
        max_uploads: i32::try_from(limit).ok(),
        next_key_marker: next_key.map(|key| encoding.text(&key)),
        next_upload_id_marker: next_id,
        prefix: Some(encoding.text(input.prefix.as_deref().unwrap_or_default())),
        request_charged: None,
        upload_id_marker: Some(input.upload_id_marker.clone().unwrap_or_default()),
        uploads: Some(uploads),
    }))
}

pub(crate) async fn parts(cx: &Cx, input: ListPartsInput) -> Result<S3Response<ListPartsOutput>, Error> {
    let account = cx.owner().await?;
    let limit = page_size("max-parts", input.max_parts)?;
    let marker = input.part_number_marker.unwrap_or(0);
    let row = upload::find(cx, account, &input.upload_id).await?;
    let mut range = UPLOAD_PARTS.range(account, limit.max(1), |k| {
        k.text(&input.upload_id);
    });
    let marker_number = u32::try_from(marker).unwrap_or(0);
    range.start = after(&tables::part_key(account, &input.upload_id, marker_number));
    let (mut rows, mut more) = UPLOAD_PARTS.scan(&cx.inner.store, range).await?;
    if limit == 0 {
        (rows, more) = (Vec::new(), false);
    }
    let mut parts = Vec::with_capacity(rows.len());
    for part in rows {
        let number = i32::try_from(number_of(&part)?).ok();
        let part = part.value;
        let mut shape = PartShape {
            e_tag: Some(etag(&part.etag)),
            last_modified: Some(timestamp(part.modified)),
            part_number: number,
            size: i64::try_from(part.size).ok(),
            ..PartShape::default()
        };
        let shown = part.checksums.into_iter().find(|c| row.plan.asked && c.algorithm == row.plan.algorithm);
        if let Some(checksum) = shown {
            show_checksum!(shape, checksum.algorithm, checksum.value);
        }
        parts.push(shape);
    }
    let plan = row.plan;
    Ok(S3Response::new(ListPartsOutput {
        bucket: Some(input.bucket),
        key: Some(input.key),
        upload_id: Some(input.upload_id),
        checksum_algorithm: plan.asked.then(|| ChecksumAlgorithm::from_static(plan.algorithm.name())),
        checksum_type: plan.asked.then(|| ChecksumType::from_static(plan.kind.name())),
        initiator: Some(initiator(row.initiator)),
        owner: Some(owner(account)),
        is_truncated: Some(more),
        max_parts: i32::try_from(limit).ok(),
        part_number_marker: Some(marker),
        next_part_number_marker: Some(parts.last().and_then(|part| part.part_number).unwrap_or(0)),
        parts: Some(parts),
        storage_class: Some(standard()),
        ..ListPartsOutput::default()
    }))
}
