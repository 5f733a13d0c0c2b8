//! Telemetry over a store in memory and one on disk: what is recorded is read as AWS shows it.

#![expect(clippy::unwrap_used, reason = "a test that meets the unexpected ends")]

mod logs;
mod node;
mod sweep;
mod usage;
