//! From a request's method, path, query and headers to the operation it asks for and the rights it needs.
//!
//! Invariant: whatever is not listed here is refused by name. The protocol crate reads requests on its own; that
//! it came to the same operation, bucket and key is checked before anything is carried out.

use std::borrow::Cow;

use aws::Access;
use http::{HeaderMap, Method};
use percent_encoding::percent_decode_str;
use s3s::dto::CopySource;
use types::Timestamp;

use crate::ops::MAX_KEY_BYTES;
use crate::read::Address;
use crate::said::Said;
use crate::tables::NameRow;
use crate::versions::Which;
use crate::{Error, lock, said};

/// The header that makes a write a copy.
pub(crate) const COPY_SOURCE: &str = "x-amz-copy-source";

/// What a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Route {
    /// The operation's name in S3's model.
    pub(crate) name: &'static str,
    pub(crate) bucket: Option<String>,
    pub(crate) key: Option<String>,
    pub(crate) body: BodyKind,
    pub(crate) answer: Answer,
}

/// What kind of body an operation takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyKind {
    None,
    Object,
    /// XML, or JSON for a policy.
    Xml,
}

/// Who answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The protocol crate, through our operations.
    Operation,
    /// A bucket's configuration that is always absent here: this code and message.
    Absent(&'static str, &'static str, &'static str),
    /// Removing a configuration that is always absent: nothing is left to do. Holds the action.
    Nothing(&'static str),
}

/// A query string's parameters.
pub(crate) struct Query<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Query<'a> {
    pub(crate) fn parse(query: &'a str) -> Self {
        let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (form_decode(name), form_decode(value))
        });
        Self(pairs.collect())
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(n, _)| n == name)
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, value)| &**value)
    }
}

impl Query<'_> {
    /// All of them, in order.
    pub(crate) fn into_pairs(self) -> Vec<(String, String)> {
        self.0.into_iter().map(|(name, value)| (name.into_owned(), value.into_owned())).collect()
    }
}

fn form_decode(text: &str) -> Cow<'_, str> {
    if !text.contains(['+', '%']) {
        return Cow::Borrowed(text);
    }
    let spaced = text.replace('+', " ");
    Cow::Owned(percent_decode_str(&spaced).decode_utf8_lossy().into_owned())
}

/// Bucket configurations that can be asked for and are never there: flag, operation, action, code, message.
const ABSENT: &[(&str, &str, &str, &str, &str)] = &[(
    "replication",
    "GetBucketReplication",
    "s3:GetReplicationConfiguration",
    "ReplicationConfigurationNotFoundError",
    "The replication configuration was not found",
)];

/// Configurations whose removal leaves nothing to do: flag, operation, action.
const NOTHING: &[(&str, &str, &str)] =
    &[("replication", "DeleteBucketReplication", "s3:PutReplicationConfiguration")];

/// Sub-resources that S3 has and that are not offered, for buckets and for objects.
const BUCKET_FLAGS: &[&str] = &[
    "accelerate",
    "acl",
    "analytics",
    "cors",
    "encryption",
    "intelligent-tiering",
    "inventory",
    "lifecycle",
    "logging",
    "metadataAnnotationTable",
    "metadataConfiguration",
    "metadataInventoryTable",
    "metadataJournalTable",
    "metadataTable",
    "metrics",
    "object-lock",
    "ownershipControls",
    "policy",
    "policyStatus",
    "publicAccessBlock",
    "replication",
    "requestPayment",
    "session",
    "versioning",
    "versions",
    "website",
    "abac",
    "events",
];
const OBJECT_FLAGS: &[&str] = &[
    "acl",
    "legal-hold",
    "renameObject",
    "restore",
    "retention",
    "select",
    "torrent",
    "encryption",
    "annotation",
    "append",
];

