//! A disk that is full: what was accepted stays, reads go on, nothing is accepted that can not be kept, and
//! when there is room again, commits go on.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use bytes::Bytes;
use store::key::KeyWriter;
use store::{Commit, Engine, Error, FjallConfig, FjallEngine, Key, Read, ReadRequest, TableId, Write};
use types::{AccountId, ErrorKind};

use crate::process;

fn config(dir: &Path) -> FjallConfig {
    FjallConfig { memtable_bytes: 1 << 20, reserve_bytes: 0, ..FjallConfig::new(dir) }
}

fn key(n: u64) -> Key {
    let mut writer = KeyWriter::new(AccountId::DEFAULT, TableId(0x7001));
    writer.u64(n);
    writer.finish()
}

/// Not to be compressed.
fn noise(seed: u64) -> Bytes {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..2048).flat_map(|_| next()).collect()
}

async fn put(engine: &FjallEngine, n: u64) -> Result<(), Error> {
    engine.commit(Commit::of(vec![Write::Put(key(n), noise(n))])).await.map(drop)
}

async fn value(engine: &FjallEngine, n: u64) -> Option<Bytes> {
    let response = engine.read(ReadRequest { reads: vec![Read::Key(key(n))] }).await.unwrap();
    response.pages[0].first().map(|entry| entry.value.clone())
}

async fn all_there(engine: &FjallEngine, count: u64) {
    for n in 0..count {
        assert_eq!(value(engine, n).await, Some(noise(n)), "row {n}");
    }
}

/// Writes until the disk takes no more; the number of rows accepted.
async fn fill(engine: &FjallEngine, from: u64) -> u64 {
    for n in from..100_000 {
        match put(engine, n).await {
            Ok(()) => {}
            Err(Error::DiskFull) => return n,
            Err(other) => panic!("{other}"),
        }
    }
    panic!("the disk does not fill");
}

#[tokio::test]
async fn below_the_reserve_only_reads_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let engine = FjallEngine::open(config(dir.path())).unwrap();
    put(&engine, 0).await.unwrap();
    drop(engine);
    let config = FjallConfig { reserve_bytes: u64::MAX, ..config(dir.path()) };
    let engine = FjallEngine::open(config).unwrap();
    let error = put(&engine, 1).await.unwrap_err();
    assert!(matches!(error, Error::DiskFull));
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    all_there(&engine, 1).await;
    assert_eq!(value(&engine, 1).await, None);
    // What writes nothing needs no room.
    let nothing = Commit { reads: vec![Read::Key(key(0))], decide: Box::new(|_, _| None) };
    assert!(!engine.commit(nothing).await.unwrap().written);
}

/// Under a limit on the size of files, so that the journal itself can not grow: does nothing in an ordinary
/// test run.
#[test]
fn journal_at_its_limit() {
    let Some(dir) = process::dir() else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(async {
        let engine: Arc<FjallEngine> = FjallEngine::open(config(&dir)).unwrap();
        let count = fill(&engine, 10).await;
        process::say(&count.to_string());
        // The tree no longer trusts its journal: the error says what to do, and reads go on.
        let error = put(&engine, count).await.unwrap_err();
        assert!(error.to_string().contains("restart hawker"), "{error}");
        all_there(&engine, count).await;
        assert_eq!(value(&engine, count).await, None);
        engine.close().await.unwrap();
    });
}

#[tokio::test]
async fn a_journal_that_can_not_grow_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let engine = FjallEngine::open(config(dir.path())).unwrap();
    for n in 0..10 {
        put(&engine, n).await.unwrap();
    }
    drop(engine);
    // SIGXFSZ ignored, the write fails with EFBIG instead. The journal, reopened, begins at its end.
    let limit = ["sh", "-c", "trap '' XFSZ; ulimit -f 2048; exec \"$0\" \"$@\""];
    let mut process = process::start("disk::journal_at_its_limit", dir.path(), &limit);
    let count: u64 = process.next().expect("the writer fills the disk").parse().unwrap();
    assert!(count > 10);
    assert!(process.passed());
    let engine = FjallEngine::open(config(dir.path())).unwrap();
    all_there(&engine, count).await;
    put(&engine, count + 1).await.unwrap();
}

/// On a small file system of its own: does nothing in an ordinary test run.
#[test]
fn on_a_small_disk() {
    let Some(dir) = process::dir() else { return };
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=48m", "tmpfs"])
        .arg(&dir)
        .status()
        .is_ok_and(|status| status.success());
    if !mounted {
        process::say("not allowed");
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(async {
        fs::write(dir.join("other data"), vec![1; 24 << 20]).unwrap();
        let store = dir.join("store");
        let config = FjallConfig { reserve_bytes: 8 << 20, ..config(&store) };
        let engine = FjallEngine::open(config.clone()).unwrap();
        let count = fill(&engine, 0).await;
        assert!(count > 100);
        all_there(&engine, count).await;
        // Rows can still be removed.
        engine.commit(Commit::of(vec![Write::Delete(key(0))])).await.unwrap();
        assert_eq!(value(&engine, 0).await, None);
        // With room, it goes on by itself.
        fs::remove_file(dir.join("other data")).unwrap();
        put(&engine, 0).await.unwrap();
        let more = fill(&engine, count).await;
        assert!(more > count);
        all_there(&engine, more).await;
        drop(engine);
        let engine = FjallEngine::open(config).unwrap();
        all_there(&engine, more).await;
        drop(engine);
        fs::remove_dir_all(&store).unwrap();
        without_a_reserve(&dir).await;
    });
    process::say("done");
}

/// With nothing kept free, the tree itself runs out of room, in the journal or in a table file.
async fn without_a_reserve(dir: &Path) {
    let store = dir.join("other store");
    fs::write(dir.join("other data"), vec![1; 24 << 20]).unwrap();
    let engine = FjallEngine::open(config(&store)).unwrap();
    let mut count = 0;
    while put(&engine, count).await.is_ok() {
        count += 1;
    }
    assert!(count > 100);
    let error = put(&engine, count + 1).await.unwrap_err();
    assert!(error.to_string().contains("restart hawker"), "{error}");
    all_there(&engine, count).await;
    assert_eq!(value(&engine, count).await, None);
    // It ends, and with room again it starts with all that it had accepted.
    engine.close().await.unwrap();
    drop(engine);
    fs::remove_file(dir.join("other data")).unwrap();
    let engine = FjallEngine::open(config(&store)).unwrap();
    all_there(&engine, count).await;
    put(&engine, count + 1).await.unwrap();
}

#[test]
fn a_full_disk_refuses_and_recovers() {
    let dir = tempfile::tempdir().unwrap();
    // A mount namespace of its own, which takes the mount with it when it ends.
    for wrapper in [&["unshare", "-m"][..], &["unshare", "-r", "-m"]] {
        if !Command::new(wrapper[0])
            .args(&wrapper[1..])
            .arg("true")
            .status()
            .is_ok_and(|status| status.success())
        {
            continue;
        }
        let mut process = process::start("disk::on_a_small_disk", dir.path(), wrapper);
        let said = process.next();
        assert!(process.passed());
        if said.as_deref() == Some("done") {
            return;
        }
        assert_eq!(said.as_deref(), Some("not allowed"));
    }
    eprintln!("mounts are not allowed here; the journal's limit is tested by its neighbour");
}
