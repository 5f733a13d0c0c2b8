//! The handle through which everything asks who is who, and how it is opened.

use std::sync::Arc;

use store::{Read, Store};
use types::{AccountId, Env, Region, SharedEnv, Timestamp};

use crate::cache::Cache;
use crate::config::{Config, KeyPair};
use crate::holders::{Holder, HolderKey};
use crate::policy::Policy;
use crate::resource_policies::ResourcePolicies;
use crate::sessions::Sealer;
use crate::tables::{
    self, ACCESS_KEYS, ACCOUNTS, AccessKey, Account, KeyOwner, Primary, SESSION_KEYS, SessionKey,
};
use crate::{Error, ids};

/// The number of the node's key that seals session tokens.
const SESSION_KEY: u32 = 1;

/// Accounts, keys, users, roles and policies of a node, and the decisions made from them.
#[derive(Debug)]
pub struct Identity {
    pub(crate) store: Store,
    pub(crate) env: SharedEnv,
    pub(crate) region: Region,
    pub(crate) primary: AccountId,
    root_key: KeyPair,
    pub(crate) sealer: Sealer,
    /// Long-term keys that are active, by id.
    pub(crate) keys: Cache<String, Arc<AccessKey>>,
    /// Users and roles with their policies, compiled.
    pub(crate) holders: Cache<HolderKey, Arc<Holder>>,
    /// Session policies by their text.
    pub(crate) session_policies: Cache<String, Arc<Policy>>,
    /// Policies of resources that come with the right asked for, by their text.
    pub(crate) guards: Cache<Arc<str>, Arc<Policy>>,
    pub(crate) resource_policies: std::sync::OnceLock<Arc<dyn ResourcePolicies>>,
}

impl Identity {
    /// Opens what is stored, and makes what is missing: the node's first account, its root's key pair, the
    /// key that seals session tokens. A key pair that is given takes the place of a stored one.
    pub async fn open(store: Store, env: SharedEnv, config: Config) -> Result<Arc<Self>, Error> {
        if let Some(pair) = &config.root_key {
            check_key_pair(pair)?;
        }
        let account = config.root_account.0;
        let fresh =
            KeyPair { access_key_id: ids::fresh(&*env, "AKIA"), secret_access_key: ids::secret(&*env) };
        let mut seal = [0; 32];
        env.fill(&mut seal);
        let (root_key, seal) = setup(&store, account, config.root_key, fresh, seal, env.now()).await?;
        Ok(Arc::new(Self {
            store,
            env,
            region: config.region,
            primary: account,
            root_key,
            sealer: Sealer::new(SESSION_KEY, seal),
            keys: Cache::new(8192),
            holders: Cache::new(8192),
            session_policies: Cache::new(1024),
            guards: Cache::new(1024),
            resource_policies: std::sync::OnceLock::new(),
        }))
    }

    /// The key pair of the node's root user, for the operator.
    pub fn root_key(&self) -> &KeyPair {
        &self.root_key
    }

    /// The APIs of IAM and STS.
    pub fn apis(self: &Arc<Self>) -> Vec<Arc<dyn aws::Api>> {
        vec![Arc::new(crate::IamApi::new(self.clone())), Arc::new(crate::StsApi::new(self.clone()))]
    }

    /// The node's first account.
    pub fn root_account(&self) -> AccountId {
        self.primary
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.env.now()
    }

    pub(crate) fn env(&self) -> &dyn Env {
        &*self.env
    }
}

/// What can be a key pair (IAM API reference, `AccessKey`).
pub(crate) fn check_key_pair(pair: &KeyPair) -> Result<(), Error> {
    let id = &pair.access_key_id;
    if !(16..=128).contains(&id.len()) || !id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return Err(Error::Config(format!(
            "`{id}` can not be an access key id: 16 to 128 letters, digits and underscores are needed"
        )));
    }
    if id.starts_with("ASIA") {
        return Err(Error::Config(format!("`{id}` is a temporary access key id; use a long-term one")));
    }
    if pair.secret_access_key.len() < 8 || !pair.secret_access_key.is_ascii() {
        let message = format!("the secret of access key `{id}` must have at least 8 ASCII characters");
        return Err(Error::Config(message));
    }
    Ok(())
}

