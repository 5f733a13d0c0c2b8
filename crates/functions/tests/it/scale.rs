//! Much at once, much that is there, and changes while all of it goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use functions::Config;
use serde_json::json;
use store::key::Key;
use store::{
    Commit, Committed, Engine, Error, MemoryEngine, Range, Read, ReadRequest, ReadResponse, Store, TableId,
    Watch, Write,
};

use crate::support::{Node, handler, until};

const F: &str = "/2015-03-31/functions";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_on_a_cold_function_is_answered_in_full() {
    // Room for ten instances, of which two get ready at a time.
    let node = Node::start(Config { memory_mb: Some(1280), starts: Some(2), ..Config::default() }).await;
    let echo = handler(|request, _| async move {
        tokio::time::sleep(Duration::from_millis(1)).await;
        Ok(serde_json::from_slice(request.event.payload()).unwrap())
    });
    node.deploy("f", echo).await;
    let requests = (0..1_000).map(|number| node.invoke("f", json!(number)));
    for (number, answer) in futures_util::future::join_all(requests).await.into_iter().enumerate() {
        assert_eq!(answer.unwrap(), json!(number));
    }
    assert!(node.runtime.most_live.load(Ordering::SeqCst) <= 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deploy_switches_without_a_failed_request() {
    let node = Arc::new(Node::start(Config::default()).await);
    for version in 0..20 {
        let answer = handler(move |_, _| async move {
            tokio::time::sleep(Duration::from_millis(1)).await;
            Ok(json!(version))
        });
        node.runtime.set(&format!("v{version}"), answer);
    }
    node.deploy_with("f", handler(|_, _| async { Ok(json!(0)) }), json!({ "Handler": "v0" })).await.unwrap();
    // What every request that is sent from now on must at least see.
    let deployed = Arc::new(AtomicUsize::new(0));
    let done = Arc::new(AtomicBool::new(false));
    let load: Vec<_> = (0..16)
        .map(|_| {
            let (node, deployed, done) = (node.clone(), deployed.clone(), done.clone());
            tokio::spawn(async move {
                let mut served = 0;
                while !done.load(Ordering::SeqCst) {
                    let least = deployed.load(Ordering::SeqCst);
                    let seen = node.invoke("f", json!({})).await.expect("no request fails");
                    assert!(seen.as_u64().unwrap() as usize >= least, "{seen} after {least}");
                    served += 1;
                }
                served
            })
        })
        .collect();
    for version in 1..20 {
        let change = json!({ "Handler": format!("v{version}") });
        node.json("PUT", &format!("{F}/f/configuration"), change).await.unwrap();
        deployed.store(version, Ordering::SeqCst);
        let started = node.runtime.started.load(Ordering::SeqCst);
        until(|| node.runtime.started.load(Ordering::SeqCst) > started).await;
    }
    done.store(true, Ordering::SeqCst);
    for one in load {
        assert!(one.await.unwrap() > 0);
    }
    // Nothing of an older deployment is kept.
    let stopped = || {
        let started = node.runtime.started.load(Ordering::SeqCst);
        let last: Vec<_> = node.runtime.requests.lock().unwrap().iter().map(|r| r.handler.clone()).collect();
        let of_last = last.iter().filter(|name| *name == "v19").count();
        node.runtime.stopped.load(Ordering::SeqCst) >= started - of_last
    };
    until(stopped).await;
}

#[tokio::test]
async fn requests_wait_while_what_every_function_needs_is_installed() {
    let node = Arc::new(Node::start(Config { queue_timeout_ms: 20, ..Config::default() }).await);
    node.deploy("f", handler(|_, _| async { Ok(json!("late")) })).await;
    node.runtime.hold_starts.store(true, Ordering::SeqCst);
    let refused = node.invoke("f", json!({})).await.unwrap_err();
    assert!(matches!(refused, functions::Error::Throttled(_)), "{refused}");

    node.runtime.being_set_up.store(true, Ordering::SeqCst);
    let mut waiting = {
        let node = node.clone();
        tokio::spawn(async move { node.invoke("f", json!({})).await })
    };
    assert!(tokio::time::timeout(Duration::from_millis(200), &mut waiting).await.is_err());
    node.runtime.hold_starts.store(false, Ordering::SeqCst);
    node.runtime.release_starts.notify_waiters();
    assert_eq!(waiting.await.unwrap().unwrap(), json!("late"));
}

/// Counts the rows that are read from what it wraps.
#[derive(Debug)]
struct Counting {
    inner: Arc<dyn Engine>,
    rows: AtomicUsize,
}

#[async_trait]
impl Engine for Counting {
    async fn read(&self, request: ReadRequest) -> Result<ReadResponse, Error> {
        let response = self.inner.read(request).await?;
        let rows = response.pages.iter().map(|page| page.entries.len()).sum();
        self.rows.fetch_add(rows, Ordering::SeqCst);
        Ok(response)
    }

    async fn commit(&self, commit: Commit) -> Result<Committed, Error> {
        self.inner.commit(commit).await
    }

    fn watch(&self, table: TableId) -> Watch {
        self.inner.watch(table)
    }

    fn size_bytes(&self) -> u64 {
        self.inner.size_bytes()
    }

    async fn close(&self) -> Result<(), Error> {
        self.inner.close().await
    }
}

/// `text` in place of `seed`, which is as long.
fn replaced(bytes: &[u8], seed: &str, text: &str) -> Vec<u8> {
    let mut out = bytes.to_vec();
    let mut from = 0;
    while let Some(at) = out[from..].windows(seed.len()).position(|part| part == seed.as_bytes()) {
        out[from + at..from + at + seed.len()].copy_from_slice(text.as_bytes());
        from += at + seed.len();
    }
    out
}

#[tokio::test]
async fn functions_that_nobody_calls_cost_rows_and_nothing_else() {
    const MANY: usize = 100_000;
    let engine = MemoryEngine::new();
    let folder = tempfile::tempdir().unwrap();
    let blobs: Arc<dyn blobs::Blobs> = blobs::FsBlobs::open(folder.path()).unwrap();
    let first = Node::over(engine.clone(), Arc::default(), blobs.clone(), Config::default());
    let seed = "idle-000000";
    first.deploy(seed, handler(|_, _| async { Ok(json!("it runs")) })).await;
    first.kill();
    let runtime = first.runtime.clone();

    let store = Store::new(engine.clone());
    let all = Range {
        start: Key::from(vec![0]),
        end: Key::from(vec![255; 8]),
        limit: 1_000,
        limit_bytes: 64 << 20,
        reverse: false,
    };
    let page = store.read(vec![Read::Range(all)]).await.unwrap().remove(0);
    let has = |bytes: &[u8]| bytes.windows(seed.len()).any(|part| part == seed.as_bytes());
    let own: Vec<_> = page.entries.iter().filter(|entry| has(&entry.key)).collect();
    assert!(!own.is_empty(), "a function has a row");
    let start_up = async |engine: Arc<dyn Engine>| {
        let counting = Arc::new(Counting { inner: engine, rows: AtomicUsize::new(0) });
        let node = Node::over(counting.clone(), runtime.clone(), blobs.clone(), Config::default());
        // It looks at what there is before it looks at whether it is to stop.
        node.shutdown.cancel();
        let work = node.tasks.lock().unwrap().pop().unwrap();
        work.await.unwrap();
        counting.rows.load(Ordering::SeqCst)
    };
    let read_for_one = start_up(engine.clone()).await;

    let mut writes = Vec::new();
    for number in 1..MANY {
        let name = format!("idle-{number:06}");
        writes.extend(own.iter().map(|entry| {
            let key = Key::from(replaced(&entry.key, seed, &name));
            Write::Put(key, replaced(&entry.value, seed, &name).into())
        }));
        if writes.len() >= 5_000 || number == MANY - 1 {
            store.write(std::mem::take(&mut writes)).await.unwrap();
        }
    }
    assert_eq!(start_up(engine.clone()).await, read_for_one, "starting looks at no function");
    let node = Node::over(engine.clone(), runtime.clone(), blobs.clone(), Config::default());
    assert_eq!(node.functions.functions_in_memory(), 0);
    // They are all there, and one that is called is the only one that takes memory.
    let last = format!("idle-{:06}", MANY - 1);
    let configuration = node.json("GET", &format!("{F}/{last}/configuration"), json!(null)).await.unwrap();
    assert_eq!(configuration["FunctionName"], json!(last));
    node.runtime.set(&last, handler(|_, _| async { Ok(json!("it runs")) }));
    assert_eq!(node.invoke(&last, json!({})).await.unwrap(), json!("it runs"));
    assert_eq!(node.functions.functions_in_memory(), 1);
}
