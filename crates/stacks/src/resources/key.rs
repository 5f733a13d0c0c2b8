//! `AWS::KMS::Key` and `AWS::KMS::Alias`. A key's id is known when it has been made.

use async_trait::async_trait;
use serde_json::{Value as Json, json};

use super::schema::{Property, Shape, TAGS};
use super::{
    Calls, CreateError, Made, Naming, Properties, Provider, ResourceType, found, gone_is_fine, text,
};
use crate::template::{LATER, Pseudo};

pub(super) const KEY: ResourceType = ResourceType {
    name: "AWS::KMS::Key",
    properties: &[
        Property::new("BypassPolicyLockoutSafetyCheck", Shape::Boolean),
        Property::new("Description", Shape::Text),
        Property::new("Enabled", Shape::Boolean),
        Property::new("EnableKeyRotation", Shape::Boolean),
        Property::new("KeyPolicy", Shape::Document),
        Property::new("KeySpec", Shape::Text).replaces(),
        Property::new("KeyUsage", Shape::Text).replaces(),
        Property::new("MultiRegion", Shape::Boolean).replaces(),
        Property::new("Origin", Shape::Text).replaces(),
        Property::new("PendingWindowInDays", Shape::Integer),
        Property::new("RotationPeriodInDays", Shape::Integer),
        Property::new("Tags", TAGS),
    ],
    attributes: &["Arn", "KeyId"],
    late: &[],
    provider: &Key,
};

pub(super) const KEY_ALIAS: ResourceType = ResourceType {
    name: "AWS::KMS::Alias",
    properties: &[
        Property::new("AliasName", Shape::Text).required().replaces(),
        Property::new("TargetKeyId", Shape::Text).required(),
    ],
    attributes: &[],
    late: &[],
    provider: &KeyAlias,
};

async fn kms(calls: &Calls, operation: &str, input: Json) -> Result<Json, aws::Error> {
    calls.json("kms", &format!("TrentService.{operation}"), &input).await
}

struct Key;

fn is(properties: &Properties, name: &str, usual: bool) -> bool {
    properties.get(name).and_then(Json::as_bool).unwrap_or(usual)
}

fn policy(properties: &Properties) -> Option<String> {
    properties.get("KeyPolicy").map(ToString::to_string)
}

fn tags(properties: &Properties) -> Vec<Json> {
    let tags = properties.get("Tags").and_then(Json::as_array);
    let tag = |tag: &Json| json!({"TagKey": tag["Key"], "TagValue": tag["Value"]});
    tags.into_iter().flatten().map(tag).collect()
}

/// What `CreateKey` takes.
fn input(properties: &Properties) -> Json {
    let mut input = json!({"Tags": tags(properties)});
    let same =
        ["BypassPolicyLockoutSafetyCheck", "Description", "KeySpec", "KeyUsage", "MultiRegion", "Origin"];
    for name in same {
        if let Some(value) = properties.get(name) {
            input[name] = value.clone();
        }
    }
    if let Some(policy) = policy(properties) {
        input["Policy"] = policy.into();
    }
    input
}

/// The key that the same step made before it was interrupted: nothing else of it tells it from others.
async fn made_before(calls: &Calls, properties: &Properties) -> Result<Option<String>, aws::Error> {
    let mut page = json!({"Limit": 1000});
    loop {
        let keys = kms(calls, "ListKeys", page).await?;
        for key in keys["Keys"].as_array().into_iter().flatten() {
            let described = kms(calls, "DescribeKey", json!({"KeyId": key["KeyId"]})).await?;
            let about = &described["KeyMetadata"];
            let description = about["Description"].as_str().unwrap_or_default();
            let is_new = about["CreationDate"].as_f64().is_some_and(|at| calls.since_begun_at(at));
            if is_new && description == text(properties, "Description").unwrap_or_default() {
                return Ok(key["KeyId"].as_str().map(str::to_owned));
            }
        }
        if keys["Truncated"] != true {
            return Ok(None);
        }
        page = json!({"Limit": 1000, "Marker": keys["NextMarker"]});
    }
}

/// Sets what a key is not made with, where it differs from `old`.
async fn set(calls: &Calls, id: &str, old: &Properties, new: &Properties) -> Result<(), aws::Error> {
    let enabled = is(new, "Enabled", true);
    // What is disabled can not be changed.
    if enabled && !is(old, "Enabled", true) {
        kms(calls, "EnableKey", json!({"KeyId": id})).await?;
    }
    let rotation = |properties: &Properties| {
        let on = is(properties, "EnableKeyRotation", false);
        on.then(|| properties.get("RotationPeriodInDays").cloned().unwrap_or_else(|| 365.into()))
    };
    match rotation(new) {
        same if same == rotation(old) => {}
        Some(days) => {
            let input = json!({"KeyId": id, "RotationPeriodInDays": days});
            kms(calls, "EnableKeyRotation", input).await?;
        }
        None => drop(kms(calls, "DisableKeyRotation", json!({"KeyId": id})).await?),
    }
    if !enabled && is(old, "Enabled", true) {
        kms(calls, "DisableKey", json!({"KeyId": id})).await?;
    }
    Ok(())
}

