//! The share of CPU: more while a function is loaded, its own from then on.

use std::path::Path;
use std::time::{Duration, Instant};

use functions::{Runtime, StartRequest};

use crate::support::{House, ask, request};

/// What the groups of this process, which is the node, may use of each period of 100 ms, in microseconds;
/// `None` where there are no control groups. Spare sandboxes have no limit yet.
fn quotas() -> Option<Vec<u64>> {
    let v1 = Path::new("/sys/fs/cgroup/cpu/hawker");
    let (top, file) =
        if v1.exists() { (v1, "cpu.cfs_quota_us") } else { (Path::new("/sys/fs/cgroup/hawker"), "cpu.max") };
    let own = format!("{}-", std::process::id());
    let nodes = top.read_dir().ok()?.flatten();
    let nodes: Vec<_> = nodes
        .filter(|node| node.file_name().to_string_lossy().starts_with(&own))
        .map(|node| node.path())
        .collect();
    if nodes.is_empty() {
        return None;
    }
    let groups = nodes.iter().filter_map(|node| node.read_dir().ok()).flatten().flatten();
    let texts = groups.filter_map(|group| std::fs::read_to_string(group.path().join(file)).ok());
    Some(texts.filter_map(|text| text.split_whitespace().next()?.parse().ok()).collect())
}

async fn until_there_is(quota: u64) {
    let patience = Instant::now();
    while !quotas().unwrap().contains(&quota) {
        assert!(patience.elapsed() < Duration::from_secs(20), "{:?}", quotas());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A function with an amount of memory that no other test's has.
fn with_memory(memory_mb: u32) -> StartRequest {
    let files: &[(&str, &[u8])] = &[("app.py", b"def handler(event, context): return event\n")];
    StartRequest { memory_mb, ..request("python3.11", "app.handler", files) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_has_its_share_of_cpu_once_it_is_ready() {
    let house = House::with(|config| config.spare_sandboxes = 0).await;
    if quotas().is_none() {
        return;
    }
    for (memory_mb, quota) in [(300, 16_958), (1769, 100_000), (3 * 1769, 300_000)] {
        let mut f = house.runtime.start(with_memory(memory_mb)).await.unwrap().instance;
        assert!(quotas().unwrap().contains(&quota), "{:?}", quotas());
        for number in 0..3 {
            assert_eq!(ask(&mut f, &number.to_string()).await, number);
        }
        assert!(quotas().unwrap().contains(&quota), "{:?}", quotas());
        f.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn loading_has_more_cpu_but_not_for_longer_than_it_may_take() {
    let house = House::with(|config| {
        config.spare_sandboxes = 0;
        config.init_timeout_ms = 500;
    })
    .await;
    if quotas().is_none() {
        return;
    }
    let script: &[(&str, &[u8])] = &[("bootstrap", b"#!/bin/sh\nwhile :; do sleep 1; done\n")];
    let stuck = StartRequest { memory_mb: 333, ..request("provided.al2023", "x", script) };
    tokio::select! {
        _ = house.runtime.start(stuck) => panic!("it never asks for an event"),
        () = async {
            until_there_is(200_000).await;
            // Its timeout is a minute; its time with more CPU is over before.
            until_there_is(18_824).await;
        } => {}
    }
}
