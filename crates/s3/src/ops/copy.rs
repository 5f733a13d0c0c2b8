//! CopyObject.
//!
//! The bytes are read and written again (which verifies them), except where an object is copied onto itself to
//! change what is said of it: then they stay.

use http::{HeaderMap, HeaderName};
use s3s::S3Response;
use s3s::dto::{
    ChecksumAlgorithm, ChecksumType, CopyObjectInput, CopyObjectOutput, CopyObjectResult, MetadataDirective,
    TaggingDirective,
};

use crate::checksum::{Algorithm, Checksum, Hashers, Kind, show_checksum};
use crate::encryption::{CustomerKey, DataKey};
use crate::ingest::Content;
use crate::ops::conditions::{ReadConditions, WriteConditions};
use crate::ops::install::{Install, Placement, Replaced, placed, settled};
use crate::ops::{
    MAX_UPLOAD_BYTES, etag, lifecycle, system_headers, tagging, timestamp, user_metadata, website,
};
use crate::read::Found;
use crate::service::Cx;
use crate::tables::{Data, NameRow, Object};
use crate::{Error, encryption, ingest, read, versions};

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
    let home = cx.home().await?;
    let directives = Directives::read(&input)?;
    let write_conditions = WriteConditions::of_headers(&cx.state.headers)?;
    let source = crate::route::copy_source(&cx.state.headers)?;
    let source_home = cx.source_home(&source.bucket)?;
    let source_key = CustomerKey::of_copy_source(&cx.state.headers)?;
    let onto_itself = source.bucket == cx.bucket() && source.key == cx.key() && source.is_current();
    let conditions = ReadConditions {
        if_match: input.copy_source_if_match.as_ref(),
        if_none_match: input.copy_source_if_none_match.as_ref(),
        if_modified_since: input.copy_source_if_modified_since.as_ref(),
        if_unmodified_since: input.copy_source_if_unmodified_since.as_ref(),
    };
    let changes_nothing = onto_itself
        && !directives.replace_metadata
        && directives.algorithm.is_none()
        && !asks_encryption(cx)
        && cx.header("x-amz-storage-class").is_none()
        && cx.header("x-amz-website-redirect-location").is_none();
    let mut may_keep = onto_itself && !home.versioned && !asks_encryption(cx);
    let (object, installed, source_version) = loop {
        let found = read::find(&cx.inner, source.address(&source_home)?, true)
            .await
            .map_err(Error::of_copy_source)?;
        conditions.check_source(&found.object)?;
        if changes_nothing {
            return Err(Error::invalid_request(
                "This copy request is illegal because it is trying to copy an object to itself without changing the object's metadata, storage class, website redirect location or encryption attributes.",
            ));
        }
        let opener =
            encryption::opener(found.object.encryption.as_ref(), cx.means(source_key.as_ref())).await?;
        if found.object.size > MAX_UPLOAD_BYTES {
            return Err(Error::invalid_request(format!(
                "The specified copy source is larger than the maximum allowable size for a copy source: {MAX_UPLOAD_BYTES}"
            )));
        }
        let Made { content, object, bytes, along } =
            make(cx, &home, &source_home, &found, &directives, opener, may_keep).await?;
        let install = Install {
            owner: home.owner,
            bucket: cx.bucket().to_owned(),
            key: cx.key().to_owned(),
            object: object.clone(),
            bytes,
            conditions: write_conditions.clone(),
            event: "ObjectCreated:Copy",
            cause: cx.cause(),
            at_ms: cx.now().as_millisecond(),
            noise: if home.versioned { cx.noise() } else { 0 },
            unchanged: None,
            along,
            dead: Vec::new(),
        };
        match install.commit(&cx.inner).await? {
            Ok(installed) => {
                if let Some(content) = content {
                    settled(content);
                }
                break (object, installed, found.object.version);
            }
            // It was replaced, or is to be kept as a version of its own from now on.
            Err(Replaced) => may_keep = false,
        }
    };
    cx.note(|facts| facts.size = Some(object.size));
    let mut result = CopyObjectResult {
        e_tag: Some(etag(&object.etag)),
        last_modified: Some(timestamp(object.modified)),
        checksum_type: Some(ChecksumType::from_static(object.checksum.kind.name())),
        ..CopyObjectResult::default()
    };
    let expiration = lifecycle::expiration(cx, &home, &object).await?;
    show_checksum!(result, object.checksum.algorithm, object.checksum.value);
    let output = CopyObjectOutput {
        copy_object_result: Some(result),
        version_id: installed.shown(),
        copy_source_version_id: source_home.versioned.then(|| versions::name(source_version)),
        ..CopyObjectOutput::default()
    };
    let mut headers = HeaderMap::new();
    encryption::show(object.encryption.as_ref(), &cx.state.headers, &mut headers);
    headers.extend(expiration.map(|at| (HeaderName::from_static(lifecycle::EXPIRATION), at)));
    Ok(S3Response::with_headers(output, headers))
}

/// Whether the request says how the copy is to be sealed.
fn asks_encryption(cx: &Cx) -> bool {
    cx.state.headers.keys().any(|name| name.as_str().starts_with("x-amz-server-side-encryption"))
}

async fn make(
    cx: &Cx,
    home: &NameRow,
    source_home: &NameRow,
    found: &Found,
    directives: &Directives,
    opener: Option<DataKey>,
    may_keep: bool,
) -> Result<Made, Error> {
    let source = &found.object;
    let algorithm = directives.algorithm.unwrap_or(source.checksum.algorithm);
    let same_digests = source.parts == 0
        && source.checksum.kind == Kind::FullObject
        && source.checksum.algorithm == algorithm;
    let (content, data, bytes, along, e_tag, checksum, encryption) = if may_keep && same_digests {
        let bytes = Placement::Kept(found.version);
        let (etag, checksum) = (source.etag.clone(), source.checksum.clone());
        (None, source.data, bytes, Vec::new(), etag, checksum, source.encryption.clone())
    } else {
        let seal = cx.seal().await?;
        let body = read::body(&cx.inner, source_home.owner, found, opener, 0..source.size).await?;
        let limit = cx.inner.config.inline_limit_bytes;
        let hashers = Hashers::new([algorithm]);
        let (content, digests) =
            ingest::body_of(&cx.inner, body, source.size, limit, hashers, Some(&seal)).await?;
        let (data, bytes, along): (Data, _, _) = placed(&content);
        let checksum: Checksum = digests.full(algorithm);
        let etag = encryption::etag(Some(&seal), &digests);
        (Some(content), data, bytes, along, etag, checksum, Some(seal.encryption))
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
        encryption,
        version: None,
        acl: home.acl_of_new(&cx.state.headers, &cx.state.context.caller)?,
        // As on AWS, it is not copied.
        redirect: website::redirect(cx)?,
        lock: cx.lock()?,
    };
    Ok(Made { content, object, bytes, along })
}
