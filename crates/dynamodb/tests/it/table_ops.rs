//! Operations on tables.

use serde_json::{Value, json};
use store::key::{KeyWriter, prefix_end};
use store::{Range, tables};
use types::AccountId;

use crate::support::Service;

async fn stored_items(service: &Service) -> usize {
    let start = KeyWriter::new(AccountId::DEFAULT, tables::DDB_ITEMS).finish();
    let end = prefix_end(&start);
    let range = Range { start, end, limit: 10_000, limit_bytes: usize::MAX, reverse: false };
    service.store.scan(range).await.unwrap().entries.len()
}

#[tokio::test]
async fn tables_are_described() {
    let service = Service::new();
    let created = service
        .ok(
            "CreateTable",
            json!({
                "TableName": "orders",
                "AttributeDefinitions": [
                    {"AttributeName": "customer", "AttributeType": "S"},
                    {"AttributeName": "at", "AttributeType": "N"},
                ],
                "KeySchema": [
                    {"AttributeName": "customer", "KeyType": "HASH"},
                    {"AttributeName": "at", "KeyType": "RANGE"},
                ],
                "ProvisionedThroughput": {"ReadCapacityUnits": 5, "WriteCapacityUnits": 6},
                "Tags": [{"Key": "team", "Value": "shop"}],
                "DeletionProtectionEnabled": true,
                "TableClass": "STANDARD",
            }),
        )
        .await;
    let table = &created["TableDescription"];
    assert_eq!(table["TableStatus"], "ACTIVE");
    assert_eq!(table["TableArn"], "arn:aws:dynamodb:us-east-1:000000000000:table/orders");
    assert_eq!(table["ProvisionedThroughput"]["WriteCapacityUnits"], 6);
    assert_eq!(table["KeySchema"][1], json!({"AttributeName": "at", "KeyType": "RANGE"}));
    assert_eq!(table["DeletionProtectionEnabled"], true);
    assert!(table["CreationDateTime"].is_f64());
    service.put("orders", json!({"customer": {"S": "c"}, "at": {"N": "1"}, "sum": {"N": "20"}})).await;
    let described = service.ok("DescribeTable", json!({"TableName": "orders"})).await;
    assert_eq!(described["Table"]["ItemCount"], 1);
    // customer + c, at + 2, sum + 2.
    assert_eq!(described["Table"]["TableSizeBytes"], 9 + 4 + 5);
    assert_eq!(described["Table"]["TableId"], table["TableId"]);

    let error = service.error("DeleteTable", json!({"TableName": "orders"})).await;
    assert!(error.message.contains("protected against deletion"), "{error}");
    let changed = service
        .ok(
            "UpdateTable",
            json!({"TableName": "orders", "BillingMode": "PAY_PER_REQUEST", "DeletionProtectionEnabled": false}),
        )
        .await;
    assert_eq!(changed["TableDescription"]["BillingModeSummary"]["BillingMode"], "PAY_PER_REQUEST");
    // The table's row changed: reads and writes go on.
    service.put("orders", json!({"customer": {"S": "c"}, "at": {"N": "2"}})).await;
    let deleted = service.ok("DeleteTable", json!({"TableName": "orders"})).await;
    assert_eq!(deleted["TableDescription"]["TableStatus"], "DELETING");
    let error = service.error("DescribeTable", json!({"TableName": "orders"})).await;
    assert_eq!(error.message, "Requested resource not found: Table: orders not found");
}

