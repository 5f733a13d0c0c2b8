//! `AWS::DynamoDB::Table`.

use std::time::Duration;

use async_trait::async_trait;
use indexmap::IndexMap;
use serde_json::{Value as Json, json};

use super::schema::{Property, Shape, TAGS};
use super::{
    Calls, CreateError, Made, Naming, Properties, Provider, ResourceType, found, gone_is_fine, is_there,
    table_import, text,
};
use crate::template::{LATER, Pseudo};

pub(super) const KEY_SCHEMA: Shape = Shape::List(&Shape::Object(&[
    Property::new("AttributeName", Shape::Text).required(),
    Property::new("KeyType", Shape::Text).required(),
]));

const THROUGHPUT: Shape = Shape::Object(&[
    Property::new("ReadCapacityUnits", Shape::Integer).required(),
    Property::new("WriteCapacityUnits", Shape::Integer).required(),
]);

pub(super) const PROJECTION: Shape = Shape::Object(&[
    Property::new("NonKeyAttributes", Shape::List(&Shape::Text)),
    Property::new("ProjectionType", Shape::Text),
]);

pub(super) const DEFINITIONS: Shape = Shape::List(&Shape::Object(&[
    Property::new("AttributeName", Shape::Text).required(),
    Property::new("AttributeType", Shape::Text).required(),
]));

pub(super) const LOCAL_INDEXES: Shape = Shape::List(&Shape::Object(&[
    Property::new("IndexName", Shape::Text).required(),
    Property::new("KeySchema", KEY_SCHEMA).required(),
    Property::new("Projection", PROJECTION).required(),
]));

pub(super) const RECOVERY: Shape = Shape::Object(&[
    Property::new("PointInTimeRecoveryEnabled", Shape::Boolean),
    Property::new("RecoveryPeriodInDays", Shape::Integer),
]);

/// Whether a table is encrypted with a key of its account. It is known so that it can be off.
pub(super) const ENCRYPTION: Shape = Shape::Object(&[
    Property::new("SSEEnabled", Shape::Boolean).required(),
    Property::new("SSEType", Shape::Text),
]);

/// Whether there are contributor insights. It is known so that it can be off.
pub(super) const INSIGHTS: Shape =
    Shape::Object(&[Property::new("Enabled", Shape::Boolean).required(), Property::new("Mode", Shape::Text)]);

/// Who may use the table, beside those whose own policies say so.
pub(super) const POLICY: Shape =
    Shape::Object(&[Property::new("PolicyDocument", Shape::Document).required()]);

pub(super) const EXPIRY: Shape = Shape::Object(&[
    Property::new("AttributeName", Shape::Text),
    Property::new("Enabled", Shape::Boolean).required(),
]);

const IMPORT_SOURCE: Shape = Shape::Object(&[
    Property::new("InputCompressionType", Shape::Text),
    Property::new("InputFormat", Shape::Text).required(),
    Property::new(
        "InputFormatOptions",
        Shape::Object(&[Property::new(
            "Csv",
            Shape::Object(&[
                Property::new("Delimiter", Shape::Text),
                Property::new("HeaderList", Shape::List(&Shape::Text)),
            ]),
        )]),
    ),
    Property::new(
        "S3BucketSource",
        Shape::Object(&[
            Property::new("S3Bucket", Shape::Text).required(),
            Property::new("S3BucketOwner", Shape::Text),
            Property::new("S3KeyPrefix", Shape::Text),
        ]),
    )
    .required(),
]);

