//! PutBucketVersioning, GetBucketVersioning.

use s3s::S3Response;
use s3s::dto::{
    BucketVersioningStatus, GetBucketVersioningInput, GetBucketVersioningOutput, PutBucketVersioningInput,
    PutBucketVersioningOutput,
};
use store::Read;

use crate::Error;
use crate::ops::bucket::configured;
use crate::ops::install::bucket_of;
use crate::service::Cx;
use crate::tables::{self, BUCKETS, NAMES};
use crate::versions::Versioning;

pub(crate) async fn get(
    cx: &Cx,
    _input: GetBucketVersioningInput,
) -> Result<S3Response<GetBucketVersioningOutput>, Error> {
    let status = match configured(cx).await?.versioning {
        Versioning::Unset => None,
        Versioning::Enabled => Some(BucketVersioningStatus::from_static(BucketVersioningStatus::ENABLED)),
        Versioning::Suspended => Some(BucketVersioningStatus::from_static(BucketVersioningStatus::SUSPENDED)),
    };
    Ok(S3Response::new(GetBucketVersioningOutput { status, ..GetBucketVersioningOutput::default() }))
}

pub(crate) async fn put(
    cx: &Cx,
    input: PutBucketVersioningInput,
) -> Result<S3Response<PutBucketVersioningOutput>, Error> {
    let owner = cx.owner().await?;
    let configuration = input.versioning_configuration;
    if configuration.mfa_delete.is_some_and(|mfa| mfa.as_str() != "Disabled") {
        return Err(Error::NotImplemented("MfaDelete".into()));
    }
    let versioning = match configuration.status.as_ref().map(BucketVersioningStatus::as_str) {
        Some(BucketVersioningStatus::ENABLED) => Versioning::Enabled,
        Some(BucketVersioningStatus::SUSPENDED) => Versioning::Suspended,
        Some(_) => return Err(Error::MalformedXml),
        None => {
            let message = "The Versioning element must be specified";
            return Err(Error::IllegalVersioning(message));
        }
    };
    let name = input.bucket;
    let (bucket_key, name_key) = (tables::bucket_key(owner, &name), tables::name_key(&name));
    let reads = vec![Read::Key(bucket_key.clone()), Read::Key(name_key.clone())];
    cx.inner
        .store
        .transact(reads, move |pages, _| {
            let mut bucket = bucket_of(&pages[0], &name)?;
            let mut row = NAMES.first(&pages[1])?.ok_or_else(|| Error::NoSuchBucket(name.clone()))?.value;
            bucket.admits_versioning(versioning)?;
            bucket.versioning = versioning;
            row.versioned = true;
            let writes = vec![BUCKETS.put(bucket_key.clone(), &bucket), NAMES.put(name_key.clone(), &row)];
            Ok::<_, Error>((writes, ()))
        })
        .await?;
    Ok(S3Response::new(PutBucketVersioningOutput {}))
}
