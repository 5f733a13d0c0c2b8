//! Damage is found, written down, and never served.

use std::path::PathBuf;

use s3::Checked;

use crate::harness::{Node, noise};

fn blob_files(node: &Node) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for dir in std::fs::read_dir(node.path().join("blobs")).unwrap() {
        let dir = dir.unwrap().path();
        if dir.is_dir() && dir.file_name().unwrap() != "tmp" {
            found.extend(std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    found
}

#[tokio::test]
async fn a_flipped_bit_is_found() {
    let node = Node::with_bucket("photos").await;
    for n in 0..5 {
        node.put(&format!("/photos/{n}"), noise(100_000 + n)).ok().await;
    }
    assert_eq!(node.s3.scrubber().round().await.unwrap(), Checked { whole: 5, damaged: 0 });
    let file = &blob_files(&node)[2];
    let mut bytes = std::fs::read(file).unwrap();
    bytes[70_000] ^= 4;
    std::fs::write(file, bytes).unwrap();
    assert_eq!(node.s3.scrubber().round().await.unwrap(), Checked { whole: 4, damaged: 1 });
    let table = store::tables::BLOB_CHECKS;
    assert_eq!(node.rows(table, types::AccountId::NODE).await, 2);
    let mut refused = 0;
    for n in 0..5 {
        match node.get(&format!("/photos/{n}")).send().await {
            Ok(answer) => assert_eq!(answer.body, noise(100_000 + n)),
            Err(_) => refused += 1,
        }
    }
    assert_eq!(refused, 1);
    // What is gone is no longer damaged.
    for n in 0..5 {
        node.delete(&format!("/photos/{n}")).ok().await;
    }
    node.sweep().await;
    assert_eq!(node.s3.scrubber().round().await.unwrap(), Checked::default());
    assert_eq!(node.rows(table, types::AccountId::NODE).await, 1);
}