pub(super) const TABLE: ResourceType = ResourceType {
    name: "AWS::DynamoDB::Table",
    properties: &[
        Property::new("AttributeDefinitions", DEFINITIONS).required(),
        Property::new("BillingMode", Shape::Text),
        Property::new("ContributorInsightsSpecification", INSIGHTS),
        Property::new("DeletionProtectionEnabled", Shape::Boolean),
        Property::new(
            "GlobalSecondaryIndexes",
            Shape::List(&Shape::Object(&[
                Property::new("ContributorInsightsSpecification", INSIGHTS),
                Property::new("IndexName", Shape::Text).required(),
                Property::new("KeySchema", KEY_SCHEMA).required(),
                Property::new("Projection", PROJECTION).required(),
                Property::new("ProvisionedThroughput", THROUGHPUT),
            ])),
        ),
        Property::new("ImportSourceSpecification", IMPORT_SOURCE).replaces(),
        Property::new("KeySchema", KEY_SCHEMA).required().replaces(),
        Property::new("LocalSecondaryIndexes", LOCAL_INDEXES).replaces(),
        Property::new("PointInTimeRecoverySpecification", RECOVERY),
        Property::new("ProvisionedThroughput", THROUGHPUT),
        Property::new("ResourcePolicy", POLICY),
        Property::new("SSESpecification", ENCRYPTION),
        Property::new(
            "StreamSpecification",
            Shape::Object(&[Property::new("StreamViewType", Shape::Text).required()]),
        ),
        Property::new("TableClass", Shape::Text),
        Property::new("TableName", Shape::Text).replaces(),
        Property::new("Tags", TAGS),
        Property::new("TimeToLiveSpecification", EXPIRY),
    ],
    attributes: &["Arn", "StreamArn"],
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
    "TableClass",
    "Tags",
];

pub(super) struct Table;

pub(super) async fn call(calls: &Calls, operation: &str, body: &Json) -> Result<Json, aws::Error> {
    calls.json("dynamodb", &format!("DynamoDB_20120810.{operation}"), body).await
}

/// Waits until the table is active, and its indexes are.
pub(super) async fn settled(calls: &Calls, id: &str) -> Result<(), aws::Error> {
    loop {
        let table = call(calls, "DescribeTable", &json!({"TableName": id})).await?["Table"].take();
        let indexes = list(&table["GlobalSecondaryIndexes"]);
        if table["TableStatus"] == "ACTIVE" && indexes.iter().all(|index| index["IndexStatus"] == "ACTIVE") {
            return Ok(());
        }
        calls.env.sleep(Duration::from_millis(50)).await;
    }
}

fn list(json: &Json) -> &[Json] {
    json.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn of<'p>(properties: &'p Properties, name: &str) -> &'p Json {
    properties.get(name).unwrap_or(&Json::Null)
}

/// The attribute by which items expire, if they do.
fn expiry(properties: &Properties) -> Option<&str> {
    let specification = of(properties, "TimeToLiveSpecification");
    specification["AttributeName"].as_str().filter(|_| specification["Enabled"] == true)
}

/// Recovery to a point in time, as the API takes it.
fn recovery(properties: &Properties) -> Json {
    let specification = of(properties, "PointInTimeRecoverySpecification");
    if specification["PointInTimeRecoveryEnabled"] == true {
        specification.clone()
    } else {
        json!({"PointInTimeRecoveryEnabled": false})
    }
}

/// The policy that hangs on the table, as text.
fn policy(properties: &Properties) -> Option<String> {
    let document = &of(properties, "ResourcePolicy")["PolicyDocument"];
    (!document.is_null()).then(|| document.to_string())
}

async fn set_policy(calls: &Calls, id: &str, policy: Option<String>) -> Result<(), aws::Error> {
    let arn = arn(calls, id);
    match policy {
        Some(policy) => {
            let body = json!({"ResourceArn": arn, "Policy": policy});
            call(calls, "PutResourcePolicy", &body).await.map(drop)
        }
        None => gone_is_fine(call(calls, "DeleteResourcePolicy", &json!({"ResourceArn": arn})).await),
    }
}

fn arn(calls: &Calls, id: &str) -> String {
    format!("arn:aws:dynamodb:{}:{}:table/{id}", calls.pseudo.region, calls.pseudo.account_id)
}

async fn set_recovery(calls: &Calls, id: &str, recovery: &Json) -> Result<(), aws::Error> {
    let body = json!({"TableName": id, "PointInTimeRecoverySpecification": recovery});
    call(calls, "UpdateContinuousBackups", &body).await.map(drop)
}

async fn set_expiry(calls: &Calls, id: &str, attribute: &str, enabled: bool) -> Result<(), aws::Error> {
    let specification = json!({"AttributeName": attribute, "Enabled": enabled});
    let body = json!({"TableName": id, "TimeToLiveSpecification": specification});
    match call(calls, "UpdateTimeToLive", &body).await {
        // A try that was interrupted has done it.
        Err(error) if error.message.contains("TimeToLive is already") => Ok(()),
        other => other.map(drop),
    }
}

