//! The conformance suite for engines: one function for each promise, each run on every engine.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::join_all;
use store::key::{KeyReader, KeyWriter, after, prefix_end};
use store::{
    Commit, Engine, Entry, Error, FjallConfig, FjallEngine, Key, MemoryEngine, Page, Range, Read,
    ReadRequest, TableId, Version, Write,
};
use types::AccountId;

const TABLE: TableId = TableId(0x7001);
const OTHER: TableId = TableId(0x7002);

/// An engine, and what has to live as long.
pub(crate) struct Fixture {
    pub(crate) engine: Arc<dyn Engine>,
    _dir: Option<tempfile::TempDir>,
}

pub(crate) fn memory() -> Fixture {
    Fixture { engine: MemoryEngine::new(), _dir: None }
}

pub(crate) fn embedded() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let engine = FjallEngine::open(FjallConfig::new(dir.path().join("store"))).unwrap();
    Fixture { engine, _dir: Some(dir) }
}

macro_rules! suite {
    ($($promise:ident)*) => {
        mod on_memory {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $promise() {
                let fixture = super::memory();
                super::$promise(fixture.engine.clone()).await;
            })*
        }
        mod on_embedded {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $promise() {
                let fixture = super::embedded();
                super::$promise(fixture.engine.clone()).await;
            })*
        }
    };
}

suite! {
    rows_are_set_replaced_and_removed
    versions_grow_and_rows_carry_theirs
    a_commit_is_all_or_nothing
    decisions_see_what_they_change
    no_increment_is_lost
    writing_nothing_is_not_a_commit
    ranges_are_half_open_and_ordered
    ranges_stop_at_their_limits_and_say_so
    long_ranges_are_read_to_their_limits_from_either_end
    empty_ranges_are_empty
    ranges_in_decisions_see_the_commits_before
    one_read_is_one_snapshot
    appended_rows_are_in_commit_order
    the_last_write_of_a_key_wins
    watchers_see_keys_once_they_are_readable
    watchers_that_fall_behind_are_told
    a_panic_harms_only_its_own_commit
    what_is_too_large_is_refused
    no_key_is_too_long_to_be_asked_for
    keys_are_any_bytes
    size_grows_with_what_is_stored
    closing_refuses_commits_and_keeps_what_was_accepted
}

fn key_in(table: TableId, name: &str) -> Key {
    let mut writer = KeyWriter::new(AccountId::DEFAULT, table);
    writer.text(name);
    writer.finish()
}

fn key(name: &str) -> Key {
    key_in(TABLE, name)
}

fn put(name: &str, value: &str) -> Write {
    Write::Put(key(name), Bytes::copy_from_slice(value.as_bytes()))
}

fn delete(name: &str) -> Write {
    Write::Delete(key(name))
}

fn name_of(entry: &Entry) -> String {
    KeyReader::new(&entry.key).unwrap().text().unwrap()
}

fn names(page: &Page) -> Vec<String> {
    page.entries.iter().map(name_of).collect()
}

fn whole_table(table: TableId) -> Range {
    let start = KeyWriter::new(AccountId::DEFAULT, table).finish();
    let end = prefix_end(&start);
    Range { start, end, limit: usize::MAX, limit_bytes: usize::MAX, reverse: false }
}

async fn write(engine: &dyn Engine, writes: Vec<Write>) -> Version {
    engine.commit(Commit::of(writes)).await.unwrap().version
}

async fn read(engine: &dyn Engine, read: Read) -> Page {
    engine.read(ReadRequest { reads: vec![read] }).await.unwrap().pages.swap_remove(0)
}

async fn get(engine: &dyn Engine, name: &str) -> Option<Entry> {
    read(engine, Read::Key(key(name))).await.entries.pop()
}

async fn value(engine: &dyn Engine, name: &str) -> Option<String> {
    get(engine, name).await.map(|entry| String::from_utf8(entry.value.to_vec()).unwrap())
}

fn count(page: &Page) -> u64 {
    page.first().map_or(0, |entry| std::str::from_utf8(&entry.value).unwrap().parse().unwrap())
}

