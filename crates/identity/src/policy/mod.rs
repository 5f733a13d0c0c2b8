//! IAM policies: documents, their evaluation (IAM user guide, "Policy evaluation logic").
//!
//! The map: `document` reads and checks a document, `pattern` matches wildcards and variables, `condition`
//! applies operators, `context` knows the keys of a request.
//!
//! Invariant: evaluation is pure, allocates little, and takes time bounded by the size of policy and request.

mod condition;
mod context;
mod document;
mod pattern;
#[cfg(test)]
mod tests;

use types::{AccountId, Principal};

use crate::Error;
use condition::Condition;
pub(crate) use context::Context;
use pattern::Pattern;

/// What a document is attached to, which decides what elements it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// To a user or role (or a session): what it may do.
    Identity,
    /// To a role: who may assume it.
    Trust,
    /// To a resource: who may do what with it.
    Resource,
}

/// A compiled policy document.
#[derive(Debug, Clone)]
pub struct Policy {
    statements: Vec<Statement>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    Allow,
    Deny,
}

/// A list, and whether it says what is left out (`NotAction`, ...).
type List<T> = (bool, Vec<T>);

#[derive(Debug, Clone)]
struct Statement {
    effect: Effect,
    actions: List<Pattern>,
    resources: Option<List<Pattern>>,
    principals: Option<List<PrincipalPattern>>,
    conditions: Vec<Condition>,
}

#[derive(Debug, Clone, PartialEq)]
enum PrincipalPattern {
    /// `*`
    Everyone,
    /// Everybody in an account whose own policies allow it.
    Account(AccountId),
    /// A user, role or session.
    Arn(Box<str>),
    /// A service.
    Service(Box<str>),
    /// Kinds of principal that no caller has.
    Nobody,
}

/// The outcome of evaluating policies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// A statement denies.
    Deny,
    /// No statement applies.
    Default,
    /// A statement allows the caller's account: its own policies must allow it too.
    AllowAccount,
    /// A statement allows.
    Allow,
}

impl Policy {
    /// Reads and checks a document; the error is `MalformedPolicyDocument`.
    pub fn parse(text: &str, kind: Kind) -> Result<Self, Error> {
        document::parse(text, kind)
    }

    /// Whether it allows something to everybody (Amazon S3 user guide, "The meaning of public"): no condition
    /// narrows it to fixed accounts, networks or principals.
    pub(crate) fn is_public(&self) -> bool {
        self.statements.iter().any(|statement| {
            let everyone = statement
                .principals
                .as_ref()
                .is_some_and(|(not, principals)| *not || principals.contains(&PrincipalPattern::Everyone));
            let allows = statement.effect == Effect::Allow;
            allows && everyone && !statement.conditions.iter().any(Condition::narrows)
        })
    }

    /// What this policy says of the request.
    pub(crate) fn evaluate(&self, context: &Context<'_>) -> Decision {
        let mut decision = Decision::Default;
        for statement in &self.statements {
            let outcome = match statement.applies(context) {
                Applies::No => continue,
                _ if statement.effect == Effect::Deny => return Decision::Deny,
                Applies::ToAccount => Decision::AllowAccount,
                Applies::Yes => Decision::Allow,
            };
            if decision != Decision::Allow {
                decision = outcome;
            }
        }
        decision
    }
}

/// What several policies say together: a denial wins, then an allowance.
pub(crate) fn evaluate_all<'a>(
    policies: impl IntoIterator<Item = &'a Policy>,
    context: &Context<'_>,
) -> Decision {
    let mut decision = Decision::Default;
    for policy in policies {
        match (policy.evaluate(context), decision) {
            (Decision::Deny, _) => return Decision::Deny,
            (Decision::Default, _) | (_, Decision::Allow) => {}
            (other, _) => decision = other,
        }
    }
    decision
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Applies {
    No,
    ToAccount,
    Yes,
}

impl Statement {
    fn applies(&self, context: &Context<'_>) -> Applies {
        let (not, actions) = &self.actions;
        if actions.iter().any(|a| a.matches_plain(context.action)) == *not {
            return Applies::No;
        }
        if let Some((not, resources)) = &self.resources
            && !self.applies_to_resource(*not, resources, context)
        {
            return Applies::No;
        }
        let principal = match &self.principals {
            None => Applies::Yes,
            Some((false, principals)) => {
                let mut best = Applies::No;
                for principal in principals {
                    match principal.applies(context) {
                        Applies::Yes => {
                            best = Applies::Yes;
                            break;
                        }
                        Applies::ToAccount => best = Applies::ToAccount,
                        Applies::No => {}
                    }
                }
                best
            }
            Some((true, principals)) => {
                let named = principals.iter().any(|p| p.applies(context) != Applies::No);
                if named { Applies::No } else { Applies::Yes }
            }
        };
        if principal == Applies::No || !self.conditions.iter().all(|c| c.holds(context)) {
            return Applies::No;
        }
        principal
    }

    fn applies_to_resource(&self, not: bool, resources: &[Pattern], context: &Context<'_>) -> bool {
        let mut unknown = false;
        for pattern in resources {
            match pattern.matches(context.resource, context) {
                Some(true) => return !not,
                Some(false) => {}
                None => unknown = true,
            }
        }
        // A variable without a value never widens what is allowed.
        not && (!unknown || self.effect == Effect::Deny)
    }
}

impl PrincipalPattern {
    fn applies(&self, context: &Context<'_>) -> Applies {
        let yes = |is| if is { Applies::Yes } else { Applies::No };
        match (self, context.principal) {
            (Self::Everyone, _) => Applies::Yes,
            (Self::Account(account), Principal::Root { account: own }) => yes(account == own),
            (
                Self::Account(account),
                Principal::User { account: own, .. } | Principal::AssumedRole { account: own, .. },
            ) => {
                if account == own {
                    Applies::ToAccount
                } else {
                    Applies::No
                }
            }
            (Self::Arn(arn), Principal::User { .. }) => yes(**arn == *context.principal_arn),
            // A session is meant by its own name and by its role's.
            (Self::Arn(arn), Principal::AssumedRole { .. }) => {
                yes(**arn == *context.principal_arn || **arn == *context.principal.arn())
            }
            (Self::Service(service), Principal::Service { name, .. }) => yes(**service == **name),
            _ => Applies::No,
        }
    }
}