#[tokio::test]
async fn tables_that_do_not_fit_are_refused() {
    let service = Service::new();
    service.simple_table("taken").await;
    let base = || {
        json!({
            "TableName": "new",
            "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
            "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
            "BillingMode": "PAY_PER_REQUEST",
        })
    };
    let mut taken = base();
    taken["TableName"] = json!("taken");
    let error = service.error("CreateTable", taken).await;
    assert_eq!((&*error.code, error.status), ("ResourceInUseException", 400));
    assert_eq!(error.message, "Table already exists: taken");
    for (member, value, message) in [
        (
            "TableName",
            json!("ab"),
            "TableName must be at least 3 characters long and at most 255 characters long",
        ),
        (
            "TableName",
            Value::Null,
            "The parameter 'TableName' is required but was not present in the request",
        ),
        (
            "BillingMode",
            json!("FREE"),
            "1 validation error detected: Value 'FREE' at 'billingMode' failed to satisfy constraint: Member must satisfy enum value set: [PROVISIONED, PAY_PER_REQUEST]",
        ),
        (
            "KeySchema",
            json!([{"AttributeName": "id", "KeyType": "RANGE"}]),
            "Invalid KeySchema: The first KeySchemaElement is not a HASH key type",
        ),
        (
            "KeySchema",
            json!([{"AttributeName": "x", "KeyType": "HASH"}]),
            "One or more parameter values were invalid: Some index key attributes are not defined in AttributeDefinitions. Keys: [x], AttributeDefinitions: [id]",
        ),
        (
            "ProvisionedThroughput",
            json!({"ReadCapacityUnits": 1, "WriteCapacityUnits": 1}),
            "One or more parameter values were invalid: Neither ReadCapacityUnits nor WriteCapacityUnits can be specified when BillingMode is PAY_PER_REQUEST",
        ),
        (
            "StreamSpecification",
            json!({"StreamEnabled": true}),
            "One or more parameter values were invalid: StreamViewType must be specified when StreamEnabled is true",
        ),
    ] {
        let mut request = base();
        request[member] = value;
        service.invalid("CreateTable", request, message).await;
    }
    let mut provisioned = base();
    provisioned.as_object_mut().unwrap().remove("BillingMode");
    service
        .invalid(
            "CreateTable",
            provisioned,
            "One or more parameter values were invalid: ReadCapacityUnits and WriteCapacityUnits must both be specified when BillingMode is PROVISIONED",
        )
        .await;
}

#[tokio::test]
async fn a_table_made_again_is_empty_and_old_items_go() {
    let service = Service::new();
    service.simple_table("things").await;
    for n in 0..600 {
        service.put("things", json!({"id": {"S": n.to_string()}})).await;
    }
    service.ok("DeleteTable", json!({"TableName": "things"})).await;
    let error = service.error("PutItem", json!({"TableName": "things", "Item": {"id": {"S": "x"}}})).await;
    assert_eq!(error.code, "ResourceNotFoundException");
    service.simple_table("things").await;
    assert_eq!(service.get("things", "1").await, Value::Null);
    assert_eq!(service.ok("Scan", json!({"TableName": "things"})).await["Count"], 0);
    service.put("things", json!({"id": {"S": "new"}})).await;
    assert_eq!(stored_items(&service).await, 601);
    service.api.sweeper().sweep().await.unwrap();
    assert_eq!(stored_items(&service).await, 1);
    assert_ne!(service.get("things", "new").await, Value::Null);
}

#[tokio::test]
async fn tables_are_listed_in_pages() {
    let service = Service::new();
    assert_eq!(service.ok("ListTables", json!({})).await, json!({"TableNames": []}));
    for name in ["one", "two", "three"] {
        service.simple_table(name).await;
    }
    let page = service.ok("ListTables", json!({"Limit": 2})).await;
    assert_eq!(page, json!({"LastEvaluatedTableName": "three", "TableNames": ["one", "three"]}));
    let page = service.ok("ListTables", json!({"ExclusiveStartTableName": "three"})).await;
    assert_eq!(page, json!({"TableNames": ["two"]}));
}