fn increment(name: &str) -> Commit {
    let target = key(name);
    Commit {
        reads: vec![Read::Key(target.clone())],
        decide: Box::new(move |pages, _| {
            let next = count(&pages[0]) + 1;
            Some(vec![Write::Put(target.clone(), next.to_string().into())])
        }),
    }
}

async fn rows_are_set_replaced_and_removed(engine: Arc<dyn Engine>) {
    assert_eq!(value(&*engine, "a").await, None);
    write(&*engine, vec![put("a", "1")]).await;
    assert_eq!(value(&*engine, "a").await.as_deref(), Some("1"));
    write(&*engine, vec![put("a", "")]).await;
    assert_eq!(value(&*engine, "a").await.as_deref(), Some(""));
    write(&*engine, vec![delete("a"), delete("never there")]).await;
    assert_eq!(value(&*engine, "a").await, None);
}

async fn versions_grow_and_rows_carry_theirs(engine: Arc<dyn Engine>) {
    let first = write(&*engine, vec![put("a", "1"), put("b", "1")]).await;
    let second = write(&*engine, vec![put("b", "2")]).await;
    assert!(second > first);
    assert_eq!(get(&*engine, "a").await.unwrap().version, first);
    assert_eq!(get(&*engine, "b").await.unwrap().version, second);
    let response = engine.read(ReadRequest { reads: vec![Read::Key(key("a"))] }).await.unwrap();
    assert_eq!(response.version, second);
    // A decision is told the version that its rows will carry.
    let told = Arc::new(std::sync::Mutex::new(Version(0)));
    let slot = told.clone();
    let decide = Box::new(move |_: &[Page], version| {
        *slot.lock().unwrap() = version;
        Some(vec![put("c", "3")])
    });
    let third = engine.commit(Commit { reads: vec![], decide }).await.unwrap().version;
    assert_eq!(third, *told.lock().unwrap());
    assert_eq!(get(&*engine, "c").await.unwrap().version, third);
}

async fn a_commit_is_all_or_nothing(engine: Arc<dyn Engine>) {
    // Two rows that every commit sets alike; whoever reads them at one snapshot finds them alike.
    let writers = join_all((0..4).map(|writer| {
        let engine = engine.clone();
        tokio::spawn(async move {
            for n in 0..50 {
                let value = format!("{writer}/{n}");
                write(&*engine, vec![put("left", &value), put("right", &value)]).await;
            }
        })
    }));
    let reader = {
        let engine = engine.clone();
        tokio::spawn(async move {
            for _ in 0..500 {
                let reads = vec![Read::Key(key("left")), Read::Key(key("right"))];
                let pages = engine.read(ReadRequest { reads }).await.unwrap().pages;
                let half = |page: &Page| page.first().map(|entry| (entry.value.clone(), entry.version));
                assert_eq!(half(&pages[0]), half(&pages[1]));
            }
        })
    };
    writers.await.into_iter().for_each(|writer| writer.unwrap());
    reader.await.unwrap();
}

async fn decisions_see_what_they_change(engine: Arc<dyn Engine>) {
    // A transfer between two accounts, refused where the money is not there: the sum never changes.
    write(&*engine, vec![put("from", "100"), put("to", "0")]).await;
    let transfer = || Commit {
        reads: vec![Read::Key(key("from")), Read::Key(key("to"))],
        decide: Box::new(|pages, _| {
            let (from, to) = (count(&pages[0]), count(&pages[1]));
            let left = from.checked_sub(7)?;
            Some(vec![put("from", &left.to_string()), put("to", &(to + 7).to_string())])
        }),
    };
    let outcomes = join_all((0..40).map(|_| engine.commit(transfer()))).await;
    let written = outcomes.into_iter().filter(|outcome| outcome.as_ref().unwrap().written).count();
    assert_eq!(written, 14);
    assert_eq!(value(&*engine, "from").await.as_deref(), Some("2"));
    assert_eq!(value(&*engine, "to").await.as_deref(), Some("98"));
}

async fn no_increment_is_lost(engine: Arc<dyn Engine>) {
    let tasks = join_all((0..16).map(|_| {
        let engine = engine.clone();
        tokio::spawn(async move {
            for outcome in join_all((0..25).map(|_| engine.commit(increment("n")))).await {
                outcome.unwrap();
            }
        })
    }));
    tasks.await.into_iter().for_each(|task| task.unwrap());
    assert_eq!(value(&*engine, "n").await.as_deref(), Some("400"));
}

