//! Amazon DynamoDB: tables of items, expressions, conditional writes and transactions.
//!
//! The map: [`DynamoDb`] is the [`aws::Api`]; `wire` reads and writes JSON; `value` is attribute values and
//! their stored form; `expr` is the expression languages; `tables` says what is stored and where; `ops` holds
//! one file per operation or tight family; `live` lets clients follow what they query; `transfer`
//! exports to buckets and imports from them; [`Sweeper`] removes the items of deleted tables and what else has had
//! its time.
//!
//! Invariants: a write, however conditional, is one transaction of the store, so nothing is ever retried or
//! seen half done; items are looked into as they are stored and rebuilt only to be updated.

mod change;
mod collection;
mod error;
mod expr;
mod guard;
mod history;
mod index;
mod live;
mod ops;
mod partiql;
mod place;
mod service;
mod stream;
mod sweeper;
mod table;
mod tables;
mod throttle;
mod transfer;
mod ttl;
mod value;
mod wire;

pub use error::{Canceled, Error};
pub use live::Feeds;
pub use service::{DynamoDb, Rights};
pub use sweeper::Sweeper;
pub use transfer::Transfers;
