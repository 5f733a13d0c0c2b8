//! `AWS::Lambda::EventInvokeConfig`: retries and destinations of asynchronous invocations.

use async_trait::async_trait;
use http::Method;
use serde_json::Value as Json;

use super::calls::segment;
use super::schema::{Property, Shape};
use super::{Calls, CreateError, Made, Naming, Properties, Provider, ResourceType, gone_is_fine, text};

const DESTINATION: Shape = Shape::Object(&[Property::new("Destination", Shape::Text).required()]);

pub(super) const EVENT_INVOKE_CONFIG: ResourceType = ResourceType {
    name: "AWS::Lambda::EventInvokeConfig",
    properties: &[
        Property::new(
            "DestinationConfig",
            Shape::Object(&[
                Property::new("OnFailure", DESTINATION),
                Property::new("OnSuccess", DESTINATION),
            ]),
        ),
        Property::new("FunctionName", Shape::Text).required().replaces(),
        Property::new("MaximumEventAgeInSeconds", Shape::Integer),
        Property::new("MaximumRetryAttempts", Shape::Integer),
        Property::new("Qualifier", Shape::Text).required().replaces(),
    ],
    attributes: &[],
    late: &[],
    provider: &EventInvokeConfig,
};

struct EventInvokeConfig;

fn path(properties: &Properties) -> String {
    let get = |name| segment(text(properties, name).unwrap_or_default());
    let function = get("FunctionName");
    format!("/2019-09-25/functions/{function}/event-invoke-config?Qualifier={}", get("Qualifier"))
}

async fn put(calls: &Calls, properties: &Properties) -> Result<(), aws::Error> {
    let names = ["DestinationConfig", "MaximumEventAgeInSeconds", "MaximumRetryAttempts"];
    let body = names.iter().filter_map(|n| Some(((*n).to_owned(), properties.get(*n)?.clone()))).collect();
    calls.lambda(Method::PUT, &path(properties), Some(&Json::Object(body))).await.map(drop)
}

#[async_trait]
impl Provider for EventInvokeConfig {
    fn physical_id(&self, _: &Naming<'_>, properties: &Properties) -> String {
        let get = |name| text(properties, name).unwrap_or_default();
        format!("{}|{}", get("FunctionName"), get("Qualifier"))
    }

    async fn create(
        &self,
        calls: &Calls,
        _: &str,
        properties: &Properties,
        _: bool,
    ) -> Result<Made, CreateError> {
        put(calls, properties).await.map(|()| Made::default()).map_err(CreateError::nothing_made)
    }

    async fn update(
        &self,
        calls: &Calls,
        _: &str,
        _: &Properties,
        new: &Properties,
    ) -> Result<(), aws::Error> {
        put(calls, new).await
    }

    async fn delete(&self, calls: &Calls, _: &str, properties: &Properties) -> Result<(), aws::Error> {
        gone_is_fine(calls.lambda(Method::DELETE, &path(properties), None).await)
    }
}
