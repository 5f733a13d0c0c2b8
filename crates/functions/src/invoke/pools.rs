//! The pools of a node: only functions that have instances or requests have one.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use types::AccountId;

use super::account::AccountRoom;
use super::lock;
use super::pool::{Live, Pool};
use crate::Error;
use crate::service::Inner;
use crate::tables::{TOTALS, totals_key};

const SHARDS: usize = 64;

type Shard = HashMap<AccountId, HashMap<Box<str>, Arc<Pool>>>;

/// Pools by account and name; requests of different functions rarely meet at a lock.
#[derive(Debug)]
pub(crate) struct Pools {
    shards: Vec<Mutex<Shard>>,
    hasher: RandomState,
    rooms: Mutex<HashMap<AccountId, Arc<AccountRoom>>>,
}

impl Default for Pools {
    fn default() -> Self {
        let shards = std::iter::repeat_with(Mutex::default).take(SHARDS).collect();
        Self { shards, hasher: RandomState::new(), rooms: Mutex::default() }
    }
}

impl Pools {
    fn shard(&self, account: AccountId, name: &str) -> &Mutex<Shard> {
        let hash = self.hasher.hash_one((account, name));
        &self.shards[usize::try_from(hash % SHARDS as u64).expect("it is below 64")]
    }

    /// The function's pool, if it has one.
    pub(crate) fn find(&self, account: AccountId, name: &str) -> Option<Arc<Pool>> {
        lock(self.shard(account, name)).get(&account)?.get(name).cloned()
    }

    /// Every pool.
    pub(crate) fn all(&self) -> Vec<Arc<Pool>> {
        let of_shard = |shard: &Mutex<Shard>| {
            lock(shard).values().flat_map(HashMap::values).cloned().collect::<Vec<_>>()
        };
        self.shards.iter().flat_map(of_shard).collect()
    }

    /// The account's room, if one of its functions is in use.
    pub(crate) fn room(&self, account: AccountId) -> Option<Arc<AccountRoom>> {
        lock(&self.rooms).get(&account).cloned()
    }

    /// Forgets pools that nothing uses, and rooms that no pool uses.
    pub(crate) fn prune(&self) {
        for shard in &self.shards {
            lock(shard).retain(|_, pools| {
                // A clone is only ever made from the map or from another clone: one is the map's own.
                pools.retain(|_, pool| Arc::strong_count(pool) > 1 || !pool.is_empty());
                !pools.is_empty()
            });
        }
        lock(&self.rooms).retain(|_, room| Arc::strong_count(room) > 1);
    }
}

impl Inner {
    /// The function's pool, made if it has none.
    pub(crate) async fn pool(&self, account: AccountId, name: &str) -> Result<Arc<Pool>, Error> {
        if let Some(pool) = self.pools.find(account, name) {
            return Ok(pool);
        }
        let room = match self.pools.room(account) {
            Some(room) => room,
            None => {
                let totals = TOTALS.get(&self.store, totals_key(account)).await?;
                let reserved = totals.map_or(0, |stored| stored.value.reserved);
                let room = Arc::new(AccountRoom::new(self.config.account_concurrency, reserved));
                lock(&self.pools.rooms).entry(account).or_insert(room).clone()
            }
        };
        let mut shard = lock(self.pools.shard(account, name));
        let pools = shard.entry(account).or_default();
        let pool = pools.entry(name.into()).or_insert_with(|| Arc::new(Pool::new(account, name, room)));
        Ok(pool.clone())
    }

    /// A function has changed; `retire` if instances made before are not to be used any more.
    pub(crate) fn changed(&self, account: AccountId, name: &str, retire: bool) {
        if let Some(pool) = self.pools.find(account, name) {
            pool.changed(retire);
        }
    }

    /// Ends the idle instances that were used longest ago, up to `missing_mb` of memory. False if there are
    /// none.
    pub(crate) fn evict(&self, missing_mb: u64) -> bool {
        let mut oldest: Vec<_> =
            self.pools.all().into_iter().filter_map(|pool| Some((pool.oldest_idle()?, pool))).collect();
        oldest.sort_unstable_by_key(|(since, _)| std::cmp::Reverse(*since));
        let mut freed_mb = 0;
        while freed_mb < missing_mb {
            let Some((_, pool)) = oldest.pop() else { break };
            let Some(mut live) = pool.take_oldest_idle() else { continue };
            freed_mb += u64::from(live.deployed.row.memory_mb);
            live.grant.leave();
            live.retire();
            if let Some(since) = pool.oldest_idle() {
                let at = oldest.partition_point(|(other, _)| *other > since);
                oldest.insert(at, (since, pool));
            }
        }
        freed_mb > 0
    }

    /// Ends what has been idle for too long; everything idle if `keep_alive` is `None`.
    pub(crate) fn reap(&self, keep_alive: Option<Duration>) {
        let now = self.env.monotonic();
        let before = keep_alive.map(|keep_alive| now.saturating_sub(keep_alive));
        for pool in self.pools.all() {
            pool.expired(now, before).into_iter().for_each(Live::retire);
        }
        self.pools.prune();
    }
}
