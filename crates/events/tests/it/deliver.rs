//! Events reach their functions, are tried again, and end where they should.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use events::{Config, Events, Handle};
use serde_json::{Value, json};
use store::key::KeyWriter;
use store::outbox::Delivery;
use store::{Range, Read, TableId, tables};
use tokio_util::sync::CancellationToken;
use types::{AccountId, ErrorKind, RequestId, Timestamp, TraceHeader};

use crate::support::{Handler, Node, handler, until};

const A: AccountId = AccountId::DEFAULT;

/// Times for tests: retries at once, idle lanes gone at once.
pub(crate) fn quick() -> Config {
    Config {
        retry_base_ms: 20,
        throttle_base_ms: 5,
        throttle_limit_ms: 50,
        lane_idle_ms: 20,
        queue_timeout_ms: 50,
        ..Config::default()
    }
}

pub(crate) fn serve(node: &Node, config: Config) -> (Handle, CancellationToken) {
    let (handle, service) = Events::new(
        config,
        node.store.clone(),
        node.env.clone(),
        node.functions.clone(),
        node.wires.clone(),
        node.telemetry.clone(),
    );
    let shutdown = CancellationToken::new();
    node.tasks.lock().unwrap().push(tokio::spawn(service.run(shutdown.clone())));
    (handle, shutdown)
}

pub(crate) fn delivery(node: &Node, function: &str, payload: &Value) -> Delivery {
    Delivery {
        request_id: RequestId::new(&*node.env),
        target: format!("arn:aws:lambda:us-east-1:{A}:function:{function}"),
        source: "arn:aws:s3:::photos".into(),
        service: None,
        payload: Bytes::from(payload.to_string()),
        client_context: None,
        failures: 0,
        accepted_at: node.env.now(),
        trace: TraceHeader::new(&*node.env),
    }
}

fn all(table: TableId) -> Read {
    let start = KeyWriter::new(A, table).finish();
    let end = store::key::prefix_end(&start);
    Read::Range(Range { start, end, limit: 10_000, limit_bytes: 64 << 20, reverse: false })
}

pub(crate) async fn rows(node: &Node, table: TableId) -> usize {
    node.store.read(vec![all(table)]).await.unwrap()[0].entries.len()
}

