//! Decides what callers may do (IAM user guide, "Policy evaluation logic" and "Troubleshoot access denied
//! error messages").
//!
//! Invariant: what no statement allows is denied, and no failure to read a policy allows anything.

use std::sync::Arc;

use async_trait::async_trait;
use aws::{Access, Authorizer, Caller, Origin};
use types::{AccountId, ErrorKind, Principal};

use crate::policy::{Context, Decision, Kind, Policy, evaluate_all};
use crate::{Error, Identity};

/// Why a request is denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Denial {
    /// A statement of such a policy denies it.
    Explicit(&'static str),
    /// No such policy allows it.
    Implicit(&'static str),
}

const IDENTITY: &str = "identity-based policy";
const SESSION: &str = "session policy";
const BOUNDARY: &str = "permissions boundary";
const RESOURCE: &str = "resource-based policy";

impl Denial {
    fn error(self, caller: &Caller, need: &Access) -> aws::Error {
        let Access { action, resource, .. } = need;
        let who = match &caller.principal {
            Principal::Anonymous => "anonymous".to_owned(),
            principal => principal.arn(),
        };
        let why = match self {
            Self::Implicit(kind) => format!("because no {kind} allows the {action} action"),
            Self::Explicit(kind) => {
                let article = if kind == IDENTITY { "an" } else { "a" };
                format!("with an explicit deny in {article} {kind}")
            }
        };
        let message =
            format!("User: {who} is not authorized to perform: {action} on resource: {resource} {why}");
        aws::Error::new(ErrorKind::Denied, "AccessDeniedException", message)
    }
}

/// The account in an ARN; `None` where it names none.
fn account_of(resource: &str) -> Option<&str> {
    resource.strip_prefix("arn:")?.split(':').nth(3).filter(|account| !account.is_empty())
}

fn is_foreign(resource: &str, account: AccountId) -> bool {
    account_of(resource).is_some_and(|owner| owner.parse() != Ok(account))
}

/// What the root of an account may always do with what is its own: see and change what others may.
const UNLOCKING: &[&str] = &[
    "dynamodb:DeleteResourcePolicy",
    "s3:DeleteBucketPolicy",
    "s3:GetBucketPolicy",
    "s3:PutBucketPolicy",
    "sqs:GetQueueAttributes",
    "sqs:SetQueueAttributes",
];

impl Identity {
    pub(crate) fn session_policy(&self, text: &str) -> Result<Arc<Policy>, Error> {
        if let Some(policy) = self.session_policies.get(text) {
            return Ok(policy);
        }
        let ticket = self.session_policies.ticket();
        let policy = Arc::new(Policy::parse(text, Kind::Identity)?);
        self.session_policies.insert(ticket, text.to_owned(), policy.clone());
        Ok(policy)
    }

    /// Whether the caller's own policies allow an action: identity-based, boundary, session.
    async fn own_decision(&self, caller: &Caller, need: &Access) -> Result<Result<(), Denial>, Error> {
        if let Principal::Root { .. } = caller.principal {
            return Ok(Ok(()));
        }
        let Some(holder) = self.holder_of(&caller.principal).await? else {
            return Ok(Err(Denial::Implicit(IDENTITY)));
        };
        let action = need.action.to_ascii_lowercase();
        let context = Context {
            principal: &caller.principal,
            principal_arn: &holder.arn,
            tags: Some(&holder.tags),
            origin: &caller.origin,
            action: &action,
            resource: &need.resource,
            keys: &need.context,
            now: self.now(),
            region: self.region.as_str(),
        };
        let session = caller.session_policy.as_deref().map(|text| self.session_policy(text)).transpose()?;
        let layers = [
            (IDENTITY, Some(evaluate_all(holder.policies.iter().map(|p| &**p), &context))),
            (BOUNDARY, holder.boundary.as_ref().map(|p| p.evaluate(&context))),
            (SESSION, session.as_ref().map(|p| p.evaluate(&context))),
        ];
        for (kind, decision) in layers {
            if decision == Some(Decision::Deny) {
                return Ok(Err(Denial::Explicit(kind)));
            }
        }
        for (kind, decision) in layers {
            if decision == Some(Decision::Default) {
                return Ok(Err(Denial::Implicit(kind)));
            }
        }
        Ok(Ok(()))
    }

    /// The policy that hangs on the resource, if one does.
    async fn resource_policy(&self, need: &Access) -> Result<Option<Arc<Policy>>, aws::Error> {
        match (&need.guard, self.resource_policies.get()) {
            (Some(guard), _) => Ok(guard.policy.as_ref().map(|text| self.guard(text)).transpose()?),
            (None, Some(source)) => source.policy(&need.resource).await,
            (None, None) => Ok(None),
        }
    }

    /// What the resource itself says: its policy, and what else its guard allows.
    async fn resource_side(
        &self,
        caller: &Caller,
        need: &Access,
        foreign: bool,
    ) -> Result<Decision, aws::Error> {
        let mut decision = Decision::Default;
        if let Some(policy) = self.resource_policy(need).await? {
            decision = self.resource_decision(caller, need, &policy).await?;
            let outsider = foreign || caller.principal == Principal::Anonymous;
            let restricted = need.guard.as_ref().is_some_and(|guard| guard.restricted);
            if decision != Decision::Deny && outsider && restricted && policy.is_public() {
                decision = Decision::Default;
            }
        }
        if decision != Decision::Deny && need.guard.as_ref().is_some_and(|guard| guard.granted) {
            decision = Decision::Allow;
        }
        Ok(decision)
    }

    /// What a resource's policy says.
    async fn resource_decision(
        &self,
        caller: &Caller,
        need: &Access,
        policy: &Policy,
    ) -> Result<Decision, aws::Error> {
        let holder = self.holder_of(&caller.principal).await?;
        let arn = holder.as_ref().map_or_else(|| caller.principal.arn(), |holder| holder.arn.clone());
        let action = need.action.to_ascii_lowercase();
        let context = Context {
            principal: &caller.principal,
            principal_arn: &arn,
            tags: holder.as_ref().map(|holder| &holder.tags),
            origin: &caller.origin,
            action: &action,
            resource: &need.resource,
            keys: &need.context,
            now: self.now(),
            region: self.region.as_str(),
        };
        Ok(policy.evaluate(&context))
    }

    async fn decide(&self, caller: &Caller, need: &Access) -> Result<Result<(), Denial>, aws::Error> {
        let foreign = match &need.guard {
            Some(guard) => guard.owner != caller.account,
            None => is_foreign(&need.resource, caller.account),
        };
        // The root of an account needs nobody's leave in it. What a resource denies to everybody it denies to the root,
        // too, but for what lifts that again; keys of KMS alone can not be denied to it.
        if let Principal::Root { .. } = caller.principal
            && !foreign
        {
            let binds = need.guard.as_ref().is_some_and(|guard| guard.policy.is_some() && !guard.decisive);
            // The platform itself has no key; what it does in a caller's name, it does by the caller's.
            let is_itself = caller.origin == Origin::Platform && caller.access_key_id.is_none();
            let is_bound = binds && !is_itself && !UNLOCKING.contains(&&*need.action);
            let is_denied = is_bound && self.resource_side(caller, need, foreign).await? == Decision::Deny;
            return Ok(if is_denied { Err(Denial::Explicit(RESOURCE)) } else { Ok(()) });
        }
        let resource = self.resource_side(caller, need, foreign).await?;
        if resource == Decision::Deny {
            return Ok(Err(Denial::Explicit(RESOURCE)));
        }
        match caller.principal {
            Principal::Anonymous | Principal::Service { .. } => {
                let allowed = resource == Decision::Allow;
                Ok(if allowed { Ok(()) } else { Err(Denial::Implicit(RESOURCE)) })
            }
            Principal::Root { .. } | Principal::User { .. } | Principal::AssumedRole { .. } => {
                let own = self.own_decision(caller, need).await?;
                let decisive = need.guard.as_ref().is_some_and(|guard| guard.decisive);
                Ok(match (own, resource) {
                    (Err(explicit @ Denial::Explicit(_)), _) => Err(explicit),
                    // Another account's resource, or one whose policy decides alone: both sides must agree.
                    (Ok(()), Decision::Default | Decision::Deny) if foreign || decisive => {
                        Err(Denial::Implicit(RESOURCE))
                    }
                    (own, _) if foreign => own,
                    // One's own account: the resource's policy alone can stand in for an identity-based one.
                    (Err(Denial::Implicit(IDENTITY)), Decision::Allow)
                        if caller.session_policy.is_none() && self.exists(caller).await? =>
                    {
                        Ok(())
                    }
                    (own, _) => own,
                })
            }
        }
    }

    /// Whether the caller still is somebody: its user or role was not deleted since it got its credentials.
    async fn exists(&self, caller: &Caller) -> Result<bool, Error> {
        Ok(self.holder_of(&caller.principal).await?.is_some_and(|holder| holder.boundary.is_none()))
    }

    /// Whether the caller's own policies allow an action, whatever the resource's account.
    pub(crate) async fn allows(&self, caller: &Caller, need: &Access) -> Result<bool, Error> {
        Ok(self.own_decision(caller, need).await?.is_ok())
    }

    /// Whether the caller's own policies deny an action.
    pub(crate) async fn denies(&self, caller: &Caller, need: &Access) -> Result<bool, Error> {
        Ok(matches!(self.own_decision(caller, need).await?, Err(Denial::Explicit(_))))
    }
}

#[async_trait]
impl Authorizer for Identity {
    async fn authorize(&self, caller: &Caller, needs: &[Access]) -> Result<(), aws::Error> {
        for need in needs {
            if let Err(denial) = self.decide(caller, need).await? {
                return Err(denial.error(caller, need));
            }
        }
        Ok(())
    }
}
