//! `AWS::IAM::Role`.

use async_trait::async_trait;
use serde_json::Value as Json;

use super::schema::{Property, Shape, TAGS};
use super::{
    Calls, CreateError, Made, Naming, Properties, Provider, ResourceType, found, gone_is_fine, is_there, text,
};
use crate::template::Pseudo;

pub(super) const ROLE: ResourceType = ResourceType {
    name: "AWS::IAM::Role",
    properties: &[
        Property::new("AssumeRolePolicyDocument", Shape::Document).required(),
        Property::new("Description", Shape::Text),
        Property::new("ManagedPolicyArns", Shape::List(&Shape::Text)),
        Property::new("MaxSessionDuration", Shape::Integer),
        Property::new("Path", Shape::Text).replaces(),
        Property::new(
            "Policies",
            Shape::List(&Shape::Object(&[
                Property::new("PolicyName", Shape::Text).required(),
                Property::new("PolicyDocument", Shape::Document).required(),
            ])),
        ),
        Property::new("RoleName", Shape::Text).replaces(),
        Property::new("Tags", TAGS),
    ],
    attributes: &["Arn"],
    late: &[],
    provider: &Role,
};

struct Role;

/// The inline policies, name and document.
fn policies(properties: &Properties) -> Vec<(&str, &Json)> {
    let list = properties.get("Policies").and_then(Json::as_array).into_iter().flatten();
    list.filter_map(|p| Some((p["PolicyName"].as_str()?, &p["PolicyDocument"]))).collect()
}

fn managed(properties: &Properties) -> Vec<&str> {
    let list = properties.get("ManagedPolicyArns").and_then(Json::as_array);
    list.into_iter().flatten().filter_map(Json::as_str).collect()
}

fn tags(properties: &Properties) -> Vec<(&str, &str)> {
    let list = properties.get("Tags").and_then(Json::as_array).into_iter().flatten();
    list.filter_map(|tag| Some((tag["Key"].as_str()?, tag["Value"].as_str()?))).collect()
}

fn tag_form(tags: &[(&str, &str)]) -> Vec<(String, String)> {
    let numbered = tags.iter().enumerate();
    numbered
        .flat_map(|(i, (key, value))| {
            let name = format!("Tags.member.{}", i + 1);
            [(format!("{name}.Key"), (*key).to_owned()), (format!("{name}.Value"), (*value).to_owned())]
        })
        .collect()
}

async fn call(calls: &Calls, action: &str, form: &[(String, String)]) -> Result<(), aws::Error> {
    let form: Vec<_> = form.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    calls.iam(action, &form).await.map(drop)
}

/// Brings inline and attached policies from those of `old` to those of `new`.
async fn put_policies(calls: &Calls, id: &str, old: &Properties, new: &Properties) -> Result<(), aws::Error> {
    let (was, is) = (policies(old), policies(new));
    for (name, document) in &is {
        if !was.contains(&(*name, *document)) {
            let document = document.to_string();
            let form = [("RoleName", id), ("PolicyName", *name), ("PolicyDocument", document.as_str())];
            calls.iam("PutRolePolicy", &form).await?;
        }
    }
    for (name, _) in was {
        if !is.iter().any(|(other, _)| *other == name) {
            let form = [("RoleName", id), ("PolicyName", name)];
            gone_is_fine(calls.iam("DeleteRolePolicy", &form).await)?;
        }
    }
    let (was, is) = (managed(old), managed(new));
    for arn in is.iter().filter(|arn| !was.contains(arn)) {
        calls.iam("AttachRolePolicy", &[("RoleName", id), ("PolicyArn", *arn)]).await?;
    }
    for arn in was.iter().filter(|arn| !is.contains(arn)) {
        gone_is_fine(calls.iam("DetachRolePolicy", &[("RoleName", id), ("PolicyArn", *arn)]).await)?;
    }
    Ok(())
}

#[async_trait]
impl Provider for Role {
    fn physical_id(&self, naming: &Naming<'_>, properties: &Properties) -> String {
        text(properties, "RoleName").map_or_else(|| naming.generate(64), str::to_owned)
    }

    fn attribute(
        &self,
        pseudo: &Pseudo,
        id: &str,
        properties: &Properties,
        attribute: &str,
    ) -> Option<String> {
        let path = text(properties, "Path").unwrap_or("/");
        (attribute == "Arn").then(|| format!("arn:aws:iam::{}:role{path}{id}", pseudo.account_id))
    }

    async fn exists(&self, calls: &Calls, id: &str, _: &Properties) -> Result<bool, aws::Error> {
        found(calls.iam("GetRole", &[("RoleName", id)]).await)
    }

    async fn create(
        &self,
        calls: &Calls,
        id: &str,
        properties: &Properties,
        again: bool,
    ) -> Result<Made, CreateError> {
        let mut form = vec![("RoleName".to_owned(), id.to_owned())];
        for name in ["AssumeRolePolicyDocument", "Description", "MaxSessionDuration", "Path"] {
            match properties.get(name) {
                Some(Json::String(text)) => form.push((name.to_owned(), text.clone())),
                Some(other) => form.push((name.to_owned(), other.to_string())),
                None => {}
            }
        }
        form.extend(tag_form(&tags(properties)));
        match call(calls, "CreateRole", &form).await {
            Err(error) if again && is_there(&error) => {}
            Err(error) => return Err(CreateError::nothing_made(error)),
            Ok(()) => {}
        }
        let put = put_policies(calls, id, &Properties::new(), properties).await;
        put.map(|()| Made::default()).map_err(CreateError::half_made)
    }

    async fn update(
        &self,
        calls: &Calls,
        id: &str,
        old: &Properties,
        new: &Properties,
    ) -> Result<(), aws::Error> {
        let changed = |name: &str| old.get(name) != new.get(name);
        if changed("AssumeRolePolicyDocument") {
            let document = new.get("AssumeRolePolicyDocument").map(Json::to_string).unwrap_or_default();
            let form = [("RoleName", id), ("PolicyDocument", document.as_str())];
            calls.iam("UpdateAssumeRolePolicy", &form).await?;
        }
        if changed("Description") || changed("MaxSessionDuration") {
            let duration = new.get("MaxSessionDuration").map_or_else(|| "3600".to_owned(), Json::to_string);
            let description = text(new, "Description").unwrap_or_default();
            let form =
                [("RoleName", id), ("Description", description), ("MaxSessionDuration", duration.as_str())];
            calls.iam("UpdateRole", &form).await?;
        }
        if changed("Tags") {
            let (was, is) = (tags(old), tags(new));
            let gone = was.iter().filter(|(key, _)| !is.iter().any(|(other, _)| other == key)).enumerate();
            let gone: Vec<_> =
                gone.map(|(i, (key, _))| (format!("TagKeys.member.{}", i + 1), (*key).to_owned())).collect();
            let role = ("RoleName".to_owned(), id.to_owned());
            if !gone.is_empty() {
                call(calls, "UntagRole", &[vec![role.clone()], gone].concat()).await?;
            }
            if !is.is_empty() {
                call(calls, "TagRole", &[vec![role], tag_form(&is)].concat()).await?;
            }
        }
        put_policies(calls, id, old, new).await
    }

    async fn delete(&self, calls: &Calls, id: &str, properties: &Properties) -> Result<(), aws::Error> {
        match put_policies(calls, id, properties, &Properties::new()).await {
            Err(error) if !super::is_gone(&error) => return Err(error),
            _ => {}
        }
        gone_is_fine(calls.iam("DeleteRole", &[("RoleName", id)]).await)
    }
}
