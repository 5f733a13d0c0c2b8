//! The service as the pipeline drives it: requests through `parse` and `handle`, on a store and blobs of a test's own.

mod buckets;
mod crash;
mod events;
mod harness;
mod listing;
mod multipart;
mod objects;
