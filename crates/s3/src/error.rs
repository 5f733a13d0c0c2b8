//! What can go wrong, and the codes and words that S3 has for it (Amazon S3 API reference, "Error responses").

use types::ErrorKind;

/// A failure of an S3 operation.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "each is named by S3's own code and says itself")]
pub enum Error {
    #[error("The specified bucket does not exist")]
    NoSuchBucket(String),
    #[error("The specified key does not exist.")]
    NoSuchKey(String),
    #[error(
        "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or completed."
    )]
    NoSuchUpload(String),
    #[error("The specified version does not exist.")]
    NoSuchVersion { key: String, version: String },
    /// The newest version is a delete marker.
    #[error("The specified key does not exist.")]
    Deleted { key: String, version: String },
    /// The version that was asked for is a delete marker.
    #[error("The specified method is not allowed against this resource.")]
    IsMarker { version: String, modified: i64, method: &'static str },
    #[error("The encryption request you specified is not valid. The valid value is AES256.")]
    InvalidEncryptionAlgorithm(String),
    #[error("{0}")]
    InvalidBucketState(&'static str),
    /// What KMS says of a key.
    #[error("{message}")]
    Kms { code: String, message: String },
    /// Denied, with the reason.
    #[error("{0}")]
    Denied(String),
    #[error("{0}")]
    AccessForbidden(&'static str),
    #[error("{0}")]
    BadRequest(String),
    #[error("{0}")]
    MalformedPolicy(String),
    #[error("The bucket does not allow ACLs")]
    AclNotSupported,
    /// The code and the message.
    #[error("{1}")]
    InvalidBucketAcl(&'static str, &'static str),
    #[error("Your request was missing a required header")]
    MissingAcl,
    #[error("This request does not support content")]
    UnexpectedContent,
    #[error(
        "The target bucket for logging does not exist, is not owned by you, or does not have the appropriate grants for the log-delivery group."
    )]
    InvalidLogTarget(String),
    #[error("{1}")]
    InvalidRedirect(String, &'static str),
    #[error("Bucket POST must be of the enclosure-type multipart/form-data")]
    PostNotForm,
    #[error("The body of your POST request is not well-formed multipart/form-data.")]
    MalformedPost,
    #[error("Your POST request fields preceding the upload file were too large.")]
    FormFieldsTooLarge,
    #[error("POST requires exactly one file upload per request.")]
    NoFile,
    #[error("{0}")]
    InvalidPolicyDocument(String),
    #[error("Your proposed upload is smaller than the minimum allowed size")]
    UploadTooSmall { proposed: u64, limit: u64 },
    #[error("{0}")]
    IllegalVersioning(&'static str),
    #[error("Your previous request to create the named bucket succeeded and you already own it.")]
    BucketAlreadyOwnedByYou(String),
    #[error(
        "The requested bucket name is not available. The bucket namespace is shared by all users of the system. Please select a different name and try again."
    )]
    BucketAlreadyExists(String),
    #[error("The bucket you tried to delete is not empty")]
    BucketNotEmpty(String),
    #[error("The bucket you tried to delete is not empty. You must delete all versions in the bucket.")]
    VersionsInBucket(String),
    #[error("Access Denied")]
    AccessDenied,
    #[error("At least one of the pre-conditions you specified did not hold")]
    PreconditionFailed(&'static str),
    #[error("Not Modified")]
    NotModified { etag: String, modified: i64 },
    #[error("The requested range is not satisfiable")]
    InvalidRange { asked: String, size: u64 },
    #[error("The requested partnumber is not satisfiable")]
    InvalidPartNumber { asked: i32, count: u32 },
    #[error("{message}")]
    InvalidArgument { name: &'static str, value: String, message: String },
    /// A function or a queue that would not take events.
    #[error("Unable to validate the following destination configurations")]
    InvalidTarget { arn: String, reason: String },
    #[error("{0}")]
    InvalidRequest(String),
    #[error("Your proposed upload exceeds the maximum allowed size")]
    EntityTooLarge { proposed: u64, limit: u64 },
    #[error("Your proposed upload is smaller than the minimum allowed size")]
    EntityTooSmall { number: i32, proposed: u64, etag: String },
    #[error("You must provide the Content-Length HTTP header.")]
    MissingContentLength,
    #[error("You did not provide the number of bytes specified by the Content-Length HTTP header")]
    IncompleteBody,
    #[error(
        "One or more of the specified parts could not be found.  The part may not have been uploaded, or the specified entity tag may not match the part's entity tag."
    )]
    InvalidPart { upload: String, number: i32, etag: String },
    #[error("The list of parts was not in ascending order. Parts must be ordered by part number.")]
    InvalidPartOrder(String),
    #[error("{0}")]
    BadDigest(String),
    #[error("The Content-MD5 you specified was invalid.")]
    InvalidDigest,
    #[error(
        "The request contained trailing data that was not well-formed or did not conform to our published schema."
    )]
    MalformedTrailer,
    #[error("The XML you provided was not well-formed or did not validate against our published schema")]
    MalformedXml,
    #[error("Request Body is empty")]
    MissingBody,
    #[error("Your metadata headers exceed the maximum allowed metadata size")]
    MetadataTooLarge { size: usize },
    #[error("Your key is too long")]
    KeyTooLong { size: usize },
    #[error("Couldn't parse the specified URI.")]
    InvalidUri,
    #[error("The specified bucket is not valid.")]
    InvalidBucketName(String),
    #[error("The specified location-constraint is not valid")]
    InvalidLocationConstraint(String),
    #[error("{0}")]
    IllegalLocationConstraint(String),
    #[error("{0}")]
    InvalidTag(String),
    #[error("Object tags cannot be greater than {limit}")]
    TooManyTags { limit: usize },
    #[error("The specified method is not allowed against this resource.")]
    MethodNotAllowed,
    /// Something that S3 has and this service does not, named.
    #[error("{0} is not supported here.")]
    NotImplemented(String),
    /// A sub-resource that this bucket does not have.
    #[error("{message}")]
    Absent { code: &'static str, message: &'static str, bucket: String },
    /// The operation that was dispatched is not the one that was authorised.
    #[error("the request was read in two ways: as {authorised} and as {dispatched}")]
    Confused { authorised: String, dispatched: String },
    /// A target of events, or the body, failed with an answer of its own (a signature that does not match, a client that went away).
    #[error("{0}")]
    Body(aws::Error),
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error(transparent)]
    Blobs(blobs::Error),
}

