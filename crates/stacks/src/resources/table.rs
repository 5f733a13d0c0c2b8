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
        .required()
        // Without indexes, the attributes are those of the key.
        .replaces(),
        Property::new("BillingMode", Shape::Text),
        Property::new("DeletionProtectionEnabled", Shape::Boolean),
        Property::new("KeySchema", KEY_SCHEMA).required().replaces(),
        Property::new("ProvisionedThroughput", THROUGHPUT),
        Property::new("TableName", Shape::Text).replaces(),
        Property::new("Tags", TAGS),
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
    "KeySchema",
    "ProvisionedThroughput",
    "Tags",
];

struct Table;

async fn call(calls: &Calls, operation: &str, body: &Json) -> Result<Json, aws::Error> {
    calls.json("dynamodb", &format!("DynamoDB_20120810.{operation}"), body).await
}

/// Waits until the table is active.
async fn settled(calls: &Calls, id: &str) -> Result<(), aws::Error> {
    while call(calls, "DescribeTable", &json!({"TableName": id})).await?["Table"]["TableStatus"] != "ACTIVE" {
        calls.env.sleep(Duration::from_millis(50)).await;
    }
    Ok(())
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
        settled(calls, id).await.map_err(CreateError::half_made)
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
        if old.get("Tags") != new.get("Tags") {
            put_tags(calls, id, old, new).await?;
        }
        Ok(())
    }

    async fn delete(&self, calls: &Calls, id: &str, _: &Properties) -> Result<(), aws::Error> {
        gone_is_fine(call(calls, "DeleteTable", &json!({"TableName": id})).await)?;
        loop {
            match call(calls, "DescribeTable", &json!({"TableName": id})).await {
                Ok(table) if table["Table"]["TableStatus"] == "DELETING" => {
                    calls.env.sleep(Duration::from_millis(50)).await;
                }
                other => return gone_is_fine(other),
            }
        }
    }
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
