//! The actions that a bucket's policy may name, and what each is about (Service Authorization Reference, "Actions,
//! resources, and condition keys for Amazon S3").

use types::matches_wildcards;

/// About a bucket; the names are without `s3:`.
const OF_BUCKETS: &[&str] = &[
    "CreateBucket",
    "CreateBucketMetadataTableConfiguration",
    "DeleteBucket",
    "DeleteBucketMetadataTableConfiguration",
    "DeleteBucketPolicy",
    "DeleteBucketWebsite",
    "GetAccelerateConfiguration",
    "GetAnalyticsConfiguration",
    "GetBucketAbac",
    "GetBucketAcl",
    "GetBucketCORS",
    "GetBucketLocation",
    "GetBucketLogging",
    "GetBucketMetadataTableConfiguration",
    "GetBucketNotification",
    "GetBucketObjectLockConfiguration",
    "GetBucketOwnershipControls",
    "GetBucketPolicy",
    "GetBucketPolicyStatus",
    "GetBucketPublicAccessBlock",
    "GetBucketRequestPayment",
    "GetBucketTagging",
    "GetBucketVersioning",
    "GetBucketWebsite",
    "GetEncryptionConfiguration",
    "GetIntelligentTieringConfiguration",
    "GetInventoryConfiguration",
    "GetLifecycleConfiguration",
    "GetMetricsConfiguration",
    "GetReplicationConfiguration",
    "ListBucket",
    "ListBucketMultipartUploads",
    "ListBucketVersions",
    "ListTagsForResource",
    "PutAccelerateConfiguration",
    "PutAnalyticsConfiguration",
    "PutBucketAbac",
    "PutBucketAcl",
    "PutBucketCORS",
    "PutBucketLogging",
    "PutBucketNotification",
    "PutBucketObjectLockConfiguration",
    "PutBucketOwnershipControls",
    "PutBucketPolicy",
    "PutBucketPublicAccessBlock",
    "PutBucketRequestPayment",
    "PutBucketTagging",
    "PutBucketVersioning",
    "PutBucketWebsite",
    "PutEncryptionConfiguration",
    "PutIntelligentTieringConfiguration",
    "PutInventoryConfiguration",
    "PutLifecycleConfiguration",
    "PutMetricsConfiguration",
    "PutReplicationConfiguration",
    "TagResource",
    "UntagResource",
    "UpdateBucketMetadataInventoryTableConfiguration",
    "UpdateBucketMetadataJournalTableConfiguration",
];

/// About objects.
const OF_OBJECTS: &[&str] = &[
    "AbortMultipartUpload",
    "BypassGovernanceRetention",
    "DeleteObject",
    "DeleteObjectTagging",
    "DeleteObjectVersion",
    "DeleteObjectVersionTagging",
    "GetObject",
    "GetObjectAcl",
    "GetObjectAttributes",
    "GetObjectLegalHold",
    "GetObjectRetention",
    "GetObjectTagging",
    "GetObjectTorrent",
    "GetObjectVersion",
    "GetObjectVersionAcl",
    "GetObjectVersionAttributes",
    "GetObjectVersionForReplication",
    "GetObjectVersionTagging",
    "GetObjectVersionTorrent",
    "InitiateReplication",
    "ListMultipartUploadParts",
    "ObjectOwnerOverrideToBucketOwner",
    "PutObject",
    "PutObjectAcl",
    "PutObjectLegalHold",
    "PutObjectRetention",
    "PutObjectTagging",
    "PutObjectVersionAcl",
    "PutObjectVersionTagging",
    "ReplicateDelete",
    "ReplicateObject",
    "ReplicateTags",
    "RestoreObject",
    "UpdateObjectEncryption",
];

/// What a name may stand for: nothing where it is none of this service's.
fn pattern(action: &str) -> Option<String> {
    match action.split_once(':') {
        None if action == "*" => Some("*".to_owned()),
        Some((service, name)) if service.eq_ignore_ascii_case("s3") => Some(name.to_ascii_lowercase()),
        None | Some(_) => None,
    }
}

/// Whether there is an action that a policy's name stands for.
pub(crate) fn exists(action: &str) -> bool {
    applies(action, true, true)
}

/// Whether there is one that is about buckets, or about objects, where a statement is about them.
pub(crate) fn applies(action: &str, of_buckets: bool, of_objects: bool) -> bool {
    let Some(pattern) = pattern(action) else { return false };
    let among =
        |names: &[&str]| names.iter().any(|name| matches_wildcards(&pattern, &name.to_ascii_lowercase()));
    (of_buckets && among(OF_BUCKETS)) || (of_objects && among(OF_OBJECTS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_service() {
        for action in
            ["*", "s3:*", "S3:getobject", "s3:Get*", "s3:*Object", "s3:?etObject", "s3:Put*Tagging*"]
        {
            assert!(exists(action), "{action}");
        }
        for action in ["s3:GetObjects", "s3:Read*", "ec2:GetObject", "GetObject", "s3:?GetObject", "s3:"] {
            assert!(!exists(action), "{action}");
        }
        assert!(applies("s3:GetObject", false, true) && !applies("s3:GetObject", true, false));
        assert!(applies("s3:ListBucket", true, false) && !applies("s3:ListBucket", false, true));
        assert!(applies("s3:*", true, false) && applies("s3:*", false, true));
    }
}
