//! ListBuckets, CreateBucket, HeadBucket, DeleteBucket, and what a bucket says of itself without having been
//! configured.

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue};
use s3s::S3Response;
use s3s::dto::{
    Bucket as BucketShape, BucketLocationConstraint, CreateBucketInput, CreateBucketOutput,
    DeleteBucketInput, DeleteBucketOutput, GetBucketAccelerateConfigurationInput,
    GetBucketAccelerateConfigurationOutput, GetBucketLocationInput, GetBucketLocationOutput,
    GetBucketRequestPaymentInput, GetBucketRequestPaymentOutput, HeadBucketInput, HeadBucketOutput,
    ListBucketsInput, ListBucketsOutput, ObjectOwnership, Payer,
};
use store::key::after;
use store::{Read, Write};

use crate::Error;
use crate::access::{self, Kind, Ownership};
use crate::garbage::discard;
use crate::lock::BucketLock;
use crate::ops::install::bucket_of;
use crate::ops::{owner, precise};
use crate::service::Cx;
use crate::tables::{self, BUCKETS, Bucket, Dead, NAMES, NameRow, OBJECTS, UPLOADS, VERSIONS};
use crate::versions::Versioning;

/// The most buckets on a page of ListBuckets, and what it is without being asked for.
const MAX_BUCKETS: usize = 10_000;
/// A bucket with more uploads under way than this is not empty.
const MAX_UPLOADS_DROPPED: usize = 1000;

pub(crate) async fn list(cx: &Cx, input: ListBucketsInput) -> Result<S3Response<ListBucketsOutput>, Error> {
    let account = cx.account();
    let region = cx.inner.region.as_str().to_owned();
    let limit = match input.max_buckets.map(usize::try_from) {
        None => MAX_BUCKETS,
        Some(Ok(limit)) if (1..=MAX_BUCKETS).contains(&limit) => limit,
        Some(_) => {
            let message = "Argument max-buckets must be an integer between 1 and 10000";
            return Err(Error::argument("max-buckets", input.max_buckets.unwrap_or(0).to_string(), message));
        }
    };
    let prefix = input.prefix.clone().unwrap_or_default();
    let mut range = BUCKETS.range(account, limit, |k| {
        // Bucket names hold no zero bytes, so a prefix needs no escaping.
        k.raw(prefix.as_bytes());
    });
    if let Some(token) = &input.continuation_token {
        range.start = range.start.max(after(&tables::bucket_key(account, token)));
    }
    let elsewhere = input.bucket_region.as_ref().is_some_and(|wanted| *wanted != region);
    let (rows, more) =
        if elsewhere { (Vec::new(), false) } else { BUCKETS.scan(&cx.inner.store, range).await? };
    let mut buckets = Vec::with_capacity(rows.len());
    for row in rows {
        let name = tables::bucket_in(&row.key)?;
        buckets.push(BucketShape {
            bucket_region: Some(region.clone()),
            creation_date: Some(precise(row.value.created_at)),
            name: Some(name),
        });
    }
    let continuation_token = if more { buckets.last().and_then(|b| b.name.clone()) } else { None };
    Ok(S3Response::new(ListBucketsOutput {
        buckets: Some(buckets),
        continuation_token,
        owner: Some(owner(account)),
        prefix: input.prefix,
    }))
}

