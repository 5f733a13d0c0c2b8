//! Kills the process under load, again and again on the same directory: what was acknowledged is there, and
//! nothing is there by half.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use store::key::{KeyReader, KeyWriter, prefix_end};
use store::{Entry, FjallConfig, FjallEngine, Key, Range, Read, Store, TableId, Version, Write};
use types::{AccountId, Env, SystemEnv};

use crate::process;

const ROUNDS: usize = 25;
const WRITERS: u64 = 8;
/// Each writer keeps its last so many pairs of rows and removes older ones.
const KEPT: u64 = 20;

const LAST: TableId = TableId(0x7001);
const PAIRS: TableId = TableId(0x7002);
const JOURNAL: TableId = TableId(0x7003);
const TOTAL: TableId = TableId(0x7004);

fn open(dir: &Path) -> Store {
    // Small memtables, so that flushes and compactions are killed too.
    let config = FjallConfig { memtable_bytes: 1 << 20, ..FjallConfig::new(dir) };
    Store::new(FjallEngine::open(config).unwrap())
}

fn key(table: TableId, parts: &[u64]) -> Key {
    let mut writer = KeyWriter::new(AccountId::DEFAULT, table);
    for part in parts {
        writer.u64(*part);
    }
    writer.finish()
}

/// The value of a pair of rows, which says whose it is and can not be another's.
fn payload(writer: u64, n: u64) -> Bytes {
    let len = 64 + (writer * 7919 + n * 104_729) % 6000;
    let line = format!("{writer}/{n}/");
    line.bytes().cycle().take(len as usize).collect()
}

fn number(entry: Option<&Entry>) -> u64 {
    entry.map_or(0, |entry| u64::from_be_bytes(entry.value[..].try_into().unwrap()))
}

/// The process that is killed: does nothing in an ordinary test run.
#[test]
fn writers() {
    let Some(dir) = process::dir() else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(async {
        let store = open(&dir);
        process::say("open");
        let writers: Vec<_> =
            (0..WRITERS).map(|writer| tokio::spawn(write_for_ever(store.clone(), writer))).collect();
        for writer in writers {
            writer.await.unwrap();
        }
    });
}

async fn write_for_ever(store: Store, writer: u64) {
    loop {
        let (n, version) = write_one(&store, writer).await;
        process::say(&format!("{writer} {n} {}", version.0));
    }
}

/// One transaction over five tables' worth of rows.
async fn write_one(store: &Store, writer: u64) -> (u64, Version) {
    let last = key(LAST, &[writer]);
    let total = key(TOTAL, &[]);
    let reads = vec![Read::Key(last.clone()), Read::Key(total.clone())];
    let outcome = store.transact(reads, move |pages, version| {
        let n = number(pages[0].first()) + 1;
        let sum = number(pages[1].first()) + 1;
        let value = payload(writer, n);
        let mut writes = vec![
            Write::Put(last.clone(), Bytes::copy_from_slice(&n.to_be_bytes())),
            Write::Put(key(PAIRS, &[writer, n, 0]), value.clone()),
            Write::Append(key(JOURNAL, &[writer]), Bytes::copy_from_slice(&n.to_be_bytes())),
            Write::Put(key(PAIRS, &[writer, n, 1]), value),
            Write::Put(total.clone(), Bytes::copy_from_slice(&sum.to_be_bytes())),
        ];
        if n > KEPT {
            writes.push(Write::Delete(key(PAIRS, &[writer, n - KEPT, 0])));
            writes.push(Write::Delete(key(PAIRS, &[writer, n - KEPT, 1])));
        }
        Ok::<_, store::Error>((writes, (n, version)))
    });
    outcome.await.unwrap()
}

async fn rows(store: &Store, prefix: Key) -> Vec<Entry> {
    let end = prefix_end(&prefix);
    let range = Range { start: prefix, end, limit: usize::MAX, limit_bytes: usize::MAX, reverse: false };
    store.scan(range).await.unwrap().entries
}

