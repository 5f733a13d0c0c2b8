//! The words every other crate speaks: accounts, ARNs, principals, kinds of error, request and trace
//! ids, patterns with wildcards, the machine, and [`Env`] (clock and randomness).
//!
//! Invariant: nothing here does I/O or knows a service; what only one crate uses does not belong here.

mod arn;
mod defaults;
mod env;
mod error_kind;
mod ids;
mod machine;
mod principal;
mod wildcard;

pub use arn::{Arn, ArnError};
pub use defaults::is_default;
pub use env::{AheadEnv, Env, SharedEnv, SystemEnv};
pub use error_kind::ErrorKind;
pub use ids::{AccountId, AccountIdError, Region, RequestId, TraceHeader};
pub use jiff::Timestamp;
pub use machine::architecture;
pub use principal::Principal;
pub use wildcard::matches_wildcards;
