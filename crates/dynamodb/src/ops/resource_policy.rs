//! PutResourcePolicy, GetResourcePolicy and DeleteResourcePolicy: the policies of tables and of streams.
//!
//! What they come to when somebody asks for a right is decided where all rights are: see [`guard`](crate::guard).

use std::sync::Arc;

use async_trait::async_trait;
use aws::{Access, Guard};
use serde::Deserialize;
use serde_json::json;
use store::{Key, Page, Write};
use types::{AccountId, ErrorKind, Principal, Timestamp};

use super::streams::StreamName;
use super::{Run, document};
use crate::Error;
use crate::service::{Node, Scope};
use crate::tables::{ResourcePolicy, STREAMS, TABLES, table_key};
use crate::wire::{self, Constraints};

/// The largest policy, white space included.
const MAX_POLICY_BYTES: usize = 20 * 1024;

/// In place of a revision: there must be no policy yet.
const NO_POLICY: &str = "NO_POLICY";

/// A table or a stream.
#[derive(Debug, Clone)]
enum Resource {
    Table(String),
    Stream(StreamName),
}

impl Resource {
    fn parse(arn: Option<String>, constraints: &mut Constraints, scope: &Scope) -> Result<Self, Error> {
        constraints.required(arn.as_ref(), "resourceArn");
        let arn = arn.unwrap_or_default();
        if !constraints.any() {
            constraints.text_len(&arn, "resourceArn", 1, 1283);
        }
        constraints.finish()?;
        if !arn.starts_with("arn:") {
            return Err(Error::validation("Invalid ResourceArn: ARNs must start with 'arn:'"));
        }
        if arn.contains("/stream/") {
            return StreamName::parse(&arn, scope).map(Self::Stream);
        }
        scope.table_name(&arn).map(Self::Table)
    }

    fn arn(&self, scope: &Scope) -> String {
        match self {
            Self::Table(name) => scope.table_arn(name),
            Self::Stream(stream) => stream.arn().to_owned(),
        }
    }

    fn access(&self, action: &'static str, scope: &Scope) -> Vec<Access> {
        vec![Access::new(action, self.arn(scope))]
    }

    /// As messages about revisions name it.
    fn target(&self) -> String {
        match self {
            Self::Table(name) => format!("table {name}"),
            Self::Stream(stream) => format!("stream {}", stream.arn()),
        }
    }

    fn missing(&self) -> Error {
        match self {
            Self::Table(name) => Error::table_not_found_named(name),
            Self::Stream(stream) => stream.missing(),
        }
    }

    fn key(&self, account: AccountId) -> Key {
        match self {
            Self::Table(name) => table_key(account, name),
            Self::Stream(stream) => stream.key(account),
        }
    }

    /// Its policy, and the write of its row once that is changed.
    fn change(
        &self,
        page: &Page,
        key: &Key,
        change: impl FnOnce(&mut Option<ResourcePolicy>) -> Result<bool, Error>,
    ) -> Result<Vec<Write>, Error> {
        match self {
            Self::Table(_) => {
                let mut record = TABLES.first(page)?.ok_or_else(|| self.missing())?.value;
                let changed = change(&mut record.policy)?;
                Ok(changed.then(|| TABLES.put(key.clone(), &record)).into_iter().collect())
            }
            Self::Stream(_) => {
                let mut record = STREAMS.first(page)?.ok_or_else(|| self.missing())?.value;
                let changed = change(&mut record.policy)?;
                Ok(changed.then(|| STREAMS.put(key.clone(), &record)).into_iter().collect())
            }
        }
    }

    async fn policy(&self, node: &Node, account: AccountId) -> Result<Option<ResourcePolicy>, Error> {
        let key = self.key(account);
        match self {
            Self::Table(_) => {
                let row = TABLES.get(&node.store, key).await?.ok_or_else(|| self.missing())?;
                Ok(row.value.policy)
            }
            Self::Stream(_) => {
                let row = STREAMS.get(&node.store, key).await?.ok_or_else(|| self.missing())?;
                Ok(row.value.policy)
            }
        }
    }