impl From<blobs::Error> for Error {
    fn from(error: blobs::Error) -> Self {
        match error {
            // Our own error, on its way back through the blob store.
            blobs::Error::Body(inner) => Self::of_body(inner),
            other => Self::Blobs(other),
        }
    }
}

impl Error {
    /// The failure of a body: our own error, one of the blobs that it comes from, or its client's.
    pub(crate) fn of_body(error: aws::BodyError) -> Self {
        match error.downcast::<Self>().map_err(|error| error.downcast::<blobs::Error>()) {
            Ok(ours) => *ours,
            Err(Ok(blobs)) => (*blobs).into(),
            Err(Err(theirs)) => Self::Body(aws::body::from_body_error(theirs)),
        }
    }

    pub(crate) fn invalid_request(message: impl Into<String>) -> Self {
        Self::InvalidRequest(message.into())
    }

    /// What an error of a read means where what is read is copied.
    pub(crate) fn of_copy_source(self) -> Self {
        match self {
            Self::IsMarker { .. } => Self::invalid_request(
                "The source of a copy request may not specifically refer to a delete marker by version id.",
            ),
            other => other,
        }
    }

    pub(crate) fn bad_digest(message: impl Into<String>) -> Self {
        Self::BadDigest(message.into())
    }

    pub(crate) fn argument(name: &'static str, value: impl Into<String>, message: impl Into<String>) -> Self {
        Self::InvalidArgument { name, value: value.into(), message: message.into() }
    }

    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoSuchBucket(_)
            | Self::NoSuchKey(_)
            | Self::NoSuchUpload(_)
            | Self::NoSuchVersion { .. }
            | Self::Deleted { .. }
            | Self::Absent { .. } => ErrorKind::NotFound,
            Self::BucketAlreadyOwnedByYou(_)
            | Self::BucketAlreadyExists(_)
            | Self::BucketNotEmpty(_)
            | Self::VersionsInBucket(_)
            | Self::InvalidBucketState(_) => ErrorKind::Conflict,
            Self::AccessDenied | Self::Denied(_) | Self::AccessForbidden(_) | Self::Confused { .. } => {
                ErrorKind::Denied
            }
            Self::PreconditionFailed(_) | Self::NotModified { .. } => ErrorKind::PreconditionFailed,
            Self::EntityTooLarge { .. } => ErrorKind::TooLarge,
            Self::NotImplemented(_) | Self::MethodNotAllowed | Self::PostNotForm | Self::IsMarker { .. } => {
                ErrorKind::Unsupported
            }
            Self::InvalidEncryptionAlgorithm(_)
            | Self::Kms { .. }
            | Self::BadRequest(_)
            | Self::MalformedPolicy(_)
            | Self::AclNotSupported
            | Self::InvalidBucketAcl(..)
            | Self::MissingAcl
            | Self::UnexpectedContent
            | Self::InvalidLogTarget(_)
            | Self::InvalidRedirect(..)
            | Self::MalformedPost
            | Self::FormFieldsTooLarge
            | Self::NoFile
            | Self::InvalidPolicyDocument(_)
            | Self::UploadTooSmall { .. }
            | Self::IllegalVersioning(_)
            | Self::InvalidRange { .. }
            | Self::InvalidPartNumber { .. }
            | Self::InvalidArgument { .. }
            | Self::InvalidTarget { .. }
            | Self::InvalidRequest(_)
            | Self::TooManyTags { .. }
            | Self::EntityTooSmall { .. }
            | Self::MissingContentLength
            | Self::IncompleteBody
            | Self::InvalidPart { .. }
            | Self::InvalidPartOrder(_)
            | Self::BadDigest(_)
            | Self::InvalidDigest
            | Self::MalformedTrailer
            | Self::MalformedXml
            | Self::MissingBody
            | Self::MetadataTooLarge { .. }
            | Self::KeyTooLong { .. }
            | Self::InvalidUri
            | Self::InvalidBucketName(_)
            | Self::InvalidLocationConstraint(_)
            | Self::IllegalLocationConstraint(_)
            | Self::InvalidTag(_) => ErrorKind::Invalid,
            Self::Body(error) => error.kind,
            Self::Store(error) => error.kind(),
            Self::Blobs(error) => error.kind(),
        }
    }

    /// S3's code and HTTP status.
    fn code(&self) -> (&str, u16) {
        match self {
            Self::NoSuchBucket(_) => ("NoSuchBucket", 404),
            Self::NoSuchKey(_) => ("NoSuchKey", 404),
            Self::NoSuchUpload(_) => ("NoSuchUpload", 404),
            Self::NoSuchVersion { .. } => ("NoSuchVersion", 404),
            Self::Deleted { .. } => ("NoSuchKey", 404),
            Self::IsMarker { .. } => ("MethodNotAllowed", 405),
            Self::InvalidEncryptionAlgorithm(_) => ("InvalidEncryptionAlgorithmError", 400),
            Self::InvalidBucketState(_) => ("InvalidBucketState", 409),
            Self::Kms { code, .. } => (code, 400),
            Self::IllegalVersioning(_) => ("IllegalVersioningConfigurationException", 400),
            Self::BucketAlreadyOwnedByYou(_) => ("BucketAlreadyOwnedByYou", 409),
            Self::BucketAlreadyExists(_) => ("BucketAlreadyExists", 409),
            Self::VersionsInBucket(_) | Self::BucketNotEmpty(_) => ("BucketNotEmpty", 409),
            Self::AccessDenied | Self::Denied(_) | Self::Confused { .. } => ("AccessDenied", 403),
            Self::AccessForbidden(_) => ("AccessForbidden", 403),
            Self::BadRequest(_) => ("BadRequest", 400),
            Self::MalformedPolicy(_) => ("MalformedPolicy", 400),
            Self::AclNotSupported => ("AccessControlListNotSupported", 400),
            Self::InvalidBucketAcl(code, _) => (code, 400),
            Self::MissingAcl => ("MissingSecurityHeader", 400),
            Self::UnexpectedContent => ("UnexpectedContent", 400),
            Self::InvalidLogTarget(_) => ("InvalidTargetBucketForLogging", 400),
            Self::InvalidRedirect(..) => ("InvalidRedirectLocation", 400),
            Self::PostNotForm => ("PreconditionFailed", 412),
            Self::MalformedPost => ("MalformedPOSTRequest", 400),
            Self::FormFieldsTooLarge => ("MaxPostPreDataLengthExceeded", 400),
            Self::NoFile => ("IncorrectNumberOfFilesInPostRequest", 400),
            Self::InvalidPolicyDocument(_) => ("InvalidPolicyDocument", 400),
            Self::UploadTooSmall { .. } => ("EntityTooSmall", 400),
            Self::PreconditionFailed(_) => ("PreconditionFailed", 412),
            Self::NotModified { .. } => ("NotModified", 304),
            Self::InvalidRange { .. } => ("InvalidRange", 416),
            Self::InvalidPartNumber { .. } => ("InvalidPartNumber", 416),
            Self::InvalidArgument { .. } | Self::InvalidTarget { .. } => ("InvalidArgument", 400),
            Self::InvalidRequest(_) => ("InvalidRequest", 400),
            Self::TooManyTags { .. } => ("BadRequest", 400),
            Self::EntityTooLarge { .. } => ("EntityTooLarge", 400),
            Self::EntityTooSmall { .. } => ("EntityTooSmall", 400),
            Self::MissingContentLength => ("MissingContentLength", 411),
            Self::IncompleteBody => ("IncompleteBody", 400),
            Self::InvalidPart { .. } => ("InvalidPart", 400),
            Self::InvalidPartOrder(_) => ("InvalidPartOrder", 400),
            Self::BadDigest(_) => ("BadDigest", 400),
            Self::InvalidDigest => ("InvalidDigest", 400),
            Self::MalformedTrailer => ("MalformedTrailerError", 400),
            Self::MalformedXml => ("MalformedXML", 400),
            Self::MissingBody => ("MissingRequestBodyError", 400),
            Self::MetadataTooLarge { .. } => ("MetadataTooLarge", 400),
            Self::KeyTooLong { .. } => ("KeyTooLongError", 400),
            Self::InvalidUri => ("InvalidURI", 400),
            Self::InvalidBucketName(_) => ("InvalidBucketName", 400),
            Self::InvalidLocationConstraint(_) => ("InvalidLocationConstraint", 400),
            Self::IllegalLocationConstraint(_) => ("IllegalLocationConstraintException", 400),
            Self::InvalidTag(_) => ("InvalidTag", 400),
            Self::MethodNotAllowed => ("MethodNotAllowed", 405),
            Self::NotImplemented(_) => ("NotImplemented", 501),
            Self::Absent { code, .. } => (code, 404),
            Self::Body(error) => ("", error.status),
            Self::Store(error) => unavailable_or_internal(error.kind()),
            Self::Blobs(error) => unavailable_or_internal(error.kind()),
        }
    }
}

