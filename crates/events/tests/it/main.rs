//! Delivery from a real outbox to functions whose code is closures.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

mod deliver;
mod restart;
mod sources;
#[path = "../../../functions/tests/it/support.rs"]
mod support;
mod windows;
