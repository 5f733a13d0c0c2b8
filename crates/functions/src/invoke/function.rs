//! A function that has traffic: what is known of it, read once and kept until it changes, and a pool for each
//! of its versions that runs.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use store::Read;
use types::AccountId;

use super::lock;
use super::pattern::Pattern;
use super::pool::{Live, Pool, Shared};
use crate::Error;
use crate::extras::Extras;
use crate::name::{LATEST, Version, function_arn};
use crate::service::Inner;
use crate::tables::{
    ALIASES, AliasRow, EVENT_CONFIGS, EventConfigRow, FUNCTIONS, FunctionRow, POLICIES, PROVISIONED,
    PolicyRow, URLS, UrlRow, VERSIONS, all_of, by_name, by_number, qualifier_of,
};

/// Most aliases (and configurations of them) that one function has.
pub(crate) const MOST_QUALIFIERS: usize = 1000;

/// A function as it was at one moment. Maps are by qualifier, `None` being the function as a whole.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) row: Arc<FunctionRow>,
    /// The unqualified ARN.
    pub(crate) arn: Arc<str>,
    aliases: HashMap<String, AliasRow>,
    policies: HashMap<Option<String>, PolicyRow>,
    events: HashMap<Option<String>, EventConfigRow>,
    urls: HashMap<Option<String>, Arc<UrlRow>>,
    provisioned: HashMap<String, u32>,
    /// How often the node had been told of changes before this was read: greater is newer.
    epoch: u64,
}

impl Known {
    /// The version that an invocation with this qualifier runs. `dice` gives a number from 0 to 1 where an alias
    /// shares its invocations out.
    pub(crate) fn version(
        &self,
        qualifier: Option<&str>,
        dice: impl FnOnce() -> f64,
    ) -> Result<Version, Error> {
        let Some(qualifier) = qualifier else { return Ok(Version::Latest) };
        if let Ok(version) = qualifier.parse() {
            return Ok(version);
        }
        let alias = self.aliases.get(qualifier);
        let alias =
            alias.ok_or_else(|| Error::NotFound(format!("Function not found: {}:{qualifier}", self.arn)))?;
        Ok(match alias.shifted {
            Some((other, share)) if dice() < share => other,
            _ => alias.version,
        })
    }

    /// The resource policy of the qualifier.
    pub(crate) fn policy(&self, qualifier: Option<&str>) -> Option<&PolicyRow> {
        self.policies.get(&owner(qualifier))
    }

    /// The event invoke configuration of the qualifier.
    pub(crate) fn events(&self, qualifier: Option<&str>) -> Option<&EventConfigRow> {
        self.events.get(&owner(qualifier))
    }

    /// The URL of the function, or of an alias.
    pub(crate) fn url(&self, alias: Option<&str>) -> Option<&Arc<UrlRow>> {
        self.urls.get(&owner(alias))
    }

    /// How many instances of each version are kept ready.
    pub(crate) fn provisioned(&self) -> HashMap<Version, u32> {
        let mut versions = HashMap::new();
        for (qualifier, wanted) in &self.provisioned {
            // The version that most of an alias's invocations go to is the one that is kept ready.
            if let Ok(version) = self.version(Some(qualifier), || 1.0) {
                *versions.entry(version).or_default() += wanted;
            }
        }
        versions
    }
}

fn owner(qualifier: Option<&str>) -> Option<String> {
    qualifier.filter(|qualifier| *qualifier != LATEST).map(str::to_owned)
}