async fn writing_nothing_is_not_a_commit(engine: Arc<dyn Engine>) {
    let version = write(&*engine, vec![put("a", "1")]).await;
    for nothing in [None, Some(vec![])] {
        let decide = Box::new(move |_: &[Page], _| nothing.clone());
        let outcome = engine.commit(Commit { reads: vec![], decide }).await.unwrap();
        assert!(!outcome.written);
        assert_eq!(outcome.version, version);
    }
}

async fn ranges_are_half_open_and_ordered(engine: Arc<dyn Engine>) {
    let all: Vec<_> = ["a", "b", "c", "d"].map(|name| put(name, name)).into();
    write(&*engine, all).await;
    write(&*engine, vec![Write::Put(key_in(OTHER, "b"), Bytes::new())]).await;
    let mut range = Range { start: key("b"), end: key("d"), ..whole_table(TABLE) };
    assert_eq!(names(&read(&*engine, Read::Range(range.clone())).await), ["b", "c"]);
    range.reverse = true;
    assert_eq!(names(&read(&*engine, Read::Range(range)).await), ["c", "b"]);
    let after_b = Range { start: after(&key("b")), ..whole_table(TABLE) };
    assert_eq!(names(&read(&*engine, Read::Range(after_b)).await), ["c", "d"]);
    write(&*engine, vec![delete("c")]).await;
    assert_eq!(names(&read(&*engine, Read::Range(whole_table(TABLE))).await), ["a", "b", "d"]);
    let both = Range { end: whole_table(OTHER).end, ..whole_table(TABLE) };
    assert_eq!(read(&*engine, Read::Range(both)).await.entries.len(), 4);
}

async fn ranges_stop_at_their_limits_and_say_so(engine: Arc<dyn Engine>) {
    let all: Vec<_> = ["a", "b", "c"].map(|name| put(name, "0123456789")).into();
    write(&*engine, all).await;
    let row_bytes = key("a").len() + 10;
    for (limit, limit_bytes, found, more) in [
        (1, usize::MAX, 1, true),
        (2, usize::MAX, 2, true),
        (3, usize::MAX, 3, false),
        (9, usize::MAX, 3, false),
        // The row that reaches the limit is in.
        (9, 0, 1, true),
        (9, row_bytes, 1, true),
        (9, row_bytes + 1, 2, true),
        (9, 3 * row_bytes, 3, false),
    ] {
        for reverse in [false, true] {
            let range = Range { limit, limit_bytes, reverse, ..whole_table(TABLE) };
            let page = read(&*engine, Read::Range(range.clone())).await;
            assert_eq!((page.entries.len(), page.more), (found, more), "{range:?}");
            assert_eq!(name_of(&page.entries[0]), if reverse { "c" } else { "a" });
        }
    }
}

async fn long_ranges_are_read_to_their_limits_from_either_end(engine: Arc<dyn Engine>) {
    const ROWS: usize = 300;
    let name = |n: usize| format!("{n:03}");
    write(&*engine, (0..ROWS).map(|n| put(&name(n), "v")).collect()).await;
    let row = key("000").len() + 1;
    for reverse in [false, true] {
        let mut all: Vec<String> = (0..ROWS).map(name).collect();
        if reverse {
            all.reverse();
        }
        for rows in [1, 127, 128, 129, 255, 256, 299, 300, 301] {
            let expected = (all[..rows.min(ROWS)].to_vec(), rows < ROWS);
            let by_rows = Range { limit: rows, reverse, ..whole_table(TABLE) };
            let by_bytes = Range { limit_bytes: rows * row, reverse, ..whole_table(TABLE) };
            for range in [by_rows, by_bytes] {
                // Beside another read, which takes its share of what is read at once.
                let reads = vec![Read::Range(range.clone()), Read::Key(key("007")), Read::Range(range)];
                let pages = engine.read(ReadRequest { reads }).await.unwrap().pages;
                assert_eq!((names(&pages[0]), pages[0].more), expected, "{rows} {reverse}");
                assert_eq!(names(&pages[1]), ["007"]);
                assert_eq!((names(&pages[2]), pages[2].more), expected, "{rows} {reverse}");
            }
        }
    }
}

