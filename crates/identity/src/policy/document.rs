//! Reading policy documents (IAM user guide, "IAM JSON policy elements reference" and "Grammar of the IAM
//! JSON policy language"). What is not in the grammar is refused.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::condition::Condition;
use super::pattern::{Pattern, Syntax};
use super::{Effect, Kind, Policy, PrincipalPattern, Statement};
use crate::Error;

fn malformed(message: impl Into<String>) -> Error {
    Error::MalformedPolicyDocument(message.into())
}

/// Reads and checks a document.
pub(super) fn parse(text: &str, kind: Kind) -> Result<Policy, Error> {
    let document: Value =
        serde_json::from_str(text).map_err(|_| malformed("This policy contains invalid Json"))?;
    let Value::Object(document) = document else {
        return Err(malformed("Syntax errors in policy."));
    };
    let mut version = "2008-10-17";
    let mut statements = None;
    for (name, value) in &document {
        match (name.as_str(), value) {
            ("Version", Value::String(v)) if v == "2012-10-17" || v == "2008-10-17" => version = v,
            ("Version", _) => {
                return Err(malformed("The policy must contain a valid version string"));
            }
            ("Id", Value::String(_)) => {}
            ("Statement", Value::Array(list)) => statements = Some(list.as_slice()),
            ("Statement", one @ Value::Object(_)) => statements = Some(std::slice::from_ref(one)),
            (name, _) => return Err(malformed(format!("Syntax errors in policy: element {name}."))),
        }
    }
    let statements = statements.filter(|s| !s.is_empty());
    let statements = statements.ok_or_else(|| malformed("Syntax errors in policy: no Statement."))?;
    let variables = version == "2012-10-17";
    let mut sids = HashSet::new();
    let parsed = statements.iter().map(|value| {
        let Value::Object(statement) = value else {
            return Err(malformed("Syntax errors in policy."));
        };
        if let Some(sid) = statement.get("Sid") {
            let sid = sid.as_str().ok_or_else(|| malformed("Syntax errors in policy: Sid."))?;
            if !sid.is_empty() && !sids.insert(sid) {
                return Err(malformed("Statement IDs (SID) in a single policy must be unique."));
            }
        }
        parse_statement(statement, kind, variables)
    });
    Ok(Policy { statements: parsed.collect::<Result<_, _>>()? })
}

fn parse_statement(statement: &Map<String, Value>, kind: Kind, variables: bool) -> Result<Statement, Error> {
    let (mut effect, mut actions, mut resources, mut principals) = (None, None, None, None);
    let mut conditions = Vec::new();
    for (name, value) in statement {
        let twice = || malformed(format!("Syntax errors in policy: {name} and its opposite."));
        match name.as_str() {
            "Sid" => {}
            "Effect" => {
                effect = Some(match value.as_str() {
                    Some("Allow") => Effect::Allow,
                    Some("Deny") => Effect::Deny,
                    _ => return Err(malformed("Syntax errors in policy: Effect must be Allow or Deny.")),
                });
            }
            "Action" | "NotAction" => {
                let list = (name == "NotAction", parse_actions(value)?);
                actions.replace(list).map_or(Ok(()), |_| Err(twice()))?;
            }
            "Resource" | "NotResource" => {
                let list = (name == "NotResource", parse_resources(value, variables)?);
                resources.replace(list).map_or(Ok(()), |_| Err(twice()))?;
            }
            "Principal" | "NotPrincipal" => {
                let list = (name == "NotPrincipal", parse_principals(value)?);
                principals.replace(list).map_or(Ok(()), |_| Err(twice()))?;
            }
            "Condition" => conditions = parse_conditions(value, variables)?,
            name => return Err(malformed(format!("Syntax errors in policy: element {name}."))),
        }
    }
    let effect = effect.ok_or_else(|| malformed("Syntax errors in policy: no Effect."))?;
    let actions = actions.ok_or_else(|| malformed("Policy statement must contain actions."))?;
    match kind {
        Kind::Identity => {
            if principals.is_some() {
                return Err(malformed("Policy document should not specify a principal."));
            }
            if resources.is_none() {
                return Err(malformed("Policy statement must contain resources."));
            }
        }
        Kind::Trust => {
            if resources.is_some() {
                return Err(malformed("Has prohibited field Resource"));
            }
            if principals.is_none() {
                return Err(malformed("Policy statement must contain principals."));
            }
        }
        Kind::Resource => {
            if principals.is_none() {
                return Err(malformed("Policy statement must contain principals."));
            }
        }
    }
    if let Some((true, _)) = principals
        && effect == Effect::Allow
    {
        return Err(malformed("Allow with NotPrincipal is not allowed."));
    }
    Ok(Statement { effect, actions, resources, principals, conditions })
}

