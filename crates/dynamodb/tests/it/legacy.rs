//! Parameters of before expressions.

use serde_json::{Value, json};

use crate::support::Service;

fn key() -> Value {
    json!({"id": {"S": "a"}})
}

#[tokio::test]
async fn expectations_guard_writes() {
    let service = Service::new();
    service.simple_table("things").await;
    let put = |expected: Value, operator: Option<&str>| {
        let mut request = json!({"TableName": "things", "Item": {"id": {"S": "a"}, "v": {"N": "5"}, "t": {"S": "text"}}, "Expected": expected});
        if let Some(operator) = operator {
            request["ConditionalOperator"] = json!(operator);
        }
        request
    };
    service.ok("PutItem", put(json!({"id": {"Exists": false}}), None)).await;
    let error = service.error("PutItem", put(json!({"id": {"Exists": false}}), None)).await;
    assert_eq!(error.code, "ConditionalCheckFailedException");
    for (expected, operator, holds) in [
        (json!({"v": {"Value": {"N": "5"}}}), None, true),
        (json!({"v": {"Value": {"N": "6"}}}), None, false),
        (json!({"v": {"ComparisonOperator": "NE", "Value": {"N": "6"}}}), None, true),
        (json!({"v": {"ComparisonOperator": "LT", "AttributeValueList": [{"N": "5"}]}}), None, false),
        (
            json!({"v": {"ComparisonOperator": "BETWEEN", "AttributeValueList": [{"N": "1"}, {"N": "9"}]}}),
            None,
            true,
        ),
        (
            json!({"v": {"ComparisonOperator": "IN", "AttributeValueList": [{"N": "1"}, {"N": "5"}]}}),
            None,
            true,
        ),
        (
            json!({"t": {"ComparisonOperator": "BEGINS_WITH", "AttributeValueList": [{"S": "te"}]}}),
            None,
            true,
        ),
        (json!({"t": {"ComparisonOperator": "CONTAINS", "AttributeValueList": [{"S": "ex"}]}}), None, true),
        (
            json!({"t": {"ComparisonOperator": "NOT_CONTAINS", "AttributeValueList": [{"S": "ex"}]}}),
            None,
            false,
        ),
        (json!({"x": {"ComparisonOperator": "NULL"}, "t": {"ComparisonOperator": "NOT_NULL"}}), None, true),
        (
            json!({"x": {"ComparisonOperator": "NOT_NULL"}, "t": {"ComparisonOperator": "NOT_NULL"}}),
            Some("AND"),
            false,
        ),
        (
            json!({"x": {"ComparisonOperator": "NOT_NULL"}, "t": {"ComparisonOperator": "NOT_NULL"}}),
            Some("OR"),
            true,
        ),
    ] {
        let request = put(expected, operator);
        match service.raw("PutItem", &request.to_string()).await {
            Ok(_) => assert!(holds, "{request}"),
            Err(error) => {
                assert_eq!(error.code, "ConditionalCheckFailedException", "{request}");
                assert!(!holds, "{request}");
            }
        }
    }
    let prefix = "One or more parameter values were invalid: ";
    for (expected, message) in [
        (json!({"v": {}}), format!("{prefix}Value must be provided when Exists is null for Attribute: v")),
        (json!({"v": {"Exists": false, "Value": {"N": "1"}}}), format!("{prefix}Value cannot be used when Exists is false for Attribute: v")),
        (json!({"v": {"ComparisonOperator": "EQ"}}), format!("{prefix}Value or AttributeValueList must be used with ComparisonOperator: EQ for Attribute: v")),
        (json!({"v": {"ComparisonOperator": "EQ", "Exists": true}}), format!("{prefix}Exists and ComparisonOperator cannot be used together for Attribute: v")),
        (json!({"v": {"ComparisonOperator": "EQ", "AttributeValueList": []}}), format!("{prefix}Invalid number of argument(s) for the EQ ComparisonOperator")),
        (json!({"v": {"AttributeValueList": [{"N": "1"}]}}), format!("{prefix}AttributeValueList can only be used with a ComparisonOperator for Attribute: v")),
        (json!({"v": {"ComparisonOperator": "BETWEEN", "AttributeValueList": [{"N": "2"}, {"N": "1"}]}}), "The BETWEEN condition was provided a range where the lower bound is greater than the upper bound".into()),
    ] {
        service.invalid("PutItem", put(expected, None), &message).await;
    }
    let mut both = put(json!({"v": {"Exists": false}}), None);
    both["ConditionExpression"] = json!("attribute_exists(id)");
    service
        .invalid("PutItem", both, "Can not use both expression and non-expression parameters in the same request: Non-expression parameters: {Expected} Expression parameters: {ConditionExpression}")
        .await;
}