    /// Changes its policy in one transaction; answers with the revision that `change` gives.
    async fn transact(
        &self,
        node: &Node,
        account: AccountId,
        change: impl Fn(&mut Option<ResourcePolicy>) -> Result<(bool, Option<String>), Error> + Send + 'static,
    ) -> Result<Vec<u8>, Error> {
        let (this, key) = (self.clone(), self.key(account));
        let revision = node
            .store
            .transact(vec![TABLES.read(key.clone())], move |pages, _| {
                let mut told = None;
                let writes = this.change(&pages[0], &key, |policy| {
                    let (changed, revision) = change(policy)?;
                    told = revision;
                    Ok(changed)
                })?;
                Ok::<_, Error>((writes, told))
            })
            .await?;
        if let Self::Table(name) = self {
            node.cache.forget(account, name);
        }
        Ok(document(&revision.map_or_else(|| json!({}), |revision| json!({ "RevisionId": revision }))))
    }

    fn not_found(&self, what: &str) -> Error {
        Error::PolicyNotFound(format!("Resource-based policy not found for the provided ResourceArn: {what}"))
    }

    /// The revision that is there must be the one that is expected, if one is.
    fn check_revision(&self, policy: Option<&ResourcePolicy>, expected: Option<&str>) -> Result<(), Error> {
        let target = self.target();
        match (expected, policy) {
            (None, _) | (Some(NO_POLICY), None) => Ok(()),
            (Some(NO_POLICY), Some(policy)) => Err(self.not_found(&format!(
                "Requested policy update expecting none to be present for {target}, but a policy exists with revision id {}.",
                policy.revision
            ))),
            (Some(expected), Some(policy)) if policy.revision == expected => Ok(()),
            (Some(expected), Some(policy)) => Err(self.not_found(&format!(
                "Requested update for policy with revision id {expected}, but the policy associated to target {target} has revision id {}.",
                policy.revision
            ))),
            (Some(expected), None) => Err(self.not_found(&format!(
                "Requested update for policy with revision id {expected}, but no policy is associated to target {target}."
            ))),
        }
    }
}

/// A policy document must be one, and of a size that is kept.
pub(super) fn check_policy(node: &Node, policy: &str) -> Result<(), Error> {
    if policy.len() > MAX_POLICY_BYTES {
        return Err(Error::Validation(format!(
            "The resource-based policy has {} bytes, and may have {MAX_POLICY_BYTES}",
            policy.len()
        )));
    }
    let checked = node.rights.policies.check(policy);
    checked
        .map(drop)
        .map_err(|error| Error::Validation(format!("Invalid policy document: {}", error.message)))
}