async fn empty_ranges_are_empty(engine: Arc<dyn Engine>) {
    write(&*engine, vec![put("b", "1")]).await;
    for (start, end) in [("b", "b"), ("c", "a"), ("c", "d"), ("a", "b")] {
        for reverse in [false, true] {
            let range = Range { start: key(start), end: key(end), reverse, ..whole_table(TABLE) };
            assert_eq!(read(&*engine, Read::Range(range.clone())).await, Page::default());
            let decide = Box::new(|pages: &[Page], _| {
                assert_eq!(pages, [Page::default()]);
                None
            });
            engine.commit(Commit { reads: vec![Read::Range(range)], decide }).await.unwrap();
        }
    }
}

async fn ranges_in_decisions_see_the_commits_before(engine: Arc<dyn Engine>) {
    // Each commit removes the first row and adds one after the last, forward and backward, so that a range
    // in the same group crosses rows on disk, rows of the group, and rows that the group removed.
    let all: Vec<_> = (0..10).map(|n| put(&format!("{n:03}"), "")).collect();
    write(&*engine, all).await;
    let step = || Commit {
        reads: vec![
            Read::Range(Range { limit: 1, ..whole_table(TABLE) }),
            Read::Range(Range { limit: 1, reverse: true, ..whole_table(TABLE) }),
            Read::Range(whole_table(TABLE)),
        ],
        decide: Box::new(|pages, _| {
            assert_eq!(pages[2].entries.len(), 10);
            assert_eq!(pages[2].entries.first(), pages[0].first());
            assert_eq!(pages[2].entries.last(), pages[1].first());
            let last: u32 = name_of(&pages[1].entries[0]).parse().unwrap();
            Some(vec![Write::Delete(pages[0].entries[0].key.clone()), put(&format!("{:03}", last + 1), "")])
        }),
    };
    for outcome in join_all((0..60).map(|_| engine.commit(step()))).await {
        assert!(outcome.unwrap().written);
    }
    let left = names(&read(&*engine, Read::Range(whole_table(TABLE))).await);
    assert_eq!(left, (60..70).map(|n| format!("{n:03}")).collect::<Vec<_>>());
}

async fn one_read_is_one_snapshot(engine: Arc<dyn Engine>) {
    // A row moves through 200 places; a snapshot finds it in exactly one, however many rows a read takes.
    write(&*engine, vec![put("000", "here")]).await;
    let mover = {
        let engine = engine.clone();
        tokio::spawn(async move {
            for n in 0..199 {
                let (from, to) = (format!("{n:03}"), format!("{:03}", n + 1));
                write(&*engine, vec![delete(&from), put(&to, "here")]).await;
            }
        })
    };
    while !mover.is_finished() {
        let reads =
            vec![Read::Range(whole_table(TABLE)), Read::Range(Range { reverse: true, ..whole_table(TABLE) })];
        let pages = engine.read(ReadRequest { reads }).await.unwrap().pages;
        assert_eq!(pages[0].entries.len(), 1);
        assert_eq!(pages[0], pages[1]);
        let reads = (0..200).map(|n| Read::Key(key(&format!("{n:03}")))).collect();
        let pages = engine.read(ReadRequest { reads }).await.unwrap().pages;
        assert_eq!(pages.iter().filter(|page| page.first().is_some()).count(), 1);
    }
    mover.await.unwrap();
}

