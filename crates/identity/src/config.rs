//! What the operator sets.

use std::fmt;

use serde::{Deserialize, Serialize};
use types::{AccountId, Region};

/// Settings of [`crate::Identity`].
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The node's first account: its root owns the node. Fixed once a data directory exists.
    pub root_account: RootAccount,
    /// The key pair of its root user; without one, the stored pair is kept, or one is made.
    pub root_key: Option<KeyPair>,
    /// The node's region, as `aws:RequestedRegion` shows it.
    pub region: Region,
}

/// The account id of the node's first account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RootAccount(pub AccountId);

impl Default for RootAccount {
    fn default() -> Self {
        Self(AccountId::DEFAULT)
    }
}

/// A long-term access key and its secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyPair {
    /// `AKIA...`.
    pub access_key_id: String,
    /// The secret.
    pub secret_access_key: String,
}

// The secret stays out of logs.
impl fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyPair").field("access_key_id", &self.access_key_id).finish_non_exhaustive()
    }
}
