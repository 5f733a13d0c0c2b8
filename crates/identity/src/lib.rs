//! Accounts, access keys, users, roles and policies; who may do what.
//!
//! The map: [`Identity`] is the handle, opened over the store. It verifies keys (`credentials`, `sessions`),
//! decides rights (`authorizer`, over compiled `policy` documents kept by `holders`), and hands out temporary
//! credentials. `tables` is what is stored; `managed` are AWS's own managed policies.
//!
//! Invariants: nothing is allowed unless a policy allows it, or the root of an account acts in it; a change is
//! in force when it is acknowledged; secrets are in no log and no error.

mod authorizer;
mod cache;
mod config;
mod credentials;
mod error;
mod holders;
mod identity;
mod ids;
mod managed;
mod policy;
mod resource_policies;
mod sessions;
mod tables;

pub use config::{Config, KeyPair, RootAccount};
pub use error::Error;
pub use identity::Identity;
pub use policy::{Decision, Kind, Policy};
pub use resource_policies::ResourcePolicies;
