//! The service through `parse` and `handle`, on the memory engine: what the pipeline calls, without sockets.

#![allow(clippy::unwrap_used, reason = "a test that can not go on ends there")]

mod backups;
mod collections;
mod expressions;
mod indexes;
mod items;
mod legacy;
mod partiql;
mod queries;
mod reads;
mod streams;
mod support;
mod table_ops;
mod time_to_live;
mod transactions;
mod transfers;
mod watch;
