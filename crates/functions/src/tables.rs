//! What is stored of functions.
//!
//! Invariant: a row of [`CODE`] counts the functions that use it, and its blob is in use as long as the row
//! is there; a blob without such a row has one in [`CODE_UNUSED`], so that none is ever forgotten.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use store::{JsonRecord, Key, Table, tables};
use types::{AccountId, RequestId, Timestamp};

/// Functions. Key: name.
pub(crate) const FUNCTIONS: Table<FunctionRow> = Table::new(tables::FUNCTIONS, "functions");
/// Resource policies. Key: name of the function.
pub(crate) const POLICIES: Table<PolicyRow> = Table::new(tables::FUNCTION_POLICIES, "function_policies");
/// Event invoke configurations. Key: name of the function.
pub(crate) const EVENT_CONFIGS: Table<EventConfigRow> =
    Table::new(tables::FUNCTION_EVENT_CONFIGS, "function_event_configs");
/// Packages. Key: SHA-256 in hexadecimal.
pub(crate) const CODE: Table<CodeRow> = Table::new(tables::FUNCTION_CODE, "function_code");
/// Blobs that no package row names. Key: since when (ms since the epoch, i64), blob id (16 bytes).
pub(crate) const CODE_UNUSED: Table<UnusedRow> =
    Table::new(tables::FUNCTION_CODE_UNUSED, "function_code_unused");
/// Sums over an account. Key: none, one row.
pub(crate) const TOTALS: Table<TotalsRow> = Table::new(tables::FUNCTION_TOTALS, "function_totals");

/// A deployed function.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct FunctionRow {
    pub(crate) name: String,
    pub(crate) runtime: String,
    pub(crate) role: String,
    pub(crate) handler: String,
    pub(crate) description: String,
    pub(crate) timeout_s: u32,
    pub(crate) memory_mb: u32,
    pub(crate) ephemeral_storage_mb: u32,
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) tags: BTreeMap<String, String>,
    /// `Active` or `PassThrough`.
    pub(crate) tracing: String,
    pub(crate) log_group: String,
    pub(crate) code: CodeRef,
    pub(crate) last_modified: Timestamp,
    /// Changes with every change.
    pub(crate) revision: RequestId,
    /// Changes with what an instance is made from: instances of another deployment are not used.
    pub(crate) deployment: RequestId,
    pub(crate) reserved_concurrency: Option<u32>,
}

impl JsonRecord for FunctionRow {}

/// The package of a function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CodeRef {
    /// 64 hexadecimal digits.
    pub(crate) sha256: String,
    /// The blob that holds it, 32 hexadecimal digits.
    pub(crate) blob: String,
    pub(crate) size_bytes: u64,
}

/// A package in use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CodeRow {
    pub(crate) blob: String,
    pub(crate) size_bytes: u64,
    /// How many functions use it, at least one.
    pub(crate) functions: u32,
}

impl JsonRecord for CodeRow {}

/// A blob to be removed in a while, unless its upload is committed before.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UnusedRow {
    /// Its removal has begun: no commit may use it any more.
    pub(crate) condemned: bool,
}

impl JsonRecord for UnusedRow {}

/// What may be done with a function by others than its account.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct PolicyRow {
    pub(crate) revision: RequestId,
    pub(crate) statements: Vec<Statement>,
}

impl JsonRecord for PolicyRow {}

/// One permission.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Statement {
    pub(crate) sid: String,
    pub(crate) action: String,
    pub(crate) principal: String,
    pub(crate) source_arn: Option<String>,
    pub(crate) source_account: Option<String>,
}

/// How asynchronous invocations of a function are retried, and who hears of their end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EventConfigRow {
    pub(crate) max_retries: Option<u32>,
    pub(crate) max_age_s: Option<u32>,
    pub(crate) on_success: Option<String>,
    pub(crate) on_failure: Option<String>,
    pub(crate) last_modified: Timestamp,
}

impl JsonRecord for EventConfigRow {}

/// Sums over the functions of an account.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TotalsRow {
    pub(crate) functions: u64,
    pub(crate) code_bytes: u64,
    pub(crate) reserved: u32,
}

impl JsonRecord for TotalsRow {}

/// The key of a function's row in a table whose key is its name.
pub(crate) fn by_name<V: store::Record>(table: &Table<V>, account: AccountId, name: &str) -> Key {
    table.key(account, |k| {
        k.text(name);
    })
}

/// The key of a package.
pub(crate) fn code_key(account: AccountId, sha256: &str) -> Key {
    CODE.key(account, |k| {
        k.text(sha256);
    })
}

/// The key of an unused blob.
pub(crate) fn unused_key(account: AccountId, since: Timestamp, blob: blobs::BlobId) -> Key {
    CODE_UNUSED.key(account, |k| {
        k.i64(since.as_millisecond()).raw(&blob.0);
    })
}

/// The key of an account's sums.
pub(crate) fn totals_key(account: AccountId) -> Key {
    TOTALS.key(account, |_| {})
}
