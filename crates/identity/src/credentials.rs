//! What signatures are verified against, and how temporary credentials are made.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws::{Credential, CredentialSource, Origin, RoleSource, TemporaryCredentials};
use types::{AccountId, Principal, Timestamp};

use crate::holders::{Holder, HolderKey};
use crate::policy::{Context, Decision};
use crate::sessions::{Claims, Who};
use crate::tables::{self, ACCESS_KEYS, ACCOUNTS, AccessKey, HolderKind, KeyOwner};
use crate::{Error, Identity, ids};

impl Identity {
    async fn long_term_key(&self, id: &str) -> Result<Option<Arc<AccessKey>>, Error> {
        if let Some(key) = self.keys.get(id) {
            return Ok(Some(key));
        }
        let ticket = self.keys.ticket();
        let Some(row) = ACCESS_KEYS.get(&self.store, tables::access_key(id)).await? else { return Ok(None) };
        if !row.value.active {
            return Ok(None);
        }
        let key = Arc::new(row.value);
        self.keys.insert(ticket, id.to_owned(), key.clone());
        Ok(Some(key))
    }

    /// Temporary credentials; expiry in whole seconds, so that it reads the same everywhere.
    pub(crate) fn issue(
        &self,
        account: AccountId,
        who: Who,
        policy: Option<String>,
        duration: Duration,
    ) -> TemporaryCredentials {
        let seconds = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
        let expires_s = self.now().as_second().saturating_add(seconds);
        let expires_at = Timestamp::from_second(expires_s).unwrap_or(Timestamp::MAX);
        let access_key_id = ids::fresh(self.env(), "ASIA");
        let claims = Claims { access_key_id, expires_s, account, who, policy };
        let (session_token, secret_access_key) = self.sealer.seal(&claims);
        TemporaryCredentials {
            access_key_id: claims.access_key_id.clone(),
            secret_access_key,
            session_token,
            expires_at,
            principal: claims.principal(),
        }
    }

    /// What a role's trust policy says about `principal` assuming it.
    pub(crate) fn trust_decision(
        &self,
        holder: &Holder,
        principal: &Principal,
        principal_arn: &str,
        origin: &Origin,
        keys: &[(std::borrow::Cow<'static, str>, Vec<String>)],
    ) -> Decision {
        let context = Context {
            principal,
            principal_arn,
            tags: None,
            origin,
            action: "sts:assumerole",
            resource: &holder.arn,
            keys,
            now: self.now(),
            region: self.region.as_str(),
        };
        holder.trust.as_ref().map_or(Decision::Default, |trust| trust.evaluate(&context))
    }
}

#[async_trait]
impl CredentialSource for Identity {
    async fn find(
        &self,
        access_key_id: &str,
        session_token: Option<&str>,
    ) -> Result<Option<Credential>, aws::Error> {
        let Some(token) = session_token else {
            let key = self.long_term_key(access_key_id).await?;
            return Ok(key.map(|key| {
                let account = key.account;
                Credential {
                    secret_access_key: key.secret.clone(),
                    session_token: None,
                    expires_at: None,
                    principal: match &key.owner {
                        KeyOwner::Root => Principal::Root { account },
                        KeyOwner::User { name, id } => {
                            Principal::User { account, name: name.clone(), id: id.clone() }
                        }
                    },
                    session_policy: None,
                }
            }));
        };
        let Some((claims, secret_access_key)) = self.sealer.open(token) else { return Ok(None) };
        if claims.access_key_id != access_key_id {
            return Ok(None);
        }
        let Some(expires_at) = claims.expires_at() else { return Ok(None) };
        let session_policy = claims.policy.clone();
        Ok(Some(Credential {
            secret_access_key,
            session_token: Some(token.to_owned()),
            expires_at: Some(expires_at),
            principal: claims.principal(),
            session_policy,
        }))
    }
}

#[async_trait]
impl RoleSource for Identity {
    async fn is_there(&self, arn: &str) -> Result<Option<bool>, aws::Error> {
        let Ok(parsed) = arn.parse::<types::Arn>() else { return Ok(None) };
        let kind = match parsed.resource.split_once('/') {
            Some(("user", _)) => HolderKind::User,
            Some(("role", _)) => HolderKind::Role,
            Some(_) | None => return Ok(None),
        };
        let (Ok(account), "iam") = (parsed.account.parse(), parsed.service.as_str()) else { return Ok(None) };
        let known = ACCOUNTS.get(&self.store, tables::account(account)).await.map_err(Error::from)?;
        if known.is_none() {
            return Ok(None);
        }
        let name = parsed.resource.rsplit('/').next().unwrap_or_default();
        let holder = self.holder(HolderKey::new(account, kind, name)).await?;
        Ok(Some(holder.is_some_and(|holder| holder.arn == arn)))
    }

    async fn assume(
        &self,
        account: AccountId,
        role_arn: &str,
        session_name: &str,
        service: &str,
        duration: Duration,
    ) -> Result<TemporaryCredentials, aws::Error> {
        let role = self.role_by_arn(role_arn).await?.filter(|(owner, _)| *owner == account);
        let Some((_, role)) = role else {
            let message = format!("The role {role_arn} does not exist in account {account}.");
            return Err(aws::Error::new(types::ErrorKind::Invalid, "ValidationError", message));
        };
        let principal = Principal::Service { account, name: service.to_owned() };
        let keys = [("aws:SourceAccount".into(), vec![account.to_string()])];
        if self.trust_decision(&role, &principal, service, &Origin::Platform, &keys) != Decision::Allow {
            let message = format!("The trust policy of role {role_arn} does not let {service} assume it.");
            return Err(Error::AccessDenied(message).into());
        }
        let who = Who::Role(role.name.clone(), role.id.clone(), session_name.to_owned());
        Ok(self.issue(account, who, None, duration))
    }
}
