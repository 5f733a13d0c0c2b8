//! Exports and imports, between the service and a bucket.

use std::collections::BTreeMap;
use std::io::{Read, Write};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use types::Env;

use crate::support::Service;

/// A service that exports and imports until the token is cancelled.
fn transferring(service: &Service) -> CancellationToken {
    let stop = CancellationToken::new();
    tokio::spawn(service.api.transfers().run(stop.clone()));
    stop
}

async fn recoverable(service: &Service, name: &str) -> String {
    service.simple_table(name).await;
    let specification = json!({"PointInTimeRecoveryEnabled": true});
    let update = json!({"TableName": name, "PointInTimeRecoverySpecification": specification});
    service.ok("UpdateContinuousBackups", update).await;
    format!("arn:aws:dynamodb:us-east-1:000000000000:table/{name}")
}

async fn settled(
    service: &Service,
    operation: &str,
    arn: (&str, &Value),
    member: &str,
    status: &str,
) -> Value {
    for _ in 0..20_000 {
        let description = service.ok(operation, json!({arn.0: arn.1})).await[member].take();
        if description[status] != "IN_PROGRESS" {
            return description;
        }
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    panic!("it does not end");
}

async fn exported(service: &Service, export: &Value) -> Value {
    let arn = ("ExportArn", &export["ExportDescription"]["ExportArn"]);
    settled(service, "DescribeExport", arn, "ExportDescription", "ExportStatus").await
}

async fn imported(service: &Service, import: &Value) -> Value {
    let arn = ("ImportArn", &import["ImportTableDescription"]["ImportArn"]);
    settled(service, "DescribeImport", arn, "ImportTableDescription", "ImportStatus").await
}

fn object(service: &Service, key: &str) -> Vec<u8> {
    service.buckets.objects.lock().unwrap()[key].to_vec()
}

/// The items of an export, by id.
fn items(service: &Service, description: &Value) -> BTreeMap<String, Value> {
    let summary = object(service, description["ExportManifest"].as_str().unwrap());
    let summary: Value = serde_json::from_slice(&summary).unwrap();
    let files = object(service, summary["manifestFilesS3Key"].as_str().unwrap());
    let mut items = BTreeMap::new();
    let mut count = 0;
    for line in files.split(|&b| b == b'\n').filter(|line| !line.is_empty()) {
        let file: Value = serde_json::from_slice(line).unwrap();
        let packed = object(service, file["dataFileS3Key"].as_str().unwrap());
        let mut text = String::new();
        GzDecoder::new(&packed[..]).read_to_string(&mut text).unwrap();
        assert_eq!(text.lines().count() as u64, file["itemCount"].as_u64().unwrap());
        for line in text.lines() {
            let mut line: Value = serde_json::from_str(line).unwrap();
            let item = line["Item"].take();
            let before = items.insert(item["id"]["S"].as_str().unwrap().to_owned(), item);
            assert!(before.is_none(), "an item is exported once");
            count += 1;
        }
    }
    assert_eq!(description["ItemCount"], count);
    assert_eq!(summary["itemCount"], count);
    items
}

#[tokio::test]
async fn an_export_is_the_table_as_it_was() {
    let service = Service::new();
    let arn = recoverable(&service, "things").await;
    for n in 0..300 {
        service.put("things", json!({"id": {"S": n.to_string()}, "v": {"N": "1"}})).await;
    }
    let request = json!({"TableArn": arn, "S3Bucket": "bucket", "S3Prefix": "exports/", "ClientToken": "t"});
    let export = service.ok("ExportTableToPointInTime", request.clone()).await;
    let description = &export["ExportDescription"];
    assert_eq!(description["ExportStatus"], "IN_PROGRESS");
    // What comes after it is not in it.
    for n in (0..300).step_by(3) {
        service.put("things", json!({"id": {"S": n.to_string()}, "v": {"N": "2"}})).await;
        service
            .ok("DeleteItem", json!({"TableName": "things", "Key": {"id": {"S": (n + 1).to_string()}}}))
            .await;
        service.put("things", json!({"id": {"S": format!("new-{n}")}})).await;
    }
    let stop = transferring(&service);
    let done = exported(&service, &export).await;
    assert_eq!(done["ExportStatus"], "COMPLETED", "{done}");
    let found = items(&service, &done);
    assert_eq!(found.len(), 300);
    assert!(found.values().all(|item| item["v"] == json!({"N": "1"})));
    assert!(done["BilledSizeBytes"].as_u64().unwrap() > 300);
    // The same request is the same export.
    let again = service.ok("ExportTableToPointInTime", request).await;
    assert_eq!(again["ExportDescription"], done);
    let other = json!({"TableArn": arn, "S3Bucket": "bucket", "ClientToken": "t"});
    assert_eq!(service.error("ExportTableToPointInTime", other).await.code, "ExportConflictException");
    let listed = service.ok("ListExports", json!({"TableArn": arn})).await;
    assert_eq!(
        listed["ExportSummaries"],
        json!([{"ExportArn": done["ExportArn"], "ExportStatus": "COMPLETED", "ExportType": "FULL_EXPORT"}])
    );
    stop.cancel();
}

#[tokio::test]
async fn an_export_while_the_table_changes_has_each_item_once() {
    let service = std::sync::Arc::new(Service::new());
    let arn = recoverable(&service, "things").await;
    let big = "x".repeat(20_000);
    for n in 0..500 {
        service.put("things", json!({"id": {"S": n.to_string()}, "v": {"N": "1"}, "big": {"S": big}})).await;
    }
    let export = service.ok("ExportTableToPointInTime", json!({"TableArn": arn, "S3Bucket": "bucket"})).await;
    let stop = transferring(&service);
    let mut n = 0;
    let done = loop {
        let arn = json!({"ExportArn": export["ExportDescription"]["ExportArn"]});
        let description = service.ok("DescribeExport", arn).await["ExportDescription"].take();
        if description["ExportStatus"] != "IN_PROGRESS" {
            break description;
        }
        service.put("things", json!({"id": {"S": (n * 7 % 500).to_string()}, "v": {"N": "2"}})).await;
        n += 1;
        tokio::task::yield_now().await;
    };
    assert_eq!(done["ExportStatus"], "COMPLETED", "{done}");
    let found = items(&service, &done);
    assert_eq!(found.len(), 500);
    assert!(found.values().all(|item| item["v"] == json!({"N": "1"})));
    stop.cancel();
}

#[tokio::test]
async fn an_export_can_be_as_of_a_time() {
    let service = Service::new();
    let arn = recoverable(&service, "things").await;
    service.put("things", json!({"id": {"S": "a"}})).await;
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    let at = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    service.put("things", json!({"id": {"S": "b"}})).await;
    let request = json!({"TableArn": arn, "S3Bucket": "bucket", "ExportTime": at});
    let export = service.ok("ExportTableToPointInTime", request).await;
    let stop = transferring(&service);
    let done = exported(&service, &export).await;
    assert_eq!(items(&service, &done).into_keys().collect::<Vec<_>>(), ["a"]);
    stop.cancel();
    let future = json!({"TableArn": arn, "S3Bucket": "bucket", "ExportTime": at + 1000.0});
    assert_eq!(service.error("ExportTableToPointInTime", future).await.code, "InvalidExportTimeException");
}

async fn now(service: &Service) -> f64 {
    // Changes before and after are of other milliseconds.
    tokio::time::sleep(std::time::Duration::from_millis(3)).await;
    let at = service.clock.now();
    tokio::time::sleep(std::time::Duration::from_millis(3)).await;
    at.as_millisecond() as f64 / 1000.0
}

#[tokio::test]
async fn an_incremental_export_has_what_changed_once() {
    let service = Service::new();
    let arn = recoverable(&service, "things").await;
    let put = async |id: &str, v: u32| {
        service.put("things", json!({"id": {"S": id}, "v": {"N": v.to_string()}})).await;
    };
    let delete = async |id: &str| {
        service.ok("DeleteItem", json!({"TableName": "things", "Key": {"id": {"S": id}}})).await;
    };
    for id in ["same", "changed", "twice", "deleted", "back", "later"] {
        put(id, 1).await;
    }
    for n in 0..300 {
        put(&format!("many-{n}"), 1).await;
    }
    let from = now(&service).await;
    put("changed", 2).await;
    put("twice", 2).await;
    put("twice", 3).await;
    put("made", 1).await;
    put("fleeting", 1).await;
    delete("fleeting").await;
    delete("deleted").await;
    put("back", 2).await;
    put("back", 1).await;
    for n in 0..300 {
        put(&format!("many-{n}"), 2).await;
    }
    service.clock.skip_seconds(16 * 60);
    let to = now(&service).await;
    put("changed", 9).await;
    put("later", 9).await;
    put("after", 9).await;
    delete("made").await;
    put("deleted", 9).await;
    // A quarter of an hour at least, a day at most.
    let span = |from: f64, to: f64| {
        json!({
            "TableArn": arn, "S3Bucket": "bucket", "ExportType": "INCREMENTAL_EXPORT",
            "IncrementalExportSpecification": {"ExportFromTime": from, "ExportToTime": to},
        })
    };
    for (from, to) in [(from + 120.0, to), (from, from + 60.0), (to - 90_000.0, to)] {
        let error = service.error("ExportTableToPointInTime", span(from, to)).await;
        assert_eq!(error.code, "InvalidExportTimeException");
    }
    let request = span(from, to);
    let export = service.ok("ExportTableToPointInTime", request).await;
    let stop = transferring(&service);
    put("twice", 9).await;
    let done = exported(&service, &export).await;
    stop.cancel();
    assert_eq!(done["ExportStatus"], "COMPLETED", "{done}");
    assert_eq!(done["ExportType"], "INCREMENTAL_EXPORT");
    assert_eq!(done["IncrementalExportSpecification"]["ExportViewType"], "NEW_AND_OLD_IMAGES");
    let summary = object(&service, done["ExportManifest"].as_str().unwrap());
    let summary: Value = serde_json::from_slice(&summary).unwrap();
    assert_eq!(summary["outputView"], "NEW_AND_OLD_IMAGES");
    let files = object(&service, summary["manifestFilesS3Key"].as_str().unwrap());
    let mut found = BTreeMap::new();
    for line in files.split(|&b| b == b'\n').filter(|line| !line.is_empty()) {
        let file: Value = serde_json::from_slice(line).unwrap();
        let key = file["dataFileS3Key"].as_str().unwrap();
        assert!(key.starts_with("AWSDynamoDB/data/"), "{key}");
        let mut text = String::new();
        GzDecoder::new(&object(&service, key)[..]).read_to_string(&mut text).unwrap();
        for line in text.lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            assert!(line["Metadata"]["WriteTimestampMicros"]["N"].is_string());
            let image = |name: &str| line[name]["v"]["N"].as_str().map(|v| v.parse::<u32>().unwrap());
            let id = line["Keys"]["id"]["S"].as_str().unwrap().to_owned();
            assert_eq!(found.insert(id, (image("OldImage"), image("NewImage"))), None);
        }
    }
    let many = found.extract_if(.., |id, _| id.starts_with("many-"));
    assert!(many.map(|(_, images)| images).collect::<Vec<_>>() == vec![(Some(1), Some(2)); 300]);
    let expected = [
        ("changed", (Some(1), Some(2))),
        ("deleted", (Some(1), None)),
        ("made", (None, Some(1))),
        ("twice", (Some(1), Some(3))),
    ];
    assert_eq!(found, expected.map(|(id, images)| (id.to_owned(), images)).into());
}

