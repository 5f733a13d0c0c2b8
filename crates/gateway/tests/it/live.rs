//! Answers that go on: how they travel, what ends them, how many there may be.

use std::sync::atomic::Ordering;

use gateway::Config;
use tokio::io::{AsyncBufReadExt, AsyncReadExt};

use crate::client::{Call, Client, call};
use crate::node::{FLEETING, Node};

/// A request that goes on, from a key that can be revoked.
fn listen() -> Call {
    let call = Call::new("rest", "/_hawker/tables/t/live", "");
    Call { method: "GET", key: FLEETING, ..call }
}

fn as_socket() -> Call {
    listen()
        .with("connection", "Upgrade")
        .with("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .with("sec-websocket-version", "13")
        .with("upgrade", "websocket")
}

/// The lines up to the one that is wanted.
async fn until(client: &mut Client, wanted: &str) -> String {
    let mut all = String::new();
    while !all.lines().any(|line| line.contains(wanted)) {
        let read = client.stream.read_line(&mut all).await.unwrap();
        assert!(read > 0, "the connection ended after {all}");
    }
    all
}

/// The next message: its kind and what it says.
async fn message(client: &mut Client) -> (u8, String) {
    let mut head = [0; 2];
    client.stream.read_exact(&mut head).await.unwrap();
    assert!(head[1] < 126, "messages of this test are short");
    let mut body = vec![0; head[1].into()];
    client.stream.read_exact(&mut body).await.unwrap();
    (head[0], String::from_utf8_lossy(&body).into_owned())
}

#[tokio::test]
async fn events_are_sent_as_they_come() {
    let node = Node::with(Config { live_heartbeat_seconds: 1, ..Config::default() }).await;
    let mut client = Client::to(node.addr).await;
    client.send(&listen().bytes()).await;
    let head = until(&mut client, "retry: 1000").await.to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 200"));
    for header in
        ["content-type: text/event-stream", "cache-control: no-store", "access-control-allow-origin: *"]
    {
        assert!(head.contains(header), "{head}");
    }
    node.world.gate.add_permits(1);
    let event = until(&mut client, "data:").await;
    assert!(event.contains("event: tick\nid: t1\ndata: {\"n\":1}\n"), "{event:?}");
    // Nothing happens, which is told.
    until(&mut client, ":").await;
    node.stop.cancel();
    assert!(until(&mut client, "data:").await.contains("NodeStopping"));
    node.running.await.unwrap();
}

#[tokio::test]
async fn events_come_over_a_web_socket() {
    let node = Node::with(Config { live_heartbeat_seconds: 1, ..Config::default() }).await;
    let mut client = Client::to(node.addr).await;
    client.send(&as_socket().bytes()).await;
    let answer = client.receive().await.unwrap();
    assert_eq!(answer.status, 101);
    // The example of RFC 6455.
    assert_eq!(answer.headers["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    node.world.gate.add_permits(1);
    assert_eq!(message(&mut client).await, (0x81, r#"{"event":"tick","id":"t1","data":{"n":1}}"#.to_owned()));
    assert_eq!(message(&mut client).await, (0x89, String::new()));
    assert_eq!(message(&mut client).await, (0x81, r#"{"event":"heartbeat"}"#.to_owned()));
    // A text message, masked as a client's must be: there is nothing to say.
    client.send(&[0x81, 0x81, 0, 0, 0, 0, b'x']).await;
    let (kind, reason) = message(&mut client).await;
    assert_eq!((kind, reason.ends_with("this connection only sends")), (0x88, true));
    node.stop.cancel();
    node.running.await.unwrap();
}

#[tokio::test]
async fn a_web_socket_ends_with_the_node() {
    let node = Node::start().await;
    let mut client = Client::to(node.addr).await;
    client.send(&as_socket().bytes()).await;
    assert_eq!(client.receive().await.unwrap().status, 101);
    node.stop.cancel();
    assert!(message(&mut client).await.1.contains("NodeStopping"));
    assert_eq!(message(&mut client).await.0, 0x88);
    drop(client);
    node.running.await.unwrap();
}

#[tokio::test]
async fn nobody_listens_longer_than_they_may() {
    let node = Node::with(Config { live_check_seconds: 1, ..Config::default() }).await;
    let mut client = Client::to(node.addr).await;
    client.send(&listen().bytes()).await;
    until(&mut client, "retry").await;
    node.world.revoked.store(true, Ordering::SeqCst);
    let end = until(&mut client, "data:").await;
    assert!(end.contains("event: end") && end.contains("AccessDenied"), "{end}");
    let refused = call(node.addr, &listen()).await;
    assert_eq!(refused.status, 403);
    assert_eq!(refused.headers["access-control-allow-origin"], "*");
}

#[tokio::test]
async fn only_so_many_may_listen() {
    let node = Node::with(Config { max_live: 1, ..Config::default() }).await;
    let mut first = Client::to(node.addr).await;
    first.send(&listen().bytes()).await;
    until(&mut first, "retry").await;
    let refused = call(node.addr, &listen()).await;
    assert_eq!((refused.status, refused.has("Too many live requests")), (429, true));
    drop(first);
    // Its end is noticed when something is sent.
    node.world.gate.add_permits(1000);
    loop {
        let mut next = Client::to(node.addr).await;
        next.send(&listen().bytes()).await;
        let mut line = String::new();
        next.stream.read_line(&mut line).await.unwrap();
        if line.starts_with("HTTP/1.1 200") {
            break;
        }
    }
}