async fn appended_rows_are_in_commit_order(engine: Arc<dyn Engine>) {
    let lane = key("lane");
    let append = |n: u32| Write::Append(lane.clone(), n.to_string().into());
    let commits =
        (0..20).map(|n| engine.commit(Commit::of(vec![append(n * 3), put("x", ""), append(n * 3 + 1)])));
    let versions: Vec<_> =
        join_all(commits).await.into_iter().map(|outcome| outcome.unwrap().version).collect();
    assert!(versions.is_sorted());
    let range = Range { start: lane.clone(), end: prefix_end(&lane), ..whole_table(TABLE) };
    let page = read(&*engine, Read::Range(range)).await;
    let expected = (0..20).flat_map(|n| [n * 3, n * 3 + 1]).map(|n: u32| Bytes::from(n.to_string()));
    assert!(page.entries.iter().map(|entry| entry.value.clone()).eq(expected));
    for (at, entry) in page.entries.iter().enumerate() {
        let version = versions[at / 2];
        let ordinal: u16 = if at % 2 == 0 { 0 } else { 2 };
        let tail = [&version.0.to_be_bytes()[..], &ordinal.to_be_bytes()].concat();
        assert_eq!(entry.key[..], [&lane[..], &tail].concat());
        assert_eq!(entry.version, version);
    }
}

async fn the_last_write_of_a_key_wins(engine: Arc<dyn Engine>) {
    write(&*engine, vec![put("a", "1"), delete("a"), put("a", "2"), put("b", "1"), delete("b")]).await;
    assert_eq!(value(&*engine, "a").await.as_deref(), Some("2"));
    assert_eq!(value(&*engine, "b").await, None);
}

async fn watchers_see_keys_once_they_are_readable(engine: Arc<dyn Engine>) {
    write(&*engine, vec![put("before", "")]).await;
    let mut watch = engine.watch(TABLE);
    let mut second = engine.watch(TABLE);
    write(&*engine, vec![Write::Put(key_in(OTHER, "elsewhere"), Bytes::new())]).await;
    write(&*engine, vec![put("b", "1"), put("a", "1")]).await;
    write(&*engine, vec![delete("b")]).await;
    for name in ["b", "a", "b"] {
        // An acknowledged commit has been told already.
        assert_eq!(watch.next().now_or_never(), Some(Some(key(name))));
        assert_eq!(second.next().await, Some(key(name)));
    }
    drop(watch);
    write(&*engine, vec![put("c", "1")]).await;
    assert_eq!(second.next().await, Some(key("c")));
    assert_eq!(second.next().now_or_never(), None);
    drop(second);
    write(&*engine, vec![put("nobody looks", "1")]).await;
    let mut late = engine.watch(TABLE);
    assert_eq!(late.next().now_or_never(), None);
    // What is told of can be read.
    let told = {
        let engine = engine.clone();
        tokio::spawn(async move {
            let key = late.next().await.unwrap();
            assert!(read(&*engine, Read::Key(key)).await.first().is_some());
        })
    };
    write(&*engine, vec![put("d", "1")]).await;
    told.await.unwrap();
}

async fn watchers_that_fall_behind_are_told(engine: Arc<dyn Engine>) {
    let mut watch = engine.watch(TABLE);
    let many = (0..5000).map(|n| put(&n.to_string(), "")).collect();
    write(&*engine, many).await;
    assert_eq!(watch.next().await, None);
    assert!(watch.next().await.is_some());
}

async fn a_panic_harms_only_its_own_commit(engine: Arc<dyn Engine>) {
    let bad = || Commit { reads: vec![], decide: Box::new(|_, _| panic!("this decision is broken")) };
    let (before, panicked, later) =
        tokio::join!(engine.commit(increment("n")), engine.commit(bad()), engine.commit(increment("n")));
    assert!(before.unwrap().written && later.unwrap().written);
    let error = panicked.unwrap_err();
    assert!(matches!(&error, Error::Decision(why) if why.contains("broken")), "{error}");
    assert_eq!(value(&*engine, "n").await.as_deref(), Some("2"));
}

async fn what_is_too_large_is_refused(engine: Arc<dyn Engine>) {
    let long = "k".repeat(70_000);
    let huge = Bytes::from(vec![0; (16 << 20) + 1]);
    let short = Write::Put(Key::from_static(b"short"), Bytes::new());
    for (writes, refused_as_too_large) in [
        (vec![put("a", ""), put(&long, "")], true),
        (vec![put("a", ""), Write::Put(key("b"), huge)], true),
        ((0..70_000).map(|_| delete("a")).collect(), true),
        (vec![put("a", ""), short], false),
    ] {
        let error = engine.commit(Commit::of(writes)).await.unwrap_err();
        assert_eq!(matches!(error, Error::TooLarge { .. }), refused_as_too_large, "{error}");
    }
    assert_eq!(value(&*engine, "a").await, None);
    // The longest that a service writes is taken.
    let long = "\0".repeat(3072);
    write(&*engine, vec![put(&long, &"v".repeat(1 << 20))]).await;
    assert_eq!(value(&*engine, &long).await.unwrap().len(), 1 << 20);
}

