//! What is stored beside the outbox itself.

use store::key::{PREFIX_LEN, after};
use store::{Key, Record, Table, tables};
use types::AccountId;

/// Where the reader of a lane stands. Key: the lane.
pub(crate) const CURSORS: Table<Cursor> = Table::new(tables::OUTBOX_CURSORS, "outbox_cursors");

/// Everything in the lane up to this key has been carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cursor(pub(crate) Key);

impl Record for Cursor {
    const FORMAT: u8 = 1;

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
    }

    fn decode(_format: u8, bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() < PREFIX_LEN {
            return Err("it is not a key".to_owned());
        }
        Ok(Self(Key::copy_from_slice(bytes)))
    }
}

impl Cursor {
    /// The first key that may hold an event.
    pub(crate) fn next(&self) -> Key {
        after(&self.0)
    }
}

/// The key of a lane's cursor.
pub(crate) fn cursor_key(account: AccountId, target: &str) -> Key {
    CURSORS.key(account, |k| {
        k.text(target);
    })
}