#[tokio::test]
async fn updates_of_attributes() {
    let service = Service::new();
    service.simple_table("things").await;
    let update = |updates: Value| json!({"TableName": "things", "Key": key(), "AttributeUpdates": updates, "ReturnValues": "UPDATED_NEW"});
    let changed = service
        .ok(
            "UpdateItem",
            update(json!({
                "put": {"Value": {"S": "x"}},
                "sum": {"Action": "ADD", "Value": {"N": "2"}},
                "set": {"Action": "ADD", "Value": {"SS": ["a", "b"]}},
                "list": {"Action": "ADD", "Value": {"L": [{"N": "1"}]}},
            })),
        )
        .await;
    assert_eq!(changed["Attributes"]["sum"], json!({"N": "2"}));
    let changed = service
        .ok(
            "UpdateItem",
            update(json!({
                "put": {"Action": "DELETE"},
                "sum": {"Action": "ADD", "Value": {"N": "-5"}},
                "set": {"Action": "DELETE", "Value": {"SS": ["a"]}},
                "list": {"Action": "ADD", "Value": {"L": [{"N": "2"}]}},
            })),
        )
        .await;
    assert_eq!(
        changed["Attributes"],
        json!({"sum": {"N": "-3"}, "set": {"SS": ["b"]}, "list": {"L": [{"N": "1"}, {"N": "2"}]}})
    );
    assert!(service.get("things", "a").await.get("put").is_none());
    service
        .invalid(
            "UpdateItem",
            update(json!({"set": {"Action": "ADD", "Value": {"N": "1"}}})),
            "Type mismatch for attribute to update",
        )
        .await;
    let prefix = "One or more parameter values were invalid: ";
    for (updates, message) in [
        (
            json!({"x": {"Action": "PUT"}}),
            format!("{prefix}Only DELETE action is allowed when no attribute value is specified"),
        ),
        (
            json!({"x": {"Action": "DELETE", "Value": {"S": "a"}}}),
            format!("{prefix}DELETE action with value is not supported for the type S"),
        ),
        (
            json!({"x": {"Action": "ADD", "Value": {"BOOL": true}}}),
            format!("{prefix}ADD action is not supported for the type BOOL"),
        ),
        (
            json!({"id": {"Value": {"S": "b"}}}),
            format!("{prefix}Cannot update attribute id. This attribute is part of the key"),
        ),
    ] {
        service.invalid("UpdateItem", update(updates), &message).await;
    }
}

#[tokio::test]
async fn searches_and_reads() {
    let service = Service::new();
    service.sorted_table("things", "N").await;
    for n in 0..6 {
        service.put("things", json!({"p": {"S": "a"}, "s": {"N": n.to_string()}, "v": {"N": (n % 2).to_string()}, "w": {"S": "w"}})).await;
    }
    let conditions = json!({
        "p": {"ComparisonOperator": "EQ", "AttributeValueList": [{"S": "a"}]},
        "s": {"ComparisonOperator": "GE", "AttributeValueList": [{"N": "2"}]},
    });
    let found = service
        .ok(
            "Query",
            json!({
                "TableName": "things", "KeyConditions": conditions,
                "QueryFilter": {"v": {"ComparisonOperator": "EQ", "AttributeValueList": [{"N": "1"}]}},
                "AttributesToGet": ["s"],
            }),
        )
        .await;
    assert_eq!(found["Items"], json!([{"s": {"N": "3"}}, {"s": {"N": "5"}}]));
    assert_eq!(found["ScannedCount"], 4);
    let found = service
        .ok(
            "Scan",
            json!({
                "TableName": "things", "ConditionalOperator": "OR",
                "ScanFilter": {
                    "v": {"ComparisonOperator": "EQ", "AttributeValueList": [{"N": "1"}]},
                    "s": {"ComparisonOperator": "LT", "AttributeValueList": [{"N": "1"}]},
                },
            }),
        )
        .await;
    assert_eq!(found["Count"], 4);
    let got = service
        .ok("GetItem", json!({"TableName": "things", "Key": {"p": {"S": "a"}, "s": {"N": "1"}}, "AttributesToGet": ["v", "nothing"]}))
        .await;
    assert_eq!(got["Item"], json!({"v": {"N": "1"}}));
    let got = service
        .ok("BatchGetItem", json!({"RequestItems": {"things": {"Keys": [{"p": {"S": "a"}, "s": {"N": "1"}}], "AttributesToGet": ["w"]}}}))
        .await;
    assert_eq!(got["Responses"]["things"], json!([{"w": {"S": "w"}}]));
    let mut wrong = json!({"TableName": "things", "KeyConditions": {"p": {"ComparisonOperator": "NE", "AttributeValueList": [{"S": "a"}]}}});
    service
        .invalid("Query", wrong.clone(), "Attempted conditional constraint is not an indexable operation")
        .await;
    wrong["KeyConditions"]["p"]["ComparisonOperator"] = json!("GT");
    service.invalid("Query", wrong, "Query key condition not supported").await;
    service
        .invalid(
            "Scan",
            json!({"TableName": "things", "AttributesToGet": ["a", "a"]}),
            "One or more parameter values were invalid: Duplicate value in attribute name: a",
        )
        .await;
}

