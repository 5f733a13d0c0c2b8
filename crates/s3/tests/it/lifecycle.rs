//! What rules say is to go goes, on time, and what is locked stays.

use std::sync::Arc;

use serde_json::Value;
use store::outbox::{DUE, Delivery};
use store::tables;
use types::{AccountId, AheadEnv, Env, Timestamp};

use crate::harness::{Node, noise};

/// In seconds.
const DAY: i64 = 86_400;

const MD5_OF_X: &str = "ndTkYSaMgDT1yFZOFVxnpg==";

/// A node with the bucket `photos`, and its clock.
async fn node() -> (Node, Arc<AheadEnv>) {
    let clock = AheadEnv::new();
    let node = Node::at(clock.clone());
    node.call(http::Method::PUT, "/photos").ok().await;
    (node, clock)
}

async fn rules(node: &Node, rules: &str) {
    let xml = format!("<LifecycleConfiguration>{rules}</LifecycleConfiguration>");
    node.put("/photos?lifecycle", xml).ok().await;
}

async fn keys(node: &Node) -> Vec<String> {
    node.get("/photos?list-type=2").ok().await.all("Key")
}

async fn version(node: &Node, target: &str, body: &str) -> String {
    node.put(target, body.to_owned()).ok().await.header("x-amz-version-id").to_owned()
}

async fn set_versioning(node: &Node) {
    let xml = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>";
    node.put("/photos?versioning", xml).ok().await;
}

#[tokio::test]
async fn objects_go_when_their_days_are_over() {
    let (node, clock) = node().await;
    let function = "arn:aws:lambda:us-east-1:000000000000:function:f";
    let xml = format!(
        "<NotificationConfiguration><CloudFunctionConfiguration><CloudFunction>{function}</CloudFunction><Event>s3:LifecycleExpiration:*</Event></CloudFunctionConfiguration></NotificationConfiguration>"
    );
    node.put("/photos?notification", xml).ok().await;
    rules(
        &node,
        "<Rule><ID>logs</ID><Filter><Prefix>logs/</Prefix></Filter><Status>Enabled</Status><Expiration><Days>3</Days></Expiration></Rule>\
         <Rule><ID>off</ID><Filter/><Status>Disabled</Status><Expiration><Days>1</Days></Expiration></Rule>\
         <Rule><ID>small</ID><Filter><And><Prefix>tmp/</Prefix><Tag><Key>t</Key><Value>1</Value></Tag><ObjectSizeLessThan>100</ObjectSizeLessThan></And></Filter><Status>Enabled</Status><Expiration><Days>1</Days></Expiration></Rule>",
    )
    .await;
    for n in 0..300 {
        node.put(&format!("/photos/logs/{n:03}"), noise(if n == 7 { 100_000 } else { 10 })).ok().await;
    }
    node.put("/photos/kept", "x").ok().await;
    node.put("/photos/tmp/small", "x").header("x-amz-tagging", "t=1").ok().await;
    node.put("/photos/tmp/other", "x").header("x-amz-tagging", "t=2").ok().await;
    node.put("/photos/tmp/large", noise(200)).header("x-amz-tagging", "t=1").ok().await;
    node.s3.lifecycle().pass().await.unwrap();
    assert_eq!(keys(&node).await.len(), 304);
    clock.skip_seconds(2 * DAY);
    node.s3.lifecycle().pass().await.unwrap();
    assert_eq!(keys(&node).await.len(), 303);
    clock.skip_seconds(2 * DAY);
    node.put("/photos/logs/new", "x").ok().await;
    node.s3.lifecycle().pass().await.unwrap();
    assert_eq!(keys(&node).await, ["kept", "logs/new", "tmp/large", "tmp/other"]);
    node.sweep().await;
    assert_eq!(node.blob_count().await, 0);
    let (rows, _) = DUE.scan(&node.store, DUE.range(AccountId::DEFAULT, 1000, |_| {})).await.unwrap();
    let deliveries: Vec<Delivery> = rows.into_iter().map(|row| row.value).collect();
    assert_eq!(deliveries.len(), 301);
    let event: Value = serde_json::from_slice(&deliveries[0].payload).unwrap();
    assert_eq!(event["Records"][0]["eventName"], "LifecycleExpiration:Delete");
    assert_eq!(event["Records"][0]["userIdentity"]["principalId"], "s3.amazonaws.com");
}

