//! What every engine does alike: fills a page up to its limits, runs a decision, and turns its writes into
//! rows.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;

use crate::key::PREFIX_LEN;
use crate::{Decide, Decision, Entry, Error, Key, Page, Range, Version, Write};

/// Longest key, in bytes. The longest that a service needs is a DynamoDB item's (2,048 + 1,024 bytes of key
/// attributes, twice that where every byte has to be escaped).
pub(crate) const MAX_KEY_BYTES: usize = 16 << 10;

/// Largest value, in bytes.
pub(crate) const MAX_VALUE_BYTES: usize = 16 << 20;

/// Most writes in one commit: [`Write::Append`] numbers them with two bytes.
pub(crate) const MAX_WRITES: usize = 1 << 16;

/// Most bytes of keys and values in one commit.
pub(crate) const MAX_COMMIT_BYTES: usize = 64 << 20;

/// A row that a commit sets (`Some`) or removes (`None`).
pub(crate) type Change = (Key, Option<Bytes>);

/// Takes rows, which are in the order asked for, until the range's limits are reached.
pub(crate) fn fill<E>(range: &Range, mut rows: impl Iterator<Item = Result<Entry, E>>) -> Result<Page, E> {
    let mut page = Page::default();
    let mut bytes = 0_usize;
    while let Some(entry) = rows.next().transpose()? {
        bytes = bytes.saturating_add(entry.key.len() + entry.value.len());
        page.entries.push(entry);
        if page.entries.len() >= range.limit || bytes >= range.limit_bytes {
            page.more = rows.next().transpose()?.is_some();
            break;
        }
    }
    Ok(page)
}

/// Asks for the decision. One that panics harms nobody else.
pub(crate) fn decide(decide: &mut Decide, pages: &[Page], version: Version) -> Result<Decision, Error> {
    catch_unwind(AssertUnwindSafe(|| decide(pages, version))).map_err(|panic| {
        let message = panic
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("no message");
        tracing::error!(message, "a transaction's decision panicked; nothing of it was written");
        Error::Decision(message.to_owned())
    })
}

/// The rows that the writes of a commit come to, in order; a later one of the same key wins.
pub(crate) fn changes(writes: Vec<Write>, version: Version) -> Result<Vec<Change>, Error> {
    if writes.len() > MAX_WRITES {
        return Err(too_large("writes in a commit", writes.len(), MAX_WRITES));
    }
    let mut total = 0;
    let mut changes = Vec::with_capacity(writes.len());
    for (ordinal, write) in writes.into_iter().enumerate() {
        let (key, value) = match write {
            Write::Put(key, value) => (key, Some(value)),
            Write::Delete(key) => (key, None),
            Write::Append(prefix, value) => (appended(&prefix, version, ordinal), Some(value)),
        };
        if key.len() < PREFIX_LEN {
            return Err(Error::Decision("a key is shorter than its account and table".to_owned()));
        }
        if key.len() > MAX_KEY_BYTES {
            return Err(too_large("bytes in a key", key.len(), MAX_KEY_BYTES));
        }
        let size = value.as_ref().map_or(0, Bytes::len);
        if size > MAX_VALUE_BYTES {
            return Err(too_large("bytes in a value", size, MAX_VALUE_BYTES));
        }
        total += key.len() + size;
        changes.push((key, value));
    }
    if total > MAX_COMMIT_BYTES {
        return Err(too_large("bytes in a commit", total, MAX_COMMIT_BYTES));
    }
    Ok(changes)
}

fn appended(prefix: &Key, version: Version, ordinal: usize) -> Key {
    let ordinal = u16::try_from(ordinal).expect("the number of writes was checked");
    let mut key = Vec::with_capacity(prefix.len() + 10);
    key.extend_from_slice(prefix);
    key.extend_from_slice(&version.0.to_be_bytes());
    key.extend_from_slice(&ordinal.to_be_bytes());
    key.into()
}

fn too_large(what: &'static str, found: usize, limit: usize) -> Error {
    Error::TooLarge { what, found, limit }
}
