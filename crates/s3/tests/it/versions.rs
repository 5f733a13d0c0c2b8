//! Versions: what is kept, what is listed, what comes back.

use store::tables;
use types::AccountId;

use crate::harness::{Node, noise};

async fn set(node: &Node, status: &str) {
    let xml = format!("<VersioningConfiguration><Status>{status}</Status></VersioningConfiguration>");
    node.put("/photos?versioning", xml).ok().await;
}

async fn versioned() -> Node {
    let node = Node::with_bucket("photos").await;
    set(&node, "Enabled").await;
    node
}

async fn put(node: &Node, key: &str, body: &str) -> String {
    node.put(&format!("/photos/{key}"), body.to_owned()).ok().await.header("x-amz-version-id").to_owned()
}

async fn get(node: &Node, key: &str, version: &str) -> String {
    node.get(&format!("/photos/{key}?versionId={version}")).ok().await.text().to_owned()
}

/// Every version and marker of a listing: key, id, latest, whether a marker; paged by `max`.
async fn listed(node: &Node, query: &str, max: usize) -> Vec<(String, String, bool, bool)> {
    let mut found = Vec::new();
    let mut markers = String::new();
    loop {
        let page = node.get(&format!("/photos?versions&max-keys={max}{query}{markers}")).ok().await;
        let mut of_page = Vec::new();
        for (element, marker) in [("Version", false), ("DeleteMarker", true)] {
            let open = format!("<{element}>");
            for part in page.text().split(&open).skip(1) {
                let part = part.split(&format!("</{element}>")).next().unwrap();
                let text = |name: &str| {
                    let (_, rest) = part.split_once(&format!("<{name}>")).unwrap();
                    rest.split_once('<').unwrap().0.to_owned()
                };
                of_page.push((text("Key"), text("VersionId"), text("IsLatest") == "true", marker));
            }
        }
        let prefixes = page.text().matches("<CommonPrefixes>").count();
        assert!(of_page.len() + prefixes <= max);
        found.extend(of_page);
        if page.one("IsTruncated") == "false" {
            return found;
        }
        markers = format!("&key-marker={}", page.one("NextKeyMarker"));
        if let Some(version) = page.all("NextVersionIdMarker").first() {
            markers.push_str(&format!("&version-id-marker={version}"));
        }
    }
}

#[tokio::test]
async fn old_versions_stay() {
    let node = Node::with_bucket("photos").await;
    assert_eq!(node.get("/photos?versioning").ok().await.all("Status").len(), 0);
    assert_eq!(node.put("/photos/a", "before").ok().await.header("x-amz-version-id"), "");
    set(&node, "Enabled").await;
    assert_eq!(node.get("/photos?versioning").ok().await.one("Status"), "Enabled");
    let one = put(&node, "a", "one").await;
    let large = noise(100_000);
    let two = node.put("/photos/a", large.clone()).ok().await.header("x-amz-version-id").to_owned();
    let three = put(&node, "a", "three").await;

    assert_eq!(get(&node, "a", "null").await, "before");
    assert_eq!(get(&node, "a", &one).await, "one");
    assert_eq!(node.get(&format!("/photos/a?versionId={two}")).ok().await.body, large);
    let now = node.get("/photos/a").ok().await;
    assert_eq!((now.text(), now.header("x-amz-version-id")), ("three", &*three));

    let marker = node.delete("/photos/a").ok().await;
    assert_eq!(marker.header("x-amz-delete-marker"), "true");
    let marker = marker.header("x-amz-version-id").to_owned();
    let error = node.get("/photos/a").send().await.unwrap_err();
    assert_eq!((&*error.code, error.status), ("NoSuchKey", 404));
    assert_eq!(error.headers.unwrap()["x-amz-delete-marker"], "true");
    let error = node.get(&format!("/photos/a?versionId={marker}")).send().await.unwrap_err();
    assert_eq!((&*error.code, error.status), ("MethodNotAllowed", 405));
    assert_eq!(node.get("/photos?list-type=2").ok().await.one("KeyCount"), "0");

    let expected: Vec<_> = [
        (&*marker, true, true),
        (&three, false, false),
        (&two, false, false),
        (&one, false, false),
        ("null", false, false),
    ]
    .into_iter()
    .map(|(id, latest, marker)| ("a".to_owned(), id.to_owned(), latest, marker))
    .collect();
    for max in 1..7 {
        let mut got = listed(&node, "", max).await;
        // The page has versions before markers.
        got.sort_by_key(|(_, id, ..)| expected.iter().position(|e| e.1 == *id));
        assert_eq!(got, expected, "{max} a page");
    }
    // Without its marker it is back.
    let undone = node.delete(&format!("/photos/a?versionId={marker}")).ok().await;
    assert_eq!(undone.header("x-amz-delete-marker"), "true");
    assert_eq!(undone.header("x-amz-version-id"), marker);
    assert_eq!(node.get("/photos/a").ok().await.text(), "three");
    // Without its newest version the one before is.
    node.delete(&format!("/photos/a?versionId={three}")).ok().await;
    assert_eq!(node.get("/photos/a").ok().await.body, large);
    assert_eq!(node.delete("/photos").fails().await.0, "BucketNotEmpty");
    node.delete(&format!("/photos/a?versionId={one}")).ok().await;
    node.delete(&format!("/photos/a?versionId={two}")).ok().await;
    assert_eq!(node.get("/photos/a").ok().await.text(), "before");
    node.delete("/photos/a?versionId=null").ok().await;
    assert_eq!(node.get("/photos/a").fails().await.0, "NoSuchKey");
    node.sweep().await;
    assert_eq!(node.blob_count().await, 0);
    for table in [tables::OBJECTS, tables::OBJECT_VERSIONS, tables::OBJECT_NULLS, tables::OBJECT_DATA] {
        assert_eq!(node.rows(table, AccountId::DEFAULT).await, 0);
    }
    node.delete("/photos").ok().await;
}