pub(crate) async fn create(
    cx: &Cx,
    input: CreateBucketInput,
) -> Result<S3Response<CreateBucketOutput>, Error> {
    let region = cx.inner.region.as_str();
    let configuration = input.create_bucket_configuration.unwrap_or_default();
    if configuration.bucket.is_some() || configuration.location.is_some() {
        return Err(Error::NotImplemented("A directory bucket".into()));
    }
    let constraint = configuration.location_constraint.as_ref().map(BucketLocationConstraint::as_str);
    match constraint.filter(|constraint| !constraint.is_empty()) {
        None if region == "us-east-1" => {}
        None => {
            return Err(Error::IllegalLocationConstraint(
                "The unspecified location constraint is incompatible for the region specific endpoint this request was sent to.".into(),
            ));
        }
        Some("us-east-1") if region == "us-east-1" => {
            return Err(Error::InvalidLocationConstraint("us-east-1".into()));
        }
        Some(constraint) if constraint == region => {}
        Some(constraint) => {
            return Err(Error::IllegalLocationConstraint(format!(
                "The {constraint} location constraint is incompatible for the region specific endpoint this request was sent to."
            )));
        }
    }
    let (account, name) = (cx.account(), input.bucket.clone());
    let mut row = Bucket::new(cx.now());
    let mut name_row = named(cx, &input.object_ownership)?;
    if input.object_lock_enabled_for_bucket.unwrap_or(false) {
        row.lock = Some(BucketLock::default());
        row.versioning = Versioning::Enabled;
        name_row.versioned = true;
    }
    let again_is_fine = region == "us-east-1";
    let reads = vec![Read::Key(tables::name_key(&name))];
    cx.inner
        .store
        .transact(reads, move |pages, _| match NAMES.first(&pages[0])? {
            None => Ok((
                vec![
                    NAMES.put(tables::name_key(&name), &name_row),
                    BUCKETS.put(tables::bucket_key(account, &name), &row),
                ],
                (),
            )),
            // The region that was S3's first still answers as S3 did at first.
            Some(taken) if taken.value.owner == account && again_is_fine => Ok((Vec::new(), ())),
            Some(taken) if taken.value.owner == account => Err(Error::BucketAlreadyOwnedByYou(name.clone())),
            Some(_) => Err(Error::BucketAlreadyExists(name.clone())),
        })
        .await?;
    Ok(S3Response::new(CreateBucketOutput { location: Some(format!("/{}", input.bucket)) }))
}