impl Route {
    /// Reads what a request asks for.
    pub(crate) fn of(
        method: &Method,
        path: &str,
        query: &Query<'_>,
        headers: &HeaderMap,
    ) -> Result<Self, Error> {
        let path = percent_decode_str(path).decode_utf8().map_err(|_| Error::InvalidUri)?;
        let path = path.strip_prefix('/').ok_or(Error::InvalidUri)?;
        let (bucket, key) = match path.split_once('/') {
            None => (path, ""),
            Some((bucket, key)) => (bucket, key),
        };
        if !bucket.is_empty() && !s3s::path::check_bucket_name(bucket) {
            return Err(Error::InvalidBucketName(bucket.to_owned()));
        }
        if key.len() > MAX_KEY_BYTES {
            return Err(Error::KeyTooLong { size: key.len() });
        }
        let route = match (bucket, key) {
            ("", "") => root(method, query)?,
            ("", _) => return Err(Error::InvalidBucketName(String::new())),
            (_, "") => of_bucket(method, query)?,
            (_, _) => of_object(method, query, headers)?,
        };
        if route.name == "CreateBucket" && is_reserved(bucket) {
            return Err(Error::InvalidBucketName(bucket.to_owned()));
        }
        if let Some(version) = query.get("versionId").filter(|_| !takes_version(route.name)) {
            let message = "This operation does not accept a version-id.";
            return Err(Error::argument("versionId", version, message));
        }
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Ok(Self { bucket: some(bucket), key: some(key), ..route })
    }

    /// An upload by a form, whose key is in a field.
    pub(crate) fn post(bucket: String, key: String) -> Self {
        Self { bucket: Some(bucket), key: Some(key), ..Self::new("PostObject", BodyKind::Object) }
    }

    fn new(name: &'static str, body: BodyKind) -> Self {
        Self { name, bucket: None, key: None, body, answer: Answer::Operation }
    }

    pub(crate) fn bucket_arn(&self) -> String {
        format!("arn:aws:s3:::{}", self.bucket.as_deref().unwrap_or_default())
    }

    fn object_arn(&self) -> String {
        let (bucket, key) = (self.bucket.as_deref(), self.key.as_deref());
        format!("arn:aws:s3:::{}/{}", bucket.unwrap_or_default(), key.unwrap_or_default())
    }

    /// The rights it needs, where the body said what it `said`.
    pub(crate) fn access(
        &self,
        query: &Query<'_>,
        headers: &HeaderMap,
        said: &Said,
        now: Timestamp,
    ) -> Result<Vec<Access>, Error> {
        let needs = self.needs(query, headers, said, now)?;
        Ok(match said {
            Said::Nothing | Said::Deletions(_) => needs,
            Said::Tags(_) | Said::Retention(..) | Said::Hold(_) => {
                needs.into_iter().map(|need| said.tell(need, now)).collect()
            }
        })
    }