async fn no_key_is_too_long_to_be_asked_for(engine: Arc<dyn Engine>) {
    let long = |name: &str| key(&name.repeat(70_000));
    write(&*engine, vec![put("a", "1"), put("kk", "2"), put("z", "3")]).await;
    let between = |start: Key, end: Key| Range { start, end, ..whole_table(TABLE) };
    let nothing = between(after(&long("k")), prefix_end(&long("k")));
    let reads = vec![
        Read::Key(long("k")),
        Read::Range(between(long("k"), long("z"))),
        Read::Range(Range { reverse: true, ..between(long("a"), long("k")) }),
        Read::Range(nothing),
    ];
    let expected: Vec<Vec<&[u8]>> = vec![vec![], vec![b"3"], vec![b"2"], vec![]];
    let values = |pages: &[Page]| -> Vec<Vec<Bytes>> {
        pages.iter().map(|page| page.entries.iter().map(|entry| entry.value.clone()).collect()).collect()
    };
    let pages = engine.read(ReadRequest { reads: reads.clone() }).await.unwrap().pages;
    assert_eq!(values(&pages), expected);
    // A decision sees the same, and the engine goes on.
    let (sender, mut seen) = tokio::sync::mpsc::unbounded_channel();
    let decide = Box::new(move |pages: &[Page], _| {
        sender.send(pages.to_vec()).unwrap();
        Some(vec![put("done", "")])
    });
    engine.commit(Commit { reads, decide }).await.unwrap();
    assert_eq!(values(&seen.recv().await.unwrap()), expected);
    assert!(value(&*engine, "done").await.is_some());
}

async fn keys_are_any_bytes(engine: Arc<dyn Engine>) {
    let prefix = KeyWriter::new(AccountId::DEFAULT, TABLE).finish();
    let tails: [&[u8]; 6] = [b"", b"\0", b"\0\0", b"\x01", b"\xFF", b"\xFF\xFF"];
    let keys: Vec<Key> = tails.iter().map(|tail| [&prefix[..], tail].concat().into()).collect();
    write(&*engine, keys.iter().map(|key| Write::Put(key.clone(), key.clone())).collect()).await;
    let page = read(&*engine, Read::Range(whole_table(TABLE))).await;
    assert!(page.entries.iter().map(|entry| &entry.key).eq(&keys));
    assert!(page.entries.iter().all(|entry| entry.key == entry.value));
    // The reserved ends of the whole space hold nothing that a caller can see.
    let everything = Range { start: Key::new(), end: vec![0xFF; 64].into(), ..whole_table(TABLE) };
    assert_eq!(read(&*engine, Read::Range(everything)).await.entries.len(), keys.len());
    for short in [&b""[..], b"\0", b"v"] {
        assert_eq!(read(&*engine, Read::Key(Key::from_static(short))).await, Page::default());
    }
}

async fn size_grows_with_what_is_stored(engine: Arc<dyn Engine>) {
    let before = engine.size_bytes();
    let megabyte: String =
        (0..1 << 20).map(|n: u32| char::from(b'a' + (n.wrapping_mul(n) % 23) as u8)).collect();
    for n in 0..4 {
        write(&*engine, vec![put(&n.to_string(), &megabyte)]).await;
    }
    assert!(engine.size_bytes() >= before + (4 << 20));
}

async fn closing_refuses_commits_and_keeps_what_was_accepted(engine: Arc<dyn Engine>) {
    let (accepted, closed) = tokio::join!(engine.commit(increment("n")), engine.close());
    closed.unwrap();
    assert!(accepted.unwrap().written);
    assert!(matches!(engine.commit(increment("n")).await, Err(Error::Closed)));
    assert_eq!(value(&*engine, "n").await.as_deref(), Some("1"));
    engine.close().await.unwrap();
}
