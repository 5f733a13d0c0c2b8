//! Tags of objects and of buckets.

use s3s::S3Response;
use s3s::dto::{
    DeleteBucketTaggingInput, DeleteBucketTaggingOutput, DeleteObjectTaggingInput, DeleteObjectTaggingOutput,
    GetBucketTaggingInput, GetBucketTaggingOutput, GetObjectTaggingInput, GetObjectTaggingOutput,
    PutBucketTaggingInput, PutBucketTaggingOutput, PutObjectTaggingInput, PutObjectTaggingOutput, Tag,
    Tagging,
};
use s3s::xml::Deserialize;
use store::Read;

use crate::ops::change::change;
use crate::ops::install::bucket_of;
use crate::route::Query;
use crate::service::Cx;
use crate::tables::{self, BUCKETS};
use crate::{Error, read, versions};

type Tags = Vec<(String, String)>;

const MAX_OBJECT_TAGS: usize = 10;
const MAX_BUCKET_TAGS: usize = 50;

fn valid(tags: Tags, limit: usize) -> Result<Tags, Error> {
    if tags.len() > limit {
        return Err(Error::TooManyTags { limit });
    }
    for (i, (key, value)) in tags.iter().enumerate() {
        if key.starts_with("aws:") {
            return Err(Error::InvalidTag(match limit {
                MAX_BUCKET_TAGS => "System tags cannot be added/updated by requester".into(),
                _ => "Your TagKey cannot be prefixed with aws:".into(),
            }));
        }
        let fits = |text: &str| {
            text.chars().all(|c| c.is_alphanumeric() || c.is_whitespace() || "+-=._:/@".contains(c))
        };
        if key.is_empty() || key.chars().count() > 128 || !fits(key) {
            return Err(Error::InvalidTag("The TagKey you have provided is invalid".into()));
        }
        if value.chars().count() > 256 || !fits(value) {
            return Err(Error::InvalidTag("The TagValue you have provided is invalid".into()));
        }
        if tags[..i].iter().any(|(other, _)| other == key) {
            return Err(Error::InvalidTag("Cannot provide multiple Tags with the same key".into()));
        }
    }
    Ok(tags)
}

/// The tags in an `x-amz-tagging` header.
pub(crate) fn of_header(header: Option<&str>) -> Result<Tags, Error> {
    valid(Query::parse(header.unwrap_or_default()).into_pairs(), MAX_OBJECT_TAGS)
}

/// The tags in a document, as a form has them.
pub(crate) fn of_document(xml: &[u8]) -> Result<Tags, Error> {
    let mut reader = s3s::xml::Deserializer::new(xml);
    let tagging = Tagging::deserialize(&mut reader).map_err(|_| Error::MalformedXml)?;
    of_shape(tagging.tag_set, MAX_OBJECT_TAGS)
}

fn of_shape(tags: Vec<Tag>, limit: usize) -> Result<Tags, Error> {
    let pairs = tags.into_iter().map(|tag| (tag.key.unwrap_or_default(), tag.value.unwrap_or_default()));
    valid(pairs.collect(), limit)
}

/// Tags as documents have them.
pub(crate) fn shape(tags: Tags) -> Vec<Tag> {
    tags.into_iter().map(|(key, value)| Tag { key: Some(key), value: Some(value) }).collect()
}

pub(crate) async fn get_object(
    cx: &Cx,
    input: GetObjectTaggingInput,
) -> Result<S3Response<GetObjectTaggingOutput>, Error> {
    let home = cx.home().await?;
    let address = cx.address(&home, input.version_id.as_deref())?;
    let object = read::find(&cx.inner, address, false).await?.object;
    let version_id = home.versioned.then(|| versions::name(object.version));
    Ok(S3Response::new(GetObjectTaggingOutput { tag_set: shape(object.tags), version_id }))
}

/// Sets the tags of an object's version, and says which.
async fn set_object(
    cx: &Cx,
    version: Option<&str>,
    event: &'static str,
    tags: Tags,
) -> Result<Option<String>, Error> {
    let home = cx.home().await?;
    let address = cx.address(&home, version)?;
    let changed = change(cx, address, Some(event), move |object| {
        object.tags.clone_from(&tags);
        Ok(())
    });
    let version = changed.await?.version;
    Ok(home.versioned.then(|| versions::name(version)))
}

pub(crate) async fn put_object(
    cx: &Cx,
    input: PutObjectTaggingInput,
) -> Result<S3Response<PutObjectTaggingOutput>, Error> {
    let tags = of_shape(input.tagging.tag_set, MAX_OBJECT_TAGS)?;
    let version_id = set_object(cx, input.version_id.as_deref(), "ObjectTagging:Put", tags).await?;
    Ok(S3Response::new(PutObjectTaggingOutput { version_id }))
}

pub(crate) async fn delete_object(
    cx: &Cx,
    input: DeleteObjectTaggingInput,
) -> Result<S3Response<DeleteObjectTaggingOutput>, Error> {
    let version = input.version_id.as_deref();
    let version_id = set_object(cx, version, "ObjectTagging:Delete", Vec::new()).await?;
    Ok(S3Response::new(DeleteObjectTaggingOutput { version_id }))
}

pub(crate) async fn get_bucket(
    cx: &Cx,
    input: GetBucketTaggingInput,
) -> Result<S3Response<GetBucketTaggingOutput>, Error> {
    let owner = cx.owner().await?;
    let row = BUCKETS.get(&cx.inner.store, tables::bucket_key(owner, &input.bucket)).await?;
    let tags = row.ok_or_else(|| Error::NoSuchBucket(input.bucket.clone()))?.value.tags;
    if tags.is_empty() {
        let message = "The TagSet does not exist";
        return Err(Error::Absent { code: "NoSuchTagSet", message, bucket: input.bucket });
    }
    Ok(S3Response::new(GetBucketTaggingOutput { tag_set: shape(tags) }))
}

async fn set_bucket(cx: &Cx, tags: Tags) -> Result<(), Error> {
    let owner = cx.owner().await?;
    let name = cx.bucket().to_owned();
    let key = tables::bucket_key(owner, &name);
    cx.inner
        .store
        .transact(vec![Read::Key(key.clone())], move |pages, _| {
            let mut bucket = bucket_of(&pages[0], &name)?;
            bucket.tags.clone_from(&tags);
            Ok::<_, Error>((vec![BUCKETS.put(key.clone(), &bucket)], ()))
        })
        .await
}

pub(crate) async fn put_bucket(
    cx: &Cx,
    input: PutBucketTaggingInput,
) -> Result<S3Response<PutBucketTaggingOutput>, Error> {
    set_bucket(cx, of_shape(input.tagging.tag_set, MAX_BUCKET_TAGS)?).await?;
    Ok(S3Response::new(PutBucketTaggingOutput {}))
}

pub(crate) async fn delete_bucket(
    cx: &Cx,
    _input: DeleteBucketTaggingInput,
) -> Result<S3Response<DeleteBucketTaggingOutput>, Error> {
    set_bucket(cx, Vec::new()).await?;
    Ok(S3Response::new(DeleteBucketTaggingOutput {}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_not_too_many() {
        let tags = |count: usize| (0..count).map(|n| (n.to_string(), String::new())).collect::<Tags>();
        assert!(valid(tags(10), MAX_OBJECT_TAGS).is_ok());
        let error = aws::Error::from(valid(tags(11), MAX_OBJECT_TAGS).unwrap_err());
        assert_eq!((error.status, &*error.code), (400, "BadRequest"));
        assert_eq!(error.message, "Object tags cannot be greater than 10");
    }
}