    fn needs(
        &self,
        query: &Query<'_>,
        headers: &HeaderMap,
        said: &Said,
        now: Timestamp,
    ) -> Result<Vec<Access>, Error> {
        let bucket = |action: &'static str| Ok(vec![Access::new(action, self.bucket_arn())]);
        let object = |action: &'static str| Ok(vec![Access::new(action, self.object_arn())]);
        // Another right, if a version is named.
        let version = |current: &'static str, named: &'static str| {
            Ok(vec![versioned(current, named, self.object_arn(), query.get("versionId"))])
        };
        match self.answer {
            Answer::Absent(action, ..) | Answer::Nothing(action) => return bucket(action),
            Answer::Operation => {}
        }
        match self.name {
            "ListBuckets" => Ok(vec![Access::new("s3:ListAllMyBuckets", "*")]),
            "CreateBucket" => {
                let mut needs = vec![listed(Access::new("s3:CreateBucket", self.bucket_arn()), headers)];
                if asks_for_list(headers) {
                    needs.push(listed(Access::new("s3:PutBucketAcl", self.bucket_arn()), headers));
                }
                if headers.contains_key("x-amz-object-ownership") {
                    needs.push(Access::new("s3:PutBucketOwnershipControls", self.bucket_arn()));
                }
                Ok(needs)
            }
            "HeadBucket" => bucket("s3:ListBucket"),
            "DeleteBucket" => bucket("s3:DeleteBucket"),
            "GetBucketLocation" => bucket("s3:GetBucketLocation"),
            "GetBucketNotificationConfiguration" => bucket("s3:GetBucketNotification"),
            "PutBucketNotificationConfiguration" => bucket("s3:PutBucketNotification"),
            "GetBucketVersioning" => bucket("s3:GetBucketVersioning"),
            "GetBucketAcl" => bucket("s3:GetBucketAcl"),
            "GetBucketLogging" => bucket("s3:GetBucketLogging"),
            "GetBucketRequestPayment" => bucket("s3:GetBucketRequestPayment"),
            "GetBucketAccelerateConfiguration" => bucket("s3:GetAccelerateConfiguration"),
            "GetBucketTagging" => bucket("s3:GetBucketTagging"),
            "PutBucketTagging" | "DeleteBucketTagging" => bucket("s3:PutBucketTagging"),
            "ListObjects" | "ListObjectsV2" => Ok(vec![self.listing("s3:ListBucket", query)]),
            "ListObjectVersions" => Ok(vec![self.listing("s3:ListBucketVersions", query)]),
            "ListMultipartUploads" => Ok(vec![self.listing("s3:ListBucketMultipartUploads", query)]),
            "GetObject" | "HeadObject" => version("s3:GetObject", "s3:GetObjectVersion"),
            "GetObjectAcl" => version("s3:GetObjectAcl", "s3:GetObjectVersionAcl"),
            "GetObjectAttributes" => {
                let named = query.get("versionId");
                let both = [
                    ("s3:GetObject", "s3:GetObjectVersion"),
                    ("s3:GetObjectAttributes", "s3:GetObjectVersionAttributes"),
                ];
                let access = |(current, other)| versioned(current, other, self.object_arn(), named);
                Ok(both.into_iter().map(access).collect())
            }
            "DeleteObject" => {
                let arn = self.object_arn();
                let bypass = bypass(headers, &arn);
                let named = query.get("versionId");
                let delete = versioned("s3:DeleteObject", "s3:DeleteObjectVersion", arn, named);
                let delete = with_headers(delete, headers, &["if-match"]);
                Ok(std::iter::once(delete).chain(bypass).collect())
            }
            "DeleteObjects" => {
                let arn = self.bucket_arn();
                let access = |object: &said::ToDelete| {
                    let arn = format!("{arn}/{}", object.key);
                    let bypass = bypass(headers, &arn);
                    let named = object.version.as_deref();
                    let mut delete = versioned("s3:DeleteObject", "s3:DeleteObjectVersion", arn, named);
                    if let Some(tag) = &object.e_tag {
                        delete = delete.with("s3:if-match", vec![tag.clone()]);
                    }
                    std::iter::once(delete).chain(bypass)
                };
                Ok(said.deletions().iter().flat_map(access).collect())
            }
            "GetObjectTagging" => version("s3:GetObjectTagging", "s3:GetObjectVersionTagging"),
            "PutObjectTagging" => version("s3:PutObjectTagging", "s3:PutObjectVersionTagging"),
            "DeleteObjectTagging" => version("s3:DeleteObjectTagging", "s3:DeleteObjectVersionTagging"),
            "GetBucketLifecycleConfiguration" => bucket("s3:GetLifecycleConfiguration"),
            "PutBucketLifecycleConfiguration" | "DeleteBucketLifecycle" => {
                bucket("s3:PutLifecycleConfiguration")
            }
            "GetObjectLockConfiguration" => bucket("s3:GetBucketObjectLockConfiguration"),
            "PutObjectLockConfiguration" => bucket("s3:PutBucketObjectLockConfiguration"),
            "GetObjectRetention" => object("s3:GetObjectRetention"),
            "PutObjectRetention" => {
                let mut needs = vec![Access::new("s3:PutObjectRetention", self.object_arn())];
                needs.extend(bypass(headers, &self.object_arn()));
                Ok(needs)
            }
            "GetObjectLegalHold" => object("s3:GetObjectLegalHold"),
            "PutObjectLegalHold" => object("s3:PutObjectLegalHold"),
            "PutBucketLogging" => bucket("s3:PutBucketLogging"),
            "GetBucketWebsite" => bucket("s3:GetBucketWebsite"),
            "PutBucketWebsite" => bucket("s3:PutBucketWebsite"),
            "DeleteBucketWebsite" => bucket("s3:DeleteBucketWebsite"),
            "GetBucketCors" => bucket("s3:GetBucketCORS"),
            "PutBucketCors" | "DeleteBucketCors" => bucket("s3:PutBucketCORS"),
            "GetBucketPolicy" => bucket("s3:GetBucketPolicy"),
            "GetBucketPolicyStatus" => bucket("s3:GetBucketPolicyStatus"),
            "PutBucketPolicy" => bucket("s3:PutBucketPolicy"),
            "DeleteBucketPolicy" => bucket("s3:DeleteBucketPolicy"),
            "GetPublicAccessBlock" => bucket("s3:GetBucketPublicAccessBlock"),
            "PutPublicAccessBlock" | "DeletePublicAccessBlock" => bucket("s3:PutBucketPublicAccessBlock"),
            "GetBucketOwnershipControls" => bucket("s3:GetBucketOwnershipControls"),
            "PutBucketOwnershipControls" | "DeleteBucketOwnershipControls" => {
                bucket("s3:PutBucketOwnershipControls")
            }
            "PutBucketAcl" => Ok(vec![listed(Access::new("s3:PutBucketAcl", self.bucket_arn()), headers)]),
            "PutObjectAcl" => {
                let needs = version("s3:PutObjectAcl", "s3:PutObjectVersionAcl")?;
                Ok(needs.into_iter().map(|need| listed(need, headers)).collect())
            }
            "PutBucketVersioning" => bucket("s3:PutBucketVersioning"),
            "GetBucketEncryption" => bucket("s3:GetEncryptionConfiguration"),
            "PutBucketEncryption" | "DeleteBucketEncryption" => bucket("s3:PutEncryptionConfiguration"),
            "PostObject" => {
                let mut needs = self.writing(headers, now);
                // Its tags are in a field.
                if matches!(said, Said::Tags(tags) if !tags.is_empty()) {
                    needs.push(Access::new("s3:PutObjectTagging", self.object_arn()));
                }
                Ok(needs)
            }
            "PutObject" | "CreateMultipartUpload" => Ok(self.writing(headers, now)),
            "UploadPart" => object("s3:PutObject"),
            "CompleteMultipartUpload" => {
                Ok(vec![with_headers(Access::new("s3:PutObject", self.object_arn()), headers, CONDITIONS)])
            }
            "AbortMultipartUpload" => object("s3:AbortMultipartUpload"),
            "ListParts" => object("s3:ListMultipartUploadParts"),
            "CopyObject" => {
                let mut needs = self.writing(headers, now);
                needs.push(reading_source(headers)?);
                Ok(needs)
            }
            "UploadPartCopy" => {
                Ok(vec![Access::new("s3:PutObject", self.object_arn()), reading_source(headers)?])
            }
            other => Err(Error::NotImplemented(format!("The operation {other}"))),
        }
    }

