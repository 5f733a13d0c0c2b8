//! What a crash or a dropped request leaves behind is found and removed; what was acknowledged stays.

use futures_util::StreamExt;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use store::tables;
use tokio_util::sync::CancellationToken;
use types::AccountId;

use crate::harness::{Node, noise};

/// A body that sends some bytes and then nothing, for ever; and a signal that they were taken.
fn stuck(len: usize) -> (aws::Body, tokio::sync::oneshot::Receiver<()>) {
    let (taken, signal) = tokio::sync::oneshot::channel();
    let first = futures_util::stream::iter([Ok::<_, aws::BodyError>(Frame::data(noise(len)))]);
    let rest = futures_util::stream::once(async move {
        let _ = taken.send(());
        std::future::pending().await
    });
    (StreamBody::new(first.chain(rest).boxed()).boxed_unsync(), signal)
}

#[tokio::test]
async fn a_dropped_upload_is_swept() {
    let node = Node::with_bucket("photos").await;
    node.put("/photos/kept", noise(100_000)).ok().await;
    let (body, taken) = stuck(100_000);
    {
        let upload = node.put("/photos/a", "").stream(body, 200_000).send();
        tokio::pin!(upload);
        tokio::select! {
            _ = &mut upload => panic!("it can not end"),
            _ = taken => {}
        }
        assert_eq!(node.rows(tables::BLOB_PENDING, AccountId::NODE).await, 1);
        // An upload under way is left alone.
        node.sweep().await;
        assert_eq!(node.rows(tables::BLOB_PENDING, AccountId::NODE).await, 1);
    }
    node.sweep().await;
    assert_eq!(node.rows(tables::BLOB_PENDING, AccountId::NODE).await, 0);
    assert_eq!(node.rows(tables::BLOB_GARBAGE, AccountId::NODE).await, 0);
    assert_eq!(node.blob_count().await, 1);
}

#[tokio::test]
async fn a_restart_finds_what_was_pending() {
    let node = Node::with_bucket("photos").await;
    node.put("/photos/kept", noise(100_000)).ok().await;
    // A blob whose commit never came: its pending row and its bytes are there, and nothing else.
    let id = blobs::BlobId([9; 16]);
    let data = noise(70_000);
    node.blobs.put(id, futures_util::stream::iter([Ok(data)]).boxed()).await.unwrap();
    let mut key = store::key::KeyWriter::new(AccountId::NODE, tables::BLOB_PENDING);
    key.raw(&id.0);
    let row = [&[1][..], br#"{"started_at":"2026-01-01T00:00:00Z"}"#].concat();
    node.store.write(vec![store::Write::Put(key.finish(), row.into())]).await.unwrap();
    assert_eq!(node.blob_count().await, 2);

    let node = node.restarted();
    node.sweep().await;
    assert_eq!(node.blob_count().await, 1);
    assert_eq!(node.rows(tables::BLOB_PENDING, AccountId::NODE).await, 0);
    assert_eq!(node.get("/photos/kept").ok().await.body, noise(100_000));
}

#[tokio::test]
async fn garbage_outlives_a_restart_and_its_grace() {
    let node = Node::with(s3::Config { blob_grace_ms: 3_600_000, ..s3::Config::default() });
    node.call(http::Method::PUT, "/photos").ok().await;
    node.put("/photos/a", noise(100_000)).ok().await;
    node.delete("/photos/a").ok().await;
    node.sweep().await;
    assert_eq!(node.blob_count().await, 1);
    let node = node.restarted();
    node.sweep().await;
    assert_eq!(node.blob_count().await, 0);
}

#[tokio::test]
async fn the_sweeper_is_woken_and_stops() {
    let node = Node::with_bucket("photos").await;
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(node.s3.sweeper().run(shutdown.clone()));
    let mut garbage = node.store.watch(tables::BLOB_GARBAGE);
    node.put("/photos/a", noise(100_000)).ok().await;
    node.delete("/photos/a").ok().await;
    // One write adds the row, another removes it when the blob is gone.
    garbage.next().await;
    garbage.next().await;
    assert_eq!(node.blob_count().await, 0);
    shutdown.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test]
async fn what_was_acknowledged_is_there_when_the_node_comes_back() {
    let node = Node::on_disk(tempfile::tempdir().unwrap());
    node.call(http::Method::PUT, "/photos").ok().await;
    node.put("/photos/small", "small").header("x-amz-meta-k", "v").ok().await;
    node.put("/photos/large", noise(300_000)).ok().await;
    let id = node.post("/photos/parts?uploads", "").ok().await.one("UploadId");
    let part = node.put(&format!("/photos/parts?partNumber=1&uploadId={id}"), noise(80_000)).ok().await;

    let node = Node::on_disk(node.end().await);
    node.sweep().await;
    let small = node.get("/photos/small").ok().await;
    assert_eq!((small.text(), small.header("x-amz-meta-k")), ("small", "v"));
    assert_eq!(node.get("/photos/large").ok().await.body, noise(300_000));
    let xml = format!(
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{}</ETag></Part></CompleteMultipartUpload>",
        part.header("etag")
    );
    node.post(&format!("/photos/parts?uploadId={id}"), xml).ok().await;
    assert_eq!(node.get("/photos/parts").ok().await.body, noise(80_000));
    assert_eq!(node.get("/photos").ok().await.all("Key"), ["large", "parts", "small"]);
}
