//! A node that dies loses no event.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use blobs::Blobs;
use serde_json::json;
use store::{Engine, MemoryEngine};
use types::AccountId;

use crate::deliver::{counting, delivery, drained, quick, serve};
use crate::support::{Closures, Node, handler};

const A: AccountId = AccountId::DEFAULT;

/// A node in a runtime of its own, which can be ended as a process is: nothing of it runs on.
fn node_that_dies(
    engine: Arc<dyn Engine>,
    closures: Arc<Closures>,
    blobs: Arc<dyn Blobs>,
    work: impl AsyncFnOnce(&Node) + Send + 'static,
) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let node = Node::over(engine, closures, blobs, functions::Config::default());
        serve(&node, quick());
        work(&node).await;
    });
    // Every task is dropped where it waits; none is told.
    runtime.shutdown_timeout(std::time::Duration::from_secs(60));
}

#[test]
fn events_survive_nodes_that_die_at_any_moment() {
    let engine: Arc<dyn Engine> = MemoryEngine::new();
    let folder = tempfile::tempdir().unwrap();
    let blobs: Arc<dyn Blobs> = blobs::FsBlobs::open(folder.path()).unwrap();
    let seen: Arc<Mutex<HashMap<u64, usize>>> = Arc::default();
    let closures: Arc<Closures> = Arc::default();
    let inner = counting(&seen);
    // One call in three fails, one in three takes a while: nodes die with events due, delayed and running.
    let mixed = handler(move |request, instance| {
        let kind = request.request_id.to_string().as_bytes()[0] % 3;
        let run = inner(request, instance);
        async move {
            match kind {
                0 => run.await,
                1 => {
                    tokio::time::sleep(std::time::Duration::from_millis(15)).await;
                    run.await
                }
                _ => {
                    run.await?;
                    Ok(json!({ "errorMessage": "no" }))
                }
            }
        }
    });
    for life in 0..6u64 {
        let mixed = mixed.clone();
        node_that_dies(engine.clone(), closures.clone(), blobs.clone(), async move |node| {
            if life == 0 {
                node.deploy("f", mixed).await;
            }
            for n in life * 50..(life + 1) * 50 {
                node.store.write(vec![delivery(node, "f", &json!({ "n": n })).due(A)]).await.unwrap();
            }
            tokio::time::sleep(std::time::Duration::from_millis(5 * life)).await;
        });
    }
    node_that_dies(engine, closures, blobs, async |node| drained(node).await);
    let seen = seen.lock().unwrap();
    for n in 0..300 {
        assert!(seen.get(&n).is_some_and(|times| *times >= 1), "event {n} was lost");
    }
}
