//! What is stored.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use store::{JsonRecord, Key, Table, tables};
use types::AccountId;

use crate::material::Wrapped;

/// Key: id of the key.
pub(crate) const KEYS: Table<KeyRow> = Table::new(tables::KMS_KEYS, "kms_keys");
/// Key: name, without `alias/`.
pub(crate) const ALIASES: Table<AliasRow> = Table::new(tables::KMS_ALIASES, "kms_aliases");
/// A row of the node.
pub(crate) const MASTERS: Table<MasterRow> = Table::new(tables::KMS_MASTERS, "kms_masters");
/// Rows of the node. Key: when, in milliseconds since the epoch; account; id of the key.
pub(crate) const DELETIONS: Table<DeletionRow> = Table::new(tables::KMS_DELETIONS, "kms_deletions");

/// A key.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct KeyRow {
    pub(crate) id: String,
    pub(crate) created_ms: i64,
    pub(crate) description: String,
    pub(crate) enabled: bool,
    /// When it is destroyed, if it is to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) deletion_ms: Option<i64>,
    /// The policy document (JSON).
    pub(crate) policy: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) tags: BTreeMap<String, String>,
    /// Its material, the oldest first: new things are sealed with the last, old ones open with their own.
    pub(crate) material: Vec<Material>,
    /// Every how many days it gets new material.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) rotation_days: Option<u32>,
    /// Since when that is so.
    #[serde(default)]
    pub(crate) rotation_since_ms: i64,
    /// The service whose default key it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) service: Option<String>,
}

/// One generation of a key's material.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Material {
    pub(crate) made_ms: i64,
    /// Whether somebody asked for it, rather than the calendar.
    #[serde(default)]
    pub(crate) on_demand: bool,
    pub(crate) wrapped: Wrapped,
}

/// Another name of a key.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct AliasRow {
    pub(crate) name: String,
    pub(crate) key: String,
    pub(crate) created_ms: i64,
    pub(crate) updated_ms: i64,
}

/// What is known of the node's key.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct MasterRow {
    pub(crate) fingerprint: String,
}

/// A key that is to be destroyed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct DeletionRow {
    pub(crate) account: AccountId,
    pub(crate) key: String,
}

impl JsonRecord for KeyRow {}
impl JsonRecord for AliasRow {}
impl JsonRecord for MasterRow {}
impl JsonRecord for DeletionRow {}

pub(crate) fn key_row(account: AccountId, id: &str) -> Key {
    KEYS.key(account, |k| {
        k.text(id);
    })
}

pub(crate) fn alias_row(account: AccountId, name: &str) -> Key {
    ALIASES.key(account, |k| {
        k.text(name);
    })
}

pub(crate) fn master_row() -> Key {
    MASTERS.key(AccountId::NODE, |_| {})
}

pub(crate) fn deletion_row(at_ms: i64, account: AccountId, id: &str) -> Key {
    DELETIONS.key(AccountId::NODE, |k| {
        k.i64(at_ms).text(&account.to_string()).text(id);
    })
}
