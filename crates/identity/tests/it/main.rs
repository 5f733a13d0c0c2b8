//! Identity over a store in memory: keys, sessions, rights, and the APIs, as the pipeline uses them.

#![expect(clippy::unwrap_used, reason = "a test that meets the unexpected ends")]

mod accounts;
mod authorization;
mod iam;
mod node;
mod sts;