/// `StreamSpecification` as the API takes it.
fn stream(properties: &Properties) -> Option<Json> {
    let view = of(properties, "StreamSpecification")["StreamViewType"].as_str()?;
    Some(json!({"StreamEnabled": true, "StreamViewType": view}))
}

pub(super) fn invalid(message: String) -> aws::Error {
    aws::Error::new(types::ErrorKind::Invalid, "ValidationException", message)
}

/// True if an attribute that was defined is now of another type: no table can be changed so.
fn redefines(old: &Properties, new: &Properties) -> bool {
    list(of(old, "AttributeDefinitions")).iter().any(|was| {
        list(of(new, "AttributeDefinitions")).iter().any(|is| {
            is["AttributeName"] == was["AttributeName"] && is["AttributeType"] != was["AttributeType"]
        })
    })
}

/// What an index projects, whatever the order in which it is written.
fn projection(index: &Json) -> (&Json, Vec<&str>) {
    let projection = &index["Projection"];
    let mut attributes: Vec<&str> =
        list(&projection["NonKeyAttributes"]).iter().filter_map(Json::as_str).collect();
    attributes.sort_unstable();
    (&projection["ProjectionType"], attributes)
}

/// True if an index is the same but for its throughput.
fn is_same_index(one: &Json, other: &Json) -> bool {
    one["IndexName"] == other["IndexName"]
        && one["KeySchema"] == other["KeySchema"]
        && projection(one) == projection(other)
}

/// True if two lists have the same indexes, in whatever order.
fn are_same_indexes(some: &[Json], others: &[Json]) -> bool {
    let there = |index: &Json| others.iter().any(|other| is_same_index(index, other));
    some.len() == others.len() && some.iter().all(there)
}

/// An index as the API makes it.
fn as_created(index: &Json) -> Json {
    let mut index = index.clone();
    if let Some(members) = index.as_object_mut() {
        members.shift_remove("ContributorInsightsSpecification");
    }
    index
}

/// How global indexes change: those to delete, to change in throughput, and to create.
struct IndexChanges<'p> {
    deleted: Vec<&'p Json>,
    throughput: Vec<Json>,
    created: Vec<&'p Json>,
}

fn index_changes<'p>(old: &'p Properties, new: &'p Properties) -> IndexChanges<'p> {
    let (was, is) = (list(of(old, "GlobalSecondaryIndexes")), list(of(new, "GlobalSecondaryIndexes")));
    let named = |indexes: &'p [Json], name: &Json| indexes.iter().find(|index| index["IndexName"] == *name);
    let mut changes = IndexChanges { deleted: Vec::new(), throughput: Vec::new(), created: Vec::new() };
    for index in was {
        if named(is, &index["IndexName"]).is_none() {
            changes.deleted.push(&index["IndexName"]);
        }
    }
    for index in is {
        let Some(before) = named(was, &index["IndexName"]) else {
            changes.created.push(index);
            continue;
        };
        if index["ProvisionedThroughput"] != before["ProvisionedThroughput"]
            && !index["ProvisionedThroughput"].is_null()
        {
            changes.throughput.push(json!({"Update": {
                "IndexName": index["IndexName"],
                "ProvisionedThroughput": index["ProvisionedThroughput"],
            }}));
        }
    }
    changes
}

/// An index that keeps its name keeps its keys and its projection.
fn check_indexes(old: &Properties, new: &Properties) -> Result<(), aws::Error> {
    for index in list(of(new, "GlobalSecondaryIndexes")) {
        let mut before = list(of(old, "GlobalSecondaryIndexes")).iter();
        let before = before.find(|before| before["IndexName"] == index["IndexName"]);
        if before.is_some_and(|before| !is_same_index(index, before)) {
            return Err(invalid(format!(
                "Cannot update GSI's properties other than Provisioned Throughput. You can create a new GSI with a different name. Index: {}",
                index["IndexName"]
            )));
        }
    }
    Ok(())
}

/// What of a table's properties asks for what there is not, as it follows on the resource's name.
pub(super) fn unsupported(properties: &Properties) -> Option<String> {
    if of(properties, "SSESpecification")["SSEEnabled"] == true {
        return Some(
            "asks for encryption with a key (SSESpecification), which tables here do not have: leave it out, or set SSEEnabled to false"
                .to_owned(),
        );
    }
    let insights = "ContributorInsightsSpecification";
    let indexes = list(of(properties, "GlobalSecondaryIndexes")).iter().map(|index| &index[insights]);
    let mut asked = indexes.chain([of(properties, insights)]);
    asked.any(|specification| specification["Enabled"] == true).then(|| {
        format!("asks for contributor insights ({insights}), which there are not: leave it out, or set Enabled to false")
    })
}

