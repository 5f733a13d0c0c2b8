//! What every request to a bucket has to know of it, kept in memory.
//!
//! Invariant: what is given was true at some moment since it was asked for. Rows that are written are noticed before who
//! wrote them has an answer, and forgotten; a row that was read while it changed is not kept.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use store::{Key, Store, Watch};

use crate::Error;
use crate::tables::{self, NAMES, NameRow};

/// How many buckets are kept; when there are more, all are forgotten.
const MOST_KEPT: usize = 4096;

/// The rows of buckets that were asked for lately.
pub(crate) struct Homes {
    store: Store,
    kept: Mutex<Kept>,
}

struct Kept {
    rows: HashMap<Key, Arc<NameRow>>,
    written: Watch,
    /// How often something was forgotten.
    changes: u64,
}

impl Kept {
    /// Forgets what was written since the last look.
    fn catch_up(&mut self) {
        while let Some(written) = self.written.try_next() {
            self.changes += 1;
            match written {
                Some(key) => drop(self.rows.remove(&key)),
                // Some keys were missed.
                None => self.rows.clear(),
            }
        }
    }
}

impl Homes {
    pub(crate) fn new(store: Store) -> Self {
        let kept = Kept { rows: HashMap::new(), written: store.watch(NAMES.id()), changes: 0 };
        Self { store, kept: Mutex::new(kept) }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        let mut kept = self.kept.lock().expect("no holder of this lock panics");
        kept.catch_up();
        kept
    }

    /// What is known of a bucket from its name.
    pub(crate) async fn get(&self, bucket: &str) -> Result<Option<Arc<NameRow>>, Error> {
        let key = tables::name_key(bucket);
        let changes = {
            let kept = self.kept();
            if let Some(row) = kept.rows.get(&key) {
                return Ok(Some(row.clone()));
            }
            kept.changes
        };
        let Some(row) = NAMES.get(&self.store, key.clone()).await? else { return Ok(None) };
        let row = Arc::new(row.value);
        let mut kept = self.kept();
        if kept.changes == changes {
            if kept.rows.len() >= MOST_KEPT {
                kept.rows.clear();
            }
            kept.rows.insert(key, row.clone());
        }
        Ok(Some(row))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use store::{MemoryEngine, Write};
    use types::AccountId;

    #[tokio::test]
    async fn a_change_is_seen_at_once() {
        let store = Store::new(MemoryEngine::new());
        let homes = Homes::new(store.clone());
        let put = |row: &NameRow| NAMES.put(tables::name_key("photos"), row);
        assert!(homes.get("photos").await.unwrap().is_none());
        let mut row = NameRow::new(AccountId::DEFAULT);
        store.write(vec![put(&row)]).await.unwrap();
        for _ in 0..2 {
            assert!(homes.get("photos").await.unwrap().unwrap().policy.is_none());
        }
        row.policy = Some("{}".into());
        store.write(vec![put(&row)]).await.unwrap();
        assert_eq!(homes.get("photos").await.unwrap().unwrap().policy.as_deref(), Some("{}"));
        // More than a watcher may fall behind.
        for n in 0..3000 {
            let key = tables::name_key(&format!("bucket-{n}"));
            store.write(vec![NAMES.put(key, &row)]).await.unwrap();
        }
        assert!(homes.get("bucket-2999").await.unwrap().is_some());
        store.write(vec![Write::Delete(tables::name_key("photos"))]).await.unwrap();
        assert!(homes.get("photos").await.unwrap().is_none());
    }
}