#[tokio::test]
async fn tags_come_and_go() {
    let service = Service::new();
    service.simple_table("things").await;
    let arn = "arn:aws:dynamodb:us-east-1:000000000000:table/things";
    let tags: Vec<_> = (0..12).map(|n| json!({"Key": format!("k{n:02}"), "Value": "v"})).collect();
    service.ok("TagResource", json!({"ResourceArn": arn, "Tags": tags})).await;
    let page = service.ok("ListTagsOfResource", json!({"ResourceArn": arn})).await;
    assert_eq!(page["Tags"].as_array().unwrap().len(), 10);
    let page =
        service.ok("ListTagsOfResource", json!({"ResourceArn": arn, "NextToken": page["NextToken"]})).await;
    assert_eq!(page["Tags"].as_array().unwrap().len(), 2);
    let keys: Vec<_> = (1..12).map(|n| format!("k{n:02}")).collect();
    service.ok("UntagResource", json!({"ResourceArn": arn, "TagKeys": keys})).await;
    let page = service.ok("ListTagsOfResource", json!({"ResourceArn": arn})).await;
    assert_eq!(page, json!({"Tags": [{"Key": "k00", "Value": "v"}]}));
    let missing = json!({"ResourceArn": arn.replace("things", "nothing")});
    assert_eq!(service.error("ListTagsOfResource", missing).await.code, "ResourceNotFoundException");
    service
        .invalid("ListTagsOfResource", json!({"ResourceArn": arn, "NextToken": "k00"}), "Invalid NextToken")
        .await;
    let tags = |key: &str, value: &str| json!({"ResourceArn": arn, "Tags": [{"Key": key, "Value": value}]});
    for (key, value) in [("hi!", "v"), ("k", "d%g"), ("k", "\"q\""), ("a;b", "")] {
        let error = service.error("TagResource", tags(key, value)).await;
        assert_eq!(error.code, "ValidationException", "{key} {value}");
        assert!(error.message.contains("can only have letters"), "{error}");
    }
    service.ok("TagResource", tags("Größe +-=._:/@ 1", "ü ")).await;
    let elsewhere = json!({"ResourceArn": "things", "Tags": [{"Key": "k", "Value": "v"}]});
    service.invalid("TagResource", elsewhere, "Invalid TableArn: ARNs must start with 'arn:'").await;
}

#[tokio::test]
async fn tables_that_go_are_described_in_few_words() {
    let service = Service::new();
    let index = |name: &str| {
        json!({
            "IndexName": name, "Projection": {"ProjectionType": "ALL"},
            "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}, {"AttributeName": "s", "KeyType": "RANGE"}],
        })
    };
    let table = json!({
        "TableName": "things", "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": [
            {"AttributeName": "id", "AttributeType": "S"}, {"AttributeName": "s", "AttributeType": "S"},
        ],
        "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}, {"AttributeName": "s", "KeyType": "RANGE"}],
        "GlobalSecondaryIndexes": [index("global")], "LocalSecondaryIndexes": [index("local")],
    });
    let made = service.ok("CreateTable", table).await["TableDescription"].take();
    let warm = json!({"ReadUnitsPerSecond": 12_000, "WriteUnitsPerSecond": 4_000, "Status": "ACTIVE"});
    assert_eq!(made["WarmThroughput"], warm);
    assert_eq!(made["GlobalSecondaryIndexes"][0]["WarmThroughput"], warm);
    assert!(made["LocalSecondaryIndexes"][0].get("WarmThroughput").is_none());
    let gone = service.ok("DeleteTable", json!({"TableName": "things"})).await["TableDescription"].take();
    assert_eq!(gone["TableStatus"], "DELETING");
    assert_eq!(gone["TableId"], made["TableId"]);
    for member in [
        "CreationDateTime",
        "KeySchema",
        "AttributeDefinitions",
        "GlobalSecondaryIndexes",
        "LocalSecondaryIndexes",
    ] {
        assert!(made.get(member).is_some() && gone.get(member).is_none(), "{member}");
    }
}

#[tokio::test]
async fn the_endpoint_is_the_node_itself() {
    let service = Service::new();
    let endpoint = json!({"Address": "127.0.0.1:4566", "CachePeriodInMinutes": 1440});
    assert_eq!(service.ok("DescribeEndpoints", json!({})).await, json!({"Endpoints": [endpoint]}));
}

#[tokio::test]
async fn what_is_off_is_described_as_off() {
    let service = Service::new();
    service.simple_table("things").await;
    let ttl = service.ok("DescribeTimeToLive", json!({"TableName": "things"})).await;
    assert_eq!(ttl["TimeToLiveDescription"]["TimeToLiveStatus"], "DISABLED");
    let backups = service.ok("DescribeContinuousBackups", json!({"TableName": "things"})).await;
    let recovery = &backups["ContinuousBackupsDescription"]["PointInTimeRecoveryDescription"];
    assert_eq!(recovery["PointInTimeRecoveryStatus"], "DISABLED");
    assert!(service.ok("DescribeLimits", json!({})).await["TableMaxReadCapacityUnits"].is_u64());
}
