//! Notifications: in the commit of the change, to whom they concern, in S3's shape.

use serde_json::Value;
use store::outbox::{DUE, Delivery};
use types::AccountId;

use crate::harness::{Node, noise};

const FUNCTION: &str = "arn:aws:lambda:us-east-1:000000000000:function:thumb";

fn configuration(function: &str, events: &[&str], prefix: &str) -> String {
    let events: String = events.iter().map(|e| format!("<Event>{e}</Event>")).collect();
    format!(
        "<NotificationConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><CloudFunctionConfiguration><CloudFunction>{function}</CloudFunction>{events}<Filter><S3Key><FilterRule><Name>prefix</Name><Value>{prefix}</Value></FilterRule></S3Key></Filter></CloudFunctionConfiguration></NotificationConfiguration>"
    )
}

async fn due(node: &Node) -> Vec<Delivery> {
    let (rows, _) = DUE.scan(&node.store, DUE.range(AccountId::DEFAULT, 1000, |_| {})).await.unwrap();
    rows.into_iter().map(|row| row.value).collect()
}

#[tokio::test]
async fn changes_cause_deliveries() {
    let node = Node::with_bucket("photos").await;
    assert_eq!(node.get("/photos?notification").ok().await.all("CloudFunction").len(), 0);
    let xml = configuration(FUNCTION, &["s3:ObjectCreated:*", "s3:ObjectRemoved:*"], "in/");
    node.put("/photos?notification", xml).header("x-amz-skip-destination-validation", "true").ok().await;
    let shown = node.get("/photos?notification").ok().await;
    assert_eq!(shown.one("CloudFunction"), FUNCTION);
    assert_eq!(shown.all("Event"), ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"]);
    assert!(!shown.one("Id").is_empty());

    node.put("/photos/in/happy%20face.jpg", "123").ok().await;
    node.put("/photos/out/x", "123").ok().await;
    node.put("/photos/in/large", noise(100_000)).ok().await;
    node.put("/photos/in/copy", "").header("x-amz-copy-source", "photos/out/x").ok().await;
    node.delete("/photos/in/copy").ok().await;
    node.delete("/photos/in/never").ok().await;
    node.put("/photos/in/happy%20face.jpg", "x").header("if-none-match", "*").fails().await;

    let due = due(&node).await;
    let events: Vec<Value> = due
        .iter()
        .map(|d| serde_json::from_slice::<Value>(&d.payload).unwrap()["Records"][0].clone())
        .collect();
    let names: Vec<_> = events.iter().map(|e| e["eventName"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        ["ObjectCreated:Put", "ObjectCreated:Put", "ObjectCreated:Copy", "ObjectRemoved:Delete"]
    );
    let first = &events[0];
    assert_eq!(first["eventVersion"], "2.1");
    assert_eq!(first["eventSource"], "aws:s3");
    assert_eq!(first["awsRegion"], "us-east-1");
    assert_eq!(first["s3"]["bucket"]["name"], "photos");
    assert_eq!(first["s3"]["bucket"]["arn"], "arn:aws:s3:::photos");
    assert_eq!(first["s3"]["configurationId"], shown.one("Id"));
    assert_eq!(first["s3"]["object"]["key"], "in/happy+face.jpg");
    assert_eq!(first["s3"]["object"]["size"], 3);
    assert_eq!(first["s3"]["object"]["eTag"], "202cb962ac59075b964b07152d234b70");
    let time = first["eventTime"].as_str().unwrap();
    assert!(time.len() == 24 && time.ends_with('Z'), "{time}");
    assert!(events[3]["s3"]["object"].get("size").is_none());
    let sequencers: Vec<_> =
        events.iter().map(|e| e["s3"]["object"]["sequencer"].as_str().unwrap()).collect();
    assert!(sequencers.is_sorted());
    assert_eq!((&*due[0].target, &*due[0].source), (FUNCTION, "arn:aws:s3:::photos"));
    assert_eq!(due[0].service.as_deref(), Some("s3.amazonaws.com"));
}

#[tokio::test]
async fn configurations_are_checked() {
    let node = Node::with_bucket("photos").await;
    let put = |xml: String| node.put("/photos?notification", xml);
    let created = ["s3:ObjectCreated:*"];
    let invalid = ("InvalidArgument".to_owned(), 400);
    assert_eq!(put(configuration("arn:aws:sqs:us-east-1:1:q", &created, "")).fails().await, invalid);
    assert_eq!(put(configuration(FUNCTION, &["s3:Nonsense"], "")).fails().await, invalid);
    assert_eq!(put(configuration(FUNCTION, &["s3:ObjectRestore:*"], "")).fails().await.0, "NotImplemented");
    let twice = configuration(FUNCTION, &created, "a/").replace(
        "</NotificationConfiguration>",
        &format!(
            "<CloudFunctionConfiguration><CloudFunction>{FUNCTION}</CloudFunction><Event>s3:ObjectCreated:Put</Event></CloudFunctionConfiguration></NotificationConfiguration>"
        ),
    );
    assert_eq!(put(twice).fails().await, invalid);
    let of = |kind: &str, arn: &str| {
        format!(
            "<NotificationConfiguration><{kind}Configuration><{kind}>{arn}</{kind}><Event>s3:ObjectCreated:*</Event></{kind}Configuration></NotificationConfiguration>"
        )
    };
    assert_eq!(put(of("Topic", "arn:aws:sns:us-east-1:000000000000:t")).fails().await.0, "NotImplemented");
    for arn in ["arn:aws:x:us-east-1:000000000000:q", "arn:aws:sqs:us-east-1:000000000000:q.fifo", FUNCTION] {
        assert_eq!(put(of("Queue", arn)).fails().await, invalid, "{arn}");
    }
    put(of("Queue", "arn:aws:sqs:us-east-1:000000000000:q")).ok().await;
    let bridge = "<NotificationConfiguration><EventBridgeConfiguration/></NotificationConfiguration>";
    assert_eq!(put(bridge.into()).fails().await.0, "NotImplemented");
    put("<NotificationConfiguration/>".into()).ok().await;
}

#[tokio::test]
async fn completions_and_batches_are_told_of() {
    let node = Node::with_bucket("photos").await;
    let events = ["s3:ObjectCreated:CompleteMultipartUpload", "s3:ObjectRemoved:Delete"];
    node.put("/photos?notification", configuration(FUNCTION, &events, "")).ok().await;
    let id = node.post("/photos/a?uploads", "").ok().await.one("UploadId");
    let part = node.put(&format!("/photos/a?partNumber=1&uploadId={id}"), "x").ok().await;
    let xml = format!(
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{}</ETag></Part></CompleteMultipartUpload>",
        part.header("etag")
    );
    node.post(&format!("/photos/a?uploadId={id}"), xml).ok().await;
    node.put("/photos/b", "x").ok().await;
    let delete = "<Delete><Object><Key>a</Key></Object><Object><Key>b</Key></Object></Delete>";
    node.post("/photos?delete", delete).ok().await;
    assert_eq!(due(&node).await.len(), 3);
}

#[tokio::test]
async fn versions_tags_and_lists_are_told_of() {
    let node = Node::with_bucket("photos").await;
    let events = ["s3:ObjectTagging:*", "s3:ObjectAcl:Put", "s3:ObjectCreated:*", "s3:ObjectRemoved:*"];
    node.put("/photos?notification", configuration(FUNCTION, &events, "")).ok().await;
    let versioning = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
    node.put("/photos?versioning", versioning).ok().await;
    let version = node.put("/photos/a", "1").ok().await.header("x-amz-version-id").to_owned();
    let tags = "<Tagging><TagSet><Tag><Key>k</Key><Value>v</Value></Tag></TagSet></Tagging>";
    node.put(&format!("/photos/a?tagging&versionId={version}"), tags).ok().await;
    node.delete("/photos/a?tagging").ok().await;
    node.put("/photos/a?acl", "").header("x-amz-acl", "private").ok().await;
    let marker = node.delete("/photos/a").ok().await.header("x-amz-version-id").to_owned();
    node.delete(&format!("/photos/a?versionId={version}")).ok().await;
    let told: Vec<_> = due(&node)
        .await
        .iter()
        .map(|delivery| {
            let event = serde_json::from_slice::<Value>(&delivery.payload).unwrap()["Records"][0].clone();
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            (text(&event["eventName"]), text(&event["s3"]["object"]["versionId"]))
        })
        .collect();
    let expected = [
        ("ObjectCreated:Put", &version),
        ("ObjectTagging:Put", &version),
        ("ObjectTagging:Delete", &version),
        ("ObjectAcl:Put", &version),
        ("ObjectRemoved:DeleteMarkerCreated", &marker),
        ("ObjectRemoved:Delete", &version),
    ];
    let expected: Vec<_> = expected.iter().map(|(name, id)| ((*name).to_owned(), (*id).clone())).collect();
    assert_eq!(told, expected);
}
