//! Whether a function's resource policy lets a service invoke it (AWS Lambda developer guide, "Granting
//! Lambda function access to AWS services").

use types::{AccountId, Arn, Principal, matches_wildcards};

use crate::tables::{PolicyRow, Statement};

/// Whether `service` may invoke the function on behalf of `source`, which belongs to `account`.
pub(crate) fn allows(policy: &PolicyRow, service: &str, source: &str, account: AccountId) -> bool {
    policy.statements.iter().any(|statement| statement_allows(statement, service, source, account))
}

/// Whether a policy lets `principal` invoke a function through its URL, whose requests are authorised by `auth`
/// (`NONE` or `AWS_IAM`).
pub(crate) fn lets_url_in(policy: &PolicyRow, principal: &Principal, auth: &str) -> bool {
    policy.statements.iter().any(|statement| {
        let action = matches!(statement.action.as_str(), "lambda:InvokeFunctionUrl" | "lambda:*" | "*");
        let named = match principal {
            Principal::Anonymous => statement.principal == "*",
            known => {
                let account = known.account().map(|account| account.to_string()).unwrap_or_default();
                let root = format!("arn:aws:iam::{account}:root");
                [account, root, known.arn(), "*".to_owned()].contains(&statement.principal)
            }
        };
        let kind = statement.url_auth.as_deref().is_none_or(|wanted| wanted == auth);
        let plain = statement.source_arn.is_none() && statement.source_account.is_none();
        action && named && kind && plain
    })
}

fn statement_allows(statement: &Statement, service: &str, source: &str, account: AccountId) -> bool {
    let action = matches!(statement.action.as_str(), "lambda:InvokeFunction" | "lambda:*" | "*");
    // What holds for URLs alone does not hold here.
    let action = action && !statement.via_url;
    let principal = statement.principal == service || statement.principal == "*";
    let arn = statement.source_arn.as_deref().is_none_or(|pattern| matches_wildcards(pattern, source));
    let owner = statement.source_account.as_deref().is_none_or(|owner| {
        // Ids of buckets name no account: the source is in the account whose event it is.
        let named = source.parse::<Arn>().ok().map(|arn| arn.account).filter(|named| !named.is_empty());
        owner == named.unwrap_or_else(|| account.to_string())
    });
    action && principal && arn && owner
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::{RequestId, SystemEnv};

    #[test]
    fn every_condition_must_hold() {
        let mut statement = Statement {
            sid: "s3".into(),
            action: "lambda:InvokeFunction".into(),
            principal: "s3.amazonaws.com".into(),
            source_arn: Some("arn:aws:s3:::photos-*".into()),
            source_account: Some("000000000000".into()),
            url_auth: None,
            via_url: false,
        };
        let allowed = |statement: &Statement, service, source| {
            let policy = PolicyRow {
                revision: RequestId::new(&*SystemEnv::new()),
                statements: vec![statement.clone()],
            };
            allows(&policy, service, source, AccountId::DEFAULT)
        };
        assert!(allowed(&statement, "s3.amazonaws.com", "arn:aws:s3:::photos-in"));
        assert!(!allowed(&statement, "s3.amazonaws.com", "arn:aws:s3:::other"));
        assert!(!allowed(&statement, "sns.amazonaws.com", "arn:aws:s3:::photos-in"));
        statement.source_account = Some("000000000001".into());
        assert!(!allowed(&statement, "s3.amazonaws.com", "arn:aws:s3:::photos-in"));
        statement.source_account = None;
        statement.action = "lambda:GetFunction".into();
        assert!(!allowed(&statement, "s3.amazonaws.com", "arn:aws:s3:::photos-in"));
    }
}
