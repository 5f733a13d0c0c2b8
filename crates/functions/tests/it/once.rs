//! Functions that run once for each key.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use functions::{Config, Invocation, RunError};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::support::{Node, handler, until};

fn variables(pairs: &[(&str, &str)]) -> Value {
    let map: serde_json::Map<_, _> = pairs.iter().map(|(k, v)| ((*k).to_owned(), json!(v))).collect();
    json!({ "Environment": { "Variables": map } })
}

/// Counts how often it ran, and answers with that.
fn counting(count: &Arc<AtomicUsize>) -> crate::support::Handler {
    let count = count.clone();
    handler(move |request, _| {
        let count = count.clone();
        async move {
            let number = count.fetch_add(1, Ordering::SeqCst) + 1;
            let event: Value = serde_json::from_slice(request.event.payload()).unwrap();
            if event["fail"] == true && number == 1 {
                return Ok(json!({ "errorMessage": "no", "errorType": "E" }));
            }
            if event["die"] == true && number == 1 {
                return Err(RunError::Timeout { logs: Vec::new(), max_memory_bytes: 0 });
            }
            Ok(json!(number))
        }
    })
}

#[tokio::test]
async fn an_order_is_placed_once() {
    let node = Node::start(Config::default()).await;
    let count = Arc::<AtomicUsize>::default();
    let extra = variables(&[("HAWKER_IDEMPOTENCY_KEY", "$.order.id")]);
    node.deploy_with("f", counting(&count), extra).await.unwrap();
    let order = |id: u32| json!({ "order": { "id": id }, "n": 1 });
    assert_eq!(node.invoke("f", order(1)).await.unwrap(), 1);
    assert_eq!(node.invoke("f", order(1)).await.unwrap(), 1);
    assert_eq!(node.invoke("f", order(2)).await.unwrap(), 2);
    assert!(node.functions.invoke(node.invocation("f", order(1))).await.unwrap().repeated);
    // Without a key it runs each time.
    assert_eq!(node.invoke("f", json!({})).await.unwrap(), 3);
    assert_eq!(node.invoke("f", json!({})).await.unwrap(), 4);
}

#[tokio::test]
async fn what_failed_may_be_tried_again() {
    let node = Node::start(Config::default()).await;
    for (name, member) in [("f", "fail"), ("g", "die")] {
        let count = Arc::<AtomicUsize>::default();
        let extra = variables(&[("HAWKER_IDEMPOTENCY_KEY", "$.id")]);
        node.deploy_with(name, counting(&count), extra).await.unwrap();
        let event = json!({ "id": "x", member: true });
        let first = node.functions.invoke(node.invocation(name, event.clone())).await.unwrap();
        assert!(first.function_error.is_some());
        assert_eq!(node.invoke(name, event.clone()).await.unwrap(), 2);
        assert_eq!(node.invoke(name, event).await.unwrap(), 2);
    }
}

#[tokio::test]
async fn duplicates_at_the_same_time_wait_for_the_first() {
    let node = Arc::new(Node::start(Config::default()).await);
    let (gate, count) = (Arc::new(Semaphore::new(0)), Arc::<AtomicUsize>::default());
    let (held, counted) = (gate.clone(), count.clone());
    let waits = handler(move |_, _| {
        let (held, counted) = (held.clone(), counted.clone());
        async move {
            counted.fetch_add(1, Ordering::SeqCst);
            held.acquire().await.unwrap().forget();
            Ok(json!("once"))
        }
    });
    let extra = variables(&[("HAWKER_IDEMPOTENCY_KEY", "event-id")]);
    node.deploy_with("f", waits, extra).await.unwrap();
    let tasks: Vec<_> = (0..20)
        .map(|_| {
            let node = node.clone();
            tokio::spawn(async move { node.invoke("f", json!({ "id": "e" })).await.unwrap() })
        })
        .collect();
    until(|| count.load(Ordering::SeqCst) == 1).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    gate.add_permits(20);
    for task in tasks {
        assert_eq!(task.await.unwrap(), "once");
    }
    assert_eq!(count.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_key_of_the_callers_belongs_to_one_event() {
    let node = Node::start(Config::default()).await;
    let count = Arc::<AtomicUsize>::default();
    let extra =
        variables(&[("HAWKER_IDEMPOTENCY_KEY", "header"), ("HAWKER_IDEMPOTENCY_WINDOW_SECONDS", "1")]);
    node.deploy_with("f", counting(&count), extra).await.unwrap();
    let invoke = |event: Value| {
        let invocation = Invocation { idempotency_key: Some("k".to_owned()), ..node.invocation("f", event) };
        node.functions.invoke(invocation)
    };
    assert_eq!(&invoke(json!({ "a": 1 })).await.unwrap().payload[..], b"1");
    assert_eq!(&invoke(json!({ "a": 1 })).await.unwrap().payload[..], b"1");
    let error = invoke(json!({ "a": 2 })).await.unwrap_err();
    assert!(error.to_string().contains("with another event"), "{error}");
    // The window ends.
    loop {
        let outcome = invoke(json!({ "a": 1 })).await.unwrap();
        if !outcome.repeated {
            assert_eq!(&outcome.payload[..], b"2");
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn an_outcome_outlives_the_node_and_an_unfinished_run_does_not_hold_its_key() {
    let node = Node::start(Config::default()).await;
    let count = Arc::<AtomicUsize>::default();
    let extra = variables(&[("HAWKER_IDEMPOTENCY_KEY", "$.id")]);
    node.deploy_with("f", counting(&count), extra.clone()).await.unwrap();
    assert_eq!(node.invoke("f", json!({ "id": "done" })).await.unwrap(), 1);
    let never = handler(|_, _| std::future::pending());
    node.runtime.set("f", never);
    // A fresh instance runs what hangs; the node ends in the middle of it.
    node.json("PUT", "/2015-03-31/functions/f/configuration", json!({ "Timeout": 5 })).await.unwrap();
    let hangs = node.functions.invoke(node.invocation("f", json!({ "id": "cut off" })));
    assert!(tokio::time::timeout(Duration::from_millis(100), hangs).await.is_err());
    let node = node.restart();
    node.runtime.set("f", counting(&count));
    assert_eq!(node.invoke("f", json!({ "id": "done" })).await.unwrap(), 1);
    assert_eq!(node.invoke("f", json!({ "id": "cut off" })).await.unwrap(), 2);
}