/// Checks the whole directory, and returns its newest version.
async fn verify(store: &Store, acknowledged: &BTreeMap<(u64, u64), Version>) -> Version {
    let mut newest = Version(0);
    let mut sum = 0;
    for writer in 0..WRITERS {
        let last = number(store.get(key(LAST, &[writer])).await.unwrap().as_ref());
        sum += last;
        let journal = rows(store, key(JOURNAL, &[writer])).await;
        let numbers = journal.iter().map(|entry| number(Some(entry)));
        assert!(numbers.eq(1..=last), "writer {writer}: every transaction once, in order, up to {last}");
        assert!(journal.windows(2).all(|pair| pair[0].version < pair[1].version));
        for (n, entry) in (1..).zip(&journal) {
            if let Some(version) = acknowledged.get(&(writer, n)) {
                assert_eq!(entry.version, *version, "writer {writer}, transaction {n}");
            }
        }
        let most = acknowledged.range((writer, 0)..(writer + 1, 0)).next_back();
        if let Some(((_, n), _)) = most {
            assert!(last >= *n, "writer {writer}: {n} was acknowledged, {last} is the last there");
        }
        let pairs = rows(store, key(PAIRS, &[writer])).await;
        let kept = (last.saturating_sub(KEPT) + 1)..=last;
        let expected = kept.flat_map(|n| [(n, 0), (n, 1)]);
        let found = pairs.iter().map(|entry| {
            let mut reader = KeyReader::new(&entry.key).unwrap();
            (reader.u64().unwrap(), reader.u64().unwrap(), reader.u64().unwrap())
        });
        assert!(
            found.clone().map(|(_, n, half)| (n, half)).eq(expected),
            "writer {writer}: whole pairs only"
        );
        for ((_, n, _), entry) in found.zip(&pairs) {
            assert_eq!(entry.value, payload(writer, n));
            assert_eq!(entry.version, journal[n as usize - 1].version);
        }
        newest = newest.max(journal.last().map_or(Version(0), |entry| entry.version));
    }
    assert_eq!(number(store.get(key(TOTAL, &[])).await.unwrap().as_ref()), sum);
    newest
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_and_nothing_is_torn() {
    let dir = tempfile::tempdir().unwrap();
    let env = SystemEnv::new();
    let mut acknowledged = BTreeMap::new();
    let mut newest = Version(0);
    for round in 0..ROUNDS {
        let lines = killed_after(dir.path(), random(&*env) % 400);
        let first = newest;
        for line in lines.iter().filter(|line| *line != "open") {
            let mut words = line.split(' ').map(|word| word.parse::<u64>().unwrap());
            let mut next = || words.next().unwrap();
            let (writer, n, version) = (next(), next(), Version(next()));
            assert!(version > first, "round {round}: version {version:?} was given before the restart");
            acknowledged.insert((writer, n), version);
        }
        let store = open(dir.path());
        let found = verify(&store, &acknowledged).await;
        assert!(found >= newest);
        newest = newest.max(found);
        if round % 5 == 4 {
            // An orderly end in between: versions still grow.
            let (_, version) = write_one(&store, 0).await;
            assert!(version > newest);
            newest = version;
            store.close().await.unwrap();
        }
    }
    assert!(!acknowledged.is_empty());
}

/// Runs the writers until they have said so many lines, kills them, and returns all that they said. With no
/// lines to wait for, they are killed while they open the directory.
fn killed_after(dir: &Path, lines: u64) -> Vec<String> {
    let mut process = process::start("crash::writers", dir, &[]);
    let mut said: Vec<_> = std::iter::from_fn(|| process.next()).take(lines as usize).collect();
    assert_eq!(said.len(), lines as usize, "the writers ended by themselves");
    said.extend(process.kill());
    // A line may have been cut off, which is not an acknowledgement; it would be one that was too short.
    said.retain(|line| line == "open" || line.split(' ').count() == 3);
    said
}

fn random(env: &dyn Env) -> u64 {
    let mut bytes = [0; 8];
    env.fill(&mut bytes);
    u64::from_le_bytes(bytes)
}

/// A start that is killed at any moment, even the first of all, leaves a directory that opens.
#[test]
fn a_first_start_can_be_killed() {
    for _ in 0..5 {
        let dir = tempfile::tempdir().unwrap();
        for lines in [0, 0, 1] {
            killed_after(dir.path(), lines);
        }
        drop(open(dir.path()));
    }
}

/// The engine is dropped with its last handle, so that its directory can be opened again.
#[tokio::test]
async fn what_is_dropped_can_be_opened_again() {
    let dir = tempfile::tempdir().unwrap();
    let config = || FjallConfig::new(dir.path());
    for n in 1..4 {
        let store = Store::new(FjallEngine::open(config()).unwrap());
        let clone = store.clone();
        write_one(&store, 0).await;
        drop(store);
        assert!(matches!(FjallEngine::open(config()), Err(store::Error::Locked(_))));
        assert_eq!(number(clone.get(key(LAST, &[0])).await.unwrap().as_ref()), n);
    }
    let engine: Arc<FjallEngine> = FjallEngine::open(config()).unwrap();
    drop(engine);
}
