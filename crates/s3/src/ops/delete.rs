//! DeleteObject, DeleteObjects: each key in one commit with its events and what it leaves behind.

use s3s::S3Response;
use s3s::dto::{
    DeleteObjectInput, DeleteObjectOutput, DeleteObjectsInput, DeleteObjectsOutput, DeletedObject,
    ETagCondition,
};
use store::{Page, Read, Version, Write};
use types::AccountId;

use crate::Error;
use crate::garbage::discard;
use crate::notify::{Cause, Change};
use crate::ops::conditions::WriteConditions;
use crate::ops::install::{bucket_of, remains};
use crate::service::Cx;
use crate::tables::{self, Bucket, Dead, OBJECTS};

/// How many keys one commit removes at most: it runs where every other commit waits.
const BATCH: usize = 250;

/// What removing one key writes; the page is that of its row.
struct Removal<'a> {
    owner: AccountId,
    bucket_name: &'a str,
    bucket: &'a Bucket,
    cause: &'a Cause,
    version: Version,
}

impl Removal<'_> {
    fn write(
        &self,
        key: &str,
        page: &Page,
        conditions: &WriteConditions,
        writes: &mut Vec<Write>,
        dead: &mut Vec<Dead>,
    ) -> Result<(), Error> {
        let current = OBJECTS.first(page)?;
        conditions.check(key, current.as_ref())?;
        let Some(current) = current else { return Ok(()) };
        match remains(self.owner, &current) {
            Some(blobs) => dead.push(blobs),
            None => writes.push(Write::Delete(tables::inline_key(self.owner, self.bucket_name, key))),
        }
        writes.push(Write::Delete(current.key));
        let change = Change {
            owner: self.owner,
            bucket: self.bucket_name,
            key,
            name: "ObjectRemoved:Delete",
            created: None,
        };
        writes.extend(change.deliveries(self.bucket, self.cause, self.version));
        Ok(())
    }
}

/// Keys with their conditions, and for each what came of it.
type Outcomes = Vec<(String, Result<(), Error>)>;

async fn remove(cx: &Cx, owner: AccountId, keys: Vec<(String, WriteConditions)>) -> Result<Outcomes, Error> {
    let bucket_name = cx.bucket().to_owned();
    let mut reads = vec![Read::Key(tables::bucket_key(owner, &bucket_name))];
    reads.extend(keys.iter().map(|(key, _)| Read::Key(tables::object_key(owner, &bucket_name, key))));
    let (cause, at_ms) = (cx.cause(), cx.now().as_millisecond());
    let (outcomes, littered) = cx
        .inner
        .store
        .transact(reads, move |pages, version| {
            let bucket = bucket_of(&pages[0], &bucket_name)?;
            let removal =
                Removal { owner, bucket_name: &bucket_name, bucket: &bucket, cause: &cause, version };
            let (mut writes, mut dead) = (Vec::new(), Vec::new());
            let outcomes: Outcomes = keys
                .iter()
                .zip(&pages[1..])
                .map(|((key, conditions), page)| {
                    (key.clone(), removal.write(key, page, conditions, &mut writes, &mut dead))
                })
                .collect();
            let littered = !dead.is_empty();
            writes.extend(discard(dead, at_ms));
            Ok::<_, Error>((writes, (outcomes, littered)))
        })
        .await?;
    if littered {
        cx.inner.wake.notify_one();
    }
    Ok(outcomes)
}

pub(crate) async fn one(cx: &Cx, input: DeleteObjectInput) -> Result<S3Response<DeleteObjectOutput>, Error> {
    let owner = cx.owner().await?;
    let conditions = WriteConditions::new(input.if_match, None)?;
    let mut outcomes = remove(cx, owner, vec![(input.key, conditions)]).await?;
    outcomes.swap_remove(0).1?;
    Ok(S3Response::new(DeleteObjectOutput::default()))
}

pub(crate) async fn many(
    cx: &Cx,
    input: DeleteObjectsInput,
) -> Result<S3Response<DeleteObjectsOutput>, Error> {
    let owner = cx.owner().await?;
    let quiet = input.delete.quiet.unwrap_or(false);
    let mut outcomes = Outcomes::new();
    let mut keys = Vec::new();
    // A key named twice is removed once, and answered once.
    let mut seen = std::collections::HashSet::new();
    for object in input.delete.objects {
        let version = object.version_id.filter(|version| version != "null");
        let refused = if let Some(version) = version {
            Some(Error::NoSuchVersion { key: object.key.clone(), version })
        } else if object.size.is_some() || object.last_modified_time.is_some() {
            Some(Error::NotImplemented("Deleting on condition of a size or a time".into()))
        } else if object.key.len() > super::MAX_KEY_BYTES {
            Some(Error::KeyTooLong { size: object.key.len() })
        } else {
            None
        };
        match refused {
            Some(error) => outcomes.push((object.key, Err(error))),
            None if seen.insert(object.key.clone()) => {
                let conditions = WriteConditions::new(object.e_tag.map(ETagCondition::ETag), None)?;
                keys.push((object.key, conditions));
            }
            None => {}
        }
    }
    while !keys.is_empty() {
        let rest = keys.split_off(keys.len().min(BATCH));
        outcomes.extend(remove(cx, owner, std::mem::replace(&mut keys, rest)).await?);
    }
    let (mut deleted, mut errors) = (Vec::new(), Vec::new());
    for (key, outcome) in outcomes {
        match outcome {
            Ok(()) => deleted.push(DeletedObject { key: Some(key), ..DeletedObject::default() }),
            Err(error) => {
                let error = aws::Error::from(error);
                errors.push(s3s::dto::Error {
                    code: Some(error.code.into_owned()),
                    key: Some(key),
                    message: Some(error.message),
                    version_id: None,
                });
            }
        }
    }
    if quiet {
        deleted.clear();
    }
    Ok(S3Response::new(DeleteObjectsOutput {
        deleted: Some(deleted),
        errors: Some(errors),
        ..DeleteObjectsOutput::default()
    }))
}
