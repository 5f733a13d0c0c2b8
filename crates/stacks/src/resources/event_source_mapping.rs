//! `AWS::Lambda::EventSourceMapping`: a stream or a queue that wakes a function. Its id is the service's.

use async_trait::async_trait;
use http::Method;
use serde_json::{Value as Json, json};

use super::calls::segment;
use super::schema::{Property, Shape};
use super::{Calls, CreateError, Made, Naming, Properties, Provider, ResourceType, gone_is_fine, text};
use crate::template::{LATER, Pseudo};

const DESTINATION: Shape = Shape::Object(&[Property::new("Destination", Shape::Text).required()]);

pub(super) const EVENT_SOURCE_MAPPING: ResourceType = ResourceType {
    name: "AWS::Lambda::EventSourceMapping",
    properties: &[
        Property::new("BatchSize", Shape::Integer),
        Property::new("BisectBatchOnFunctionError", Shape::Boolean),
        Property::new("DestinationConfig", Shape::Object(&[Property::new("OnFailure", DESTINATION)])),
        Property::new("Enabled", Shape::Boolean),
        Property::new("EventSourceArn", Shape::Text).required().replaces(),
        Property::new(
            "FilterCriteria",
            Shape::Object(&[Property::new(
                "Filters",
                Shape::List(&Shape::Object(&[Property::new("Pattern", Shape::Text)])),
            )]),
        ),
        Property::new("FunctionName", Shape::Text).required(),
        Property::new("FunctionResponseTypes", Shape::List(&Shape::Text)),
        Property::new("MaximumBatchingWindowInSeconds", Shape::Integer),
        Property::new("MaximumRecordAgeInSeconds", Shape::Integer),
        Property::new("MaximumRetryAttempts", Shape::Integer),
        Property::new("ParallelizationFactor", Shape::Integer),
        Property::new("ScalingConfig", Shape::Object(&[Property::new("MaximumConcurrency", Shape::Integer)])),
        Property::new("StartingPosition", Shape::Text).replaces(),
        Property::new("TumblingWindowInSeconds", Shape::Integer),
    ],
    attributes: &["EventSourceMappingArn", "Id"],
    late: &[],
    provider: &EventSourceMapping,
};

const MAPPINGS: &str = "/2015-03-31/event-source-mappings";

/// What an update sets, and what it is when a template does not say.
const SETTINGS: &[(&str, &str)] = &[
    ("BatchSize", "100"),
    ("BisectBatchOnFunctionError", "false"),
    ("DestinationConfig", "{\"OnFailure\":{}}"),
    ("Enabled", "true"),
    ("FilterCriteria", "{\"Filters\":[]}"),
    ("FunctionResponseTypes", "[]"),
    ("MaximumBatchingWindowInSeconds", "0"),
    ("MaximumRecordAgeInSeconds", "-1"),
    ("MaximumRetryAttempts", "-1"),
    ("ParallelizationFactor", "1"),
    ("ScalingConfig", "{}"),
    ("TumblingWindowInSeconds", "0"),
];

struct EventSourceMapping;

#[async_trait]
impl Provider for EventSourceMapping {
    fn physical_id(&self, _: &Naming<'_>, _: &Properties) -> String {
        LATER.to_owned()
    }

    fn attribute(&self, pseudo: &Pseudo, id: &str, _: &Properties, attribute: &str) -> Option<String> {
        let Pseudo { region, account_id, .. } = pseudo;
        match attribute {
            "Id" => Some(id.to_owned()),
            "EventSourceMappingArn" => {
                Some(format!("arn:aws:lambda:{region}:{account_id}:event-source-mapping:{id}"))
            }
            _ => None,
        }
    }

    async fn create(
        &self,
        calls: &Calls,
        _: &str,
        properties: &Properties,
        again: bool,
    ) -> Result<Made, CreateError> {
        let made = |mapping: &Json| Made {
            physical_id: mapping["UUID"].as_str().map(str::to_owned),
            ..Made::default()
        };
        let get = |name| text(properties, name).unwrap_or_default();
        if again {
            // There is one at most for a stream and a function.
            let path = format!(
                "{MAPPINGS}?EventSourceArn={}&FunctionName={}",
                segment(get("EventSourceArn")),
                segment(get("FunctionName"))
            );
            let found = calls.lambda(Method::GET, &path, None).await.map_err(CreateError::nothing_made)?;
            let found = &found["EventSourceMappings"][0];
            if found["LastModified"].as_f64().is_some_and(|at| calls.since_begun_at(at)) {
                return Ok(made(found));
            }
        }
        let body = Json::Object(properties.clone());
        let mapping = calls.lambda(Method::POST, MAPPINGS, Some(&body)).await;
        mapping.map(|mapping| made(&mapping)).map_err(CreateError::nothing_made)
    }

    async fn update(
        &self,
        calls: &Calls,
        id: &str,
        old: &Properties,
        new: &Properties,
    ) -> Result<(), aws::Error> {
        let mut body = json!({});
        for (name, default) in SETTINGS {
            if old.get(*name) != new.get(*name) {
                // Queues begin with smaller batches than streams.
                let of_queue = text(new, "EventSourceArn").is_some_and(|arn| arn.starts_with("arn:aws:sqs:"));
                let default = if *name == "BatchSize" && of_queue { "10" } else { *default };
                let default = || serde_json::from_str(default).unwrap_or_default();
                body[*name] = new.get(*name).cloned().unwrap_or_else(default);
            }
        }
        if old.get("FunctionName") != new.get("FunctionName") {
            body["FunctionName"] = new.get("FunctionName").cloned().unwrap_or_default();
        }
        calls.lambda(Method::PUT, &format!("{MAPPINGS}/{}", segment(id)), Some(&body)).await.map(drop)
    }

    async fn delete(&self, calls: &Calls, id: &str, _: &Properties) -> Result<(), aws::Error> {
        if id.contains(LATER) {
            return Ok(());
        }
        gone_is_fine(calls.lambda(Method::DELETE, &format!("{MAPPINGS}/{}", segment(id)), None).await)
    }
}
