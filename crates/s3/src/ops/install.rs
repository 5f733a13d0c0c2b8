//! The one commit by which an object appears: metadata, bytes or the names of their blobs, what it replaces,
//! and the events it causes.

use std::sync::Arc;

use blobs::BlobId;
use bytes::Bytes;
use store::{Key, Page, Read, Version, Write};
use types::AccountId;

use crate::garbage::discard;
use crate::notify::{Cause, Change};
use crate::ops::conditions::WriteConditions;
use crate::service::Inner;
use crate::tables::{self, BUCKETS, Bucket, Data, Dead, NULLS, OBJECTS, Object};
use crate::versions::{NeedsNull, Rewritten, Slot, VersionId, Versioning};
use crate::{Error, versions};

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
    /// Its version is decided with the commit.
    pub(crate) object: Object,
    pub(crate) bytes: Placement,
    pub(crate) conditions: WriteConditions,
    /// `ObjectCreated:...`.
    pub(crate) event: &'static str,
    pub(crate) cause: Cause,
    pub(crate) at_ms: i64,
    /// For the version's id.
    pub(crate) noise: u64,
    /// Only if this row is still of that version.
    pub(crate) unchanged: Option<(Key, Version)>,
    /// Writes that come along: a pending blob settled, an upload ended.
    pub(crate) along: Vec<Write>,
    /// Garbage that comes along.
    pub(crate) dead: Vec<Dead>,
}

/// What the decision depends on was replaced between being read and being committed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Replaced;

/// What a try to commit came to.
enum Outcome {
    Done { installed: Installed, littered: bool },
    Replaced,
    Again(NeedsNull),
}

/// What is known of an object once it is there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Installed {
    pub(crate) version: Option<VersionId>,
    /// Whether its bucket keeps versions, or ever did.
    pub(crate) versioned: bool,
}

impl Installed {
    /// The version's id as answers show it.
    pub(crate) fn shown(self) -> Option<String> {
        self.versioned.then(|| versions::name(self.version))
    }
}

impl Install {
    fn reads(&self, with_null: bool) -> Vec<Read> {
        let mut reads = vec![
            Read::Key(tables::bucket_key(self.owner, &self.bucket)),
            Read::Key(tables::object_key(self.owner, &self.bucket, &self.key)),
        ];
        reads.extend(self.unchanged.iter().map(|(key, _)| Read::Key(key.clone())));
        if with_null {
            reads.push(Read::Key(tables::null_key(self.owner, &self.bucket, &self.key)));
        }
        reads
    }

    fn decide(
        &self,
        pages: &[Page],
        version: Version,
        with_null: bool,
    ) -> Result<(Vec<Write>, Outcome), Error> {
        let nothing = |outcome| Ok((Vec::new(), outcome));
        if let Some((_, read_at)) = &self.unchanged
            && pages[2].first().is_none_or(|entry| entry.version != *read_at)
        {
            return nothing(Outcome::Replaced);
        }
        let bucket = bucket_of(&pages[0], &self.bucket)?;
        let current = OBJECTS.first(&pages[1])?;
        self.conditions.check(&self.key, current.as_ref())?;
        let null = match pages.last() {
            Some(page) if with_null => Some(NULLS.first(page)?.map(|row| row.value)),
            Some(_) | None => None,
        };
        let rewritten = match &self.bytes {
            Placement::Inline(_) => Rewritten::Row,
            Placement::Elsewhere => Rewritten::No,
            Placement::Kept(kept) => {
                let same = current
                    .as_ref()
                    .is_some_and(|current| current.version == *kept && current.value.version.is_none());
                if !same || bucket.versioning == Versioning::Enabled {
                    return nothing(Outcome::Replaced);
                }
                Rewritten::Kept
            }
        };
        let (mut writes, mut dead) = (Vec::new(), self.dead.clone());
        let mut slot = Slot {
            owner: self.owner,
            bucket: &self.bucket,
            key: &self.key,
            version,
            noise: self.noise,
            now: self.at_ms.div_euclid(1000),
            writes: &mut writes,
            dead: &mut dead,
        };
        let id = match slot.make_room(bucket.versioning, current.as_ref(), null, rewritten) {
            Ok(id) => id,
            Err(needs) => return nothing(Outcome::Again(needs)),
        };
        let object_key = tables::object_key(self.owner, &self.bucket, &self.key);
        let lock = bucket.lock_of_new(self.object.lock, self.at_ms.div_euclid(1000))?;
        if id.is_none() && lock == self.object.lock {
            writes.push(OBJECTS.put(object_key, &self.object));
        } else {
            writes.push(OBJECTS.put(object_key, &Object { version: id, lock, ..self.object.clone() }));
        }
        if let Placement::Inline(bytes) = &self.bytes {
            let key = tables::inline_key(self.owner, &self.bucket, &self.key, id);
            writes.push(Write::Put(key, bytes.clone()));
        }
        writes.extend(self.along.iter().cloned());
        let littered = !dead.is_empty();
        writes.extend(discard(dead, self.at_ms));
        let installed = Installed { version: id, versioned: !bucket.versioning.is_unset() };
        let change = Change {
            owner: self.owner,
            bucket: &self.bucket,
            key: &self.key,
            name: self.event,
            created: Some((self.object.size, &self.object.etag)),
            version: installed.versioned.then_some(id),
        };
        writes.extend(change.deliveries(&bucket, &self.cause, version));
        Ok((writes, Outcome::Done { installed, littered }))
    }

    /// Commits.
    pub(crate) async fn commit(self, inner: &Inner) -> Result<Result<Installed, Replaced>, Error> {
        let install = Arc::new(self);
        let mut with_null = false;
        loop {
            let this = install.clone();
            let decide = move |pages: &[Page], version| this.decide(pages, version, with_null);
            match inner.store.transact(install.reads(with_null), decide).await? {
                Outcome::Done { installed, littered } => {
                    if littered {
                        inner.wake.notify_one();
                    }
                    return Ok(Ok(installed));
                }
                Outcome::Replaced => return Ok(Err(Replaced)),
                Outcome::Again(NeedsNull) => with_null = true,
            }
        }
    }
}

/// The bucket in a page that was read by its key.
pub(crate) fn bucket_of(page: &Page, name: &str) -> Result<Bucket, Error> {
    Ok(BUCKETS.first(page)?.ok_or_else(|| Error::NoSuchBucket(name.to_owned()))?.value)
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
