//! Objects: what goes in comes out, whole, in part, on conditions, with its headers and digests.

use bytes::Bytes;
use futures_util::StreamExt;
use http::Method;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use store::tables;
use types::AccountId;

use crate::harness::{Node, noise};

/// Either side of the limit up to which objects live in the store.
const SIZES: [usize; 5] = [0, 5, 64 << 10, (64 << 10) + 1, 300_000];

#[tokio::test]
async fn bytes_round_trip() {
    let node = Node::with_bucket("photos").await;
    for size in SIZES {
        let data = noise(size);
        let put = node.put("/photos/in/caf%C3%A9%20%2B%26.jpg", data.clone());
        let put = put.header("content-type", "image/jpeg").header("x-amz-meta-Place", "here").ok().await;
        let got = node.get("/photos/in/caf%C3%A9%20%2B%26.jpg").ok().await;
        assert_eq!(got.body, data);
        assert_eq!(got.header("content-length"), size.to_string());
        assert_eq!(got.header("content-type"), "image/jpeg");
        assert_eq!(got.header("x-amz-meta-place"), "here");
        assert_eq!(got.header("etag"), put.header("etag"));
        assert_eq!(got.header("accept-ranges"), "bytes");
        assert!(got.header("last-modified").ends_with("GMT"));
        let head = node.call(Method::HEAD, "/photos/in/caf%C3%A9%20%2B%26.jpg").ok().await;
        assert_eq!(head.header("content-length"), size.to_string());
        assert!(head.body.is_empty());
    }
    // Each replaced the one before; what lived in blobs is swept.
    node.sweep().await;
    assert_eq!(node.blob_count().await, 1);
    assert_eq!(node.rows(tables::OBJECT_DATA, AccountId::DEFAULT).await, 0);
    node.delete("/photos/in/caf%C3%A9%20%2B%26.jpg").ok().await;
    node.sweep().await;
    assert_eq!(node.blob_count().await, 0);
    assert_eq!(node.get("/photos/in/caf%C3%A9%20%2B%26.jpg").fails().await, ("NoSuchKey".into(), 404));
    // To delete what is not there is fine.
    assert_eq!(node.delete("/photos/in/caf%C3%A9%20%2B%26.jpg").ok().await.status, 204);
}

#[tokio::test]
async fn ranges_are_served() {
    let node = Node::with_bucket("photos").await;
    for size in [1000, 300_000] {
        let data = noise(size);
        node.put("/photos/a", data.clone()).ok().await;
        for (range, expected) in [
            ("bytes=0-9", 0..10),
            ("bytes=100-", 100..size),
            ("bytes=-7", size - 7..size),
            ("bytes=5-99999999", 5..size),
        ] {
            let got = node.get("/photos/a").header("range", range).ok().await;
            assert_eq!(got.status, 206);
            assert_eq!(got.body, data.slice(expected.clone()), "{range}");
            let content_range = format!("bytes {}-{}/{size}", expected.start, expected.end - 1);
            assert_eq!(got.header("content-range"), content_range);
            let head = node.call(Method::HEAD, "/photos/a").header("range", range).ok().await;
            assert_eq!((head.status.as_u16(), head.header("content-range")), (206, &*content_range));
        }
        let beyond = node.get("/photos/a").header("range", &format!("bytes={size}-"));
        assert_eq!(beyond.fails().await, ("InvalidRange".into(), 416));
        let several = node.get("/photos/a").header("range", "bytes=0-1,5-6").ok().await;
        assert_eq!((several.status.as_u16(), several.body), (200, data));
    }
}

#[tokio::test]
async fn reads_have_conditions() {
    let node = Node::with_bucket("photos").await;
    let etag = node.put("/photos/a", "x").ok().await.header("etag").to_owned();
    let get = || node.get("/photos/a");
    let past = "Wed, 21 Oct 2015 07:28:00 GMT";
    let future = "Wed, 21 Oct 2065 07:28:00 GMT";
    assert_eq!(get().header("if-match", &etag).ok().await.status, 200);
    assert_eq!(get().header("if-match", "\"no\"").fails().await, ("PreconditionFailed".into(), 412));
    let unchanged = get().header("if-none-match", &etag).ok().await;
    assert_eq!((unchanged.status.as_u16(), unchanged.header("etag")), (304, &*etag));
    assert!(unchanged.body.is_empty());
    assert_eq!(get().header("if-modified-since", future).ok().await.status, 304);
    assert_eq!(get().header("if-modified-since", past).ok().await.status, 200);
    assert_eq!(get().header("if-unmodified-since", past).fails().await.1, 412);
    let both = get().header("if-match", &etag).header("if-unmodified-since", past);
    assert_eq!(both.ok().await.status, 200);
    let both = get().header("if-none-match", "\"no\"").header("if-modified-since", future);
    assert_eq!(both.ok().await.status, 200);
}

