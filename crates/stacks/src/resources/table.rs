//! `AWS::DynamoDB::Table`.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value as Json, json};

use super::schema::{Property, Shape, TAGS};
use super::{
    Calls, CreateError, Naming, Properties, Provider, ResourceType, found, gone_is_fine, is_there, text,
};
use crate::template::Pseudo;

const KEY_SCHEMA: Shape = Shape::List(&Shape::Object(&[
    Property::new("AttributeName", Shape::Text).required(),
    Property::new("KeyType", Shape::Text).required(),
]));

const PROJECTION: Shape = Shape::Object(&[
    Property::new("NonKeyAttributes", Shape::List(&Shape::Text)),
    Property::new("ProjectionType", Shape::Text),
]);

const THROUGHPUT: Shape = Shape::Object(&[
    Property::new("ReadCapacityUnits", Shape::Integer).required(),
    Property::new("WriteCapacityUnits", Shape::Integer).required(),
]);

pub(super) const TABLE: ResourceType = ResourceType {
    name: "AWS::DynamoDB::Table",
    properties: &[
        Property::new(
            "AttributeDefinitions",
            Shape::List(&Shape::Object(&[
                Property::new("AttributeName", Shape::Text).required(),
                Property::new("AttributeType", Shape::Text).required(),
            ])),
        )
        .required(),
        Property::new("BillingMode", Shape::Text),
        Property::new("DeletionProtectionEnabled", Shape::Boolean),
        Property::new(
            "GlobalSecondaryIndexes",
            Shape::List(&Shape::Object(&[
                Property::new("IndexName", Shape::Text).required(),
                Property::new("KeySchema", KEY_SCHEMA).required(),
                Property::new("Projection", PROJECTION).required(),
                Property::new("ProvisionedThroughput", THROUGHPUT),
            ])),
        ),
        Property::new("KeySchema", KEY_SCHEMA).required().replaces(),
        Property::new(
            "LocalSecondaryIndexes",
            Shape::List(&Shape::Object(&[
                Property::new("IndexName", Shape::Text).required(),
                Property::new("KeySchema", KEY_SCHEMA).required(),
                Property::new("Projection", PROJECTION).required(),
            ])),
        )
        .replaces(),
        Property::new("ProvisionedThroughput", THROUGHPUT),
        Property::new("TableName", Shape::Text).replaces(),
        Property::new("Tags", TAGS),
        Property::new(
            "TimeToLiveSpecification",
            Shape::Object(&[
                Property::new("AttributeName", Shape::Text),
                Property::new("Enabled", Shape::Boolean).required(),
            ]),
        ),
    ],
    attributes: &["Arn"],
    late: &[],
    provider: &Table,
};

/// What `CreateTable` takes as it is.
const CREATE: &[&str] = &[
    "AttributeDefinitions",
    "BillingMode",
    "DeletionProtectionEnabled",
    "GlobalSecondaryIndexes",
    "KeySchema",
    "LocalSecondaryIndexes",
    "ProvisionedThroughput",
    "Tags",
];

struct Table;

async fn call(calls: &Calls, operation: &str, body: &Json) -> Result<Json, aws::Error> {
    calls.json("dynamodb", &format!("DynamoDB_20120810.{operation}"), body).await
}

/// Waits until the table is active; true if it is gone.
async fn settled(calls: &Calls, id: &str) -> Result<bool, aws::Error> {
    loop {
        match call(calls, "DescribeTable", &json!({"TableName": id})).await {
            Ok(description) if description["Table"]["TableStatus"] == "ACTIVE" => return Ok(false),
            Ok(_) => calls.env.sleep(Duration::from_millis(50)).await,
            Err(error) if super::is_gone(&error) => return Ok(true),
            Err(error) => return Err(error),
        }
    }
}

async fn put_time_to_live(calls: &Calls, id: &str, specification: &Json) -> Result<(), aws::Error> {
    let body = json!({"TableName": id, "TimeToLiveSpecification": specification});
    call(calls, "UpdateTimeToLive", &body).await.map(drop)
}

#[async_trait]
impl Provider for Table {
    fn physical_id(&self, naming: &Naming<'_>, properties: &Properties) -> String {
        text(properties, "TableName").map_or_else(|| naming.generate(255), str::to_owned)
    }

    fn attribute(&self, pseudo: &Pseudo, id: &str, _: &Properties, attribute: &str) -> Option<String> {
        let Pseudo { region, account_id, .. } = pseudo;
        (attribute == "Arn").then(|| format!("arn:aws:dynamodb:{region}:{account_id}:table/{id}"))
    }

    async fn exists(&self, calls: &Calls, id: &str, _: &Properties) -> Result<bool, aws::Error> {
        found(call(calls, "DescribeTable", &json!({"TableName": id})).await)
    }

