//! Functions over a real store and real blobs, with closures in the place of sandboxes.

mod api;
mod invoke;
mod support;
