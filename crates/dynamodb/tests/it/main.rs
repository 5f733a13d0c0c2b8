//! The service through `parse` and `handle`, on the memory engine: what the pipeline calls, without sockets.

#![allow(clippy::unwrap_used, reason = "a test that can not go on ends there")]

mod expressions;
mod items;
mod queries;
mod support;
mod table_ops;
mod transactions;
