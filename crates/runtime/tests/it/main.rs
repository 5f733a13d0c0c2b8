//! Real functions in real sandboxes, on the interpreters that this host has.

mod failures;
mod isolation;
mod lifecycle;
mod node;
mod python;
mod support;
