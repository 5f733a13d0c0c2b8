//! ListObjectVersions: the current objects and the other versions, merged by key, newest first.
//!
//! Invariant: a page costs what it shows (and one seek for each common prefix), however many versions there are.

use s3s::S3Response;
use s3s::dto::{
    ChecksumAlgorithm, ChecksumType, CommonPrefix, DeleteMarkerEntry, ListObjectVersionsInput,
    ListObjectVersionsOutput, ObjectVersion, ObjectVersionStorageClass,
};
use store::key::{after, prefix_end};
use store::{Entry, Key, Page, Range, Read, tables as ids};
use types::AccountId;

use crate::Error;
use crate::ops::list::{Encoding, page_size};
use crate::ops::{etag, owner, timestamp};
use crate::service::{Cx, Inner};
use crate::tables::{self, LISTED, LISTED_VERSIONS, Listed, ListedVersion, NULLS, key_in, listing_prefix};
use crate::versions::{self, VersionId};
use crate::walk::Walk;

/// What the listing comes across.
#[derive(Debug)]
enum Item {
    Prefix(String),
    Version { key: String, latest: bool, row: ListedVersion },
}

/// A walk over both tables.
struct Versions<'a> {
    objects: Walk<'a>,
    others: Walk<'a>,
}

/// Where it stands in each.
struct Place {
    objects: Key,
    others: Key,
    /// The last key that was passed: what follows of it is not its latest version.
    last: Option<String>,
}

/// The rows of a page that are not used up, and whether there are more behind them.
struct Run {
    entries: std::iter::Peekable<std::vec::IntoIter<(String, Entry)>>,
    more: bool,
}

impl Run {
    fn new(page: Page) -> Result<Self, Error> {
        let read = |entry: Entry| Ok::<_, Error>((key_in(&entry.key)?, entry));
        let entries: Vec<_> = page.entries.into_iter().map(read).collect::<Result<_, _>>()?;
        Ok(Self { entries: entries.into_iter().peekable(), more: page.more })
    }

    /// The key of its next row; nothing is known of what is behind its end.
    fn next_key(&mut self) -> Option<&str> {
        self.entries.peek().map(|(key, _)| &**key)
    }

    fn is_cut(&mut self) -> bool {
        self.more && self.entries.peek().is_none()
    }
}

impl Versions<'_> {
    fn begin(&self) -> Place {
        let first = |walk: &Walk<'_>| listing_prefix(walk.owner, walk.table, walk.bucket, walk.prefix);
        Place { objects: first(&self.objects), others: first(&self.others), last: None }
    }

    /// The place behind a key or a common prefix, or behind one version of a key.
    async fn behind(&self, inner: &Inner, marker: &str, version: Option<&str>) -> Result<Place, Error> {
        let mut place = self.begin();
        place.objects = place.objects.max(self.objects.behind_marker(marker));
        let Some(version) = version else {
            place.others = place.others.max(self.others.behind_marker(marker));
            return Ok(place);
        };
        let (account, bucket) = (self.others.owner, self.others.bucket);
        let order = match version {
            "null" => {
                let key = tables::null_key(account, bucket, marker);
                NULLS.get(&inner.store, key).await?.map(|row| row.value.order)
            }
            id => {
                let id: VersionId = id.parse().map_err(|versions::NotAVersion| {
                    Error::argument("version-id-marker", id, "Invalid version id specified")
                })?;
                Some(id.order)
            }
        };
        // A null version that is current, or that has gone since: all of the others come after it.
        let others = match order {
            Some(order) => after(&tables::version_key(account, bucket, marker, order)),
            None => self.others.before_key(marker),
        };
        place.others = place.others.max(others);
        place.last = Some(marker.to_owned());
        Ok(place)
    }

    async fn run(&self, inner: &Inner, mut place: Place, max: usize) -> Result<(Vec<Item>, bool), Error> {
        let end =
            |walk: &Walk<'_>| prefix_end(&listing_prefix(walk.owner, walk.table, walk.bucket, walk.prefix));
        let (objects_end, others_end) = (end(&self.objects), end(&self.others));
        let mut items = Vec::new();
        if max == 0 {
            return Ok((items, false));
        }
        let mut page_rows = if self.objects.delimiter.is_some() { 32 } else { max + 1 };
        loop {
            let limit = page_rows.min(max + 1 - items.len());
            let range = |start: &Key, end: &Key| {
                // An empty range has no rows, wherever it is.
                let start = start.clone().min(end.clone());
                Read::Range(Range { start, end: end.clone(), limit, limit_bytes: 4 << 20, reverse: false })
            };
            let reads = vec![range(&place.objects, &objects_end), range(&place.others, &others_end)];
            let mut pages = inner.store.read(reads).await?.into_iter();
            let (Some(objects), Some(others)) = (pages.next(), pages.next()) else {
                return Ok((items, false));
            };
            let (mut objects, mut others) = (Run::new(objects)?, Run::new(others)?);
            let mut jumped = false;
            while !objects.is_cut() && !others.is_cut() {
                let from_objects = match (objects.next_key(), others.next_key()) {
                    (None, None) => return Ok((items, false)),
                    (Some(_), None) => true,
                    (None, Some(_)) => false,
                    // The current object of a key comes before its other versions.
                    (Some(object), Some(other)) => object <= other,
                };
                if items.len() == max {
                    return Ok((items, true));
                }
                let run = if from_objects { &mut objects } else { &mut others };
                let Some((key, entry)) = run.entries.next() else { break };
                if let Some(prefix) = self.objects.common_prefix(&key) {
                    place.objects = self.objects.behind_prefix(prefix);
                    place.others = self.others.behind_prefix(prefix);
                    items.push(Item::Prefix(prefix.to_owned()));
                    jumped = true;
                    break;
                }
                let latest = place.last.as_ref() != Some(&key);
                let cursor = after(&entry.key);
                let row = if from_objects {
                    place.objects = cursor;
                    ListedVersion::Object { object: LISTED.decode(&entry)?.value }
                } else {
                    place.others = cursor;
                    LISTED_VERSIONS.decode(&entry)?.value
                };
                place.last = Some(key.clone());
                items.push(Item::Version { key, latest, row });
            }
            page_rows = if jumped { (page_rows / 4).max(2) } else { (page_rows * 2).min(1001) };
        }
    }
}

