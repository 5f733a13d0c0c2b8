//! Rows as the tree holds them, and reads of them.

use bytes::Bytes;
use fjall::{Iter, Keyspace, Readable, Slice, Snapshot};

use super::failure;
use crate::key::{self, PREFIX_LEN};
use crate::{Entry, Error, Key, Page, Range, Read, Version, rows, tables};

/// Length of the version before each value.
const VERSION_LEN: usize = 8;

/// The row that says up to which version numbers may be in use: shorter than any key of the seam, so that no
/// caller can name it.
pub(super) const VERSION_LIMIT: &[u8] = &[0];

/// A value as it is stored.
pub(super) fn encode(version: Version, value: &[u8]) -> Bytes {
    let mut stored = Vec::with_capacity(VERSION_LEN + value.len());
    stored.extend_from_slice(&version.0.to_be_bytes());
    stored.extend_from_slice(value);
    stored.into()
}

/// A row from its stored value, without a copy.
pub(super) fn decode(key: Key, stored: Bytes) -> Result<Entry, Error> {
    let Some(version) = stored.first_chunk::<VERSION_LEN>() else {
        let table = key::table_of(&key).ok();
        let name = tables::ALL.iter().find(|(id, _)| Some(*id) == table).map_or("?", |(_, name)| name);
        return Err(Error::Corrupt { table: name, reason: "it has no version".to_owned() });
    };
    let version = Version(u64::from_be_bytes(*version));
    Ok(Entry { key, value: stored.slice(VERSION_LEN..), version })
}

/// Where rows are read from: a snapshot for readers, the newest state for the committer, which alone
/// changes it.
pub(super) trait Source {
    fn get(&self, key: &Key) -> fjall::Result<Option<Slice>>;
    fn range(&self, range: &Range) -> Iter;
}

impl Source for Keyspace {
    fn get(&self, key: &Key) -> fjall::Result<Option<Slice>> {
        Keyspace::get(self, key)
    }

    fn range(&self, range: &Range) -> Iter {
        Keyspace::range(self, bound(&range.start)..bound(&range.end))
    }
}

/// A keyspace as it was when the snapshot was taken.
pub(super) struct At<'a>(pub(super) &'a Snapshot, pub(super) &'a Keyspace);

impl Source for At<'_> {
    fn get(&self, key: &Key) -> fjall::Result<Option<Slice>> {
        self.0.get(self.1, key)
    }

    fn range(&self, range: &Range) -> Iter {
        self.0.range(self.1, bound(&range.start)..bound(&range.end))
    }
}

/// As much of a range's end as can make a difference: one byte more than the longest key has. The tree panics
/// when it is asked about keys of 64 KiB.
fn bound(key: &Key) -> &[u8] {
    &key[..key.len().min(rows::MAX_KEY_BYTES + 1)]
}

/// One row.
pub(super) fn get(source: &impl Source, key: &Key) -> Result<Option<Entry>, Error> {
    // No row has such a key.
    if key.len() < PREFIX_LEN || key.len() > rows::MAX_KEY_BYTES {
        return Ok(None);
    }
    let stored = source.get(key).map_err(|e| failure::tree(&e))?;
    stored.map(|stored| decode(key.clone(), stored.into())).transpose()
}

/// The rows of a range, from the end it asks for.
pub(super) fn iter(source: &impl Source, range: &Range) -> impl Iterator<Item = Result<Entry, Error>> {
    let mut rows = (bound(&range.start) < bound(&range.end)).then(|| source.range(range));
    let reverse = range.reverse;
    std::iter::from_fn(move || {
        loop {
            let rows = rows.as_mut()?;
            let guard = if reverse { rows.next_back() } else { rows.next() }?;
            match guard.into_inner() {
                Ok((key, _)) if key.len() < PREFIX_LEN => {}
                Ok((key, stored)) => return Some(decode(key.into(), stored.into())),
                Err(error) => return Some(Err(failure::tree(&error))),
            }
        }
    })
}

/// The page of one read.
pub(super) fn page(source: &impl Source, read: &Read) -> Result<Page, Error> {
    match read {
        Read::Key(key) => Ok(Page { entries: get(source, key)?.into_iter().collect(), more: false }),
        Read::Range(range) => self::range(source, range),
    }
}

/// The page of a range.
pub(super) fn range(source: &impl Source, range: &Range) -> Result<Page, Error> {
    rows::fill(range, iter(source, range))
}

/// The version up to which numbers may be in use.
pub(super) fn version_limit(keyspace: &Keyspace) -> Result<Version, Error> {
    let stored = keyspace.get(VERSION_LIMIT).map_err(|e| failure::tree(&e))?;
    let Some(stored) = stored else { return Ok(Version(0)) };
    let bytes = (&stored[..]).try_into().map_err(|_| Error::Corrupt {
        table: "NODE",
        reason: "the limit of versions is not a number".to_owned(),
    })?;
    Ok(Version(u64::from_be_bytes(bytes)))
}
