//! Who a request comes from (AWS IAM user guide, "Principal").

use crate::AccountId;

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Principal {
    /// An account's root user: may do everything in its account.
    Root {
        /// The account.
        account: AccountId,
    },
    /// An IAM user.
    User {
        /// The user's account.
        account: AccountId,
        /// The user's name.
        name: String,
        /// `AIDA...`.
        id: String,
    },
    /// A role, assumed under a session name.
    AssumedRole {
        /// The role's account.
        account: AccountId,
        /// The role's name.
        role: String,
        /// `AROA...`.
        id: String,
        /// What the session was named when it was assumed.
        session: String,
    },
    /// A part of the platform acting for the account's owner, such as `s3.amazonaws.com`.
    Service {
        /// The account it acts in.
        account: AccountId,
        /// The service's principal name.
        name: String,
    },
    /// A request without credentials.
    Anonymous,
}

impl Principal {
    /// The account it belongs to; `None` if anonymous.
    pub fn account(&self) -> Option<AccountId> {
        match self {
            Self::Root { account }
            | Self::User { account, .. }
            | Self::AssumedRole { account, .. }
            | Self::Service { account, .. } => Some(*account),
            Self::Anonymous => None,
        }
    }

    /// The unique id of the user or the session; of others, the account.
    pub fn id(&self) -> Option<String> {
        match self {
            Self::User { id, .. } => Some(id.clone()),
            Self::AssumedRole { id, session, .. } => Some(format!("{id}:{session}")),
            Self::Root { account } | Self::Service { account, .. } => Some(account.to_string()),
            Self::Anonymous => None,
        }
    }

    /// The ARN that policies and `GetCallerIdentity` show; `*` if anonymous.
    pub fn arn(&self) -> String {
        match self {
            Self::Root { account } => format!("arn:aws:iam::{account}:root"),
            Self::User { account, name, .. } => format!("arn:aws:iam::{account}:user/{name}"),
            Self::AssumedRole { account, role, session, .. } => {
                format!("arn:aws:sts::{account}:assumed-role/{role}/{session}")
            }
            Self::Service { name, .. } => name.clone(),
            Self::Anonymous => "*".to_owned(),
        }
    }
}
