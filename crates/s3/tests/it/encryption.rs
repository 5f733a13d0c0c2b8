//! What is stored is sealed, under the node's key or the client's, and only the right key opens it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::Digest as _;
use store::tables;
use types::AccountId;

use crate::harness::{Call, Node, noise};

const SSE: &str = "x-amz-server-side-encryption";

trait WithKey {
    fn key(self, key: u8) -> Self;
    fn source_key(self, key: u8) -> Self;
}

impl WithKey for Call<'_> {
    fn key(self, key: u8) -> Self {
        let key = [key; 32];
        self.header("x-amz-server-side-encryption-customer-algorithm", "AES256")
            .header("x-amz-server-side-encryption-customer-key", &STANDARD.encode(key))
            .header("x-amz-server-side-encryption-customer-key-md5", &STANDARD.encode(md5::Md5::digest(key)))
    }

    fn source_key(self, key: u8) -> Self {
        let key = [key; 32];
        let md5 = STANDARD.encode(md5::Md5::digest(key));
        self.header("x-amz-copy-source-server-side-encryption-customer-algorithm", "AES256")
            .header("x-amz-copy-source-server-side-encryption-customer-key", &STANDARD.encode(key))
            .header("x-amz-copy-source-server-side-encryption-customer-key-md5", &md5)
    }
}

/// Whether some bytes stand anywhere in the files below a directory, or in a table.
async fn is_stored(node: &Node, needle: &[u8]) -> bool {
    let mut dirs = vec![node.path().join("blobs")];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else if contains(&std::fs::read(path).unwrap(), needle) {
                return true;
            }
        }
    }
    let start = store::key::KeyWriter::new(AccountId::DEFAULT, tables::OBJECT_DATA).finish();
    let end = store::key::prefix_end(&start);
    let range = store::Range { start, end, limit: 1000, limit_bytes: 1 << 30, reverse: false };
    node.store.scan(range).await.unwrap().entries.iter().any(|entry| contains(&entry.value, needle))
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

#[tokio::test]
async fn everything_is_sealed() {
    let node = Node::with_bucket("photos").await;
    for size in [0, 1, 1000, 65_536, 65_537, 300_000] {
        let body = noise(size);
        let put = node.put("/photos/a", body.clone()).ok().await;
        assert_eq!(put.header(SSE), "AES256");
        let got = node.get("/photos/a").ok().await;
        assert_eq!(got.body, body);
        assert_eq!(got.header(SSE), "AES256");
        assert_eq!(got.header("etag"), format!("\"{}\"", hex::encode(md5::Md5::digest(&body))));
        if size >= 1000 {
            assert!(!is_stored(&node, &body[500..600]).await);
            for (range, expected) in [("bytes=10-700", 10..701), ("bytes=-5", size - 5..size)] {
                let part = node.get("/photos/a").header("range", range).ok().await;
                assert_eq!(part.body, body.slice(expected));
            }
        }
    }
    node.put("/photos/a", "x").header(SSE, "AES256").ok().await;
    for (value, code) in [("aws:kms:dsse", "NotImplemented"), ("AES512", "InvalidArgument")] {
        assert_eq!(node.put("/photos/a", "x").header(SSE, value).fails().await.0, code);
    }
    assert_eq!(node.get("/photos/a").header(SSE, "AES256").fails().await.0, "InvalidArgument");
}

#[tokio::test]
async fn only_the_customers_key_opens() {
    let node = Node::with_bucket("photos").await;
    for size in [0, 1000, 300_000] {
        let body = noise(size);
        let put = node.put("/photos/a", body.clone()).key(1).ok().await;
        assert_eq!(put.header(SSE), "");
        assert_eq!(put.header("x-amz-server-side-encryption-customer-algorithm"), "AES256");
        assert_ne!(put.header("etag"), format!("\"{}\"", hex::encode(md5::Md5::digest(&body))));
        let got = node.get("/photos/a").key(1).header("range", "bytes=0-").send().await;
        if size > 0 {
            assert_eq!(got.unwrap().body, body);
        }
        assert_eq!(
            node.call(http::Method::HEAD, "/photos/a").key(1).ok().await.header("etag"),
            put.header("etag")
        );
        assert_eq!(node.get("/photos/a").key(2).fails().await, ("AccessDenied".into(), 403));
        assert_eq!(node.get("/photos/a").fails().await, ("InvalidRequest".into(), 400));
        assert_eq!(node.call(http::Method::HEAD, "/photos/a").fails().await.1, 400);
    }
    node.put("/photos/plain", "x").ok().await;
    assert_eq!(node.get("/photos/plain").key(1).fails().await, ("InvalidRequest".into(), 400));
    for (name, value, code) in [
        ("x-amz-server-side-encryption-customer-algorithm", "AES128", "InvalidEncryptionAlgorithmError"),
        ("x-amz-server-side-encryption-customer-key", "AAAA", "InvalidArgument"),
        ("x-amz-server-side-encryption-customer-key-md5", "AAAA", "InvalidArgument"),
        (SSE, "AES256", "InvalidArgument"),
    ] {
        assert_eq!(node.put("/photos/b", "x").key(1).header(name, value).fails().await, (code.into(), 400));
    }
}

