//! What nobody can reach any more leaves the store.

use serde_json::json;
use store::key::{KeyWriter, prefix_end};
use store::{Range, Store, TableId, tables};
use telemetry::{Config, Invocation, Span};
use types::{AccountId, Timestamp, TraceHeader};

use crate::node::{Node, messages};
use crate::usage::invocation;

async fn rows(store: &Store, account: AccountId, table: TableId) -> usize {
    let start = KeyWriter::new(account, table).finish();
    let end = prefix_end(&start);
    let range = Range { start, end, limit: 100_000, limit_bytes: usize::MAX, reverse: false };
    store.scan(range).await.unwrap().entries.len()
}

/// Waits until `done` holds, looking again whenever `table` changes.
async fn until(store: &Store, table: TableId, done: impl AsyncFn() -> bool) {
    let mut watch = store.watch(table);
    while !done().await {
        watch.next().await;
    }
}

#[tokio::test]
async fn deleted_logs_are_removed_row_by_row() {
    let node = Node::new();
    let now = node.now_ms();
    for stream in ["a", "b"] {
        let lines: Vec<_> = (0..2000).map(|i| (i * 20_000, format!("{stream} {i}"))).collect();
        node.log("gone", stream, now - 80_000_000, &lines).await;
        node.log("kept", stream, now, &[(0, stream.into())]).await;
    }
    node.telemetry.flush().await;
    let count = async |table| rows(&node.store, AccountId::DEFAULT, table).await;
    assert_eq!(count(tables::LOG_EVENTS).await, 2 * (2 * 2000 + 2));
    node.logs("DeleteLogGroup", json!({"logGroupName": "gone"})).await.unwrap();
    node.logs("DeleteLogStream", json!({"logGroupName": "kept", "logStreamName": "b"})).await.unwrap();
    // The note of what is garbage goes last.
    let noted = async || rows(&node.store, AccountId::NODE, tables::LOG_GROUPS).await;
    until(&node.store, tables::LOG_GROUPS, async || noted().await == 0).await;
    assert_eq!((count(tables::LOG_EVENTS).await, count(tables::LOG_STREAMS).await), (2, 1));
    let page = node.logs("FilterLogEvents", json!({"logGroupName": "kept"})).await.unwrap();
    assert_eq!(messages(&page), ["a"]);
}

#[tokio::test]
async fn old_invocations_and_traces_go_and_their_usage_stays() {
    let node = Node::new();
    let long_ago = Timestamp::from_second(node.env.now().as_second() - 40 * 86_400).unwrap();
    for i in 0..3 {
        let row = Invocation { started_at: long_ago, ..invocation(&node, "f", i, 128) };
        node.telemetry.invocation(row).await;
        let trace = TraceHeader::new(&*node.env);
        let span = Span {
            account: AccountId::DEFAULT,
            trace: trace.clone(),
            id: "00f067aa0ba902b7".into(),
            name: "hop".into(),
            started_at: long_ago,
            duration_us: 1,
            error: None,
        };
        node.telemetry.span(Span { started_at: node.env.now(), ..span.clone() }).await;
        node.telemetry.span(Span { trace: TraceHeader::new(&*node.env), ..span }).await;
    }
    node.telemetry.invocation(invocation(&node, "f", 7, 128)).await;
    node.telemetry.flush().await;
    let store = node.store.clone();
    node.stop().await;
    // Sweeps when it starts.
    let node = Node::over(store.clone(), Config { retention_days: 30, ..Config::default() });
    let invocations = async || rows(&store, AccountId::DEFAULT, tables::INVOCATIONS).await;
    let spans = async || rows(&store, AccountId::DEFAULT, tables::SPANS).await;
    until(&store, tables::INVOCATIONS, async || invocations().await == 2).await;
    let traces = async || node.native("/_hawker/traces").await.unwrap()["traces"].as_array().unwrap().len();
    until(&store, tables::SPANS, async || traces().await == 3).await;
    // Those that began in one second share a row of the list.
    assert!((4..=5).contains(&spans().await));
    let usage = node.native("/_hawker/usage").await.unwrap();
    assert_eq!((&usage["total"]["invocations"], &usage["total"]["billed_ms"]), (&4.into(), &10.into()));
    let left = node.native("/_hawker/invocations").await.unwrap();
    assert_eq!(left["invocations"].as_array().unwrap().len(), 1);
}