#[tokio::test]
async fn suspended_buckets_have_one_null_version() {
    let node = versioned().await;
    let one = put(&node, "a", "one").await;
    set(&node, "Suspended").await;
    assert_eq!(put(&node, "a", "null one").await, "null");
    assert_eq!(put(&node, "a", "null two").await, "null");
    assert_eq!(node.get("/photos/a").ok().await.header("x-amz-version-id"), "null");
    assert_eq!(get(&node, "a", &one).await, "one");
    assert_eq!(listed(&node, "", 10).await.len(), 2);
    // A deletion puts a marker in the place of the null version.
    let marker = node.delete("/photos/a").ok().await;
    assert_eq!((marker.header("x-amz-version-id"), marker.header("x-amz-delete-marker")), ("null", "true"));
    assert_eq!(node.get("/photos/a").fails().await.1, 404);
    let got = listed(&node, "", 10).await;
    assert_eq!(
        got,
        [("a".to_owned(), one.clone(), false, false), ("a".to_owned(), "null".to_owned(), true, true)]
    );
    // Another one takes the place of that marker, and an object the place of both.
    node.delete("/photos/a").ok().await;
    assert_eq!(listed(&node, "", 10).await.len(), 2);
    put(&node, "a", "null three").await;
    assert_eq!(listed(&node, "", 10).await.len(), 2);
    set(&node, "Enabled").await;
    let two = put(&node, "a", "two").await;
    set(&node, "Suspended").await;
    // The null version is among the others now, and is replaced from there.
    node.put("/photos/a", noise(100_000)).ok().await;
    let got: Vec<_> = listed(&node, "", 1).await.into_iter().map(|(_, id, latest, _)| (id, latest)).collect();
    assert_eq!(got, [("null".to_owned(), true), (two.clone(), false), (one.clone(), false)]);
    node.delete("/photos/a?versionId=null").ok().await;
    assert_eq!(node.get("/photos/a").ok().await.text(), "two");
    for version in [&one, &two] {
        node.delete(&format!("/photos/a?versionId={version}")).ok().await;
    }
    node.sweep().await;
    assert_eq!(node.blob_count().await, 0);
    for table in [tables::OBJECTS, tables::OBJECT_VERSIONS, tables::OBJECT_NULLS, tables::OBJECT_DATA] {
        assert_eq!(node.rows(table, AccountId::DEFAULT).await, 0);
    }
}

