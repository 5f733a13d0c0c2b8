//! What is known of a request when it is evaluated: the keys that conditions and variables refer to (IAM user
//! guide, "AWS global condition context keys").

use std::borrow::Cow;
use std::collections::BTreeMap;

use aws::Origin;
use types::{Principal, Timestamp};

/// One request to be evaluated.
#[derive(Debug, Clone)]
pub(crate) struct Context<'a> {
    /// Who asks.
    pub(crate) principal: &'a Principal,
    /// Its ARN as `aws:PrincipalArn` shows it: for a session, that of the role.
    pub(crate) principal_arn: &'a str,
    /// Its tags.
    pub(crate) tags: Option<&'a BTreeMap<String, String>>,
    /// From where.
    pub(crate) origin: &'a Origin,
    /// What is asked for, in lower case.
    pub(crate) action: &'a str,
    /// On what.
    pub(crate) resource: &'a str,
    /// Keys of this request beyond the global ones.
    pub(crate) keys: &'a [(Cow<'static, str>, Vec<String>)],
    /// The time.
    pub(crate) now: Timestamp,
    /// The node's region.
    pub(crate) region: &'a str,
}

impl Context<'_> {
    /// The values of a key (in lower case); `None` if the request has no such key.
    pub(crate) fn values(&self, key: &str) -> Option<Vec<Cow<'_, str>>> {
        if let Some((_, values)) = self.keys.iter().find(|(name, _)| name.eq_ignore_ascii_case(key)) {
            return Some(values.iter().map(|v| Cow::Borrowed(v.as_str())).collect());
        }
        self.global(key).map(|value| vec![value])
    }

    /// The value of a key (in lower case) that has exactly one.
    pub(crate) fn single(&self, key: &str) -> Option<Cow<'_, str>> {
        match self.values(key) {
            Some(mut values) if values.len() == 1 => values.pop(),
            _ => None,
        }
    }

    fn global(&self, key: &str) -> Option<Cow<'_, str>> {
        let owned = |text: String| Some(Cow::Owned(text));
        match key {
            "aws:principalarn" => {
                (!matches!(self.principal, Principal::Anonymous | Principal::Service { .. }))
                    .then_some(Cow::Borrowed(self.principal_arn))
            }
            "aws:principalaccount" => match self.principal {
                Principal::Root { account }
                | Principal::User { account, .. }
                | Principal::AssumedRole { account, .. } => owned(account.to_string()),
                Principal::Service { .. } | Principal::Anonymous => None,
            },
            "aws:principaltype" => Some(Cow::Borrowed(match self.principal {
                Principal::Root { .. } => "Account",
                Principal::User { .. } => "User",
                Principal::AssumedRole { .. } => "AssumedRole",
                Principal::Service { .. } => "Service",
                Principal::Anonymous => "Anonymous",
            })),
            "aws:principalisawsservice" => {
                let is = matches!(self.principal, Principal::Service { .. });
                Some(Cow::Borrowed(if is { "true" } else { "false" }))
            }
            "aws:principalservicename" => match self.principal {
                Principal::Service { name, .. } => Some(Cow::Borrowed(name)),
                _ => None,
            },
            "aws:userid" => match self.principal {
                Principal::Root { account } => owned(account.to_string()),
                Principal::User { id, .. } => Some(Cow::Borrowed(id)),
                Principal::AssumedRole { id, session, .. } => owned(format!("{id}:{session}")),
                Principal::Anonymous => Some(Cow::Borrowed("anonymous")),
                Principal::Service { .. } => None,
            },
            "aws:username" => match self.principal {
                Principal::User { name, .. } => Some(Cow::Borrowed(name)),
                _ => None,
            },
            "aws:sourceip" => match self.origin {
                Origin::Network(address) => owned(address.to_canonical().to_string()),
                Origin::Function(_) | Origin::Platform => None,
            },
            // The listener speaks plain HTTP; but what comes from the machine itself, be it what speaks TLS to others,
            // has crossed no network.
            "aws:securetransport" => Some(Cow::Borrowed(match self.origin {
                Origin::Network(address) if !address.to_canonical().is_loopback() => "false",
                Origin::Network(_) | Origin::Function(_) | Origin::Platform => "true",
            })),
            "aws:currenttime" => owned(self.now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()),
            "aws:epochtime" => owned(self.now.as_second().to_string()),
            "aws:requestedregion" => Some(Cow::Borrowed(self.region)),
            // The session runs inside the function whose ARN this is.
            "lambda:sourcefunctionarn" => match self.origin {
                Origin::Function(arn) => Some(Cow::Borrowed(arn)),
                Origin::Network(_) | Origin::Platform => None,
            },
            key => {
                let tag = key.strip_prefix("aws:principaltag/")?;
                let (_, value) = self.tags?.iter().find(|(name, _)| name.eq_ignore_ascii_case(tag))?;
                Some(Cow::Borrowed(value))
            }
        }
    }
}