#[tokio::test]
async fn writes_have_conditions() {
    let node = Node::with_bucket("photos").await;
    let etag = node.put("/photos/a", "1").header("if-none-match", "*").ok().await.header("etag").to_owned();
    let again = node.put("/photos/a", "2").header("if-none-match", "*");
    assert_eq!(again.fails().await, ("PreconditionFailed".into(), 412));
    node.put("/photos/a", "2").header("if-match", &etag).ok().await;
    let stale = node.put("/photos/a", "3").header("if-match", &etag);
    assert_eq!(stale.fails().await, ("PreconditionFailed".into(), 412));
    assert_eq!(node.put("/photos/b", "3").header("if-match", &etag).fails().await, ("NoSuchKey".into(), 404));
    assert_eq!(node.delete("/photos/a").header("if-match", &etag).fails().await.1, 412);
    // Whatever a tag is, it is compared.
    for tag in ["not an etag", "\"open", "a.b", "W/x"] {
        assert_eq!(node.put("/photos/a", "3").header("if-match", tag).fails().await.1, 412, "{tag}");
        assert_eq!(node.get("/photos/a").header("if-match", tag).fails().await.1, 412, "{tag}");
        assert_eq!(node.get("/photos/a").header("if-none-match", tag).ok().await.text(), "2", "{tag}");
    }
    assert_eq!(node.get("/photos/a").ok().await.text(), "2");

    // Of many who want to be first, one is.
    let tries = (0..20).map(|i| node.put("/photos/first", i.to_string()).header("if-none-match", "*").send());
    let outcomes = futures_util::future::join_all(tries).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
}

#[tokio::test]
async fn digests_are_verified_before_anything_is_seen() {
    let node = Node::with_bucket("photos").await;
    for size in [10, 200_000] {
        let data = noise(size);
        let put = || node.put("/photos/a", data.clone());
        let wrong = "AAAAAA==";
        assert_eq!(put().header("x-amz-checksum-crc32", wrong).fails().await, ("BadDigest".into(), 400));
        assert_eq!(put().trailer("x-amz-checksum-crc32", wrong).fails().await, ("BadDigest".into(), 400));
        let md5 = put().header("content-md5", "1B2M2Y8AsgTpgAmY7PhCfg==");
        assert_eq!(md5.fails().await, ("BadDigest".into(), 400));
        assert_eq!(put().header("content-md5", "short").fails().await, ("InvalidDigest".into(), 400));
        let short = put().header("content-length", &(size + 1).to_string());
        assert_eq!(short.fails().await, ("IncompleteBody".into(), 400));
        assert_eq!(node.get("/photos/a").fails().await.0, "NoSuchKey");
    }
    node.sweep().await;
    assert_eq!(node.blob_count().await, 0);
    assert_eq!(node.rows(tables::BLOB_PENDING, AccountId::NODE).await, 0);

    // Known values: of "123456789", and of no bytes.
    let crc = "y/Q5Jg==";
    let put = node.put("/photos/a", "123456789").trailer("x-amz-checksum-crc32", crc).ok().await;
    assert_eq!(put.header("x-amz-checksum-crc32"), crc);
    assert_eq!(put.header("etag"), "\"25f9e794323b453885f5181f1b624d0b\"");
    assert_eq!(node.get("/photos/a").ok().await.header("x-amz-checksum-crc32"), "");
    let got = node.get("/photos/a").header("x-amz-checksum-mode", "ENABLED").ok().await;
    assert_eq!((got.header("x-amz-checksum-crc32"), got.header("x-amz-checksum-type")), (crc, "FULL_OBJECT"));
    let part = node.get("/photos/a").header("x-amz-checksum-mode", "ENABLED").header("range", "bytes=0-3");
    assert_eq!(part.ok().await.header("x-amz-checksum-crc32"), "");
    let put = node.put("/photos/b", "").ok().await;
    assert_eq!(put.header("x-amz-checksum-crc64nvme"), "AAAAAAAAAAA=");
    assert_eq!(put.header("etag"), "\"d41d8cd98f00b204e9800998ecf8427e\"");
}

