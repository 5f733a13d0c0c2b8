//! DeleteObject, DeleteObjects: each key in one commit with its events and what it leaves behind.
//!
//! Where versions are kept, a deletion without a version adds a delete marker; one that names a version removes
//! that one for good, and the next older becomes current if it was the newest.

use std::sync::Arc;

use s3s::S3Response;
use s3s::dto::{
    DeleteObjectInput, DeleteObjectOutput, DeleteObjectsInput, DeleteObjectsOutput, DeletedObject, ETag,
    ETagCondition,
};
use store::{Page, Read, Stored, Version, Write};

use crate::Error;
use crate::garbage::discard;
use crate::notify::{Cause, Change};
use crate::ops::conditions::WriteConditions;
use crate::ops::install::bucket_of;
use crate::read::Address;
use crate::service::{Cx, Inner};
use crate::tables::{self, Bucket, NULLS, NameRow, OBJECTS, VERSIONS, VersionRow};
use crate::versions::{self, NeedsNull, Slot, VersionId, Versioning, Which};

/// How many keys one commit removes at most: it runs where every other commit waits.
const BATCH: usize = 250;

/// What is to be removed.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) key: String,
    pub(crate) which: Which,
    pub(crate) conditions: WriteConditions,
    /// Only if its row is still of that version; nothing is removed and nothing said otherwise.
    pub(crate) unchanged: Option<Version>,
    /// The row of a version that is not the current one, as it was looked up before.
    pub(crate) other: Option<store::Key>,
}

/// What was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Removed {
    /// An object, or nothing at all, in a bucket without versions.
    Gone,
    /// Nothing but the sight of it: a delete marker of this version is there.
    Marked(Option<VersionId>),
    /// The version that was named; whether it was a delete marker.
    Version { version: Which, marker: bool },
}

/// A removal of several keys of one bucket, in one commit.
pub(crate) struct Removal {
    pub(crate) home: Arc<NameRow>,
    pub(crate) bucket: String,
    pub(crate) targets: Vec<Target>,
    pub(crate) cause: Cause,
    pub(crate) at_ms: i64,
    pub(crate) noise: u64,
    /// Whether to bypass a retention that lets itself be bypassed.
    pub(crate) bypass: bool,
    /// The names of the events that it causes: an object that goes, and a delete marker that comes.
    pub(crate) events: (&'static str, &'static str),
}

/// Keys, and for each what came of it.
type Outcomes = Vec<(Target, Result<Removed, Error>)>;

/// The pages of one target.
struct Pages<'a> {
    object: &'a Page,
    null: Option<&'a Page>,
    newest: Option<&'a Page>,
    other: Option<&'a Page>,
}

impl Removal {
    fn reads(&self, with_null: bool) -> Vec<Read> {
        let owner = self.home.owner;
        let mut reads = vec![Read::Key(tables::bucket_key(owner, &self.bucket))];
        for target in &self.targets {
            reads.push(Read::Key(tables::object_key(owner, &self.bucket, &target.key)));
            match (target.which, &target.other) {
                (Which::Current, _) if with_null => {
                    reads.push(Read::Key(tables::null_key(owner, &self.bucket, &target.key)));
                }
                (Which::Current, _) => {}
                (Which::Null | Which::Id(_), other) => {
                    reads.push(Read::Range(VERSIONS.range(owner, 2, |k| {
                        k.text(&self.bucket).text(&target.key);
                    })));
                    reads.extend(other.iter().map(|key| Read::Key(key.clone())));
                }
            }
        }
        reads
    }