/// What an invocation has to know of the version that it runs.
#[derive(Debug)]
pub(crate) struct Deployed {
    pub(crate) account: AccountId,
    pub(crate) version: Version,
    /// The function as the version has it.
    pub(crate) row: Arc<FunctionRow>,
    /// The unqualified ARN.
    pub(crate) arn: Arc<str>,
    /// The function's reservation, which its versions share.
    pub(crate) reserved_concurrency: Option<u32>,
    /// What it asks for beyond Lambda.
    pub(crate) extras: Extras,
    /// How many instances are kept ready whatever the traffic.
    pub(crate) provisioned: u32,
    /// See [`Known::epoch`].
    pub(crate) epoch: u64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Function {
    pub(crate) account: AccountId,
    pub(crate) name: Box<str>,
    shared: Arc<Shared>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// What was read, if it has not changed since.
    known: Option<Arc<Known>>,
    epoch: u64,
    /// As the rooms have it.
    reservation: Option<u32>,
    pools: Vec<Arc<Pool>>,
}

impl Function {
    pub(crate) fn new(account: AccountId, name: &str, shared: Shared) -> Self {
        Self { account, name: name.into(), shared: Arc::new(shared), state: Mutex::default() }
    }

    /// When it is called.
    pub(crate) fn pattern(&self) -> Pattern {
        lock(&self.shared.pattern).clone()
    }

    fn known(&self) -> Result<Arc<Known>, u64> {
        let state = lock(&self.state);
        state.known.clone().ok_or(state.epoch)
    }

    /// Keeps what was read, unless the function changed in the meantime; then `None`. Else the pools that have to
    /// look again, since the function's reservation is another one now.
    fn learn(&self, known: &Arc<Known>) -> Option<Vec<Arc<Pool>>> {
        let mut state = lock(&self.state);
        if state.epoch != known.epoch {
            return None;
        }
        state.known = Some(known.clone());
        let reservation = known.row.reserved_concurrency;
        if std::mem::replace(&mut state.reservation, reservation) == reservation {
            return Some(Vec::new());
        }
        self.shared.room.set_limit(reservation.unwrap_or(0));
        self.shared.has_reservation.store(reservation.is_some(), Ordering::SeqCst);
        Some(state.pools.clone())
    }

    /// The function has changed: it is read again before it is used. Idle instances of what it was are ended
    /// now if what they are made from has changed (`retire`).
    pub(crate) fn changed(&self, retire: bool) {
        let latest = {
            let mut state = lock(&self.state);
            state.epoch += 1;
            state.known = None;
            state.pools.iter().find(|pool| pool.version == Version::Latest).filter(|_| retire).cloned()
        };
        if let Some(pool) = latest {
            pool.empty_out();
        }
    }

    /// A version is gone, or with `None` the function: its idle instances end.
    pub(crate) fn gone(&self, version: Option<Version>) {
        let gone: Vec<_> = {
            let mut state = lock(&self.state);
            state.epoch += 1;
            state.known = None;
            let is_gone = |pool: &Arc<Pool>| version.is_none_or(|version| version == pool.version);
            let (gone, kept) = std::mem::take(&mut state.pools).into_iter().partition(is_gone);
            state.pools = kept;
            gone
        };
        for pool in gone {
            pool.empty_out();
        }
    }

    /// The pools that there are.
    pub(crate) fn pools(&self) -> Vec<Arc<Pool>> {
        lock(&self.state).pools.clone()
    }

    fn pool(&self, version: Version) -> Arc<Pool> {
        let mut state = lock(&self.state);
        if let Some(pool) = state.pools.iter().find(|pool| pool.version == version) {
            return pool.clone();
        }
        let pool = Arc::new(Pool::new(version, self.shared.clone()));
        state.pools.push(pool.clone());
        pool
    }

    /// Takes out instances that are of no use any more, and pools without any; the instances.
    pub(crate) fn expired(&self, expired: impl Fn(&Pool) -> Vec<Live>) -> Vec<Live> {
        let mut state = lock(&self.state);
        let gone = state.pools.iter().flat_map(|pool| expired(pool)).collect();
        state.pools.retain(|pool| Arc::strong_count(pool) > 1 || !pool.is_empty());
        gone
    }

