//! Random commits and reads, on every engine, against the simplest thing that could be right.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::future::join_all;
use proptest::prelude::*;
use proptest::sample::Index;
use store::key::KeyWriter;
use store::{
    Commit, Engine, Entry, FjallConfig, FjallEngine, Key, MemoryEngine, Page, Range, Read, ReadRequest,
    TableId, Version, Write,
};
use types::AccountId;

#[derive(Debug, Clone)]
enum Step {
    /// Commits sent at once, in this order: the embedded engine makes groups of them.
    Commits(Vec<Transaction>),
    Read(Vec<Read>),
    /// Ends the engine, in order, and opens its directory again (where it has one).
    Restart,
}

#[derive(Debug, Clone)]
struct Transaction {
    reads: Vec<Read>,
    writes: Option<Vec<Write>>,
}

#[derive(Debug, Default)]
struct Model {
    rows: BTreeMap<Key, (Bytes, Version)>,
}

impl Model {
    fn page(&self, read: &Read) -> Page {
        let entry = |(key, (value, version)): (&Key, &(Bytes, Version))| Entry {
            key: key.clone(),
            value: value.clone(),
            version: *version,
        };
        match read {
            Read::Key(key) => {
                Page { entries: self.rows.get_key_value(key).map(entry).into_iter().collect(), more: false }
            }
            Read::Range(range) => {
                let within = |key: &&Key| **key >= range.start && **key < range.end;
                let mut all: Vec<Entry> =
                    self.rows.iter().filter(|(key, _)| within(key)).map(entry).collect();
                if range.reverse {
                    all.reverse();
                }
                let mut bytes = 0;
                let mut taken = 0;
                while taken < all.len() && taken < range.limit && bytes < range.limit_bytes {
                    bytes += all[taken].key.len() + all[taken].value.len();
                    taken += 1;
                }
                let more = taken < all.len();
                all.truncate(taken);
                Page { entries: all, more }
            }
        }
    }

    fn apply(&mut self, writes: &[Write], version: Version) {
        for (ordinal, write) in writes.iter().enumerate() {
            match write {
                Write::Put(key, value) => {
                    self.rows.insert(key.clone(), (value.clone(), version));
                }
                Write::Delete(key) => {
                    self.rows.remove(key);
                }
                Write::Append(prefix, value) => {
                    let tail = [&version.0.to_be_bytes()[..], &(ordinal as u16).to_be_bytes()].concat();
                    self.rows.insert([&prefix[..], &tail].concat().into(), (value.clone(), version));
                }
            }
        }
    }
}

fn key_of(number: u8) -> Key {
    let mut writer = KeyWriter::new(AccountId::DEFAULT, TableId(0x7000 + u16::from(number / 16)));
    writer.raw(&[number % 16]);
    writer.finish()
}

fn keys() -> impl Strategy<Value = Key> {
    (0_u8..24).prop_map(key_of)
}

fn values() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..8).prop_map(Bytes::from),
        (any::<u8>(), 0_usize..6000).prop_map(|(byte, len)| Bytes::from(vec![byte; len])),
    ]
}

fn reads() -> impl Strategy<Value = Read> {
    let limits = prop_oneof![Just((usize::MAX, usize::MAX)), (1_usize..6, 1_usize..9000)];
    prop_oneof![
        keys().prop_map(Read::Key),
        (keys(), keys(), limits, any::<bool>()).prop_map(|(start, end, (limit, limit_bytes), reverse)| {
            Read::Range(Range { start, end, limit, limit_bytes, reverse })
        }),
    ]
}

fn writes() -> impl Strategy<Value = Write> {
    prop_oneof![
        4 => (keys(), values()).prop_map(|(key, value)| Write::Put(key, value)),
        2 => keys().prop_map(Write::Delete),
        1 => (keys(), values()).prop_map(|(prefix, value)| Write::Append(prefix, value)),
    ]
}

fn transactions() -> impl Strategy<Value = Transaction> {
    let writes = proptest::option::weighted(0.9, proptest::collection::vec(writes(), 0..5));
    (proptest::collection::vec(reads(), 0..4), writes)
        .prop_map(|(reads, writes)| Transaction { reads, writes })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => proptest::collection::vec(transactions(), 1..8).prop_map(Step::Commits),
        3 => proptest::collection::vec(reads(), 1..4).prop_map(Step::Read),
        1 => Just(Step::Restart),
    ];
    proptest::collection::vec(step, 1..16)
}

/// Appended rows have keys that a strategy can not know: reads a few of them by key.
fn some_appended(model: &Model, pick: Index) -> Option<Read> {
    let appended: Vec<_> = model.rows.keys().filter(|key| key.len() > 8).collect();
    (!appended.is_empty()).then(|| Read::Key(pick.get(&appended).to_owned().clone()))
}

async fn check(
    mut engine: Arc<dyn Engine>,
    reopen: Option<&dyn Fn() -> Arc<dyn Engine>>,
    steps: Vec<Step>,
    pick: Index,
) {
    let mut model = Model::default();
    let mut last = Version(0);
    for step in steps {
        match step {
            Step::Commits(transactions) => {
                // What each decision saw, and the version it was promised.
                type Seen = Arc<Mutex<Option<(Vec<Page>, Version)>>>;
                let seen: Vec<Seen> = transactions.iter().map(|_| Seen::default()).collect();
                let commits = transactions.iter().zip(&seen).map(|(transaction, seen)| {
                    let (writes, seen) = (transaction.writes.clone(), seen.clone());
                    let decide = Box::new(move |pages: &[Page], version| {
                        *seen.lock().unwrap() = Some((pages.to_vec(), version));
                        writes.clone()
                    });
                    engine.commit(Commit { reads: transaction.reads.clone(), decide })
                });
                let outcomes = join_all(commits).await;
                for ((transaction, seen), outcome) in transactions.iter().zip(seen).zip(outcomes) {
                    let (pages, promised) = seen.lock().unwrap().take().unwrap();
                    let expected: Vec<_> = transaction.reads.iter().map(|read| model.page(read)).collect();
                    assert_eq!(pages, expected);
                    let outcome = outcome.unwrap();
                    let writes = transaction.writes.as_deref().unwrap_or_default();
                    assert_eq!(outcome.written, !writes.is_empty());
                    if outcome.written {
                        assert_eq!(outcome.version, promised);
                        assert!(outcome.version > last);
                        last = outcome.version;
                        model.apply(writes, outcome.version);
                    }
                }
            }
            Step::Read(mut reads) => {
                reads.extend(some_appended(&model, pick));
                let expected: Vec<_> = reads.iter().map(|read| model.page(read)).collect();
                let response = engine.read(ReadRequest { reads }).await.unwrap();
                assert_eq!(response.pages, expected);
                assert!(response.version >= last);
            }
            Step::Restart => {
                if let Some(reopen) = reopen {
                    engine.close().await.unwrap();
                    drop(engine);
                    engine = reopen();
                }
            }
        }
    }
}

fn block_on(future: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
        .block_on(future);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn memory_is_the_model(steps in steps(), pick in any::<Index>()) {
        block_on(check(MemoryEngine::new(), None, steps, pick));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn embedded_is_the_model(steps in steps(), pick in any::<Index>()) {
        let dir = tempfile::tempdir().unwrap();
        let open = || -> Arc<dyn Engine> {
            FjallEngine::open(FjallConfig::new(dir.path())).unwrap()
        };
        block_on(check(open(), Some(&open), steps, pick));
    }
}
