//! Listings against a naive model: whatever the keys, pages, prefixes and delimiters.

use std::collections::BTreeSet;

use proptest::prelude::*;

use crate::harness::{Answer, Node};

fn encode(text: &str) -> String {
    text.bytes().map(|b| format!("%{b:02X}")).collect()
}

/// What a page of any listing has: keys and common prefixes.
fn entries(page: &Answer) -> Vec<String> {
    let text = page.text();
    let contents = text.split("<Contents>").skip(1).map(|c| {
        let (_, rest) = c.split_once("<Key>").unwrap();
        rest.split_once("</Key>").unwrap().0.to_owned()
    });
    let prefixes = text.split("<CommonPrefixes>").skip(1).map(|c| {
        let (_, rest) = c.split_once("<Prefix>").unwrap();
        rest.split_once("</Prefix>").unwrap().0.to_owned()
    });
    contents.chain(prefixes).collect()
}

fn model(keys: &BTreeSet<String>, prefix: &str, delimiter: &str, after: &str) -> BTreeSet<String> {
    let rolled = |key: &str| match key[prefix.len()..].find(delimiter) {
        Some(at) if !delimiter.is_empty() => key[..prefix.len() + at + delimiter.len()].to_owned(),
        _ => key.to_owned(),
    };
    keys.iter()
        .filter(|key| key.starts_with(prefix) && key.as_str() > after)
        .map(|key| rolled(key))
        // A marker that is a common prefix stands for everything in it.
        .filter(|entry| entry != after)
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]
    #[test]
    fn pages_add_up_to_the_model(
        keys in proptest::collection::btree_set("[ab/]{1,5}", 0..40),
        prefix in "[ab/]{0,2}",
        delimiter in prop_oneof![Just(""), Just("/"), Just("b"), Just("ab")],
        after in "[ab/]{0,3}",
        page in 1_usize..6,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let node = Node::with_bucket("photos").await;
            for key in &keys {
                node.put(&format!("/photos/{}", encode(key)), "x").ok().await;
            }
            let expected = model(&keys, &prefix, delimiter, &after);
            let query = format!(
                "list-type=2&prefix={}&delimiter={}&start-after={}&max-keys={page}",
                encode(&prefix), encode(delimiter), encode(&after)
            );
            let mut got = Vec::new();
            let mut token = String::new();
            loop {
                let answer = node.get(&format!("/photos?{query}{token}")).ok().await;
                let entries = entries(&answer);
                prop_assert!(entries.len() <= page);
                prop_assert_eq!(answer.one("KeyCount"), entries.len().to_string());
                got.extend(entries);
                if answer.one("IsTruncated") == "false" {
                    break;
                }
                token = format!("&continuation-token={}", answer.one("NextContinuationToken"));
            }
            let unique: BTreeSet<_> = got.iter().cloned().collect();
            prop_assert_eq!(unique.len(), got.len(), "nothing comes twice");
            prop_assert_eq!(unique, expected);

            // The first version of the listing, from the beginning.
            let expected = model(&keys, &prefix, delimiter, "");
            let mut got = BTreeSet::new();
            let mut marker = String::new();
            loop {
                let query = format!("prefix={}&delimiter={}&marker={}&max-keys={page}", encode(&prefix), encode(delimiter), encode(&marker));
                let answer = node.get(&format!("/photos?{query}")).ok().await;
                let entries = entries(&answer);
                marker = match answer.all("NextMarker").pop() {
                    Some(next) => next,
                    None => entries.last().cloned().unwrap_or_default(),
                };
                got.extend(entries);
                if answer.one("IsTruncated") == "false" {
                    break;
                }
            }
            prop_assert_eq!(got, expected);
            Ok(())
        })?;
    }
}

#[tokio::test]
async fn listings_say_what_they_were_asked() {
    let node = Node::with_bucket("photos").await;
    for key in ["a%20b.jpg", "in/1", "in/2", "out/%00x", "z"] {
        node.put(&format!("/photos/{key}"), "12345").ok().await;
    }
    let page = node.get("/photos?list-type=2&delimiter=%2F&encoding-type=url&fetch-owner=true").ok().await;
    assert_eq!(page.all("Key"), ["a+b.jpg", "z"]);
    assert!(page.text().contains("<CommonPrefixes><Prefix>in/</Prefix></CommonPrefixes>"), "{}", page.text());
    assert_eq!((page.all("Size"), page.one("KeyCount")), (vec!["5".to_owned(), "5".to_owned()], "4".into()));
    assert_eq!(page.all("ID").len(), 2);
    assert_eq!(page.one("EncodingType"), "url");
    let page = node.get("/photos?list-type=2&encoding-type=url&prefix=out/").ok().await;
    assert_eq!(page.all("Key"), ["out/%00x"]);
    let none = node.get("/photos?list-type=2&max-keys=0").ok().await;
    assert_eq!((none.one("KeyCount"), none.one("IsTruncated")), ("0".into(), "false".into()));
    assert_eq!(node.get("/photos?list-type=2&max-keys=-1").fails().await, ("InvalidArgument".into(), 400));
    let bad = node.get("/photos?list-type=2&continuation-token=%21");
    assert_eq!(bad.fails().await, ("InvalidArgument".into(), 400));
    let versions = node.get("/photos?versions&prefix=z").ok().await;
    assert_eq!((versions.one("VersionId"), versions.one("IsLatest")), ("null".into(), "true".into()));
    assert_eq!(node.get("/nowhere?list-type=2").fails().await, ("NoSuchBucket".into(), 404));
}
