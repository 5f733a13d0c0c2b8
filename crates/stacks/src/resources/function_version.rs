//! `AWS::Lambda::Version`: a function as it is now, for ever. Its number is known when it has been published.

use async_trait::async_trait;
use http::Method;
use serde_json::{Value as Json, json};
use types::ErrorKind;

use super::calls::segment;
use super::function::{arn_of, path_of};
use super::provisioned::{self, PROVISIONED};
use super::schema::{Property, Shape};
use super::{Calls, CreateError, Made, Naming, Properties, Provider, ResourceType, gone_is_fine, text};
use crate::template::{LATER, Pseudo};

pub(super) const VERSION: ResourceType = ResourceType {
    name: "AWS::Lambda::Version",
    properties: &[
        Property::new("CodeSha256", Shape::Text).replaces(),
        Property::new("Description", Shape::Text).replaces(),
        Property::new("FunctionName", Shape::Text).required().replaces(),
        Property::new("ProvisionedConcurrencyConfig", PROVISIONED).replaces(),
    ],
    attributes: &["FunctionArn", "Version"],
    late: &[],
    provider: &Version,
};

struct Version;

fn number(id: &str) -> &str {
    id.rsplit(':').next().unwrap_or_default()
}

#[async_trait]
impl Provider for Version {
    fn physical_id(&self, naming: &Naming<'_>, properties: &Properties) -> String {
        let function = text(properties, "FunctionName").unwrap_or_default();
        arn_of(naming.pseudo, function, Some(LATER))
    }

    fn attribute(&self, _: &Pseudo, id: &str, _: &Properties, attribute: &str) -> Option<String> {
        match attribute {
            "FunctionArn" => Some(id.to_owned()),
            "Version" => Some(number(id).to_owned()),
            _ => None,
        }
    }

    async fn create(
        &self,
        calls: &Calls,
        _: &str,
        properties: &Properties,
        _: bool,
    ) -> Result<Made, CreateError> {
        let function = text(properties, "FunctionName").unwrap_or_default();
        let mut body = json!({});
        for name in ["CodeSha256", "Description"] {
            if let Some(value) = properties.get(name) {
                body[name] = value.clone();
            }
        }
        // Of a function that has not changed since, the last version is answered: after a crash, the one that was
        // published before it.
        let path = format!("{}/versions", path_of(function));
        let version = calls.lambda(Method::POST, &path, Some(&body)).await;
        let version = version.map_err(CreateError::nothing_made)?;
        let number = version["Version"].as_str().unwrap_or_default();
        if !calls.since_begun(&version["LastModified"]) {
            let message = format!(
                "A version for this Lambda function exists ( {number} ). Modify the function to create a new version."
            );
            return Err(CreateError::nothing_made(aws::Error::new(
                ErrorKind::Conflict,
                "AlreadyExists",
                message,
            )));
        }
        let made =
            || Made { physical_id: Some(arn_of(&calls.pseudo, function, Some(number))), ..Made::default() };
        if let Some(config) = properties.get("ProvisionedConcurrencyConfig") {
            let put = provisioned::put(calls, function, number, config).await;
            put.map_err(|error| CreateError { error, made: Some(made()) })?;
        }
        Ok(made())
    }

    async fn update(&self, _: &Calls, _: &str, _: &Properties, _: &Properties) -> Result<(), aws::Error> {
        Ok(())
    }

    async fn delete(&self, calls: &Calls, id: &str, properties: &Properties) -> Result<(), aws::Error> {
        if id.contains(LATER) {
            return Ok(());
        }
        let function = text(properties, "FunctionName").unwrap_or_default();
        let path = format!("{}?Qualifier={}", path_of(function), segment(number(id)));
        gone_is_fine(calls.lambda(Method::DELETE, &path, None::<&Json>).await)
    }
}
