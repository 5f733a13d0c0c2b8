//! The conformance suite for blob stores: one function for each promise, each run on every store.

use std::sync::Arc;

use blobs::{Blobs, Error, FsBlobs};
use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::{StreamExt, stream};
use proptest::prelude::{Strategy, any, proptest};

use crate::{body, id, noise, read};

macro_rules! suite {
    ($($promise:ident)*) => {
        mod on_files {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $promise() {
                let dir = tempfile::tempdir().unwrap();
                super::$promise(super::FsBlobs::open(dir.path()).unwrap()).await;
            })*
        }

        /// Each promise in a part of the bucket of its own: one server takes a while to start.
        pub(crate) async fn on_bucket(bucket: &crate::buckets::Bucket) {
            $({
                println!("{}", stringify!($promise));
                $promise(bucket.blobs(stringify!($promise)).await).await;
                bucket.holds_no_uploads(stringify!($promise)).await;
            })*
        }
    };
}

suite! {
    what_is_put_is_got
    ranges_are_exact
    ranges_outside_are_refused
    what_is_not_there_is_not_found
    a_body_that_fails_leaves_nothing
    a_put_that_is_dropped_leaves_nothing
    blobs_do_not_change
    deleting_twice_is_fine
    a_blob_that_is_deleted_can_be_read_to_its_end
    lists_are_in_order_and_resume
    many_at_once_do_not_mix
}

/// Around the edges of blocks, chunks and steps.
const SIZES: [usize; 12] =
    [0, 1, 7, 65_535, 65_536, 65_537, 131_072, 262_143, 262_144, 262_145, 1_048_576, 3_000_001];

async fn what_is_put_is_got(blobs: Arc<dyn Blobs>) {
    for (n, size) in SIZES.into_iter().enumerate() {
        for (m, piece) in [1_000, 65_536, usize::MAX >> 1].into_iter().enumerate() {
            let (id, bytes) = (id(n as u8, m as u8), noise(size));
            assert_eq!(blobs.put(id, body(&bytes, piece)).await.unwrap(), size as u64);
            assert!(read(&*blobs, id, 0..size as u64).await.unwrap() == bytes, "{size} in pieces of {piece}");
        }
    }
    // Pieces of nothing, and of very little.
    let pieces = [&b""[..], b"a", b"", b"b", b""].map(|piece| Ok(Bytes::from_static(piece)));
    assert_eq!(blobs.put(id(99, 0), stream::iter(pieces).boxed()).await.unwrap(), 2);
    assert_eq!(read(&*blobs, id(99, 0), 0..2).await.unwrap(), "ab");
    let bytes = noise(5_000);
    blobs.put(id(99, 1), body(&bytes, 1)).await.unwrap();
    assert!(read(&*blobs, id(99, 1), 0..5_000).await.unwrap() == bytes);
}

async fn ranges_are_exact(blobs: Arc<dyn Blobs>) {
    let bytes = noise(700_000);
    blobs.put(id(1, 1), body(&bytes, 10_000)).await.unwrap();
    let edges = [0, 1, 65_535, 65_536, 65_537, 262_144, 262_145, 500_000, 699_999, 700_000];
    for start in edges {
        for end in edges.into_iter().filter(|end| *end >= start) {
            let found = read(&*blobs, id(1, 1), start..end).await.unwrap();
            assert!(found == bytes[start as usize..end as usize], "{start}..{end}");
        }
    }
}

async fn ranges_outside_are_refused(blobs: Arc<dyn Blobs>) {
    blobs.put(id(1, 1), body(&noise(100), 100)).await.unwrap();
    for (start, end) in [(0, 101), (101, 101), (50, 40), (0, u64::MAX), (u64::MAX, u64::MAX)] {
        let error = read(&*blobs, id(1, 1), start..end).await.unwrap_err();
        assert!(matches!(error, Error::Range { size: 100, .. }), "{error}");
    }
}

async fn what_is_not_there_is_not_found(blobs: Arc<dyn Blobs>) {
    let error = read(&*blobs, id(1, 1), 0..0).await.unwrap_err();
    assert!(matches!(error, Error::NotFound(missing) if missing == id(1, 1)), "{error}");
}

async fn a_body_that_fails_leaves_nothing(blobs: Arc<dyn Blobs>) {
    for size in [0, 100, 5_000_000] {
        let failing = body(&noise(size), 100_000)
            .chain(stream::iter([Err(Error::Body("the client went away".into()))]))
            // Not to be asked for.
            .chain(stream::iter([Ok(Bytes::from_static(b"more"))]));
        let error = blobs.put(id(1, 1), failing.boxed()).await.unwrap_err();
        assert!(matches!(&error, Error::Body(why) if why.to_string() == "the client went away"), "{error}");
        assert!(matches!(read(&*blobs, id(1, 1), 0..0).await, Err(Error::NotFound(_))));
        assert_eq!(blobs.list(None, 10).await.unwrap(), []);
    }
    // The id is free.
    blobs.put(id(1, 1), body(&noise(10), 10)).await.unwrap();
}

