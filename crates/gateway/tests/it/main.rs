//! The pipeline over real sockets, with a tiny real service of each protocol.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod client;
mod hostile;
mod lifecycle;
mod live;
mod node;
mod requests;
