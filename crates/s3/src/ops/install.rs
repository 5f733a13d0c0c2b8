//! The one commit by which an object appears: metadata, bytes or the names of their blobs, what it replaces,
//! and the events it causes.

use blobs::BlobId;
use bytes::Bytes;
use store::{Page, Read, Stored, Version, Write};
use types::AccountId;

use crate::Error;
use crate::garbage::{discard, litters};
use crate::notify::{Cause, Change};
use crate::ops::conditions::WriteConditions;
use crate::service::Cx;
use crate::tables::{self, BUCKETS, Bucket, Data, Dead, OBJECTS, Object};

/// What becomes of the bytes.
#[derive(Debug, Clone)]
pub(crate) enum Placement {
    /// They are this row.
    Inline(Bytes),
    /// They are in a blob, or in the blobs of a list that is written along.
    Elsewhere,
    /// They stay as they are, on condition that the object is still the one of this version.
    Kept(Version),
}

/// An object about to appear.
#[derive(Debug, Clone)]
pub(crate) struct Install {
    pub(crate) owner: AccountId,
    pub(crate) bucket: String,
    pub(crate) key: String,
    pub(crate) object: Object,
    pub(crate) bytes: Placement,
    pub(crate) conditions: WriteConditions,
    /// `ObjectCreated:...`.
    pub(crate) event: &'static str,
    pub(crate) cause: Cause,
    pub(crate) at_ms: i64,
    /// Writes that come along: a pending blob settled, an upload ended.
    pub(crate) along: Vec<Write>,
    /// Garbage that comes along.
    pub(crate) dead: Vec<Dead>,
}

/// The object was replaced between being read and being committed.
pub(crate) struct Replaced;

impl Install {
    /// What the decision depends on: the bucket, and what is there now.
    pub(crate) fn reads(&self) -> Vec<Read> {
        vec![
            Read::Key(tables::bucket_key(self.owner, &self.bucket)),
            Read::Key(tables::object_key(self.owner, &self.bucket, &self.key)),
        ]
    }

    /// The writes, from the pages of [`Install::reads`].
    pub(crate) fn decide(
        &self,
        pages: &[Page],
        version: Version,
    ) -> Result<Result<Vec<Write>, Replaced>, Error> {
        let bucket = bucket_of(&pages[0], &self.bucket)?;
        let current = OBJECTS.first(&pages[1])?;
        self.conditions.check(&self.key, current.as_ref())?;
        let object_key = tables::object_key(self.owner, &self.bucket, &self.key);
        let mut writes = vec![OBJECTS.put(object_key, &self.object)];
        let mut dead = self.dead.clone();
        match (&self.bytes, &current) {
            (Placement::Kept(kept), Some(current)) if current.version == *kept => {}
            (Placement::Kept(_), _) => return Ok(Err(Replaced)),
            (Placement::Inline(bytes), _) => {
                let key = tables::inline_key(self.owner, &self.bucket, &self.key);
                writes.push(Write::Put(key, bytes.clone()));
                dead.extend(current.as_ref().and_then(|current| remains(self.owner, current)));
            }
            (Placement::Elsewhere, Some(current)) => match remains(self.owner, current) {
                Some(blobs) => dead.push(blobs),
                None => writes.push(Write::Delete(tables::inline_key(self.owner, &self.bucket, &self.key))),
            },
            (Placement::Elsewhere, None) => {}
        }
        writes.extend(self.along.iter().cloned());
        writes.extend(discard(dead, self.at_ms));
        let change = Change {
            owner: self.owner,
            bucket: &self.bucket,
            key: &self.key,
            name: self.event,
            created: Some((self.object.size, &self.object.etag)),
        };
        writes.extend(change.deliveries(&bucket, &self.cause, version));
        Ok(Ok(writes))
    }

    /// Commits.
    pub(crate) async fn commit(self, cx: &Cx) -> Result<Result<(), Replaced>, Error> {
        let (outcome, littered) = cx
            .inner
            .store
            .transact(self.reads(), move |pages, version| match self.decide(pages, version)? {
                Ok(writes) => {
                    let littered = litters(&writes);
                    Ok((writes, (Ok(()), littered)))
                }
                Err(replaced) => Ok::<_, Error>((Vec::new(), (Err(replaced), false))),
            })
            .await?;
        if littered {
            cx.inner.wake.notify_one();
        }
        Ok(outcome)
    }
}

/// The bucket in a page that was read by its key.
pub(crate) fn bucket_of(page: &Page, name: &str) -> Result<Bucket, Error> {
    Ok(BUCKETS.first(page)?.ok_or_else(|| Error::NoSuchBucket(name.to_owned()))?.value)
}

/// What is left when an object goes; `None` if its bytes are a row.
pub(crate) fn remains(owner: AccountId, object: &Stored<Object>) -> Option<Dead> {
    match object.value.data {
        Data::Inline => None,
        Data::Blob(id) => Some(Dead::Blob(id)),
        Data::Parts(id) => Some(Dead::Parts { account: owner, id }),
    }
}

/// Where the bytes of a body that was taken in are, for the object's row and its commit.
pub(crate) fn placed(content: &crate::ingest::Content) -> (Data, Placement, Vec<Write>) {
    match content {
        crate::ingest::Content::Inline(bytes) => (Data::Inline, Placement::Inline(bytes.clone()), Vec::new()),
        crate::ingest::Content::Blob(writing) => {
            let id: BlobId = writing.id;
            (Data::Blob(id), Placement::Elsewhere, vec![writing.settle()])
        }
    }
}

/// The commit that made a body's bytes visible is done.
pub(crate) fn settled(content: crate::ingest::Content) {
    match content {
        crate::ingest::Content::Inline(_) => {}
        crate::ingest::Content::Blob(writing) => writing.settled(),
    }
}
