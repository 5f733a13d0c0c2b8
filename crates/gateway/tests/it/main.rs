//! The pipeline over real sockets, with a tiny real service of each protocol.

mod client;
mod hostile;
mod lifecycle;
mod node;
mod requests;
