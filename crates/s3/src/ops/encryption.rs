//! GetBucketEncryption, PutBucketEncryption, DeleteBucketEncryption: every object is sealed whatever a bucket says; it
//! says under which key those are that ask for none.

use s3s::S3Response;
use s3s::dto::{
    DeleteBucketEncryptionInput, DeleteBucketEncryptionOutput, GetBucketEncryptionInput,
    GetBucketEncryptionOutput, PutBucketEncryptionInput, PutBucketEncryptionOutput, ServerSideEncryption,
    ServerSideEncryptionByDefault, ServerSideEncryptionConfiguration, ServerSideEncryptionRule,
};

use crate::Error;
use crate::encryption::AskedKey;
use crate::ops::bucket::{configure, configured, rehome};
use crate::service::Cx;

pub(crate) async fn get(
    cx: &Cx,
    _input: GetBucketEncryptionInput,
) -> Result<S3Response<GetBucketEncryptionOutput>, Error> {
    let bucket = configured(cx).await?;
    let home = cx.home().await?;
    let (algorithm, key, bucket_key) = match &home.encryption {
        None => (ServerSideEncryption::AES256, None, bucket.bucket_key),
        Some(usual) => {
            (ServerSideEncryption::AWS_KMS, usual.key.clone(), usual.bucket_key.unwrap_or_default())
        }
    };
    let default = ServerSideEncryptionByDefault {
        kms_master_key_id: key,
        sse_algorithm: ServerSideEncryption::from_static(algorithm),
    };
    let rule = ServerSideEncryptionRule {
        apply_server_side_encryption_by_default: Some(default),
        bucket_key_enabled: Some(bucket_key),
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
    let bucket_key = rule.bucket_key_enabled.unwrap_or(false);
    let usual = match rule.apply_server_side_encryption_by_default {
        None => None,
        Some(default) => match default.sse_algorithm.as_str() {
            ServerSideEncryption::AES256 if default.kms_master_key_id.is_some() => {
                return Err(Error::argument(
                    "ApplyServerSideEncryptionByDefault",
                    "AES256",
                    "a KMSMasterKeyID is not applicable if the default sse algorithm is not aws:kms or aws:kms:dsse",
                ));
            }
            ServerSideEncryption::AES256 => None,
            ServerSideEncryption::AWS_KMS => {
                Some(AskedKey::of_bucket(default.kms_master_key_id.filter(|key| !key.is_empty()), bucket_key))
            }
            other if other.starts_with("aws:") => {
                return Err(Error::NotImplemented(format!("The default encryption `{other}`")));
            }
            _ => return Err(Error::MalformedXml),
        },
    };
    set(cx, bucket_key, usual).await?;
    Ok(S3Response::new(PutBucketEncryptionOutput {}))
}

pub(crate) async fn delete(
    cx: &Cx,
    _input: DeleteBucketEncryptionInput,
) -> Result<S3Response<DeleteBucketEncryptionOutput>, Error> {
    set(cx, false, None).await?;
    Ok(S3Response::new(DeleteBucketEncryptionOutput {}))
}

async fn set(cx: &Cx, bucket_key: bool, usual: Option<AskedKey>) -> Result<(), Error> {
    configure(cx, move |bucket| bucket.bucket_key = bucket_key).await?;
    rehome(cx, move |home| {
        home.encryption.clone_from(&usual);
        Ok(())
    })
    .await
}