fn unavailable_or_internal(kind: ErrorKind) -> (&'static str, u16) {
    if kind == ErrorKind::Unavailable { ("ServiceUnavailable", 503) } else { ("InternalError", 500) }
}

impl From<Error> for aws::Error {
    fn from(error: Error) -> Self {
        let (code, status) = error.code();
        let code = code.to_owned();
        let kind = error.kind();
        let new = |message: String| Self::new(kind, code, message).with_status(status);
        let message = error.to_string();
        match error {
            Error::Body(inner) => inner,
            Error::NoSuchBucket(bucket)
            | Error::BucketAlreadyOwnedByYou(bucket)
            | Error::BucketAlreadyExists(bucket)
            | Error::BucketNotEmpty(bucket)
            | Error::VersionsInBucket(bucket)
            | Error::InvalidBucketName(bucket)
            | Error::Absent { bucket, .. } => new(message).with_field("BucketName", bucket),
            Error::NoSuchKey(key) => new(message).with_field("Key", key),
            Error::NoSuchVersion { key, version } => {
                new(message).with_field("Key", key).with_field("VersionId", version)
            }
            Error::Deleted { key, version } => new(message)
                .with_field("Key", key)
                .with_header("x-amz-delete-marker", "true")
                .with_header("x-amz-version-id", &version),
            Error::IsMarker { version, modified, method } => new(message)
                .with_field("Method", method)
                .with_field("ResourceType", "DeleteMarker")
                .with_header("x-amz-delete-marker", "true")
                .with_header("x-amz-version-id", &version)
                .with_header("allow", "DELETE")
                .with_header("last-modified", &crate::ops::http_date(modified)),
            Error::InvalidEncryptionAlgorithm(value) => new(message)
                .with_field("ArgumentName", "x-amz-server-side-encryption")
                .with_field("ArgumentValue", value),
            Error::NoSuchUpload(upload) | Error::InvalidPartOrder(upload) => {
                new(message).with_field("UploadId", upload)
            }
            Error::PreconditionFailed(condition) => new(message).with_field("Condition", condition),
            Error::InvalidRange { asked, size } => new(message)
                .with_field("RangeRequested", asked)
                .with_field("ActualObjectSize", size.to_string()),
            Error::InvalidPartNumber { asked, count } => new(message)
                .with_field("PartNumberRequested", asked.to_string())
                .with_field("ActualPartCount", count.to_string()),
            Error::InvalidTarget { arn, reason } => {
                new(message).with_field("ArgumentName1", arn).with_field("ArgumentValue1", reason)
            }
            Error::InvalidArgument { name, value, .. } => {
                new(message).with_field("ArgumentName", name).with_field("ArgumentValue", value)
            }
            Error::EntityTooLarge { proposed, limit } => new(message)
                .with_field("ProposedSize", proposed.to_string())
                .with_field("MaxSizeAllowed", limit.to_string()),
            Error::InvalidLogTarget(bucket) => new(message).with_field("TargetBucket", bucket),
            Error::UploadTooSmall { proposed, limit } => new(message)
                .with_field("ProposedSize", proposed.to_string())
                .with_field("MinSizeAllowed", limit.to_string()),
            Error::PostNotForm => new(message)
                .with_field("Condition", "Bucket POST must be of the enclosure-type multipart/form-data"),
            Error::EntityTooSmall { number, proposed, etag } => new(message)
                .with_field("ProposedSize", proposed.to_string())
                .with_field("MinSizeAllowed", crate::ops::MIN_PART_BYTES.to_string())
                .with_field("PartNumber", number.to_string())
                .with_field("ETag", etag),
            Error::InvalidPart { upload, number, etag } => new(message)
                .with_field("UploadId", upload)
                .with_field("PartNumber", number.to_string())
                .with_field("ETag", etag),
            Error::MetadataTooLarge { size } => {
                new(message).with_field("Size", size.to_string()).with_field("MaxSizeAllowed", "2048")
            }
            Error::KeyTooLong { size } => {
                new(message).with_field("Size", size.to_string()).with_field("MaxSizeAllowed", "1024")
            }
            Error::InvalidLocationConstraint(place) => new(message).with_field("LocationConstraint", place),
            Error::Store(_) | Error::Blobs(_) if status == 503 => new("Reduce your request rate.".into()),
            Error::Store(_) | Error::Blobs(_) => {
                tracing::error!(%message, "internal error");
                new("We encountered an internal error. Please try again.".into())
            }
            Error::Confused { .. } => {
                tracing::error!(%message, "internal error");
                new("Access Denied".into())
            }
            Error::AccessDenied
            | Error::Denied(_)
            | Error::AccessForbidden(_)
            | Error::BadRequest(_)
            | Error::MalformedPolicy(_)
            | Error::AclNotSupported
            | Error::InvalidBucketAcl(..)
            | Error::MissingAcl
            | Error::UnexpectedContent
            | Error::InvalidRedirect(..)
            | Error::MalformedPost
            | Error::FormFieldsTooLarge
            | Error::NoFile
            | Error::InvalidPolicyDocument(_)
            | Error::InvalidBucketState(_)
            | Error::Kms { .. }
            | Error::IllegalVersioning(_)
            | Error::NotModified { .. }
            | Error::InvalidRequest(_)
            | Error::TooManyTags { .. }
            | Error::MissingContentLength
            | Error::IncompleteBody
            | Error::BadDigest(_)
            | Error::InvalidDigest
            | Error::MalformedTrailer
            | Error::MalformedXml
            | Error::MissingBody
            | Error::InvalidUri
            | Error::IllegalLocationConstraint(_)
            | Error::InvalidTag(_)
            | Error::MethodNotAllowed
            | Error::NotImplemented(_) => new(message),
        }
    }
}
