//! Delivery from a real outbox to functions whose code is closures.

mod deliver;
mod restart;
#[path = "../../../functions/tests/it/support.rs"]
mod support;
