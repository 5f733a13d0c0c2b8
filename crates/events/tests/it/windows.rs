//! Streams are aggregated over windows of time: state goes from invocation to invocation, and across a restart.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use functions::Config;
use serde_json::{Value, json};

use crate::deliver::{quick, serve};
use crate::sources::{SOURCE, map};
use crate::support::{Handler, Node, handler, until};

/// A record that was written at that second.
fn record(number: usize, item: &str, at: i64) -> Value {
    json!({
        "eventName": "INSERT",
        "dynamodb": {
            "Keys": { "id": { "S": item } },
            "SequenceNumber": number.to_string(),
            "ApproximateCreationDateTime": at,
        },
    })
}

/// An event: the seconds of its window, the count it came with, its records' items, and how the window ends.
type Seen = (i64, i64, i64, Vec<String>, &'static str);
type Log = Arc<Mutex<Vec<Seen>>>;

fn seconds(text: &Value) -> i64 {
    text.as_str().unwrap().parse::<types::Timestamp>().unwrap().as_second()
}

fn items(event: &Value) -> Vec<String> {
    let records = event["Records"].as_array().unwrap();
    records.iter().map(|record| record["dynamodb"]["Keys"]["id"]["S"].as_str().unwrap().to_owned()).collect()
}

fn note(event: &Value) -> Seen {
    assert_eq!((event["shardId"].as_str(), event["eventSourceARN"].as_str()), (Some("shard"), Some(SOURCE)));
    let end = match (&event["isFinalInvokeForWindow"], &event["isWindowTerminatedEarly"]) {
        (Value::Bool(false), Value::Bool(false)) => "open",
        (Value::Bool(true), Value::Bool(false)) => "over",
        (Value::Bool(false), Value::Bool(true)) => "early",
        other => panic!("{other:?}"),
    };
    let window = &event["window"];
    let count = event["state"]["count"].as_i64().unwrap_or_default();
    (seconds(&window["start"]), seconds(&window["end"]), count, items(event), end)
}

/// Counts records in its state. `answer` may answer in its place.
fn counting(log: &Log, answer: impl Fn(&Seen) -> Option<Value> + Send + Sync + 'static) -> Handler {
    let (log, answer) = (log.clone(), Arc::new(answer));
    handler(move |request, _| {
        let (log, answer) = (log.clone(), answer.clone());
        async move {
            let event: Value = serde_json::from_slice(request.event.payload()).unwrap();
            let seen = note(&event);
            log.lock().unwrap().push(seen.clone());
            let count = seen.2 + i64::try_from(seen.3.len()).unwrap();
            Ok(answer(&seen).unwrap_or_else(|| json!({ "state": { "count": count } })))
        }
    })
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// The begin of a window of ten seconds that has been over for long.
fn past(node: &Node) -> i64 {
    node.env.now().as_second() / 10 * 10 - 100
}

#[tokio::test]
async fn a_window_has_its_state_and_an_end() {
    let (node, log) = (Node::start(Config::default()).await, Log::default());
    node.deploy("f", counting(&log, |_| None)).await;
    let t = past(&node);
    *node.wires.stream.lock().unwrap() = vec![
        record(0, "a", t + 1),
        record(1, "b", t + 9),
        record(2, "c", t + 9),
        record(3, "d", t + 10),
        record(4, "e", t + 35),
    ];
    let (_handle, _stop) = serve(&node, quick());
    let made = map(&node, json!({ "TumblingWindowInSeconds": 10, "BatchSize": 2 })).await;
    assert_eq!(made["TumblingWindowInSeconds"], 10);
    until(|| log.lock().unwrap().len() == 7).await;
    assert_eq!(
        *log.lock().unwrap(),
        [
            (t, t + 10, 0, names(&["a", "b"]), "open"),
            (t, t + 10, 2, names(&["c"]), "open"),
            (t, t + 10, 3, names(&[]), "over"),
            (t + 10, t + 20, 0, names(&["d"]), "open"),
            (t + 10, t + 20, 1, names(&[]), "over"),
            (t + 30, t + 40, 0, names(&["e"]), "open"),
            // Nothing comes any more, and its time is over.
            (t + 30, t + 40, 1, names(&[]), "over"),
        ]
    );
}

#[tokio::test]
async fn what_fails_changes_no_state_and_an_end_is_told_until_it_is_heard() {
    let (node, log) = (Node::start(Config::default()).await, Log::default());
    let tries = Arc::new(AtomicUsize::new(0));
    let answer = move |seen: &Seen| match tries.fetch_add(1, Ordering::SeqCst) {
        // Without a state it has failed.
        0 => Some(json!({ "batchItemFailures": [] })),
        1 => Some(json!({ "errorMessage": "no" })),
        // One of three is done.
        2 => Some(json!({
            "state": { "count": seen.2 + 1 },
            "batchItemFailures": [{ "itemIdentifier": "1" }],
        })),
        4 | 5 => Some(json!({ "errorMessage": "no" })),
        _ => None,
    };
    node.deploy("f", counting(&log, answer)).await;
    let t = past(&node);
    *node.wires.stream.lock().unwrap() =
        vec![record(0, "a", t), record(1, "b", t), record(2, "c", t), record(3, "d", t + 10)];
    let (_handle, _stop) = serve(&node, quick());
    let kinds = json!(["ReportBatchItemFailures"]);
    map(&node, json!({ "TumblingWindowInSeconds": 10, "FunctionResponseTypes": kinds })).await;
    until(|| log.lock().unwrap().len() == 9).await;
    let all = names(&["a", "b", "c"]);
    assert_eq!(
        *log.lock().unwrap(),
        [
            (t, t + 10, 0, all.clone(), "open"),
            (t, t + 10, 0, all.clone(), "open"),
            (t, t + 10, 0, all, "open"),
            (t, t + 10, 1, names(&["b", "c"]), "open"),
            (t, t + 10, 3, names(&[]), "over"),
            (t, t + 10, 3, names(&[]), "over"),
            (t, t + 10, 3, names(&[]), "over"),
            (t + 10, t + 20, 0, names(&["d"]), "open"),
            (t + 10, t + 20, 1, names(&[]), "over"),
        ]
    );
}

#[tokio::test]
async fn a_state_that_is_too_large_ends_its_window_early() {
    let (node, log) = (Node::start(Config::default()).await, Log::default());
    let answer = |seen: &Seen| {
        let large = seen.3.iter().any(|item| item == "large");
        large.then(|| json!({ "state": { "count": seen.2 + 1, "rest": "x".repeat(1 << 20) } }))
    };
    node.deploy("f", counting(&log, answer)).await;
    let t = past(&node);
    *node.wires.stream.lock().unwrap() =
        vec![record(0, "a", t), record(1, "large", t + 1), record(2, "b", t + 2)];
    let (_handle, _stop) = serve(&node, quick());
    map(&node, json!({ "TumblingWindowInSeconds": 10, "BatchSize": 1 })).await;
    until(|| log.lock().unwrap().len() == 5).await;
    assert_eq!(
        *log.lock().unwrap(),
        [
            (t, t + 10, 0, names(&["a"]), "open"),
            (t, t + 10, 1, names(&["large"]), "open"),
            (t, t + 10, 2, names(&[]), "early"),
            (t, t + 10, 0, names(&["b"]), "open"),
            (t, t + 10, 1, names(&[]), "over"),
        ]
    );
}

#[tokio::test]
async fn a_window_outlives_the_node() {
    let (node, log) = (Node::start(Config::default()).await, Log::default());
    node.deploy("f", counting(&log, |_| None)).await;
    // Open for an hour at least: it is the future's.
    let start = (node.env.now().as_second() + 3600) / 900 * 900;
    let first = vec![record(0, "a", start), record(1, "b", start + 1)];
    node.wires.stream.lock().unwrap().clone_from(&first);
    let (handle, stop) = serve(&node, quick());
    let made = map(&node, json!({ "TumblingWindowInSeconds": 900 })).await;
    until(|| log.lock().unwrap().len() == 1).await;
    let stored = async |node: &Node| {
        let id = made["UUID"].as_str().unwrap();
        node.functions.source_position(types::AccountId::DEFAULT, id).await.unwrap()
    };
    while stored(&node).await.window.is_none_or(|window| window.state != json!({ "count": 2 })) {
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    stop.cancel();
    until(|| handle.sources() == 0).await;

    let again = Node::over(node.engine.clone(), node.runtime.clone(), node.blobs.clone(), Config::default());
    *again.wires.stream.lock().unwrap() = [first, vec![record(2, "c", start + 899)]].concat();
    let (_handle, _stop) = serve(&again, quick());
    until(|| log.lock().unwrap().len() == 2).await;
    assert_eq!(
        *log.lock().unwrap(),
        [(start, start + 900, 0, names(&["a", "b"]), "open"), (start, start + 900, 2, names(&["c"]), "open"),]
    );
    while stored(&again).await.window.is_none_or(|window| window.state != json!({ "count": 3 })) {
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    assert_eq!(stored(&again).await.sequence_number.as_deref(), Some("2"));
}
