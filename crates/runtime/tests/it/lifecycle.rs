//! Beginnings and ends: nothing is left of an instance, whoever ends it and however.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::time::{Duration, Instant};

use functions::Runtime;

use crate::support::{House, ask, request};

/// A function of this shape names itself in its arguments, so that it is found among all processes.
fn marked(mark: &str) -> String {
    format!(
        "import subprocess
subprocess.Popen(['sh', '-c', 'while :; do sleep 1; done', '{mark}'], start_new_session=True)
def handler(event, context): return 1"
    )
}

fn processes(mark: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for process in std::fs::read_dir("/proc").unwrap().flatten() {
        let name = process.file_name().to_string_lossy().into_owned();
        let command = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        if name.bytes().all(|byte| byte.is_ascii_digit())
            && String::from_utf8_lossy(&command).split('\0').any(|argument| argument == mark)
        {
            found.insert(name);
        }
    }
    found
}

/// The processes in the control groups of a node.
pub(crate) fn processes_of_groups(node: u32) -> BTreeSet<String> {
    let tops = ["memory", ""].map(|top| Path::new("/sys/fs/cgroup").join(top).join("hawker"));
    let below = |directory: &Path| {
        std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path())
    };
    let nodes = tops.iter().flat_map(|top| below(top)).filter(|path| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&format!("{node}-")))
    });
    let groups = nodes.flat_map(|node| below(&node));
    let lists = groups.filter_map(|group| std::fs::read_to_string(group.join("cgroup.procs")).ok());
    lists.flat_map(|list| list.lines().map(str::to_owned).collect::<Vec<_>>()).collect()
}

async fn gone(mark: &str) {
    let patience = Instant::now();
    while !processes(mark).is_empty() {
        assert!(patience.elapsed() < Duration::from_secs(20), "still there: {:?}", processes(mark));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_instance_is_gone_at_once_and_a_dropped_one_soon() {
    let house = House::new().await;
    let mark = format!("stopped-{}", std::process::id());
    let f = house.python(&marked(&mark)).await;
    assert!(!processes(&mark).is_empty());
    f.stop().await;
    assert_eq!(processes(&mark), BTreeSet::new());

    let mark = format!("dropped-{}", std::process::id());
    drop(house.python(&marked(&mark)).await);
    gone(&mark).await;

    // A start that is given up leaves nothing either.
    let mark = format!("given-up-{}", std::process::id());
    let script = format!("exec sh -c 'while :; do sleep 1; done' {mark}");
    let start = house.shell(&script);
    tokio::select! {
        _ = start => panic!("it never asks for an event"),
        () = async { while processes(&mark).is_empty() { tokio::task::yield_now().await } } => {}
    }
    gone(&mark).await;
}

/// Not a test of its own: what the one below starts in another process, and kills.
#[tokio::test(flavor = "multi_thread")]
async fn node_that_is_killed() {
    let Ok(mark) = std::env::var("RUNTIME_TEST_MARK") else { return };
    let house = House::with(|config| {
        config.spare_sandboxes = 1;
        config.ready_sandboxes = 1;
    })
    .await;
    let mut f = house.python(&marked(&mark)).await;
    ask(&mut f, "{}").await;
    house.stands(1).await;
    println!("\nstarted in {}", house.cache.path().display());
    std::future::pending().await
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_node_is_killed_every_sandbox_dies_too() {
    let mark = format!("killed-{}", std::process::id());
    let mut node = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "lifecycle::node_that_is_killed", "--nocapture"])
        .env("RUNTIME_TEST_MARK", &mark)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(node.stdout.take().unwrap());
    let cache = tokio::task::spawn_blocking(move || {
        output
            .lines()
            .map_while(Result::ok)
            .find_map(|line| Some(line.strip_prefix("started in ")?.to_owned()))
    });
    let cache = cache.await.unwrap().expect("the node starts");
    assert!(!processes(&mark).is_empty());
    // The function's, a spare one, and one that stands ready.
    let all = processes_of_groups(node.id());
    assert!(all.len() >= 3 + 1 + 3, "{all:?}");
    node.kill().unwrap();
    node.wait().unwrap();
    gone(&mark).await;
    let patience = Instant::now();
    while !processes_of_groups(node.id()).is_empty() {
        assert!(
            patience.elapsed() < Duration::from_secs(20),
            "still there: {:?}",
            processes_of_groups(node.id())
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    std::fs::remove_dir_all(&cache).unwrap();

    // What it left of its control groups is removed when another node starts.
    drop(House::new().await);
    let name = format!("{}-", node.id());
    for top in ["memory", "cpu", "pids", ""] {
        let top = Path::new("/sys/fs/cgroup").join(top).join("hawker");
        let left = std::fs::read_dir(top).into_iter().flatten().flatten();
        assert!(left.filter(|left| left.file_name().to_string_lossy().starts_with(&name)).count() == 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_start_at_once_from_spares_and_without() {
    let house = House::with(|config| config.spare_sandboxes = 2).await;
    let files: &[(&str, &[u8])] = &[("app.py", b"def handler(e, c): return e * 2\n")];
    let starts = (0..8).map(|number| {
        let house = &house;
        async move {
            let started = house.runtime.start(request("python3.11", "app.handler", files)).await.unwrap();
            let mut f = started.instance;
            for _ in 0..20 {
                assert_eq!(ask(&mut f, &number.to_string()).await, number * 2);
            }
            f.stop().await;
        }
    });
    futures_util::future::join_all(starts).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn code_makes_room_for_other_code_but_not_while_it_runs() {
    let house = House::with(|config| config.max_code_cache_bytes = 0).await;
    let code = house.cache.path().join("cache/code");
    let text = |number: u32| format!("def handler(e, c): return [{number}, len(open(__file__).read()) > 0]");
    let mut first = house.python(&text(1)).await;
    house.python(&text(2)).await.stop().await;
    // It was idle when the next one came, so it makes room.
    let mut third = house.python(&text(3)).await;
    let patience = Instant::now();
    while std::fs::read_dir(&code).unwrap().count() > 2 {
        assert!(patience.elapsed() < Duration::from_secs(20));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(ask(&mut first, "{}").await, serde_json::json!([1, true]));
    assert_eq!(ask(&mut third, "{}").await, serde_json::json!([3, true]));
    let mut second = house.python(&text(2)).await;
    assert_eq!(ask(&mut second, "{}").await, serde_json::json!([2, true]));
}
