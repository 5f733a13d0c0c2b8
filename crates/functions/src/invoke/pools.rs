//! The functions of a node that have instances or requests; others have none of this.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use types::AccountId;

use super::function::Function;
use super::lock;
use super::pattern::Pattern;
use super::pool::{Live, Pool, Shared};
use super::room::Room;
use super::scaling::Scaling;
use crate::Error;
use crate::name::Version;
use crate::service::Inner;
use crate::tables::{TOTALS, totals_key};

const SHARDS: usize = 64;
/// Of how many functions without traffic it is remembered when they are called: some 100 bytes each.
const REMEMBERED: usize = 10_000;

type Shard = HashMap<AccountId, HashMap<Box<str>, Arc<Function>>>;

/// Functions by account and name; requests of different functions rarely meet at a lock.
#[derive(Debug)]
pub(crate) struct Pools {
    shards: Vec<Mutex<Shard>>,
    hasher: RandomState,
    rooms: Mutex<HashMap<AccountId, Arc<Room>>>,
    dormant: Mutex<HashMap<(AccountId, Box<str>), Pattern>>,
}

impl Default for Pools {
    fn default() -> Self {
        let shards = std::iter::repeat_with(Mutex::default).take(SHARDS).collect();
        Self { shards, hasher: RandomState::new(), rooms: Mutex::default(), dormant: Mutex::default() }
    }
}

impl Pools {
    fn shard(&self, account: AccountId, name: &str) -> &Mutex<Shard> {
        let hash = self.hasher.hash_one((account, name));
        &self.shards[usize::try_from(hash % SHARDS as u64).expect("it is below 64")]
    }

    /// The function, if it has traffic.
    pub(crate) fn find(&self, account: AccountId, name: &str) -> Option<Arc<Function>> {
        lock(self.shard(account, name)).get(&account)?.get(name).cloned()
    }

    /// Every function.
    pub(crate) fn functions(&self) -> Vec<Arc<Function>> {
        let of_shard = |shard: &Mutex<Shard>| {
            lock(shard).values().flat_map(HashMap::values).cloned().collect::<Vec<_>>()
        };
        self.shards.iter().flat_map(of_shard).collect()
    }

    /// Every pool.
    pub(crate) fn all(&self) -> Vec<Arc<Pool>> {
        self.functions().iter().flat_map(|function| function.pools()).collect()
    }

    /// The account's room, if one of its functions is in use.
    pub(crate) fn room(&self, account: AccountId) -> Option<Arc<Room>> {
        lock(&self.rooms).get(&account).cloned()
    }

    /// Forgets functions that nothing uses, and rooms that no function uses.
    pub(crate) fn prune(&self) {
        for shard in &self.shards {
            lock(shard).retain(|account, functions| {
                functions.retain(|name, function| {
                    // A clone is only ever made from the map or from another clone: one is the map's own.
                    let used = Arc::strong_count(function) > 1 || !function.is_empty();
                    if !used {
                        self.remember(*account, name, function.pattern());
                    }
                    used
                });
                !functions.is_empty()
            });
        }
        lock(&self.rooms).retain(|_, room| Arc::strong_count(room) > 1);
    }

    fn remember(&self, account: AccountId, name: &str, pattern: Pattern) {
        let mut dormant = lock(&self.dormant);
        if dormant.len() >= REMEMBERED
            && let Some(any) = dormant.keys().next().cloned()
        {
            dormant.remove(&any);
        }
        dormant.insert((account, name.into()), pattern);
    }
}

impl Inner {
    /// The function, taken into memory if it had no traffic.
    pub(crate) async fn function(&self, account: AccountId, name: &str) -> Result<Arc<Function>, Error> {
        if let Some(function) = self.pools.find(account, name) {
            return Ok(function);
        }
        let account_room = match self.pools.room(account) {
            Some(room) => room,
            None => {
                let totals = TOTALS.get(&self.store, totals_key(account)).await?;
                let reserved = totals.map_or(0, |stored| stored.value.reserved);
                let room = Arc::new(Room::new(self.config.account_concurrency, reserved));
                lock(&self.pools.rooms).entry(account).or_insert(room).clone()
            }
        };
        let pattern = lock(&self.pools.dormant).remove(&(account, name.into())).unwrap_or_default();
        let most = self.config.scaling_per_10_s;
        let shared = Shared {
            account_room,
            room: Arc::new(Room::new(0, 0)),
            has_reservation: AtomicBool::new(false),
            scaling: Scaling::new(most, Duration::from_secs(10), self.env.monotonic()),
            pattern: Mutex::new(pattern),
        };
        let mut shard = lock(self.pools.shard(account, name));
        let functions = shard.entry(account).or_default();
        let made = || Arc::new(Function::new(account, name, shared));
        Ok(functions.entry(name.into()).or_insert_with(made).clone())
    }

    /// A function has changed; `retire` if instances of its latest version are not to be used any more.
    pub(crate) fn changed(&self, account: AccountId, name: &str, retire: bool) {
        if let Some(function) = self.pools.find(account, name) {
            function.changed(retire);
        }
    }

    /// A version is gone, or with `None` the function.
    pub(crate) fn gone(&self, account: AccountId, name: &str, version: Option<Version>) {
        if let Some(function) = self.pools.find(account, name) {
            function.gone(version);
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

    /// Ends what has been idle for too long; everything idle if `all`. Forgets what has no traffic.
    pub(crate) fn reap(&self, all: bool) {
        let now = self.env.monotonic();
        for function in self.pools.functions() {
            let gone = function.expired(|pool| pool.expired(now, &self.config, all));
            gone.into_iter().for_each(Live::retire);
        }
        self.pools.prune();
    }

    /// Gives idle instances up while the machine is short of memory, whatever takes it.
    pub(crate) fn relieve(&self) {
        let reserve_mb = self.config.memory_reserve_mb;
        if let Some(available_mb) = crate::config::available_memory_mb()
            && available_mb < reserve_mb
            && self.evict(reserve_mb - available_mb)
        {
            tracing::info!(available_mb, "the machine is short of memory: idle instances were ended");
        }
    }
}