#[tokio::test]
async fn versions_go_when_they_are_old() {
    let (node, clock) = node().await;
    set_versioning(&node).await;
    rules(
        &node,
        "<Rule><ID>a</ID><Filter/><Status>Enabled</Status><Expiration><Days>10</Days></Expiration>\
         <NoncurrentVersionExpiration><NoncurrentDays>2</NoncurrentDays><NewerNoncurrentVersions>1</NewerNoncurrentVersions></NoncurrentVersionExpiration></Rule>",
    )
    .await;
    let old = version(&node, "/photos/a", "1").await;
    version(&node, "/photos/a", "2").await;
    version(&node, "/photos/a", "3").await;
    node.s3.lifecycle().pass().await.unwrap();
    assert_eq!(node.rows(tables::OBJECT_VERSIONS, AccountId::DEFAULT).await, 2);
    clock.skip_seconds(4 * DAY);
    node.s3.lifecycle().pass().await.unwrap();
    // The newest of those that are not current stays.
    assert_eq!(node.rows(tables::OBJECT_VERSIONS, AccountId::DEFAULT).await, 1);
    assert_eq!(node.get(&format!("/photos/a?versionId={old}")).fails().await.0, "NoSuchVersion");
    assert_eq!(node.get("/photos/a").ok().await.text(), "3");
    clock.skip_seconds(8 * DAY);
    // The object is behind a delete marker now ...
    node.s3.lifecycle().pass().await.unwrap();
    assert_eq!(node.get("/photos/a").fails().await.0, "NoSuchKey");
    // ... and in time nothing is left of it but what is kept by number.
    for _ in 0..3 {
        clock.skip_seconds(20 * DAY);
        node.s3.lifecycle().pass().await.unwrap();
    }
    assert_eq!(node.get("/photos?versions").ok().await.all("VersionId").len(), 2);
    rules(
        &node,
        "<Rule><ID>a</ID><Filter/><Status>Enabled</Status><Expiration><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration>\
         <NoncurrentVersionExpiration><NoncurrentDays>1</NoncurrentDays></NoncurrentVersionExpiration></Rule>",
    )
    .await;
    for _ in 0..2 {
        node.s3.lifecycle().pass().await.unwrap();
    }
    assert_eq!(node.rows(tables::OBJECT_VERSIONS, AccountId::DEFAULT).await, 0);
    node.delete("/photos").ok().await;
    assert_eq!(node.rows(tables::BUCKET_CHORES, AccountId::NODE).await, 0);
}

#[tokio::test]
async fn uploads_that_nobody_completes_go() {
    let (node, clock) = node().await;
    rules(
        &node,
        "<Rule><ID>a</ID><Filter><Prefix>a</Prefix></Filter><Status>Enabled</Status><AbortIncompleteMultipartUpload><DaysAfterInitiation>1</DaysAfterInitiation></AbortIncompleteMultipartUpload></Rule>",
    )
    .await;
    for key in ["a", "b"] {
        let id = node.post(&format!("/photos/{key}?uploads"), "").ok().await.one("UploadId");
        node.put(&format!("/photos/{key}?partNumber=1&uploadId={id}"), noise(1000)).ok().await;
    }
    clock.skip_seconds(2 * DAY);
    node.s3.lifecycle().pass().await.unwrap();
    assert_eq!(node.get("/photos?uploads").ok().await.all("Key"), ["b"]);
    node.sweep().await;
    assert_eq!(node.blob_count().await, 1);
}

#[tokio::test]
async fn rules_are_checked_and_shown() {
    let (node, _) = node().await;
    let rule = |inside: &str| {
        format!(
            "<LifecycleConfiguration><Rule><ID>a</ID>{inside}<Status>Enabled</Status></Rule></LifecycleConfiguration>"
        )
    };
    for (inside, code) in [
        (
            "<Filter/><Transition><Days>1</Days><StorageClass>GLACIER</StorageClass></Transition>",
            "NotImplemented",
        ),
        ("<Filter/><Expiration><Days>0</Days></Expiration>", "InvalidArgument"),
        ("<Filter/><Expiration><Date>2026-01-01T10:00:00Z</Date></Expiration>", "InvalidArgument"),
        ("<Filter/>", "InvalidRequest"),
        ("<Expiration><Days>1</Days></Expiration>", "MalformedXML"),
    ] {
        assert_eq!(node.put("/photos?lifecycle", rule(inside)).fails().await.0, code, "{inside}");
    }
    let inside = "<Prefix>x/</Prefix><Expiration><Date>2026-01-01T00:00:00Z</Date></Expiration>";
    node.put("/photos?lifecycle", rule(inside)).ok().await;
    let shown = node.get("/photos?lifecycle").ok().await;
    assert_eq!((shown.one("Prefix"), shown.one("ID")), ("x/".into(), "a".into()));
    node.delete("/photos?lifecycle").ok().await;
    assert_eq!(node.get("/photos?lifecycle").fails().await.0, "NoSuchLifecycleConfiguration");
}

