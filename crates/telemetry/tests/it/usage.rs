//! Invocations, what they cost, and traces.

use telemetry::{Invocation, Outcome, Span};
use types::{AccountId, RequestId, Timestamp, TraceHeader};

use crate::node::Node;

pub(crate) fn invocation(node: &Node, function: &str, billed_ms: u64, memory_mb: u32) -> Invocation {
    Invocation {
        account: AccountId::DEFAULT,
        function: function.into(),
        version: "$LATEST".into(),
        request_id: RequestId::new(&*node.env),
        attempt: 0,
        started_at: node.env.now(),
        duration_us: billed_ms * 1000,
        init_us: None,
        billed_ms,
        memory_mb,
        max_memory_mb: memory_mb,
        outcome: Outcome::Success,
        trace: TraceHeader::new(&*node.env),
        redeliverable: true,
    }
}

#[tokio::test]
async fn usage_is_exact_and_nothing_is_billed_twice() {
    let node = Node::new();
    let first = invocation(&node, "f", 100, 128);
    let retried = Invocation { attempt: 1, outcome: Outcome::Timeout, ..first.clone() };
    let cold = Invocation { init_us: Some(5), ..invocation(&node, "f", 1, 1769) };
    // The same record twice in a batch, in different batches, and at another time.
    for row in [&first, &first, &retried, &cold] {
        node.telemetry.invocation(row.clone()).await;
    }
    node.telemetry.flush().await;
    let later = first.started_at.as_second() + 1;
    let again = Invocation { started_at: Timestamp::from_second(later).unwrap(), ..first.clone() };
    node.telemetry.invocation(again).await;
    node.telemetry.invocation(invocation(&node, "g", 1000, 1024)).await;
    node.telemetry.flush().await;

    let usage = node.native("/_hawker/usage").await.unwrap();
    let [f, g] = usage["functions"].as_array().unwrap().as_slice() else { panic!("{usage}") };
    assert_eq!(f["function"], "f");
    assert_eq!((&f["invocations"], &f["errors"], &f["cold_starts"]), (&3.into(), &1.into(), &1.into()));
    assert_eq!((&f["billed_ms"], &f["mb_ms"]), (&201.into(), &(2 * 100 * 128 + 1769).into()));
    assert_eq!(g["gb_seconds"], "1.000000");
    // 0.0000166667 for the GB-second and 0.0000002 for the request.
    assert_eq!(g["cost_usd"], "0.0000168667");
    assert_eq!(usage["total"]["invocations"], 4);
    let only = node.native("/_hawker/usage?function=g").await.unwrap();
    assert_eq!(only["functions"].as_array().unwrap().len(), 1);
    let before = node.native("/_hawker/usage?to=1000000").await.unwrap();
    assert_eq!(before["total"]["invocations"], 0);

    let listed = node.native("/_hawker/invocations?function=f").await.unwrap();
    assert_eq!(listed["invocations"].as_array().unwrap().len(), 3);
    let listed = node.native("/_hawker/invocations?limit=1").await.unwrap();
    assert_eq!(listed["invocations"].as_array().unwrap().len(), 1);
    assert_eq!(listed["invocations"][0]["function"], "g");
}

#[tokio::test]
async fn the_spans_of_a_trace_come_in_order() {
    let node = Node::new();
    let root = TraceHeader::new(&*node.env);
    let span = |id: &str, parent: Option<&str>, offset_us: i64| Span {
        account: AccountId::DEFAULT,
        trace: TraceHeader { parent: parent.map(Into::into), ..root.clone() },
        id: id.into(),
        name: format!("hop {id}"),
        started_at: Timestamp::from_microsecond(1_700_000_000_000_000 + offset_us).unwrap(),
        duration_us: 10,
        error: None,
    };
    for span in [span("b", Some("a"), 5), span("a", None, 0), span("c", Some("b"), 7)] {
        node.telemetry.span(span).await;
    }
    let unsampled = TraceHeader { sampled: false, ..TraceHeader::new(&*node.env) };
    node.telemetry.span(Span { trace: unsampled.clone(), ..span("d", None, 9) }).await;
    node.telemetry.flush().await;
    let traces = node.native("/_hawker/traces").await.unwrap();
    assert_eq!(traces["traces"].as_array().unwrap().len(), 1);
    assert_eq!(traces["traces"][0]["root"], root.root.as_str());
    let trace = node.native(&format!("/_hawker/traces/{}", root.root)).await.unwrap();
    let names: Vec<_> =
        trace["spans"].as_array().unwrap().iter().map(|s| s["id"].as_str().unwrap()).collect();
    assert_eq!(names, ["a", "b", "c"]);
    let missing = node.native(&format!("/_hawker/traces/{}", unsampled.root)).await.unwrap_err();
    assert_eq!(missing.code, "ResourceNotFoundException");
}
