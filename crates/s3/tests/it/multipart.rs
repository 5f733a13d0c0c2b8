//! Multipart uploads: parts become an object without being moved.

use base64::Engine as _;
use http::Method;
use store::tables;
use types::AccountId;

use crate::harness::{Node, noise};

const PART: usize = 5 << 20;

async fn begin(node: &Node, headers: &[(&'static str, &str)]) -> String {
    let mut call = node.post("/photos/a?uploads", "");
    for (name, value) in headers {
        call = call.header(name, value);
    }
    call.ok().await.one("UploadId")
}

fn completion(parts: &[(u32, String)]) -> String {
    let part = |(number, etag): &(u32, String)| {
        format!("<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>")
    };
    let parts: String = parts.iter().map(part).collect();
    format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>")
}

#[tokio::test]
async fn parts_become_an_object() {
    let node = Node::with_bucket("photos").await;
    let id = begin(&node, &[("content-type", "multipart/form-data"), ("x-amz-meta-k", "v")]).await;
    let (one, two) = (noise(PART), noise(70_000));
    let mut etags = Vec::new();
    for (number, data) in [(1, &one), (7, &two), (9, &two)] {
        let put = node.put(&format!("/photos/a?partNumber={number}&uploadId={id}"), data.clone()).ok().await;
        etags.push((number, put.header("etag").to_owned()));
    }
    // Uploaded again: the last one counts.
    node.put(&format!("/photos/a?partNumber=9&uploadId={id}"), "other").ok().await;
    let listed = node.get(&format!("/photos/a?uploadId={id}&max-parts=2")).ok().await;
    assert_eq!(listed.all("PartNumber"), ["1", "7"]);
    assert_eq!(listed.one("IsTruncated"), "true");
    let rest = node.get(&format!("/photos/a?uploadId={id}&part-number-marker=7")).ok().await;
    assert_eq!(rest.all("Size"), ["5"]);
    assert_eq!(node.get("/photos?uploads").ok().await.one("UploadId"), id);
    assert_eq!(node.get("/photos/a").fails().await.0, "NoSuchKey");

    let complete =
        |parts: &[(u32, String)]| node.post(&format!("/photos/a?uploadId={id}"), completion(parts));
    let reversed: Vec<_> = etags[..2].iter().rev().cloned().collect();
    assert_eq!(complete(&reversed).fails().await, ("InvalidPartOrder".into(), 400));
    assert_eq!(complete(&etags).fails().await, ("InvalidPart".into(), 400));
    assert_eq!(complete(&[(3, etags[0].1.clone())]).fails().await, ("InvalidPart".into(), 400));
    let small_first = [etags[1].clone(), (9, "\"795f3202b17cb6bc3d4b771d8c6c9eaf\"".into())];
    assert_eq!(complete(&small_first).fails().await, ("EntityTooSmall".into(), 400));
    assert_eq!(complete(&[]).fails().await, ("MalformedXML".into(), 400));

    let done = complete(&etags[..2]).ok().await;
    let etag = done.one("ETag");
    assert!(etag.ends_with("-2\""), "{etag}");
    assert_eq!(done.one("Location"), "http://127.0.0.1:4566/photos/a");
    // Asked for again, because the answer was lost.
    assert_eq!(complete(&etags[..2]).ok().await.one("ETag"), etag);

    let whole = [&one[..], &two].concat();
    let got = node.get("/photos/a").header("x-amz-checksum-mode", "ENABLED").ok().await;
    assert_eq!(got.body, whole);
    assert_eq!((got.header("content-type"), got.header("x-amz-meta-k")), ("multipart/form-data", "v"));
    assert!(!got.header("x-amz-checksum-crc64nvme").is_empty());
    let across =
        node.get("/photos/a").header("range", &format!("bytes={}-{}", PART - 3, PART + 2)).ok().await;
    assert_eq!(across.body, whole[PART - 3..PART + 3]);
    let second = node.get("/photos/a?partNumber=7").ok().await;
    assert_eq!((second.status.as_u16(), second.header("x-amz-mp-parts-count")), (206, "2"));
    assert_eq!(second.body, two);
    assert_eq!(node.get("/photos/a?partNumber=2").fails().await, ("InvalidPartNumber".into(), 416));

    // What was not listed is swept; the rest goes with the object.
    node.sweep().await;
    assert_eq!(node.blob_count().await, 2);
    assert_eq!(node.rows(tables::UPLOAD_PARTS, AccountId::DEFAULT).await, 0);
    let copied = node.put("/photos/b", "").header("x-amz-copy-source", "photos/a").ok().await;
    assert!(!copied.one("ETag").contains('-'));
    assert_eq!(node.get("/photos/b").ok().await.body, whole);
    node.delete("/photos/a").ok().await;
    node.delete("/photos/b").ok().await;
    node.sweep().await;
    assert_eq!(node.blob_count().await, 0);
    assert_eq!(node.rows(tables::OBJECT_DATA, AccountId::DEFAULT).await, 0);
}

#[tokio::test]
async fn checksums_of_parts_and_wholes() {
    let node = Node::with_bucket("photos").await;
    let data = noise(1000);
    for (kind, suffix) in [("COMPOSITE", "-1"), ("FULL_OBJECT", "")] {
        let headers = [("x-amz-checksum-algorithm", "CRC32"), ("x-amz-checksum-type", kind)];
        let id = begin(&node, &headers).await;
        let target = format!("/photos/a?partNumber=1&uploadId={id}");
        let other =
            node.put(&target, data.clone()).header("x-amz-checksum-sha1", "2jmj7l5rSw0yVb/vlWAYkK/YBwk=");
        assert_eq!(other.fails().await, ("InvalidRequest".into(), 400));
        // Each part of a composite has a checksum of its own.
        let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32IsoHdlc, &data);
        let crc = base64::engine::general_purpose::STANDARD.encode(u32::try_from(crc).unwrap().to_be_bytes());
        let call = node.put(&target, data.clone());
        let part = match kind {
            "COMPOSITE" => {
                let lacking = node.put(&target, data.clone());
                assert_eq!(lacking.fails().await, ("InvalidRequest".into(), 400));
                call.header("x-amz-checksum-crc32", &crc).ok().await
            }
            _ => call.ok().await,
        };
        assert_eq!(part.header("x-amz-checksum-crc32"), crc);
        let xml = format!(
            "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{}</ETag><ChecksumCRC32>{crc}</ChecksumCRC32></Part></CompleteMultipartUpload>",
            part.header("etag")
        );
        let wrong = xml.replace(&crc, "AAAAAA==");
        let bare = xml.replace(&format!("<ChecksumCRC32>{crc}</ChecksumCRC32>"), "");
        let complete = |xml: &str| node.post(&format!("/photos/a?uploadId={id}"), xml.to_owned());
        assert_eq!(complete(&wrong).fails().await, ("InvalidPart".into(), 400));
        if kind == "COMPOSITE" {
            assert_eq!(complete(&bare).fails().await, ("InvalidRequest".into(), 400));
        }
        let wrong_size = complete(&xml).header("x-amz-mp-object-size", "7");
        assert_eq!(wrong_size.fails().await, ("InvalidRequest".into(), 400));
        let done = complete(&xml).ok().await;
        assert_eq!(done.one("ChecksumType"), kind);
        assert!(done.one("ChecksumCRC32").ends_with(suffix));
        let head = node.call(Method::HEAD, "/photos/a").header("x-amz-checksum-mode", "ENABLED").ok().await;
        assert_eq!(head.header("x-amz-checksum-crc32"), done.one("ChecksumCRC32"));
        if kind == "FULL_OBJECT" {
            assert_eq!(done.one("ChecksumCRC32"), crc);
        }
    }
}

#[tokio::test]
async fn uploads_are_aborted_and_dropped_with_their_bucket() {
    let node = Node::with_bucket("photos").await;
    let id = begin(&node, &[]).await;
    let target = format!("/photos/a?partNumber=1&uploadId={id}");
    node.put(&target, noise(100_000)).ok().await;
    node.put(&target, noise(90_000)).ok().await;
    node.sweep().await;
    assert_eq!(node.blob_count().await, 1);
    assert_eq!(node.delete(&format!("/photos/a?uploadId={id}")).ok().await.status, 204);
    assert_eq!(node.delete(&format!("/photos/a?uploadId={id}")).fails().await, ("NoSuchUpload".into(), 404));
    assert_eq!(node.put(&target, "x").fails().await, ("NoSuchUpload".into(), 404));
    assert_eq!(
        node.put("/photos/a?partNumber=0&uploadId=x", "x").fails().await,
        ("InvalidArgument".into(), 400)
    );
    let id = begin(&node, &[]).await;
    node.put(&format!("/photos/a?partNumber=1&uploadId={id}"), noise(90_000)).ok().await;
    node.delete("/photos").ok().await;
    node.sweep().await;
    assert_eq!(node.blob_count().await, 0);
    assert_eq!(node.rows(tables::UPLOAD_PARTS, AccountId::DEFAULT).await, 0);
}

#[tokio::test]
async fn parts_are_copied() {
    let node = Node::with_bucket("photos").await;
    let data = noise(100_000);
    node.put("/photos/source", data.clone()).ok().await;
    let id = begin(&node, &[]).await;
    let copy = || {
        node.put(&format!("/photos/a?partNumber=1&uploadId={id}"), "")
            .header("x-amz-copy-source", "photos/source")
    };
    let beyond = copy().header("x-amz-copy-source-range", "bytes=0-100000");
    assert_eq!(beyond.fails().await, ("InvalidArgument".into(), 400));
    let part = copy().header("x-amz-copy-source-range", "bytes=10-99").ok().await;
    let parts = [(1, part.one("ETag"))];
    node.post(&format!("/photos/a?uploadId={id}"), completion(&parts)).ok().await;
    assert_eq!(node.get("/photos/a").ok().await.body, data.slice(10..100));
}

/// A thousandth of the bytes is enough: the rows of the other parts are those of the first under their own numbers.
#[tokio::test]
async fn ten_thousand_parts_become_an_object() {
    const PARTS: u32 = 10_000;
    let node = Node::with_bucket("photos").await;
    let id = begin(&node, &[]).await;
    let data = noise(PART);
    let put = node.put(&format!("/photos/a?partNumber=1&uploadId={id}"), data.clone()).ok().await;
    let etag = put.header("etag").to_owned();
    let start = store::key::KeyWriter::new(AccountId::DEFAULT, tables::UPLOAD_PARTS).finish();
    let end = store::key::prefix_end(&start);
    let range = store::Range { start, end, limit: 2, limit_bytes: 1 << 20, reverse: false };
    let first = node.store.scan(range).await.unwrap().entries.remove(0);
    let others = (2..=PARTS).map(|number| {
        let (same, _) = first.key.split_last_chunk::<4>().unwrap();
        let key = [same, &number.to_be_bytes()].concat();
        store::Write::Put(key.into(), first.value.clone())
    });
    node.store.write(others.collect()).await.unwrap();

    let last = node.get(&format!("/photos/a?uploadId={id}&part-number-marker=9998")).ok().await;
    assert_eq!(last.all("PartNumber"), ["9999", "10000"]);
    let listed: Vec<_> = (1..=PARTS).map(|number| (number, etag.clone())).collect();
    let done = node.post(&format!("/photos/a?uploadId={id}"), completion(&listed)).ok().await;
    assert!(done.one("ETag").ends_with("-10000\""));
    assert_eq!(node.rows(tables::UPLOAD_PARTS, AccountId::DEFAULT).await, 0);

    let size = PART as u64 * u64::from(PARTS);
    let head = node.call(Method::HEAD, "/photos/a").ok().await;
    assert_eq!(head.header("content-length"), size.to_string());
    let part = node.get("/photos/a?partNumber=10000").ok().await;
    assert_eq!((part.header("x-amz-mp-parts-count"), &part.body[..]), ("10000", &data[..]));
    let begin = PART as u64 * 9_000;
    let across =
        node.get("/photos/a").header("range", &format!("bytes={}-{}", begin - 3, begin + 2)).ok().await;
    assert_eq!(across.body, [&data[PART - 3..], &data[..3]].concat());
    let beyond = format!("/photos/a?partNumber=10001&uploadId={id}");
    assert_eq!(node.put(&beyond, "x").fails().await.0, "InvalidArgument");
}