pub(super) async fn update_table(calls: &Calls, id: &str, mut body: Json) -> Result<(), aws::Error> {
    body["TableName"] = json!(id);
    call(calls, "UpdateTable", &body).await?;
    settled(calls, id).await
}

#[async_trait]
impl Provider for Table {
    fn check(&self, properties: &Properties) -> Option<String> {
        unsupported(properties)
    }

    fn replaces(&self, property: &str, old: &Properties, new: &Properties) -> Option<bool> {
        match property {
            "AttributeDefinitions" => Some(redefines(old, new)),
            "LocalSecondaryIndexes" => {
                Some(!are_same_indexes(list(of(old, property)), list(of(new, property))))
            }
            _ => None,
        }
    }

    fn check_update(&self, old: &Properties, new: &Properties) -> Result<(), aws::Error> {
        check_indexes(old, new)
    }

    fn physical_id(&self, naming: &Naming<'_>, properties: &Properties) -> String {
        text(properties, "TableName").map_or_else(|| naming.generate(255), str::to_owned)
    }

    fn attribute(
        &self,
        pseudo: &Pseudo,
        id: &str,
        properties: &Properties,
        attribute: &str,
    ) -> Option<String> {
        let Pseudo { region, account_id, .. } = pseudo;
        let arn = format!("arn:aws:dynamodb:{region}:{account_id}:table/{id}");
        match attribute {
            "Arn" => Some(arn),
            // The label of a stream is the time at which it is made.
            "StreamArn" => stream(properties).map(|_| LATER.to_owned()),
            _ => None,
        }
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
    ) -> Result<Made, CreateError> {
        let mut body = json!({"TableName": id});
        for name in CREATE {
            if let Some(value) = properties.get(*name) {
                body[*name] = value.clone();
            }
        }
        for index in body["GlobalSecondaryIndexes"].as_array_mut().into_iter().flatten() {
            *index = as_created(index);
        }
        if let Some(stream) = stream(properties) {
            body["StreamSpecification"] = stream;
        }
        if let Some(source) = properties.get("ImportSourceSpecification") {
            table_import::create(calls, id, source, body, again).await?;
            if let Some(policy) = policy(properties) {
                set_policy(calls, id, Some(policy)).await.map_err(CreateError::half_made)?;
            }
        } else {
            if let Some(policy) = policy(properties) {
                body["ResourcePolicy"] = json!(policy);
            }
            match call(calls, "CreateTable", &body).await {
                Err(error) if again && is_there(&error) => {}
                Err(error) => return Err(CreateError::nothing_made(error)),
                Ok(_) => {}
            }
            settled(calls, id).await.map_err(CreateError::half_made)?;
        }
        let wanted = recovery(properties);
        if wanted["PointInTimeRecoveryEnabled"] == true {
            set_recovery(calls, id, &wanted).await.map_err(CreateError::half_made)?;
        }
        if let Some(attribute) = expiry(properties) {
            set_expiry(calls, id, attribute, true).await.map_err(CreateError::half_made)?;
        }
        decided(calls, id, properties).await.map_err(CreateError::half_made)
    }

    fn inherit(
        &self,
        pseudo: &Pseudo,
        id: &str,
        old: &Properties,
        new: &Properties,
        attributes: &mut IndexMap<String, String>,
    ) {
        if stream(old) != stream(new) {
            attributes.shift_remove("StreamArn");
        } else if stream(old).is_some() {
            // A stack of an older node has not kept it; this stands for whichever is the latest.
            let Pseudo { region, account_id, .. } = pseudo;
            let latest = || format!("arn:aws:dynamodb:{region}:{account_id}:table/{id}/stream/latest");
            attributes.entry("StreamArn".to_owned()).or_insert_with(latest);
        }
    }

    async fn decided(
        &self,
        calls: &Calls,
        id: &str,
        old: &Properties,
        new: &Properties,
    ) -> Result<Made, aws::Error> {
        if stream(old) == stream(new) { Ok(Made::default()) } else { decided(calls, id, new).await }
    }