/// The first revision of a policy that is put now, or the next of one that is there.
pub(super) fn revised(policy: &str, before: Option<&ResourcePolicy>, now: Timestamp) -> ResourcePolicy {
    // Revisions are times, and grow.
    let last = before.and_then(|before| before.revision.parse::<i64>().ok());
    let revision = last.map_or(now.as_millisecond(), |last| now.as_millisecond().max(last + 1));
    ResourcePolicy { document: policy.to_owned(), revision: revision.to_string() }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct PutInput {
    resource_arn: Option<String>,
    policy: Option<String>,
    expected_revision_id: Option<String>,
    #[serde(alias = "x-amz-confirm-remove-self-resource-access")]
    confirm_remove_self_resource_access: Option<bool>,
}

fn expected_constraints(expected: Option<&str>, constraints: &mut Constraints) {
    if let Some(expected) = expected {
        constraints.text_len(expected, "expectedRevisionId", 1, 255);
    }
}

/// Puts a policy, in place of one that is there.
pub(crate) struct PutResourcePolicy {
    resource: Resource,
    policy: String,
    expected: Option<String>,
    /// Whether it may keep its author from changing it again.
    confirmed: bool,
}

impl PutResourcePolicy {
    /// Refuses a policy under which who puts it could not change it, unless that is meant.
    async fn check_self(&self, node: &Node, scope: &Scope) -> Result<(), Error> {
        // The root of its account can delete a policy, whatever it says.
        if !scope.is_foreign() && matches!(scope.caller.principal, Principal::Root { .. }) {
            return Ok(());
        }
        let mut need = Access::new("dynamodb:PutResourcePolicy", self.resource.arn(scope));
        need.guard = Some(Arc::new(Guard {
            owner: scope.account,
            policy: Some(Arc::from(&*self.policy)),
            restricted: false,
            granted: false,
            decisive: false,
        }));
        match node.rights.authorizer.authorize(&scope.caller, &[need]).await {
            Err(error) if error.kind == ErrorKind::Denied => Err(Error::validation(
                "The policy would keep you from changing it in the future; set ConfirmRemoveSelfResourceAccess to put it nevertheless",
            )),
            Err(error) => Err(Error::Elsewhere(Box::new(error))),
            Ok(()) => Ok(()),
        }
    }
}

#[async_trait]
impl Run for PutResourcePolicy {
    const NAME: &'static str = "PutResourcePolicy";

    fn parse(body: &[u8], scope: &Scope) -> Result<Self, Error> {
        let input: PutInput = wire::input(body)?;
        let mut constraints = Constraints::default();
        constraints.required(input.policy.as_ref(), "policy");
        expected_constraints(input.expected_revision_id.as_deref(), &mut constraints);
        Ok(Self {
            resource: Resource::parse(input.resource_arn, &mut constraints, scope)?,
            policy: input.policy.unwrap_or_default(),
            expected: input.expected_revision_id,
            confirmed: input.confirm_remove_self_resource_access.unwrap_or(false),
        })
    }

    async fn access(&self, _node: &Node, scope: &Scope) -> Vec<Access> {
        self.resource.access("dynamodb:PutResourcePolicy", scope)
    }

    async fn run(self, node: &Node, scope: &Scope) -> Result<Vec<u8>, Error> {
        check_policy(node, &self.policy)?;
        if !self.confirmed {
            self.check_self(node, scope).await?;
        }
        let Self { resource, policy, expected, confirmed: _ } = self;
        let (now, checked) = (node.env.now(), resource.clone());
        resource
            .transact(node, scope.account, move |held| {
                checked.check_revision(held.as_ref(), expected.as_deref())?;
                if let Some(held) = held.as_ref().filter(|held| held.document == policy) {
                    return Ok((false, Some(held.revision.clone())));
                }
                let new = revised(&policy, held.as_ref(), now);
                let revision = new.revision.clone();
                *held = Some(new);
                Ok((true, Some(revision)))
            })
            .await
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct GetInput {
    resource_arn: Option<String>,
}

/// Gets the policy.
pub(crate) struct GetResourcePolicy {
    resource: Resource,
}

#[async_trait]
impl Run for GetResourcePolicy {
    const NAME: &'static str = "GetResourcePolicy";

    fn parse(body: &[u8], scope: &Scope) -> Result<Self, Error> {
        let input: GetInput = wire::input(body)?;
        Ok(Self { resource: Resource::parse(input.resource_arn, &mut Constraints::default(), scope)? })
    }

    async fn access(&self, _node: &Node, scope: &Scope) -> Vec<Access> {
        self.resource.access("dynamodb:GetResourcePolicy", scope)
    }

    async fn run(self, node: &Node, scope: &Scope) -> Result<Vec<u8>, Error> {
        let policy = self.resource.policy(node, scope.account).await?;
        let policy = policy.ok_or_else(|| self.resource.not_found(&self.resource.arn(scope)))?;
        Ok(document(&json!({"Policy": policy.document, "RevisionId": policy.revision})))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct DeleteInput {
    resource_arn: Option<String>,
    expected_revision_id: Option<String>,
}

/// Deletes the policy; that there is none is fine.
pub(crate) struct DeleteResourcePolicy {
    resource: Resource,
    expected: Option<String>,
}

#[async_trait]
impl Run for DeleteResourcePolicy {
    const NAME: &'static str = "DeleteResourcePolicy";

    fn parse(body: &[u8], scope: &Scope) -> Result<Self, Error> {
        let input: DeleteInput = wire::input(body)?;
        let mut constraints = Constraints::default();
        expected_constraints(input.expected_revision_id.as_deref(), &mut constraints);
        let resource = Resource::parse(input.resource_arn, &mut constraints, scope)?;
        Ok(Self { resource, expected: input.expected_revision_id })
    }

    async fn access(&self, _node: &Node, scope: &Scope) -> Vec<Access> {
        self.resource.access("dynamodb:DeleteResourcePolicy", scope)
    }

    async fn run(self, node: &Node, scope: &Scope) -> Result<Vec<u8>, Error> {
        let Self { resource, expected } = self;
        let checked = resource.clone();
        resource
            .transact(node, scope.account, move |held| {
                checked.check_revision(held.as_ref(), expected.as_deref())?;
                let gone = held.take();
                Ok((gone.is_some(), gone.map(|policy| policy.revision)))
            })
            .await
    }
}
