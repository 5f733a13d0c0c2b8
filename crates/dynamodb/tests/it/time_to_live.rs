//! Items that expire.

use serde_json::{Value, json};
use types::SystemEnv;

use crate::support::Service;

fn now() -> i64 {
    SystemEnv::new().now().as_second()
}

async fn enable(service: &Service, enabled: bool) -> Value {
    let specification = json!({"Enabled": enabled, "AttributeName": "ends"});
    service
        .ok("UpdateTimeToLive", json!({"TableName": "things", "TimeToLiveSpecification": specification}))
        .await
}

async fn put(service: &Service, id: &str, ends: Value) {
    service.put("things", json!({"id": {"S": id}, "ends": ends})).await;
}

async fn left(service: &Service) -> Vec<String> {
    service.api.sweeper().sweep().await.unwrap();
    let found = service.ok("Scan", json!({"TableName": "things"})).await;
    let ids =
        found["Items"].as_array().unwrap().iter().map(|item| item["id"]["S"].as_str().unwrap().to_owned());
    let mut ids: Vec<_> = ids.collect();
    ids.sort();
    ids
}

#[tokio::test]
async fn expired_items_go() {
    let service = Service::new();
    service.simple_table("things").await;
    let at = |seconds: i64| json!({"N": (now() + seconds).to_string()});
    // Before the table has time to live, and after.
    put(&service, "before", at(-100)).await;
    assert_eq!(enable(&service, true).await["TimeToLiveSpecification"]["Enabled"], true);
    put(&service, "over", at(-100)).await;
    put(&service, "later", at(1000)).await;
    put(&service, "text", json!({"S": "1"})).await;
    put(&service, "ancient", at(-6 * 365 * 24 * 3600)).await;
    put(&service, "spared", at(-100)).await;
    put(&service, "spared", at(1000)).await;
    assert_eq!(left(&service).await, ["ancient", "later", "spared", "text"]);
    // A time that is over, written after a look for such.
    put(&service, "spared", at(-50)).await;
    assert_eq!(left(&service).await, ["ancient", "later", "text"]);
    let described = service.ok("DescribeTimeToLive", json!({"TableName": "things"})).await;
    assert_eq!(
        described["TimeToLiveDescription"],
        json!({"TimeToLiveStatus": "ENABLED", "AttributeName": "ends"})
    );
    let again =
        json!({"TableName": "things", "TimeToLiveSpecification": {"Enabled": true, "AttributeName": "ends"}});
    service.invalid("UpdateTimeToLive", again, "TimeToLive is already enabled").await;
    enable(&service, false).await;
    put(&service, "over", at(-100)).await;
    assert_eq!(left(&service).await, ["ancient", "later", "over", "text"]);
    enable(&service, true).await;
    assert_eq!(left(&service).await, ["ancient", "later", "text"]);
}

#[tokio::test]
async fn streams_say_who_removed_an_expired_item() {
    let service = Service::new();
    service.simple_table("things").await;
    enable(&service, true).await;
    let on = json!({"TableName": "things", "StreamSpecification": {"StreamEnabled": true, "StreamViewType": "OLD_IMAGE"}});
    let changed = service.ok("UpdateTable", on).await;
    let arn = &changed["TableDescription"]["LatestStreamArn"];
    put(&service, "over", json!({"N": (now() - 10).to_string()})).await;
    assert!(left(&service).await.is_empty());
    let stream = service.ok("DescribeStream", json!({"StreamArn": arn})).await;
    let shard = &stream["StreamDescription"]["Shards"][0]["ShardId"];
    let request = json!({"StreamArn": arn, "ShardId": shard, "ShardIteratorType": "TRIM_HORIZON"});
    let at = service.ok("GetShardIterator", request).await;
    let records = service.ok("GetRecords", json!({"ShardIterator": at["ShardIterator"]})).await;
    let removed = &records["Records"][1];
    assert_eq!(removed["eventName"], "REMOVE");
    assert_eq!(removed["userIdentity"], json!({"Type": "Service", "PrincipalId": "dynamodb.amazonaws.com"}));
}