    fn listing(&self, action: &'static str, query: &Query<'_>) -> Access {
        let mut access = Access::new(action, self.bucket_arn());
        for (parameter, key) in
            [("prefix", "s3:prefix"), ("delimiter", "s3:delimiter"), ("max-keys", "s3:max-keys")]
        {
            if let Some(value) = query.get(parameter) {
                access = access.with(key, vec![value.to_owned()]);
            }
        }
        access
    }

    fn writing(&self, headers: &HeaderMap, now: Timestamp) -> Vec<Access> {
        let arn = self.object_arn();
        let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
        let mut access = listed(Access::new("s3:PutObject", &*arn), headers);
        access = with_headers(access, headers, CONDITIONS);
        access = with_headers(access, headers, UPLOADS);
        let tags = Query::parse(text("x-amz-tagging").unwrap_or_default()).into_pairs();
        let until = text(lock::UNTIL).and_then(|until| until.parse().ok());
        let told = |access| {
            let access = said::with_end(said::with_tags(access, &tags), until, now);
            LOCKS.iter().fold(access, |access, (header, key)| match text(header) {
                Some(value) => access.with(*key, vec![value.to_owned()]),
                None => access,
            })
        };
        let mut needs = vec![told(access)];
        if headers.contains_key("x-amz-tagging") {
            needs.push(told(Access::new("s3:PutObjectTagging", &*arn)));
        }
        if headers.contains_key(lock::MODE) {
            needs.push(told(Access::new("s3:PutObjectRetention", &*arn)));
        }
        if headers.contains_key(lock::HOLD) {
            needs.push(told(Access::new("s3:PutObjectLegalHold", &*arn)));
        }
        if asks_for_list(headers) {
            needs.push(listed(Access::new("s3:PutObjectAcl", &*arn), headers));
        }
        needs
    }
}

