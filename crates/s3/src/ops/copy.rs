//! CopyObject.
//!
//! The bytes are read and written again (which verifies them), except where an object is copied onto itself to
//! change what is said of it: then they stay.

use s3s::S3Response;
use s3s::dto::{
    ChecksumAlgorithm, ChecksumType, CopyObjectInput, CopyObjectOutput, CopyObjectResult, MetadataDirective,
    TaggingDirective,
};
use types::AccountId;

use crate::checksum::{Algorithm, Checksum, Hashers, Kind, show_checksum};
use crate::ingest::Content;
use crate::ops::conditions::{ReadConditions, WriteConditions};
use crate::ops::install::{Install, Placement, placed, settled};
use crate::ops::{MAX_UPLOAD_BYTES, etag, system_headers, tagging, timestamp, user_metadata};
use crate::read::Found;
use crate::service::Cx;
use crate::tables::{Data, Object};
use crate::{Error, ingest, read};

/// What one try came to: the bytes taken in (if they were), and the object to install.
struct Made {
    content: Option<Content>,
    object: Object,
    bytes: Placement,
    along: Vec<store::Write>,
}

/// What the request says of the new object.
struct Directives {
    replace_metadata: bool,
    replace_tags: bool,
    metadata: std::collections::BTreeMap<String, String>,
    tags: Vec<(String, String)>,
    algorithm: Option<Algorithm>,
}

impl Directives {
    fn read(input: &CopyObjectInput) -> Result<Self, Error> {
        let directive = |value: Option<&str>, name: &'static str, message: &str| match value {
            None | Some("COPY") => Ok(false),
            Some("REPLACE") => Ok(true),
            Some(other) => Err(Error::argument(name, other, message)),
        };
        let algorithm = input.checksum_algorithm.as_ref().map(ChecksumAlgorithm::as_str);
        Ok(Self {
            replace_metadata: directive(
                input.metadata_directive.as_ref().map(MetadataDirective::as_str),
                "x-amz-metadata-directive",
                "Unknown metadata directive.",
            )?,
            replace_tags: directive(
                input.tagging_directive.as_ref().map(TaggingDirective::as_str),
                "x-amz-tagging-directive",
                "Unknown tagging directive.",
            )?,
            metadata: user_metadata(input.metadata.clone())?,
            tags: tagging::of_header(input.tagging.as_deref())?,
            algorithm: algorithm.map(Algorithm::of_name).transpose()?,
        })
    }
}

pub(crate) async fn copy(cx: &Cx, input: CopyObjectInput) -> Result<S3Response<CopyObjectOutput>, Error> {
    let owner = cx.owner().await?;
    let directives = Directives::read(&input)?;
    let (source_bucket, source_key) = crate::route::copy_source(&cx.state.headers)?;
    let source_owner = cx.owner_of(&source_bucket, "x-amz-source-expected-bucket-owner").await?;
    let onto_itself = source_bucket == cx.bucket() && source_key == cx.key();
    if onto_itself && !directives.replace_metadata && directives.algorithm.is_none() {
        return Err(Error::invalid_request(
            "This copy request is illegal because it is trying to copy an object to itself without changing the object's metadata, storage class, website redirect location or encryption attributes.",
        ));
    }
    let conditions = ReadConditions {
        if_match: input.copy_source_if_match.as_ref(),
        if_none_match: input.copy_source_if_none_match.as_ref(),
        if_modified_since: input.copy_source_if_modified_since.as_ref(),
        if_unmodified_since: input.copy_source_if_unmodified_since.as_ref(),
    };
    let object = loop {
        let found = read::find(&cx.inner, source_owner, &source_bucket, &source_key, true).await?;
        conditions.check_source(&found.object)?;
        if found.object.size > MAX_UPLOAD_BYTES {
            return Err(Error::invalid_request(format!(
                "The specified copy source is larger than the maximum allowable size for a copy source: {MAX_UPLOAD_BYTES}"
            )));
        }
        let Made { content, object, bytes, along } =
            make(cx, source_owner, &found, &directives, onto_itself).await?;
        let install = Install {
            owner,
            bucket: cx.bucket().to_owned(),
            key: cx.key().to_owned(),
            object: object.clone(),
            bytes,
            conditions: WriteConditions::default(),
            event: "ObjectCreated:Copy",
            cause: cx.cause(),
            at_ms: cx.now().as_millisecond(),
            along,
            dead: Vec::new(),
        };
        if install.commit(cx).await?.is_ok() {
            if let Some(content) = content {
                settled(content);
            }
            break object;
        }
    };
    let mut result = CopyObjectResult {
        e_tag: Some(etag(&object.etag)),
        last_modified: Some(timestamp(object.modified)),
        checksum_type: Some(ChecksumType::from_static(object.checksum.kind.name())),
        ..CopyObjectResult::default()
    };
    show_checksum!(result, object.checksum.algorithm, object.checksum.value);
    Ok(S3Response::new(CopyObjectOutput { copy_object_result: Some(result), ..CopyObjectOutput::default() }))
}

async fn make(
    cx: &Cx,
    source_owner: AccountId,
    found: &Found,
    directives: &Directives,
    onto_itself: bool,
) -> Result<Made, Error> {
    let source = &found.object;
    let algorithm = directives.algorithm.unwrap_or(source.checksum.algorithm);
    let same_digests = source.parts == 0
        && source.checksum.kind == Kind::FullObject
        && source.checksum.algorithm == algorithm;
    let (content, data, bytes, along, e_tag, checksum) = if onto_itself && same_digests {
        let bytes = Placement::Kept(found.version);
        (None, source.data, bytes, Vec::new(), source.etag.clone(), source.checksum.clone())
    } else {
        let body = read::body(&cx.inner, source_owner, found, 0..source.size).await?;
        let limit = cx.inner.config.inline_limit_bytes;
        let hashers = Hashers::new([algorithm]);
        let (content, digests) = ingest::body_of(&cx.inner, body, source.size, limit, hashers).await?;
        let (data, bytes, along): (Data, _, _) = placed(&content);
        let checksum: Checksum = digests.full(algorithm);
        (Some(content), data, bytes, along, digests.etag(), checksum)
    };
    let (headers, metadata) = if directives.replace_metadata {
        (system_headers(cx), directives.metadata.clone())
    } else {
        (source.headers.clone(), source.metadata.clone())
    };
    let tags = if directives.replace_tags { directives.tags.clone() } else { source.tags.clone() };
    let object = Object {
        size: source.size,
        etag: e_tag,
        modified: cx.now().as_second(),
        data,
        checksum,
        headers,
        metadata,
        tags,
        parts: 0,
        upload: None,
    };
    Ok(Made { content, object, bytes, along })
}
