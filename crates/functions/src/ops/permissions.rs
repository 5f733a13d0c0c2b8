//! Resource policies.

use aws::Response;
use serde_json::{Value, json};
use store::{Read, Write};

use super::{Cx, Owner, check_revision, check_revision_of};
use crate::Error;
use crate::name::{FunctionName, LATEST};
use crate::tables::{POLICIES, PolicyRow, Statement, by_qualifier};
use crate::wire::input::AddPermission;
use crate::wire::members::{self, Faults, is_account};

/// Largest resource policy, in bytes (AWS Lambda developer guide, "Lambda quotas").
pub(super) const POLICY_LIMIT: usize = 20 * 1024;

/// Whether that names a service: `s3.amazonaws.com`, and `alexa-appkit.amazon.com`.
fn is_service(principal: &str) -> bool {
    let name = [".amazonaws.com", ".amazonaws.com.cn", ".amazon.com"];
    let name = name.iter().find_map(|suffix| principal.strip_suffix(suffix));
    name.is_some_and(|name| name.split('.').all(members::is_word))
}

/// Whether that names an account, or one of its users, roles or sessions.
fn is_identity(principal: &str) -> bool {
    let Ok(arn) = principal.parse::<types::Arn>() else { return is_account(principal) };
    let kind = arn.resource.split_once('/').map(|(kind, name)| (kind, !name.is_empty()));
    let named = match (arn.service.as_str(), kind) {
        ("iam", None) => arn.resource == "root",
        ("iam", Some(("user" | "role", named))) => named,
        ("sts", Some(("assumed-role" | "federated-user", named))) => named,
        _ => false,
    };
    named && is_account(&arn.account)
}

/// The statement as a policy document shows it.
pub(super) fn document(statement: &Statement, resource: &str) -> Value {
    let principal = &statement.principal;
    let shown = if principal == "*" {
        json!("*")
    } else if is_service(principal) {
        json!({ "Service": principal })
    } else if is_account(principal) {
        json!({ "AWS": format!("arn:aws:iam::{principal}:root") })
    } else {
        json!({ "AWS": principal })
    };
    let mut document = json!({
        "Sid": statement.sid,
        "Effect": "Allow",
        "Principal": shown,
        "Action": statement.action,
        "Resource": resource,
    });
    let mut condition = serde_json::Map::new();
    if let Some(owner) = &statement.source_account {
        condition.insert("StringEquals".to_owned(), json!({ "AWS:SourceAccount": owner }));
    }
    if let Some(auth) = &statement.url_auth {
        let equals = condition.entry("StringEquals").or_insert_with(|| json!({}));
        equals["lambda:FunctionUrlAuthType"] = json!(auth);
    }
    if statement.via_url {
        condition.insert("Bool".to_owned(), json!({ "lambda:InvokedViaFunctionUrl": "true" }));
    }
    if let Some(arn) = &statement.source_arn {
        condition.insert("ArnLike".to_owned(), json!({ "AWS:SourceArn": arn }));
    }
    if !condition.is_empty() {
        document["Condition"] = Value::Object(condition);
    }
    document
}

pub(super) fn policy_document(policy: &PolicyRow, resource: &str) -> String {
    let statements: Vec<_> = policy.statements.iter().map(|one| document(one, resource)).collect();
    json!({ "Version": "2012-10-17", "Id": "default", "Statement": statements }).to_string()
}

fn check(input: &AddPermission, region: &types::Region) -> Result<(), Error> {
    let mut faults = Faults::default();
    let mut matches = |fits: bool, value: &str, at: &str, pattern: &str| {
        faults.see(if fits { Ok(()) } else { Err(Error::pattern(value, at, pattern)) });
    };
    let sid = &input.statement_id;
    matches(sid.len() <= 100 && members::is_word(sid), sid, "statementId", "([a-zA-Z0-9-_]+)");
    let named =
        |name: &str| name == "*" || (!name.is_empty() && name.bytes().all(|b| b.is_ascii_alphabetic()));
    let fits = input.action == "*" || input.action.strip_prefix("lambda:").is_some_and(named);
    matches(fits, &input.action, "action", "(lambda:[*]|lambda:[a-zA-Z]+|[*])");
    let fits = !input.principal.is_empty() && !input.principal.contains(char::is_whitespace);
    matches(fits, &input.principal, "principal", "[^\\s]+");
    if let Some(owner) = &input.source_account {
        matches(is_account(owner), owner, "sourceAccount", "\\d{12}");
    }
    if let Some(arn) = &input.source_arn {
        faults.see(members::arn(arn, "sourceArn", region));
    }
    if let Some(auth) = &input.function_url_auth_type {
        faults.see(members::one_of(auth, "functionUrlAuthType", &["NONE", "AWS_IAM"]));
    }
    faults.finish()?;
    if input.function_url_auth_type.is_some()
        && !matches!(action_name(&input.action), "InvokeFunctionUrl" | "*")
    {
        return Err(Error::InvalidParameter(
            "FunctionUrlAuthType is only supported for lambda:InvokeFunctionUrl action".into(),
        ));
    }
    let principal = input.principal.as_str();
    if principal != "*" && !is_service(principal) && !is_identity(principal) {
        return Err(no_principal());
    }
    Ok(())
}

