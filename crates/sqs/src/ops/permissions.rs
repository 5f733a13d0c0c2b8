//! AddPermission, RemovePermission: statements of a queue's policy, made and taken away by their label.

use aws::{Access, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use types::AccountId;

use super::attributes::change;
use super::{Input, one_queue};
use crate::Error;
use crate::find::Found;
use crate::service::Scope;

/// Most actions of one statement.
const MAX_ACTIONS: usize = 7;
/// Most statements.
const MAX_STATEMENTS: usize = 20;

/// What may be allowed so.
const ACTIONS: [&str; 8] = [
    "*",
    "SendMessage",
    "ReceiveMessage",
    "DeleteMessage",
    "ChangeMessageVisibility",
    "GetQueueAttributes",
    "GetQueueUrl",
    "ListDeadLetterSourceQueues",
];

/// The policy of a queue that has none.
fn blank(arn: &str) -> Value {
    json!({ "Version": "2012-10-17", "Id": format!("{arn}/SQSDefaultPolicy"), "Statement": [] })
}

fn statements(policy: &mut Value) -> &mut Vec<Value> {
    // A policy may hold one statement without a list.
    if !policy["Statement"].is_array() {
        let one = policy["Statement"].take();
        policy["Statement"] = if one.is_null() { json!([]) } else { json!([one]) };
    }
    policy["Statement"].as_array_mut().expect("it was made one")
}

fn is_named(statement: &Value, label: &str) -> bool {
    statement["Sid"].as_str() == Some(label)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(crate) struct AddPermission {
    queue_url: Option<String>,
    label: Option<String>,
    #[serde(rename = "AWSAccountIds")]
    accounts: Option<Vec<String>>,
    actions: Option<Vec<String>>,
}

impl Input<Scope> for AddPermission {
    const NAME: &'static str = "AddPermission";
    type Found = Found;

    async fn find(&self, scope: &Scope) -> Result<(Vec<Access>, Found), Error> {
        one_queue(scope, self.queue_url.as_deref(), Self::NAME).await
    }

    async fn run(self, scope: Scope, found: Found) -> Result<Response, Error> {
        let queue = found.there()?;
        let label = self.label.ok_or(Error::MissingParameter("Label"))?;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if label.is_empty() || label.len() > 80 || !label.chars().all(plain) {
            let reason =
                "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length";
            return Err(Error::value(label, "Label", reason));
        }
        let accounts = self.accounts.unwrap_or_default();
        let actions = self.actions.unwrap_or_default();
        if accounts.is_empty() {
            return Err(Error::MissingParameter("AWSAccountIds"));
        }
        if actions.is_empty() {
            return Err(Error::MissingParameter("Actions"));
        }
        if actions.len() > MAX_ACTIONS {
            let count = actions.len();
            return Err(Error::OverLimit(format!(
                "{count} Actions were found, maximum allowed is {MAX_ACTIONS}."
            )));
        }
        if let Some(other) = actions.iter().find(|action| !ACTIONS.contains(&action.as_str())) {
            let reason = format!("Please use one of {}.", ACTIONS.join(", "));
            return Err(Error::value(other, "ActionName", &reason));
        }
        let mut principals = Vec::new();
        for account in &accounts {
            let account: AccountId =
                account.parse().map_err(|_| Error::value(account, "PrincipalId", "Unable to verify."))?;
            principals.push(format!("arn:aws:iam::{account}:root"));
        }
        let arn = queue.arn.clone();
        change(&scope, queue, move |row, _, _| {
            let mut policy = match &row.settings.policy {
                Some(text) => serde_json::from_str(text)
                    .map_err(|_| Error::InvalidAttributeValue("Policy".to_owned()))?,
                None => blank(&arn),
            };
            let all = statements(&mut policy);
            if all.iter().any(|statement| is_named(statement, &label)) {
                return Err(Error::value(&label, "Label", "Already exists."));
            }
            if all.len() >= MAX_STATEMENTS {
                return Err(Error::OverLimit(format!("A queue has at most {MAX_STATEMENTS} statements.")));
            }
            all.push(json!({
                "Sid": label,
                "Effect": "Allow",
                "Principal": { "AWS": principals },
                "Action": actions.iter().map(|action| format!("SQS:{action}")).collect::<Vec<_>>(),
                "Resource": arn,
            }));
            row.settings.policy = Some(policy.to_string());
            Ok(())
        })
        .await?;
        Ok(aws::json::empty(200))
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(crate) struct RemovePermission {
    queue_url: Option<String>,
    label: Option<String>,
}

impl Input<Scope> for RemovePermission {
    const NAME: &'static str = "RemovePermission";
    type Found = Found;

    async fn find(&self, scope: &Scope) -> Result<(Vec<Access>, Found), Error> {
        one_queue(scope, self.queue_url.as_deref(), Self::NAME).await
    }

    async fn run(self, scope: Scope, found: Found) -> Result<Response, Error> {
        let queue = found.there()?;
        let label = self.label.ok_or(Error::MissingParameter("Label"))?;
        change(&scope, queue, move |row, _, _| {
            let missing = || Error::value(&label, "Label", "can't find label on existing policy.");
            let text = row.settings.policy.as_ref().ok_or_else(missing)?;
            let mut policy: Value =
                serde_json::from_str(text).map_err(|_| Error::InvalidAttributeValue("Policy".to_owned()))?;
            let all = statements(&mut policy);
            let before = all.len();
            all.retain(|statement| !is_named(statement, &label));
            if all.len() == before {
                return Err(missing());
            }
            row.settings.policy = if all.is_empty() { None } else { Some(policy.to_string()) };
            Ok(())
        })
        .await?;
        Ok(aws::json::empty(200))
    }
}
