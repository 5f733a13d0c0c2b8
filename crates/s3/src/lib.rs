//! Amazon S3: buckets, objects, multipart uploads and their notifications, on the store and the blobs.
//!
//! The map: `api` and `route` turn a request into an authorised operation; `frontend` adapts the protocol crate
//! (`s3s`, which reads inputs and writes outputs) to `ops`, where each operation is, and `dialect` mends what it answers
//! otherwise than S3; `said` is what a body says that rights depend on, `schema` what documents may hold, `refuse` names
//! what is not offered; `homes` is what is known of a bucket, `access` what it says of who may use it and `cors` of which
//! origins, `access_log` what was asked of it; `form` and `post_policy` are uploads by browsers, `website` what browsers
//! are shown; `ingest` takes a body in (a large one by `intake`), `read` gives it out at its client's `pace`,
//! `encryption` seals it in between; `versions` is how a key's versions come and go; `checksum`, `notify` and `walk` are
//! the digests, the events and the listings; `lifecycle` is what rules say is to go and `expiry` carries them out, `lock`
//! is what keeps it; `garbage` removes what nothing refers to and `scrub` reads what is there again; `tables` is what is
//! stored.
//!
//! Invariants: an object becomes visible, replaces another and causes its events in one commit; bytes are
//! verified before that commit; a bucket's rows belong to its owner's account; no operation is carried out that
//! is not the one that was authorised.

mod access;
mod access_log;
mod api;
mod checksum;
mod config;
mod cors;
mod dialect;
mod encryption;
mod error;
mod expiry;
mod form;
mod frontend;
mod garbage;
mod homes;
mod ingest;
mod intake;
mod lifecycle;
mod lock;
mod notify;
mod ops;
mod pace;
mod post_policy;
mod read;
mod refuse;
mod route;
mod said;
mod schema;
mod scrub;
mod service;
mod tables;
mod versions;
mod walk;
mod website;

pub use access_log::AccessLogs;
pub use config::Config;
pub use encryption::{KeyFileError, MasterKey};
pub use error::Error;
pub use expiry::Lifecycle;
pub use garbage::Sweeper;
pub use scrub::{Checked, Scrubber};
pub use service::{Rights, S3};