/// One commit makes or updates the node's first account and keys; answers with what is stored afterwards.
async fn setup(
    store: &Store,
    account: AccountId,
    given: Option<KeyPair>,
    fresh: KeyPair,
    fresh_seal: [u8; 32],
    now: Timestamp,
) -> Result<(KeyPair, [u8; 32]), Error> {
    // Which key the account has is read first; that row only changes here and in later requests.
    let stored = ACCOUNTS.get(store, tables::account(account)).await?.map(|row| row.value);
    let stored_id = stored.as_ref().and_then(|a| a.root_keys.first().cloned());
    let wanted = given.as_ref().map(|g| g.access_key_id.clone()).or(stored_id);
    let wanted = wanted.unwrap_or_else(|| fresh.access_key_id.clone());

    let (primary_table, primary_key) = tables::primary();
    let reads = vec![
        Read::Key(primary_key.clone()),
        Read::Key(tables::account(account)),
        Read::Key(tables::session_key(SESSION_KEY)),
        Read::Key(tables::access_key(&wanted)),
    ];
    let decide = move |pages: &[store::Page], _| {
        let mut writes = Vec::new();
        if let Some(primary) = primary_table.first(&pages[0])?
            && primary.value.account != account
        {
            let first = primary.value.account;
            return Err(Error::Config(format!(
                "this data directory belongs to account {first}, not {account}; start with the account id \
                 {first}, or with another data directory"
            )));
        }
        let mut row = ACCOUNTS.first(&pages[1])?.map_or_else(
            || Account { id: account, created_at: now, root_keys: Vec::new() },
            |stored| stored.value,
        );
        let key = ACCESS_KEYS.first(&pages[3])?.map(|stored| stored.value);
        if let Some(key) = &key
            && (key.account != account || key.owner != KeyOwner::Root)
        {
            return Err(Error::Config(format!(
                "access key `{wanted}` belongs to somebody else on this node; choose another for its root"
            )));
        }
        let pair = match (&given, &key) {
            (Some(given), _) => given.clone(),
            (None, Some(key)) => {
                KeyPair { access_key_id: wanted.clone(), secret_access_key: key.secret.clone() }
            }
            (None, None) => fresh.clone(),
        };
        let seal = match SESSION_KEYS.first(&pages[2])? {
            Some(stored) => hex::decode(&stored.value.secret)
                .ok()
                .and_then(|bytes| bytes.try_into().ok())
                .ok_or_else(|| Error::Corrupt("the key that seals session tokens".into()))?,
            None => {
                let secret = hex::encode(fresh_seal);
                writes.push(SESSION_KEYS.put(tables::session_key(SESSION_KEY), &SessionKey { secret }));
                fresh_seal
            }
        };
        let unchanged = row.root_keys == [pair.access_key_id.clone()]
            && key.as_ref().is_some_and(|k| k.secret == pair.secret_access_key && k.active);
        if !unchanged {
            for old in row.root_keys.iter().filter(|old| **old != pair.access_key_id) {
                writes.push(store::Write::Delete(tables::access_key(old)));
            }
            row.root_keys = vec![pair.access_key_id.clone()];
            let secret = pair.secret_access_key.clone();
            let key = AccessKey { account, owner: KeyOwner::Root, secret, active: true, created_at: now };
            writes.push(ACCESS_KEYS.put(tables::access_key(&pair.access_key_id), &key));
            writes.push(ACCOUNTS.put(tables::account(account), &row));
            writes.push(primary_table.put(primary_key.clone(), &Primary { account }));
        }
        Ok((writes, (pair, seal)))
    };
    store.transact(reads, decide).await
}
