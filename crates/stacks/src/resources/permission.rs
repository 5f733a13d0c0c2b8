//! `AWS::Lambda::Permission`: one statement of a function's resource policy.

use async_trait::async_trait;
use http::Method;
use serde_json::{Value as Json, json};

use super::calls::segment;
use super::schema::{Property, Shape};
use super::{
    Calls, CreateError, Made, Naming, Properties, Provider, ResourceType, gone_is_fine, is_there, text,
};

pub(super) const PERMISSION: ResourceType = ResourceType {
    name: "AWS::Lambda::Permission",
    properties: &[
        Property::new("Action", Shape::Text).required().replaces(),
        Property::new("FunctionName", Shape::Text).required().replaces(),
        Property::new("FunctionUrlAuthType", Shape::Text).replaces(),
        Property::new("InvokedViaFunctionUrl", Shape::Boolean).replaces(),
        Property::new("Principal", Shape::Text).required().replaces(),
        Property::new("SourceAccount", Shape::Text).replaces(),
        Property::new("SourceArn", Shape::Text).replaces(),
    ],
    attributes: &[],
    late: &[],
    provider: &Permission,
};

struct Permission;

fn path(properties: &Properties) -> String {
    format!("/2015-03-31/functions/{}/policy", segment(text(properties, "FunctionName").unwrap_or_default()))
}

#[async_trait]
impl Provider for Permission {
    fn physical_id(&self, naming: &Naming<'_>, _: &Properties) -> String {
        naming.generate(100)
    }

    async fn create(
        &self,
        calls: &Calls,
        id: &str,
        properties: &Properties,
        again: bool,
    ) -> Result<Made, CreateError> {
        let mut body = json!({"StatementId": id});
        let same = [
            "Action",
            "FunctionUrlAuthType",
            "InvokedViaFunctionUrl",
            "Principal",
            "SourceAccount",
            "SourceArn",
        ];
        for name in same {
            if let Some(value) = properties.get(name) {
                body[name] = value.clone();
            }
        }
        match calls.lambda(Method::POST, &path(properties), Some(&body)).await {
            Err(error) if again && is_there(&error) => Ok(Made::default()),
            Err(error) => Err(CreateError::nothing_made(error)),
            Ok(_) => Ok(Made::default()),
        }
    }

    async fn update(&self, _: &Calls, _: &str, _: &Properties, _: &Properties) -> Result<(), aws::Error> {
        Ok(())
    }

    async fn delete(&self, calls: &Calls, id: &str, properties: &Properties) -> Result<(), aws::Error> {
        let path = format!("{}/{}", path(properties), segment(id));
        gone_is_fine(calls.lambda(Method::DELETE, &path, None::<&Json>).await)
    }
}