#[tokio::test]
async fn exports_that_can_not_be_are_refused() {
    let service = Service::new();
    let arn = recoverable(&service, "things").await;
    service.simple_table("plain").await;
    let refuse = async |change: Value, code: &str| {
        let mut request = json!({"TableArn": arn, "S3Bucket": "bucket"});
        for (name, value) in change.as_object().unwrap() {
            request[name] = value.clone();
        }
        let error = service.error("ExportTableToPointInTime", request).await;
        assert_eq!(error.code, code, "{change}: {error}");
    };
    refuse(json!({"TableArn": format!("{arn}-absent")}), "TableNotFoundException").await;
    refuse(json!({"TableArn": arn.replace("things", "plain")}), "PointInTimeRecoveryUnavailableException")
        .await;
    refuse(json!({"S3Bucket": "absent"}), "ValidationException").await;
    refuse(json!({"ExportFormat": "ION"}), "ValidationException").await;
    refuse(json!({"ExportType": "INCREMENTAL_EXPORT"}), "ValidationException").await;
    refuse(json!({"IncrementalExportSpecification": {"ExportFromTime": 1.0}}), "ValidationException").await;
    let span = json!({"ExportFromTime": 1.0});
    let early = json!({"ExportType": "INCREMENTAL_EXPORT", "IncrementalExportSpecification": span});
    refuse(early, "InvalidExportTimeException").await;
    refuse(json!({"S3SseKmsKeyId": "k"}), "ValidationException").await;
    refuse(json!({"S3BucketOwner": "111122223333"}), "ValidationException").await;
    let missing = json!({"ExportArn": format!("{arn}/export/01700000000000-abcdefgh")});
    assert_eq!(service.error("DescribeExport", missing).await.code, "ExportNotFoundException");
    // Without its history a table as it was can not be told.
    let export = service.ok("ExportTableToPointInTime", json!({"TableArn": arn, "S3Bucket": "bucket"})).await;
    let off = json!({"PointInTimeRecoveryEnabled": false});
    let off = json!({"TableName": "things", "PointInTimeRecoverySpecification": off});
    service.ok("UpdateContinuousBackups", off).await;
    let stop = transferring(&service);
    let failed = exported(&service, &export).await;
    assert_eq!(
        (&failed["ExportStatus"], &failed["FailureCode"]),
        (&json!("FAILED"), &json!("TableNotRecoverable"))
    );
    stop.cancel();
}