    fn pages<'a>(
        target: &Target,
        with_null: bool,
        pages: &mut impl Iterator<Item = &'a Page>,
    ) -> Option<Pages<'a>> {
        let object = pages.next()?;
        Some(match target.which {
            Which::Current => {
                let null = if with_null { Some(pages.next()?) } else { None };
                Pages { object, null, newest: None, other: None }
            }
            Which::Null | Which::Id(_) => {
                let newest = Some(pages.next()?);
                let other = if target.other.is_some() { Some(pages.next()?) } else { None };
                Pages { object, null: None, newest, other }
            }
        })
    }

    fn decide(&self, pages: &[Page], version: Version, with_null: bool) -> Result<Decided, Error> {
        let bucket = bucket_of(&pages[0], &self.bucket)?;
        let (mut writes, mut dead) = (Vec::new(), Vec::new());
        let mut outcomes = Vec::with_capacity(self.targets.len());
        let mut rest = pages[1..].iter();
        for target in &self.targets {
            let pages = Self::pages(target, with_null, &mut rest).expect("there is a page for each read");
            let mut slot = Slot {
                owner: self.home.owner,
                bucket: &self.bucket,
                key: &target.key,
                version,
                noise: self.noise,
                now: self.at_ms.div_euclid(1000),
                writes: &mut writes,
                dead: &mut dead,
            };
            match self.one(target, &pages, &bucket, &mut slot) {
                Ok(Ok((removed, event))) => {
                    if let Some(change) = event {
                        writes.extend(change.deliveries(&bucket, &self.cause, version));
                    }
                    outcomes.push(Ok(removed));
                }
                Ok(Err(NeedsNull)) => {
                    return Ok(Decided { writes: Vec::new(), outcomes: None, littered: false });
                }
                Err(error) => outcomes.push(Err(error)),
            }
        }
        let littered = !dead.is_empty();
        writes.extend(discard(dead, self.at_ms));
        Ok(Decided { writes, outcomes: Some(outcomes), littered })
    }

    /// What removing one key comes to, and the event that tells of it.
    fn one<'a>(
        &'a self,
        target: &'a Target,
        pages: &Pages<'_>,
        bucket: &Bucket,
        slot: &mut Slot<'_>,
    ) -> Result<Result<(Removed, Option<Change<'a>>), NeedsNull>, Error> {
        let current = OBJECTS.first(pages.object)?;
        let change = |name, version| Change {
            owner: self.home.owner,
            bucket: &self.bucket,
            key: &target.key,
            name,
            created: None,
            version,
        };
        let (removed_event, marked_event) = self.events;
        let now = self.at_ms.div_euclid(1000);
        let differs = |version: Version| target.unchanged.is_some_and(|unchanged| unchanged != version);
        if target.which == Which::Current
            && target.unchanged.is_some()
            && current.as_ref().is_none_or(|current| differs(current.version))
        {
            return Ok(Ok((Removed::Gone, None)));
        }
        match (target.which, bucket.versioning) {
            (Which::Current, Versioning::Unset) => {
                target.conditions.check(&target.key, current.as_ref())?;
                let Some(current) = current else { return Ok(Ok((Removed::Gone, None))) };
                slot.remove_current(&current, &[])?;
                Ok(Ok((Removed::Gone, Some(change(removed_event, None)))))
            }
            (Which::Current, versioning @ (Versioning::Enabled | Versioning::Suspended)) => {
                target.conditions.check(&target.key, current.as_ref())?;
                let null = match pages.null {
                    Some(page) => Some(NULLS.first(page)?.map(|row| row.value)),
                    None => None,
                };
                let Ok(version) = slot.mark(versioning, current.as_ref(), null) else {
                    return Ok(Err(NeedsNull));
                };
                Ok(Ok((Removed::Marked(version), Some(change(marked_event, Some(version))))))
            }
            (which @ (Which::Null | Which::Id(_)), versioning) => {
                let newest = pages.newest.map_or(&[][..], |page| &page.entries[..]);
                let newest: Vec<_> =
                    newest.iter().map(|entry| VERSIONS.decode(entry)).collect::<Result<_, _>>()?;
                let named = if let Which::Id(id) = which { Some(id) } else { None };
                let event = |name| Some(change(name, (!versioning.is_unset()).then_some(named)));
                let removed = |marker| {
                    if versioning.is_unset() {
                        Removed::Gone
                    } else {
                        Removed::Version { version: which, marker }
                    }
                };
                if let Some(current) = current.as_ref().filter(|row| which.is(row.value.version)) {
                    if differs(current.version) {
                        return Ok(Ok((Removed::Gone, None)));
                    }
                    target.conditions.check(&target.key, Some(current))?;
                    current.value.lock.admits_removal(now, self.bypass)?;
                    slot.remove_current(current, &newest)?;
                    return Ok(Ok((removed(false), event(removed_event))));
                }
                let other = pages.other.map(|page| VERSIONS.first(page)).transpose()?.flatten();
                let other = other.filter(|row| match &row.value {
                    VersionRow::Object { object, .. } => which.is(object.version),
                    VersionRow::Marker(marker) => which.is(marker.version),
                });
                let Some(other) = other else { return Ok(Ok((removed(false), None))) };
                if differs(other.version) {
                    return Ok(Ok((Removed::Gone, None)));
                }
                if let VersionRow::Object { object, .. } = &other.value {
                    target.conditions.check_object(&target.key, Some(object))?;
                    object.lock.admits_removal(now, self.bypass)?;
                }
                let marker = matches!(other.value, VersionRow::Marker(_));
                slot.remove_other(&other, &newest, current.is_some())?;
                Ok(Ok((removed(marker), event(removed_event))))
            }
        }
    }

    /// Looks up the rows of what is named by version, and commits.
    pub(crate) async fn commit(mut self, inner: &Inner) -> Result<Outcomes, Error> {
        for target in &mut self.targets {
            let address = Address {
                owner: self.home.owner,
                bucket: &self.bucket,
                key: &target.key,
                which: target.which,
                versioned: self.home.versioned,
            };
            if target.which != Which::Current {
                target.other = address.other(inner).await?.map(|row: Stored<VersionRow>| row.key);
            }
        }
        let removal = Arc::new(self);
        let mut with_null = removal.home.versioned;
        loop {
            let this = removal.clone();
            let decide = move |pages: &[Page], version| {
                let Decided { writes, outcomes, littered } = this.decide(pages, version, with_null)?;
                Ok::<_, Error>((writes, (outcomes, littered)))
            };
            let (outcomes, littered) = inner.store.transact(removal.reads(with_null), decide).await?;
            if littered {
                inner.wake.notify_one();
            }
            match outcomes {
                Some(outcomes) => return Ok(removal.targets.iter().cloned().zip(outcomes).collect()),
                // Versioning was suspended since the bucket was looked at.
                None => with_null = true,
            }
        }
    }
}

