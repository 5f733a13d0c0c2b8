//! Users and roles as evaluation needs them: their policies compiled, kept in memory while they are used.

use std::collections::BTreeMap;
use std::sync::Arc;

use types::{AccountId, Principal};

use crate::policy::{Kind, Policy};
use crate::tables::{self, Grants, HolderKind, POLICIES, ROLES, USERS};
use crate::{Error, Identity, managed};

/// A user or role; the name in lower case.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct HolderKey {
    pub(crate) account: AccountId,
    pub(crate) kind: HolderKind,
    pub(crate) name: String,
}

impl HolderKey {
    pub(crate) fn new(account: AccountId, kind: HolderKind, name: &str) -> Self {
        Self { account, kind, name: name.to_ascii_lowercase() }
    }
}

/// A user or role with everything that decides what it may do.
#[derive(Debug)]
pub(crate) struct Holder {
    pub(crate) name: String,
    pub(crate) id: String,
    /// Its ARN in IAM, with path.
    pub(crate) arn: String,
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) policies: Vec<Arc<Policy>>,
    pub(crate) boundary: Option<Arc<Policy>>,
    /// Roles: who may assume it.
    pub(crate) trust: Option<Policy>,
    pub(crate) max_session_s: u32,
}

impl Identity {
    /// The holder of that name, from memory if it can.
    pub(crate) async fn holder(&self, key: HolderKey) -> Result<Option<Arc<Holder>>, Error> {
        if let Some(holder) = self.holders.get(&key) {
            return Ok(Some(holder));
        }
        let ticket = self.holders.ticket();
        let Some(holder) = self.load(&key).await? else { return Ok(None) };
        let holder = Arc::new(holder);
        self.holders.insert(ticket, key, holder.clone());
        Ok(Some(holder))
    }

    /// The holder that a principal is: the same one, not a later one of the same name.
    pub(crate) async fn holder_of(&self, principal: &Principal) -> Result<Option<Arc<Holder>>, Error> {
        let (key, id) = match principal {
            Principal::User { account, name, id } => (HolderKey::new(*account, HolderKind::User, name), id),
            Principal::AssumedRole { account, role, id, .. } => {
                (HolderKey::new(*account, HolderKind::Role, role), id)
            }
            Principal::Root { .. } | Principal::Service { .. } | Principal::Anonymous => return Ok(None),
        };
        Ok(self.holder(key).await?.filter(|holder| holder.id == *id))
    }

    /// The role of that ARN.
    pub(crate) async fn role_by_arn(&self, arn: &str) -> Result<Option<(AccountId, Arc<Holder>)>, Error> {
        let Some((account, name)) = parse_role_arn(arn) else { return Ok(None) };
        let holder = self.holder(HolderKey::new(account, HolderKind::Role, name)).await?;
        Ok(holder.filter(|holder| holder.arn == arn).map(|holder| (account, holder)))
    }

    async fn load(&self, key: &HolderKey) -> Result<Option<Holder>, Error> {
        match key.kind {
            HolderKind::User => {
                let Some(row) = USERS.get(&self.store, tables::user(key.account, &key.name)).await? else {
                    return Ok(None);
                };
                let user = row.value;
                let (policies, boundary) = self.compile(key.account, &user.grants).await?;
                Ok(Some(Holder {
                    arn: format!("arn:aws:iam::{}:user{}{}", key.account, user.path, user.name),
                    name: user.name,
                    id: user.id,
                    tags: user.tags,
                    policies,
                    boundary,
                    trust: None,
                    max_session_s: 0,
                }))
            }
            HolderKind::Role => {
                let Some(row) = ROLES.get(&self.store, tables::role(key.account, &key.name)).await? else {
                    return Ok(None);
                };
                let role = row.value;
                let (policies, boundary) = self.compile(key.account, &role.grants).await?;
                Ok(Some(Holder {
                    arn: format!("arn:aws:iam::{}:role{}{}", key.account, role.path, role.name),
                    name: role.name,
                    id: role.id,
                    tags: role.tags,
                    policies,
                    boundary,
                    trust: Some(compile_stored(&role.trust, Kind::Trust)?),
                    max_session_s: role.max_session_s,
                }))
            }
        }
    }

    async fn compile(
        &self,
        account: AccountId,
        grants: &Grants,
    ) -> Result<(Vec<Arc<Policy>>, Option<Arc<Policy>>), Error> {
        let mut policies = Vec::with_capacity(grants.inline.len() + grants.attached.len());
        for document in grants.inline.values() {
            policies.push(Arc::new(compile_stored(document, Kind::Identity)?));
        }
        for arn in &grants.attached {
            policies.push(self.managed_policy(account, arn).await?);
        }
        let boundary = match &grants.boundary {
            Some(arn) => Some(self.managed_policy(account, arn).await?),
            None => None,
        };
        Ok((policies, boundary))
    }

    async fn managed_policy(&self, account: AccountId, arn: &str) -> Result<Arc<Policy>, Error> {
        if let Some(policy) = managed::get(arn) {
            return Ok(policy.policy.clone());
        }
        // A policy that is attached can not be deleted, so its absence is damage; without it, deny.
        let missing = || Error::Corrupt(format!("managed policy {arn} is attached and does not exist"));
        let name = arn.rsplit('/').next().unwrap_or_default();
        let row = POLICIES.get(&self.store, tables::policy(account, name)).await?.ok_or_else(missing)?.value;
        let version = row.versions.iter().find(|v| v.number == row.default_version).ok_or_else(missing)?;
        compile_stored(&version.document, Kind::Identity).map(Arc::new)
    }
}

fn compile_stored(document: &str, kind: Kind) -> Result<Policy, Error> {
    Policy::parse(document, kind).map_err(|error| Error::Corrupt(format!("a stored policy: {error}")))
}

/// Account and name of `arn:aws:iam::account:role/path/name`.
pub(crate) fn parse_role_arn(arn: &str) -> Option<(AccountId, &str)> {
    let (account, resource) = arn.strip_prefix("arn:aws:iam::")?.split_once(':')?;
    let name = resource.strip_prefix("role/")?.rsplit('/').next()?;
    Some((account.parse().ok()?, name))
}
