//! `AWS::SQS::Queue` and `AWS::SQS::QueuePolicy`. A queue is referred to by its URL, whose host is the node's to say.

use async_trait::async_trait;
use serde_json::{Value as Json, json};

use super::schema::{Property, Shape, TAGS};
use super::{
    Calls, CreateError, Made, Naming, Properties, Provider, ResourceType, found, gone_is_fine, text,
};
use crate::template::{LATER, Pseudo};

pub(super) const QUEUE: ResourceType = ResourceType {
    name: "AWS::SQS::Queue",
    properties: &[
        Property::new("DelaySeconds", Shape::Integer),
        Property::new("MaximumMessageSize", Shape::Integer),
        Property::new("MessageRetentionPeriod", Shape::Integer),
        Property::new("QueueName", Shape::Text).replaces(),
        Property::new("ReceiveMessageWaitTimeSeconds", Shape::Integer),
        Property::new("RedriveAllowPolicy", Shape::Document),
        Property::new("RedrivePolicy", Shape::Document),
        Property::new("Tags", TAGS),
        Property::new("VisibilityTimeout", Shape::Integer),
    ],
    attributes: &["Arn", "QueueName", "QueueUrl"],
    late: &[],
    provider: &Queue,
};

pub(super) const QUEUE_POLICY: ResourceType = ResourceType {
    name: "AWS::SQS::QueuePolicy",
    properties: &[
        Property::new("PolicyDocument", Shape::Document).required(),
        Property::new("Queues", Shape::List(&Shape::Text)).required(),
    ],
    attributes: &["Id"],
    late: &[],
    provider: &QueuePolicy,
};

/// What is set of a queue, and what it is when a template does not say.
const ATTRIBUTES: &[(&str, &str)] = &[
    ("DelaySeconds", "0"),
    ("MaximumMessageSize", "1048576"),
    ("MessageRetentionPeriod", "345600"),
    ("ReceiveMessageWaitTimeSeconds", "0"),
    ("RedriveAllowPolicy", ""),
    ("RedrivePolicy", ""),
    ("VisibilityTimeout", "30"),
];

async fn sqs(calls: &Calls, operation: &str, input: Json) -> Result<Json, aws::Error> {
    calls.json("sqs", &format!("AmazonSQS.{operation}"), &input).await
}

/// The name in a queue's URL.
fn name_of(id: &str) -> &str {
    id.rsplit('/').next().unwrap_or(id)
}

/// An attribute as the service takes it: all are text there.
fn attribute_text(value: &Json) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn tags(properties: &Properties) -> Properties {
    let tags = properties.get("Tags").and_then(Json::as_array).into_iter().flatten();
    tags.filter_map(|tag| Some((tag["Key"].as_str()?.to_owned(), tag["Value"].clone()))).collect()
}

struct Queue;

#[async_trait]
impl Provider for Queue {
    fn physical_id(&self, naming: &Naming<'_>, properties: &Properties) -> String {
        let name = text(properties, "QueueName").map_or_else(|| naming.generate(80), str::to_owned);
        format!("{LATER}/{}/{name}", naming.pseudo.account_id)
    }

    fn attribute(&self, pseudo: &Pseudo, id: &str, _: &Properties, attribute: &str) -> Option<String> {
        let Pseudo { region, account_id, .. } = pseudo;
        match attribute {
            "Arn" => Some(format!("arn:aws:sqs:{region}:{account_id}:{}", name_of(id))),
            "QueueName" => Some(name_of(id).to_owned()),
            "QueueUrl" => Some(id.to_owned()),
            _ => None,
        }
    }

    async fn exists(&self, calls: &Calls, id: &str, _: &Properties) -> Result<bool, aws::Error> {
        found(sqs(calls, "GetQueueUrl", json!({"QueueName": name_of(id)})).await)
    }