#[tokio::test]
async fn headers_are_kept_and_overridden() {
    let node = Node::with_bucket("photos").await;
    let put = node.put("/photos/a", "x").header("cache-control", "no-store");
    let put = put.header("content-encoding", "gzip,aws-chunked").header("content-disposition", "inline");
    put.header("expires", "Thu, 01 Dec 2044 16:00:00 GMT").ok().await;
    let got = node.get("/photos/a").ok().await;
    assert_eq!(got.header("cache-control"), "no-store");
    assert_eq!(got.header("content-encoding"), "gzip");
    assert_eq!(got.header("content-type"), "binary/octet-stream");
    assert_eq!(got.header("expires"), "Thu, 01 Dec 2044 16:00:00 GMT");
    let got = node.get("/photos/a?response-content-type=text%2Fhtml&response-cache-control=max-age%3D1");
    let got = got.ok().await;
    assert_eq!((got.header("content-type"), got.header("cache-control")), ("text/html", "max-age=1"));
    let large = "x".repeat(2049);
    let too_much = node.put("/photos/a", "x").header("x-amz-meta-a", &large);
    assert_eq!(too_much.fails().await, ("MetadataTooLarge".into(), 400));
    let long = format!("/photos/{}", "k".repeat(1025));
    assert_eq!(node.put(&long, "x").fails().await, ("KeyTooLongError".into(), 400));
    let huge = node.put("/photos/a", "x").header("content-length", "5368709121");
    assert_eq!(huge.fails().await, ("EntityTooLarge".into(), 400));
}

#[tokio::test]
async fn objects_are_copied() {
    let node = Node::with_bucket("photos").await;
    for size in [10, 200_000] {
        let data = noise(size);
        let put = node.put("/photos/a%20b", data.clone()).header("x-amz-meta-k", "v");
        let etag = put.header("content-type", "image/png").ok().await.header("etag").to_owned();
        let copy = |to: &str| node.put(to, "").header("x-amz-copy-source", "/photos/a%20b");
        let copied = copy("/photos/c").ok().await;
        assert_eq!(copied.one("ETag"), etag);
        let got = node.get("/photos/c").ok().await;
        assert_eq!((got.header("x-amz-meta-k"), got.header("content-type")), ("v", "image/png"));
        assert_eq!(got.body, data);
        let replaced = copy("/photos/c").header("x-amz-metadata-directive", "REPLACE");
        replaced.header("x-amz-meta-k", "w").ok().await;
        let got = node.get("/photos/c").ok().await;
        assert_eq!((got.header("x-amz-meta-k"), got.header("content-type")), ("w", "binary/octet-stream"));
        assert_eq!(copy("/photos/a%20b").fails().await, ("InvalidRequest".into(), 400));
        let onto_itself = copy("/photos/a%20b").header("x-amz-metadata-directive", "REPLACE");
        onto_itself.header("x-amz-meta-k", "z").ok().await;
        let got = node.get("/photos/a%20b").ok().await;
        assert_eq!((got.header("x-amz-meta-k"), &got.body), ("z", &data));
        let unless = copy("/photos/d").header("x-amz-copy-source-if-none-match", &etag);
        assert_eq!(unless.fails().await, ("PreconditionFailed".into(), 412));
        node.sweep().await;
        assert_eq!(node.blob_count().await, if size > 64 << 10 { 2 } else { 0 });
    }
    let missing = node.put("/photos/x", "").header("x-amz-copy-source", "photos/nope");
    assert_eq!(missing.fails().await, ("NoSuchKey".into(), 404));
    let nonsense = node.put("/photos/x", "").header("x-amz-copy-source", "photos");
    assert_eq!(nonsense.fails().await, ("InvalidArgument".into(), 400));
}

