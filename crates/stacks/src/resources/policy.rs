//! `AWS::IAM::Policy` (an inline policy of roles) and `AWS::IAM::ManagedPolicy`.

use async_trait::async_trait;
use serde_json::Value as Json;

use super::schema::{Property, Shape};
use super::{
    Calls, CreateError, Made, Naming, Properties, Provider, ResourceType, found, gone_is_fine, is_there, text,
};
use crate::template::Pseudo;

pub(super) const POLICY: ResourceType = ResourceType {
    name: "AWS::IAM::Policy",
    properties: &[
        Property::new("PolicyDocument", Shape::Document).required(),
        Property::new("PolicyName", Shape::Text).required().replaces(),
        Property::new("Roles", Shape::List(&Shape::Text)).required(),
    ],
    attributes: &[],
    late: &[],
    provider: &Policy,
};

pub(super) const MANAGED_POLICY: ResourceType = ResourceType {
    name: "AWS::IAM::ManagedPolicy",
    properties: &[
        Property::new("Description", Shape::Text).replaces(),
        Property::new("ManagedPolicyName", Shape::Text).replaces(),
        Property::new("Path", Shape::Text).replaces(),
        Property::new("PolicyDocument", Shape::Document).required(),
        Property::new("Roles", Shape::List(&Shape::Text)),
    ],
    attributes: &[],
    late: &[],
    provider: &ManagedPolicy,
};

fn roles(properties: &Properties) -> Vec<&str> {
    properties.get("Roles").and_then(Json::as_array).into_iter().flatten().filter_map(Json::as_str).collect()
}

struct Policy;

async fn put_inline(calls: &Calls, properties: &Properties) -> Result<(), aws::Error> {
    let document = properties.get("PolicyDocument").map(Json::to_string).unwrap_or_default();
    let name = text(properties, "PolicyName").unwrap_or_default();
    for role in roles(properties) {
        let form = [("RoleName", role), ("PolicyName", name), ("PolicyDocument", document.as_str())];
        calls.iam("PutRolePolicy", &form).await?;
    }
    Ok(())
}

async fn remove_inline(calls: &Calls, properties: &Properties, keep: &[&str]) -> Result<(), aws::Error> {
    let name = text(properties, "PolicyName").unwrap_or_default();
    for role in roles(properties).into_iter().filter(|role| !keep.contains(role)) {
        gone_is_fine(calls.iam("DeleteRolePolicy", &[("RoleName", role), ("PolicyName", name)]).await)?;
    }
    Ok(())
}

#[async_trait]
impl Provider for Policy {
    fn physical_id(&self, naming: &Naming<'_>, _: &Properties) -> String {
        naming.generate(128)
    }

    async fn create(
        &self,
        calls: &Calls,
        _: &str,
        properties: &Properties,
        _: bool,
    ) -> Result<Made, CreateError> {
        // Some of the roles may have it already: remove it from all if one fails.
        put_inline(calls, properties).await.map(|()| Made::default()).map_err(CreateError::half_made)
    }

    async fn update(
        &self,
        calls: &Calls,
        _: &str,
        old: &Properties,
        new: &Properties,
    ) -> Result<(), aws::Error> {
        put_inline(calls, new).await?;
        remove_inline(calls, old, &roles(new)).await
    }

    async fn delete(&self, calls: &Calls, _: &str, properties: &Properties) -> Result<(), aws::Error> {
        remove_inline(calls, properties, &[]).await
    }
}

struct ManagedPolicy;

/// Its physical id is its ARN.
#[async_trait]
impl Provider for ManagedPolicy {
    fn physical_id(&self, naming: &Naming<'_>, properties: &Properties) -> String {
        let account = &naming.pseudo.account_id;
        let path = text(properties, "Path").unwrap_or("/");
        let name = text(properties, "ManagedPolicyName").map_or_else(|| naming.generate(128), str::to_owned);
        format!("arn:aws:iam::{account}:policy{path}{name}")
    }

    fn attribute(&self, _: &Pseudo, _: &str, _: &Properties, _: &str) -> Option<String> {
        None
    }

    async fn exists(&self, calls: &Calls, id: &str, _: &Properties) -> Result<bool, aws::Error> {
        found(calls.iam("GetPolicy", &[("PolicyArn", id)]).await)
    }

    async fn create(
        &self,
        calls: &Calls,
        id: &str,
        properties: &Properties,
        again: bool,
    ) -> Result<Made, CreateError> {
        let name = id.rsplit('/').next().unwrap_or_default();
        let document = properties.get("PolicyDocument").map(Json::to_string).unwrap_or_default();
        let mut form = vec![("PolicyName", name), ("PolicyDocument", document.as_str())];
        for key in ["Description", "Path"] {
            if let Some(value) = text(properties, key) {
                form.push((key, value));
            }
        }
        match calls.iam("CreatePolicy", &form).await {
            Err(error) if again && is_there(&error) => {}
            Err(error) => return Err(CreateError::nothing_made(error)),
            Ok(_) => {}
        }
        let attached = attach(calls, id, &[], &roles(properties)).await;
        attached.map(|()| Made::default()).map_err(CreateError::half_made)
    }

    async fn update(
        &self,
        calls: &Calls,
        id: &str,
        old: &Properties,
        new: &Properties,
    ) -> Result<(), aws::Error> {
        if old.get("PolicyDocument") != new.get("PolicyDocument") {
            forget_versions(calls, id).await?;
            let document = new.get("PolicyDocument").map(Json::to_string).unwrap_or_default();
            let form = [("PolicyArn", id), ("PolicyDocument", document.as_str()), ("SetAsDefault", "true")];
            calls.iam("CreatePolicyVersion", &form).await?;
        }
        attach(calls, id, &roles(old), &roles(new)).await
    }

    async fn delete(&self, calls: &Calls, id: &str, properties: &Properties) -> Result<(), aws::Error> {
        attach(calls, id, &roles(properties), &[]).await?;
        match forget_versions(calls, id).await {
            Err(error) if !super::is_gone(&error) => return Err(error),
            _ => {}
        }
        gone_is_fine(calls.iam("DeletePolicy", &[("PolicyArn", id)]).await)
    }
}

/// Deletes every version but the one in force: a policy has at most five, and goes only with one.
async fn forget_versions(calls: &Calls, arn: &str) -> Result<(), aws::Error> {
    let answer = calls.iam("ListPolicyVersions", &[("PolicyArn", arn)]).await?;
    let text = String::from_utf8_lossy(&answer);
    for member in text.split("<member>").skip(1) {
        let id = member.split("<VersionId>").nth(1).and_then(|rest| rest.split('<').next());
        if let Some(id) = id
            && !member.contains("<IsDefaultVersion>true")
        {
            let form = [("PolicyArn", arn), ("VersionId", id)];
            gone_is_fine(calls.iam("DeletePolicyVersion", &form).await)?;
        }
    }
    Ok(())
}

async fn attach(calls: &Calls, arn: &str, old: &[&str], new: &[&str]) -> Result<(), aws::Error> {
    for role in new.iter().filter(|role| !old.contains(role)) {
        calls.iam("AttachRolePolicy", &[("RoleName", *role), ("PolicyArn", arn)]).await?;
    }
    for role in old.iter().filter(|role| !new.contains(role)) {
        gone_is_fine(calls.iam("DetachRolePolicy", &[("RoleName", *role), ("PolicyArn", arn)]).await)?;
    }
    Ok(())
}