    async fn create(
        &self,
        calls: &Calls,
        id: &str,
        properties: &Properties,
        _again: bool,
    ) -> Result<Made, CreateError> {
        let given = ATTRIBUTES.iter().filter_map(|(name, _)| Some((*name, properties.get(*name)?)));
        let attributes: Properties =
            given.map(|(name, value)| (name.to_owned(), attribute_text(value).into())).collect();
        // The same queue made again is the same queue.
        let input = json!({"QueueName": name_of(id), "Attributes": attributes, "tags": tags(properties)});
        let made = sqs(calls, "CreateQueue", input).await.map_err(CreateError::nothing_made)?;
        let physical_id = made["QueueUrl"].as_str().map(str::to_owned);
        Ok(Made { physical_id, ..Made::default() })
    }

    async fn update(
        &self,
        calls: &Calls,
        id: &str,
        old: &Properties,
        new: &Properties,
    ) -> Result<(), aws::Error> {
        let changed = ATTRIBUTES.iter().filter(|(name, _)| old.get(*name) != new.get(*name));
        let attributes: Properties = changed
            .map(|(name, usual)| {
                let value = new.get(*name).map_or_else(|| (*usual).to_owned(), attribute_text);
                ((*name).to_owned(), value.into())
            })
            .collect();
        if !attributes.is_empty() {
            sqs(calls, "SetQueueAttributes", json!({"QueueUrl": id, "Attributes": attributes})).await?;
        }
        let (before, after) = (tags(old), tags(new));
        if before != after {
            let gone: Vec<_> = before.keys().filter(|key| !after.contains_key(*key)).collect();
            if !gone.is_empty() {
                sqs(calls, "UntagQueue", json!({"QueueUrl": id, "TagKeys": gone})).await?;
            }
            sqs(calls, "TagQueue", json!({"QueueUrl": id, "Tags": after})).await?;
        }
        Ok(())
    }

    async fn delete(&self, calls: &Calls, id: &str, _: &Properties) -> Result<(), aws::Error> {
        if id.contains(LATER) {
            return Ok(());
        }
        gone_is_fine(sqs(calls, "DeleteQueue", json!({"QueueUrl": id})).await)
    }
}

struct QueuePolicy;

fn queues(properties: &Properties) -> Vec<&str> {
    let queues = properties.get("Queues").and_then(Json::as_array);
    queues.into_iter().flatten().filter_map(Json::as_str).collect()
}

async fn set_policy(calls: &Calls, queue: &str, policy: String) -> Result<(), aws::Error> {
    let input = json!({"QueueUrl": queue, "Attributes": {"Policy": policy}});
    sqs(calls, "SetQueueAttributes", input).await.map(drop)
}

fn document(properties: &Properties) -> String {
    properties.get("PolicyDocument").map(ToString::to_string).unwrap_or_default()
}

#[async_trait]
impl Provider for QueuePolicy {
    fn physical_id(&self, naming: &Naming<'_>, _: &Properties) -> String {
        naming.generate(80)
    }

    fn attribute(&self, _: &Pseudo, id: &str, _: &Properties, attribute: &str) -> Option<String> {
        (attribute == "Id").then(|| id.to_owned())
    }

    async fn create(
        &self,
        calls: &Calls,
        _id: &str,
        properties: &Properties,
        _again: bool,
    ) -> Result<Made, CreateError> {
        for queue in queues(properties) {
            set_policy(calls, queue, document(properties)).await.map_err(CreateError::half_made)?;
        }
        Ok(Made::default())
    }

    async fn update(
        &self,
        calls: &Calls,
        _id: &str,
        old: &Properties,
        new: &Properties,
    ) -> Result<(), aws::Error> {
        for queue in queues(old).into_iter().filter(|queue| !queues(new).contains(queue)) {
            gone_is_fine(set_policy(calls, queue, String::new()).await)?;
        }
        for queue in queues(new) {
            set_policy(calls, queue, document(new)).await?;
        }
        Ok(())
    }

    async fn delete(&self, calls: &Calls, _id: &str, properties: &Properties) -> Result<(), aws::Error> {
        for queue in queues(properties) {
            gone_is_fine(set_policy(calls, queue, String::new()).await)?;
        }
        Ok(())
    }
}
