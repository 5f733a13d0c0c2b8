//! The only way in: one HTTP listener, and the pipeline that every request takes.
//!
//! The map: [`Gateway`] knows the services and is what the rest of the node calls them through
//! (`aws::Dispatch`); `pipeline` is the path of a request, to be read top to bottom; `route` finds the service;
//! `connection` accepts, serves and drains; `io` and `inbound` keep slow peers from holding anything;
//! `completion` lets a handler finish whose client has left; `live` is answers that go on; `record` tells what happened.
//!
//! Invariants: no service sees a request that was not authenticated and authorised; nothing that a peer
//! controls (headers, idle time, bodies held, connections) is without a bound; a panic ends one request.
//! Nothing here knows what a service does, and nothing below here knows sockets.

mod completion;
mod config;
mod connection;
mod cross_origin;
mod error;
mod gateway;
mod inbound;
mod io;
mod live;
mod pipeline;
mod record;
mod route;

pub use config::Config;
pub use error::Error;
pub use gateway::{Gateway, Options};
pub use record::SpanSink;
