//! What is stored. Names are unique without regard to case, so keys hold them in lower case.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use store::{JsonRecord, Key, Table, tables};
use types::{AccountId, Timestamp};

/// Rows of the node. Key: `0` for [`Primary`].
const PRIMARY: Table<Primary> = Table::new(tables::ACCOUNTS, "accounts");
/// Rows of the node. Key: `1`, account number.
pub(crate) const ACCOUNTS: Table<Account> = Table::new(tables::ACCOUNTS, "accounts");
/// Rows of the node. Key: access key id.
pub(crate) const ACCESS_KEYS: Table<AccessKey> = Table::new(tables::ACCESS_KEYS, "access_keys");
/// Rows of the node. Key: number of the key.
pub(crate) const SESSION_KEYS: Table<SessionKey> = Table::new(tables::SESSION_KEYS, "session_keys");
/// Key: name.
pub(crate) const USERS: Table<User> = Table::new(tables::USERS, "users");
/// Key: name.
pub(crate) const ROLES: Table<Role> = Table::new(tables::ROLES, "roles");
/// Key: name.
pub(crate) const POLICIES: Table<ManagedPolicy> = Table::new(tables::POLICIES, "policies");
/// Who holds a managed policy. Key: ARN of the policy, kind of holder (1 byte: 1 and 2 have it attached, 3 and
/// 4 as their boundary), name of the holder.
pub(crate) const ATTACHMENTS: Table<Attachment> = Table::new(tables::ATTACHMENTS, "attachments");

/// Which account is the node's first.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Primary {
    pub(crate) account: AccountId,
}
impl JsonRecord for Primary {}

/// An account.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Account {
    pub(crate) id: AccountId,
    pub(crate) created_at: Timestamp,
    /// Ids of the root user's keys.
    pub(crate) root_keys: Vec<String>,
}
impl JsonRecord for Account {}

/// Whose an access key is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum KeyOwner {
    Root,
    User { name: String, id: String },
}

/// A long-term access key.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct AccessKey {
    pub(crate) account: AccountId,
    pub(crate) owner: KeyOwner,
    pub(crate) secret: String,
    pub(crate) active: bool,
    pub(crate) created_at: Timestamp,
}
impl JsonRecord for AccessKey {}

// The secret stays out of logs.
impl fmt::Debug for AccessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessKey")
            .field("account", &self.account)
            .field("owner", &self.owner)
            .finish_non_exhaustive()
    }
}

/// A key of the node that seals session tokens.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct SessionKey {
    /// 32 bytes in hexadecimal.
    pub(crate) secret: String,
}
impl JsonRecord for SessionKey {}

// The secret stays out of logs.
impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionKey").finish_non_exhaustive()
    }
}

/// What users and roles have in common: the policies that say what they may do.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Grants {
    /// Inline policies by name.
    pub(crate) inline: BTreeMap<String, String>,
    /// ARNs of managed policies.
    pub(crate) attached: Vec<String>,
    /// ARN of the managed policy that bounds them.
    pub(crate) boundary: Option<String>,
}

/// A user.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) path: String,
    pub(crate) created_at: Timestamp,
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) access_keys: Vec<String>,
    pub(crate) grants: Grants,
}
impl JsonRecord for User {}

/// A role.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Role {
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) path: String,
    pub(crate) created_at: Timestamp,
    pub(crate) description: Option<String>,
    pub(crate) max_session_s: u32,
    pub(crate) tags: BTreeMap<String, String>,
    /// Who may assume it.
    pub(crate) trust: String,
    pub(crate) grants: Grants,
}
impl JsonRecord for Role {}

/// A managed policy of the account.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ManagedPolicy {
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) path: String,
    pub(crate) description: Option<String>,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) default_version: u32,
    pub(crate) next_version: u32,
    pub(crate) versions: Vec<PolicyVersion>,
}
impl JsonRecord for ManagedPolicy {}

/// A version of a managed policy.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct PolicyVersion {
    pub(crate) number: u32,
    pub(crate) document: String,
    pub(crate) created_at: Timestamp,
}

/// An attachment; all of it is in its key.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Attachment {}
impl JsonRecord for Attachment {}

/// Users or roles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum HolderKind {
    User,
    Role,
}

impl HolderKind {
    fn code(self) -> u8 {
        match self {
            Self::User => 1,
            Self::Role => 2,
        }
    }
}

pub(crate) fn primary() -> (Table<Primary>, Key) {
    let key = PRIMARY.key(AccountId::NODE, |k| {
        k.u8(0);
    });
    (PRIMARY, key)
}

pub(crate) fn account(id: AccountId) -> Key {
    ACCOUNTS.key(AccountId::NODE, |k| {
        k.u8(1).u64(id.number());
    })
}

pub(crate) fn access_key(id: &str) -> Key {
    ACCESS_KEYS.key(AccountId::NODE, |k| {
        k.text(id);
    })
}

pub(crate) fn session_key(number: u32) -> Key {
    SESSION_KEYS.key(AccountId::NODE, |k| {
        k.u64(number.into());
    })
}

pub(crate) fn user(account: AccountId, name: &str) -> Key {
    USERS.key(account, |k| {
        k.text(&name.to_ascii_lowercase());
    })
}

pub(crate) fn role(account: AccountId, name: &str) -> Key {
    ROLES.key(account, |k| {
        k.text(&name.to_ascii_lowercase());
    })
}

pub(crate) fn policy(account: AccountId, name: &str) -> Key {
    POLICIES.key(account, |k| {
        k.text(&name.to_ascii_lowercase());
    })
}

pub(crate) fn attachment(account: AccountId, policy_arn: &str, kind: HolderKind, name: &str) -> Key {
    ATTACHMENTS.key(account, |k| {
        k.text(policy_arn).u8(kind.code()).text(&name.to_ascii_lowercase());
    })
}

pub(crate) fn boundary(account: AccountId, policy_arn: &str, kind: HolderKind, name: &str) -> Key {
    ATTACHMENTS.key(account, |k| {
        k.text(policy_arn).u8(kind.code() + 2).text(&name.to_ascii_lowercase());
    })
}

/// Everybody who holds a policy.
pub(crate) fn attachments(account: AccountId, policy_arn: &str, limit: usize) -> store::Range {
    ATTACHMENTS.range(account, limit, |k| {
        k.text(policy_arn);
    })
}
