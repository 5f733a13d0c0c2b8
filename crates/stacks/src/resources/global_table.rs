//! `AWS::DynamoDB::GlobalTable` with one replica, in the region of the node: a table like any other.
//!
//! What belongs to a replica in a template belongs to the table here; the rest is the table's own.

use async_trait::async_trait;
use indexmap::IndexMap;
use serde_json::{Value as Json, json};

use super::schema::{Property, Shape, TAGS};
use super::table::{
    DEFINITIONS, ENCRYPTION, EXPIRY, INSIGHTS, KEY_SCHEMA, LOCAL_INDEXES, POLICY, PROJECTION, RECOVERY,
    Table, invalid, unsupported,
};
use super::{Calls, CreateError, Made, Naming, Properties, Provider, ResourceType};
use crate::template::Pseudo;

pub(super) const GLOBAL_TABLE: ResourceType = ResourceType {
    name: "AWS::DynamoDB::GlobalTable",
    properties: &[
        Property::new("AttributeDefinitions", DEFINITIONS).required(),
        Property::new("BillingMode", Shape::Text),
        Property::new(
            "GlobalSecondaryIndexes",
            Shape::List(&Shape::Object(&[
                Property::new("IndexName", Shape::Text).required(),
                Property::new("KeySchema", KEY_SCHEMA).required(),
                Property::new("Projection", PROJECTION).required(),
            ])),
        ),
        Property::new("KeySchema", KEY_SCHEMA).required().replaces(),
        Property::new("LocalSecondaryIndexes", LOCAL_INDEXES).replaces(),
        Property::new(
            "Replicas",
            Shape::List(&Shape::Object(&[
                Property::new("ContributorInsightsSpecification", INSIGHTS),
                Property::new("DeletionProtectionEnabled", Shape::Boolean),
                Property::new("PointInTimeRecoverySpecification", RECOVERY),
                Property::new("Region", Shape::Text).required(),
                Property::new("ResourcePolicy", POLICY),
                Property::new("TableClass", Shape::Text),
                Property::new("Tags", TAGS),
            ])),
        )
        .required(),
        Property::new("SSESpecification", ENCRYPTION),
        Property::new(
            "StreamSpecification",
            Shape::Object(&[Property::new("StreamViewType", Shape::Text).required()]),
        ),
        Property::new("TableName", Shape::Text).replaces(),
        Property::new("TimeToLiveSpecification", EXPIRY),
    ],
    attributes: &["Arn", "StreamArn"],
    late: &[],
    provider: &GlobalTable,
};

struct GlobalTable;

/// What the table itself is called in a template of its own.
fn as_table(properties: &Properties) -> Properties {
    let mut table = properties.clone();
    let replica = table.remove("Replicas").and_then(|mut replicas| replicas.get_mut(0).map(Json::take));
    if let Some(Json::Object(mut replica)) = replica {
        replica.remove("Region");
        table.extend(replica);
    }
    table
}

/// There must be one replica, here.
fn check(properties: &Properties, region: &str) -> Result<(), aws::Error> {
    let replicas = properties.get("Replicas").and_then(Json::as_array).map(Vec::as_slice).unwrap_or_default();
    match replicas {
        [replica] if replica["Region"] == json!(region) => {}
        _ => {
            return Err(invalid(format!(
                "A global table has one replica here, in the region of this node, {region}"
            )));
        }
    }
    match properties.get("BillingMode").and_then(Json::as_str) {
        Some("PAY_PER_REQUEST") => Ok(()),
        _ => Err(invalid(
            "BillingMode PROVISIONED of a global table, which is the default, needs auto scaling, which is not supported: use PAY_PER_REQUEST"
                .to_owned(),
        )),
    }
}

#[async_trait]
impl Provider for GlobalTable {
    fn check(&self, properties: &Properties) -> Option<String> {
        unsupported(&as_table(properties))
    }

    fn replaces(&self, property: &str, old: &Properties, new: &Properties) -> Option<bool> {
        Table.replaces(property, old, new)
    }

    fn check_update(&self, old: &Properties, new: &Properties) -> Result<(), aws::Error> {
        Table.check_update(old, new)
    }

    fn physical_id(&self, naming: &Naming<'_>, properties: &Properties) -> String {
        Table.physical_id(naming, properties)
    }

    fn attribute(
        &self,
        pseudo: &Pseudo,
        id: &str,
        properties: &Properties,
        attribute: &str,
    ) -> Option<String> {
        Table.attribute(pseudo, id, properties, attribute)
    }

    async fn exists(&self, calls: &Calls, id: &str, properties: &Properties) -> Result<bool, aws::Error> {
        check(properties, &calls.pseudo.region)?;
        Table.exists(calls, id, properties).await
    }

    async fn create(
        &self,
        calls: &Calls,
        id: &str,
        properties: &Properties,
        again: bool,
    ) -> Result<Made, CreateError> {
        check(properties, &calls.pseudo.region).map_err(CreateError::nothing_made)?;
        Table.create(calls, id, &as_table(properties), again).await
    }

    async fn update(
        &self,
        calls: &Calls,
        id: &str,
        old: &Properties,
        new: &Properties,
    ) -> Result<(), aws::Error> {
        check(new, &calls.pseudo.region)?;
        Table.update(calls, id, &as_table(old), &as_table(new)).await
    }

    fn inherit(
        &self,
        pseudo: &Pseudo,
        id: &str,
        old: &Properties,
        new: &Properties,
        attributes: &mut IndexMap<String, String>,
    ) {
        Table.inherit(pseudo, id, old, new, attributes);
    }

    async fn decided(
        &self,
        calls: &Calls,
        id: &str,
        old: &Properties,
        new: &Properties,
    ) -> Result<Made, aws::Error> {
        Table.decided(calls, id, old, new).await
    }

    async fn delete(&self, calls: &Calls, id: &str, properties: &Properties) -> Result<(), aws::Error> {
        Table.delete(calls, id, properties).await
    }
}
