//! GetBucketEncryption, PutBucketEncryption, DeleteBucketEncryption: every object is sealed whatever a bucket says
//! (SSE-S3, unless its uploader brings a key), so there is one rule that a bucket can have.

use s3s::S3Response;
use s3s::dto::{
    DeleteBucketEncryptionInput, DeleteBucketEncryptionOutput, GetBucketEncryptionInput,
    GetBucketEncryptionOutput, PutBucketEncryptionInput, PutBucketEncryptionOutput, ServerSideEncryption,
    ServerSideEncryptionByDefault, ServerSideEncryptionConfiguration, ServerSideEncryptionRule,
};

use crate::Error;
use crate::ops::bucket::{configure, configured};
use crate::service::Cx;

pub(crate) async fn get(
    cx: &Cx,
    _input: GetBucketEncryptionInput,
) -> Result<S3Response<GetBucketEncryptionOutput>, Error> {
    let bucket = configured(cx).await?;
    let default = ServerSideEncryptionByDefault {
        kms_master_key_id: None,
        sse_algorithm: ServerSideEncryption::from_static(ServerSideEncryption::AES256),
    };
    let rule = ServerSideEncryptionRule {
        apply_server_side_encryption_by_default: Some(default),
        bucket_key_enabled: Some(bucket.bucket_key),
    };
    Ok(S3Response::new(GetBucketEncryptionOutput {
        server_side_encryption_configuration: Some(ServerSideEncryptionConfiguration { rules: vec![rule] }),
    }))
}

pub(crate) async fn put(
    cx: &Cx,
    input: PutBucketEncryptionInput,
) -> Result<S3Response<PutBucketEncryptionOutput>, Error> {
    let mut rules = input.server_side_encryption_configuration.rules.into_iter();
    let (Some(rule), None) = (rules.next(), rules.next()) else { return Err(Error::MalformedXml) };
    if let Some(default) = rule.apply_server_side_encryption_by_default {
        match default.sse_algorithm.as_str() {
            ServerSideEncryption::AES256 if default.kms_master_key_id.is_some() => {
                return Err(Error::argument(
                    "ApplyServerSideEncryptionByDefault",
                    "AES256",
                    "a KMSMasterKeyID is not applicable if the default sse algorithm is not aws:kms or aws:kms:dsse",
                ));
            }
            ServerSideEncryption::AES256 => {}
            kms if kms.starts_with("aws:") => {
                return Err(Error::NotImplemented(format!("The default encryption `{kms}`")));
            }
            _ => return Err(Error::MalformedXml),
        }
    }
    let bucket_key = rule.bucket_key_enabled.unwrap_or(false);
    configure(cx, move |bucket| bucket.bucket_key = bucket_key).await?;
    Ok(S3Response::new(PutBucketEncryptionOutput {}))
}

pub(crate) async fn delete(
    cx: &Cx,
    _input: DeleteBucketEncryptionInput,
) -> Result<S3Response<DeleteBucketEncryptionOutput>, Error> {
    configure(cx, |bucket| bucket.bucket_key = false).await?;
    Ok(S3Response::new(DeleteBucketEncryptionOutput {}))
}
