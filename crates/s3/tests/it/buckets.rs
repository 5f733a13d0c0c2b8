//! Buckets: names, owners, what they say of themselves, and what they refuse.

use http::Method;
use types::AccountId;

use crate::harness::Node;

#[tokio::test]
async fn buckets_come_and_go() {
    let node = Node::new();
    let made = node.call(Method::PUT, "/photos").ok().await;
    assert_eq!((made.status.as_u16(), made.header("location")), (200, "/photos"));
    // In us-east-1, to make what one has is fine.
    node.call(Method::PUT, "/photos").ok().await;
    node.call(Method::PUT, "/albums").ok().await;
    let listed = node.get("/").ok().await;
    assert_eq!(listed.all("Name"), ["albums", "photos"]);
    let page = node.get("/?max-buckets=1").ok().await;
    assert_eq!(page.all("Name"), ["albums"]);
    let token = page.one("ContinuationToken");
    assert_eq!(node.get(&format!("/?continuation-token={token}")).ok().await.all("Name"), ["photos"]);

    let head = node.call(Method::HEAD, "/photos").ok().await;
    assert_eq!(head.header("x-amz-bucket-region"), "us-east-1");
    node.put("/photos/a", "x").ok().await;
    assert_eq!(node.delete("/photos").fails().await, ("BucketNotEmpty".into(), 409));
    node.delete("/photos/a").ok().await;
    assert_eq!(node.delete("/photos").ok().await.status, 204);
    assert_eq!(node.delete("/photos").fails().await, ("NoSuchBucket".into(), 404));
    assert_eq!(node.put("/photos/a", "x").fails().await, ("NoSuchBucket".into(), 404));
}

#[tokio::test]
async fn names_are_global_and_buckets_are_their_owners() {
    let node = Node::with_bucket("photos").await;
    let other: AccountId = "111111111111".parse().unwrap();
    let create = node.call(Method::PUT, "/photos").account(other);
    assert_eq!(create.fails().await, ("BucketAlreadyExists".into(), 409));
    assert_eq!(node.get("/photos").account(other).fails().await, ("AccessDenied".into(), 403));
    assert_eq!(node.put("/photos/x", "x").account(other).fails().await, ("AccessDenied".into(), 403));
    let source = node.put("/mine/x", "").header("x-amz-copy-source", "photos/x");
    node.call(Method::PUT, "/mine").account(other).ok().await;
    assert_eq!(source.account(other).fails().await, ("AccessDenied".into(), 403));
    assert!(node.get("/").account(other).ok().await.all("Name") == ["mine"]);
    let expecting = node.get("/photos").header("x-amz-expected-bucket-owner", "111111111111");
    assert_eq!(expecting.fails().await, ("AccessDenied".into(), 403));
}

#[tokio::test]
async fn names_have_rules() {
    let node = Node::new();
    for name in ["ab", "Photos", "a_b", "-ab", "a..b", "192.168.0.1", "xn--abc"] {
        let error = node.call(Method::PUT, &format!("/{name}")).fails().await;
        assert_eq!(error, ("InvalidBucketName".into(), 400), "{name}");
    }
}

#[tokio::test]
async fn regions_are_checked() {
    let node = Node::new();
    let constraint = |place: &str| {
        format!(
            "<CreateBucketConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><LocationConstraint>{place}</LocationConstraint></CreateBucketConfiguration>"
        )
    };
    let call = node.put("/photos", constraint("eu-west-1"));
    assert_eq!(call.fails().await, ("IllegalLocationConstraintException".into(), 400));
    let call = node.put("/photos", constraint("us-east-1"));
    assert_eq!(call.fails().await, ("InvalidLocationConstraint".into(), 400));
    assert_eq!(node.put("/photos", "<CreateBucket").fails().await, ("MalformedXML".into(), 400));
    node.put("/photos", "").ok().await;
    let location = node.get("/photos?location").ok().await;
    assert!(location.text().contains("<LocationConstraint"), "{}", location.text());
    assert!(!location.text().contains("us-east-1"));
}

#[tokio::test]
async fn what_is_not_configured_says_so() {
    let node = Node::with_bucket("photos").await;
    for (flag, code) in [
        ("cors", "NoSuchCORSConfiguration"),
        ("policy", "NoSuchBucketPolicy"),
        ("lifecycle", "NoSuchLifecycleConfiguration"),
        ("object-lock", "ObjectLockConfigurationNotFoundError"),
        ("tagging", "NoSuchTagSet"),
    ] {
        assert_eq!(node.get(&format!("/photos?{flag}")).fails().await, (code.into(), 404));
    }
    assert_eq!(node.get("/nowhere?cors").fails().await, ("NoSuchBucket".into(), 404));
    assert_eq!(node.delete("/photos?cors").ok().await.status, 204);
    assert!(!node.get("/photos?versioning").ok().await.text().contains("Enabled"));
    assert!(node.get("/photos?acl").ok().await.text().contains("FULL_CONTROL"));
}

#[tokio::test]
async fn what_is_not_offered_is_refused_by_name() {
    let node = Node::with_bucket("photos").await;
    for call in [
        node.put("/photos?accelerate", "<AccelerateConfiguration/>"),
        node.put("/photos/a", "x").header("x-amz-acl", "aws-exec-read"),
        node.put("/photos/a", "x").header("x-amz-storage-class", "GLACIER"),
        node.put("/photos/a", "x").header("x-amz-server-side-encryption", "aws:kms:dsse"),
        node.get("/photos/a?torrent"),
    ] {
        assert_eq!(call.fails().await, ("NotImplemented".into(), 501));
    }
    let fine = node.put("/photos/a", "x").header("x-amz-acl", "private");
    fine.header("x-amz-storage-class", "STANDARD").ok().await;
}

#[tokio::test]
async fn buckets_have_tags() {
    let node = Node::with_bucket("photos").await;
    let tags = "<Tagging><TagSet><Tag><Key>team</Key><Value>a b</Value></Tag></TagSet></Tagging>";
    node.put("/photos?tagging", tags).ok().await;
    assert_eq!(node.get("/photos?tagging").ok().await.one("Value"), "a b");
    node.delete("/photos?tagging").ok().await;
    assert_eq!(node.get("/photos?tagging").fails().await.0, "NoSuchTagSet");
}
