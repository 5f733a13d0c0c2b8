//! The handle through which everything reads and writes.

use std::cmp::Ordering;
use std::sync::{Arc, Mutex};

use types::AccountId;

use crate::key::{KeyError, KeyWriter, account_of, table_of};
use crate::{
    Commit, Committed, Engine, Entry, Error, Key, Page, Range, Read, ReadRequest, TableId, Version, Watch,
    Write,
};

/// A cheap handle to the engine.
#[derive(Debug, Clone)]
pub struct Store {
    engine: Arc<dyn Engine>,
}

impl Store {
    /// A handle to `engine`.
    pub fn new(engine: Arc<dyn Engine>) -> Self {
        Self { engine }
    }

    /// One row.
    pub async fn get(&self, key: Key) -> Result<Option<Entry>, Error> {
        let mut pages = self.read(vec![Read::Key(key)]).await?;
        Ok(pages.swap_remove(0).entries.pop())
    }

    /// A run of rows.
    pub async fn scan(&self, range: Range) -> Result<Page, Error> {
        Ok(self.read(vec![Read::Range(range)]).await?.swap_remove(0))
    }

    /// A page for each read, in order, all at one snapshot.
    pub async fn read(&self, reads: Vec<Read>) -> Result<Vec<Page>, Error> {
        Ok(self.engine.read(ReadRequest { reads }).await?.pages)
    }

    /// Writes without conditions.
    pub async fn write(&self, writes: Vec<Write>) -> Result<Committed, Error> {
        self.engine.commit(Commit::of(writes)).await
    }

    /// Reads, decides and writes as one serialisable step. `decide` gets a page for each read, in order, and
    /// the version that its writes will carry; it answers with what to write and a value to return, or an
    /// error, which writes nothing. An empty list of writes is fine. See [`crate::engine::Decide`] for what
    /// it may do: it is pure, takes microseconds, and may run again.
    pub async fn transact<T, E, F>(&self, reads: Vec<Read>, mut decide: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
        F: FnMut(&[Page], Version) -> Result<(Vec<Write>, T), E> + Send + 'static,
    {
        let outcome = Arc::new(Mutex::new(None));
        let slot = outcome.clone();
        let decide = Box::new(move |pages: &[Page], version| {
            let (writes, result) = match decide(pages, version) {
                Ok((writes, value)) => (Some(writes), Ok(value)),
                Err(error) => (None, Err(error)),
            };
            *slot.lock().expect("no holder of this lock panics") = Some(result);
            writes
        });
        self.engine.commit(Commit { reads, decide }).await?;
        let result = outcome.lock().expect("no holder of this lock panics").take();
        result.expect("an engine that commits has called `decide`")
    }

    /// The first account at or after `from` that has rows in `table`: how background work finds whom to work
    /// for without knowing every account. Costs two seeks for each account that it passes.
    pub async fn next_account(&self, table: TableId, from: AccountId) -> Result<Option<AccountId>, Error> {
        let end = KeyWriter::new(AccountId::NODE, TableId(0)).finish();
        let mut from = from;
        loop {
            let start = KeyWriter::new(from, table).finish();
            let range = Range { start, end: end.clone(), limit: 1, limit_bytes: 1, reverse: false };
            let page = self.scan(range).await?;
            let Some(entry) = page.first() else { return Ok(None) };
            let corrupt = |e: KeyError| Error::Corrupt { table: "any", reason: e.to_string() };
            let account = account_of(&entry.key).map_err(corrupt)?;
            let found = table_of(&entry.key).map_err(corrupt)?;
            from = match found.cmp(&table) {
                Ordering::Equal => return Ok(Some(account)),
                Ordering::Less => account,
                Ordering::Greater => match AccountId::from_number(account.number() + 1) {
                    Some(next) => next,
                    None => return Ok(None),
                },
            };
        }
    }

    /// Follows the keys written in a table, from now on.
    pub fn watch(&self, table: TableId) -> Watch {
        self.engine.watch(table)
    }

    /// Bytes on disk (or in memory).
    pub fn size_bytes(&self) -> u64 {
        self.engine.size_bytes()
    }

    /// Refuses further commits and returns when those under way are done.
    pub async fn close(&self) -> Result<(), Error> {
        self.engine.close().await
    }
}