/// What a transaction comes to; no outcomes if it has to read more.
struct Decided {
    writes: Vec<Write>,
    outcomes: Option<Vec<Result<Removed, Error>>>,
    littered: bool,
}

async fn remove(cx: &Cx, home: &Arc<NameRow>, targets: Vec<Target>) -> Result<Outcomes, Error> {
    let removal = Removal {
        home: home.clone(),
        bucket: cx.bucket().to_owned(),
        targets,
        cause: cx.cause(),
        at_ms: cx.now().as_millisecond(),
        noise: if home.versioned { cx.noise() } else { 0 },
        bypass: cx.bypasses(),
        events: ("ObjectRemoved:Delete", "ObjectRemoved:DeleteMarkerCreated"),
    };
    removal.commit(&cx.inner).await
}

pub(crate) async fn one(cx: &Cx, input: DeleteObjectInput) -> Result<S3Response<DeleteObjectOutput>, Error> {
    let home = cx.home().await?;
    let conditions = WriteConditions::new(input.if_match, None)?;
    let which = Which::read(input.version_id.as_deref())?;
    let target = Target { key: input.key, which, conditions, unchanged: None, other: None };
    let mut outcomes = remove(cx, &home, vec![target]).await?;
    Ok(S3Response::new(match outcomes.swap_remove(0).1? {
        Removed::Gone => DeleteObjectOutput::default(),
        Removed::Marked(version) => DeleteObjectOutput {
            delete_marker: Some(true),
            version_id: Some(versions::name(version)),
            ..DeleteObjectOutput::default()
        },
        Removed::Version { version, marker } => DeleteObjectOutput {
            delete_marker: marker.then_some(true),
            version_id: shown(version),
            ..DeleteObjectOutput::default()
        },
    }))
}

