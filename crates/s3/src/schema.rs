//! Which elements the documents have that operations take (S3's service model): one that is none of an operation's is
//! refused, as one is that S3 knows and that is not offered. The protocol crate passes over what it does not know.

use std::collections::HashMap;
use std::sync::LazyLock;

use quick_xml::Reader;
use quick_xml::events::Event;

use crate::Error;

/// Operations, and the elements within the root of their document: `Name(child child)`, and `!` before those that are
/// not offered.
const SCHEMAS: &[(&str, &str)] = &[
    (
        "CompleteMultipartUpload",
        "Part(ETag ChecksumCRC32 ChecksumCRC32C ChecksumCRC64NVME ChecksumSHA1 ChecksumSHA256 !ChecksumSHA512 \
         !ChecksumMD5 !ChecksumXXHASH64 !ChecksumXXHASH3 !ChecksumXXHASH128 PartNumber)",
    ),
    ("CreateBucket", "LocationConstraint !Location !Bucket !Tags"),
    ("DeleteObjects", "Object(Key VersionId ETag LastModifiedTime Size) Quiet"),
    ("PutBucketAcl", ACCESS_CONTROL),
    ("PutBucketCors", "CORSRule(ID AllowedHeader AllowedMethod AllowedOrigin ExposeHeader MaxAgeSeconds)"),
    (
        "PutBucketEncryption",
        "Rule(ApplyServerSideEncryptionByDefault(SSEAlgorithm KMSMasterKeyID) BucketKeyEnabled \
         !BlockedEncryptionTypes)",
    ),
    (
        "PutBucketLifecycleConfiguration",
        "Rule(Expiration(Date Days ExpiredObjectDeleteMarker) ID Prefix Filter(Prefix Tag(Key Value) \
         ObjectSizeGreaterThan ObjectSizeLessThan And(Prefix Tag(Key Value) ObjectSizeGreaterThan \
         ObjectSizeLessThan)) Status Transition(Date Days StorageClass) NoncurrentVersionTransition(NoncurrentDays \
         StorageClass NewerNoncurrentVersions) NoncurrentVersionExpiration(NoncurrentDays NewerNoncurrentVersions) \
         AbortIncompleteMultipartUpload(DaysAfterInitiation))",
    ),
    (
        "PutBucketLogging",
        "LoggingEnabled(TargetBucket TargetGrants(Grant(Grantee(DisplayName EmailAddress ID URI) Permission)) \
         TargetPrefix TargetObjectKeyFormat(SimplePrefix PartitionedPrefix(PartitionDateSource)))",
    ),
    (
        "PutBucketNotificationConfiguration",
        "TopicConfiguration(Id Topic Event Filter(S3Key(FilterRule(Name Value)))) QueueConfiguration(Id Queue Event \
         Filter(S3Key(FilterRule(Name Value)))) CloudFunctionConfiguration(Id CloudFunction Event \
         Filter(S3Key(FilterRule(Name Value))) !InvocationRole) EventBridgeConfiguration",
    ),
    ("PutBucketOwnershipControls", "Rule(ObjectOwnership)"),
    ("PutBucketTagging", TAGGING),
    ("PutBucketVersioning", "MfaDelete Status"),
    (
        "PutBucketWebsite",
        "ErrorDocument(Key) IndexDocument(Suffix) RedirectAllRequestsTo(HostName Protocol) \
         RoutingRules(RoutingRule(Condition(HttpErrorCodeReturnedEquals KeyPrefixEquals) Redirect(HostName \
         HttpRedirectCode Protocol ReplaceKeyPrefixWith ReplaceKeyWith)))",
    ),
    ("PutObjectAcl", ACCESS_CONTROL),
    ("PutObjectLegalHold", "Status"),
    (
        "PutObjectLockConfiguration",
        "ObjectLockEnabled Rule(DefaultRetention(Mode Days Years !DefaultEventHold))",
    ),
    ("PutObjectRetention", "Mode RetainUntilDate !EventHold !EventHoldDuration"),
    ("PutObjectTagging", TAGGING),
    ("PutPublicAccessBlock", "BlockPublicAcls IgnorePublicAcls BlockPublicPolicy RestrictPublicBuckets"),
];
const ACCESS_CONTROL: &str = "AccessControlList(Grant(Grantee(DisplayName EmailAddress ID URI) Permission)) \
     Owner(DisplayName ID)";
