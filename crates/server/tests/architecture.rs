//! The rules of the house as tests: which crate may use which, that every file says what it owns, that
//! nothing is left to do later.

// Lints know tests by their attribute, which the functions that tests share do not have.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What each crate may depend on, of the others here: a crate that is not named may use nothing. Services
/// never depend on each other.
const ALLOWED: &[(&str, &[&str])] = &[
    ("types", &[]),
    ("tls", &[]),
    ("store", &["types"]),
    ("blobs", &["tls", "types"]),
    ("aws", &["types"]),
    ("telemetry", &["aws", "store", "types"]),
    ("identity", &["aws", "store", "types"]),
    ("kms", &["aws", "store", "types"]),
    ("sqs", &["aws", "store", "types"]),
    ("s3", &["aws", "blobs", "store", "telemetry", "types"]),
    ("dynamodb", &["aws", "store", "telemetry", "types"]),
    ("functions", &["aws", "blobs", "store", "telemetry", "tls", "types"]),
    ("runtime", &["aws", "functions", "telemetry", "tls", "types"]),
    ("events", &["aws", "functions", "store", "telemetry", "types"]),
    ("stacks", &["aws", "store", "telemetry", "types"]),
    ("gateway", &["aws", "telemetry", "types"]),
    (
        "server",
        &[
            "aws",
            "blobs",
            "dynamodb",
            "events",
            "functions",
            "gateway",
            "identity",
            "kms",
            "runtime",
            "s3",
            "sqs",
            "stacks",
            "store",
            "telemetry",
            "types",
        ],
    ),
    ("hawker", &["aws", "runtime", "server", "stacks", "types"]),
    ("load", &["aws", "types"]),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

#[test]
fn crates_use_only_what_they_may() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .unwrap();
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let ours: Vec<_> = packages.iter().map(|p| p["name"].as_str().unwrap()).collect();
    let allowed: BTreeMap<_, _> = ALLOWED.iter().copied().collect();
    assert_eq!(ours.len(), allowed.len(), "the table above and the workspace name the same crates");
    let mut wrong = Vec::new();
    for package in packages {
        let name = package["name"].as_str().unwrap();
        let may = allowed.get(name).unwrap_or_else(|| panic!("crate {name} is not in the table above"));
        for dependency in package["dependencies"].as_array().unwrap() {
            let used = dependency["name"].as_str().unwrap();
            let in_tests_only = dependency["kind"] == "dev";
            if ours.contains(&used) && !may.contains(&used) && !in_tests_only {
                wrong.push(format!("{name} -> {used}"));
            }
        }
    }
    assert!(wrong.is_empty(), "edges that the design does not allow: {wrong:?}");
}

fn rust_files(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
}

#[test]
fn every_file_says_what_it_owns_and_leaves_nothing_undone() {
    let mut files = Vec::new();
    rust_files(&root().join("crates"), &mut files);
    assert!(files.len() > 50, "the files were found");
    let mut wrong = Vec::new();
    // Spelled so that this file does not find itself.
    let undone = ["TO".to_owned() + "DO", "FIX".to_owned() + "ME", "XX".to_owned() + "X:"];
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        if !text.starts_with("//!") {
            wrong.push(format!("{}: does not begin with `//!`", file.display()));
        }
        for word in &undone {
            if text.contains(word.as_str()) {
                wrong.push(format!("{}: {word}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn unsafe_code_lives_in_one_crate() {
    let mut files = Vec::new();
    rust_files(&root().join("crates"), &mut files);
    let word = "unsafe".to_owned() + " {";
    let wrong: Vec<_> = files
        .into_iter()
        .filter(|f| !f.components().any(|c| c.as_os_str() == "runtime"))
        .filter(|f| std::fs::read_to_string(f).unwrap().contains(&word))
        .collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}
