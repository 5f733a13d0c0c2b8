//! What work that fills tables has in common: jobs are rows, and each step is one commit that holds the job's row.

use store::{Error, Page, Range, Record, Store};
use types::AccountId;

use crate::table::{Attempt, Table};

/// The jobs of a kind, one after the other: those there are, and those that come before the last is done.
pub(super) struct Jobs<V: 'static> {
    table: &'static store::Table<V>,
    /// Where the next is looked for; none after the last.
    range: Option<Range>,
}

impl<V: Record + 'static> Jobs<V> {
    /// All of them, from the first.
    pub(super) fn of(table: &'static store::Table<V>) -> Self {
        Self { table, range: Some(table.range(AccountId::NODE, 1, |_| {})) }
    }

    /// The next job.
    pub(super) async fn next(&mut self, store: &Store) -> Result<Option<V>, Error> {
        let Some(mut range) = self.range.take() else { return Ok(None) };
        let (rows, more) = self.table.scan(store, range.clone()).await?;
        let Some(row) = rows.into_iter().next() else { return Ok(None) };
        range.start = store::key::after(&row.key);
        self.range = more.then_some(range);
        Ok(Some(row.value))
    }
}

/// The table must be there still, and unchanged; if it is gone, the next try sees that.
pub(super) fn check(table: &Table, page: &Page) -> Result<(), Attempt> {
    match table.check(page) {
        Err(Attempt::Failed(crate::Error::ResourceNotFound(_))) => Err(Attempt::Stale),
        other => other,
    }
}

/// The failure of the store behind an error of work that no caller asked for.
pub(super) fn stored(error: crate::Error) -> Error {
    match error {
        crate::Error::Store(error) => error,
        other => Error::Decision(other.to_string()),
    }
}
