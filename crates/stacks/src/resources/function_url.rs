//! `AWS::Lambda::Url`: a function's own address. Its host name is known when it has been made.

use async_trait::async_trait;
use http::Method;
use indexmap::IndexMap;
use serde_json::{Value as Json, json};

use super::calls::segment;
use super::function::arn_of;
use super::schema::{Property, Shape};
use super::{
    Calls, CreateError, Made, Naming, Properties, Provider, ResourceType, found, gone_is_fine, is_there, text,
};
use crate::template::{LATER, Pseudo};

const TEXTS: Shape = Shape::List(&Shape::Text);

pub(super) const URL: ResourceType = ResourceType {
    name: "AWS::Lambda::Url",
    properties: &[
        Property::new("AuthType", Shape::Text).required(),
        Property::new(
            "Cors",
            Shape::Object(&[
                Property::new("AllowCredentials", Shape::Boolean),
                Property::new("AllowHeaders", TEXTS),
                Property::new("AllowMethods", TEXTS),
                Property::new("AllowOrigins", TEXTS),
                Property::new("ExposeHeaders", TEXTS),
                Property::new("MaxAge", Shape::Integer),
            ]),
        ),
        Property::new("InvokeMode", Shape::Text),
        Property::new("Qualifier", Shape::Text).replaces(),
        Property::new("TargetFunctionArn", Shape::Text).required().replaces(),
    ],
    attributes: &["FunctionArn", "FunctionUrl"],
    late: &[],
    provider: &Url,
};

struct Url;

fn path(properties: &Properties) -> String {
    let function = segment(text(properties, "TargetFunctionArn").unwrap_or_default());
    match text(properties, "Qualifier") {
        Some(qualifier) => format!("/2021-10-31/functions/{function}/url?Qualifier={}", segment(qualifier)),
        None => format!("/2021-10-31/functions/{function}/url"),
    }
}

/// What is set; what a template does not say is as it was at first.
fn body(properties: &Properties) -> Json {
    json!({
        "AuthType": properties.get("AuthType"),
        "Cors": properties.get("Cors").cloned().unwrap_or_else(|| json!({})),
        "InvokeMode": text(properties, "InvokeMode").unwrap_or("BUFFERED"),
    })
}

#[async_trait]
impl Provider for Url {
    fn physical_id(&self, naming: &Naming<'_>, properties: &Properties) -> String {
        let function = text(properties, "TargetFunctionArn").unwrap_or_default();
        arn_of(naming.pseudo, function, text(properties, "Qualifier"))
    }

    fn attribute(&self, _: &Pseudo, id: &str, _: &Properties, attribute: &str) -> Option<String> {
        match attribute {
            "FunctionArn" => Some(id.to_owned()),
            "FunctionUrl" => Some(LATER.to_owned()),
            _ => None,
        }
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
        let path = path(properties);
        let url = match calls.lambda(Method::POST, &path, Some(&body(properties))).await {
            Err(error) if again && is_there(&error) => calls.lambda(Method::GET, &path, None).await,
            other => other,
        };
        let url = url.map_err(CreateError::nothing_made)?;
        let address = url["FunctionUrl"].as_str().unwrap_or_default().to_owned();
        let attributes = IndexMap::from([("FunctionUrl".to_owned(), address)]);
        Ok(Made { attributes, ..Made::default() })
    }

    async fn update(
        &self,
        calls: &Calls,
        _: &str,
        _: &Properties,
        new: &Properties,
    ) -> Result<(), aws::Error> {
        calls.lambda(Method::PUT, &path(new), Some(&body(new))).await.map(drop)
    }

    async fn delete(&self, calls: &Calls, _: &str, properties: &Properties) -> Result<(), aws::Error> {
        gone_is_fine(calls.lambda(Method::DELETE, &path(properties), None).await)
    }
}