/// Both tables at one snapshot: an event on its way from one to the other is in either.
pub(crate) async fn drained(node: &Node) {
    loop {
        let reads = vec![all(tables::OUTBOX), all(tables::OUTBOX_DELAYED)];
        if node.store.read(reads).await.unwrap().iter().all(|page| page.entries.is_empty()) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Counts how often each `n` came.
pub(crate) fn counting(seen: &Arc<Mutex<HashMap<u64, usize>>>) -> Handler {
    let seen = seen.clone();
    handler(move |request, _| {
        let event: Value = serde_json::from_slice(request.event.payload()).unwrap();
        *seen.lock().unwrap().entry(event["n"].as_u64().unwrap()).or_default() += 1;
        async { Ok(json!(null)) }
    })
}

/// Keeps every event it gets.
fn keeping(kept: &Arc<Mutex<Vec<Value>>>) -> Handler {
    let kept = kept.clone();
    handler(move |request, _| {
        kept.lock().unwrap().push(serde_json::from_slice(request.event.payload()).unwrap());
        async { Ok(json!(null)) }
    })
}

/// Fails `failures` times, then answers; counts its calls.
fn failing(failures: usize, calls: &Arc<AtomicUsize>) -> Handler {
    let calls = calls.clone();
    handler(move |_, _| {
        let call = calls.fetch_add(1, Ordering::SeqCst);
        async move {
            Ok(if call < failures { json!({ "errorMessage": "no", "errorType": "E" }) } else { json!("yes") })
        }
    })
}

async fn configure(node: &Node, function: &str, config: Value) {
    let path = format!("/2019-09-25/functions/{function}/event-invoke-config");
    node.json("PUT", &path, config).await.unwrap();
}

fn records(node: &Node) -> Vec<(String, Value)> {
    let objects = node.wires.objects.lock().unwrap();
    objects.iter().map(|(key, body)| (key.clone(), serde_json::from_slice(body).unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_hundred_events_of_three_functions_arrive_exactly_once() {
    let node = Node::start(functions::Config::default()).await;
    let seen = [Arc::default(), Arc::default(), Arc::default()];
    for (i, seen) in seen.iter().enumerate() {
        node.deploy(&format!("f{i}"), counting(seen)).await;
    }
    // Some are there before the service, some come while it runs.
    for n in 0..100 {
        let due = delivery(&node, &format!("f{}", n % 3), &json!({ "n": n })).due(A);
        node.store.write(vec![due]).await.unwrap();
    }
    let (handle, shutdown) = serve(&node, quick());
    for n in 100..200 {
        let due = delivery(&node, &format!("f{}", n % 3), &json!({ "n": n })).due(A);
        node.store.write(vec![due]).await.unwrap();
    }
    drained(&node).await;
    let mut all: Vec<_> = seen.iter().flat_map(|seen| seen.lock().unwrap().clone()).collect();
    all.sort_unstable();
    assert_eq!(all, (0..200).map(|n| (n, 1)).collect::<Vec<_>>());
    until(|| handle.lanes() == 0 && handle.in_flight() == 0).await;

    // A lane that was forgotten is found again.
    node.store.write(vec![delivery(&node, "f0", &json!({ "n": 200 })).due(A)]).await.unwrap();
    drained(&node).await;
    assert_eq!(seen[0].lock().unwrap()[&200], 1);
    shutdown.cancel();
    let service = node.tasks.lock().unwrap().pop().unwrap();
    service.await.unwrap();
}

#[tokio::test]
async fn an_asynchronous_invocation_runs_later() {
    let node = Node::start(functions::Config::default()).await;
    let kept = Arc::default();
    node.deploy("f", keeping(&kept)).await;
    serve(&node, quick());
    let path = "/2015-03-31/functions/f/invocations";
    let (head, _) =
        node.api("POST", path, &[("x-amz-invocation-type", "Event")], r#"{"a":1}"#).await.unwrap();
    assert_eq!(head.status.as_u16(), 202);
    drained(&node).await;
    assert_eq!(*kept.lock().unwrap(), [json!({ "a": 1 })]);
}

#[tokio::test]
async fn a_failing_event_is_tried_three_times_and_its_record_is_kept() {
    let node = Node::start(functions::Config::default()).await;
    let (calls, sometimes) = (Arc::default(), Arc::default());
    node.deploy("f", failing(usize::MAX, &calls)).await;
    node.deploy("g", failing(2, &sometimes)).await;
    let to_bucket =
        json!({ "DestinationConfig": { "OnFailure": { "Destination": "arn:aws:s3:::failures" } } });
    configure(&node, "f", to_bucket.clone()).await;
    configure(&node, "g", to_bucket).await;
    serve(&node, quick());
    let event = delivery(&node, "f", &json!({ "photo": 1 }));
    node.store.write(vec![event.due(A), delivery(&node, "g", &json!({})).due(A)]).await.unwrap();
    drained(&node).await;
    assert_eq!((calls.load(Ordering::SeqCst), sometimes.load(Ordering::SeqCst)), (3, 3));

    let records = records(&node);
    assert_eq!(records.len(), 1, "{records:?}");
    let (key, record) = &records[0];
    let day = Timestamp::now().strftime("%Y/%m/").to_string();
    assert!(key.starts_with(&format!("/failures/aws/lambda/async/f/{day}")), "{key}");
    assert!(key.ends_with(&format!("-{}", event.request_id)), "{key}");
    assert_eq!((&record["version"], &record["requestPayload"]), (&json!("1.0"), &json!({ "photo": 1 })));
    let context = &record["requestContext"];
    assert_eq!(context["condition"], "RetriesExhausted");
    assert_eq!(context["approximateInvokeCount"], 3);
    assert_eq!(context["functionArn"], format!("{}:$LATEST", event.target));
    assert_eq!(context["requestId"], event.request_id.to_string());
    assert_eq!(
        record["responseContext"],
        json!({ "statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled" })
    );
    assert_eq!(record["responsePayload"], json!({ "errorMessage": "no", "errorType": "E" }));
    // It was written with the function's role.
    let callers = node.wires.callers.lock().unwrap().clone();
    assert_eq!(callers, ["arn:aws:sts::000000000000:assumed-role/thumb/f"]);
}

#[tokio::test]
async fn destinations_can_be_functions() {
    let node = Node::start(functions::Config::default()).await;
    let (good, bad, calls) = (Arc::default(), Arc::default(), Arc::default());
    node.deploy("good", keeping(&good)).await;
    node.deploy("bad", keeping(&bad)).await;
    node.deploy("f", failing(1, &calls)).await;
    configure(
        &node,
        "f",
        json!({
            "MaximumRetryAttempts": 0,
            "DestinationConfig": {
                "OnSuccess": { "Destination": "arn:aws:lambda:us-east-1:000000000000:function:good" },
                "OnFailure": { "Destination": "arn:aws:lambda:us-east-1:000000000000:function:bad" },
            },
        }),
    )
    .await;
    serve(&node, quick());
    node.store.write(vec![delivery(&node, "f", &json!(1)).due(A)]).await.unwrap();
    drained(&node).await;
    node.store.write(vec![delivery(&node, "f", &json!(2)).due(A)]).await.unwrap();
    drained(&node).await;
    let (good, bad) = (good.lock().unwrap().clone(), bad.lock().unwrap().clone());
    assert_eq!((good.len(), bad.len()), (1, 1));
    assert_eq!((&bad[0]["requestPayload"], &good[0]["requestPayload"]), (&json!(1), &json!(2)));
    assert_eq!(good[0]["requestContext"]["condition"], "Success");
    assert_eq!(good[0]["responsePayload"], "yes");
    assert_eq!(bad[0]["requestContext"]["approximateInvokeCount"], 1);
}

#[tokio::test]
async fn what_can_not_be_delivered_ends_and_says_so() {
    let node = Node::start(functions::Config::default()).await;
    let calls = Arc::default();
    node.deploy("f", failing(0, &calls)).await;
    let mut unpermitted = delivery(&node, "f", &json!({}));
    unpermitted.service = Some("s3.amazonaws.com".into());
    let missing = delivery(&node, "nobody", &json!({}));
    let mut strange = delivery(&node, "f", &json!({}));
    strange.target = "arn:aws:sqs:us-east-1:000000000000:q".into();
    let writes = [&unpermitted, &missing, &strange].map(|delivery| delivery.due(A)).to_vec();
    node.store.write(writes).await.unwrap();
    serve(&node, quick());
    drained(&node).await;
    assert_eq!(calls.load(Ordering::SeqCst), 0);

    let permission = json!({
        "StatementId": "s3",
        "Action": "lambda:InvokeFunction",
        "Principal": "s3.amazonaws.com",
        "SourceArn": "arn:aws:s3:::photos",
    });
    node.json("POST", "/2015-03-31/functions/f/policy", permission).await.unwrap();
    node.store.write(vec![unpermitted.due(A)]).await.unwrap();
    drained(&node).await;
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    // The drop is written where the function's owner looks.
    node.telemetry.flush().await;
    assert!(rows(&node, tables::LOG_EVENTS).await > 0);
}

#[tokio::test]
async fn old_events_and_functions_that_are_switched_off() {
    let node = Node::start(functions::Config::default()).await;
    let calls = Arc::default();
    node.deploy("f", failing(0, &calls)).await;
    configure(
        &node,
        "f",
        json!({
            "DestinationConfig": { "OnFailure": { "Destination": "arn:aws:s3:::failures" } },
        }),
    )
    .await;
    serve(&node, quick());
    let mut old = delivery(&node, "f", &json!({}));
    old.accepted_at -= Duration::from_secs(6 * 3600 + 1);
    node.store.write(vec![old.due(A)]).await.unwrap();
    drained(&node).await;
    let kept = records(&node);
    assert_eq!(kept[0].1["requestContext"]["condition"], "EventAgeExceeded");
    assert_eq!(kept[0].1["requestContext"]["approximateInvokeCount"], 0);
    assert!(kept[0].1.get("responsePayload").is_none());

    let off = json!({ "ReservedConcurrentExecutions": 0 });
    node.json("PUT", "/2017-10-31/functions/f/concurrency", off).await.unwrap();
    node.store.write(vec![delivery(&node, "f", &json!({})).due(A)]).await.unwrap();
    drained(&node).await;
    assert_eq!((records(&node).len(), calls.load(Ordering::SeqCst)), (2, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn throttled_events_wait_and_arrive_exactly_once() {
    let node = Node::start(functions::Config::default()).await;
    let seen = Arc::default();
    let (slow, inner) = (Arc::new(tokio::sync::Semaphore::new(0)), counting(&seen));
    let gate = slow.clone();
    let held = handler(move |request, instance| {
        let (gate, run) = (gate.clone(), inner(request, instance));
        async move {
            gate.acquire().await.unwrap().forget();
            run.await
        }
    });
    node.deploy("f", held).await;
    let one = json!({ "ReservedConcurrentExecutions": 1 });
    node.json("PUT", "/2017-10-31/functions/f/concurrency", one).await.unwrap();
    let (handle, _) = serve(&node, quick());
    for n in 0..50 {
        node.store.write(vec![delivery(&node, "f", &json!({ "n": n })).due(A)]).await.unwrap();
    }
    until(|| handle.in_flight() == 50).await;
    slow.add_permits(50);
    drained(&node).await;
    let mut all: Vec<_> = seen.lock().unwrap().clone().into_iter().collect();
    all.sort_unstable();
    assert_eq!(all, (0..50).map(|n| (n, 1)).collect::<Vec<_>>());
    assert_eq!(node.runtime.most_live.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_destination_that_fails_for_now_is_tried_again_and_one_that_refuses_is_left() {
    let node = Node::start(functions::Config::default()).await;
    let calls = Arc::default();
    node.deploy("f", failing(usize::MAX, &calls)).await;
    configure(
        &node,
        "f",
        json!({
            "MaximumRetryAttempts": 0,
            "DestinationConfig": { "OnFailure": { "Destination": "arn:aws:s3:::failures" } },
        }),
    )
    .await;
    let unavailable = aws::Error::new(ErrorKind::Unavailable, "SlowDown", "later");
    *node.wires.refuse_puts.lock().unwrap() = Some(unavailable);
    serve(&node, quick());
    node.store.write(vec![delivery(&node, "f", &json!({})).due(A)]).await.unwrap();
    until(|| node.wires.callers.lock().unwrap().len() >= 2).await;
    assert_eq!(rows(&node, tables::OUTBOX).await, 1);
    *node.wires.refuse_puts.lock().unwrap() = None;
    drained(&node).await;
    assert_eq!(records(&node).len(), 1);

    let denied = aws::Error::new(ErrorKind::Denied, "AccessDenied", "no");
    *node.wires.refuse_puts.lock().unwrap() = Some(denied);
    node.store.write(vec![delivery(&node, "f", &json!({})).due(A)]).await.unwrap();
    drained(&node).await;
    assert_eq!(records(&node).len(), 1);
}
