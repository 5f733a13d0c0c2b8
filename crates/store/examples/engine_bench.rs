//! How many durable commits a second the embedded engine takes, and how long each waits.
//!
//! `cargo run --release -p store --example engine_bench -- [DIR] [SECONDS] [ROWS]`: 64 writers put rows of
//! 1 KiB and 4 KiB, then increment one counter, then read; then the time to open a directory of ROWS rows of
//! 100 B, after an orderly end and without one. DIR must be on the disk to be measured; new directories in
//! it are used and removed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use store::key::KeyWriter;
use store::{Commit, Engine, FjallConfig, FjallEngine, Key, Read, ReadRequest, TableId, Write};
use types::AccountId;

const WRITERS: u64 = 64;

/// Tells a child of this program what to do.
const LOAD: &str = "--load";

fn key(writer: u64, n: u64) -> Key {
    let mut key = KeyWriter::new(AccountId::DEFAULT, TableId(0x7001));
    // Spread, as ids are.
    key.u64((writer << 32 | n).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    key.finish()
}

/// Bytes that do not compress.
fn noise(len: usize) -> Bytes {
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..len.div_ceil(8)).flat_map(|_| next()).take(len).collect()
}

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1).peekable();
    if arguments.next_if(|first| first == LOAD).is_some() {
        let (dir, rows) = (arguments.next().expect("DIR"), arguments.next().expect("ROWS"));
        let _open = load(Path::new(&dir), rows.parse().expect("ROWS is a number")).await;
        std::process::abort();
    }
    let parent = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let seconds = arguments.next().map_or(5, |text| text.parse().expect("SECONDS is a number"));
    let run = Duration::from_secs(seconds);
    let dir = parent.join(format!("engine-bench-{}", std::process::id()));
    let engine = FjallEngine::open(FjallConfig::new(&dir)).expect("the directory opens");

    for size in [1 << 10, 4 << 10] {
        let value = noise(size);
        measure(&format!("put {size} B"), run, &engine, move |writer, n| {
            Commit::of(vec![Write::Put(key(writer, n), value.clone())])
        })
        .await;
    }
    measure("4 keys of 1 KiB", run, &engine, {
        let value = noise(1 << 10);
        move |writer, n| {
            Commit::of((0..4).map(|k| Write::Put(key(writer, n * 4 + k), value.clone())).collect())
        }
    })
    .await;
    measure("increment one row", run, &engine, |_, _| increment()).await;
    read(run, &engine).await;

    println!("on disk: {} MiB; resident {} MiB", engine.size_bytes() >> 20, resident_mib());
    drop(engine);
    std::fs::remove_dir_all(&dir).expect("the directory is ours");

    let rows = arguments.next().map_or(1_000_000, |text| text.parse().expect("ROWS is a number"));
    start_up(&dir, rows).await;
    std::fs::remove_dir_all(&dir).expect("the directory is ours");
}

/// How long it takes to open a directory of many rows.
async fn start_up(dir: &Path, rows: u64) {
    // Written by a process that ends without any order.
    let exe = std::env::current_exe().expect("this program has a path");
    let status = std::process::Command::new(exe).arg(LOAD).arg(dir).arg(rows.to_string()).status();
    assert!(!status.expect("it runs").success());
    let open = || FjallEngine::open(FjallConfig::new(dir)).expect("the directory opens again");
    let engine = timed("open after a crash", open);
    timed("close", || drop(engine));
    let engine = timed("open after an orderly end", open);
    drop(engine);
}

async fn load(dir: &Path, rows: u64) -> Arc<FjallEngine> {
    let engine = FjallEngine::open(FjallConfig::new(dir)).expect("the directory opens");
    let value = noise(100);
    for n in (0..rows).step_by(1000) {
        let writes = (n..rows.min(n + 1000)).map(|n| Write::Put(key(1, n), value.clone())).collect();
        engine.commit(Commit::of(writes)).await.expect("it commits");
    }
    engine
}

fn timed<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let outcome = work();
    println!("{what}: {:?}", start.elapsed());
    outcome
}

fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).map_or(0, |kib| kib >> 10)
}

fn increment() -> Commit {
    Commit {
        reads: vec![Read::Key(key(u64::from(u32::MAX), 0))],
        decide: Box::new(|pages, _| {
            let now = pages[0]
                .first()
                .map_or(0, |entry| u64::from_be_bytes(entry.value[..].try_into().expect("it is a counter")));
            let next = Bytes::copy_from_slice(&(now + 1).to_be_bytes());
            Some(vec![Write::Put(key(u64::from(u32::MAX), 0), next)])
        }),
    }
}

async fn measure<F>(what: &str, run: Duration, engine: &Arc<FjallEngine>, commit: F)
where
    F: Fn(u64, u64) -> Commit + Clone + Send + 'static,
{
    let start = Instant::now();
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (engine, commit) = (engine.clone(), commit.clone());
            tokio::spawn(async move {
                let mut waits = Vec::new();
                while start.elapsed() < run {
                    let begun = Instant::now();
                    let commit = commit(writer, waits.len() as u64);
                    engine.commit(commit).await.expect("it commits");
                    waits.push(begun.elapsed());
                }
                waits
            })
        })
        .collect();
    report(what, start, writers).await;
}

async fn read(run: Duration, engine: &Arc<FjallEngine>) {
    let start = Instant::now();
    let readers: Vec<_> = (0..WRITERS)
        .map(|reader| {
            let engine = engine.clone();
            tokio::spawn(async move {
                let mut waits = Vec::new();
                while start.elapsed() < run {
                    let begun = Instant::now();
                    let reads = vec![Read::Key(key(reader, waits.len() as u64 % 1000))];
                    engine.read(ReadRequest { reads }).await.expect("it reads");
                    waits.push(begun.elapsed());
                    if waits.len().is_multiple_of(64) {
                        tokio::task::yield_now().await;
                    }
                }
                waits
            })
        })
        .collect();
    report("get 1 row", start, readers).await;
}

async fn report(what: &str, start: Instant, tasks: Vec<tokio::task::JoinHandle<Vec<Duration>>>) {
    let mut waits = Vec::new();
    for task in tasks {
        waits.extend(task.await.expect("it does not panic"));
    }
    let elapsed = start.elapsed();
    waits.sort_unstable();
    let rate = waits.len() as f64 / elapsed.as_secs_f64();
    let at = |share: f64| waits[((waits.len() - 1) as f64 * share) as usize];
    println!("{what}: {rate:.0}/s, p50 {:?}, p99 {:?}, most {:?}", at(0.5), at(0.99), at(1.0));
}
