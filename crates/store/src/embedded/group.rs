//! The writes of a group of commits, which the next commit of the group sees and the disk does not yet have.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

use bytes::Bytes;

use super::rows::{self as stored, Source};
use crate::{Entry, Error, Key, Page, Range, Read, Version, rows};

/// Rows set (as they are stored) and rows removed. One entry for each key: the tree must not get two values
/// of one key in one batch.
#[derive(Debug, Default)]
pub(super) struct Group {
    rows: BTreeMap<Key, Option<Bytes>>,
    /// The keys in the order in which they were written, for watchers.
    written: Vec<Key>,
    bytes: usize,
    /// What the tree has under keys that commits of the group have read: it does not change before the group is
    /// written, and the row of a table is read by every commit to it.
    seen: HashMap<Key, Option<Entry>>,
}

impl Group {
    /// True if there is nothing to write.
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Bytes written, counting each time that a key was.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds what a commit writes.
    pub(super) fn apply(&mut self, changes: Vec<rows::Change>, version: Version) {
        for (key, value) in changes {
            self.bytes += key.len() + value.as_ref().map_or(0, Bytes::len);
            self.written.push(key.clone());
            self.rows.insert(key, value.map(|value| stored::encode(version, &value)));
        }
    }

    /// The final state of each row.
    pub(super) fn rows(&self) -> &BTreeMap<Key, Option<Bytes>> {
        &self.rows
    }

    /// Every key, each time that it was written, in order.
    pub(super) fn written(&self) -> &[Key] {
        &self.written
    }

    /// The page of a read of `base` under these writes.
    pub(super) fn page(&mut self, base: &impl Source, read: &Read) -> Result<Page, Error> {
        match read {
            Read::Key(key) => {
                let entry = match self.rows.get(key) {
                    Some(Some(value)) => Some(stored::decode(key.clone(), value.clone())?),
                    Some(None) => None,
                    None => self.seen(base, key)?,
                };
                Ok(Page { entries: entry.into_iter().collect(), more: false })
            }
            Read::Range(_) if self.rows.is_empty() => stored::page(base, read),
            Read::Range(range) => self.range(base, range),
        }
    }

    fn seen(&mut self, base: &impl Source, key: &Key) -> Result<Option<Entry>, Error> {
        if let Some(entry) = self.seen.get(key) {
            return Ok(entry.clone());
        }
        let entry = stored::get(base, key)?;
        self.seen.insert(key.clone(), entry.clone());
        Ok(entry)
    }

    fn range(&self, base: &impl Source, range: &Range) -> Result<Page, Error> {
        if range.start >= range.end {
            return Ok(Page::default());
        }
        let bounds = (Bound::Included(&range.start), Bound::Excluded(&range.end));
        let over = self.rows.range::<Key, _>(bounds);
        let base = stored::iter(base, range);
        if range.reverse {
            rows::fill(range, merge(base, over.rev(), true))
        } else {
            rows::fill(range, merge(base, over, false))
        }
    }
}

/// Rows of `base`, except where `over` has the key; both in the same order, which is descending if `reverse`.
fn merge<'a>(
    base: impl Iterator<Item = Result<Entry, Error>>,
    over: impl Iterator<Item = (&'a Key, &'a Option<Bytes>)>,
    reverse: bool,
) -> impl Iterator<Item = Result<Entry, Error>> {
    let mut base = base.peekable();
    let mut over = over.peekable();
    std::iter::from_fn(move || {
        loop {
            let order = match (base.peek(), over.peek()) {
                (None, None) => return None,
                (Some(Err(_)), _) | (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(Ok(entry)), Some((key, _))) if reverse => (*key).cmp(&entry.key),
                (Some(Ok(entry)), Some((key, _))) => entry.key.cmp(key),
            };
            if order == Ordering::Less {
                return base.next();
            }
            if order == Ordering::Equal {
                base.next();
            }
            if let Some((key, Some(value))) = over.next() {
                return Some(stored::decode(key.clone(), value.clone()));
            }
        }
    })
}
