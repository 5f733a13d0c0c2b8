//! Real functions in real sandboxes, on the interpreters that this host has.

#![allow(clippy::unwrap_used)]

mod cpu;
mod failures;
mod isolation;
mod lifecycle;
mod node;
mod python;
mod support;
