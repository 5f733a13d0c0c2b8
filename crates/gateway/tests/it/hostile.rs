//! Peers that are broken, slow or malicious. Each test ends with a request that is well-formed and answered.

use std::sync::atomic::Ordering;

use gateway::Config;
use tokio::io::AsyncReadExt;

use crate::client::{Call, Client, call};
use crate::node::Node;

async fn still_serves(node: &Node) {
    assert_eq!(call(node.addr, &Call::new("rest", "/echo", "x")).await.body, "x");
}

#[tokio::test]
async fn malformed_requests_are_refused() {
    let node = Node::start().await;
    for (bytes, status) in [
        ("GARBAGE\r\n\r\n", 400),
        ("GET / HTTP/9.9\r\nhost: a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
        ("GET /b/public HTTP/1.1\r\n\r\n", 400),
        ("GET /b/public HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", 400),
        ("GET /b/public HTTP/1.1\r\nhost: a\r\nauthorization: a\r\nauthorization: b\r\n\r\n", 400),
        ("POST /b/public HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n", 400),
        ("POST /b/public HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n", 400),
        ("GET /b/public HTTP/1.1\r\nhost: a\r\nauthorization: AWS4-HMAC-SHA256 Credential=\r\n\r\n", 400),
    ] {
        let mut client = Client::to(node.addr).await;
        client.send(bytes.as_bytes()).await;
        assert_eq!(client.receive().await.unwrap().status, status, "{bytes}");
    }
    still_serves(&node).await;
}

#[tokio::test]
async fn huge_headers_are_refused() {
    let node = Node::start().await;
    let many: String = (0..200).map(|i| format!("x-{i}: y\r\n")).collect();
    let long = format!("x-long: {}\r\n", "y".repeat(100_000));
    for headers in [many, long] {
        let mut client = Client::to(node.addr).await;
        client.send(format!("GET /b/public HTTP/1.1\r\nhost: a\r\n{headers}\r\n").as_bytes()).await;
        assert_eq!(client.receive().await.unwrap().status, 431);
    }
    let mut client = Client::to(node.addr).await;
    client.send(format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "y".repeat(100_000)).as_bytes()).await;
    assert!([414, 431].contains(&client.receive().await.unwrap().status));
    still_serves(&node).await;
}

#[tokio::test]
async fn slow_peers_are_let_go() {
    let config = Config {
        header_timeout_seconds: 1,
        keep_alive_seconds: 1,
        stall_timeout_seconds: 1,
        ..Config::default()
    };
    let node = Node::with(config).await;
    // Silent from the start, silent within the headers, silent after an answer, silent within a body.
    let silent = async |beginning: &str| {
        let mut client = Client::to(node.addr).await;
        client.send(beginning.as_bytes()).await;
        assert!(client.receive().await.is_none());
    };
    let idle = async || {
        let mut client = Client::to(node.addr).await;
        assert_eq!(client.call(&Call::new("rest", "/echo", "x")).await.body, "x");
        assert!(client.receive().await.is_none());
    };
    let stalled = async |request: Call, code: &str| {
        let mut client = Client::to(node.addr).await;
        let bytes = request.bytes();
        client.send(&bytes[..bytes.len() - 1]).await;
        let answer = client.receive().await.unwrap();
        assert!([400, 408].contains(&answer.status) && answer.has(code), "{}", answer.body);
    };
    tokio::join!(
        silent(""),
        silent("GET /b/public HTTP/1.1\r\nhost: a\r\nx-slow: "),
        idle(),
        stalled(Call::new("s3", "/b/echo", "hello"), "<Code>RequestTimeout</Code>"),
        stalled(Call::new("rest", "/echo", "hello"), "socket connection"),
    );
    // One that does not read a large answer.
    let mut deaf = Client::to(node.addr).await;
    deaf.send(&Call::new("s3", "/b/echo", vec![b'x'; 40_000_000]).bytes()).await;
    node.stop.cancel();
    node.running.await.unwrap();
    let mut rest = Vec::new();
    let _ = deaf.stream.read_to_end(&mut rest).await;
    assert!(rest.len() < 40_000_000);
}

#[tokio::test]
async fn a_refusal_says_that_it_ends_the_connection() {
    let node = Node::start().await;
    let mut client = Client::to(node.addr).await;
    client.send(b"PUT /b/secret HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\n").await;
    let answer = client.receive().await.unwrap();
    assert_eq!((answer.status, answer.headers["connection"].as_str()), (403, "close"), "{}", answer.body);
    // One that was read to its end goes on.
    let mut client = Client::to(node.addr).await;
    client.send(b"PUT /b/secret HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n").await;
    let answer = client.receive().await.unwrap();
    assert_eq!((answer.status, answer.headers.get("connection")), (403, None));
    assert_eq!(client.call(&Call::new("rest", "/echo", "x")).await.body, "x");
    still_serves(&node).await;
}

