//! Stopping, and clients that leave.

use std::sync::atomic::Ordering;

use gateway::Config;
use tokio::net::TcpStream;

use crate::client::{Call, Client, call};
use crate::node::Node;

#[tokio::test]
async fn running_requests_finish_before_the_node_stops() {
    let node = Node::start().await;
    let mut idle = Client::to(node.addr).await;
    assert_eq!(idle.call(&Call::new("rest", "/echo", "x")).await.body, "x");
    let mut busy = Client::to(node.addr).await;
    busy.send(&Call::new("rest", "/wait", "x").bytes()).await;
    node.world.begun.notified().await;

    node.stop.cancel();
    assert!(idle.receive().await.is_none(), "idle connections are closed");
    while TcpStream::connect(node.addr).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(!node.running.is_finished());
    node.world.gate.add_permits(1);
    assert_eq!(busy.receive().await.unwrap().status, 204);
    node.running.await.unwrap();
}

#[tokio::test]
async fn stopping_has_a_deadline() {
    let node = Node::with(Config { shutdown_seconds: 1, ..Config::default() }).await;
    let mut busy = Client::to(node.addr).await;
    busy.send(&Call::new("rest", "/wait", "x").bytes()).await;
    node.world.begun.notified().await;
    node.stop.cancel();
    node.running.await.unwrap();
    assert!(busy.receive().await.is_none());
}

#[tokio::test]
async fn a_handler_finishes_though_its_client_has_left() {
    let node = Node::with(Config { max_connections: 1, ..Config::default() }).await;
    let mut client = Client::to(node.addr).await;
    client.send(&Call::new("rest", "/wait", "x").bytes()).await;
    node.world.begun.notified().await;
    drop(client);
    // There is room for another connection only once the first is gone, and its request with it.
    assert_eq!(call(node.addr, &Call::new("rest", "/echo", "x")).await.body, "x");
    assert_eq!(node.world.finishes.load(Ordering::SeqCst), 0);
    node.stop.cancel();
    node.world.gate.add_permits(1);
    node.running.await.unwrap();
    assert_eq!(node.world.finishes.load(Ordering::SeqCst), 1);
}
