//! Secondary indexes: made with the table and later, written with the items, searched, dropped.

use serde_json::{Value, json};
use store::key::{KeyWriter, prefix_end};
use store::{Range, tables};
use types::AccountId;

use crate::support::Service;

/// Items of `shop`: partition `p`, sort `s`; local `by_date` (INCLUDE note), global `by_kind` (KEYS_ONLY),
/// `by_kind_date` (ALL).
async fn shop(service: &Service) {
    service
        .ok(
            "CreateTable",
            json!({
                "TableName": "shop",
                "AttributeDefinitions": [
                    {"AttributeName": "p", "AttributeType": "S"},
                    {"AttributeName": "s", "AttributeType": "N"},
                    {"AttributeName": "date", "AttributeType": "S"},
                    {"AttributeName": "kind", "AttributeType": "S"},
                ],
                "KeySchema": [
                    {"AttributeName": "p", "KeyType": "HASH"},
                    {"AttributeName": "s", "KeyType": "RANGE"},
                ],
                "LocalSecondaryIndexes": [{
                    "IndexName": "by_date",
                    "KeySchema": [
                        {"AttributeName": "p", "KeyType": "HASH"},
                        {"AttributeName": "date", "KeyType": "RANGE"},
                    ],
                    "Projection": {"ProjectionType": "INCLUDE", "NonKeyAttributes": ["note"]},
                }],
                "GlobalSecondaryIndexes": [
                    {
                        "IndexName": "by_kind",
                        "KeySchema": [{"AttributeName": "kind", "KeyType": "HASH"}],
                        "Projection": {"ProjectionType": "KEYS_ONLY"},
                    },
                    {
                        "IndexName": "by_kind_date",
                        "KeySchema": [
                            {"AttributeName": "kind", "KeyType": "HASH"},
                            {"AttributeName": "date", "KeyType": "RANGE"},
                        ],
                        "Projection": {"ProjectionType": "ALL"},
                    },
                ],
                "BillingMode": "PAY_PER_REQUEST",
            }),
        )
        .await;
}

fn item(p: &str, s: u32, date: Option<&str>, kind: Option<&str>) -> Value {
    let mut item = json!({"p": {"S": p}, "s": {"N": s.to_string()}, "note": {"S": "n"}, "big": {"S": "x"}});
    for (name, value) in [("date", date), ("kind", kind)] {
        if let Some(value) = value {
            item[name] = json!({"S": value});
        }
    }
    item
}

fn query(index: &str, condition: &str, values: Value) -> Value {
    json!({
        "TableName": "shop",
        "IndexName": index,
        "KeyConditionExpression": condition,
        "ExpressionAttributeNames": {"#d": "date"},
        "ExpressionAttributeValues": values,
    })
}

fn by_kind(kind: &str) -> Value {
    json!({
        "TableName": "shop",
        "IndexName": "by_kind",
        "KeyConditionExpression": "kind = :k",
        "ExpressionAttributeValues": {":k": {"S": kind}},
    })
}

async fn entries(service: &Service) -> usize {
    let start = KeyWriter::new(AccountId::DEFAULT, tables::DDB_ENTRIES).finish();
    let end = prefix_end(&start);
    let range = Range { start, end, limit: 10_000, limit_bytes: usize::MAX, reverse: false };
    service.store.scan(range).await.unwrap().entries.len()
}