    async fn create(
        &self,
        calls: &Calls,
        id: &str,
        properties: &Properties,
        again: bool,
    ) -> Result<(), CreateError> {
        let mut body = json!({"TableName": id});
        for name in CREATE {
            if let Some(value) = properties.get(*name) {
                body[*name] = value.clone();
            }
        }
        match call(calls, "CreateTable", &body).await {
            Err(error) if again && is_there(&error) => {}
            Err(error) => return Err(CreateError::nothing_made(error)),
            Ok(_) => {}
        }
        let rest = async {
            settled(calls, id).await?;
            match properties.get("TimeToLiveSpecification") {
                Some(specification) => put_time_to_live(calls, id, specification).await,
                None => Ok(()),
            }
        };
        rest.await.map_err(CreateError::half_made)
    }

    async fn update(
        &self,
        calls: &Calls,
        id: &str,
        old: &Properties,
        new: &Properties,
    ) -> Result<(), aws::Error> {
        let mut body = json!({"TableName": id});
        let provisioned = || Json::from("PROVISIONED");
        if old.get("BillingMode") != new.get("BillingMode") {
            body["BillingMode"] = new.get("BillingMode").cloned().unwrap_or_else(provisioned);
        }
        let throughput =
            new.get("ProvisionedThroughput").filter(|t| old.get("ProvisionedThroughput") != Some(t));
        if let Some(throughput) = throughput {
            body["ProvisionedThroughput"] = throughput.clone();
        }
        if old.get("DeletionProtectionEnabled") != new.get("DeletionProtectionEnabled") {
            let on = new.get("DeletionProtectionEnabled").cloned().unwrap_or(Json::Bool(false));
            body["DeletionProtectionEnabled"] = on;
        }
        if body.as_object().is_some_and(|members| members.len() > 1) {
            call(calls, "UpdateTable", &body).await?;
            settled(calls, id).await?;
        }
        put_indexes(calls, id, old, new).await?;
        let (was, is) = (old.get("TimeToLiveSpecification"), new.get("TimeToLiveSpecification"));
        if was != is {
            let mut specification = is.or(was).cloned().unwrap_or_default();
            if is.is_none() {
                specification["Enabled"] = Json::Bool(false);
            }
            put_time_to_live(calls, id, &specification).await?;
        }
        if old.get("Tags") != new.get("Tags") {
            put_tags(calls, id, old, new).await?;
        }
        Ok(())
    }

    async fn delete(&self, calls: &Calls, id: &str, _: &Properties) -> Result<(), aws::Error> {
        gone_is_fine(call(calls, "DeleteTable", &json!({"TableName": id})).await)?;
        while !settled(calls, id).await? {
            calls.env.sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }
}

/// Global indexes go and come one at a time, as DynamoDB wants it; one that changed goes and comes.
async fn put_indexes(calls: &Calls, id: &str, old: &Properties, new: &Properties) -> Result<(), aws::Error> {
    let list = |p: &Properties| {
        p.get("GlobalSecondaryIndexes").and_then(Json::as_array).cloned().unwrap_or_default()
    };
    let (was, is) = (list(old), list(new));
    let gone = was.iter().filter(|index| !is.contains(index));
    let come = is.iter().filter(|index| !was.contains(index));
    let changes = gone
        .map(|index| json!({"Delete": {"IndexName": index["IndexName"]}}))
        .chain(come.map(|index| json!({"Create": index})));
    for change in changes {
        let body = json!({
            "TableName": id,
            "AttributeDefinitions": new.get("AttributeDefinitions"),
            "GlobalSecondaryIndexUpdates": [change],
        });
        call(calls, "UpdateTable", &body).await?;
        settled(calls, id).await?;
    }
    Ok(())
}

async fn put_tags(calls: &Calls, id: &str, old: &Properties, new: &Properties) -> Result<(), aws::Error> {
    let Pseudo { region, account_id, .. } = &calls.pseudo;
    let arn = format!("arn:aws:dynamodb:{region}:{account_id}:table/{id}");
    let list = |p: &Properties| p.get("Tags").and_then(Json::as_array).cloned().unwrap_or_default();
    let (was, is) = (list(old), list(new));
    let gone: Vec<_> =
        was.iter().map(|t| &t["Key"]).filter(|key| !is.iter().any(|t| t["Key"] == **key)).collect();
    if !gone.is_empty() {
        call(calls, "UntagResource", &json!({"ResourceArn": arn, "TagKeys": gone})).await?;
    }
    if !is.is_empty() {
        call(calls, "TagResource", &json!({"ResourceArn": arn, "Tags": is})).await?;
    }
    Ok(())
}