#[tokio::test]
async fn copies_change_keys() {
    let node = Node::with_bucket("photos").await;
    let body = noise(200_000);
    node.put("/photos/a", body.clone()).key(1).ok().await;
    let copy = |target: &str| node.put(target, "").header("x-amz-copy-source", "photos/a");
    assert_eq!(copy("/photos/b").fails().await.0, "InvalidRequest");
    assert_eq!(copy("/photos/b").source_key(2).fails().await.0, "AccessDenied");
    copy("/photos/b").source_key(1).ok().await;
    assert_eq!(node.get("/photos/b").ok().await.body, body);
    copy("/photos/c").source_key(1).key(3).ok().await;
    assert_eq!(node.get("/photos/c").key(3).ok().await.body, body);
    // Onto itself, to change the key.
    copy("/photos/a").source_key(1).key(4).ok().await;
    assert_eq!(node.get("/photos/a").key(4).ok().await.body, body);
    copy("/photos/a").source_key(4).header(SSE, "AES256").ok().await;
    assert_eq!(node.get("/photos/a").ok().await.body, body);
    copy("/photos/a").header("x-amz-metadata-directive", "REPLACE").header("x-amz-meta-a", "1").ok().await;
    let got = node.get("/photos/a").ok().await;
    assert_eq!((got.body, got.headers["x-amz-meta-a"].to_str().unwrap()), (body, "1"));
}

#[tokio::test]
async fn parts_are_sealed() {
    let node = Node::with_bucket("photos").await;
    let (first, second) = (noise(5 << 20), noise(70_000));
    for customer in [false, true] {
        let begin = node.post("/photos/a?uploads", "");
        let begin = if customer { begin.key(1) } else { begin };
        let id = begin.ok().await.one("UploadId");
        let part = |number: u32, body: bytes::Bytes| {
            let call = node.put(&format!("/photos/a?partNumber={number}&uploadId={id}"), body);
            if customer { call.key(1) } else { call }
        };
        let second_tag = part(2, second.clone()).ok().await.header("etag").to_owned();
        let first_tag = part(1, first.clone()).ok().await.header("etag").to_owned();
        let target = format!("/photos/a?partNumber=3&uploadId={id}");
        if customer {
            assert_eq!(node.put(&target, "x").fails().await.0, "InvalidRequest");
            assert_eq!(node.put(&target, "x").key(2).fails().await.0, "InvalidRequest");
        } else {
            assert_eq!(node.put(&target, "x").key(1).fails().await.0, "InvalidRequest");
        }
        let parts = [(1, first_tag), (2, second_tag)];
        let parts: String = parts
            .iter()
            .map(|(n, tag)| format!("<Part><PartNumber>{n}</PartNumber><ETag>{tag}</ETag></Part>"))
            .collect();
        let xml = format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>");
        node.post(&format!("/photos/a?uploadId={id}"), xml).ok().await;
        let whole = [&first[..], &second[..]].concat();
        let get = |range: &str| {
            let call = node.get("/photos/a").header("range", range);
            if customer { call.key(1) } else { call }
        };
        assert_eq!(get("bytes=0-").ok().await.body, whole);
        let middle = (5 << 20) - 100..(5 << 20) + 66_000;
        let range = format!("bytes={}-{}", middle.start, middle.end - 1);
        assert_eq!(get(&range).ok().await.body, whole[middle]);
        assert!(!is_stored(&node, &first[500..600]).await);
        assert!(!is_stored(&node, &second[500..600]).await);
    }
}

