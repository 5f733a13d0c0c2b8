//! `AWS::Lambda::Alias`: a name that leads to a version, or to two by weight.

use async_trait::async_trait;
use http::Method;
use serde_json::{Map, Value as Json, json};

use super::calls::segment;
use super::function::{arn_of, path_of};
use super::provisioned::{self, PROVISIONED};
use super::schema::{Property, Shape};
use super::{
    Calls, CreateError, Made, Naming, Properties, Provider, ResourceType, found, gone_is_fine, is_there, text,
};
use crate::template::Pseudo;

pub(super) const ALIAS: ResourceType = ResourceType {
    name: "AWS::Lambda::Alias",
    properties: &[
        Property::new("Description", Shape::Text),
        Property::new("FunctionName", Shape::Text).required().replaces(),
        Property::new("FunctionVersion", Shape::Text).required(),
        Property::new("Name", Shape::Text).required().replaces(),
        Property::new("ProvisionedConcurrencyConfig", PROVISIONED),
        Property::new(
            "RoutingConfig",
            Shape::Object(&[Property::new(
                "AdditionalVersionWeights",
                Shape::List(&Shape::Object(&[
                    Property::new("FunctionVersion", Shape::Text).required(),
                    Property::new("FunctionWeight", Shape::Number).required(),
                ])),
            )]),
        ),
    ],
    attributes: &["AliasArn"],
    late: &[],
    provider: &Alias,
};

struct Alias;

fn names(properties: &Properties) -> (&str, &str) {
    let get = |name| text(properties, name).unwrap_or_default();
    (get("FunctionName"), get("Name"))
}

fn path(properties: &Properties) -> String {
    let (function, name) = names(properties);
    format!("{}/aliases/{}", path_of(function), segment(name))
}

/// What `CreateAlias` and `UpdateAlias` take, the name excepted.
fn body(properties: &Properties) -> Json {
    let weights =
        properties.get("RoutingConfig").and_then(|config| config["AdditionalVersionWeights"].as_array());
    let weight =
        |one: &Json| Some((one["FunctionVersion"].as_str()?.to_owned(), one["FunctionWeight"].clone()));
    let weights: Map<_, _> = weights.into_iter().flatten().filter_map(weight).collect();
    json!({
        "Description": text(properties, "Description").unwrap_or_default(),
        "FunctionVersion": properties.get("FunctionVersion"),
        "RoutingConfig": {"AdditionalVersionWeights": weights},
    })
}

async fn provision(calls: &Calls, old: &Properties, new: &Properties) -> Result<(), aws::Error> {
    let key = "ProvisionedConcurrencyConfig";
    let (function, name) = names(new);
    match new.get(key) {
        same if same == old.get(key) => Ok(()),
        Some(config) => provisioned::put(calls, function, name, config).await,
        None => provisioned::remove(calls, function, name).await,
    }
}

#[async_trait]
impl Provider for Alias {
    fn physical_id(&self, naming: &Naming<'_>, properties: &Properties) -> String {
        let (function, name) = names(properties);
        arn_of(naming.pseudo, function, Some(name))
    }

    fn attribute(&self, _: &Pseudo, id: &str, _: &Properties, attribute: &str) -> Option<String> {
        (attribute == "AliasArn").then(|| id.to_owned())
    }

    async fn exists(&self, calls: &Calls, _: &str, properties: &Properties) -> Result<bool, aws::Error> {
        found(calls.lambda(Method::GET, &path(properties), None).await)
    }

    async fn create(
        &self,
        calls: &Calls,
        _: &str,
        properties: &Properties,
        again: bool,
    ) -> Result<Made, CreateError> {
        let (function, name) = names(properties);
        let mut body = body(properties);
        body["Name"] = json!(name);
        match calls.lambda(Method::POST, &format!("{}/aliases", path_of(function)), Some(&body)).await {
            Err(error) if again && is_there(&error) => {}
            Err(error) => return Err(CreateError::nothing_made(error)),
            Ok(_) => {}
        }
        let provisioned = provision(calls, &Properties::new(), properties).await;
        provisioned.map(|()| Made::default()).map_err(CreateError::half_made)
    }

    async fn update(
        &self,
        calls: &Calls,
        _: &str,
        old: &Properties,
        new: &Properties,
    ) -> Result<(), aws::Error> {
        calls.lambda(Method::PUT, &path(new), Some(&body(new))).await?;
        provision(calls, old, new).await
    }

    async fn delete(&self, calls: &Calls, _: &str, properties: &Properties) -> Result<(), aws::Error> {
        gone_is_fine(calls.lambda(Method::DELETE, &path(properties), None).await)
    }
}
