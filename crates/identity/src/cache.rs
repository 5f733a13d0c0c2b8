//! A bounded cache in which nothing stale outlives its invalidation.
//!
//! Two generations: what is not used while the young one fills up falls out. A loader takes a ticket before
//! it reads the store, and what it read is kept only if nothing was invalidated in between.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::RwLock;

/// A cache of at most twice `capacity` entries.
#[derive(Debug)]
pub(crate) struct Cache<K, V> {
    capacity: usize,
    inner: RwLock<Inner<K, V>>,
}

#[derive(Debug)]
struct Inner<K, V> {
    epoch: u64,
    young: HashMap<K, V>,
    old: HashMap<K, V>,
}

/// When a load began.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ticket(u64);

const LOCK: &str = "no holder of this lock panics";

impl<K: Hash + Eq + Clone, V: Clone> Cache<K, V> {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { capacity, inner: RwLock::new(Inner { epoch: 0, young: HashMap::new(), old: HashMap::new() }) }
    }

    pub(crate) fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        {
            let inner = self.inner.read().expect(LOCK);
            if let Some(value) = inner.young.get(key) {
                return Some(value.clone());
            }
            if !inner.old.contains_key(key) {
                return None;
            }
        }
        let mut inner = self.inner.write().expect(LOCK);
        let (key, value) = inner.old.remove_entry(key)?;
        self.keep(&mut inner, key, value.clone());
        Some(value)
    }

    /// To be taken before the store is read.
    pub(crate) fn ticket(&self) -> Ticket {
        Ticket(self.inner.read().expect(LOCK).epoch)
    }

    pub(crate) fn insert(&self, ticket: Ticket, key: K, value: V) {
        let mut inner = self.inner.write().expect(LOCK);
        if inner.epoch == ticket.0 {
            self.keep(&mut inner, key, value);
        }
    }

    fn keep(&self, inner: &mut Inner<K, V>, key: K, value: V) {
        if inner.young.len() >= self.capacity {
            inner.old = std::mem::take(&mut inner.young);
        }
        inner.young.insert(key, value);
    }

    /// To be called after the change is committed.
    pub(crate) fn invalidate<Q: Hash + Eq + ?Sized>(&self, key: &Q)
    where
        K: Borrow<Q>,
    {
        let mut inner = self.inner.write().expect(LOCK);
        inner.epoch += 1;
        inner.young.remove(key);
        inner.old.remove(key);
    }

    /// To be called after a change that may concern any entry.
    pub(crate) fn clear(&self) {
        let mut inner = self.inner.write().expect(LOCK);
        inner.epoch += 1;
        inner.young.clear();
        inner.old.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_loaded_before_an_invalidation_is_not_kept() {
        let cache = Cache::<String, u32>::new(2);
        let ticket = cache.ticket();
        cache.invalidate("a");
        cache.insert(ticket, "a".into(), 1);
        assert_eq!(cache.get("a"), None);
        cache.insert(cache.ticket(), "a".into(), 2);
        assert_eq!(cache.get("a"), Some(2));
    }

    #[test]
    fn it_stays_bounded_and_keeps_what_is_used() {
        let cache = Cache::<u32, u32>::new(4);
        for i in 0..100 {
            cache.insert(cache.ticket(), i, i);
            assert_eq!(cache.get(&0), Some(0), "after {i}");
        }
        assert!((0..100).filter(|i| cache.get(i).is_some()).count() <= 8);
    }
}
