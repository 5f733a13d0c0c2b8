//! Carries out what the outbox holds: every event reaches its function, is tried again if it fails, and ends
//! in one commit.
//!
//! The map: [`Service`] finds lanes with events and follows new ones; `lane` reads one target's events in
//! order and keeps a bounded number of them on their way; `delivery` takes one to its end; `destination`
//! tells others of that end; `delayed` brings events back when their time has come; `sources` reads the streams that
//! are mapped to functions.
//!
//! Invariants: an event is in the outbox until the commit that records its end or its next try, so it is
//! delivered at least once, whatever stops the node; within one process an event is never on its way twice;
//! lanes do not wait for each other; a lane without events costs no memory.
//!
//! Not here yet: leases. Every move of an event is a commit on condition that the event is still where it
//! was, so that lanes can be leased to one node each when several share a store ([`Service`] would ask for
//! the lease where it makes a lane).

mod config;
mod delayed;
mod delivery;
mod destination;
mod error;
mod lane;
mod service;
mod sources;
mod tables;

pub use config::Config;
pub use service::{Events, Handle, Service};
