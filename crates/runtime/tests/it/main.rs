//! Real functions in real sandboxes, on the interpreters that this host has.

#![allow(clippy::unwrap_used)]

mod cpu;
mod extensions;
mod failures;
mod guests;
mod images;
mod init;
mod isolation;
mod java;
mod layers;
mod lifecycle;
mod logging;
mod node;
mod python;
mod ready;
mod ruby;
mod streaming;
mod support;
mod telemetry;
mod wasm;