fn no_principal() -> Error {
    Error::InvalidParameter(
        "The provided principal was invalid. Please check the principal and try again.".into(),
    )
}

fn action_name(action: &str) -> &str {
    action.strip_prefix("lambda:").unwrap_or(action)
}

impl Cx {
    /// Where a policy is, what must be there for it, and the ARN that it is about.
    fn policy_of(&self, function: &FunctionName) -> (store::Key, Owner, String) {
        let owner = function.owner();
        let key = by_qualifier(&POLICIES, self.account, &function.name, owner);
        let resource = match owner {
            Some(owner) => format!("{}:{owner}", self.arn(&function.name)),
            None => self.arn(&function.name),
        };
        (key, self.owner_of(function), resource)
    }

    pub(super) async fn add_permission(
        &self,
        function: FunctionName,
        input: AddPermission,
    ) -> Result<Response, aws::Error> {
        check(&input, &self.inner.region)?;
        if self.inner.roles.is_there(&input.principal).await? == Some(false) {
            return Err(no_principal().into());
        }
        if function.qualifier.as_deref() == Some(LATEST) {
            return Err(Error::InvalidParameter(
                "We currently do not support adding policies for $LATEST.".into(),
            )
            .into());
        }
        let (key, owner, resource) = self.policy_of(&function);
        let statement = Statement {
            sid: input.statement_id,
            action: input.action,
            principal: input.principal,
            source_arn: input.source_arn,
            source_account: input.source_account,
            url_auth: input.function_url_auth_type,
            via_url: input.invoked_via_function_url,
        };
        let shown = document(&statement, &resource).to_string();
        let reads = vec![Read::Key(owner.key()), Read::Key(key.clone())];
        let (not_found, fresh, revision) = (self.no_owner(&function), self.fresh_id(), input.revision_id);
        let added = self.inner.store.transact(reads, move |pages, _| -> Result<_, Error> {
            let Some(current) = owner.revision(&pages[0])? else { return Err(not_found.clone()) };
            check_revision_of(revision.as_deref(), current, "GetPolicy")?;
            let stored = POLICIES.first(&pages[1])?.map(|stored| stored.value);
            let mut statements = stored.map(|policy| policy.statements).unwrap_or_default();
            if statements.iter().any(|one| one.sid == statement.sid) {
                return Err(Error::Conflict(format!(
                    "The statement id ({}) provided already exists. Please provide a new statement id, or \
                     remove the existing statement.",
                    statement.sid
                )));
            }
            statements.push(statement.clone());
            let policy = PolicyRow { revision: fresh, statements };
            let size = policy_document(&policy, &resource).len();
            if size > POLICY_LIMIT {
                return Err(Error::PolicyLength { size, limit: POLICY_LIMIT });
            }
            let mut writes = vec![POLICIES.put(key.clone(), &policy)];
            writes.extend(owner.revised(&pages[0], fresh)?);
            Ok((writes, ()))
        });
        added.await?;
        self.inner.changed(self.account, &function.name, false);
        Ok(aws::json::output_with_status(201, &json!({ "Statement": shown })))
    }

    pub(super) async fn remove_permission(
        &self,
        function: FunctionName,
        sid: String,
        revision: Option<String>,
    ) -> Result<Response, Error> {
        let (key, owner, _) = self.policy_of(&function);
        let reads = vec![Read::Key(owner.key()), Read::Key(key.clone())];
        let (not_found, fresh) = (self.no_owner(&function), self.fresh_id());
        let removed = self.inner.store.transact(reads, move |pages, _| -> Result<_, Error> {
            let Some(current) = owner.revision(&pages[0])? else { return Err(not_found.clone()) };
            let Some(stored) = POLICIES.first(&pages[1])? else {
                return Err(Error::NotFound("No policy is associated with the given resource.".into()));
            };
            let mut policy = stored.value;
            let before = policy.statements.len();
            policy.statements.retain(|one| one.sid != sid);
            if policy.statements.len() == before {
                return Err(Error::NotFound(format!("Statement {sid} is not found in resource policy.")));
            }
            check_revision(revision.as_deref(), current)?;
            policy.revision = fresh;
            let write = if policy.statements.is_empty() {
                Write::Delete(key.clone())
            } else {
                POLICIES.put(key.clone(), &policy)
            };
            let mut writes = vec![write];
            writes.extend(owner.revised(&pages[0], fresh)?);
            Ok((writes, ()))
        });
        removed.await?;
        self.inner.changed(self.account, &function.name, false);
        Ok(aws::json::empty(204))
    }

    /// A policy has no revision of its own: it is a part of what it belongs to.
    pub(super) async fn get_policy(&self, function: FunctionName) -> Result<Response, Error> {
        let (key, owner, resource) = self.policy_of(&function);
        let pages = self.inner.store.read(vec![Read::Key(owner.key()), Read::Key(key)]).await?;
        let Some(revision) = owner.revision(&pages[0])? else { return Err(self.no_owner(&function)) };
        let Some(stored) = POLICIES.first(&pages[1])? else {
            return Err(Error::NotFound("The resource you requested does not exist.".into()));
        };
        let policy = policy_document(&stored.value, &resource);
        Ok(aws::json::output(&json!({ "Policy": policy, "RevisionId": revision })))
    }
}