#[tokio::test]
async fn what_is_locked_stays() {
    let (node, clock) = node().await;
    node.call(http::Method::PUT, "/locked").header("x-amz-bucket-object-lock-enabled", "true").ok().await;
    assert_eq!(node.get("/locked?versioning").ok().await.one("Status"), "Enabled");
    let suspend = "<VersioningConfiguration><Status>Suspended</Status></VersioningConfiguration>";
    assert_eq!(node.put("/locked?versioning", suspend).fails().await, ("InvalidBucketState".into(), 409));
    let until = (node.env.now().as_second() + 3 * DAY).to_string();
    let until = Timestamp::from_second(until.parse().unwrap()).unwrap().to_string();
    let kept = node
        .put("/locked/a", "x")
        .header("x-amz-object-lock-mode", "GOVERNANCE")
        .header("content-md5", MD5_OF_X)
        .header("x-amz-object-lock-retain-until-date", &until)
        .ok()
        .await
        .header("x-amz-version-id")
        .to_owned();
    let got = node.get("/locked/a").ok().await;
    assert_eq!(got.header("x-amz-object-lock-mode"), "GOVERNANCE");
    let target = format!("/locked/a?versionId={kept}");
    assert_eq!(node.delete(&target).fails().await, ("AccessDenied".into(), 403));
    // A delete marker is no removal.
    node.delete("/locked/a").ok().await;
    let call = node.delete(&target).header("x-amz-bypass-governance-retention", "true");
    let needs: Vec<_> = call.access().await.into_iter().map(|need| need.action.into_owned()).collect();
    assert_eq!(needs, ["s3:DeleteObjectVersion", "s3:BypassGovernanceRetention"]);
    node.delete(&target).header("x-amz-bypass-governance-retention", "true").ok().await;

    let default = "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention><Mode>COMPLIANCE</Mode><Days>2</Days></DefaultRetention></Rule></ObjectLockConfiguration>";
    node.put("/locked?object-lock", default).ok().await;
    assert_eq!(node.get("/locked?object-lock").ok().await.one("Mode"), "COMPLIANCE");
    let kept = node.put("/locked/b", "x").ok().await.header("x-amz-version-id").to_owned();
    let target = format!("/locked/b?versionId={kept}");
    let bypass = |target: &str| node.delete(target).header("x-amz-bypass-governance-retention", "true");
    assert_eq!(bypass(&target).fails().await.0, "AccessDenied");
    assert_eq!(
        node.get(&format!("/locked/b?retention&versionId={kept}")).ok().await.one("Mode"),
        "COMPLIANCE"
    );
    node.put("/locked/b?legal-hold", "<LegalHold><Status>ON</Status></LegalHold>").ok().await;
    clock.skip_seconds(3 * DAY);
    assert_eq!(bypass(&target).fails().await.0, "AccessDenied");
    node.put("/locked/b?legal-hold", "<LegalHold><Status>OFF</Status></LegalHold>").ok().await;
    node.delete(&target).ok().await;

    let call = node.put("/photos/a", "x").header("x-amz-object-lock-legal-hold", "ON");
    assert_eq!(call.fails().await, ("InvalidRequest".into(), 400));
    let call = node.put("/photos/a", "x").header("x-amz-object-lock-legal-hold", "ON");
    let call = call.header("content-md5", MD5_OF_X);
    assert_eq!(call.fails().await, ("InvalidRequest".into(), 400));
    assert_eq!(node.get("/photos/a?retention").fails().await, ("InvalidRequest".into(), 400));
}

#[tokio::test]
async fn answers_say_when_objects_expire() {
    let (node, clock) = node().await;
    let put = node.put("/photos/old/a", "x").ok().await;
    assert_eq!(put.header("x-amz-expiration"), "");
    rules(
        &node,
        "<Rule><ID>in ten</ID><Status>Enabled</Status><Filter><Prefix>old/</Prefix></Filter>\
         <Expiration><Days>10</Days></Expiration></Rule>\
         <Rule><ID>five</ID><Status>Enabled</Status><Filter><And><Prefix>old/</Prefix>\
         <Tag><Key>short</Key><Value>yes</Value></Tag></And></Filter><Expiration><Days>5</Days></Expiration></Rule>",
    )
    .await;
    let midnight = |days: i64| {
        let seconds = (clock.now().as_second() + days * DAY).div_euclid(DAY) * DAY + DAY;
        Timestamp::from_second(seconds).unwrap().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
    };
    let expected = |days, rule: &str| format!("expiry-date=\"{}\", rule-id=\"{rule}\"", midnight(days));
    let put = node.put("/photos/old/a", "x").ok().await;
    assert_eq!(put.header("x-amz-expiration"), expected(10, "in+ten"));
    let put = node.put("/photos/old/b", "x").header("x-amz-tagging", "short=yes").ok().await;
    assert_eq!(put.header("x-amz-expiration"), expected(5, "five"));
    for (key, header) in [("old/a", expected(10, "in+ten")), ("old/b", expected(5, "five"))] {
        let got = node.get(&format!("/photos/{key}")).ok().await;
        assert_eq!(got.header("x-amz-expiration"), header);
        let head = node.call(http::Method::HEAD, &format!("/photos/{key}")).ok().await;
        assert_eq!(head.header("x-amz-expiration"), header);
    }
    assert_eq!(node.put("/photos/new", "x").ok().await.header("x-amz-expiration"), "");
    node.call(http::Method::DELETE, "/photos?lifecycle").ok().await;
    assert_eq!(node.get("/photos/old/a").ok().await.header("x-amz-expiration"), "");
}
