//! Object lock: the configuration of buckets, retention and legal hold of objects.

use s3s::S3Response;
use s3s::dto::{
    DefaultRetention as DefaultShape, GetObjectLegalHoldInput, GetObjectLegalHoldOutput,
    GetObjectLockConfigurationInput, GetObjectLockConfigurationOutput, GetObjectRetentionInput,
    GetObjectRetentionOutput, ObjectLockConfiguration, ObjectLockEnabled, ObjectLockLegalHold,
    ObjectLockLegalHoldStatus, ObjectLockRetention, ObjectLockRetentionMode, ObjectLockRule,
    PutObjectLegalHoldInput, PutObjectLegalHoldOutput, PutObjectLockConfigurationInput,
    PutObjectLockConfigurationOutput, PutObjectRetentionInput, PutObjectRetentionOutput,
};

use crate::lock::{self, BucketLock, DefaultRetention, Mode, Period};
use crate::ops::bucket::{absent, configured, try_configure};
use crate::ops::change::change;
use crate::ops::{seconds, timestamp};
use crate::service::Cx;
use crate::versions::Versioning;
use crate::{Error, read};

fn mode(mode: Mode) -> Option<ObjectLockRetentionMode> {
    Some(ObjectLockRetentionMode::from_static(mode.name()))
}

pub(crate) async fn get_configuration(
    cx: &Cx,
    _input: GetObjectLockConfigurationInput,
) -> Result<S3Response<GetObjectLockConfigurationOutput>, Error> {
    let lock = configured(cx).await?.lock.ok_or_else(|| {
        let message = "Object Lock configuration does not exist for this bucket";
        absent(cx, "ObjectLockConfigurationNotFoundError", message)
    })?;
    let rule = lock.default.map(|default| {
        let (days, years) = match default.period {
            Period::Days(days) => (Some(days), None),
            Period::Years(years) => (None, Some(years)),
        };
        ObjectLockRule { default_retention: Some(DefaultShape { days, mode: mode(default.mode), years }) }
    });
    let enabled = ObjectLockEnabled::from_static(ObjectLockEnabled::ENABLED);
    Ok(S3Response::new(GetObjectLockConfigurationOutput {
        object_lock_configuration: Some(ObjectLockConfiguration { object_lock_enabled: Some(enabled), rule }),
    }))
}

pub(crate) async fn put_configuration(
    cx: &Cx,
    input: PutObjectLockConfigurationInput,
) -> Result<S3Response<PutObjectLockConfigurationOutput>, Error> {
    let given = input.object_lock_configuration.ok_or(Error::MissingBody)?;
    if given.object_lock_enabled.as_ref().is_none_or(|enabled| enabled.as_str() != "Enabled") {
        return Err(Error::MalformedXml);
    }
    let default = match given.rule {
        None => None,
        Some(rule) => {
            let default = rule.default_retention.ok_or(Error::MalformedXml)?;
            let mode = default.mode.as_ref().and_then(|mode| Mode::of_name(mode.as_str()));
            let mode = mode.ok_or(Error::MalformedXml)?;
            let period = match (default.days, default.years) {
                (Some(days), None) if (1..=36_500).contains(&days) => Period::Days(days),
                (None, Some(years)) if (1..=100).contains(&years) => Period::Years(years),
                (Some(_), Some(_)) | (None, None) => return Err(Error::MalformedXml),
                (Some(_), None) | (None, Some(_)) => {
                    let message = "Default retention period must be a positive integer value.";
                    return Err(Error::argument("DefaultRetention", "", message));
                }
            };
            Some(DefaultRetention { mode, period })
        }
    };
    try_configure(cx, move |bucket| {
        if bucket.versioning != Versioning::Enabled {
            return Err(Error::InvalidBucketState(
                "Versioning must be 'Enabled' on the bucket to apply a Object Lock configuration",
            ));
        }
        bucket.lock = Some(BucketLock { default });
        Ok(())
    })
    .await?;
    Ok(S3Response::new(PutObjectLockConfigurationOutput::default()))
}

async fn locked(cx: &Cx) -> Result<(), Error> {
    configured(cx).await?.lock.map(drop).ok_or_else(lock::missing)
}

fn no_lock(cx: &Cx) -> Error {
    let message = "The specified object does not have a ObjectLock configuration";
    absent(cx, "NoSuchObjectLockConfiguration", message)
}

pub(crate) async fn get_retention(
    cx: &Cx,
    input: GetObjectRetentionInput,
) -> Result<S3Response<GetObjectRetentionOutput>, Error> {
    locked(cx).await?;
    let home = cx.home().await?;
    let found = read::find(&cx.inner, cx.address(&home, input.version_id.as_deref())?, false).await?;
    let retention = found.object.lock.retention.ok_or_else(|| no_lock(cx))?;
    Ok(S3Response::new(GetObjectRetentionOutput {
        retention: Some(ObjectLockRetention {
            mode: mode(retention.mode),
            retain_until_date: Some(timestamp(retention.until)),
        }),
    }))
}

pub(crate) async fn put_retention(
    cx: &Cx,
    input: PutObjectRetentionInput,
) -> Result<S3Response<PutObjectRetentionOutput>, Error> {
    locked(cx).await?;
    let home = cx.home().await?;
    let given = input.retention.ok_or(Error::MalformedXml)?;
    let mode = given.mode.as_ref().map(ObjectLockRetentionMode::as_str);
    let until = given.retain_until_date.as_ref().and_then(seconds);
    let retention = lock::of_body(mode, until, cx.now())?;
    let (now, bypass) = (cx.now().as_second(), cx.bypasses());
    let address = cx.address(&home, input.version_id.as_deref())?;
    change(cx, address, None, move |object| {
        object.lock.admits_retention(retention, now, bypass)?;
        object.lock.retention = retention;
        Ok(())
    })
    .await?;
    Ok(S3Response::new(PutObjectRetentionOutput::default()))
}

pub(crate) async fn get_hold(
    cx: &Cx,
    input: GetObjectLegalHoldInput,
) -> Result<S3Response<GetObjectLegalHoldOutput>, Error> {
    locked(cx).await?;
    let home = cx.home().await?;
    let found = read::find(&cx.inner, cx.address(&home, input.version_id.as_deref())?, false).await?;
    let hold = found.object.lock.hold.ok_or_else(|| no_lock(cx))?;
    let status = if hold { ObjectLockLegalHoldStatus::ON } else { ObjectLockLegalHoldStatus::OFF };
    let status = Some(ObjectLockLegalHoldStatus::from_static(status));
    Ok(S3Response::new(GetObjectLegalHoldOutput { legal_hold: Some(ObjectLockLegalHold { status }) }))
}

pub(crate) async fn put_hold(
    cx: &Cx,
    input: PutObjectLegalHoldInput,
) -> Result<S3Response<PutObjectLegalHoldOutput>, Error> {
    locked(cx).await?;
    let home = cx.home().await?;
    let status = input.legal_hold.and_then(|hold| hold.status).ok_or(Error::MalformedXml)?;
    let hold = match status.as_str() {
        ObjectLockLegalHoldStatus::ON => true,
        ObjectLockLegalHoldStatus::OFF => false,
        _ => return Err(Error::MalformedXml),
    };
    let address = cx.address(&home, input.version_id.as_deref())?;
    change(cx, address, None, move |object| {
        object.lock.hold = Some(hold);
        Ok(())
    })
    .await?;
    Ok(S3Response::new(PutObjectLegalHoldOutput::default()))
}
