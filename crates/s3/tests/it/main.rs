//! The service as the pipeline drives it: requests through `parse` and `handle`, on a store and blobs of a test's own.

#![expect(clippy::unwrap_used, reason = "a test that meets the unexpected ends")]

mod buckets;
mod crash;
mod encryption;
mod events;
mod harness;
mod lifecycle;
mod listing;
mod multipart;
mod objects;
mod scrub;
mod versions;
