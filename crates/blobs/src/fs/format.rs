//! The format of a blob's file, whose checksums and trailer blobs in buckets have too.
//!
//! ```text
//! the blob's bytes
//! for each block of 64 KiB (the last may be shorter): its checksum, 8 bytes
//! trailer: size of the blob, 8 bytes; checksum of that size, 8 bytes; "hwkblob", 7 bytes; format (1), 1 byte
//! ```
//! Numbers are big-endian. Checksums are CRC-64/NVME, begun with the blob's id and the block's number, so
//! that a block that belongs elsewhere is as wrong as a damaged one.

use crc_fast::{CrcAlgorithm, Digest};

use crate::BlobId;

/// Bytes under one checksum.
pub(crate) const BLOCK_BYTES: u64 = 64 << 10;

/// Length of a checksum.
pub(crate) const SUM_BYTES: u64 = 8;

/// Length of the trailer.
pub(crate) const TRAILER_BYTES: u64 = 24;

const MAGIC: &[u8; 7] = b"hwkblob";

/// The format written, and the newest read.
pub(crate) const FORMAT: u8 = 1;

/// The number that stands for the trailer where others are numbers of blocks.
const TRAILER: u64 = u64::MAX;

/// The checksum of a block, begun.
pub(crate) fn begin(id: BlobId, block: u64) -> Digest {
    let (high, low) = id.0.split_at(8);
    let half = |bytes: &[u8]| u64::from_be_bytes(bytes.try_into().expect("half of an id is 8 bytes"));
    Digest::new_with_init_state(CrcAlgorithm::Crc64Nvme, half(high) ^ half(low).rotate_left(1) ^ block)
}

/// The checksum of a whole block.
pub(crate) fn sum(id: BlobId, block: u64, bytes: &[u8]) -> u64 {
    let mut digest = begin(id, block);
    digest.update(bytes);
    digest.finalize()
}

/// How many blocks a blob of that size has.
pub(crate) fn blocks(size: u64) -> u64 {
    size.div_ceil(BLOCK_BYTES)
}

/// Length of the file of a blob of that size; `None` if there can be no such file.
pub(crate) fn file_len(size: u64) -> Option<u64> {
    size.checked_add(blocks(size) * SUM_BYTES + TRAILER_BYTES)
}

/// The trailer of a blob.
pub(crate) fn trailer(id: BlobId, size: u64) -> [u8; TRAILER_BYTES as usize] {
    let mut trailer = [0; TRAILER_BYTES as usize];
    let size = size.to_be_bytes();
    trailer[..8].copy_from_slice(&size);
    trailer[8..16].copy_from_slice(&sum(id, TRAILER, &size).to_be_bytes());
    trailer[16..23].copy_from_slice(MAGIC);
    trailer[23] = FORMAT;
    trailer
}

/// What a trailer says.
pub(crate) enum Trailer {
    /// The blob's size.
    Size(u64),
    /// It is of a format that a newer binary wrote.
    Newer(u8),
    /// It is damaged.
    Damaged,
}

/// Reads the trailer of a file of that length.
pub(crate) fn read_trailer(id: BlobId, bytes: &[u8; TRAILER_BYTES as usize], len: u64) -> Trailer {
    if &bytes[16..23] != MAGIC {
        return Trailer::Damaged;
    }
    if bytes[23] > FORMAT {
        return Trailer::Newer(bytes[23]);
    }
    let size = u64::from_be_bytes(bytes[..8].try_into().expect("8 bytes"));
    if *bytes == trailer(id, size) && file_len(size) == Some(len) {
        Trailer::Size(size)
    } else {
        Trailer::Damaged
    }
}
