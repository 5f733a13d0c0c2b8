//! Walks the keys of a bucket in order, rolling up those that share a prefix.
//!
//! Invariant: a common prefix costs one seek, however many keys begin with it.

use store::key::{after, prefix_end};
use store::{Entry, Key, Range, TableId};
use types::AccountId;

use crate::Error;
use crate::service::Inner;
use crate::tables::{key_in, listing_prefix};

/// What a walk comes across.
#[derive(Debug)]
pub(crate) enum Item {
    /// A row, and the key it is about.
    Row(String, Entry),
    /// A prefix that rows have in common.
    Prefix(String),
}

/// A walk over the rows of one bucket in one table whose keys are (bucket, key, ...).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Walk<'a> {
    pub(crate) table: TableId,
    pub(crate) owner: AccountId,
    pub(crate) bucket: &'a str,
    pub(crate) prefix: &'a str,
    pub(crate) delimiter: Option<&'a str>,
}

impl<'a> Walk<'a> {
    /// A walk as a request describes it.
    pub(crate) fn of_request(
        table: TableId,
        owner: AccountId,
        bucket: &'a str,
        prefix: Option<&'a String>,
        delimiter: Option<&'a String>,
    ) -> Self {
        Self {
            table,
            owner,
            bucket,
            prefix: prefix.map(String::as_str).unwrap_or_default(),
            delimiter: delimiter.map(String::as_str).filter(|delimiter| !delimiter.is_empty()),
        }
    }

    /// The place behind everything that begins with `prefix`.
    pub(crate) fn behind_prefix(&self, prefix: &str) -> Key {
        prefix_end(&listing_prefix(self.owner, self.table, self.bucket, prefix))
    }

    /// The place behind every row of `key`.
    pub(crate) fn behind_key(&self, key: &str) -> Key {
        let mut writer = store::key::KeyWriter::new(self.owner, self.table);
        writer.text(self.bucket).text(key);
        prefix_end(&writer.finish())
    }

    /// The place before every row of `key`.
    pub(crate) fn before_key(&self, key: &str) -> Key {
        let mut writer = store::key::KeyWriter::new(self.owner, self.table);
        writer.text(self.bucket).text(key);
        writer.finish()
    }

    /// The place behind what a marker names: a common prefix of this walk, or else a key.
    pub(crate) fn behind_marker(&self, marker: &str) -> Key {
        if self.common_prefix(marker) == Some(marker) {
            self.behind_prefix(marker)
        } else {
            self.behind_key(marker)
        }
    }

    /// The prefix under which `key` is rolled up, if it is.
    pub(crate) fn common_prefix<'k>(&self, key: &'k str) -> Option<&'k str> {
        let delimiter = self.delimiter.filter(|delimiter| !delimiter.is_empty())?;
        let at = key.strip_prefix(self.prefix)?.find(delimiter)?;
        Some(&key[..self.prefix.len() + at + delimiter.len()])
    }

    /// Up to `max` items from `from` on (or from the beginning), and whether there are more.
    pub(crate) async fn run(
        &self,
        inner: &Inner,
        from: Option<Key>,
        max: usize,
    ) -> Result<(Vec<Item>, bool), Error> {
        let begin = listing_prefix(self.owner, self.table, self.bucket, self.prefix);
        let end = prefix_end(&begin);
        let mut cursor = from.map_or(begin.clone(), |from| from.max(begin));
        let mut items = Vec::new();
        if max == 0 {
            return Ok((items, false));
        }
        // Without a delimiter every row counts. With one, pages grow while rows do, and shrink where a seek
        // makes the rest of a page worthless.
        let mut page_rows = if self.delimiter.is_some() { 32 } else { max + 1 };
        while cursor < end {
            let limit = page_rows.min(max + 1 - items.len());
            let range =
                Range { start: cursor, end: end.clone(), limit, limit_bytes: 4 << 20, reverse: false };
            let page = inner.store.scan(range).await?;
            let Some(last) = page.entries.last() else { return Ok((items, false)) };
            cursor = after(&last.key);
            let mut behind = None;
            for entry in page.entries {
                if behind.as_ref().is_some_and(|behind| entry.key < *behind) {
                    continue;
                }
                if items.len() == max {
                    return Ok((items, true));
                }
                let key = key_in(&entry.key)?;
                match self.common_prefix(&key) {
                    Some(prefix) => {
                        behind = Some(self.behind_prefix(prefix));
                        items.push(Item::Prefix(prefix.to_owned()));
                    }
                    None => items.push(Item::Row(key, entry)),
                }
            }
            match behind {
                Some(behind) if behind > cursor => {
                    cursor = behind;
                    page_rows = (page_rows / 4).max(2);
                }
                Some(_) | None if !page.more => return Ok((items, false)),
                Some(_) | None => page_rows = (page_rows * 2).min(1001),
            }
        }
        Ok((items, false))
    }
}
