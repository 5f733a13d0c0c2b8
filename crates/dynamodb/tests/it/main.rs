//! The service through `parse` and `handle`, on the memory engine: what the pipeline calls, without sockets.

mod expressions;
mod items;
mod queries;
mod support;
mod table_ops;
mod transactions;
