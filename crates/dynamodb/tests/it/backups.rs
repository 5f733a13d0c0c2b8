//! Backups, recovery to a point in time, restoring.

use serde_json::{Value, json};
use store::key::{KeyWriter, prefix_end};
use store::{Range, TableId, tables};
use types::{AccountId, SystemEnv};

use crate::support::Service;

async fn rows(service: &Service, table: TableId) -> usize {
    let start = KeyWriter::new(AccountId::DEFAULT, table).finish();
    let end = prefix_end(&start);
    let range = Range { start, end, limit: 10_000, limit_bytes: usize::MAX, reverse: false };
    service.store.scan(range).await.unwrap().entries.len()
}

async fn put(service: &Service, id: &str, v: u32) {
    service.put("things", json!({"id": {"S": id}, "v": {"N": v.to_string()}})).await;
}

async fn delete(service: &Service, id: &str) {
    service.ok("DeleteItem", json!({"TableName": "things", "Key": {"id": {"S": id}}})).await;
}

async fn items(service: &Service, table: &str) -> Vec<(String, String)> {
    let found = service.ok("Scan", json!({"TableName": table})).await;
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let mut items: Vec<_> = found["Items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| (text(&item["id"]["S"]), text(&item["v"]["N"])))
        .collect();
    items.sort();
    items
}

fn expected(items: &[(&str, &str)]) -> Vec<(String, String)> {
    items.iter().map(|(id, v)| ((*id).to_owned(), (*v).to_owned())).collect()
}

#[tokio::test]
async fn a_backup_is_the_table_as_of_its_commit() {
    let service = Service::new();
    service.simple_table("things").await;
    for (id, v) in [("kept", 1), ("changed", 1), ("deleted", 1), ("back", 1)] {
        put(&service, id, v).await;
    }
    let made = service.ok("CreateBackup", json!({"TableName": "things", "BackupName": "first"})).await;
    let arn = made["BackupDetails"]["BackupArn"].clone();
    assert_eq!(made["BackupDetails"]["BackupStatus"], "AVAILABLE");
    for (id, v) in [("changed", 2), ("changed", 3), ("new", 1)] {
        put(&service, id, v).await;
    }
    delete(&service, "deleted").await;
    delete(&service, "back").await;
    put(&service, "back", 9).await;
    // What the backup shows is kept once, whatever happens later.
    assert_eq!(rows(&service, tables::DDB_HISTORY).await, 3);
    let second = service.ok("CreateBackup", json!({"TableName": "things", "BackupName": "second"})).await;
    let listed = service.ok("ListBackups", json!({"TableName": "things"})).await;
    assert_eq!(listed["BackupSummaries"].as_array().unwrap().len(), 2);
    let described = service.ok("DescribeBackup", json!({"BackupArn": arn})).await;
    assert_eq!(described["BackupDescription"]["SourceTableDetails"]["ItemCount"], 4);

    // The table can go; its backups stay.
    service.ok("DeleteTable", json!({"TableName": "things"})).await;
    service.api.sweeper().sweep().await.unwrap();
    let restore = |backup: &Value, target: &str| json!({"BackupArn": backup, "TargetTableName": target});
    let restored = service.ok("RestoreTableFromBackup", restore(&arn, "old")).await;
    assert_eq!(restored["TableDescription"]["TableStatus"], "CREATING");
    assert_eq!(service.error("Scan", json!({"TableName": "old"})).await.code, "ResourceNotFoundException");
    let error = service.error("DeleteBackup", json!({"BackupArn": arn})).await;
    assert_eq!(error.code, "BackupInUseException");
    service.ok("RestoreTableFromBackup", restore(&second["BackupDetails"]["BackupArn"], "newer")).await;
    service.api.sweeper().sweep().await.unwrap();
    assert_eq!(
        items(&service, "old").await,
        expected(&[("back", "1"), ("changed", "1"), ("deleted", "1"), ("kept", "1")])
    );
    assert_eq!(
        items(&service, "newer").await,
        expected(&[("back", "9"), ("changed", "3"), ("kept", "1"), ("new", "1")])
    );
    let described = service.ok("DescribeTable", json!({"TableName": "old"})).await;
    assert_eq!(described["Table"]["RestoreSummary"]["RestoreInProgress"], false);
    let error = service.error("RestoreTableFromBackup", restore(&arn, "old")).await;
    assert_eq!(error.code, "TableAlreadyExistsException");

    for name in ["old", "newer"] {
        service.ok("DeleteTable", json!({"TableName": name})).await;
    }
    let gone = service.ok("DeleteBackup", json!({"BackupArn": arn})).await;
    assert_eq!(gone["BackupDescription"]["BackupDetails"]["BackupStatus"], "DELETED");
    service.ok("DeleteBackup", json!({"BackupArn": second["BackupDetails"]["BackupArn"]})).await;
    service.api.sweeper().sweep().await.unwrap();
    assert_eq!((rows(&service, tables::DDB_ITEMS).await, rows(&service, tables::DDB_HISTORY).await), (0, 0));
    assert_eq!(
        service.error("DescribeBackup", json!({"BackupArn": arn})).await.code,
        "BackupNotFoundException"
    );
}

#[tokio::test]
async fn a_table_is_restored_to_any_moment() {
    let service = Service::new();
    service.simple_table("things").await;
    put(&service, "before", 0).await;
    let to = |target: &str, more: Value| {
        let mut request = json!({"SourceTableName": "things", "TargetTableName": target});
        request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        request
    };
    let error = service
        .error("RestoreTableToPointInTime", to("early", json!({"UseLatestRestorableTime": true})))
        .await;
    assert_eq!(error.code, "PointInTimeRecoveryUnavailableException");
    let on = json!({"TableName": "things", "PointInTimeRecoverySpecification": {"PointInTimeRecoveryEnabled": true}});
    let described = service.ok("UpdateContinuousBackups", on).await;
    let recovery = &described["ContinuousBackupsDescription"]["PointInTimeRecoveryDescription"];
    assert_eq!(recovery["PointInTimeRecoveryStatus"], "ENABLED");
    let mut moments = Vec::new();
    for v in 1..6 {
        put(&service, "counted", v).await;
        put(&service, &format!("item{v}"), v).await;
        if v == 4 {
            delete(&service, "item1").await;
        }
        let env = SystemEnv::new();
        let at = env.now();
        moments.push((v, at.as_millisecond() as f64 / 1000.0));
        // The next change is later, in milliseconds.
        while env.now().as_millisecond() <= at.as_millisecond() {
            tokio::task::yield_now().await;
        }
    }
    for (v, at) in &moments {
        let target = format!("at{v}");
        service.ok("RestoreTableToPointInTime", to(&target, json!({"RestoreDateTime": at}))).await;
        service.api.sweeper().sweep().await.unwrap();
        let mut there = vec![("before".to_owned(), "0".to_owned()), ("counted".to_owned(), v.to_string())];
        there.extend((1..=*v).filter(|n| *v < 4 || *n != 1).map(|n| (format!("item{n}"), n.to_string())));
        assert_eq!(items(&service, &target).await, there, "{v}");
    }
    service.ok("RestoreTableToPointInTime", to("latest", json!({"UseLatestRestorableTime": true}))).await;
    service.api.sweeper().sweep().await.unwrap();
    assert_eq!(items(&service, "latest").await, items(&service, "things").await);
    let error = service
        .error("RestoreTableToPointInTime", to("never", json!({"RestoreDateTime": 1_000_000_000})))
        .await;
    assert_eq!(error.code, "InvalidRestoreTimeException");
    let off = json!({"TableName": "things", "PointInTimeRecoverySpecification": {"PointInTimeRecoveryEnabled": false}});
    service.ok("UpdateContinuousBackups", off).await;
    service.api.sweeper().sweep().await.unwrap();
    assert_eq!(rows(&service, tables::DDB_HISTORY).await, 0);
}

#[tokio::test]
async fn a_table_is_restored_with_the_indexes_that_are_named() {
    let service = Service::new();
    let named = |names: &[&str]| {
        let kinds = ["HASH", "RANGE"].iter().zip(names);
        kinds.map(|(kind, name)| json!({"AttributeName": name, "KeyType": kind})).collect::<Vec<_>>()
    };
    let index = |name: &str, keys: &[&str], projection: Value| json!({"IndexName": name, "KeySchema": named(keys), "Projection": projection});
    let included = |names: [&str; 2]| json!({"ProjectionType": "INCLUDE", "NonKeyAttributes": names});
    let (all, keys) = (json!({"ProjectionType": "ALL"}), json!({"ProjectionType": "KEYS_ONLY"}));
    let defined = ["p", "s", "a", "b"].map(|name| json!({"AttributeName": name, "AttributeType": "S"}));
    service
        .ok(
            "CreateTable",
            json!({
                "TableName": "things", "BillingMode": "PAY_PER_REQUEST", "AttributeDefinitions": defined,
                "KeySchema": named(&["p", "s"]),
                "GlobalSecondaryIndexes": [
                    index("by-a", &["a"], included(["x", "y"])), index("by-b", &["b", "a"], all.clone()),
                ],
                "LocalSecondaryIndexes": [index("local", &["p", "b"], keys.clone())],
            }),
        )
        .await;
    let item = json!({"p": {"S": "1"}, "s": {"S": "2"}, "a": {"S": "3"}, "b": {"S": "4"}, "x": {"S": "5"}});
    service.put("things", item).await;
    let made = service.ok("CreateBackup", json!({"TableName": "things", "BackupName": "made"})).await;
    let arn = made["BackupDetails"]["BackupArn"].clone();
    let restore = |target: &str, global: Value, local: Value| {
        json!({
            "BackupArn": arn, "TargetTableName": target, "GlobalSecondaryIndexOverride": global,
            "LocalSecondaryIndexOverride": local,
        })
    };
    for (global, reason) in [
        (vec![index("by-a", &["a"], all.clone())], "does not match"),
        (vec![index("by-a", &["b"], included(["x", "y"]))], "does not match"),
        (vec![index("local", &["p", "b"], keys)], "does not match"),
        (
            vec![index("by-b", &["b", "a"], all.clone()), index("by-b", &["b", "a"], all)],
            "Duplicate index name",
        ),
    ] {
        let error = service.error("RestoreTableFromBackup", restore("none", json!(global), json!([]))).await;
        assert!(error.code == "ValidationException" && error.message.contains(reason), "{error}");
    }

    // In another order, the attributes that it includes are the same.
    let kept = vec![index("by-a", &["a"], included(["y", "x"]))];
    service.ok("RestoreTableFromBackup", restore("some", json!(kept), json!([]))).await;
    service.api.sweeper().sweep().await.unwrap();
    let table = &service.ok("DescribeTable", json!({"TableName": "some"})).await["Table"];
    assert_eq!(table["TableStatus"], "ACTIVE");
    assert_eq!(table["GlobalSecondaryIndexes"].as_array().unwrap().len(), 1);
    assert_eq!(table["GlobalSecondaryIndexes"][0]["IndexName"], "by-a");
    assert_eq!(table["LocalSecondaryIndexes"], Value::Null);
    let names: Vec<_> =
        table["AttributeDefinitions"].as_array().unwrap().iter().map(|d| &d["AttributeName"]).collect();
    assert_eq!(names, ["p", "s", "a"]);
    let query = json!({
        "TableName": "some", "IndexName": "by-a", "KeyConditionExpression": "a = :a",
        "ExpressionAttributeValues": {":a": {"S": "3"}},
    });
    assert_eq!(service.ok("Query", query).await["Items"][0]["x"], json!({"S": "5"}));
}