/// A text, or a list of texts.
fn texts(value: &Value) -> Option<Vec<&str>> {
    match value {
        Value::String(text) => Some(vec![text]),
        Value::Array(list) => list.iter().map(Value::as_str).collect(),
        _ => None,
    }
}

fn parse_actions(value: &Value) -> Result<Vec<Pattern>, Error> {
    let list = texts(value).filter(|l| !l.is_empty());
    let list = list.ok_or_else(|| malformed("Policy statement must contain actions."))?;
    let compile = |action: &str| {
        let vendor = action.split_once(':').filter(|(vendor, name)| {
            let vendor_valid = vendor.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
            !vendor.is_empty() && vendor_valid && !name.is_empty()
        });
        if action != "*" && vendor.is_none() {
            let message = "Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc.";
            return Err(malformed(message));
        }
        // Actions are matched without regard to case, and hold no variables.
        let syntax = Syntax { wildcards: true, variables: false, fold: true };
        Pattern::compile(action, syntax).map_err(malformed)
    };
    list.into_iter().map(compile).collect()
}

fn parse_resources(value: &Value, variables: bool) -> Result<Vec<Pattern>, Error> {
    let list = texts(value).filter(|l| !l.is_empty());
    let list = list.ok_or_else(|| malformed("Policy statement must contain resources."))?;
    let compile = |resource: &str| {
        let arn = resource.starts_with("arn:") && resource.matches(':').count() >= 2;
        if !resource.starts_with('*') && !arn && !resource.starts_with("${") {
            return Err(malformed(format!("Resource {resource} must be in ARN format or \"*\".")));
        }
        Pattern::compile(resource, Syntax { wildcards: true, variables, fold: false }).map_err(malformed)
    };
    list.into_iter().map(compile).collect()
}

fn parse_principals(value: &Value) -> Result<Vec<PrincipalPattern>, Error> {
    let map = match value {
        Value::String(text) if text == "*" => return Ok(vec![PrincipalPattern::Everyone]),
        Value::Object(map) if !map.is_empty() => map,
        other => return Err(malformed(format!("Invalid principal in policy: {other}"))),
    };
    let mut principals = Vec::new();
    for (kind, value) in map {
        let invalid = || malformed(format!("Invalid principal in policy: \"{kind}\":{value}"));
        for text in texts(value).ok_or_else(invalid)? {
            principals.push(match kind.as_str() {
                "AWS" => parse_aws_principal(text).ok_or_else(invalid)?,
                "Service" if text.contains('.') => PrincipalPattern::Service(text.into()),
                // Nobody here is one of these, so they match nobody.
                "Federated" | "CanonicalUser" => PrincipalPattern::Nobody,
                _ => return Err(invalid()),
            });
        }
    }
    Ok(principals)
}

fn parse_aws_principal(text: &str) -> Option<PrincipalPattern> {
    if text == "*" {
        return Some(PrincipalPattern::Everyone);
    }
    if let Ok(account) = text.parse() {
        return Some(PrincipalPattern::Account(account));
    }
    let arn: types::Arn = text.parse().ok()?;
    let account = arn.account.parse().ok()?;
    match (arn.service.as_str(), arn.resource.as_str()) {
        ("iam", "root") => Some(PrincipalPattern::Account(account)),
        ("iam", resource) if resource.starts_with("user/") || resource.starts_with("role/") => {
            (!resource.contains('*')).then(|| PrincipalPattern::Arn(text.into()))
        }
        ("sts", resource) if resource.starts_with("assumed-role/") => {
            (!resource.contains('*')).then(|| PrincipalPattern::Arn(text.into()))
        }
        _ => None,
    }
}

fn parse_conditions(value: &Value, variables: bool) -> Result<Vec<Condition>, Error> {
    let syntax = || malformed("Syntax errors in policy: Condition.");
    let mut conditions = Vec::new();
    for (operator, keys) in value.as_object().ok_or_else(syntax)? {
        for (key, values) in keys.as_object().ok_or_else(syntax)? {
            if !key.contains(':') {
                let message = "Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc.";
                return Err(malformed(message));
            }
            let list = match values {
                Value::Array(list) => list.as_slice(),
                one => std::slice::from_ref(one),
            };
            let scalars = list.iter().map(|value| match value {
                Value::String(text) => Some(text.clone()),
                Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
                Value::Null | Value::Array(_) | Value::Object(_) => None,
            });
            let scalars: Vec<_> = scalars.collect::<Option<_>>().ok_or_else(syntax)?;
            conditions.push(Condition::compile(operator, key, &scalars, variables).map_err(malformed)?);
        }
    }
    Ok(conditions)
}