pub(crate) async fn list(
    cx: &Cx,
    input: ListObjectVersionsInput,
) -> Result<S3Response<ListObjectVersionsOutput>, Error> {
    let account = cx.owner().await?;
    let limit = page_size("max-keys", input.max_keys)?;
    let encoding = Encoding::of(input.encoding_type.as_ref())?;
    let (prefix, delimiter) = (input.prefix.as_ref(), input.delimiter.as_ref());
    let walk = |table| Walk::of_request(table, account, &input.bucket, prefix, delimiter);
    let walk = Versions { objects: walk(ids::OBJECTS), others: walk(ids::OBJECT_VERSIONS) };
    let marker = input.key_marker.as_deref().filter(|marker| !marker.is_empty());
    let version_marker = input.version_id_marker.as_deref();
    let place = match (marker, version_marker) {
        (None, Some(_)) => {
            let message = "A version-id marker cannot be specified without a key marker.";
            return Err(Error::argument("version-id-marker", version_marker.unwrap_or_default(), message));
        }
        (_, Some("")) => {
            return Err(Error::argument("version-id-marker", "", "A version-id marker cannot be empty."));
        }
        (None, None) => walk.begin(),
        (Some(marker), version) => walk.behind(&cx.inner, marker, version).await?,
    };
    let (items, truncated) = walk.run(&cx.inner, place, limit).await?;
    let (mut found, mut markers, mut prefixes) = (Vec::new(), Vec::new(), Vec::new());
    let mut last = (None, None);
    for item in items {
        match item {
            Item::Prefix(prefix) => {
                prefixes.push(CommonPrefix { prefix: Some(encoding.text(&prefix)) });
                last = (Some(prefix), None);
            }
            Item::Version { key, latest, row: ListedVersion::Object { object } } => {
                let id = versions::name(object.version);
                found.push(shape(account, encoding.text(&key), latest, id.clone(), object));
                last = (Some(key), Some(id));
            }
            Item::Version { key, latest, row: ListedVersion::Marker(marker) } => {
                let id = versions::name(marker.version);
                markers.push(DeleteMarkerEntry {
                    is_latest: Some(latest),
                    key: Some(encoding.text(&key)),
                    last_modified: Some(timestamp(marker.modified)),
                    owner: Some(owner(account)),
                    version_id: Some(id.clone()),
                });
                last = (Some(key), Some(id));
            }
        }
    }
    let (next_key, next_version) = if truncated { last } else { (None, None) };
    Ok(S3Response::new(ListObjectVersionsOutput {
        common_prefixes: Some(prefixes),
        delete_markers: Some(markers),
        delimiter: encoding.optional(input.delimiter.as_ref()),
        encoding_type: input.encoding_type.clone(),
        is_truncated: Some(truncated),
        key_marker: Some(encoding.text(input.key_marker.as_deref().unwrap_or_default())),
        max_keys: i32::try_from(limit).ok(),
        name: Some(input.bucket.clone()),
        next_key_marker: next_key.map(|key| encoding.text(&key)),
        next_version_id_marker: next_version,
        prefix: Some(encoding.text(input.prefix.as_deref().unwrap_or_default())),
        request_charged: None,
        version_id_marker: Some(input.version_id_marker.clone().unwrap_or_default()),
        versions: Some(found),
    }))
}

fn shape(account: AccountId, key: String, latest: bool, id: String, row: Listed) -> ObjectVersion {
    ObjectVersion {
        checksum_algorithm: Some(vec![ChecksumAlgorithm::from_static(row.checksum.algorithm.name())]),
        checksum_type: Some(ChecksumType::from_static(row.checksum.kind.name())),
        e_tag: Some(etag(&row.etag)),
        is_latest: Some(latest),
        key: Some(key),
        last_modified: Some(timestamp(row.modified)),
        owner: Some(owner(account)),
        restore_status: None,
        size: i64::try_from(row.size).ok(),
        storage_class: Some(ObjectVersionStorageClass::from_static(ObjectVersionStorageClass::STANDARD)),
        version_id: Some(id),
    }
}