#[tokio::test]
async fn versions_are_copied_tagged_and_conditional() {
    let node = versioned().await;
    let one = put(&node, "a", "one").await;
    let two = put(&node, "a", "two").await;
    let copy = node
        .put("/photos/b", "")
        .header("x-amz-copy-source", &format!("photos/a?versionId={one}"))
        .ok()
        .await;
    assert_eq!(copy.header("x-amz-copy-source-version-id"), one);
    assert_eq!(node.get("/photos/b").ok().await.text(), "one");
    // An old version, copied onto its key, is the newest.
    node.put("/photos/a", "").header("x-amz-copy-source", &format!("photos/a?versionId={one}")).ok().await;
    assert_eq!(node.get("/photos/a").ok().await.text(), "one");
    // A copy that only changes metadata is a version of its own, too.
    let call = node.put("/photos/a", "").header("x-amz-copy-source", "photos/a");
    call.header("x-amz-metadata-directive", "REPLACE").header("x-amz-meta-x", "1").ok().await;
    assert_eq!(listed(&node, "&prefix=a", 100).await.len(), 4);

    let tags = "<Tagging><TagSet><Tag><Key>k</Key><Value>v</Value></Tag></TagSet></Tagging>";
    let tagged = node.put(&format!("/photos/a?tagging&versionId={one}"), tags).ok().await;
    assert_eq!(tagged.header("x-amz-version-id"), one);
    assert_eq!(node.get(&format!("/photos/a?tagging&versionId={one}")).ok().await.one("Key"), "k");
    assert_eq!(node.get("/photos/a?tagging").ok().await.all("Key").len(), 0);

    let etag = node.get(&format!("/photos/a?versionId={two}")).ok().await.header("etag").to_owned();
    assert_eq!(node.put("/photos/a", "x").header("if-match", &etag).fails().await.1, 412);
    assert_eq!(node.put("/photos/a", "x").header("if-none-match", "*").fails().await.1, 412);
    node.delete("/photos/a").ok().await;
    node.put("/photos/a", "x").header("if-none-match", "*").ok().await;

    for (target, code) in [
        ("/photos/a?versionId=00000000000000000000000000000000", "NoSuchVersion"),
        ("/photos/a?versionId=x", "InvalidArgument"),
        ("/photos/a?versionId=null", "NoSuchVersion"),
    ] {
        assert_eq!(node.get(target).fails().await.0, code, "{target}");
    }
    let absent = node.delete("/photos/a?versionId=00000000000000000000000000000000").ok().await;
    assert_eq!(absent.status, 204);
}

#[tokio::test]
async fn many_versions_are_removed_at_once() {
    let node = versioned().await;
    let mut objects = String::new();
    for n in 0..7 {
        for key in ["a", "b/c"] {
            let version = put(&node, key, &n.to_string()).await;
            objects.push_str(&format!("<Object><Key>{key}</Key><VersionId>{version}</VersionId></Object>"));
        }
    }
    let xml = "<Delete><Object><Key>a</Key></Object><Object><Key>b/c</Key></Object></Delete>";
    let answer = node.post("/photos?delete", xml).ok().await;
    assert_eq!(answer.all("DeleteMarkerVersionId").len(), 2);
    for version in answer.all("DeleteMarkerVersionId") {
        let key = if objects.contains(&version) { unreachable!() } else { &version };
        assert_eq!(key.len(), 32);
    }
    let answer = node.post("/photos?delete", format!("<Delete>{objects}</Delete>")).ok().await;
    assert_eq!(answer.all("VersionId").len(), 14);
    let left = listed(&node, "", 100).await;
    assert_eq!(left.len(), 2);
    let objects: String = left
        .iter()
        .map(|(key, id, ..)| format!("<Object><Key>{key}</Key><VersionId>{id}</VersionId></Object>"))
        .collect();
    let answer = node.post("/photos?delete", format!("<Delete>{objects}</Delete>")).ok().await;
    assert_eq!(answer.all("DeleteMarker"), ["true", "true"]);
    node.delete("/photos").ok().await;
}

#[tokio::test]
async fn listings_page_and_roll_up() {
    let node = versioned().await;
    let mut expected = Vec::new();
    for key in ["a/1", "a/2", "b", "c/1", "d"] {
        let mut of_key = Vec::new();
        for n in 0..3 {
            of_key.push(put(&node, key, &n.to_string()).await);
        }
        if key == "b" || key == "a/2" {
            of_key.push(
                node.delete(&format!("/photos/{key}")).ok().await.header("x-amz-version-id").to_owned(),
            );
        }
        of_key.reverse();
        expected.extend(of_key.into_iter().map(|id| (key.to_owned(), id)));
    }
    for max in [1, 2, 3, 5, 100] {
        let mut got: Vec<_> = listed(&node, "", max).await;
        got.sort_by_key(|(_, id, ..)| expected.iter().position(|e| e.1 == *id));
        let latest: Vec<_> = got.iter().filter(|v| v.2).map(|v| v.0.clone()).collect();
        assert_eq!(latest, ["a/1", "a/2", "b", "c/1", "d"], "{max}");
        let got: Vec<_> = got.into_iter().map(|(key, id, ..)| (key, id)).collect();
        assert_eq!(got, expected, "{max}");
        let rolled = listed(&node, "&delimiter=/", max).await;
        assert_eq!(rolled.len(), 7);
        assert!(rolled.iter().all(|(key, ..)| key == "b" || key == "d"));
    }
    let page = node.get("/photos?versions&delimiter=/&max-keys=1").ok().await;
    assert_eq!((page.one("NextKeyMarker"), page.all("NextVersionIdMarker").len()), ("a/".to_owned(), 0));
    assert_eq!(node.get("/photos?versions&version-id-marker=x").fails().await.0, "InvalidArgument");
}