pub(crate) async fn head(cx: &Cx, _input: HeadBucketInput) -> Result<S3Response<HeadBucketOutput>, Error> {
    cx.owner().await?;
    let region = cx.inner.region.as_str().to_owned();
    let output = HeadBucketOutput { bucket_region: Some(region), ..HeadBucketOutput::default() };
    let mut headers = HeaderMap::new();
    headers.insert("x-amz-access-point-alias", HeaderValue::from_static("false"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    Ok(S3Response::with_headers(output, headers))
}

pub(crate) async fn delete(
    cx: &Cx,
    input: DeleteBucketInput,
) -> Result<S3Response<DeleteBucketOutput>, Error> {
    let account = cx.owner().await?;
    let (name, at_ms) = (input.bucket, cx.now().as_millisecond());
    let objects = OBJECTS.range(account, 1, |k| {
        k.text(&name);
    });
    let uploads = UPLOADS.range(account, MAX_UPLOADS_DROPPED, |k| {
        k.text(&name);
    });
    let versions = VERSIONS.range(account, 1, |k| {
        k.text(&name);
    });
    let reads = vec![
        Read::Key(tables::bucket_key(account, &name)),
        Read::Range(objects),
        Read::Range(uploads),
        Read::Range(versions),
    ];
    cx.inner
        .store
        .transact(reads, move |pages, _| {
            if pages[0].entries.is_empty() {
                return Err(Error::NoSuchBucket(name.clone()));
            }
            if !pages[3].entries.is_empty() {
                return Err(Error::VersionsInBucket(name.clone()));
            }
            if !pages[1].entries.is_empty() || pages[2].more {
                return Err(Error::BucketNotEmpty(name.clone()));
            }
            let mut writes = vec![
                Write::Delete(tables::name_key(&name)),
                Write::Delete(tables::bucket_key(account, &name)),
                Write::Delete(tables::chore_key(&name)),
            ];
            let mut dead = Vec::new();
            for entry in &pages[2].entries {
                let upload = tables::upload_in(&entry.key)?;
                writes.push(Write::Delete(entry.key.clone()));
                dead.push(Dead::Upload { account, id: upload });
            }
            writes.extend(discard(dead, at_ms));
            Ok((writes, ()))
        })
        .await?;
    cx.inner.wake.notify_one();
    Ok(S3Response::new(DeleteBucketOutput {}))
}

/// What the name of a new bucket says.
fn named(cx: &Cx, ownership: &Option<ObjectOwnership>) -> Result<NameRow, Error> {
    let mut row = NameRow::new(cx.account());
    if let Some(ownership) = ownership {
        let value = ownership.as_str();
        let invalid =
            || Error::argument("x-amz-object-ownership", value, "Invalid x-amz-object-ownership header");
        row.ownership = Some(Ownership::of_name(value).ok_or_else(invalid)?);
    }
    row.acl = access::of_headers(&cx.state.headers, Kind::Bucket, row.owner)?.unwrap_or_default();
    if !row.acl.is_empty() && row.ownership() == Ownership::BucketOwnerEnforced {
        return Err(Error::InvalidBucketAcl(
            "InvalidBucketAclWithObjectOwnership",
            "Bucket cannot have ACLs set with ObjectOwnership's BucketOwnerEnforced setting",
        ));
    }
    if access::is_public(&row.acl) {
        return Err(Error::InvalidBucketAcl(
            "InvalidBucketAclWithBlockPublicAccessError",
            "Bucket cannot have public ACLs set with BlockPublicAccess enabled",
        ));
    }
    Ok(row)
}

/// Changes what every request to the request's bucket has to know, in one commit.
pub(crate) async fn rehome(
    cx: &Cx,
    change: impl Fn(&mut NameRow) -> Result<(), Error> + Send + 'static,
) -> Result<(), Error> {
    let owner = cx.owner().await?;
    let name = cx.bucket().to_owned();
    let key = tables::name_key(&name);
    cx.inner
        .store
        .transact(vec![Read::Key(key.clone())], move |pages, _| {
            let row = NAMES.first(&pages[0])?.filter(|row| row.value.owner == owner);
            let mut row = row.ok_or_else(|| Error::NoSuchBucket(name.clone()))?.value;
            change(&mut row)?;
            Ok((vec![NAMES.put(key.clone(), &row)], ()))
        })
        .await
}

/// A configuration that the request's bucket does not have.
pub(crate) fn absent(cx: &Cx, code: &'static str, message: &'static str) -> Error {
    Error::Absent { code, message, bucket: cx.bucket().to_owned() }
}

/// What the request's bucket is configured with.
pub(crate) async fn configured(cx: &Cx) -> Result<Bucket, Error> {
    let owner = cx.owner().await?;
    let row = BUCKETS.get(&cx.inner.store, tables::bucket_key(owner, cx.bucket())).await?;
    Ok(row.ok_or_else(|| Error::NoSuchBucket(cx.bucket().to_owned()))?.value)
}

/// Changes what the request's bucket is configured with, in one commit.
pub(crate) async fn configure(cx: &Cx, change: impl Fn(&mut Bucket) + Send + 'static) -> Result<(), Error> {
    try_configure(cx, move |bucket| {
        change(bucket);
        Ok(())
    })
    .await
}

/// The same, where the change may not be possible.
pub(crate) async fn try_configure(
    cx: &Cx,
    change: impl Fn(&mut Bucket) -> Result<(), Error> + Send + 'static,
) -> Result<(), Error> {
    let owner = cx.owner().await?;
    let name = cx.bucket().to_owned();
    let key = tables::bucket_key(owner, &name);
    cx.inner
        .store
        .transact(vec![Read::Key(key.clone())], move |pages, _| {
            let mut bucket = bucket_of(&pages[0], &name)?;
            change(&mut bucket)?;
            Ok::<_, Error>((vec![BUCKETS.put(key.clone(), &bucket)], ()))
        })
        .await
}

pub(crate) async fn location(
    cx: &Cx,
    _input: GetBucketLocationInput,
) -> Result<S3Response<GetBucketLocationOutput>, Error> {
    cx.owner().await?;
    let region = cx.inner.region.as_str();
    let location_constraint =
        (region != "us-east-1").then(|| BucketLocationConstraint::from(region.to_owned()));
    Ok(S3Response::new(GetBucketLocationOutput { location_constraint }))
}

pub(crate) async fn request_payment(
    cx: &Cx,
    _input: GetBucketRequestPaymentInput,
) -> Result<S3Response<GetBucketRequestPaymentOutput>, Error> {
    cx.owner().await?;
    let payer = Some(Payer::from_static(Payer::BUCKET_OWNER));
    Ok(S3Response::new(GetBucketRequestPaymentOutput { payer }))
}

pub(crate) async fn accelerate(
    cx: &Cx,
    _input: GetBucketAccelerateConfigurationInput,
) -> Result<S3Response<GetBucketAccelerateConfigurationOutput>, Error> {
    cx.owner().await?;
    Ok(S3Response::new(GetBucketAccelerateConfigurationOutput::default()))
}
