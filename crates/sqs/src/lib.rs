//! Amazon Simple Queue Service: queues, their messages, and who may send, receive and settle them.
//!
//! The map: `service` is the API, `ops` has one type for each operation, `find` tells queues by their URLs and says
//! what rights their use needs; `attributes` is what can be set of a queue, `message` what can be said in a message and
//! its checksums, `receipt` the handles by which received messages are settled; `tables` is what is stored, `desk` what
//! of a queue in use is kept in memory, `take` how messages are handed out, `sweeper` removes what has ended.
//!
//! Invariants: a message that was acknowledged is on disk until it is deleted, has expired, or its queue is gone; no two
//! receivers have one message within its visibility timeout; a queue that nobody uses is rows, and nothing in memory; a
//! message is found from where the queue begins, never by passing over those that were deleted before it.

mod attributes;
mod desk;
mod error;
mod find;
mod message;
mod ops;
mod receipt;
mod service;
mod sweeper;
mod tables;
mod take;

pub use error::Error;
pub use service::Sqs;
pub use sweeper::Sweeper;
