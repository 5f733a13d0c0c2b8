//! Between the protocol crate and the operations.
//!
//! Invariant: an operation runs only if the protocol crate read the same name, bucket and key out of the request
//! as the router did, on whose word the request was authorised.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, StatusCode};
use s3s::dto;
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result};

use crate::service::{Cx, Inner, State};
use crate::{Error, ops};

/// The protocol crate's view of the service.
pub(crate) struct Frontend {
    pub(crate) inner: Arc<Inner>,
}

/// Takes up the request again where the pipeline left it.
fn begin<I>(
    inner: &Arc<Inner>,
    request: S3Request<I>,
    name: &str,
    address: impl FnOnce(&I) -> (Option<&str>, Option<&str>),
) -> S3Result<(Cx, I)> {
    let S3Request { input, mut extensions, .. } = request;
    let Some(state) = extensions.remove::<Arc<State>>() else {
        return Err(S3Error::with_message(S3ErrorCode::AccessDenied, "Access Denied"));
    };
    let cx = Cx { inner: inner.clone(), state };
    let route = &cx.state.route;
    let (bucket, key) = address(&input);
    let same = route.name == name && route.bucket.as_deref() == bucket && route.key.as_deref() == key;
    if !same {
        let authorised = format!("{} {:?} {:?}", route.name, route.bucket, route.key);
        let dispatched = format!("{name} {bucket:?} {key:?}");
        return Err(fail(&cx, Error::Confused { authorised, dispatched }));
    }
    Ok((cx, input))
}

/// Keeps the error with all its members for the pipeline; what goes through the protocol crate only says that it
/// failed.
fn fail(cx: &Cx, error: Error) -> S3Error {
    let mut answer = S3Error::new(S3ErrorCode::InternalError);
    if let Error::NotModified { etag, modified } = &error {
        let mut headers = HeaderMap::new();
        if let Ok(etag) = HeaderValue::try_from(format!("\"{etag}\"")) {
            headers.insert(http::header::ETAG, etag);
        }
        if let Ok(date) = HeaderValue::try_from(ops::http_date(*modified)) {
            headers.insert(http::header::LAST_MODIFIED, date);
        }
        answer.set_status_code(StatusCode::NOT_MODIFIED);
        answer.set_headers(headers);
    } else {
        let error = aws::Error::from(error);
        // The protocol crate logs what looks like a fault of the server.
        answer
            .set_status_code(StatusCode::from_u16(error.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR));
        *cx.state.failure.lock().expect("no holder of this lock panics") = Some(error);
    }
    answer
}

macro_rules! address {
    (none $input:ident) => {
        (None, None)
    };
    (bucket $input:ident) => {
        (Some(&*$input.bucket), None)
    };
    (object $input:ident) => {
        (Some(&*$input.bucket), Some(&*$input.key))
    };
}

/// One method of the protocol crate's trait for each operation: all of them the same but for names.
macro_rules! operations {
    ($($name:literal $method:ident($input:ident) -> $output:ident, $address:ident, $run:path;)*) => {
        #[async_trait::async_trait]
        impl s3s::S3 for Frontend {
            $(async fn $method(
                &self,
                request: S3Request<dto::$input>,
            ) -> S3Result<S3Response<dto::$output>> {
                let (cx, input) = begin(&self.inner, request, $name, |_input| address!($address _input))?;
                match $run(&cx, input).await {
                    Ok(response) => Ok(response),
                    Err(error) => Err(fail(&cx, error)),
                }
            })*
        }
    };
}

