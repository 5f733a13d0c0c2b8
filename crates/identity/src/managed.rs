//! The managed policies of AWS that templates name most, with AWS's own documents (`managed.json`).
//!
//! Whatever is not listed does not exist: naming it is an error, not a role without rights.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use serde::Deserialize;
use types::Timestamp;

use crate::policy::{Kind, Policy};

/// A managed policy of AWS.
#[derive(Debug)]
pub(crate) struct AwsPolicy {
    pub(crate) arn: String,
    pub(crate) name: String,
    pub(crate) path: String,
    pub(crate) id: String,
    pub(crate) version: u32,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
    pub(crate) document: String,
    pub(crate) policy: Arc<Policy>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    name: String,
    path: String,
    version: u32,
    created: Timestamp,
    updated: Timestamp,
    document: serde_json::Value,
}

static POLICIES: LazyLock<BTreeMap<String, AwsPolicy>> = LazyLock::new(|| {
    let rows: Vec<Row> =
        serde_json::from_str(include_str!("managed.json")).expect("a test reads the same file");
    rows.into_iter().map(|row| (arn(&row), compile(row))).collect()
});

fn arn(row: &Row) -> String {
    format!("arn:aws:iam::aws:policy{}{}", row.path, row.name)
}

fn compile(row: Row) -> AwsPolicy {
    let document = serde_json::to_string_pretty(&row.document).expect("JSON is written as JSON");
    let policy = Policy::parse(&document, Kind::Identity).expect("a test compiles the same documents");
    AwsPolicy {
        arn: arn(&row),
        id: stable_id(&row.name),
        name: row.name,
        path: row.path,
        version: row.version,
        created_at: row.created,
        updated_at: row.updated,
        document,
        policy: Arc::new(policy),
    }
}

/// An id of the right form that is the same on every node.
fn stable_id(name: &str) -> String {
    use sha2::Digest as _;
    let digest = sha2::Sha256::digest(name.as_bytes());
    crate::ids::from_bytes("ANPA", &digest[..10])
}

/// The policy of that ARN.
pub(crate) fn get(arn: &str) -> Option<&'static AwsPolicy> {
    POLICIES.get(arn)
}

/// All of them, by ARN.
pub(crate) fn all() -> impl Iterator<Item = &'static AwsPolicy> {
    POLICIES.values()
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_document_compiles() {
        assert!(super::all().count() > 20);
        assert!(super::get("arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole").is_some());
        assert!(super::get("arn:aws:iam::aws:policy/AWSLambdaBasicExecutionRole").is_none());
    }
}