/// Beginnings and ends of names that are kept for what is no bucket of this kind.
fn is_reserved(bucket: &str) -> bool {
    ["sthree-", "amzn-s3-demo-"].iter().any(|start| bucket.starts_with(start))
        || ["-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3"].iter().any(|end| bucket.ends_with(end))
}

/// Headers of uploads that are condition keys (by the same name, after `s3:`).
const UPLOADS: &[&str] = &[
    "x-amz-storage-class",
    "x-amz-copy-source",
    "x-amz-metadata-directive",
    "x-amz-server-side-encryption",
    "x-amz-server-side-encryption-aws-kms-key-id",
    "x-amz-server-side-encryption-customer-algorithm",
    "x-amz-website-redirect-location",
];

/// Headers of locks, and the condition keys that they are.
const LOCKS: &[(&str, &str)] =
    &[(lock::MODE, "s3:object-lock-mode"), (lock::HOLD, "s3:object-lock-legal-hold")];

/// Headers that make a write conditional, which are condition keys.
const CONDITIONS: &[&str] = &["if-match", "if-none-match"];

/// Headers that ask for an access control list, which are condition keys.
const LISTS: &[&str] = &[
    "x-amz-acl",
    "x-amz-grant-full-control",
    "x-amz-grant-read",
    "x-amz-grant-read-acp",
    "x-amz-grant-write",
    "x-amz-grant-write-acp",
];

/// The access with those of the headers that the request has, as condition keys.
fn with_headers(mut access: Access, headers: &HeaderMap, names: &[&str]) -> Access {
    for name in names {
        if let Some(value) = headers.get(*name).and_then(|value| value.to_str().ok()) {
            access = access.with(format!("s3:{name}"), vec![value.to_owned()]);
        }
    }
    access
}

fn listed(access: Access, headers: &HeaderMap) -> Access {
    with_headers(access, headers, LISTS)
}

fn asks_for_list(headers: &HeaderMap) -> bool {
    LISTS.iter().any(|name| headers.contains_key(*name))
}

/// The right to bypass a retention, if the request is to.
fn bypass(headers: &HeaderMap, arn: &str) -> Option<Access> {
    let asked = headers.get("x-amz-bypass-governance-retention").and_then(|value| value.to_str().ok());
    let asked = asked.is_some_and(|value| value.eq_ignore_ascii_case("true"));
    asked.then(|| Access::new("s3:BypassGovernanceRetention", arn))
}

/// The right to do something with an object, or with the version that is named.
fn versioned(current: &'static str, named: &'static str, arn: String, version: Option<&str>) -> Access {
    match version {
        None => Access::new(current, arn),
        Some(version) => Access::new(named, arn).with("s3:VersionId", vec![version.to_owned()]),
    }
}

/// What `x-amz-copy-source` names.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) bucket: String,
    pub(crate) key: String,
    version: Option<String>,
}

impl Source {
    /// Whether no version is named.
    pub(crate) fn is_current(&self) -> bool {
        self.version.is_none()
    }

    /// The version that is named.
    pub(crate) fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// Where it is, in a bucket of which that is known.
    pub(crate) fn address(&self, home: &NameRow) -> Result<Address<'_>, Error> {
        Ok(Address {
            owner: home.owner,
            bucket: &self.bucket,
            key: &self.key,
            which: Which::read(self.version.as_deref())?,
            versioned: home.versioned,
        })
    }
}

/// Reads `x-amz-copy-source`.
pub(crate) fn copy_source(headers: &HeaderMap) -> Result<Source, Error> {
    let header = headers.get("x-amz-copy-source").map(|v| v.to_str().unwrap_or_default());
    let header = header.unwrap_or_default();
    let invalid = || {
        let message = "Copy Source must mention the source bucket and key: sourcebucket/sourcekey";
        Error::argument("x-amz-copy-source", header, message)
    };
    match CopySource::parse(header).map_err(|_| invalid())? {
        CopySource::Bucket { key, .. } if key.is_empty() => Err(invalid()),
        CopySource::Bucket { bucket, key, version_id } => {
            Ok(Source { bucket: bucket.into(), key: key.into(), version: version_id.map(Into::into) })
        }
        CopySource::AccessPoint { .. } | CopySource::Outpost { .. } => {
            Err(Error::NotImplemented("A copy source by access point".into()))
        }
    }
}

