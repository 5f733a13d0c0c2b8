//! What an engine promises, run on every engine, and what the embedded one promises about its disk.

#![expect(clippy::unwrap_used, reason = "in a test it is the assertion")]

mod conformance;
mod crash;
mod disk;
mod embedded;
mod model;
mod process;
