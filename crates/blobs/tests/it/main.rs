//! What a blob store promises, run on every one; what the one of files promises about its disk, and the one of buckets
//! about what it leaves there.

#![expect(clippy::unwrap_used, reason = "in a test it is the assertion")]

mod buckets;
mod conformance;
mod files;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};

use blobs::{BlobId, Blobs, ByteStream, Error};

/// The id whose bytes are all `byte`, but for the last.
pub(crate) fn id(byte: u8, last: u8) -> BlobId {
    let mut id = [byte; 16];
    id[15] = last;
    BlobId(id)
}

/// Bytes that do not repeat.
pub(crate) fn noise(len: usize) -> Bytes {
    let mut state = 0x2545_F491_4F6C_DD1D_u64 ^ len as u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..len.div_ceil(8)).flat_map(|_| next()).take(len).collect()
}

/// A body that comes in pieces of that size.
pub(crate) fn body(bytes: &Bytes, piece: usize) -> ByteStream {
    let bytes = bytes.clone();
    let starts = (0..bytes.len()).step_by(piece.max(1));
    let pieces: Vec<_> = starts.map(|at| Ok(bytes.slice(at..bytes.len().min(at + piece)))).collect();
    stream::iter(pieces).boxed()
}

/// All the bytes of a range.
pub(crate) async fn read(blobs: &dyn Blobs, id: BlobId, range: std::ops::Range<u64>) -> Result<Bytes, Error> {
    let chunks: Vec<Bytes> = blobs.get(id, range).await?.try_collect().await?;
    Ok(chunks.concat().into())
}