#[tokio::test]
async fn buckets_have_a_default() {
    let node = Node::with_bucket("photos").await;
    let get = node.get("/photos?encryption").ok().await;
    assert_eq!((get.one("SSEAlgorithm"), get.one("BucketKeyEnabled")), ("AES256".into(), "false".into()));
    let rule = |algorithm: &str, key: bool| {
        format!(
            "<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault><SSEAlgorithm>{algorithm}</SSEAlgorithm></ApplyServerSideEncryptionByDefault><BucketKeyEnabled>{key}</BucketKeyEnabled></Rule></ServerSideEncryptionConfiguration>"
        )
    };
    node.put("/photos?encryption", rule("AES256", true)).ok().await;
    assert_eq!(node.get("/photos?encryption").ok().await.one("BucketKeyEnabled"), "true");
    assert_eq!(node.put("/photos?encryption", rule("aws:kms:dsse", true)).fails().await.0, "NotImplemented");
    node.put("/photos?encryption", rule("aws:kms", true)).ok().await;
    assert_eq!(node.get("/photos?encryption").ok().await.one("SSEAlgorithm"), "aws:kms");
    let put = node.put("/photos/a", "x").ok().await;
    assert_eq!(put.header(SSE), "aws:kms");
    assert_eq!(put.header("x-amz-server-side-encryption-bucket-key-enabled"), "true");
    assert_eq!(node.put("/photos/a", "x").header(SSE, "AES256").ok().await.header(SSE), "AES256");
    assert_eq!(node.put("/photos?encryption", rule("rot13", true)).fails().await.0, "MalformedXML");
    node.delete("/photos?encryption").ok().await;
    assert_eq!(node.get("/photos?encryption").ok().await.one("BucketKeyEnabled"), "false");
}

#[tokio::test]
async fn bytes_from_before_stay_readable() {
    let node = Node::with_bucket("photos").await;
    // A row as it was written before objects were sealed.
    let row = br#"{"s":3,"e":"900150983cd24fb0d6963f7d28e17f72","m":1700000000,"d":"i","c":{"a":"CRC32","k":"F","v":"NSRBwg=="}}"#;
    let mut object = store::key::KeyWriter::new(AccountId::DEFAULT, tables::OBJECTS);
    object.text("photos").text("old");
    let mut data = store::key::KeyWriter::new(AccountId::DEFAULT, tables::OBJECT_DATA);
    data.u8(0).text("photos").text("old");
    let put = |key: store::key::KeyWriter, value: &[u8]| {
        store::Write::Put(key.finish(), [&[1], value].concat().into())
    };
    node.store.write(vec![put(object, row), put(data, b"abc")]).await.unwrap();
    let got = node.get("/photos/old").ok().await;
    assert_eq!((&got.body[..], got.header(SSE)), (&b"abc"[..], ""));
    node.put("/photos/new", "").header("x-amz-copy-source", "photos/old").ok().await;
    let got = node.get("/photos/new").ok().await;
    assert_eq!((&got.body[..], got.header(SSE)), (&b"abc"[..], "AES256"));
}

#[tokio::test]
async fn keys_of_kms_seal_objects_for_those_who_may_use_them() {
    const KEY_ID: &str = "x-amz-server-side-encryption-aws-kms-key-id";
    const BUCKET_KEY: &str = "x-amz-server-side-encryption-bucket-key-enabled";
    let node = Node::with_bucket("photos").await;
    for size in [0, 1000, 300_000] {
        let body = noise(size);
        let put = node.put("/photos/a", body.clone()).header(SSE, "aws:kms").header(KEY_ID, "k").ok().await;
        assert_eq!(put.header(SSE), "aws:kms");
        assert!(put.header(KEY_ID).ends_with(":key/k"));
        assert_ne!(put.header("etag"), format!("\"{}\"", hex::encode(md5::Md5::digest(&body))));
        let got = node.get("/photos/a").ok().await;
        assert_eq!((got.body, got.headers.get(SSE)), (body.clone(), put.headers.get(SSE)));
        if size >= 1000 {
            assert!(!is_stored(&node, &body[500..600]).await);
            let part = node.get("/photos/a").header("range", "bytes=10-700").ok().await;
            assert_eq!(part.body, body.slice(10..701));
        }
    }
    // Bound to the object, or to the bucket if that is asked for.
    let put = node.put("/photos/b", "b").header(SSE, "aws:kms").header(BUCKET_KEY, "true").ok().await;
    assert_eq!(put.header(BUCKET_KEY), "true");
    assert!(put.header(KEY_ID).ends_with(":key/own"));
    assert_eq!(node.get("/photos/b").ok().await.body, "b");

    let fails = node.put("/photos/a", "x").header(SSE, "aws:kms").header(KEY_ID, "missing").fails().await;
    assert_eq!(fails.0, "KMS.NotFoundException");
    for (name, value) in
        [(KEY_ID, "k"), (BUCKET_KEY, "true"), ("x-amz-server-side-encryption-context", "e30=")]
    {
        let fails = node.put("/photos/a", "x").header(name, value).fails().await;
        assert_eq!(fails.0, "InvalidArgument", "{name}");
    }
    assert_eq!(node.get("/photos/a").key(1).fails().await.0, "InvalidRequest");
}
