//! Time to live: when an item expires, and the rows by which expired items are found.
//!
//! Invariant: while a table has time to live, each item that says when it expires has a row under that time, or
//! under the time of its writing if that is later, written with the item. So rows are made ahead of where expired
//! ones are read from. A row that its item does not bear out (any more) is only removed.

use store::{Key, Write};
use types::{AccountId, Timestamp};

use crate::change::Image;
use crate::table::{ITEM_PREFIX_LEN, Table};
use crate::tables::{EXPIRY, Expiring, items_prefix};
use crate::value::{ItemView, Kind, Number};

/// Items that say that they expired longer ago than this do not expire (Developer Guide, "Using time to live
/// (TTL) in DynamoDB"): five years, in seconds.
pub(crate) const MAX_AGE_S: i64 = 5 * 365 * 24 * 3600;

/// When an item expires, in seconds since the epoch.
pub(crate) fn ends_at(attribute: &str, item: ItemView<'_>) -> Option<i64> {
    let value = item.get(attribute).filter(|value| value.kind() == Kind::N)?;
    Number::decode(value.scalar())?.to_i64().filter(|at| *at >= 0)
}

/// The key of an item's row under a time.
pub(crate) fn row_key(account: AccountId, id: u64, at: i64, item_key: &[u8]) -> Key {
    EXPIRY.key(AccountId::NODE, |k| {
        k.i64(at).u64(account.number()).u64(id).raw(&item_key[ITEM_PREFIX_LEN..]);
    })
}

/// The key of the item that a row is for.
pub(crate) fn item_key(row: &Expiring, row_key: &[u8]) -> Key {
    // The prefix of the table, then three numbers.
    let rest = row_key.get(store::key::PREFIX_LEN + 24..).unwrap_or_default();
    let mut writer = items_prefix(row.account, row.id);
    writer.raw(rest);
    writer.finish()
}

/// When an item of the table expires.
fn ends(table: &Table, item: ItemView<'_>) -> Option<i64> {
    ends_at(table.record.ttl.as_deref()?, item)
}

/// The row of an item written now, if it expires.
pub(crate) fn row(table: &Table, key: &Key, item: ItemView<'_>, now: Timestamp) -> Option<Write> {
    let now_s = now.as_second();
    let at = ends(table, item).filter(|at| *at > now_s - MAX_AGE_S)?.max(now_s);
    let value = Expiring { account: table.account, table: table.record.name.clone(), id: table.record.id };
    Some(EXPIRY.put(row_key(table.account, table.record.id, at, key), &value))
}

/// Appends what follows from a change of an item.
pub(crate) fn write(
    table: &Table,
    key: &Key,
    (old, new): (Option<Image<'_>>, Option<Image<'_>>),
    now: Timestamp,
    writes: &mut Vec<Write>,
) {
    if table.record.ttl.is_none() {
        return;
    }
    let ended = old.and_then(|item| ends(table, item.view));
    if ended == new.and_then(|item| ends(table, item.view)) {
        return;
    }
    if let Some(at) = ended {
        writes.push(Write::Delete(row_key(table.account, table.record.id, at, key)));
    }
    writes.extend(new.and_then(|item| row(table, key, item.view, now)));
}
