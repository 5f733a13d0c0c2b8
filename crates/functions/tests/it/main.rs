//! Functions over a real store and real blobs, with closures in the place of sandboxes.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

mod api;
mod invoke;
mod once;
mod pulls;
mod scale;
mod support;
mod validation;
mod versions;