async fn a_put_that_is_dropped_leaves_nothing(blobs: Arc<dyn Blobs>) {
    for size in [0, 100, 5_000_000] {
        let bytes = noise(size);
        let (reached, is_reached) = tokio::sync::oneshot::channel::<()>();
        // Gives its bytes, says so, and never ends.
        let endless = body(&bytes, 100_000).chain(
            stream::once(async move {
                reached.send(()).unwrap();
                std::future::pending().await
            })
            .boxed(),
        );
        tokio::select! {
            _ = blobs.put(id(1, 1), endless.boxed()) => panic!("it can not end"),
            reached = is_reached => reached.unwrap(),
        }
        assert_eq!(blobs.list(None, 10).await.unwrap(), []);
    }
    blobs.put(id(1, 1), body(&noise(10), 10)).await.unwrap();
}

async fn blobs_do_not_change(blobs: Arc<dyn Blobs>) {
    let bytes = noise(1000);
    blobs.put(id(1, 1), body(&bytes, 1000)).await.unwrap();
    assert!(blobs.put(id(1, 1), body(&noise(999), 1000)).await.is_err());
    assert!(read(&*blobs, id(1, 1), 0..1000).await.unwrap() == bytes);
}

async fn deleting_twice_is_fine(blobs: Arc<dyn Blobs>) {
    blobs.put(id(1, 1), body(&noise(10), 10)).await.unwrap();
    blobs.delete(id(1, 1)).await.unwrap();
    blobs.delete(id(1, 1)).await.unwrap();
    assert!(matches!(read(&*blobs, id(1, 1), 0..0).await, Err(Error::NotFound(_))));
}

async fn a_blob_that_is_deleted_can_be_read_to_its_end(blobs: Arc<dyn Blobs>) {
    let bytes = noise(2_000_000);
    blobs.put(id(1, 1), body(&bytes, 100_000)).await.unwrap();
    let mut stream = blobs.get(id(1, 1), 0..2_000_000).await.unwrap();
    let mut found = stream.next().await.unwrap().unwrap().to_vec();
    assert!(found.len() < bytes.len(), "a blob is not read whole");
    blobs.delete(id(1, 1)).await.unwrap();
    while let Some(chunk) = stream.next().await {
        found.extend_from_slice(&chunk.unwrap());
    }
    assert!(found == bytes);
}

async fn lists_are_in_order_and_resume(blobs: Arc<dyn Blobs>) {
    let mut ids = Vec::new();
    for byte in [0, 7, 7, 200, 255] {
        for last in [9, 1, 255, 0] {
            ids.push(id(byte, last));
        }
    }
    ids.sort();
    ids.dedup();
    for id in ids.iter().rev() {
        blobs.put(*id, body(&noise(3), 3)).await.unwrap();
    }
    assert_eq!(blobs.list(None, usize::MAX).await.unwrap(), ids);
    assert_eq!(blobs.list(None, 0).await.unwrap(), []);
    let mut found = Vec::new();
    loop {
        let next = blobs.list(found.last().copied(), 3).await.unwrap();
        assert!(next.len() <= 3);
        if next.is_empty() {
            break;
        }
        found.extend(next);
    }
    assert_eq!(found, ids);
    assert_eq!(blobs.list(Some(id(8, 0)), 2).await.unwrap(), [id(200, 0), id(200, 1)]);
}

async fn many_at_once_do_not_mix(blobs: Arc<dyn Blobs>) {
    let sizes = || (0..40_usize).map(|n| (n, n * 17_001));
    let puts = sizes().map(|(n, size)| {
        let blobs = blobs.clone();
        tokio::spawn(async move { blobs.put(id(n as u8, 0), body(&noise(size), 9_999)).await.unwrap() })
    });
    for (put, (_, size)) in join_all(puts).await.into_iter().zip(sizes()) {
        assert_eq!(put.unwrap(), size as u64);
    }
    let gets = sizes().map(|(n, size)| {
        let blobs = blobs.clone();
        tokio::spawn(async move {
            assert!(read(&*blobs, id(n as u8, 0), 0..size as u64).await.unwrap() == noise(size));
        })
    });
    join_all(gets).await.into_iter().for_each(|get| get.unwrap());
}

proptest! {
    #![proptest_config(proptest::test_runner::Config { cases: 48, failure_persistence: None, ..Default::default() })]
    #[test]
    fn any_range_of_any_blob(size in 0_usize..600_000, piece in 1_usize..300_000, cut in any::<(u32, u32)>().prop_map(|(a, b)| (a.min(b), a.max(b)))) {
        let scale = |at: u32| u64::from(at) * size as u64 / u64::from(u32::MAX);
        let (start, end) = (scale(cut.0), scale(cut.1));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let blobs = FsBlobs::open(dir.path()).unwrap();
            let bytes = noise(size);
            blobs.put(id(1, 1), body(&bytes, piece)).await.unwrap();
            let found = read(&*blobs, id(1, 1), start..end).await.unwrap();
            assert!(found == bytes[start as usize..end as usize]);
        });
    }
}
