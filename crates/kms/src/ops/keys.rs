//! CreateKey, DescribeKey, ListKeys, EnableKey, DisableKey, UpdateKeyDescription, ScheduleKeyDeletion,
//! CancelKeyDeletion; and the keys that services have in an account.

use std::collections::BTreeMap;

use aws::{Access, Response};
use serde::{Deserialize, Serialize};
use store::key::after;
use store::{Read, Write};

use super::{Input, change, limit, one_key, policies, seconds, tags};
use crate::Error;
use crate::find::Found;
use crate::material::{self, Which};
use crate::service::Scope;
use crate::tables::{self, ALIASES, AliasRow, DELETIONS, DeletionRow, KEYS, KeyRow, Material};

const DAY_MS: i64 = 24 * 60 * 60 * 1000;
/// The services that have a key of their own in an account that uses them.
const SERVICES: &[&str] = &["s3"];

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Described {
    key_metadata: Metadata,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Metadata {
    #[serde(rename = "AWSAccountId")]
    account: String,
    key_id: String,
    arn: String,
    creation_date: f64,
    enabled: bool,
    description: String,
    key_usage: &'static str,
    key_state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    deletion_date: Option<f64>,
    origin: &'static str,
    key_manager: &'static str,
    customer_master_key_spec: &'static str,
    key_spec: &'static str,
    encryption_algorithms: [&'static str; 1],
    multi_region: bool,
}

fn state(key: &KeyRow) -> &'static str {
    match (key.deletion_ms, key.enabled) {
        (Some(_), _) => "PendingDeletion",
        (None, true) => "Enabled",
        (None, false) => "Disabled",
    }
}

fn describe(account: types::AccountId, arn: &str, key: &KeyRow) -> Response {
    let key_metadata = Metadata {
        account: account.to_string(),
        key_id: key.id.clone(),
        arn: arn.to_owned(),
        creation_date: seconds(key.created_ms),
        enabled: key.enabled && key.deletion_ms.is_none(),
        description: key.description.clone(),
        key_usage: "ENCRYPT_DECRYPT",
        key_state: state(key),
        deletion_date: key.deletion_ms.map(seconds),
        origin: "AWS_KMS",
        key_manager: if key.service.is_some() { "AWS" } else { "CUSTOMER" },
        customer_master_key_spec: "SYMMETRIC_DEFAULT",
        key_spec: "SYMMETRIC_DEFAULT",
        encryption_algorithms: ["SYMMETRIC_DEFAULT"],
        multi_region: false,
    };
    aws::json::output(&Described { key_metadata })
}

/// A key that nobody has yet.
fn new_key(scope: &Scope, description: String, policy: String) -> KeyRow {
    let (env, now_ms) = (&*scope.inner.env, scope.now_ms());
    let id = material::new_id(env);
    let which = Which { account: scope.account, id: &id, generation: 0 };
    let wrapped = material::make(&scope.inner.node_key, which, env);
    KeyRow {
        created_ms: now_ms,
        description,
        enabled: true,
        deletion_ms: None,
        policy,
        tags: BTreeMap::new(),
        material: vec![Material { made_ms: now_ms, on_demand: false, wrapped }],
        rotation_days: None,
        rotation_since_ms: now_ms,
        service: None,
        id,
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(crate) struct CreateKey {
    policy: Option<String>,
    #[serde(default)]
    description: String,
    key_usage: Option<String>,
    customer_master_key_spec: Option<String>,
    key_spec: Option<String>,
    origin: Option<String>,
    #[serde(default)]
    bypass_policy_lockout_safety_check: bool,
    #[serde(default)]
    tags: Vec<tags::Tag>,
    #[serde(default)]
    multi_region: bool,
}

fn only(member: &str, value: Option<&str>, offered: &str) -> Result<(), Error> {
    match value {
        Some(other) if other != offered => Err(Error::Unsupported(format!(
            "{member} {other} is not supported here: keys are symmetric, for encryption, and made here ({offered})."
        ))),
        Some(_) | None => Ok(()),
    }
}

fn check_description(text: &str) -> Result<(), Error> {
    if text.chars().count() > 8192 {
        return Err(Error::validation(
            "1 validation error detected: Value at 'description' failed to satisfy constraint: Member must have length less than or equal to 8192",
        ));
    }
    Ok(())
}

impl Input<Scope> for CreateKey {
    const NAME: &'static str = "CreateKey";
    type Found = BTreeMap<String, String>;

    async fn find(&self, _scope: &Scope) -> Result<(Vec<Access>, Self::Found), Error> {
        only("KeyUsage", self.key_usage.as_deref(), "ENCRYPT_DECRYPT")?;
        only("KeySpec", self.key_spec.as_deref(), "SYMMETRIC_DEFAULT")?;
        only("CustomerMasterKeySpec", self.customer_master_key_spec.as_deref(), "SYMMETRIC_DEFAULT")?;
        only("Origin", self.origin.as_deref(), "AWS_KMS")?;
        if self.multi_region {
            return Err(Error::Unsupported("Multi-Region keys are not supported here.".to_owned()));
        }
        check_description(&self.description)?;
        let tags = tags::of_list(&self.tags)?;
        let mut access = Access::new("kms:CreateKey", "*");
        for (name, value) in &tags {
            access = access.with(format!("aws:RequestTag/{name}"), vec![value.clone()]);
        }
        if !tags.is_empty() {
            access = access.with("aws:TagKeys", tags.keys().cloned().collect());
        }
        let mut needs = vec![access];
        if !tags.is_empty() {
            needs.push(Access::new("kms:TagResource", "*"));
        }
        Ok((needs, tags))
    }

    async fn run(self, scope: Scope, tags: Self::Found) -> Result<Response, Error> {
        let policy = match self.policy {
            None => policies::usual(scope.account),
            Some(policy) => {
                policies::check(&scope, &policy)?;
                policy
            }
        };
        let mut key = new_key(&scope, self.description, policy);
        key.tags = tags;
        let arn = scope.key_arn(scope.account, &key.id);
        if !self.bypass_policy_lockout_safety_check {
            policies::check_lockout(&scope, scope.account, &arn, &key.policy).await?;
        }
        let row_key = tables::key_row(scope.account, &key.id);
        scope.inner.store.write(vec![KEYS.put(row_key, &key)]).await?;
        Ok(describe(scope.account, &arn, &key))
    }
}

/// Whether an alias is that of a service's own key.
pub(crate) fn is_service_alias(name: &str) -> bool {
    name.strip_prefix("aws/").is_some_and(|service| SERVICES.contains(&service))
}

/// The key that a service has in the account of who asks: made when it is first looked for.
pub(crate) async fn service_key(scope: &Scope, alias: &str) -> Result<Found, Error> {
    let service = alias.trim_start_matches("aws/").to_owned();
    let description = format!(
        "Default key that protects my {} objects when no other key is defined",
        service.to_uppercase()
    );
    let policy = policies::of_service(scope.account, &service, scope.region.as_str());
    let mut key = new_key(scope, description, policy);
    key.service = Some(service);
    key.rotation_days = Some(365);
    let (account, now_ms, name) = (scope.account, scope.now_ms(), alias.to_owned());
    let alias_key = tables::alias_row(account, alias);
    let id = scope
        .inner
        .store
        .transact(vec![Read::Key(alias_key.clone())], move |pages, _| {
            if let Some(alias) = ALIASES.first(&pages[0])? {
                return Ok((Vec::new(), alias.value.key));
            }
            let row =
                AliasRow { name: name.clone(), key: key.id.clone(), created_ms: now_ms, updated_ms: now_ms };
            let writes =
                vec![KEYS.put(tables::key_row(account, &key.id), &key), ALIASES.put(alias_key.clone(), &row)];
            Ok::<_, Error>((writes, key.id.clone()))
        })
        .await?;
    scope.by_id(account, &id).await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(crate) struct DescribeKey {
    key_id: String,
}

impl Input<Scope> for DescribeKey {
    const NAME: &'static str = "DescribeKey";
    type Found = Found;

    async fn find(&self, scope: &Scope) -> Result<(Vec<Access>, Found), Error> {
        let found = scope.key_or_alias(&self.key_id).await?;
        Ok((vec![found.access(scope, Self::NAME)], found))
    }

    async fn run(self, _scope: Scope, found: Found) -> Result<Response, Error> {
        Ok(describe(found.account, &found.arn, found.key()))
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(crate) struct ListKeys {
    limit: Option<i64>,
    marker: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct KeyList {
    keys: Vec<KeyEntry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_marker: Option<String>,
    truncated: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct KeyEntry {
    key_id: String,
    key_arn: String,
}

impl Input<Scope> for ListKeys {
    const NAME: &'static str = "ListKeys";
    type Found = ();

    async fn find(&self, _scope: &Scope) -> Result<(Vec<Access>, ()), Error> {
        Ok((vec![Access::new("kms:ListKeys", "*")], ()))
    }

    async fn run(self, scope: Scope, (): ()) -> Result<Response, Error> {
        let limit = limit(self.limit, 100, 1000)?;
        let mut range = KEYS.range(scope.account, limit, |_| {});
        if let Some(marker) = &self.marker {
            material::id_bits(marker).ok_or(Error::InvalidMarker)?;
            range.start = after(&tables::key_row(scope.account, marker));
        }
        let (rows, truncated) = KEYS.scan(&scope.inner.store, range).await?;
        let next_marker = rows.last().filter(|_| truncated).map(|row| row.value.id.clone());
        let now_ms = scope.now_ms();
        let there = rows.into_iter().filter(|row| row.value.deletion_ms.is_none_or(|at| at > now_ms));
        let keys = there.map(|row| KeyEntry {
            key_arn: scope.key_arn(scope.account, &row.value.id),
            key_id: row.value.id,
        });
        Ok(aws::json::output(&KeyList { keys: keys.collect(), next_marker, truncated }))
    }
}

macro_rules! switch {
    ($name:ident, $enabled:literal) => {
        #[derive(Debug, Deserialize)]
        #[serde(deny_unknown_fields, rename_all = "PascalCase")]
        pub(crate) struct $name {
            key_id: String,
        }

        impl Input<Scope> for $name {
            const NAME: &'static str = stringify!($name);
            type Found = Found;

            async fn find(&self, scope: &Scope) -> Result<(Vec<Access>, Found), Error> {
                one_key(scope, &self.key_id, Self::NAME).await
            }

            async fn run(self, scope: Scope, found: Found) -> Result<Response, Error> {
                found.check_changeable()?;
                change(&scope, &found, |key| {
                    key.enabled = $enabled;
                    Ok((Vec::new(), ()))
                })
                .await?;
                Ok(aws::json::empty(200))
            }
        }
    };
}

switch!(EnableKey, true);
switch!(DisableKey, false);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(crate) struct UpdateKeyDescription {
    key_id: String,
    description: String,
}

impl Input<Scope> for UpdateKeyDescription {
    const NAME: &'static str = "UpdateKeyDescription";
    type Found = Found;

    async fn find(&self, scope: &Scope) -> Result<(Vec<Access>, Found), Error> {
        check_description(&self.description)?;
        one_key(scope, &self.key_id, Self::NAME).await
    }

    async fn run(self, scope: Scope, found: Found) -> Result<Response, Error> {
        found.check_changeable()?;
        change(&scope, &found, move |key| {
            key.description.clone_from(&self.description);
            Ok((Vec::new(), ()))
        })
        .await?;
        Ok(aws::json::empty(200))
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(crate) struct ScheduleKeyDeletion {
    key_id: String,
    pending_window_in_days: Option<i64>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Scheduled {
    key_id: String,
    deletion_date: f64,
    key_state: &'static str,
    pending_window_in_days: i64,
}

impl Input<Scope> for ScheduleKeyDeletion {
    const NAME: &'static str = "ScheduleKeyDeletion";
    type Found = Found;

    async fn find(&self, scope: &Scope) -> Result<(Vec<Access>, Found), Error> {
        one_key(scope, &self.key_id, Self::NAME).await
    }

    async fn run(self, scope: Scope, found: Found) -> Result<Response, Error> {
        found.check_changeable()?;
        let days = self.pending_window_in_days.unwrap_or(30);
        if !(7..=30).contains(&days) {
            return Err(Error::validation(format!(
                "1 validation error detected: Value '{days}' at 'pendingWindowInDays' failed to satisfy constraint: Member must be between 7 and 30"
            )));
        }
        let at_ms = scope.now_ms() + days * DAY_MS;
        let (account, arn) = (found.account, found.arn.clone());
        change(&scope, &found, move |key| {
            if key.deletion_ms.is_some() {
                return Err(Error::InvalidState(format!("{arn} is pending deletion.")));
            }
            key.deletion_ms = Some(at_ms);
            key.enabled = false;
            let row = DeletionRow { account, key: key.id.clone() };
            Ok((vec![DELETIONS.put(tables::deletion_row(at_ms, account, &key.id), &row)], ()))
        })
        .await?;
        Ok(aws::json::output(&Scheduled {
            key_id: found.arn.clone(),
            deletion_date: seconds(at_ms),
            key_state: "PendingDeletion",
            pending_window_in_days: days,
        }))
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(crate) struct CancelKeyDeletion {
    key_id: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Cancelled {
    key_id: String,
}

impl Input<Scope> for CancelKeyDeletion {
    const NAME: &'static str = "CancelKeyDeletion";
    type Found = Found;

    async fn find(&self, scope: &Scope) -> Result<(Vec<Access>, Found), Error> {
        one_key(scope, &self.key_id, Self::NAME).await
    }

    async fn run(self, scope: Scope, found: Found) -> Result<Response, Error> {
        let (account, arn) = (found.account, found.arn.clone());
        change(&scope, &found, move |key| {
            let at_ms = key
                .deletion_ms
                .take()
                .ok_or_else(|| Error::InvalidState(format!("{arn} is not pending deletion.")))?;
            // As on AWS it is disabled, until somebody enables it.
            Ok((vec![Write::Delete(tables::deletion_row(at_ms, account, &key.id))], ()))
        })
        .await?;
        Ok(aws::json::output(&Cancelled { key_id: found.arn.clone() }))
    }
}