/// The right to read the source of a copy.
fn reading_source(headers: &HeaderMap) -> Result<Access, Error> {
    let source = copy_source(headers)?;
    let arn = format!("arn:aws:s3:::{}/{}", source.bucket, source.key);
    Ok(match source.version {
        None => Access::new("s3:GetObject", arn),
        Some(version) => Access::new("s3:GetObjectVersion", arn).with("s3:VersionId", vec![version]),
    })
}

/// Whether a request can be about one version of an object.
fn takes_version(name: &str) -> bool {
    matches!(
        name,
        "GetObject"
            | "HeadObject"
            | "DeleteObject"
            | "GetObjectAcl"
            | "PutObjectAcl"
            | "GetObjectAttributes"
            | "GetObjectTagging"
            | "PutObjectTagging"
            | "DeleteObjectTagging"
            | "GetObjectRetention"
            | "PutObjectRetention"
            | "GetObjectLegalHold"
            | "PutObjectLegalHold"
    )
}

fn root(method: &Method, query: &Query<'_>) -> Result<Route, Error> {
    if method != Method::GET {
        return Err(Error::MethodNotAllowed);
    }
    if query.get("x-id") == Some("ListDirectoryBuckets") {
        return Err(Error::NotImplemented("The operation ListDirectoryBuckets".into()));
    }
    Ok(Route::new("ListBuckets", BodyKind::None))
}

