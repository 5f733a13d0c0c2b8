//! Streams: what they record, how they are read, how they end.

use serde_json::{Value, json};

use crate::support::Service;

async fn table(service: &Service, view: &str) -> String {
    let created = service
        .ok(
            "CreateTable",
            json!({
                "TableName": "things",
                "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
                "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
                "BillingMode": "PAY_PER_REQUEST",
                "StreamSpecification": {"StreamEnabled": true, "StreamViewType": view},
            }),
        )
        .await;
    let table = &created["TableDescription"];
    assert_eq!(table["StreamSpecification"], json!({"StreamEnabled": true, "StreamViewType": view}));
    table["LatestStreamArn"].as_str().unwrap().to_owned()
}

async fn iterator(service: &Service, arn: &str, kind: &str, number: Option<&str>) -> Value {
    let stream = service.ok("DescribeStream", json!({"StreamArn": arn})).await;
    let shard = &stream["StreamDescription"]["Shards"][0]["ShardId"];
    let mut request = json!({"StreamArn": arn, "ShardId": shard, "ShardIteratorType": kind});
    if let Some(number) = number {
        request["SequenceNumber"] = json!(number);
    }
    service.ok("GetShardIterator", request).await["ShardIterator"].take()
}

async fn records(service: &Service, arn: &str) -> Vec<Value> {
    let at = iterator(service, arn, "TRIM_HORIZON", None).await;
    let answer = service.ok("GetRecords", json!({"ShardIterator": at})).await;
    answer["Records"].as_array().unwrap().clone()
}

#[tokio::test]
async fn a_stream_has_exactly_the_changes_in_order() {
    let service = Service::new();
    let arn = table(&service, "NEW_AND_OLD_IMAGES").await;
    let thing = |v: u32| json!({"id": {"S": "a"}, "v": {"N": v.to_string()}});
    service.put("things", thing(1)).await;
    // Changes nothing: no record.
    service.put("things", thing(1)).await;
    service.ok("DeleteItem", json!({"TableName": "things", "Key": {"id": {"S": "nothing"}}})).await;
    service
        .ok(
            "UpdateItem",
            json!({
                "TableName": "things", "Key": {"id": {"S": "a"}}, "UpdateExpression": "SET v = :v",
                "ExpressionAttributeValues": {":v": {"N": "2"}},
            }),
        )
        .await;
    service
        .ok(
            "TransactWriteItems",
            json!({"TransactItems": [
                {"Put": {"TableName": "things", "Item": {"id": {"S": "b"}}}},
                {"Delete": {"TableName": "things", "Key": {"id": {"S": "a"}}}},
            ]}),
        )
        .await;
    let records = records(&service, &arn).await;
    let names: Vec<_> = records.iter().map(|r| r["eventName"].as_str().unwrap()).collect();
    assert_eq!(names, ["INSERT", "MODIFY", "INSERT", "REMOVE"]);
    let change = &records[1]["dynamodb"];
    assert_eq!((&change["OldImage"], &change["NewImage"]), (&thing(1), &thing(2)));
    assert_eq!(change["Keys"], json!({"id": {"S": "a"}}));
    assert_eq!(change["StreamViewType"], "NEW_AND_OLD_IMAGES");
    // id + a, and twice id + a, v + 2.
    assert_eq!(change["SizeBytes"], 3 + 2 * 6);
    assert!(records[0]["dynamodb"].get("OldImage").is_none());
    assert!(records[3]["dynamodb"].get("NewImage").is_none());
    assert!(records[0].get("userIdentity").is_none());
    let numbers: Vec<_> =
        records.iter().map(|r| r["dynamodb"]["SequenceNumber"].as_str().unwrap().to_owned()).collect();
    assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "{numbers:?}");
    let mut ids: Vec<_> = records.iter().map(|r| r["eventID"].as_str().unwrap()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 4);

    for (kind, number, count) in [
        ("AT_SEQUENCE_NUMBER", Some(&*numbers[1]), 3),
        ("AFTER_SEQUENCE_NUMBER", Some(&*numbers[1]), 2),
        ("LATEST", None, 0),
    ] {
        let at = iterator(&service, &arn, kind, number).await;
        let answer = service.ok("GetRecords", json!({"ShardIterator": at})).await;
        assert_eq!(answer["Records"].as_array().unwrap().len(), count, "{kind}");
        assert!(answer["NextShardIterator"].is_string());
    }
    let described = service.ok("DescribeStream", json!({"StreamArn": arn})).await;
    let shard = described["StreamDescription"]["Shards"][0]["ShardId"].clone();
    for kind in ["LATEST", "TRIM_HORIZON"] {
        let asked = json!({
            "StreamArn": arn, "ShardId": shard, "ShardIteratorType": kind, "SequenceNumber": numbers[1],
        });
        let message = format!("SequenceNumber can not be given with ShardIteratorType {kind}");
        service.invalid("GetShardIterator", asked, &message).await;
    }
    for (filter, at) in [
        (json!({"ShardId": shard}), "shardFilter.type"),
        (json!({"Type": "CHILD_SHARDS"}), "shardFilter.shardId"),
        (json!({"Type": "CHILD_SHARDS", "ShardId": "qwerty"}), "shardFilter.shardId"),
    ] {
        let error = service.error("DescribeStream", json!({"StreamArn": arn, "ShardFilter": filter})).await;
        assert!(error.code == "ValidationException" && error.message.contains(at), "{error}");
    }
    // In pages, and on from the end.
    let mut at = iterator(&service, &arn, "TRIM_HORIZON", None).await;
    let mut seen = Vec::new();
    for _ in 0..3 {
        let answer = service.ok("GetRecords", json!({"ShardIterator": at, "Limit": 3})).await;
        seen.extend(answer["Records"].as_array().unwrap().iter().map(|r| r["eventName"].clone()));
        at = answer["NextShardIterator"].clone();
    }
    assert_eq!(seen.len(), 4);
    service.put("things", thing(9)).await;
    let answer = service.ok("GetRecords", json!({"ShardIterator": at})).await;
    assert_eq!(answer["Records"][0]["dynamodb"]["NewImage"], thing(9));
}

