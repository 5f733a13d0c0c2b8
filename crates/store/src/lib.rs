//! Every durable thing is rows here: ordered keys, snapshot reads, atomic commits.
//!
//! The map: [`Engine`] is the seam that an engine implements ([`MemoryEngine`], [`FjallEngine`]) and
//! [`Store`] the cheap handle that everything else uses; [`key`] encodes ordered tuples; [`Table`] gives one
//! kind of row its key and value types; [`tables`] lists every table there is; [`outbox`] holds the rows
//! that cause work.
//!
//! Invariants: a commit is acknowledged when it is on disk, all of it or none; a transaction's decision sees
//! exactly the state it changes (serialisable); keys begin with their account, which is the transaction
//! boundary.

mod embedded;
mod engine;
mod error;
pub mod key;
mod memory;
pub mod outbox;
mod rows;
mod store;
mod table;
pub mod tables;
mod watchers;

pub use embedded::{FjallConfig, FjallEngine};
pub use engine::{
    Commit, Committed, Decide, Decision, Engine, Entry, Page, Range, Read, ReadRequest, ReadResponse,
    Version, Watch, Write,
};
pub use error::Error;
pub use key::{Key, TableId};
pub use memory::MemoryEngine;
pub use store::Store;
pub use table::{JsonRecord, Record, Stored, Table};
