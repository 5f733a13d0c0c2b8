//! GetBucketLogging, PutBucketLogging.

use s3s::S3Response;
use s3s::dto::{
    GetBucketLoggingInput, GetBucketLoggingOutput, LoggingEnabled, PutBucketLoggingInput,
    PutBucketLoggingOutput, SimplePrefix, TargetObjectKeyFormat,
};

use crate::Error;
use crate::access_log::LogTarget;
use crate::ops::bucket::rehome;
use crate::service::Cx;

pub(crate) async fn get(
    cx: &Cx,
    _input: GetBucketLoggingInput,
) -> Result<S3Response<GetBucketLoggingOutput>, Error> {
    let logging_enabled = cx.home().await?.logging.clone().map(|target| LoggingEnabled {
        target_bucket: target.bucket,
        target_grants: None,
        target_object_key_format: target.simple_prefix.then_some(TargetObjectKeyFormat {
            partitioned_prefix: None,
            simple_prefix: Some(SimplePrefix {}),
        }),
        target_prefix: target.prefix,
    });
    Ok(S3Response::new(GetBucketLoggingOutput { logging_enabled }))
}

pub(crate) async fn put(
    cx: &Cx,
    input: PutBucketLoggingInput,
) -> Result<S3Response<PutBucketLoggingOutput>, Error> {
    let target = match input.bucket_logging_status.logging_enabled {
        None => None,
        Some(given) => {
            if given.target_grants.is_some_and(|grants| !grants.is_empty()) {
                return Err(Error::NotImplemented("TargetGrants".into()));
            }
            let format = given.target_object_key_format;
            if format.as_ref().is_some_and(|format| format.partitioned_prefix.is_some()) {
                return Err(Error::NotImplemented("PartitionedPrefix".into()));
            }
            let home = cx.inner.home(&given.target_bucket).await?;
            if home.is_none_or(|home| home.owner != cx.account()) {
                return Err(Error::InvalidLogTarget(given.target_bucket));
            }
            Some(LogTarget {
                bucket: given.target_bucket,
                prefix: given.target_prefix,
                simple_prefix: format.is_some_and(|format| format.simple_prefix.is_some()),
            })
        }
    };
    rehome(cx, move |home| {
        home.logging.clone_from(&target);
        Ok(())
    })
    .await?;
    Ok(S3Response::new(PutBucketLoggingOutput {}))
}
