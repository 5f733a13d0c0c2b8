//! The share of CPU: more while a function is loaded, its own from then on.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use functions::Runtime;

use crate::support::{House, ask, request};

/// What the groups of this process, which is the node, may use of each period of 100 ms, in microseconds;
/// `None` where there are no control groups. Spare sandboxes have no limit yet.
fn quotas() -> Option<Vec<u64>> {
    let v1 = Path::new("/sys/fs/cgroup/cpu/hawker");
    let (top, file) =
        if v1.exists() { (v1, "cpu.cfs_quota_us") } else { (Path::new("/sys/fs/cgroup/hawker"), "cpu.max") };
    let own = format!("{}-", std::process::id());
    let node: PathBuf = top
        .read_dir()
        .ok()?
        .flatten()
        .find(|node| node.file_name().to_string_lossy().starts_with(&own))?
        .path();
    let groups = node.read_dir().ok()?.flatten();
    let texts = groups.filter_map(|group| std::fs::read_to_string(group.path().join(file)).ok());
    Some(texts.filter_map(|text| text.split_whitespace().next()?.parse().ok()).collect())
}

async fn until(is_so: impl Fn(&[u64]) -> bool) {
    let patience = Instant::now();
    while !is_so(&quotas().unwrap()) {
        assert!(patience.elapsed() < Duration::from_secs(20), "{:?}", quotas());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_function_has_its_share_of_cpu_once_it_is_ready() {
    let house = House::with(|config| config.spare_sandboxes = 0).await;
    if quotas().is_none() {
        return;
    }
    let mut f = house.python("def handler(event, context): return event").await;
    // 256 of 1,769 MB. The group in which the walls were tried out goes away by and by.
    until(|quotas| quotas == [14_471]).await;
    for number in 0..3 {
        assert_eq!(ask(&mut f, &number.to_string()).await, number);
    }
    assert_eq!(quotas().unwrap(), [14_471]);
    f.stop().await;

    let files: &[(&str, &[u8])] = &[("app.py", b"def handler(e, c): return 1\n")];
    let mut large = request("python3.11", "app.handler", files);
    large.memory_mb = 3 * 1769;
    let _large = house.runtime.start(large).await.unwrap();
    assert!(quotas().unwrap().contains(&300_000), "{:?}", quotas());
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
    let start = house.shell("while :; do sleep 1; done");
    tokio::select! {
        _ = start => panic!("it never asks for an event"),
        () = async {
            until(|quotas| quotas.contains(&200_000)).await;
            // Its timeout is a minute; its time with more CPU is over before.
            until(|quotas| quotas.contains(&14_471)).await;
        } => {}
    }
}