/// `*` stands for any object.
fn any_or_tag(tag: ETag) -> ETagCondition {
    if tag.value() == "*" { ETagCondition::Any } else { ETagCondition::ETag(tag) }
}

/// A version as it was named.
fn shown(which: Which) -> Option<String> {
    match which {
        Which::Current => None,
        Which::Null => Some("null".to_owned()),
        Which::Id(id) => Some(id.to_string()),
    }
}

pub(crate) async fn many(
    cx: &Cx,
    input: DeleteObjectsInput,
) -> Result<S3Response<DeleteObjectsOutput>, Error> {
    let home = cx.home().await?;
    let quiet = input.delete.quiet.unwrap_or(false);
    let mut outcomes = Vec::new();
    let (mut batches, mut rounds) = (Vec::<Vec<Target>>::new(), std::collections::HashMap::new());
    // A version of a key that is named twice is removed once, and answered once.
    let mut seen = std::collections::HashSet::new();
    for object in input.delete.objects {
        let version = object.version_id;
        let refused = if object.size.is_some() || object.last_modified_time.is_some() {
            Err(Error::NotImplemented("Deleting on condition of a size or a time".into()))
        } else if let Some(message) = cx.state.denied.get(&(object.key.clone(), version.clone())) {
            Err(Error::Denied(message.clone()))
        } else if object.key.len() > super::MAX_KEY_BYTES {
            Err(Error::KeyTooLong { size: object.key.len() })
        } else {
            Which::read(version.as_deref()).map_err(|_| Error::NoSuchVersion {
                key: object.key.clone(),
                version: version.clone().unwrap_or_default(),
            })
        };
        let which = match refused {
            Ok(which) => which,
            Err(error) => {
                outcomes.push((object.key, version, Err(error)));
                continue;
            }
        };
        if !seen.insert((object.key.clone(), version)) {
            continue;
        }
        let conditions = WriteConditions::new(object.e_tag.map(any_or_tag), None)?;
        let target = Target { key: object.key, which, conditions, unchanged: None, other: None };
        // Versions of one key go one after the other, since each may change what the next one finds.
        let round = rounds.entry(target.key.clone()).or_insert(0_usize);
        if batches.len() == *round {
            batches.push(Vec::new());
        }
        batches[*round].push(target);
        *round += 1;
    }
    for mut targets in batches {
        while !targets.is_empty() {
            let rest = targets.split_off(targets.len().min(BATCH));
            for (target, outcome) in remove(cx, &home, std::mem::replace(&mut targets, rest)).await? {
                outcomes.push((target.key, shown(target.which), outcome));
            }
        }
    }
    let (mut deleted, mut errors) = (Vec::new(), Vec::new());
    for (key, version_id, outcome) in outcomes {
        match outcome {
            Ok(removed) => {
                cx.note(|facts| facts.note_deletion(&key, version_id.as_deref(), None));
                let mut shape = DeletedObject { key: Some(key), version_id, ..DeletedObject::default() };
                match removed {
                    Removed::Gone => {}
                    Removed::Marked(version) => {
                        shape.delete_marker = Some(true);
                        shape.delete_marker_version_id = Some(versions::name(version));
                    }
                    Removed::Version { version, marker } if marker => {
                        shape.delete_marker = Some(true);
                        shape.delete_marker_version_id = shown(version);
                    }
                    Removed::Version { .. } => {}
                }
                deleted.push(shape);
            }
            Err(error) => {
                let error = aws::Error::from(error);
                cx.note(|facts| facts.note_deletion(&key, version_id.as_deref(), Some(&error)));
                errors.push(s3s::dto::Error {
                    code: Some(error.code.into_owned()),
                    key: Some(key),
                    message: Some(error.message),
                    version_id,
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
