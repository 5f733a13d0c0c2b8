//! The embedded engine: rows in a log-structured merge tree (fjall) under the data directory.
//!
//! One thread commits for the whole node (`committer`): it takes everything that waits, runs each decision
//! against the tree and the group's own writes so far (`group`), writes one batch, syncs once, and answers
//! all. So decisions are serialisable without retries, and an fsync is shared by whoever waited for the one
//! before. Readers never wait for it: they read owned snapshots.
//!
//! All tables share one keyspace. Tables that are consumed in order (the outbox) leave tombstones, but under
//! their own prefix, where no other table's scan passes, and their readers seek from a cursor. A keyspace of
//! their own would cost a second memtable, and since the journal can only be dropped when every keyspace has
//! flushed what is in it, the quieter of the two would hold the journal, and so the time to start, at its most.
//!
//! A stored value is the version of the commit that wrote it (8 bytes, big-endian), then the row's value.

mod committer;
mod config;
mod directory;
mod engine;
mod failure;
mod group;
mod journal;
mod long_reads;
mod queue;
mod rows;

pub use config::FjallConfig;
pub use engine::FjallEngine;