    /// True if nothing runs, waits or is kept here.
    pub(crate) fn is_empty(&self) -> bool {
        lock(&self.state).pools.is_empty()
    }
}

impl Inner {
    /// The function as it is now, from memory if nothing changed since it was last read.
    pub(crate) async fn known(self: &Arc<Self>, function: &Function) -> Result<Arc<Known>, Error> {
        loop {
            let epoch = match function.known() {
                Ok(known) => return Ok(known),
                Err(epoch) => epoch,
            };
            let known = Arc::new(self.read_function(function.account, &function.name, epoch).await?);
            if let Some(pools) = function.learn(&known) {
                for pool in pools {
                    pool.look_again(self);
                }
                return Ok(known);
            }
            // It changed while it was read: read again, so that nothing older than the change is used.
        }
    }

    async fn read_function(&self, account: AccountId, name: &str, epoch: u64) -> Result<Known, Error> {
        fn by_qualifier<V: store::Record>(
            table: &store::Table<V>,
            page: &store::Page,
        ) -> Result<HashMap<Option<String>, V>, store::Error> {
            let rows = page.entries.iter().map(|entry| table.decode(entry));
            rows.map(|row| row.map(|row| (qualifier_of(&row.key), row.value))).collect()
        }
        let most = MOST_QUALIFIERS + 1;
        let reads = vec![
            Read::Key(by_name(&FUNCTIONS, account, name)),
            Read::Range(all_of(&ALIASES, account, name, most)),
            Read::Range(all_of(&POLICIES, account, name, most)),
            Read::Range(all_of(&EVENT_CONFIGS, account, name, most)),
            Read::Range(all_of(&URLS, account, name, most)),
            Read::Range(all_of(&PROVISIONED, account, name, most)),
        ];
        let pages = self.store.read(reads).await?;
        let arn = function_arn(account, &self.region, name);
        let Some(row) = FUNCTIONS.first(&pages[0])? else {
            return Err(Error::NotFound(format!("Function not found: {arn}")));
        };
        let aliases = by_qualifier(&ALIASES, &pages[1])?;
        let provisioned = by_qualifier(&PROVISIONED, &pages[5])?;
        let provisioned = provisioned.into_iter().filter_map(|(name, row)| Some((name?, row.requested)));
        Ok(Known {
            row: Arc::new(row.value),
            arn: arn.into(),
            aliases: aliases.into_iter().filter_map(|(name, row)| Some((name?, row))).collect(),
            policies: by_qualifier(&POLICIES, &pages[2])?,
            events: by_qualifier(&EVENT_CONFIGS, &pages[3])?,
            urls: by_qualifier(&URLS, &pages[4])?
                .into_iter()
                .map(|(name, url)| (name, Arc::new(url)))
                .collect(),
            provisioned: provisioned.collect(),
            epoch,
        })
    }

    /// The version of a function that is to run, and the pool that runs it.
    pub(crate) async fn deployed(
        &self,
        function: &Function,
        known: &Known,
        version: Version,
    ) -> Result<(Arc<Pool>, Arc<Deployed>), Error> {
        if let Some(pool) = lock(&function.state).pools.iter().find(|pool| pool.version == version)
            && let Some(deployed) = pool.known(known.epoch)
        {
            return Ok((pool.clone(), deployed));
        }
        let row = match version {
            Version::Latest => known.row.clone(),
            Version::Number(number) => {
                let key = by_number(&VERSIONS, function.account, &function.name, number);
                let stored = VERSIONS.get(&self.store, key).await?;
                let stored = stored
                    .ok_or_else(|| Error::NotFound(format!("Function not found: {}:{number}", known.arn)))?;
                Arc::new(stored.value.function)
            }
        };
        row.check_state()?;
        let deployed = Arc::new(Deployed {
            account: function.account,
            version,
            arn: known.arn.clone(),
            reserved_concurrency: known.row.reserved_concurrency,
            // It was checked when it was stored.
            extras: Extras::read(&row.environment).unwrap_or_default(),
            row,
            provisioned: known.provisioned().get(&version).copied().unwrap_or(0),
            epoch: known.epoch,
        });
        let pool = function.pool(version);
        pool.learn(&deployed);
        Ok((pool, deployed))
    }
}