#[async_trait]
impl Provider for Key {
    fn physical_id(&self, _: &Naming<'_>, _: &Properties) -> String {
        LATER.to_owned()
    }

    fn attribute(&self, pseudo: &Pseudo, id: &str, _: &Properties, attribute: &str) -> Option<String> {
        let Pseudo { region, account_id, .. } = pseudo;
        match attribute {
            "Arn" => Some(format!("arn:aws:kms:{region}:{account_id}:key/{id}")),
            "KeyId" => Some(id.to_owned()),
            _ => None,
        }
    }

    async fn create(
        &self,
        calls: &Calls,
        _id: &str,
        properties: &Properties,
        again: bool,
    ) -> Result<Made, CreateError> {
        let before = if again { made_before(calls, properties).await } else { Ok(None) };
        let id = match before.map_err(CreateError::nothing_made)? {
            Some(id) => id,
            None => {
                let made = kms(calls, "CreateKey", input(properties)).await;
                let made = made.map_err(CreateError::nothing_made)?;
                made["KeyMetadata"]["KeyId"].as_str().unwrap_or_default().to_owned()
            }
        };
        let made = Made { physical_id: Some(id.clone()), ..Made::default() };
        match set(calls, &id, &Properties::new(), properties).await {
            Ok(()) => Ok(made),
            Err(error) => Err(CreateError { error, made: Some(made) }),
        }
    }

    async fn update(
        &self,
        calls: &Calls,
        id: &str,
        old: &Properties,
        new: &Properties,
    ) -> Result<(), aws::Error> {
        if old.get("Description") != new.get("Description") {
            let description = text(new, "Description").unwrap_or_default();
            kms(calls, "UpdateKeyDescription", json!({"KeyId": id, "Description": description})).await?;
        }
        if old.get("KeyPolicy") != new.get("KeyPolicy")
            && let Some(policy) = policy(new)
        {
            let bypass = is(new, "BypassPolicyLockoutSafetyCheck", false);
            let input = json!({"KeyId": id, "Policy": policy, "BypassPolicyLockoutSafetyCheck": bypass});
            kms(calls, "PutKeyPolicy", input).await?;
        }
        let (before, after) = (tags(old), tags(new));
        if before != after {
            let gone = before.iter().filter(|tag| after.iter().all(|t| t["TagKey"] != tag["TagKey"]));
            let gone: Vec<_> = gone.map(|tag| tag["TagKey"].clone()).collect();
            if !gone.is_empty() {
                kms(calls, "UntagResource", json!({"KeyId": id, "TagKeys": gone})).await?;
            }
            kms(calls, "TagResource", json!({"KeyId": id, "Tags": after})).await?;
        }
        set(calls, id, old, new).await
    }

    async fn delete(&self, calls: &Calls, id: &str, properties: &Properties) -> Result<(), aws::Error> {
        if id.contains(LATER) {
            return Ok(());
        }
        let days = properties.get("PendingWindowInDays").cloned().unwrap_or_else(|| 30.into());
        let input = json!({"KeyId": id, "PendingWindowInDays": days});
        match kms(calls, "ScheduleKeyDeletion", input).await {
            // It goes already.
            Err(error) if error.code == "KMSInvalidStateException" => Ok(()),
            outcome => gone_is_fine(outcome),
        }
    }
}

struct KeyAlias;

fn alias_input(properties: &Properties) -> Json {
    json!({"AliasName": properties.get("AliasName"), "TargetKeyId": properties.get("TargetKeyId")})
}

#[async_trait]
impl Provider for KeyAlias {
    fn physical_id(&self, _: &Naming<'_>, properties: &Properties) -> String {
        text(properties, "AliasName").unwrap_or_default().to_owned()
    }

    async fn exists(&self, calls: &Calls, id: &str, _: &Properties) -> Result<bool, aws::Error> {
        found(kms(calls, "DescribeKey", json!({"KeyId": id})).await)
    }

    async fn create(
        &self,
        calls: &Calls,
        _id: &str,
        properties: &Properties,
        again: bool,
    ) -> Result<Made, CreateError> {
        let made = match kms(calls, "CreateAlias", alias_input(properties)).await {
            Err(error) if again && error.code == "AlreadyExistsException" => {
                kms(calls, "UpdateAlias", alias_input(properties)).await
            }
            outcome => outcome,
        };
        made.map(|_| Made::default()).map_err(CreateError::nothing_made)
    }

    async fn update(
        &self,
        calls: &Calls,
        _id: &str,
        _old: &Properties,
        new: &Properties,
    ) -> Result<(), aws::Error> {
        kms(calls, "UpdateAlias", alias_input(new)).await.map(drop)
    }

    async fn delete(&self, calls: &Calls, id: &str, _: &Properties) -> Result<(), aws::Error> {
        gone_is_fine(kms(calls, "DeleteAlias", json!({"AliasName": id})).await)
    }
}