operations! {
    "ListBuckets" list_buckets(ListBucketsInput) -> ListBucketsOutput, none, ops::bucket::list;
    "CreateBucket" create_bucket(CreateBucketInput) -> CreateBucketOutput, bucket, ops::bucket::create;
    "HeadBucket" head_bucket(HeadBucketInput) -> HeadBucketOutput, bucket, ops::bucket::head;
    "DeleteBucket" delete_bucket(DeleteBucketInput) -> DeleteBucketOutput, bucket, ops::bucket::delete;
    "GetBucketLocation" get_bucket_location(GetBucketLocationInput) -> GetBucketLocationOutput, bucket, ops::bucket::location;
    "GetBucketVersioning" get_bucket_versioning(GetBucketVersioningInput) -> GetBucketVersioningOutput, bucket, ops::versioning::get;
    "PutBucketVersioning" put_bucket_versioning(PutBucketVersioningInput) -> PutBucketVersioningOutput, bucket, ops::versioning::put;
    "GetBucketEncryption" get_bucket_encryption(GetBucketEncryptionInput) -> GetBucketEncryptionOutput, bucket, ops::encryption::get;
    "PutBucketEncryption" put_bucket_encryption(PutBucketEncryptionInput) -> PutBucketEncryptionOutput, bucket, ops::encryption::put;
    "DeleteBucketEncryption" delete_bucket_encryption(DeleteBucketEncryptionInput) -> DeleteBucketEncryptionOutput, bucket, ops::encryption::delete;
    "GetBucketAcl" get_bucket_acl(GetBucketAclInput) -> GetBucketAclOutput, bucket, ops::acl::get_bucket;
    "PutBucketAcl" put_bucket_acl(PutBucketAclInput) -> PutBucketAclOutput, bucket, ops::acl::put_bucket;
    "PutObjectAcl" put_object_acl(PutObjectAclInput) -> PutObjectAclOutput, object, ops::acl::put_object;
    "GetBucketCors" get_bucket_cors(GetBucketCorsInput) -> GetBucketCorsOutput, bucket, ops::cors::get;
    "PutBucketCors" put_bucket_cors(PutBucketCorsInput) -> PutBucketCorsOutput, bucket, ops::cors::put;
    "DeleteBucketCors" delete_bucket_cors(DeleteBucketCorsInput) -> DeleteBucketCorsOutput, bucket, ops::cors::delete;
    "GetBucketPolicy" get_bucket_policy(GetBucketPolicyInput) -> GetBucketPolicyOutput, bucket, ops::policy::get;
    "GetBucketPolicyStatus" get_bucket_policy_status(GetBucketPolicyStatusInput) -> GetBucketPolicyStatusOutput, bucket, ops::policy::status;
    "PutBucketPolicy" put_bucket_policy(PutBucketPolicyInput) -> PutBucketPolicyOutput, bucket, ops::policy::put;
    "DeleteBucketPolicy" delete_bucket_policy(DeleteBucketPolicyInput) -> DeleteBucketPolicyOutput, bucket, ops::policy::delete;
    "GetPublicAccessBlock" get_public_access_block(GetPublicAccessBlockInput) -> GetPublicAccessBlockOutput, bucket, ops::policy::get_block;
    "PutPublicAccessBlock" put_public_access_block(PutPublicAccessBlockInput) -> PutPublicAccessBlockOutput, bucket, ops::policy::put_block;
    "DeletePublicAccessBlock" delete_public_access_block(DeletePublicAccessBlockInput) -> DeletePublicAccessBlockOutput, bucket, ops::policy::delete_block;
    "GetBucketOwnershipControls" get_bucket_ownership_controls(GetBucketOwnershipControlsInput) -> GetBucketOwnershipControlsOutput, bucket, ops::policy::get_ownership;
    "PutBucketOwnershipControls" put_bucket_ownership_controls(PutBucketOwnershipControlsInput) -> PutBucketOwnershipControlsOutput, bucket, ops::policy::put_ownership;
    "DeleteBucketOwnershipControls" delete_bucket_ownership_controls(DeleteBucketOwnershipControlsInput) -> DeleteBucketOwnershipControlsOutput, bucket, ops::policy::delete_ownership;
    "GetBucketWebsite" get_bucket_website(GetBucketWebsiteInput) -> GetBucketWebsiteOutput, bucket, ops::website::get;
    "PutBucketWebsite" put_bucket_website(PutBucketWebsiteInput) -> PutBucketWebsiteOutput, bucket, ops::website::put;
    "DeleteBucketWebsite" delete_bucket_website(DeleteBucketWebsiteInput) -> DeleteBucketWebsiteOutput, bucket, ops::website::delete;
    "GetBucketLifecycleConfiguration" get_bucket_lifecycle_configuration(GetBucketLifecycleConfigurationInput) -> GetBucketLifecycleConfigurationOutput, bucket, ops::lifecycle::get;
    "PutBucketLifecycleConfiguration" put_bucket_lifecycle_configuration(PutBucketLifecycleConfigurationInput) -> PutBucketLifecycleConfigurationOutput, bucket, ops::lifecycle::put;
    "DeleteBucketLifecycle" delete_bucket_lifecycle(DeleteBucketLifecycleInput) -> DeleteBucketLifecycleOutput, bucket, ops::lifecycle::delete;
    "GetObjectLockConfiguration" get_object_lock_configuration(GetObjectLockConfigurationInput) -> GetObjectLockConfigurationOutput, bucket, ops::lock::get_configuration;
    "PutObjectLockConfiguration" put_object_lock_configuration(PutObjectLockConfigurationInput) -> PutObjectLockConfigurationOutput, bucket, ops::lock::put_configuration;
    "GetObjectRetention" get_object_retention(GetObjectRetentionInput) -> GetObjectRetentionOutput, object, ops::lock::get_retention;
    "PutObjectRetention" put_object_retention(PutObjectRetentionInput) -> PutObjectRetentionOutput, object, ops::lock::put_retention;
    "GetObjectLegalHold" get_object_legal_hold(GetObjectLegalHoldInput) -> GetObjectLegalHoldOutput, object, ops::lock::get_hold;
    "PutObjectLegalHold" put_object_legal_hold(PutObjectLegalHoldInput) -> PutObjectLegalHoldOutput, object, ops::lock::put_hold;
    "GetBucketLogging" get_bucket_logging(GetBucketLoggingInput) -> GetBucketLoggingOutput, bucket, ops::logging::get;
    "PutBucketLogging" put_bucket_logging(PutBucketLoggingInput) -> PutBucketLoggingOutput, bucket, ops::logging::put;
    "GetBucketRequestPayment" get_bucket_request_payment(GetBucketRequestPaymentInput) -> GetBucketRequestPaymentOutput, bucket, ops::bucket::request_payment;
    "GetBucketAccelerateConfiguration" get_bucket_accelerate_configuration(GetBucketAccelerateConfigurationInput) -> GetBucketAccelerateConfigurationOutput, bucket, ops::bucket::accelerate;
    "GetBucketNotificationConfiguration" get_bucket_notification_configuration(GetBucketNotificationConfigurationInput) -> GetBucketNotificationConfigurationOutput, bucket, ops::notification::get;
    "PutBucketNotificationConfiguration" put_bucket_notification_configuration(PutBucketNotificationConfigurationInput) -> PutBucketNotificationConfigurationOutput, bucket, ops::notification::put;
    "GetBucketTagging" get_bucket_tagging(GetBucketTaggingInput) -> GetBucketTaggingOutput, bucket, ops::tagging::get_bucket;
    "PutBucketTagging" put_bucket_tagging(PutBucketTaggingInput) -> PutBucketTaggingOutput, bucket, ops::tagging::put_bucket;
    "DeleteBucketTagging" delete_bucket_tagging(DeleteBucketTaggingInput) -> DeleteBucketTaggingOutput, bucket, ops::tagging::delete_bucket;
    "ListObjects" list_objects(ListObjectsInput) -> ListObjectsOutput, bucket, ops::list::v1;
    "ListObjectsV2" list_objects_v2(ListObjectsV2Input) -> ListObjectsV2Output, bucket, ops::list::v2;
    "ListObjectVersions" list_object_versions(ListObjectVersionsInput) -> ListObjectVersionsOutput, bucket, ops::list_versions::list;
    "PutObject" put_object(PutObjectInput) -> PutObjectOutput, object, ops::put::put;
    "CopyObject" copy_object(CopyObjectInput) -> CopyObjectOutput, object, ops::copy::copy;
    "GetObject" get_object(GetObjectInput) -> GetObjectOutput, object, ops::get::get;
    "HeadObject" head_object(HeadObjectInput) -> HeadObjectOutput, object, ops::get::head;
    "GetObjectAttributes" get_object_attributes(GetObjectAttributesInput) -> GetObjectAttributesOutput, object, ops::attributes::get;
    "GetObjectAcl" get_object_acl(GetObjectAclInput) -> GetObjectAclOutput, object, ops::acl::get_object;
    "DeleteObject" delete_object(DeleteObjectInput) -> DeleteObjectOutput, object, ops::delete::one;
    "DeleteObjects" delete_objects(DeleteObjectsInput) -> DeleteObjectsOutput, bucket, ops::delete::many;
    "GetObjectTagging" get_object_tagging(GetObjectTaggingInput) -> GetObjectTaggingOutput, object, ops::tagging::get_object;
    "PutObjectTagging" put_object_tagging(PutObjectTaggingInput) -> PutObjectTaggingOutput, object, ops::tagging::put_object;
    "DeleteObjectTagging" delete_object_tagging(DeleteObjectTaggingInput) -> DeleteObjectTaggingOutput, object, ops::tagging::delete_object;
    "CreateMultipartUpload" create_multipart_upload(CreateMultipartUploadInput) -> CreateMultipartUploadOutput, object, ops::upload::create;
    "UploadPart" upload_part(UploadPartInput) -> UploadPartOutput, object, ops::upload::part;
    "UploadPartCopy" upload_part_copy(UploadPartCopyInput) -> UploadPartCopyOutput, object, ops::upload::part_copy;
    "CompleteMultipartUpload" complete_multipart_upload(CompleteMultipartUploadInput) -> CompleteMultipartUploadOutput, object, ops::complete::complete;
    "AbortMultipartUpload" abort_multipart_upload(AbortMultipartUploadInput) -> AbortMultipartUploadOutput, object, ops::upload::abort;
    "ListParts" list_parts(ListPartsInput) -> ListPartsOutput, object, ops::list_uploads::parts;
    "ListMultipartUploads" list_multipart_uploads(ListMultipartUploadsInput) -> ListMultipartUploadsOutput, bucket, ops::list_uploads::uploads;
}
