//! Bytes too large to live in the store: immutable, checksummed, durable blobs under ids of their own.
//!
//! Invariants: a blob is whole and on disk before [`Blobs::put`] returns, and never changes; every byte read
//! was verified against its checksum. What a blob means, and whether anything refers to it, is known to the
//! store's rows alone: an unreferenced blob is garbage that its owner removes.
//!
//! The map: [`Blobs`] is the seam, [`FsBlobs`] keeps blobs as files, [`S3Blobs`] as objects of a bucket anywhere.

mod error;
mod fs;
mod s3;

use std::fmt;
use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use futures_core::stream::BoxStream;

pub use error::Error;
pub use fs::FsBlobs;
pub use s3::{BucketAddress, BucketAddressError, Mark, S3Blobs};

/// A blob's id: 128 random bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobId(pub [u8; 16]);

impl fmt::Display for BlobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// The bytes of a blob, in pieces of any size.
pub type ByteStream = BoxStream<'static, Result<Bytes, Error>>;

/// A seam for where blobs are kept.
#[async_trait]
pub trait Blobs: Send + Sync + fmt::Debug {
    /// Writes a blob and returns its size in bytes once it is durable. If the stream ends in an error, that
    /// error is returned and nothing remains.
    async fn put(&self, id: BlobId, body: ByteStream) -> Result<u64, Error>;

    /// Reads bytes `range` of a blob (all of it: `0..size`). A damaged block ends the stream with
    /// [`Error::Corrupt`] instead of being served.
    async fn get(&self, id: BlobId, range: Range<u64>) -> Result<ByteStream, Error>;

    /// Removes a blob; removing one that is not there is fine.
    async fn delete(&self, id: BlobId) -> Result<(), Error>;

    /// Reads all of a blob, and gives its size if it is what was written; [`Error::Corrupt`] if it is not.
    async fn verify(&self, id: BlobId) -> Result<u64, Error>;

    /// Up to `limit` ids greater than `after`, in order: for repair.
    async fn list(&self, after: Option<BlobId>, limit: usize) -> Result<Vec<BlobId>, Error>;
}
