//! PutObject.

use s3s::S3Response;
use s3s::dto::{ChecksumType, PutObjectInput, PutObjectOutput};

use crate::checksum::{Algorithm, Expected, Hashers, show_checksum};
use crate::ops::conditions::WriteConditions;
use crate::ops::install::{Install, placed, settled};
use crate::ops::{etag, system_headers, tagging, user_metadata};
use crate::service::Cx;
use crate::tables::Object;
use crate::{Error, ingest};

pub(crate) async fn put(cx: &Cx, input: PutObjectInput) -> Result<S3Response<PutObjectOutput>, Error> {
    let owner = cx.owner().await?;
    let conditions = WriteConditions::new(input.if_match, input.if_none_match)?;
    let metadata = user_metadata(input.metadata)?;
    let tags = tagging::of_header(input.tagging.as_deref())?;
    let expected = Expected::read(&cx.state.headers)?;
    let algorithm = expected.algorithm.unwrap_or(Algorithm::Crc64Nvme);
    let limit = cx.inner.config.inline_limit_bytes;
    let (content, digests, size) =
        ingest::request_body(cx, limit, &expected, Hashers::new([algorithm])).await?;
    let (data, bytes, along) = placed(&content);
    let checksum = digests.full(algorithm);
    let object = Object {
        size,
        etag: digests.etag(),
        modified: cx.now().as_second(),
        data,
        checksum: checksum.clone(),
        headers: system_headers(cx),
        metadata,
        tags,
        parts: 0,
        upload: None,
    };
    let e_tag = etag(&object.etag);
    let install = Install {
        owner,
        bucket: cx.bucket().to_owned(),
        key: cx.key().to_owned(),
        object,
        bytes,
        conditions,
        event: "ObjectCreated:Put",
        cause: cx.cause(),
        at_ms: cx.now().as_millisecond(),
        along,
        dead: Vec::new(),
    };
    // Nothing of a put depends on an earlier read, so it is never told that it was replaced.
    let _ = install.commit(cx).await?;
    settled(content);
    let mut output = PutObjectOutput {
        e_tag: Some(e_tag),
        checksum_type: Some(ChecksumType::from_static(checksum.kind.name())),
        ..PutObjectOutput::default()
    };
    show_checksum!(output, checksum.algorithm, checksum.value);
    Ok(S3Response::new(output))
}
