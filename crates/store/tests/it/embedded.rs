//! What the embedded engine promises about its directory, its memory of rows, and its bounds.

use std::fs;
use std::sync::mpsc;

use bytes::Bytes;
use futures_util::future::join_all;
use store::key::KeyWriter;
use store::{Commit, Engine, Error, FjallConfig, FjallEngine, Key, Read, ReadRequest, TableId, Write};
use types::AccountId;

fn key(n: u64) -> Key {
    let mut writer = KeyWriter::new(AccountId::DEFAULT, TableId(0x7001));
    writer.u64(n);
    writer.finish()
}

fn put(n: u64, value: impl Into<Bytes>) -> Commit {
    Commit::of(vec![Write::Put(key(n), value.into())])
}

async fn value(engine: &FjallEngine, n: u64) -> Option<Bytes> {
    let response = engine.read(ReadRequest { reads: vec![Read::Key(key(n))] }).await.unwrap();
    response.pages[0].first().map(|entry| entry.value.clone())
}

#[test]
fn a_directory_that_can_not_be_made_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a file");
    fs::write(&file, "").unwrap();
    let error = FjallEngine::open(FjallConfig::new(file.join("store"))).unwrap_err();
    assert!(matches!(&error, Error::Io(message) if message.contains("a file/store")), "{error}");
}

#[test]
fn a_directory_without_rights_is_named() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let closed = dir.path().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o500)).unwrap();
    // Rights do not bind root, which then opens it.
    let rights_bind = fs::write(closed.join("probe"), "").is_err();
    match FjallEngine::open(FjallConfig::new(&closed)) {
        Ok(_) => assert!(!rights_bind),
        Err(error) => assert!(error.to_string().contains("give the user that runs hawker"), "{error}"),
    }
}

#[tokio::test]
async fn a_directory_serves_one_engine() {
    let dir = tempfile::tempdir().unwrap();
    let engine = FjallEngine::open(FjallConfig::new(dir.path())).unwrap();
    let error = FjallEngine::open(FjallConfig::new(dir.path())).unwrap_err();
    assert!(matches!(&error, Error::Locked(path) if *path == dir.path().display().to_string()), "{error}");
    // The first is not disturbed.
    engine.commit(put(1, "1")).await.unwrap();
}

#[test]
fn a_newer_format_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(FjallEngine::open(FjallConfig::new(dir.path())).unwrap());
    let format = dir.path().join("format");
    assert_eq!(fs::read_to_string(&format).unwrap(), "1\n");
    fs::write(&format, "2\n").unwrap();
    let error = FjallEngine::open(FjallConfig::new(dir.path())).unwrap_err();
    assert!(matches!(error, Error::NewerFormat { found: 2, supported: 1 }), "{error}");
    fs::write(&format, "what?").unwrap();
    let error = FjallEngine::open(FjallConfig::new(dir.path())).unwrap_err();
    assert!(matches!(error, Error::Io(_)), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_than_the_queue_holds_is_refused_and_the_rest_is_done() {
    let dir = tempfile::tempdir().unwrap();
    let config = FjallConfig { queue_len: 4, ..FjallConfig::new(dir.path()) };
    let engine = FjallEngine::open(config).unwrap();
    // A decision that waits (which none may) holds the committer, so that the queue fills.
    let (release, wait) = mpsc::channel::<()>();
    let (begun, has_begun) = tokio::sync::oneshot::channel();
    let mut begun = Some(begun);
    let slow = Commit {
        reads: vec![],
        decide: Box::new(move |_, _| {
            if let Some(begun) = begun.take() {
                begun.send(()).unwrap();
            }
            wait.recv().unwrap();
            None
        }),
    };
    let held = tokio::spawn({
        let engine = engine.clone();
        async move { engine.commit(slow).await }
    });
    has_begun.await.unwrap();
    let (outcomes, ()) = tokio::join!(join_all((0..10).map(|n| engine.commit(put(n, "v")))), async {
        release.send(()).unwrap();
    });
    held.await.unwrap().unwrap();
    assert!(outcomes[..4].iter().all(Result::is_ok));
    assert!(outcomes[4..].iter().all(|outcome| matches!(outcome, Err(Error::Overloaded))));
    assert_eq!(value(&engine, 3).await, Some("v".into()));
    assert_eq!(value(&engine, 4).await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_survive_flushes_compactions_and_restarts() {
    let dir = tempfile::tempdir().unwrap();
    // Every few commits fill a memtable, so that the tree has to keep up.
    let config =
        || FjallConfig { memtable_bytes: 1 << 20, cache_bytes: 1 << 20, ..FjallConfig::new(dir.path()) };
    let value_of = |n: u64, round: u64| Bytes::from(format!("{n}/{round};").repeat(3000));
    let mut engine = FjallEngine::open(config()).unwrap();
    for round in 0..4 {
        for chunk in (0..400).collect::<Vec<u64>>().chunks(50) {
            let commits = chunk.iter().map(|n| engine.commit(put(*n, value_of(*n, round))));
            assert!(join_all(commits).await.iter().all(Result::is_ok));
        }
        let removed = (0..400).step_by(7).map(|n| Write::Delete(key(n))).collect();
        engine.commit(Commit::of(removed)).await.unwrap();
        if round % 2 == 0 {
            drop(engine);
            engine = FjallEngine::open(config()).unwrap();
        }
        for n in 0..400 {
            let expected = (n % 7 != 0).then(|| value_of(n, round));
            assert_eq!(value(&engine, n).await, expected, "row {n} in round {round}");
        }
    }
}

/// A journal whose file holds `find` has 512 bytes from there on cleared, as if a page had not been synced.
fn clear(journal: &std::path::Path, find: &[u8]) {
    let mut bytes = fs::read(journal).unwrap();
    let at = bytes.windows(find.len()).rposition(|window| window == find).unwrap();
    bytes[at..at + 512].fill(0);
    fs::write(journal, bytes).unwrap();
}

#[tokio::test]
async fn a_torn_last_commit_is_taken_off_and_damage_before_it_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let open = || FjallEngine::open(FjallConfig::new(dir.path()));
    let engine = open().unwrap();
    for n in 0..4 {
        engine.commit(put(n, format!("row {n};").repeat(3000))).await.unwrap();
    }
    drop(engine);
    let journals = fs::read_dir(dir.path().join("tree")).unwrap().map(|entry| entry.unwrap().path());
    let journals: Vec<_> = journals.filter(|path| path.extension().is_some_and(|e| e == "jnl")).collect();
    let [journal] = &journals[..] else { panic!("one journal, not {journals:?}") };

    clear(journal, "row 3;".repeat(200).as_bytes());
    let engine = open().unwrap();
    for n in 0..4 {
        let expected = (n < 3).then(|| Bytes::from(format!("row {n};").repeat(3000)));
        assert_eq!(value(&engine, n).await, expected);
    }
    engine.commit(put(3, "again")).await.unwrap();
    drop(engine);
    let engine = open().unwrap();
    assert_eq!(value(&engine, 3).await, Some("again".into()));
    drop(engine);

    let whole = fs::read(journal).unwrap();
    clear(journal, "row 1;".repeat(200).as_bytes());
    let damaged = fs::read(journal).unwrap();
    for _ in 0..2 {
        let error = open().unwrap_err();
        assert!(error.to_string().contains("restore the directory from a backup"), "{error}");
        assert!(fs::read(journal).unwrap() == damaged, "what was damaged is left as it is");
    }
    fs::write(journal, whole).unwrap();
    let engine = open().unwrap();
    assert_eq!(value(&engine, 1).await.unwrap().len(), 18_000);
}