#[tokio::test]
async fn entries_follow_their_items() {
    let service = Service::new();
    shop(&service).await;
    service.put("shop", item("a", 1, Some("2026-01-01"), Some("tea"))).await;
    service.put("shop", item("a", 2, None, Some("tea"))).await;
    service.put("shop", item("a", 3, Some("2026-01-03"), None)).await;
    // By date: 1 and 3; by kind: 1 and 2; by both: 1.
    assert_eq!(entries(&service).await, 5);
    let found = service.ok("Query", by_kind("tea")).await;
    assert_eq!(found["Count"], 2);
    for item in found["Items"].as_array().unwrap() {
        let names: Vec<_> = item.as_object().unwrap().keys().collect();
        assert_eq!(names, ["kind", "p", "s"]);
    }
    // An update that moves the item to another partition of the indexes.
    service
        .ok(
            "UpdateItem",
            json!({
                "TableName": "shop",
                "Key": {"p": {"S": "a"}, "s": {"N": "1"}},
                "UpdateExpression": "SET kind = :k",
                "ExpressionAttributeValues": {":k": {"S": "coffee"}},
            }),
        )
        .await;
    assert_eq!(service.ok("Query", by_kind("tea")).await["Count"], 1);
    let found = service
        .ok(
            "Query",
            query(
                "by_kind_date",
                "kind = :k AND #d >= :d",
                json!({":k": {"S": "coffee"}, ":d": {"S": "2026"}}),
            ),
        )
        .await;
    assert_eq!(found["Items"], json!([item("a", 1, Some("2026-01-01"), Some("coffee"))]));
    service.ok("DeleteItem", json!({"TableName": "shop", "Key": {"p": {"S": "a"}, "s": {"N": "1"}}})).await;
    assert_eq!(service.ok("Query", by_kind("coffee")).await["Count"], 0);
    assert_eq!(entries(&service).await, 2);
    // Batches and transactions go the same way.
    service
        .ok(
            "BatchWriteItem",
            json!({"RequestItems": {"shop": [
                {"PutRequest": {"Item": item("b", 1, Some("2026"), Some("tea"))}},
                {"DeleteRequest": {"Key": {"p": {"S": "a"}, "s": {"N": "2"}}}},
            ]}}),
        )
        .await;
    service
        .ok(
            "TransactWriteItems",
            json!({"TransactItems": [
                {"Put": {"TableName": "shop", "Item": item("b", 2, Some("2027"), Some("tea"))}},
                {"Delete": {"TableName": "shop", "Key": {"p": {"S": "a"}, "s": {"N": "3"}}}},
            ]}),
        )
        .await;
    assert_eq!(entries(&service).await, 6);
    assert_eq!(service.ok("Query", by_kind("tea")).await["Count"], 2);
    service.ok("DeleteTable", json!({"TableName": "shop"})).await;
    service.api.sweeper().sweep().await.unwrap();
    assert_eq!(entries(&service).await, 0);
}

#[tokio::test]
async fn pages_go_on_with_the_keys_of_index_and_table() {
    let service = Service::new();
    shop(&service).await;
    for n in 0..10 {
        // All in one partition of the index and, in pairs, with one sort key.
        service.put("shop", item(&format!("p{n}"), n, Some(&format!("d{}", n / 2)), Some("tea"))).await;
    }
    for reverse in [false, true] {
        let mut request = query(
            "by_kind_date",
            "kind = :k AND begins_with(#d, :d)",
            json!({":k": {"S": "tea"}, ":d": {"S": "d"}}),
        );
        request["Limit"] = json!(3);
        request["ScanIndexForward"] = json!(!reverse);
        let mut dates = Vec::new();
        loop {
            let page = service.ok("Query", request.clone()).await;
            dates.extend(page["Items"].as_array().unwrap().iter().map(|item| item["date"]["S"].clone()));
            let Some(last) = page.get("LastEvaluatedKey") else { break };
            let mut names: Vec<_> = last.as_object().unwrap().keys().cloned().collect();
            names.sort();
            assert_eq!(names, ["date", "kind", "p", "s"]);
            request["ExclusiveStartKey"] = last.clone();
        }
        let mut expected: Vec<_> = (0..10).map(|n| json!(format!("d{}", n / 2))).collect();
        if reverse {
            expected.reverse();
        }
        assert_eq!(dates, expected);
    }
    // A scan, in segments and pages.
    let mut found = 0;
    for segment in 0..3 {
        let mut request = json!({
            "TableName": "shop", "IndexName": "by_kind", "Segment": segment, "TotalSegments": 3, "Limit": 2,
        });
        loop {
            let page = service.ok("Scan", request.clone()).await;
            found += page["Count"].as_u64().unwrap();
            let Some(last) = page.get("LastEvaluatedKey") else { break };
            request["ExclusiveStartKey"] = last.clone();
        }
    }
    assert_eq!(found, 10);
    let mut request = by_kind("tea");
    request["ExclusiveStartKey"] = json!({"p": {"S": "p1"}, "s": {"N": "1"}});
    service.invalid("Query", request, "The provided starting key is invalid").await;
}

