//! Tells watchers which keys were written, once that is durable.
//!
//! A table costs a channel from its first watcher to its last, and nothing before and after: a node may have
//! a million tables and watch three.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::broadcast;

use crate::{Key, TableId, Watch, key};

/// How many keys a watcher may fall behind before it has to read its table again.
const BACKLOG: usize = 1024;

/// The watchers of one engine.
#[derive(Debug, Default)]
pub(crate) struct Watchers {
    tables: Mutex<HashMap<TableId, broadcast::Sender<Key>>>,
}

impl Watchers {
    /// Follows a table from now on.
    pub(crate) fn watch(&self, table: TableId) -> Watch {
        let receiver = self.lock().entry(table).or_insert_with(|| broadcast::channel(BACKLOG).0).subscribe();
        Watch { receiver }
    }

    /// Tells of keys that were written; takes one lock for all of them.
    pub(crate) fn notify<'a>(&self, keys: impl IntoIterator<Item = &'a Key>) {
        let mut tables = self.lock();
        if tables.is_empty() {
            return;
        }
        for key in keys {
            let Ok(table) = key::table_of(key) else { continue };
            if let Some(sender) = tables.get(&table)
                && sender.send(key.clone()).is_err()
            {
                // The last watcher is gone.
                tables.remove(&table);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TableId, broadcast::Sender<Key>>> {
        // Nothing under this lock can leave the map half changed.
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