fn of_bucket(method: &Method, query: &Query<'_>) -> Result<Route, Error> {
    let route = |name, body| Ok(Route::new(name, body));
    let first = |flags: &[(&str, &'static str)]| {
        flags.iter().find(|(flag, _)| query.has(flag)).map(|(_, name)| *name)
    };
    match *method {
        Method::HEAD => return route("HeadBucket", BodyKind::None),
        Method::GET => {
            if let Some(&(_, name, action, code, message)) = ABSENT.iter().find(|(flag, ..)| query.has(flag))
            {
                let answer = Answer::Absent(action, code, message);
                return Ok(Route { answer, ..Route::new(name, BodyKind::None) });
            }
            let flags = [
                ("accelerate", "GetBucketAccelerateConfiguration"),
                ("acl", "GetBucketAcl"),
                ("cors", "GetBucketCors"),
                ("encryption", "GetBucketEncryption"),
                ("ownershipControls", "GetBucketOwnershipControls"),
                ("policy", "GetBucketPolicy"),
                ("policyStatus", "GetBucketPolicyStatus"),
                ("publicAccessBlock", "GetPublicAccessBlock"),
                ("website", "GetBucketWebsite"),
                ("lifecycle", "GetBucketLifecycleConfiguration"),
                ("object-lock", "GetObjectLockConfiguration"),
                ("location", "GetBucketLocation"),
                ("logging", "GetBucketLogging"),
                ("notification", "GetBucketNotificationConfiguration"),
                ("requestPayment", "GetBucketRequestPayment"),
                ("tagging", "GetBucketTagging"),
                ("versioning", "GetBucketVersioning"),
                ("uploads", "ListMultipartUploads"),
                ("versions", "ListObjectVersions"),
            ];
            if let Some(name) = first(&flags) {
                return route(name, BodyKind::None);
            }
        }
        Method::PUT => {
            let flags = [
                ("acl", "PutBucketAcl"),
                ("cors", "PutBucketCors"),
                ("ownershipControls", "PutBucketOwnershipControls"),
                ("policy", "PutBucketPolicy"),
                ("publicAccessBlock", "PutPublicAccessBlock"),
                ("website", "PutBucketWebsite"),
                ("logging", "PutBucketLogging"),
                ("lifecycle", "PutBucketLifecycleConfiguration"),
                ("object-lock", "PutObjectLockConfiguration"),
                ("encryption", "PutBucketEncryption"),
                ("notification", "PutBucketNotificationConfiguration"),
                ("tagging", "PutBucketTagging"),
                ("versioning", "PutBucketVersioning"),
            ];
            if let Some(name) = first(&flags) {
                return route(name, BodyKind::Xml);
            }
        }
        Method::POST => {
            if query.has("delete") {
                return route("DeleteObjects", BodyKind::Xml);
            }
            if !BUCKET_FLAGS.iter().any(|flag| query.has(flag)) {
                return Err(Error::PostNotForm);
            }
        }
        Method::DELETE => {
            if let Some(&(_, name, action)) = NOTHING.iter().find(|(flag, ..)| query.has(flag)) {
                let answer = Answer::Nothing(action);
                return Ok(Route { answer, ..Route::new(name, BodyKind::None) });
            }
            let flags = [
                ("cors", "DeleteBucketCors"),
                ("encryption", "DeleteBucketEncryption"),
                ("ownershipControls", "DeleteBucketOwnershipControls"),
                ("policy", "DeleteBucketPolicy"),
                ("publicAccessBlock", "DeletePublicAccessBlock"),
                ("website", "DeleteBucketWebsite"),
                ("lifecycle", "DeleteBucketLifecycle"),
                ("tagging", "DeleteBucketTagging"),
            ];
            if let Some(name) = first(&flags) {
                return route(name, BodyKind::None);
            }
        }
        _ => return Err(Error::MethodNotAllowed),
    }
    if let Some(flag) = BUCKET_FLAGS.iter().find(|flag| query.has(flag)) {
        return Err(Error::NotImplemented(format!("{method} of the bucket configuration `{flag}`")));
    }
    // A configuration that S3 gets one day must not make or remove the bucket itself.
    if *method != Method::GET
        && let Some((name, _)) = query.0.iter().find(|(name, _)| name != "x-id")
    {
        return Err(Error::NotImplemented(format!("{method} of a bucket with the parameter `{name}`")));
    }
    if query.0.iter().filter(|(name, _)| name == "list-type").count() > 1 {
        return Err(Error::argument("list-type", "", "The parameter list-type can be given once"));
    }
    match *method {
        Method::GET if query.get("list-type") == Some("2") => route("ListObjectsV2", BodyKind::None),
        Method::GET => route("ListObjects", BodyKind::None),
        Method::PUT => route("CreateBucket", BodyKind::Xml),
        _ => route("DeleteBucket", BodyKind::None),
    }
}

fn of_object(method: &Method, query: &Query<'_>, headers: &HeaderMap) -> Result<Route, Error> {
    let route = |name, body| Ok(Route::new(name, body));
    // One that can not be is refused before anything is done.
    Which::read(query.get("versionId"))?;
    if query.has("acl") && !query.has("attributes") {
        match *method {
            Method::GET => return route("GetObjectAcl", BodyKind::None),
            Method::PUT => return route("PutObjectAcl", BodyKind::Xml),
            _ => {}
        }
    }
    for (flag, get, put) in [
        ("retention", "GetObjectRetention", "PutObjectRetention"),
        ("legal-hold", "GetObjectLegalHold", "PutObjectLegalHold"),
    ] {
        if query.has(flag) {
            match *method {
                Method::GET => return route(get, BodyKind::None),
                Method::PUT => return route(put, BodyKind::Xml),
                _ => {}
            }
        }
    }
    if let Some(flag) = OBJECT_FLAGS.iter().find(|flag| query.has(flag)) {
        return Err(Error::NotImplemented(format!("{method} of the object's `{flag}`")));
    }
    let tagging = query.has("tagging");
    let upload = query.has("uploadId");
    match *method {
        Method::HEAD => route("HeadObject", BodyKind::None),
        Method::GET if query.has("attributes") => route("GetObjectAttributes", BodyKind::None),
        Method::GET if tagging => route("GetObjectTagging", BodyKind::None),
        Method::GET if upload => route("ListParts", BodyKind::None),
        Method::GET => route("GetObject", BodyKind::None),
        Method::PUT if tagging => route("PutObjectTagging", BodyKind::Xml),
        Method::PUT => {
            let copy = headers.contains_key("x-amz-copy-source");
            match (upload && query.has("partNumber"), copy) {
                (true, true) => route("UploadPartCopy", BodyKind::None),
                (true, false) => route("UploadPart", BodyKind::Object),
                (false, true) => route("CopyObject", BodyKind::None),
                (false, false) => route("PutObject", BodyKind::Object),
            }
        }
        Method::POST if query.has("uploads") => route("CreateMultipartUpload", BodyKind::None),
        Method::POST if upload => route("CompleteMultipartUpload", BodyKind::Xml),
        Method::DELETE if tagging => route("DeleteObjectTagging", BodyKind::None),
        Method::DELETE if upload => route("AbortMultipartUpload", BodyKind::None),
        Method::DELETE => route("DeleteObject", BodyKind::None),
        _ => Err(Error::MethodNotAllowed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(method: &Method, target: &str) -> Result<&'static str, &'static str> {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        match Route::of(method, path, &Query::parse(query), &HeaderMap::new()) {
            Ok(route) => Ok(route.name),
            Err(Error::NotImplemented(_)) => Err("NotImplemented"),
            Err(Error::MethodNotAllowed) => Err("MethodNotAllowed"),
            Err(Error::InvalidBucketName(_)) => Err("InvalidBucketName"),
            Err(_) => Err("other"),
        }
    }

    #[test]
    fn requests_have_names() {
        let (get, put) = (Method::GET, Method::PUT);
        for (method, target, expected) in [
            (&get, "/", Ok("ListBuckets")),
            (&get, "/bucket", Ok("ListObjects")),
            (&get, "/bucket/?list-type=2&prefix=a%2Fb", Ok("ListObjectsV2")),
            (&get, "/bucket?list-type=2&list-type=1", Err("other")),
            (&get, "/bucket?location", Ok("GetBucketLocation")),
            (&get, "/bucket?cors", Ok("GetBucketCors")),
            (&put, "/bucket?cors", Ok("PutBucketCors")),
            (&put, "/bucket/a?acl", Ok("PutObjectAcl")),
            (&put, "/bucket?metadataJournalTable", Err("NotImplemented")),
            (&put, "/bucket?x-id=CreateBucket", Ok("CreateBucket")),
            (&put, "/bucket?something", Err("NotImplemented")),
            (&Method::DELETE, "/bucket?something", Err("NotImplemented")),
            (&Method::POST, "/bucket?metadataTable", Err("NotImplemented")),
            (&Method::DELETE, "/bucket?policy", Ok("DeleteBucketPolicy")),
            (&Method::POST, "/bucket", Err("other")),
            (&Method::POST, "/bucket?delete", Ok("DeleteObjects")),
            (&get, "/bucket/a/b%20c", Ok("GetObject")),
            (&get, "/bucket/a?uploadId=1", Ok("ListParts")),
            (&put, "/bucket/a?partNumber=1&uploadId=1", Ok("UploadPart")),
            (&get, "/bucket/a?torrent", Err("NotImplemented")),
            (&get, "/bucket/a?versionId=null", Ok("GetObject")),
            (&put, "/bucket/a?versionId=null", Err("other")),
            (&get, "/bucket/a?versionId=3", Err("other")),
            (&get, "/bucket/a?versionId=null", Ok("GetObject")),
            (&put, "/bucket/a?versionId=null", Err("other")),
            (&put, "/bucket?versioning", Ok("PutBucketVersioning")),
            (&get, "/Bucket/a", Err("InvalidBucketName")),
            (&Method::PATCH, "/bucket/a", Err("MethodNotAllowed")),
        ] {
            assert_eq!(name(method, target), expected, "{method} {target}");
        }
    }

    #[test]
    fn rights_are_exact() {
        let mut headers = HeaderMap::new();
        headers.insert("x-amz-copy-source", http::HeaderValue::from_static("/source/a%20b"));
        let query = Query::parse("");
        let route = Route::of(&Method::PUT, "/target/c%2Fd", &query, &headers).unwrap();
        let needs = route.access(&query, &headers, &Said::Nothing, Timestamp::UNIX_EPOCH).unwrap();
        let needs: Vec<_> = needs.iter().map(|a| (&*a.action, &*a.resource)).collect();
        assert_eq!(
            needs,
            [("s3:PutObject", "arn:aws:s3:::target/c/d"), ("s3:GetObject", "arn:aws:s3:::source/a b")]
        );

        let query = Query::parse("list-type=2&prefix=a+b&max-keys=5");
        let headers = HeaderMap::new();
        let route = Route::of(&Method::GET, "/bucket", &query, &headers).unwrap();
        let access = &route.access(&query, &headers, &Said::Nothing, Timestamp::UNIX_EPOCH).unwrap()[0];
        assert_eq!(access.context[0], ("s3:prefix".into(), vec!["a b".to_owned()]));
    }
}