#[tokio::test]
async fn memory_is_not_held_by_announcing_bodies() {
    let node = Node::with(Config { max_held_body_bytes: 256 * 1024, ..Config::default() }).await;
    let mut slow = Vec::new();
    for _ in 0..4 {
        let mut client = Client::to(node.addr).await;
        let bytes = Call::new("rest", "/echo", vec![b'x'; 1_000_000]).bytes();
        client.send(&bytes[..bytes.len() - 999_900]).await;
        slow.push(client);
    }
    // More than all of the memory in turn, and one that is larger than it.
    for size in [200_000, 200_000, 600_000] {
        let answer = call(node.addr, &Call::new("rest", "/echo", vec![b'y'; size])).await;
        assert_eq!((answer.status, answer.body.len()), (200, size));
    }
    drop(slow);
    still_serves(&node).await;
}

#[tokio::test]
async fn half_sent_requests_reach_nobody() {
    let node = Node::start().await;
    node.world.gate.add_permits(10);
    let bytes = Call::new("rest", "/wait", "hello").bytes();
    for length in [1, 20, bytes.len() - 6, bytes.len() - 1] {
        let mut client = Client::to(node.addr).await;
        client.send(&bytes[..length]).await;
        drop(client);
    }
    still_serves(&node).await;
    node.stop.cancel();
    node.running.await.unwrap();
    assert_eq!(node.world.finishes.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let node = Node::start().await;
    let mut client = Client::to(node.addr).await;
    let all: Vec<u8> =
        (0..20).flat_map(|i| Call::new("rest", "/echo", format!("body {i}")).bytes()).collect();
    client.send(&all).await;
    for i in 0..20 {
        assert_eq!(client.receive().await.unwrap().body, format!("body {i}"));
    }
}

#[tokio::test]
async fn a_panic_ends_one_request() {
    let node = Node::start().await;
    let mut client = Client::to(node.addr).await;
    for path in ["/panic", "/panic-while-parsing"] {
        let answer = client.call(&Call::new("rest", path, "x")).await;
        assert!(answer.status == 500 && answer.has("internal error"), "{}", answer.body);
        assert_eq!(client.call(&Call::new("rest", "/echo", "x")).await.body, "x");
    }
}

#[tokio::test]
async fn refusals_are_seen_by_clients_that_are_still_sending() {
    let node = Node::start().await;
    for _ in 0..10 {
        let request = Call { secret: "wrong", ..Call::new("s3", "/b/echo", vec![b'x'; 8_000_000]) };
        let answer = call(node.addr, &request).await;
        assert!(answer.has("SignatureDoesNotMatch"), "{}", answer.body);
    }
}

#[tokio::test]
async fn clients_that_ask_first_need_not_send() {
    let node = Node::start().await;
    for (secret, status) in [("wrong", 403), (crate::node::SECRET, 100)] {
        let request = Call { secret, ..Call::new("s3", "/b/echo", "hello").with("expect", "100-continue") };
        let bytes = request.bytes();
        let (head, body) = bytes.split_at(bytes.len() - 5);
        let mut client = Client::to(node.addr).await;
        client.send(head).await;
        assert_eq!(client.receive().await.unwrap().status, status);
        if status == 100 {
            client.send(body).await;
            assert_eq!(client.receive().await.unwrap().body, "hello");
        }
    }
}

/// botocore takes the answer to what it sends next for part of this one, unless the connection ends.
#[tokio::test]
async fn clients_that_ask_to_send_nothing_are_sent_away() {
    let node = Node::start().await;
    let mut client = Client::to(node.addr).await;
    let answer = client.call(&Call::new("s3", "/b/echo", "").with("expect", "100-continue")).await;
    assert_eq!((answer.status, answer.headers["connection"].as_str()), (200, "close"));
    assert!(client.receive().await.is_none());
}

#[tokio::test]
async fn connections_over_the_limit_wait() {
    let node = Node::with(Config { max_connections: 1, ..Config::default() }).await;
    let mut first = Client::to(node.addr).await;
    assert_eq!(first.call(&Call::new("rest", "/echo", "x")).await.body, "x");
    let mut second = Client::to(node.addr).await;
    second.send(&Call::new("rest", "/echo", "y").bytes()).await;
    assert_eq!(first.call(&Call::new("rest", "/echo", "z")).await.body, "z");
    drop(first);
    assert_eq!(second.receive().await.unwrap().body, "y");
}