#[tokio::test]
async fn key_conditions_on_indexes_are_exact() {
    let service = Service::new();
    shop(&service).await;
    let dates = ["a", "a\u{0}", "a\u{0}b", "ab", "b"];
    for (n, date) in (0..).zip(dates) {
        service.put("shop", item("p", n, Some(date), None)).await;
    }
    for (condition, values, expected) in [
        ("#d = :d", json!({":d": {"S": "a"}}), vec!["a"]),
        ("#d < :d", json!({":d": {"S": "ab"}}), vec!["a", "a\u{0}", "a\u{0}b"]),
        ("#d <= :d", json!({":d": {"S": "a\u{0}"}}), vec!["a", "a\u{0}"]),
        ("#d > :d", json!({":d": {"S": "a"}}), vec!["a\u{0}", "a\u{0}b", "ab", "b"]),
        ("#d >= :d", json!({":d": {"S": "a\u{0}b"}}), vec!["a\u{0}b", "ab", "b"]),
        ("begins_with(#d, :d)", json!({":d": {"S": "a\u{0}"}}), vec!["a\u{0}", "a\u{0}b"]),
        ("begins_with(#d, :d)", json!({":d": {"S": "a"}}), vec!["a", "a\u{0}", "a\u{0}b", "ab"]),
        (
            "#d BETWEEN :d AND :e",
            json!({":d": {"S": "a\u{0}"}, ":e": {"S": "ab"}}),
            vec!["a\u{0}", "a\u{0}b", "ab"],
        ),
    ] {
        let mut values = values;
        values[":p"] = json!({"S": "p"});
        let found = service.ok("Query", query("by_date", &format!("p = :p AND {condition}"), values)).await;
        let found: Vec<_> = found["Items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| item["date"]["S"].as_str().unwrap())
            .collect();
        assert_eq!(found, expected, "{condition}");
    }
}

#[tokio::test]
async fn what_an_index_has_and_what_is_fetched() {
    let service = Service::new();
    shop(&service).await;
    service.put("shop", item("a", 1, Some("2026"), Some("tea"))).await;
    let local = |more: Value| {
        let mut request = json!({
            "TableName": "shop", "IndexName": "by_date",
            "KeyConditionExpression": "p = :p",
            "ExpressionAttributeValues": {":p": {"S": "a"}},
            "ReturnConsumedCapacity": "INDEXES",
        });
        request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        request
    };
    let found = service.ok("Query", local(json!({}))).await;
    assert_eq!(
        found["Items"][0],
        json!({"p": {"S": "a"}, "s": {"N": "1"}, "date": {"S": "2026"}, "note": {"S": "n"}})
    );
    assert_eq!(
        found["ConsumedCapacity"],
        json!({
            "TableName": "shop", "CapacityUnits": 0.5, "Table": {"CapacityUnits": 0.0},
            "LocalSecondaryIndexes": {"by_date": {"CapacityUnits": 0.5}},
        })
    );
    let found = service.ok("Query", local(json!({"Select": "ALL_ATTRIBUTES", "ConsistentRead": true}))).await;
    assert_eq!(found["Items"][0], item("a", 1, Some("2026"), Some("tea")));
    assert_eq!(found["ConsumedCapacity"]["Table"]["CapacityUnits"], 1.0);
    assert_eq!(found["ConsumedCapacity"]["CapacityUnits"], 2.0);
    let found = service.ok("Query", local(json!({"ProjectionExpression": "big"}))).await;
    assert_eq!(found["Items"], json!([{"big": {"S": "x"}}]));

    let mut request = by_kind("tea");
    request["ConsistentRead"] = json!(true);
    service.invalid("Query", request, "Consistent reads are not supported on global secondary indexes").await;
    let mut request = by_kind("tea");
    request["Select"] = json!("ALL_ATTRIBUTES");
    let prefix = "One or more parameter values were invalid: ";
    service
        .invalid(
            "Query",
            request,
            &format!("{prefix}Select type ALL_ATTRIBUTES is not supported for global secondary index by_kind because its projection type is not ALL"),
        )
        .await;
    let mut request = by_kind("tea");
    request["ProjectionExpression"] = json!("big");
    service
        .invalid("Query", request, &format!("{prefix}Global secondary index by_kind does not project [big]"))
        .await;
    let mut request = by_kind("tea");
    request["IndexName"] = json!("nothing");
    service.invalid("Query", request, "The table does not have the specified index: nothing").await;
}

#[tokio::test]
async fn keys_of_indexes_are_checked() {
    let service = Service::new();
    shop(&service).await;
    let mut wrong = item("a", 1, None, None);
    wrong["kind"] = json!({"N": "1"});
    service
        .invalid(
            "PutItem",
            json!({"TableName": "shop", "Item": wrong}),
            "One or more parameter values were invalid: Type mismatch for Index Key kind Expected: S Actual: N IndexName: by_kind",
        )
        .await;
    let error =
        service.error("PutItem", json!({"TableName": "shop", "Item": item("a", 1, Some(""), None)})).await;
    assert!(
        error.message.ends_with("cannot contain an empty string value. IndexName: by_date, IndexKey: date"),
        "{error}"
    );
    let key = json!({"p": {"S": "a"}, "s": {"N": "1"}});
    service
        .invalid(
            "UpdateItem",
            json!({"TableName": "shop", "Key": key, "UpdateExpression": "SET kind = :n", "ExpressionAttributeValues": {":n": {"N": "1"}}}),
            "One or more parameter values were invalid: Type mismatch for Index Key kind Expected: S Actual: N IndexName: by_kind",
        )
        .await;
    service
        .invalid(
            "UpdateItem",
            json!({"TableName": "shop", "Key": key, "UpdateExpression": "SET kind = if_not_exists(nothing, :n)", "ExpressionAttributeValues": {":n": {"N": "1"}}}),
            "The update expression attempted to update the secondary index key to unsupported type",
        )
        .await;
    assert_eq!(service.ok("Scan", json!({"TableName": "shop"})).await["Count"], 0);
}

#[tokio::test]
async fn writes_cost_what_indexes_cost() {
    let service = Service::new();
    shop(&service).await;
    let put = json!({"TableName": "shop", "Item": item("a", 1, Some("2026"), Some("tea")), "ReturnConsumedCapacity": "INDEXES"});
    let cost = service.ok("PutItem", put.clone()).await["ConsumedCapacity"].take();
    assert_eq!(cost["CapacityUnits"], 4.0);
    assert_eq!(
        cost["GlobalSecondaryIndexes"],
        json!({"by_kind": {"CapacityUnits": 1.0}, "by_kind_date": {"CapacityUnits": 1.0}})
    );
    assert_eq!(cost["LocalSecondaryIndexes"], json!({"by_date": {"CapacityUnits": 1.0}}));
    // The same again leaves the indexes alone.
    assert_eq!(service.ok("PutItem", put).await["ConsumedCapacity"]["CapacityUnits"], 1.0);
    // A new partition is a delete and a put.
    let update = json!({
        "TableName": "shop", "Key": {"p": {"S": "a"}, "s": {"N": "1"}}, "UpdateExpression": "SET kind = :k",
        "ExpressionAttributeValues": {":k": {"S": "coffee"}}, "ReturnConsumedCapacity": "INDEXES",
    });
    let cost = service.ok("UpdateItem", update).await["ConsumedCapacity"].take();
    assert_eq!(
        cost["GlobalSecondaryIndexes"],
        json!({"by_kind": {"CapacityUnits": 2.0}, "by_kind_date": {"CapacityUnits": 2.0}})
    );
    assert!(cost.get("LocalSecondaryIndexes").is_none());
}

#[tokio::test]
async fn indexes_come_and_go_on_a_table_that_is_there() {
    let service = Service::new();
    service.simple_table("things").await;
    for n in 0..200 {
        let mut thing = json!({"id": {"S": n.to_string()}, "group": {"S": format!("g{}", n % 2)}});
        if n % 10 == 0 {
            // What does not fit the index is left out.
            thing["group"] = json!({"N": "1"});
        }
        service.put("things", thing).await;
    }
    let create = |name: &str| {
        json!({
            "TableName": "things",
            "AttributeDefinitions": [{"AttributeName": "group", "AttributeType": "S"}],
            "GlobalSecondaryIndexUpdates": [{"Create": {
                "IndexName": name,
                "KeySchema": [{"AttributeName": "group", "KeyType": "HASH"}],
                "Projection": {"ProjectionType": "KEYS_ONLY"},
            }}],
        })
    };
    let changed = service.ok("UpdateTable", create("by_group")).await;
    let index = &changed["TableDescription"]["GlobalSecondaryIndexes"][0];
    assert_eq!((&index["IndexStatus"], &index["Backfilling"]), (&json!("CREATING"), &json!(true)));
    assert_eq!(index["IndexArn"], "arn:aws:dynamodb:us-east-1:000000000000:table/things/index/by_group");
    let query = json!({
        "TableName": "things", "IndexName": "by_group", "KeyConditionExpression": "#g = :g",
        "ExpressionAttributeNames": {"#g": "group"}, "ExpressionAttributeValues": {":g": {"S": "g1"}}, "Select": "COUNT",
    });
    service
        .invalid("Query", query.clone(), "Cannot read from backfilling global secondary index: by_group")
        .await;
    let error = service.error("UpdateTable", create("another")).await;
    assert_eq!(error.code, "LimitExceededException");
    // Writes meanwhile enter the index, and what they removed is not entered later.
    service.put("things", json!({"id": {"S": "new"}, "group": {"S": "g1"}})).await;
    service.ok("DeleteItem", json!({"TableName": "things", "Key": {"id": {"S": "1"}}})).await;
    service.api.sweeper().sweep().await.unwrap();
    let described = service.ok("DescribeTable", json!({"TableName": "things"})).await;
    let index = &described["Table"]["GlobalSecondaryIndexes"][0];
    assert_eq!((&index["IndexStatus"], &index["ItemCount"]), (&json!("ACTIVE"), &json!(180)));
    assert_eq!(service.ok("Query", query.clone()).await["Count"], 100);
    let deleted = json!({"TableName": "things", "GlobalSecondaryIndexUpdates": [{"Delete": {"IndexName": "by_group"}}]});
    let changed = service.ok("UpdateTable", deleted.clone()).await;
    assert!(changed["TableDescription"].get("GlobalSecondaryIndexes").is_none());
    assert_eq!(changed["TableDescription"]["AttributeDefinitions"].as_array().unwrap().len(), 1);
    service.invalid("Query", query.clone(), "The table does not have the specified index: by_group").await;
    assert_eq!(service.error("UpdateTable", deleted).await.code, "ResourceNotFoundException");
    // Made again at once, it has nothing of its predecessor.
    service.ok("UpdateTable", create("by_group")).await;
    service.api.sweeper().sweep().await.unwrap();
    assert_eq!(service.ok("Query", query).await["Count"], 100);
    assert_eq!(entries(&service).await, 180);
}

#[tokio::test]
async fn indexes_that_do_not_fit_are_refused() {
    let service = Service::new();
    let index = |name: &str, hash: &str, range: Option<&str>| {
        let mut schema = vec![json!({"AttributeName": hash, "KeyType": "HASH"})];
        schema.extend(range.map(|range| json!({"AttributeName": range, "KeyType": "RANGE"})));
        json!({"IndexName": name, "KeySchema": schema, "Projection": {"ProjectionType": "ALL"}})
    };
    let prefix = "One or more parameter values were invalid: ";
    let many: Vec<_> = (0..6).map(|n| index(&format!("i{n:02}"), "p", Some("t"))).collect();
    let many_global: Vec<_> = (0..21).map(|n| index(&format!("i{n:02}"), "t", None)).collect();
    let mut kept = index("one", "t", None);
    kept["Projection"] = json!({"ProjectionType": "ALL", "NonKeyAttributes": ["x"]});
    for (local, global, message) in [
        (json!([]), Value::Null, format!("{prefix}List of LocalSecondaryIndexes is empty")),
        (
            json!([index("one", "t", Some("s"))]),
            Value::Null,
            format!(
                "{prefix}Index KeySchema does not have the same leading hash key as table KeySchema for index: one. index hash key: t, table hash key: p"
            ),
        ),
        (
            json!([index("one", "p", None)]),
            Value::Null,
            format!("{prefix}Index KeySchema does not have a range key for index: one"),
        ),
        (
            json!([index("one", "p", Some("t"))]),
            json!([index("one", "t", None)]),
            format!("{prefix}Duplicate index name: one"),
        ),
        (
            json!(many),
            Value::Null,
            format!("{prefix}Number of LocalSecondaryIndexes exceeds per-table limit of 5"),
        ),
        (
            Value::Null,
            json!(many_global),
            format!("{prefix}GlobalSecondaryIndex count exceeds the per-table limit of 20"),
        ),
        (
            Value::Null,
            json!([kept]),
            format!("{prefix}ProjectionType is ALL, but NonKeyAttributes is specified"),
        ),
        (
            Value::Null,
            json!([index("one", "other", None)]),
            format!(
                "{prefix}Some index key attributes are not defined in AttributeDefinitions. Keys: [other], AttributeDefinitions: [p, s, t]"
            ),
        ),
        (
            Value::Null,
            json!([index("one", "s", None)]),
            format!(
                "{prefix}Some AttributeDefinitions are not used. AttributeDefinitions: [p, s, t], keys used: [p, s]"
            ),
        ),
    ] {
        let mut request = json!({
            "TableName": "shop",
            "AttributeDefinitions": [
                {"AttributeName": "p", "AttributeType": "S"},
                {"AttributeName": "s", "AttributeType": "S"},
                {"AttributeName": "t", "AttributeType": "S"},
            ],
            "KeySchema": [{"AttributeName": "p", "KeyType": "HASH"}, {"AttributeName": "s", "KeyType": "RANGE"}],
            "BillingMode": "PAY_PER_REQUEST",
        });
        for (name, value) in [("LocalSecondaryIndexes", local), ("GlobalSecondaryIndexes", global)] {
            if !value.is_null() {
                request[name] = value;
            }
        }
        service.invalid("CreateTable", request, &message).await;
    }
}

#[tokio::test]
async fn what_is_too_much_for_one_commit_is_left() {
    let service = Service::new();
    let names: Vec<_> = (0..20).map(|n| format!("k{n:02}")).collect();
    let mut definitions: Vec<_> =
        names.iter().map(|name| json!({"AttributeName": name, "AttributeType": "S"})).collect();
    definitions.push(json!({"AttributeName": "id", "AttributeType": "S"}));
    let indexes: Vec<_> = names
        .iter()
        .map(|name| {
            json!({
                "IndexName": format!("by_{name}"), "KeySchema": [{"AttributeName": name, "KeyType": "HASH"}],
                "Projection": {"ProjectionType": "ALL"},
            })
        })
        .collect();
    service
        .ok(
            "CreateTable",
            json!({
                "TableName": "wide", "BillingMode": "PAY_PER_REQUEST", "AttributeDefinitions": definitions,
                "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}], "GlobalSecondaryIndexes": indexes,
            }),
        )
        .await;
    let mut writes: Vec<Value> = (0..10)
        .map(|n| {
            let mut item = json!({"id": {"S": n.to_string()}, "pad": {"S": "x".repeat(390 << 10)}});
            for name in &names {
                item[name] = json!({"S": "same"});
            }
            json!({"PutRequest": {"Item": item}})
        })
        .collect();
    let actions: Vec<_> = writes
        .iter()
        .map(|write| json!({"Put": {"TableName": "wide", "Item": write["PutRequest"]["Item"]}}))
        .collect();
    let error = service.error("TransactWriteItems", json!({"TransactItems": actions})).await;
    assert_eq!((&*error.code, error.status), ("ValidationException", 400), "{error}");
    let mut rounds = 0;
    while !writes.is_empty() {
        let answer = service.ok("BatchWriteItem", json!({"RequestItems": {"wide": writes}})).await;
        writes = answer["UnprocessedItems"]["wide"].as_array().cloned().unwrap_or_default();
        rounds += 1;
    }
    assert!(rounds > 1);
    let found =
        service.ok("Scan", json!({"TableName": "wide", "IndexName": "by_k19", "Select": "COUNT"})).await;
    assert!(found["Count"].as_u64() > Some(0));
}

/// Matches by tournament and region; within those by round, bracket and number.
async fn matches(service: &Service) {
    let attribute = |name: &str, kind: &str| json!({"AttributeName": name, "AttributeType": kind});
    let key = |name: &str, role: &str| json!({"AttributeName": name, "KeyType": role});
    let definition = json!({
        "TableName": "matches",
        "AttributeDefinitions": [
            attribute("id", "S"), attribute("tournament", "S"), attribute("region", "S"),
            attribute("round", "S"), attribute("bracket", "B"), attribute("number", "N"),
        ],
        "KeySchema": [key("id", "HASH")],
        "GlobalSecondaryIndexes": [{
            "IndexName": "by_place",
            "KeySchema": [
                key("tournament", "HASH"), key("region", "HASH"),
                key("round", "RANGE"), key("bracket", "RANGE"), key("number", "RANGE"),
            ],
            "Projection": {"ProjectionType": "ALL"},
        }],
        "BillingMode": "PAY_PER_REQUEST",
    });
    let made = service.ok("CreateTable", definition.clone()).await;
    let schema = &definition["GlobalSecondaryIndexes"][0]["KeySchema"];
    assert_eq!(made["TableDescription"]["GlobalSecondaryIndexes"][0]["KeySchema"], *schema);
    for (id, tournament, region, round, bracket, number) in [
        ("1", "w", "na", "final", "AA==", 2),
        ("2", "w", "na", "final", "AA==", 10),
        ("3", "w", "na", "final", "AAE=", 1),
        ("4", "w", "na", "finals", "AA==", 1),
        ("5", "w", "n", "afinal", "AA==", 1),
        ("6", "wn", "a", "final", "AA==", 1),
    ] {
        let item = json!({
            "id": {"S": id}, "tournament": {"S": tournament}, "region": {"S": region},
            "round": {"S": round}, "bracket": {"B": bracket}, "number": {"N": number.to_string()},
        });
        service.put("matches", item).await;
    }
    // Without one of the attributes there is no entry.
    let item =
        json!({"id": {"S": "7"}, "tournament": {"S": "w"}, "region": {"S": "na"}, "round": {"S": "final"}});
    service.put("matches", item).await;
}

fn place_query(condition: &str, mut more: Value) -> Value {
    let values = json!({
        ":t": {"S": "w"}, ":r": {"S": "na"}, ":f": {"S": "final"}, ":b": {"B": "AA=="}, ":two": {"N": "2"},
        ":ten": {"N": "10"},
    });
    let used = |name: &String| condition.split([' ', ',', ')']).any(|word| word == name);
    more["TableName"] = "matches".into();
    more["IndexName"] = "by_place".into();
    more["KeyConditionExpression"] = condition.into();
    more["ExpressionAttributeNames"] = json!({"#n": "number", "#r": "region"});
    if !condition.contains("#n") {
        more["ExpressionAttributeNames"].as_object_mut().unwrap().remove("#n");
    }
    more["ExpressionAttributeValues"] = values
        .as_object()
        .unwrap()
        .iter()
        .filter(|(name, _)| used(name))
        .map(|(n, v)| (n.clone(), v.clone()))
        .collect();
    more
}

fn ids(found: &Value) -> Vec<&str> {
    found["Items"].as_array().unwrap().iter().map(|item| item["id"]["S"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn keys_of_several_attributes_are_searched_from_left_to_right() {
    let service = Service::new();
    matches(&service).await;
    let all = "tournament = :t AND #r = :r";
    for (condition, expected) in [
        (all.to_owned(), &["1", "2", "3", "4"][..]),
        (format!("{all} AND round = :f"), &["1", "2", "3"]),
        (format!("{all} AND begins_with(round, :f)"), &["1", "2", "3", "4"]),
        (format!("{all} AND round > :f"), &["4"]),
        (format!("{all} AND round = :f AND bracket = :b"), &["1", "2"]),
        (format!("{all} AND round = :f AND bracket > :b"), &["3"]),
        (format!("{all} AND round = :f AND bracket = :b AND #n > :two"), &["2"]),
        (format!("{all} AND round = :f AND bracket = :b AND #n BETWEEN :two AND :ten"), &["1", "2"]),
        (format!("#n = :two AND bracket = :b AND round = :f AND {all}"), &["1"]),
    ] {
        let found = service.ok("Query", place_query(&condition, json!({}))).await;
        assert_eq!(ids(&found), expected, "{condition}");
        let found = service.ok("Query", place_query(&condition, json!({"ScanIndexForward": false}))).await;
        let reverse: Vec<_> = expected.iter().rev().copied().collect();
        assert_eq!(ids(&found), reverse, "{condition}");
        // One by one, from where the last page ended.
        let (mut start, mut one_by_one) = (Value::Null, Vec::new());
        loop {
            let mut more = json!({"Limit": 1});
            if !start.is_null() {
                more["ExclusiveStartKey"] = start;
            }
            let found = service.ok("Query", place_query(&condition, more)).await;
            one_by_one.extend(ids(&found).into_iter().map(str::to_owned));
            start = found["LastEvaluatedKey"].clone();
            if start.is_null() {
                break;
            }
            assert_eq!(start.as_object().unwrap().len(), 6);
        }
        assert_eq!(one_by_one, expected, "{condition}");
    }
    for (condition, message) in [
        ("tournament = :t".to_owned(), "Query condition missed key schema element: region"),
        (format!("{all} AND bracket = :b"), "Query condition missed key schema element: round"),
        (format!("{all} AND round > :f AND bracket = :b"), "Query key condition not supported"),
        ("tournament > :t AND #r = :r".to_owned(), "Query key condition not supported"),
    ] {
        let mut query = place_query(&condition, json!({}));
        if !condition.contains("#r") {
            query.as_object_mut().unwrap().remove("ExpressionAttributeNames");
        }
        service.invalid("Query", query, message).await;
    }
    let select = "SELECT id FROM \"matches\".\"by_place\" WHERE tournament = 'w' AND round = 'finals'";
    let found = service.ok("ExecuteStatement", json!({"Statement": select})).await;
    assert_eq!(ids(&found), ["4"]);
    // It moves with the item, and a key must have its type.
    let update = |value: Value| {
        json!({
            "TableName": "matches", "Key": {"id": {"S": "4"}}, "UpdateExpression": "SET bracket = :b",
            "ExpressionAttributeValues": {":b": value},
        })
    };
    service.ok("UpdateItem", update(json!({"B": "/w=="}))).await;
    let query = place_query(&format!("{all} AND round > :f"), json!({}));
    assert_eq!(ids(&service.ok("Query", query.clone()).await), ["4"]);
    assert_eq!(service.error("UpdateItem", update(json!({"S": "x"}))).await.code, "ValidationException");
    let remove =
        json!({"TableName": "matches", "Key": {"id": {"S": "4"}}, "UpdateExpression": "REMOVE bracket"});
    service.ok("UpdateItem", remove).await;
    assert_eq!(ids(&service.ok("Query", query).await), [""; 0]);
}

#[tokio::test]
async fn keys_of_several_attributes_have_limits() {
    let service = Service::new();
    matches(&service).await;
    let with = |name: &str, schema: &[(&str, &str)]| {
        let defined: Vec<_> =
            schema.iter().map(|(name, _)| json!({"AttributeName": name, "AttributeType": "S"})).collect();
        let schema: Vec<_> =
            schema.iter().map(|(name, role)| json!({"AttributeName": name, "KeyType": role})).collect();
        json!({"TableName": "matches", "AttributeDefinitions": defined, "GlobalSecondaryIndexUpdates": [{"Create": {
            "IndexName": name, "KeySchema": schema, "Projection": {"ProjectionType": "KEYS_ONLY"},
        }}]})
    };
    let (hash, range) = ("HASH", "RANGE");
    for (schema, message) in [
        (&[("a", hash), ("b", range), ("c", hash)][..], "Invalid KeySchema: All HASH"),
        (&[("a", hash), ("b", hash), ("c", range), ("d", hash)], "Invalid KeySchema: All HASH"),
        (&[("a", range), ("b", range), ("c", range)], "Invalid KeySchema: The first KeySchemaElement"),
        (&[("a", hash), ("b", hash), ("a", range)], "Invalid KeySchema: The attribute a"),
        (
            &[("a", hash), ("b", hash), ("c", hash), ("d", hash), ("e", hash)],
            "Invalid KeySchema: There can be 4 HASH",
        ),
    ] {
        let error = service.error("UpdateTable", with("more", schema)).await;
        assert!(error.code == "ValidationException" && error.message.starts_with(message), "{error}");
    }
    // Eight, on a table that has items, entered afterwards.
    let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let mut item = json!({"id": {"S": "eight"}});
    names.iter().for_each(|name| item[name] = json!({"S": name}));
    service.put("matches", item).await;
    let schema: Vec<_> =
        names.iter().enumerate().map(|(at, name)| (*name, if at < 4 { hash } else { range })).collect();
    service.ok("UpdateTable", with("eight", &schema)).await;
    service.api.sweeper().sweep().await.unwrap();
    let condition: Vec<_> = names.iter().map(|name| format!("{name} = :{name}")).collect();
    let values: serde_json::Map<_, _> =
        names.iter().map(|name| (format!(":{name}"), json!({"S": name}))).collect();
    let query = json!({
        "TableName": "matches", "IndexName": "eight", "KeyConditionExpression": condition.join(" AND "),
        "ExpressionAttributeValues": values,
    });
    assert_eq!(ids(&service.ok("Query", query).await), ["eight"]);
}
