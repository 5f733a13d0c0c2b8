//! Item collections: their sizes are kept, told and limited, whatever writes.

use serde_json::{Value, json};
use store::key::{KeyWriter, prefix_end};
use store::{Range, Write, tables};
use types::{AccountId, SystemEnv};

use crate::support::Service;

const GIB: u64 = 1 << 30;

/// A table with a partition key of that type, a sort key `s`, and the local index `by_note`, of the keys alone.
async fn table(service: &Service, name: &str, kind: &str) {
    let keys = |sort: &str| json!([{"AttributeName": "p", "KeyType": "HASH"}, {"AttributeName": sort, "KeyType": "RANGE"}]);
    let definition = json!({
        "TableName": name,
        "AttributeDefinitions": [
            {"AttributeName": "p", "AttributeType": kind},
            {"AttributeName": "s", "AttributeType": "S"},
            {"AttributeName": "note", "AttributeType": "S"},
        ],
        "KeySchema": keys("s"),
        "LocalSecondaryIndexes": [{
            "IndexName": "by_note", "KeySchema": keys("note"), "Projection": {"ProjectionType": "KEYS_ONLY"},
        }],
        "BillingMode": "PAY_PER_REQUEST",
    });
    service.ok("CreateTable", definition).await;
}

/// What is kept of collections, in the order of their keys.
async fn rows(service: &Service) -> Vec<(store::Key, Value)> {
    let start = KeyWriter::new(AccountId::DEFAULT, tables::DDB_COLLECTIONS).finish();
    let end = prefix_end(&start);
    let range = Range { start, end, limit: 1000, limit_bytes: usize::MAX, reverse: false };
    let page = service.store.scan(range).await.unwrap();
    // A row begins with the version of its format.
    let row = |entry: &store::Entry| serde_json::from_slice(&entry.value[1..]).unwrap();
    page.entries.iter().map(|entry| (entry.key.clone(), row(entry))).collect()
}

async fn sizes(service: &Service) -> Vec<u64> {
    rows(service).await.iter().map(|(_, row)| row["size_bytes"].as_u64().unwrap()).collect()
}

/// Makes the only collection there is as large as said, as far as its row goes.
async fn grow(service: &Service, size_bytes: u64) {
    let [(key, _)] = &rows(service).await[..] else { panic!("there is more than one") };
    let value = [b"\x01", json!({"size_bytes": size_bytes}).to_string().as_bytes()].concat();
    service.store.write(vec![Write::Put(key.clone(), value.into())]).await.unwrap();
}

fn item(p: &Value, s: &str, note: Option<&str>) -> Value {
    let mut item = json!({"p": p, "s": {"S": s}, "text": {"S": "1234567890"}});
    if let Some(note) = note {
        item["note"] = json!({"S": note});
    }
    item
}

fn put(table: &str, item: &Value) -> Value {
    json!({"TableName": table, "Item": item, "ReturnItemCollectionMetrics": "SIZE"})
}

fn key(p: &Value, s: &str) -> Value {
    json!({"p": p, "s": {"S": s}})
}

#[tokio::test]
async fn sizes_are_those_of_items_and_entries() {
    let service = Service::new();
    for (name, kind, keys) in [
        ("text", "S", [json!({"S": "a"}), json!({"S": "a\u{0}b"})]),
        ("numbers", "N", [json!({"N": "-1.5"}), json!({"N": "0"})]),
        ("bytes", "B", [json!({"B": "AAA="}), json!({"B": "AP8A"})]),
    ] {
        table(&service, name, kind).await;
        for p in keys {
            service.put(name, item(&p, "1", None)).await;
            let [small] = sizes(&service).await[..] else { panic!("one collection") };
            // An item in the index counts for its entry, too: its keys once more, and the index's key twice.
            service.put(name, item(&p, "1", Some("nnn"))).await;
            let [large] = sizes(&service).await[..] else { panic!("one collection") };
            let entry = small - ("text1234567890".len() as u64) + "notennn".len() as u64;
            assert_eq!(large, small + "notennn".len() as u64 + entry, "{name} {p}");
            service.put(name, item(&p, "2", Some("nnn"))).await;
            assert_eq!(sizes(&service).await, [2 * large]);
            let update = json!({"TableName": name, "Key": key(&p, "2"), "UpdateExpression": "REMOVE note"});
            service.ok("UpdateItem", update).await;
            assert_eq!(sizes(&service).await, [large + small]);
            service
                .ok(
                    "BatchWriteItem",
                    json!({"RequestItems": {name: [
                        {"DeleteRequest": {"Key": key(&p, "1")}},
                        {"PutRequest": {"Item": item(&p, "3", None)}},
                        {"PutRequest": {"Item": item(&p, "4", None)}},
                    ]}}),
                )
                .await;
            assert_eq!(sizes(&service).await, [3 * small]);
            service
                .ok(
                    "TransactWriteItems",
                    json!({"TransactItems": [
                        {"Delete": {"TableName": name, "Key": key(&p, "2")}},
                        {"Delete": {"TableName": name, "Key": key(&p, "3")}},
                        {"Put": {"TableName": name, "Item": item(&p, "5", None)}},
                    ]}),
                )
                .await;
            assert_eq!(sizes(&service).await, [2 * small]);
            for s in ["4", "5"] {
                service.ok("DeleteItem", json!({"TableName": name, "Key": key(&p, s)})).await;
            }
            assert_eq!(sizes(&service).await, [0; 0]);
        }
    }
}

