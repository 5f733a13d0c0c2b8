//! GetKeyPolicy, PutKeyPolicy, ListKeyPolicies: every key has one policy, named `default`.

use std::sync::Arc;

use aws::{Access, Guard, Response};
use serde::{Deserialize, Serialize};
use serde_json::json;
use types::AccountId;

use super::{Input, change, one_key};
use crate::Error;
use crate::find::Found;
use crate::service::Scope;

const NAME: &str = "default";
const MAX_BYTES: usize = 32 << 10;

/// The policy of a key that was made without one: its account decides.
pub(super) fn usual(account: AccountId) -> String {
    let policy = json!({
        "Version": "2012-10-17",
        "Id": "key-default-1",
        "Statement": [{
            "Sid": "Enable IAM User Permissions",
            "Effect": "Allow",
            "Principal": {"AWS": format!("arn:aws:iam::{account}:root")},
            "Action": "kms:*",
            "Resource": "*",
        }],
    });
    format!("{policy:#}")
}

/// The policy of a service's own key: everybody in the account may use it, through that service.
pub(super) fn of_service(account: AccountId, service: &str, region: &str) -> String {
    let policy = json!({
        "Version": "2012-10-17",
        "Id": format!("auto-{service}-2"),
        "Statement": [
            {
                "Sid": format!(
                    "Allow access through {} for all principals in the account that are authorized to use it",
                    service.to_uppercase()
                ),
                "Effect": "Allow",
                "Principal": {"AWS": "*"},
                "Action": ["kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:DescribeKey"],
                "Resource": "*",
                "Condition": {"StringEquals": {
                    "kms:CallerAccount": account.to_string(),
                    "kms:ViaService": format!("{service}.{region}.amazonaws.com"),
                }},
            },
            {
                "Sid": "Allow direct access to key metadata to the account",
                "Effect": "Allow",
                "Principal": {"AWS": format!("arn:aws:iam::{account}:root")},
                "Action": ["kms:Describe*", "kms:Get*", "kms:List*", "kms:RevokeGrant"],
                "Resource": "*",
            },
        ],
    });
    format!("{policy:#}")
}

/// Refuses what is no policy.
pub(super) fn check(scope: &Scope, policy: &str) -> Result<(), Error> {
    if policy.is_empty() || policy.len() > MAX_BYTES {
        return Err(Error::LimitExceeded(format!(
            "The policy has {} bytes, and may have {MAX_BYTES}",
            policy.len()
        )));
    }
    let checked = scope.inner.policies.check(policy);
    checked.map(drop).map_err(|error| Error::MalformedPolicy(error.message))
}

/// Refuses a policy that would not let its author change it again.
pub(super) async fn check_lockout(
    scope: &Scope,
    owner: AccountId,
    arn: &str,
    policy: &str,
) -> Result<(), Error> {
    let mut need =
        Access::new("kms:PutKeyPolicy", arn).with("kms:CallerAccount", vec![scope.account.to_string()]);
    need.guard = Some(Arc::new(Guard {
        owner,
        policy: Some(Arc::from(policy)),
        restricted: false,
        granted: false,
        decisive: true,
    }));
    match scope.authorize(&[need]).await {
        Ok(()) => Ok(()),
        Err(Error::Denied(error)) if error.kind == types::ErrorKind::Denied => Err(Error::MalformedPolicy(
            "The new key policy will not allow you to update the key policy in the future.".to_owned(),
        )),
        Err(error) => Err(error),
    }
}

fn check_name(name: Option<&str>) -> Result<(), Error> {
    match name {
        None | Some(NAME) => Ok(()),
        Some(_) => Err(Error::NotFound("No such policy exists".to_owned())),
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(crate) struct GetKeyPolicy {
    key_id: String,
    policy_name: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct KeyPolicy {
    policy: String,
    policy_name: &'static str,
}

impl Input<Scope> for GetKeyPolicy {
    const NAME: &'static str = "GetKeyPolicy";
    type Found = Found;

    async fn find(&self, scope: &Scope) -> Result<(Vec<Access>, Found), Error> {
        one_key(scope, &self.key_id, Self::NAME).await
    }

    async fn run(self, _scope: Scope, found: Found) -> Result<Response, Error> {
        check_name(self.policy_name.as_deref())?;
        Ok(aws::json::output(&KeyPolicy { policy: found.key().policy.clone(), policy_name: NAME }))
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(crate) struct PutKeyPolicy {
    key_id: String,
    policy_name: Option<String>,
    policy: String,
    #[serde(default)]
    bypass_policy_lockout_safety_check: bool,
}

impl Input<Scope> for PutKeyPolicy {
    const NAME: &'static str = "PutKeyPolicy";
    type Found = Found;

    async fn find(&self, scope: &Scope) -> Result<(Vec<Access>, Found), Error> {
        one_key(scope, &self.key_id, Self::NAME).await
    }

    async fn run(self, scope: Scope, found: Found) -> Result<Response, Error> {
        check_name(self.policy_name.as_deref())?;
        found.check_changeable()?;
        check(&scope, &self.policy)?;
        if !self.bypass_policy_lockout_safety_check {
            check_lockout(&scope, found.account, &found.arn, &self.policy).await?;
        }
        change(&scope, &found, move |key| {
            key.policy.clone_from(&self.policy);
            Ok((Vec::new(), ()))
        })
        .await?;
        Ok(aws::json::empty(200))
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(crate) struct ListKeyPolicies {
    key_id: String,
    limit: Option<i64>,
    marker: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Policies {
    policy_names: [&'static str; 1],
    truncated: bool,
}

impl Input<Scope> for ListKeyPolicies {
    const NAME: &'static str = "ListKeyPolicies";
    type Found = Found;

    async fn find(&self, scope: &Scope) -> Result<(Vec<Access>, Found), Error> {
        super::limit(self.limit, 100, 1000)?;
        if self.marker.is_some() {
            return Err(Error::InvalidMarker);
        }
        one_key(scope, &self.key_id, Self::NAME).await
    }

    async fn run(self, _scope: Scope, _found: Found) -> Result<Response, Error> {
        Ok(aws::json::output(&Policies { policy_names: [NAME], truncated: false }))
    }
}