#[tokio::test]
async fn metrics_of_item_collections() {
    let service = Service::new();
    service
        .ok("CreateTable", json!({
            "TableName": "things",
            "AttributeDefinitions": [
                {"AttributeName": "p", "AttributeType": "S"}, {"AttributeName": "s", "AttributeType": "S"}, {"AttributeName": "t", "AttributeType": "S"},
            ],
            "KeySchema": [{"AttributeName": "p", "KeyType": "HASH"}, {"AttributeName": "s", "KeyType": "RANGE"}],
            "LocalSecondaryIndexes": [{
                "IndexName": "by_t",
                "KeySchema": [{"AttributeName": "p", "KeyType": "HASH"}, {"AttributeName": "t", "KeyType": "RANGE"}],
                "Projection": {"ProjectionType": "ALL"},
            }],
            "BillingMode": "PAY_PER_REQUEST",
        }))
        .await;
    let item = json!({"p": {"S": "a"}, "s": {"S": "1"}});
    let metrics = json!({"ItemCollectionKey": {"p": {"S": "a"}}, "SizeEstimateRangeGB": [0.0, 1.0]});
    let put = service
        .ok("PutItem", json!({"TableName": "things", "Item": item, "ReturnItemCollectionMetrics": "SIZE"}))
        .await;
    assert_eq!(put["ItemCollectionMetrics"], metrics);
    let batch = json!({"RequestItems": {"things": [
        {"PutRequest": {"Item": item}}, {"PutRequest": {"Item": {"p": {"S": "a"}, "s": {"S": "2"}}}},
    ]}, "ReturnItemCollectionMetrics": "SIZE"});
    assert_eq!(
        service.ok("BatchWriteItem", batch).await["ItemCollectionMetrics"],
        json!({"things": [metrics]})
    );
}

#[tokio::test]
async fn provisioned_throughput_is_a_limit() {
    let service = Service::new();
    let table = |name: &str| {
        json!({
            "TableName": name,
            "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
            "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
            "ProvisionedThroughput": {"ReadCapacityUnits": 1, "WriteCapacityUnits": 1},
        })
    };
    service.ok("CreateTable", table("slow")).await;
    service.ok("CreateTable", table("other")).await;
    let item = json!({"id": {"S": "a"}, "pad": {"S": "x".repeat(390 << 10)}});
    // A burst of 300 units, then nothing.
    service.put("slow", item.clone()).await;
    let error = service.error("PutItem", json!({"TableName": "slow", "Item": item})).await;
    assert_eq!((&*error.code, error.status), ("ProvisionedThroughputExceededException", 400));
    let (name, reasons) = &error.fields[0];
    assert_eq!(*name, "ThrottlingReasons");
    let reason = reasons[0]["reason"].as_str().unwrap();
    assert!(reason.starts_with("Table") && reason.ends_with("ProvisionedThroughputExceeded"), "{reason}");
    assert!(
        reasons[0]["resource"]
            .as_str()
            .unwrap()
            .starts_with("arn:aws:dynamodb:us-east-1:000000000000:table/")
    );
    for _ in 0..4 {
        service.ok("GetItem", json!({"TableName": "slow", "Key": key(), "ConsistentRead": true})).await;
    }
    let error = service.error("GetItem", json!({"TableName": "slow", "Key": key()})).await;
    assert_eq!(error.code, "ProvisionedThroughputExceededException");
    let error = service.error("Scan", json!({"TableName": "slow"})).await;
    assert_eq!(error.code, "ProvisionedThroughputExceededException");
    // Of a batch, what can be done is.
    let put = json!([{"PutRequest": {"Item": key()}}]);
    let batch = service.ok("BatchWriteItem", json!({"RequestItems": {"slow": put, "other": put}})).await;
    assert_eq!(batch["UnprocessedItems"], json!({"slow": put}));
    let error = service.error("BatchWriteItem", json!({"RequestItems": {"slow": put}})).await;
    assert_eq!(error.code, "ProvisionedThroughputExceededException");
    let keys = json!({"Keys": [key()]});
    let batch = service.ok("BatchGetItem", json!({"RequestItems": {"slow": keys, "other": keys}})).await;
    assert_eq!(batch["Responses"]["other"], json!([key()]));
    assert_eq!(batch["UnprocessedKeys"], json!({"slow": keys}));
    let error = service
        .error(
            "TransactWriteItems",
            json!({"TransactItems": [{"Put": {"TableName": "slow", "Item": key()}}]}),
        )
        .await;
    assert!(error.message.contains("[ProvisionedThroughputExceeded]"), "{error}");
    // On demand, there is no limit.
    service.ok("UpdateTable", json!({"TableName": "slow", "BillingMode": "PAY_PER_REQUEST"})).await;
    service.put("slow", item).await;
}