fn put_object(service: &Service, key: &str, body: impl Into<Vec<u8>>) {
    service.buckets.objects.lock().unwrap().insert(key.to_owned(), body.into().into());
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

fn import_of(format: &str, name: &str) -> Value {
    json!({
        "S3BucketSource": {"S3Bucket": "bucket", "S3KeyPrefix": "in/"},
        "InputFormat": format,
        "TableCreationParameters": {
            "TableName": name,
            "AttributeDefinitions": [
                {"AttributeName": "id", "AttributeType": "S"}, {"AttributeName": "n", "AttributeType": "N"},
            ],
            "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
            "BillingMode": "PAY_PER_REQUEST",
            "GlobalSecondaryIndexes": [{
                "IndexName": "by-n",
                "KeySchema": [{"AttributeName": "n", "KeyType": "HASH"}],
                "Projection": {"ProjectionType": "ALL"},
            }],
        },
    })
}

#[tokio::test]
async fn what_was_exported_can_be_imported() {
    let service = Service::new();
    let line =
        |id: &str, n: u32| format!("{}\n", json!({"Item": {"id": {"S": id}, "n": {"N": n.to_string()}}}));
    let first: String = (0..500).map(|n| line(&format!("a{n}"), n % 10)).collect();
    put_object(&service, "in/1.json.gz", gzip(&first));
    // Two members, an item that is none, one that is there already, and no newline at the end.
    let second = [gzip(&line("b", 1)), gzip(&format!("{{}}\n{}", line("a0", 77).trim_end()))].concat();
    put_object(&service, "in/2.json.gz", second);
    put_object(&service, "in/3-empty", "");
    put_object(&service, "other/4.json.gz", gzip(&line("other", 1)));
    let mut request = import_of("DYNAMODB_JSON", "things");
    request["InputCompressionType"] = "GZIP".into();
    request["ClientToken"] = "t".into();
    let import = service.ok("ImportTable", request.clone()).await;
    assert_eq!(import["ImportTableDescription"]["ImportStatus"], "IN_PROGRESS");
    // Until it is whole, it is there and can not be used.
    let table = service.ok("DescribeTable", json!({"TableName": "things"})).await;
    assert_eq!(table["Table"]["TableStatus"], "CREATING");
    let scan = json!({"TableName": "things"});
    assert_eq!(service.error("Scan", scan.clone()).await.code, "ResourceNotFoundException");
    assert_eq!(service.error("DeleteTable", scan.clone()).await.code, "ResourceInUseException");

    let stop = transferring(&service);
    let done = imported(&service, &import).await;
    assert_eq!(done["ImportStatus"], "FAILED", "{done}");
    for (name, value) in [("ProcessedItemCount", 503), ("ImportedItemCount", 502), ("ErrorCount", 1)] {
        assert_eq!(done[name], value, "{done}");
    }
    assert_eq!(done["FailureCode"], "ItemValidationError");
    let all = service.ok("Scan", scan).await;
    assert_eq!(all["Count"], 501);
    let query = json!({
        "TableName": "things", "IndexName": "by-n", "KeyConditionExpression": "n = :n",
        "ExpressionAttributeValues": {":n": {"N": "77"}},
    });
    assert_eq!(service.ok("Query", query).await["Items"], json!([{"id": {"S": "a0"}, "n": {"N": "77"}}]));
    assert_eq!(service.ok("ImportTable", request.clone()).await["ImportTableDescription"], done);
    request["ClientToken"] = "u".into();
    assert_eq!(service.error("ImportTable", request).await.code, "ResourceInUseException");
    let listed = service.ok("ListImports", json!({})).await;
    assert_eq!(listed["ImportSummaryList"][0]["ImportArn"], done["ImportArn"]);
    stop.cancel();
}

#[tokio::test]
async fn csv_is_imported() {
    let service = Service::new();
    put_object(&service, "in/a.csv", "id;n;v\n1;5;\"x;\ny\"\n2;;z\n3;7\n4;many;z\n");
    let mut request = import_of("CSV", "things");
    request["InputFormatOptions"] = json!({"Csv": {"Delimiter": ";"}});
    let import = service.ok("ImportTable", request).await;
    let stop = transferring(&service);
    let done = imported(&service, &import).await;
    assert_eq!(done["ImportStatus"], "FAILED", "{done}");
    assert_eq!((&done["ImportedItemCount"], &done["ErrorCount"]), (&json!(2), &json!(2)), "{done}");
    let got = service.get("things", "1").await;
    assert_eq!(got, json!({"id": {"S": "1"}, "n": {"N": "5"}, "v": {"S": "x;\ny"}}));
    stop.cancel();
}

#[tokio::test]
async fn imports_that_can_not_be_are_refused_or_fail() {
    let service = Service::new();
    let refuse = async |change: Value, message: &str| {
        let mut request = import_of("DYNAMODB_JSON", "refused");
        for (name, value) in change.as_object().unwrap() {
            request[name] = value.clone();
        }
        service.invalid("ImportTable", request, message).await;
    };
    refuse(json!({"InputFormat": "ION"}), "InputFormat ION is not supported").await;
    refuse(json!({"InputCompressionType": "ZSTD"}), "InputCompressionType ZSTD is not supported").await;
    let csv = json!({"InputFormatOptions": {"Csv": {}}});
    refuse(csv, "InputFormatOptions Csv goes with InputFormat CSV").await;
    let absent = json!({"S3BucketSource": {"S3Bucket": "absent"}});
    refuse(absent, "S3 answered NoSuchBucket: The specified bucket does not exist").await;
    let stop = transferring(&service);
    let nothing = service.ok("ImportTable", import_of("DYNAMODB_JSON", "nothing")).await;
    let failed = imported(&service, &nothing).await;
    assert_eq!((&failed["ImportStatus"], &failed["FailureCode"]), (&json!("FAILED"), &json!("S3NoSuchKey")));
    put_object(&service, "in/1.gz", "this is no gzip");
    let mut request = import_of("DYNAMODB_JSON", "garbage");
    request["InputCompressionType"] = "GZIP".into();
    let garbage = service.ok("ImportTable", request).await;
    let failed = imported(&service, &garbage).await;
    assert_eq!(
        (&failed["ImportStatus"], &failed["FailureCode"]),
        (&json!("FAILED"), &json!("ObjectUnreadable"))
    );
    // The table is there, and can be deleted.
    service.ok("DeleteTable", json!({"TableName": "garbage"})).await;
    stop.cancel();
}