#[tokio::test]
async fn a_collection_grows_to_ten_gigabytes() {
    let service = Service::new();
    table(&service, "things", "S").await;
    let p = json!({"S": "a"});
    let metrics =
        |from: f64| json!({"ItemCollectionKey": {"p": p}, "SizeEstimateRangeGB": [from, from + 1.0]});
    let answer = service.ok("PutItem", put("things", &item(&p, "1", None))).await;
    assert_eq!(answer["ItemCollectionMetrics"], metrics(0.0));
    grow(&service, 10 * GIB - 10).await;
    let error = service.error("PutItem", put("things", &item(&p, "2", None))).await;
    assert_eq!((&*error.code, error.status), ("ItemCollectionSizeLimitExceededException", 400));
    let batch = json!({"RequestItems": {"things": [{"PutRequest": {"Item": item(&p, "2", None)}}]}});
    let error = service.error("BatchWriteItem", batch).await;
    assert_eq!(error.code, "ItemCollectionSizeLimitExceededException");
    let transaction = json!({"TransactItems": [
        {"ConditionCheck": {
            "TableName": "things", "Key": key(&p, "1"), "ConditionExpression": "attribute_exists(p)",
        }},
        {"Put": {"TableName": "things", "Item": item(&p, "2", None)}},
    ]});
    let error = service.error("TransactWriteItems", transaction).await;
    assert!(error.message.ends_with("[None, ItemCollectionSizeLimitExceeded]"), "{error}");
    // Another collection is none of its business, and what does not grow is let in.
    service.put("things", item(&json!({"S": "b"}), "1", None)).await;
    service.ok("DeleteItem", json!({"TableName": "things", "Key": key(&json!({"S": "b"}), "1")})).await;
    let shrink = json!({
        "TableName": "things", "Key": key(&p, "1"), "ReturnItemCollectionMetrics": "SIZE",
        "UpdateExpression": "SET #t = :t", "ExpressionAttributeNames": {"#t": "text"},
        "ExpressionAttributeValues": {":t": {"S": "1"}},
    });
    let answer = service.ok("UpdateItem", shrink).await;
    assert_eq!(answer["ItemCollectionMetrics"], metrics(9.0));
    assert_eq!(sizes(&service).await, [10 * GIB - 19]);
    let several = json!({
        "RequestItems": {"things": [
            {"DeleteRequest": {"Key": key(&p, "1")}}, {"PutRequest": {"Item": item(&p, "3", None)}},
        ]},
        "ReturnItemCollectionMetrics": "SIZE",
    });
    let answer = service.ok("BatchWriteItem", several).await;
    assert_eq!(answer["ItemCollectionMetrics"]["things"], json!([metrics(9.0)]));
}

#[tokio::test]
async fn sizes_go_with_items_that_expire_and_with_tables() {
    let service = Service::new();
    table(&service, "things", "S").await;
    let ttl =
        json!({"TableName": "things", "TimeToLiveSpecification": {"Enabled": true, "AttributeName": "ends"}});
    service.ok("UpdateTimeToLive", ttl).await;
    let p = json!({"S": "a"});
    let mut over = item(&p, "1", Some("n"));
    over["ends"] = json!({"N": (SystemEnv::new().now().as_second() - 60).to_string()});
    service.put("things", over).await;
    service.put("things", item(&p, "2", None)).await;
    let before = sizes(&service).await;
    service.api.sweeper().sweep().await.unwrap();
    let after = sizes(&service).await;
    assert!(after.len() == 1 && after[0] < before[0] / 2, "{before:?} {after:?}");
    service.ok("DeleteTable", json!({"TableName": "things"})).await;
    service.api.sweeper().sweep().await.unwrap();
    assert_eq!(sizes(&service).await, [0; 0]);
}
