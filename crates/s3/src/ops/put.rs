//! PutObject.

use http::{HeaderMap, HeaderName};
use s3s::S3Response;
use s3s::dto::{ChecksumType, PutObjectInput, PutObjectOutput};

use crate::checksum::{Algorithm, Expected, Hashers, show_checksum};
use crate::ops::conditions::WriteConditions;
use crate::ops::install::{Install, Installed, placed, settled};
use crate::ops::{etag, lifecycle, system_headers, tagging, user_metadata, website};
use crate::service::Cx;
use crate::tables::Object;
use crate::{Error, encryption, ingest};

pub(crate) async fn put(cx: &Cx, input: PutObjectInput) -> Result<S3Response<PutObjectOutput>, Error> {
    let home = cx.home().await?;
    let acl = home.acl_of_new(&cx.state.headers, &cx.state.context.caller)?;
    let (redirect, lock) = (website::redirect(cx)?, cx.lock()?);
    let seal = cx.seal().await?;
    let conditions = WriteConditions::new(input.if_match, input.if_none_match)?;
    let metadata = user_metadata(input.metadata)?;
    let tags = tagging::of_header(input.tagging.as_deref())?;
    let expected = Expected::read(&cx.state.headers)?;
    if expected.is_empty() && !lock.is_empty() {
        return Err(Error::invalid_request(
            "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests with Object Lock parameters",
        ));
    }
    let algorithm = expected.algorithm.unwrap_or(Algorithm::Crc64Nvme);
    let limit = cx.inner.config.inline_limit_bytes;
    let (content, digests, size) =
        ingest::request_body(cx, limit, &expected, Hashers::new([algorithm]), Some(&seal)).await?;
    cx.note(|facts| facts.size = Some(size));
    let (data, bytes, along) = placed(&content);
    let checksum = digests.full(algorithm);
    let object = Object {
        size,
        etag: encryption::etag(Some(&seal), &digests),
        modified: cx.now().as_second(),
        data,
        checksum: checksum.clone(),
        headers: system_headers(cx),
        metadata,
        tags,
        parts: 0,
        upload: None,
        encryption: Some(seal.encryption.clone()),
        version: None,
        acl,
        redirect,
        lock,
    };
    let e_tag = etag(&object.etag);
    let expiration = lifecycle::expiration(cx, &home, &object).await?;
    let install = Install {
        owner: home.owner,
        bucket: cx.bucket().to_owned(),
        key: cx.key().to_owned(),
        object,
        bytes,
        conditions,
        event: "ObjectCreated:Put",
        cause: cx.cause(),
        at_ms: cx.now().as_millisecond(),
        noise: if home.versioned { cx.noise() } else { 0 },
        unchanged: None,
        along,
        dead: Vec::new(),
    };
    // Nothing of a put depends on an earlier read, so it is never told that it was replaced.
    let installed = install.commit(&cx.inner).await?.ok();
    settled(content);
    let mut output = PutObjectOutput {
        e_tag: Some(e_tag),
        version_id: installed.and_then(Installed::shown),
        checksum_type: Some(ChecksumType::from_static(checksum.kind.name())),
        ..PutObjectOutput::default()
    };
    show_checksum!(output, checksum.algorithm, checksum.value);
    let mut headers = HeaderMap::new();
    encryption::show(Some(&seal.encryption), &cx.state.headers, &mut headers);
    headers.extend(expiration.map(|at| (HeaderName::from_static(lifecycle::EXPIRATION), at)));
    Ok(S3Response::with_headers(output, headers))
}