#[tokio::test]
async fn views_show_what_they_say() {
    for (view, new, old) in [
        ("KEYS_ONLY", false, false),
        ("NEW_IMAGE", true, false),
        ("OLD_IMAGE", false, true),
        ("NEW_AND_OLD_IMAGES", true, true),
    ] {
        let service = Service::new();
        let arn = table(&service, view).await;
        service.put("things", json!({"id": {"S": "a"}, "v": {"N": "1"}})).await;
        service.put("things", json!({"id": {"S": "a"}, "v": {"N": "2"}})).await;
        let records = records(&service, &arn).await;
        let change = &records[1]["dynamodb"];
        assert_eq!(change["Keys"], json!({"id": {"S": "a"}}), "{view}");
        assert_eq!(
            (change.get("NewImage").is_some(), change.get("OldImage").is_some()),
            (new, old),
            "{view}"
        );
    }
}

#[tokio::test]
async fn a_stream_outlives_its_table() {
    let service = Service::new();
    let arn = table(&service, "NEW_IMAGE").await;
    service.put("things", json!({"id": {"S": "a"}})).await;
    let on = json!({"TableName": "things", "StreamSpecification": {"StreamEnabled": true, "StreamViewType": "KEYS_ONLY"}});
    service
        .invalid("UpdateTable", on.clone(), "Table already has an enabled stream: TableName: things")
        .await;
    let off = json!({"TableName": "things", "StreamSpecification": {"StreamEnabled": false}});
    let changed = service.ok("UpdateTable", off).await;
    assert!(changed["TableDescription"].get("StreamSpecification").is_none());
    assert_eq!(changed["TableDescription"]["LatestStreamArn"], json!(arn));
    service.put("things", json!({"id": {"S": "unseen"}})).await;
    let stream = service.ok("DescribeStream", json!({"StreamArn": arn})).await;
    assert_eq!(stream["StreamDescription"]["StreamStatus"], "DISABLED");
    let range = &stream["StreamDescription"]["Shards"][0]["SequenceNumberRange"];
    assert!(range["EndingSequenceNumber"].as_str() > range["StartingSequenceNumber"].as_str());

    // Labels have milliseconds.
    let second = loop {
        let changed = service.ok("UpdateTable", on.clone()).await;
        let second = changed["TableDescription"]["LatestStreamArn"].as_str().unwrap().to_owned();
        if second != arn {
            break second;
        }
    };
    service.put("things", json!({"id": {"S": "b"}})).await;
    service.ok("DeleteTable", json!({"TableName": "things"})).await;
    let at = iterator(&service, &arn, "TRIM_HORIZON", None).await;
    let answer = service.ok("GetRecords", json!({"ShardIterator": at})).await;
    assert_eq!(answer["Records"].as_array().unwrap().len(), 1);
    assert!(answer.get("NextShardIterator").is_none());
    assert_eq!(records(&service, &second).await.len(), 1);

    let listed = service.ok("ListStreams", json!({"TableName": "things", "Limit": 1})).await;
    assert_eq!(listed["Streams"][0]["StreamArn"], json!(arn));
    let rest = json!({"ExclusiveStartStreamArn": listed["LastEvaluatedStreamArn"]});
    assert_eq!(service.ok("ListStreams", rest).await["Streams"][0]["StreamArn"], json!(second));
    let missing = arn.replace("things", "nothing");
    let error = service.error("DescribeStream", json!({"StreamArn": missing})).await;
    assert_eq!((&*error.code, error.status), ("ResourceNotFoundException", 400));
    let error = service.error("GetRecords", json!({"ShardIterator": "nonsense"})).await;
    assert_eq!(error.code, "ValidationException");
}