#[tokio::test]
async fn many_are_deleted_at_once() {
    let node = Node::with_bucket("photos").await;
    node.put("/photos/a%26b", "x").ok().await;
    node.put("/photos/c", noise(100_000)).ok().await;
    let xml = "<Delete><Object><Key>a&amp;b</Key></Object><Object><Key>c</Key></Object><Object><Key>never</Key></Object></Delete>";
    let access = node.post("/photos?delete", xml).access().await;
    let needs: Vec<_> = access.iter().map(|a| (&*a.action, &*a.resource)).collect();
    assert_eq!(needs[0], ("s3:DeleteObject", "arn:aws:s3:::photos/a&b"));
    assert_eq!(needs.len(), 3);
    let deleted = node.post("/photos?delete", xml).ok().await;
    assert_eq!(deleted.all("Key"), ["a&amp;b".replace("&amp;", "&"), "c".into(), "never".into()]);
    node.sweep().await;
    assert_eq!(node.blob_count().await, 0);
    assert!(node.get("/photos").ok().await.all("Key").is_empty());
    let quiet = "<Delete><Quiet>true</Quiet><Object><Key>x</Key></Object></Delete>";
    assert!(node.post("/photos?delete", quiet).ok().await.all("Key").is_empty());
    assert_eq!(node.post("/photos?delete", "<Delete></Delete>").fails().await.0, "MalformedXML");
    let bad = node.post("/photos?delete", quiet).header("x-amz-checksum-crc32", "AAAAAA==");
    assert_eq!(bad.fails().await.0, "BadDigest");
}

#[tokio::test]
async fn objects_have_tags_and_attributes() {
    let node = Node::with_bucket("photos").await;
    node.put("/photos/a", "x").header("x-amz-tagging", "k=v%201&l=").ok().await;
    assert_eq!(node.get("/photos/a?tagging").ok().await.all("Value"), ["v 1", ""]);
    assert_eq!(node.get("/photos/a").ok().await.header("x-amz-tagging-count"), "2");
    let tags = "<Tagging><TagSet><Tag><Key>m</Key><Value>n</Value></Tag></TagSet></Tagging>";
    node.put("/photos/a?tagging", tags).ok().await;
    assert_eq!(node.get("/photos/a?tagging").ok().await.all("Key"), ["m"]);
    node.delete("/photos/a?tagging").ok().await;
    assert!(node.get("/photos/a?tagging").ok().await.all("Key").is_empty());
    let twice = node.put("/photos/a", "x").header("x-amz-tagging", "k=1&k=2");
    assert_eq!(twice.fails().await, ("InvalidTag".into(), 400));

    let attributes =
        node.get("/photos/a?attributes").header("x-amz-object-attributes", "ETag,ObjectSize,Checksum");
    let attributes = attributes.ok().await;
    assert_eq!(attributes.one("ObjectSize"), "1");
    assert_eq!(attributes.one("ChecksumType"), "FULL_OBJECT");
    assert!(node.get("/photos/a?acl").ok().await.text().contains("FULL_CONTROL"));
}

#[tokio::test]
async fn a_reader_keeps_what_is_replaced() {
    let node = Node::with_bucket("photos").await;
    let data = noise(1 << 20);
    node.put("/photos/a", data.clone()).ok().await;
    let answer = node.get("/photos/a").open().await;
    node.put("/photos/a", noise(100)).ok().await;
    let mut sweeper = node.s3.sweeper();
    sweeper.pass().await.unwrap();
    assert_eq!(node.blob_count().await, 1);
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), data);
    sweeper.pass().await.unwrap();
    assert_eq!(node.blob_count().await, 0);
}

#[tokio::test]
async fn a_body_that_fails_leaves_nothing() {
    let node = Node::with_bucket("photos").await;
    let pieces = futures_util::stream::iter([
        Ok(Frame::data(noise(100_000))),
        Err(aws::BodyError::from("the client left")),
    ]);
    let body = StreamBody::new(pieces.boxed()).boxed_unsync();
    assert_eq!(node.put("/photos/a", "").stream(body, 200_000).fails().await, ("IncompleteBody".into(), 400));
    let error = aws::Error::new(types::ErrorKind::Denied, "SignatureDoesNotMatch", "no");
    let pieces =
        futures_util::stream::iter([Ok(Frame::data(Bytes::from("ab"))), Err(aws::BodyError::from(error))]);
    let body = StreamBody::new(pieces.boxed()).boxed_unsync();
    assert_eq!(
        node.put("/photos/a", "").stream(body, 5).fails().await,
        ("SignatureDoesNotMatch".into(), 403)
    );
    node.sweep().await;
    assert_eq!(node.blob_count().await, 0);
    assert_eq!(node.get("/photos/a").fails().await.0, "NoSuchKey");
}
