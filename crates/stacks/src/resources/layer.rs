//! `AWS::Lambda::LayerVersion`: files that functions share. Its number is known when it has been published.

use async_trait::async_trait;
use http::Method;
use serde_json::{Value as Json, json};

use super::calls::segment;
use super::schema::{Property, Shape};
use super::{Calls, CreateError, Made, Naming, Properties, Provider, ResourceType, gone_is_fine, text};
use crate::template::{LATER, Pseudo};

pub(super) const LAYER_VERSION: ResourceType = ResourceType {
    name: "AWS::Lambda::LayerVersion",
    properties: &[
        Property::new("CompatibleArchitectures", Shape::List(&Shape::Text)).replaces(),
        Property::new("CompatibleRuntimes", Shape::List(&Shape::Text)).replaces(),
        Property::new(
            "Content",
            Shape::Object(&[
                Property::new("S3Bucket", Shape::Text).required(),
                Property::new("S3Key", Shape::Text).required(),
                Property::new("S3ObjectVersion", Shape::Text),
            ]),
        )
        .required()
        .replaces(),
        Property::new("Description", Shape::Text).replaces(),
        Property::new("LayerName", Shape::Text).replaces(),
        Property::new("LicenseInfo", Shape::Text).replaces(),
    ],
    attributes: &["LayerVersionArn"],
    late: &[],
    provider: &LayerVersion,
};

struct LayerVersion;

/// The layer's name in the ARN of a version, whose number may not be known yet.
fn layer_of(id: &str) -> &str {
    id.split(':').nth(6).unwrap_or_default()
}

#[async_trait]
impl Provider for LayerVersion {
    fn physical_id(&self, naming: &Naming<'_>, properties: &Properties) -> String {
        let Pseudo { region, account_id, .. } = naming.pseudo;
        let name = text(properties, "LayerName").map_or_else(|| naming.generate(140), str::to_owned);
        format!("arn:aws:lambda:{region}:{account_id}:layer:{name}:{LATER}")
    }

    fn attribute(&self, _: &Pseudo, id: &str, _: &Properties, attribute: &str) -> Option<String> {
        (attribute == "LayerVersionArn").then(|| id.to_owned())
    }

    async fn create(
        &self,
        calls: &Calls,
        id: &str,
        properties: &Properties,
        again: bool,
    ) -> Result<Made, CreateError> {
        let name = text(properties, "LayerName").unwrap_or_else(|| layer_of(id));
        let path = format!("/2018-10-31/layers/{}/versions", segment(name));
        let made = |version: &Json| Made {
            physical_id: version["LayerVersionArn"].as_str().map(str::to_owned),
            ..Made::default()
        };
        if again {
            // Publishing twice makes two versions.
            let newest = calls.lambda(Method::GET, &format!("{path}?MaxItems=1"), None).await;
            let newest = newest.map_err(CreateError::nothing_made)?;
            let newest = &newest["LayerVersions"][0];
            if calls.since_begun(&newest["CreatedDate"]) {
                return Ok(made(newest));
            }
        }
        let mut body = json!({});
        let same = ["CompatibleArchitectures", "CompatibleRuntimes", "Content", "Description", "LicenseInfo"];
        for name in same {
            if let Some(value) = properties.get(name) {
                body[name] = value.clone();
            }
        }
        let version = calls.lambda(Method::POST, &path, Some(&body)).await;
        version.map(|version| made(&version)).map_err(CreateError::nothing_made)
    }

    async fn update(&self, _: &Calls, _: &str, _: &Properties, _: &Properties) -> Result<(), aws::Error> {
        Ok(())
    }

    async fn delete(&self, calls: &Calls, id: &str, _: &Properties) -> Result<(), aws::Error> {
        if id.contains(LATER) {
            return Ok(());
        }
        let (name, number) = (layer_of(id), id.rsplit(':').next().unwrap_or_default());
        let path = format!("/2018-10-31/layers/{}/versions/{}", segment(name), segment(number));
        gone_is_fine(calls.lambda(Method::DELETE, &path, None).await)
    }
}