    async fn update(
        &self,
        calls: &Calls,
        id: &str,
        old: &Properties,
        new: &Properties,
    ) -> Result<(), aws::Error> {
        let indexes = index_changes(old, new);
        for name in &indexes.deleted {
            let body = json!({"GlobalSecondaryIndexUpdates": [{"Delete": {"IndexName": name}}]});
            gone_is_fine(update_table(calls, id, body).await)?;
        }
        let mut body = json!({});
        if old.get("BillingMode") != new.get("BillingMode") {
            body["BillingMode"] = new.get("BillingMode").cloned().unwrap_or_else(|| "PROVISIONED".into());
        }
        let throughput =
            new.get("ProvisionedThroughput").filter(|t| old.get("ProvisionedThroughput") != Some(t));
        if let Some(throughput) = throughput {
            body["ProvisionedThroughput"] = throughput.clone();
        }
        if !indexes.throughput.is_empty() {
            body["GlobalSecondaryIndexUpdates"] = indexes.throughput.into();
        }
        if old.get("DeletionProtectionEnabled") != new.get("DeletionProtectionEnabled") {
            let on = new.get("DeletionProtectionEnabled").cloned().unwrap_or(Json::Bool(false));
            body["DeletionProtectionEnabled"] = on;
        }
        if old.get("TableClass") != new.get("TableClass") {
            body["TableClass"] = new.get("TableClass").cloned().unwrap_or_else(|| "STANDARD".into());
        }
        if body.as_object().is_some_and(|members| !members.is_empty()) {
            unchanged_is_fine(update_table(calls, id, body).await)?;
        }
        for index in &indexes.created {
            let body = json!({
                "AttributeDefinitions": definitions_of(new, index),
                "GlobalSecondaryIndexUpdates": [{"Create": as_created(index)}],
            });
            match update_table(calls, id, body).await {
                // A try that was interrupted has begun it.
                Err(error) if error.message.contains("already exists") => settled(calls, id).await?,
                other => other?,
            }
        }
        if stream(old) != stream(new) {
            if stream(old).is_some() {
                let off = json!({"StreamSpecification": {"StreamEnabled": false}});
                unchanged_is_fine(update_table(calls, id, off).await)?;
            }
            if let Some(stream) = stream(new) {
                let on = json!({"StreamSpecification": stream});
                unchanged_is_fine(update_table(calls, id, on).await)?;
            }
        }
        if recovery(old) != recovery(new) {
            set_recovery(calls, id, &recovery(new)).await?;
        }
        if expiry(old) != expiry(new) {
            if let Some(attribute) = expiry(old) {
                set_expiry(calls, id, attribute, false).await?;
            }
            if let Some(attribute) = expiry(new) {
                set_expiry(calls, id, attribute, true).await?;
            }
        }
        if policy(old) != policy(new) {
            set_policy(calls, id, policy(new)).await?;
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

/// The ARN of the table's stream.
async fn decided(calls: &Calls, id: &str, properties: &Properties) -> Result<Made, aws::Error> {
    let mut made = Made::default();
    if stream(properties).is_some() {
        let table = call(calls, "DescribeTable", &json!({"TableName": id})).await?;
        if let Some(arn) = table["Table"]["LatestStreamArn"].as_str() {
            made.attributes.insert("StreamArn".to_owned(), arn.to_owned());
        }
    }
    Ok(made)
}

/// The definitions of the attributes of an index's key.
fn definitions_of(properties: &Properties, index: &Json) -> Vec<Json> {
    let keys = list(&index["KeySchema"]);
    let defined = list(of(properties, "AttributeDefinitions")).iter();
    let used = |d: &&Json| keys.iter().any(|key| key["AttributeName"] == d["AttributeName"]);
    defined.filter(used).cloned().collect()
}

/// A change that an interrupted try has made already.
pub(super) fn unchanged_is_fine(result: Result<(), aws::Error>) -> Result<(), aws::Error> {
    let said = ["will not change", "already has an enabled stream", "no stream to disable"];
    match result {
        Err(error) if said.iter().any(|part| error.message.contains(part)) => Ok(()),
        other => other,
    }
}

async fn put_tags(calls: &Calls, id: &str, old: &Properties, new: &Properties) -> Result<(), aws::Error> {
    let arn = arn(calls, id);
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
