//! Finds keys by what requests call them, and says what rights their use needs.

use std::sync::Arc;

use aws::{Access, Guard};
use store::Stored;
use types::AccountId;

use crate::Error;
use crate::material::{Context, id_bits};
use crate::service::Scope;
use crate::tables::{self, ALIASES, KEYS, KeyRow};

/// A key that was found.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) account: AccountId,
    pub(crate) row: Arc<Stored<KeyRow>>,
    pub(crate) arn: String,
}

/// What a request calls a key.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Named {
    Id(String),
    Alias(String),
}

/// Reads what a request calls a key, and whose it says it is.
fn read(scope: &Scope, text: &str) -> Result<(AccountId, Named), Error> {
    let invalid = || Error::NotFound(format!("Invalid keyId '{text}'"));
    let (account, name) = match text.strip_prefix("arn:") {
        None => (scope.account, text),
        Some(rest) => {
            let parts: Vec<_> = rest.splitn(5, ':').collect();
            let [_, "kms", region, account, resource] = parts[..] else { return Err(invalid()) };
            if region != scope.region.as_str() {
                return Err(Error::NotFound(format!("Invalid arn {region}")));
            }
            let account = account.parse().map_err(|_| invalid())?;
            let resource = match resource.strip_prefix("key/") {
                Some(id) => id,
                None if resource.starts_with("alias/") => resource,
                None => return Err(invalid()),
            };
            (account, resource)
        }
    };
    let named = match name.strip_prefix("alias/") {
        Some(alias) => Named::Alias(alias.to_owned()),
        None if id_bits(name).is_some() => Named::Id(name.to_owned()),
        None => return Err(invalid()),
    };
    Ok((account, named))
}

impl Scope {
    pub(crate) fn key_arn(&self, account: AccountId, id: &str) -> String {
        format!("arn:aws:kms:{}:{account}:key/{id}", self.region)
    }

    pub(crate) fn alias_arn(&self, account: AccountId, name: &str) -> String {
        format!("arn:aws:kms:{}:{account}:alias/{name}", self.region)
    }

    /// The key of that id.
    pub(crate) async fn by_id(&self, account: AccountId, id: &str) -> Result<Found, Error> {
        let arn = self.key_arn(account, id);
        let row = KEYS.get(&self.inner.store, tables::key_row(account, id)).await?;
        // One whose time has come is gone, also if it has not been destroyed yet.
        let row = row.filter(|row| row.value.deletion_ms.is_none_or(|at| at > self.now_ms()));
        match row {
            Some(row) => Ok(Found { account, row: Arc::new(row), arn }),
            None => Err(Error::NotFound(format!("Key '{arn}' does not exist"))),
        }
    }

    /// The key that a request means by an id or the ARN of a key.
    pub(crate) async fn key(&self, text: &str) -> Result<Found, Error> {
        match read(self, text)? {
            (account, Named::Id(id)) => self.by_id(account, &id).await,
            (_, Named::Alias(_)) => Err(Error::NotFound(format!("Invalid keyId '{text}'"))),
        }
    }

    /// The key that a request means by any of a key's names.
    pub(crate) async fn key_or_alias(&self, text: &str) -> Result<Found, Error> {
        match read(self, text)? {
            (account, Named::Id(id)) => self.by_id(account, &id).await,
            (account, Named::Alias(name)) => {
                match ALIASES.get(&self.inner.store, tables::alias_row(account, &name)).await? {
                    Some(alias) => self.by_id(account, &alias.value.key).await,
                    // A service's own key is made when somebody looks for it.
                    None if account == self.account && crate::ops::keys::is_service_alias(&name) => {
                        crate::ops::keys::service_key(self, &name).await
                    }
                    None => {
                        let arn = self.alias_arn(account, &name);
                        Err(Error::NotFound(format!("Alias {arn} is not found.")))
                    }
                }
            }
        }
    }
}

impl Found {
    pub(crate) fn key(&self) -> &KeyRow {
        &self.row.value
    }

    /// The right to do something with the key, which its own policy decides on.
    pub(crate) fn access(&self, scope: &Scope, action: &str) -> Access {
        let mut access = Access::new(format!("kms:{action}"), self.arn.clone())
            .with("kms:CallerAccount", vec![scope.account.to_string()])
            .with("kms:KeySpec", vec!["SYMMETRIC_DEFAULT".to_owned()])
            .with("kms:KeyUsage", vec!["ENCRYPT_DECRYPT".to_owned()])
            .with("kms:KeyOrigin", vec!["AWS_KMS".to_owned()]);
        if let Some(service) = scope.via {
            let service = format!("{service}.{}.amazonaws.com", scope.region);
            access = access.with("kms:ViaService", vec![service]);
        }
        for (name, value) in &self.key().tags {
            access = access.with(format!("aws:ResourceTag/{name}"), vec![value.clone()]);
        }
        access.guard = Some(Arc::new(Guard {
            owner: self.account,
            policy: Some(Arc::from(&*self.key().policy)),
            restricted: false,
            granted: false,
            decisive: true,
        }));
        access
    }

    /// The same, for what is bound to an encryption context.
    pub(crate) fn access_with(&self, scope: &Scope, action: &str, context: &Context) -> Access {
        let mut access = self.access(scope, action);
        if !context.is_empty() {
            access = access.with("kms:EncryptionContextKeys", context.keys().cloned().collect());
        }
        for (name, value) in context {
            access = access.with(format!("kms:EncryptionContext:{name}"), vec![value.clone()]);
        }
        access
    }

    /// Refuses a key that is not to be used.
    pub(crate) fn check_usable(&self) -> Result<(), Error> {
        if self.key().deletion_ms.is_some() {
            return Err(Error::InvalidState(format!("{} is pending deletion.", self.arn)));
        }
        if !self.key().enabled {
            return Err(Error::Disabled(self.arn.clone()));
        }
        Ok(())
    }

    /// Refuses to change a key that goes or that is a service's.
    pub(crate) fn check_changeable(&self) -> Result<(), Error> {
        if self.key().service.is_some() {
            return Err(Error::NotAuthorized("AWS managed keys can not be changed".to_owned()));
        }
        if self.key().deletion_ms.is_some() {
            return Err(Error::InvalidState(format!("{} is pending deletion.", self.arn)));
        }
        Ok(())
    }
}