const TAGGING: &str = "TagSet(Tag(Key Value))";

/// An element, and what may be in it.
#[derive(Debug, Default)]
struct Element {
    refused: bool,
    children: HashMap<&'static str, Element>,
}

impl Element {
    /// Reads elements until a list of them is closed.
    fn read(text: &mut &'static str) -> HashMap<&'static str, Self> {
        let mut elements = HashMap::new();
        loop {
            *text = text.trim_start();
            let rest = text.strip_prefix(')');
            if text.is_empty() || rest.is_some() {
                *text = rest.unwrap_or_default();
                return elements;
            }
            let end = text.find([' ', '(', ')']).unwrap_or(text.len());
            let (name, rest) = text.split_at(end);
            let refused = name.starts_with('!');
            let inner = rest.strip_prefix('(');
            *text = inner.unwrap_or(rest);
            let children = if inner.is_some() { Self::read(text) } else { HashMap::new() };
            elements.insert(name.trim_start_matches('!'), Self { refused, children });
        }
    }
}

static ROOTS: LazyLock<HashMap<&str, Element>> = LazyLock::new(|| {
    let root = |mut text| Element { refused: false, children: Element::read(&mut text) };
    SCHEMAS.iter().map(|(operation, text)| (*operation, root(*text))).collect()
});

/// Refuses a document with elements that are none of the operation's.
pub(crate) fn check(operation: &str, document: &[u8]) -> Result<(), Error> {
    let Some(root) = ROOTS.get(operation) else { return Ok(()) };
    let mut reader = Reader::from_reader(document);
    let mut open: Vec<&Element> = Vec::new();
    loop {
        let (start, is_empty) = match reader.read_event().map_err(|_| Error::MalformedXml)? {
            Event::Start(start) => (start, false),
            Event::Empty(start) => (start, true),
            Event::End(_) => {
                open.pop();
                continue;
            }
            Event::DocType(_) => return Err(Error::MalformedXml),
            Event::Eof => return if open.is_empty() { Ok(()) } else { Err(Error::MalformedXml) },
            Event::Text(_)
            | Event::CData(_)
            | Event::Comment(_)
            | Event::Decl(_)
            | Event::PI(_)
            | Event::GeneralRef(_) => continue,
        };
        let element = match open.last() {
            None => root,
            Some(parent) => {
                let name = start.local_name();
                let name = name.as_ref();
                let element = parent.children.get(name).ok_or(Error::MalformedXml)?;
                if element.refused {
                    return Err(Error::NotImplemented(format!("{name} of {operation}")));
                }
                element
            }
        };
        if !is_empty {
            open.push(element);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_those_of_the_operation() {
        let check = |operation: &str, xml: &str| match check(operation, xml.as_bytes()) {
            Ok(()) => "fine".to_owned(),
            Err(Error::NotImplemented(what)) => what,
            Err(error) => error.to_string()[..7].to_owned(),
        };
        let fine = [
            ("PutBucketVersioning", "<V xmlns=\"http://s3\"><Status>Enabled</Status><MfaDelete/></V>"),
            (
                "PutBucketTagging",
                "<?xml version=\"1.0\"?><T><TagSet><Tag><Key>a</Key><Value/></Tag></TagSet></T>",
            ),
            ("PutBucketTagging", "<s:T xmlns:s=\"x\"><s:TagSet></s:TagSet></s:T>"),
            ("PutBucketPolicy", "{}"),
            ("CreateBucket", ""),
        ];
        for (operation, xml) in fine {
            assert_eq!(check(operation, xml), "fine", "{operation} {xml}");
        }
        let broken = [
            ("PutBucketVersioning", "<V><Status>Enabled</Status><Other/></V>"),
            ("PutBucketVersioning", "<V><Status><Status>Enabled</Status></Status></V>"),
            ("PutBucketTagging", "<T><Tag/></T>"),
            ("PutBucketTagging", "<!DOCTYPE a [<!ENTITY b \"c\">]><T/>"),
            ("PutBucketTagging", "<T><TagSet>"),
        ];
        for (operation, xml) in broken {
            assert_eq!(check(operation, xml), "The XML", "{operation} {xml}");
        }
        assert_eq!(check("CreateBucket", "<C><Tags><Tag/></Tags></C>"), "Tags of CreateBucket");
    }
}
