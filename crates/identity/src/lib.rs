//! Accounts, access keys, users, roles and policies; who may do what.
//!
//! The map: [`Identity`] is the handle, opened over the store. It verifies keys (`credentials`, `sessions`),
//! decides rights (`authorizer`, over compiled `policy` documents kept by `holders`), and hands out temporary
//! credentials. `iam` and `sts` are the two APIs, `accounts` the node's own; `tables` is what is stored; `managed` are AWS's own managed policies.
//!
//! Invariants: nothing is allowed unless a policy allows it, or the root of an account acts in it; a change is
//! in force when it is acknowledged; secrets are in no log and no error.

mod accounts;
mod authorizer;
mod cache;
mod call;
mod config;
mod credentials;
mod error;
mod holders;
mod iam;
mod identity;
mod ids;
mod managed;
mod policy;
mod resource_policies;
mod sessions;
mod sts;
mod tables;

pub use accounts::AccountSummary;
pub use config::{Config, KeyPair, RootAccount};
pub use error::Error;
pub use iam::IamApi;
pub use identity::Identity;
pub use policy::{Decision, Kind, Policy};
pub use resource_policies::ResourcePolicies;
pub use sts::StsApi;
