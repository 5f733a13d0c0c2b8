//! How a blob is laid out as an object of a bucket.
//!
//! ```text
//! for each block of 64 KiB (the last may be shorter): its bytes, then its checksum, 8 bytes
//! the trailer of a blob's file
//! ```
//! Checksums and trailer are those of files (see `fs::format`), and so is the length of the whole; but each checksum
//! is behind its block, so that any range of a blob is one range of the object: one request. How long the blob is
//! follows from the length of the object, which every answer says.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use crc_fast::Digest;

use crate::fs::format::{self, BLOCK_BYTES, SUM_BYTES, TRAILER_BYTES, Trailer};
use crate::{BlobId, Error};

const SUMMED_BYTES: u64 = BLOCK_BYTES + SUM_BYTES;

/// The size of a blob whose object is that long; `None` if no blob's is.
pub(super) fn size_of(object_len: u64) -> Option<u64> {
    let summed = object_len.checked_sub(TRAILER_BYTES)?;
    let size = summed.checked_sub(summed.div_ceil(SUMMED_BYTES) * SUM_BYTES)?;
    (format::file_len(size) == Some(object_len)).then_some(size)
}

/// The bytes of the object that hold the blocks which `range` touches; more than there are, at its end.
pub(super) fn object_range(range: &Range<u64>) -> Range<u64> {
    range.start / BLOCK_BYTES * SUMMED_BYTES..range.end.div_ceil(BLOCK_BYTES) * SUMMED_BYTES
}

/// Makes an object of a blob's bytes.
pub(super) struct Encoder {
    id: BlobId,
    size: u64,
    /// The checksum of the block under way.
    digest: Digest,
}

impl Encoder {
    pub(super) fn new(id: BlobId) -> Self {
        Self { id, size: 0, digest: format::begin(id, 0) }
    }

    /// The blob's size so far.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Adds a piece.
    pub(super) fn add(&mut self, mut piece: &[u8], out: &mut Vec<u8>) {
        while !piece.is_empty() {
            let room = BLOCK_BYTES - self.size % BLOCK_BYTES;
            let (head, rest) = piece.split_at(piece.len().min(room as usize));
            self.digest.update(head);
            out.extend_from_slice(head);
            self.size += head.len() as u64;
            if self.size.is_multiple_of(BLOCK_BYTES) {
                self.end_block(out);
            }
            piece = rest;
        }
    }

    /// Ends the object.
    pub(super) fn end(&mut self, out: &mut Vec<u8>) {
        if !self.size.is_multiple_of(BLOCK_BYTES) {
            self.end_block(out);
        }
        out.extend_from_slice(&format::trailer(self.id, self.size));
    }

    fn end_block(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.digest.finalize().to_be_bytes());
        self.digest = format::begin(self.id, self.size.div_ceil(BLOCK_BYTES));
    }
}

/// Takes a blob's bytes out of the object's, and verifies each block.
pub(super) struct Decoder {
    id: BlobId,
    size: u64,
    /// The bytes of the blob that were asked for and have not been given out.
    wanted: Range<u64>,
    /// The block that comes next.
    block: u64,
    /// What has come of it.
    carry: BytesMut,
}

impl Decoder {
    /// For the bytes of [`object_range`] of `range`, of a blob of that size.
    pub(super) fn new(id: BlobId, size: u64, range: Range<u64>) -> Self {
        let block = range.start / BLOCK_BYTES;
        Self { id, size, wanted: range, block, carry: BytesMut::new() }
    }

    /// True once everything was given out.
    pub(super) fn is_done(&self) -> bool {
        self.wanted.is_empty()
    }

    /// What has come and belongs to no block that was asked for: the beginning of the trailer, or all of it.
    pub(super) fn rest(&self) -> &[u8] {
        &self.carry
    }

    /// Adds what came, and gives the wanted bytes of the blocks that it completes.
    pub(super) fn add(&mut self, mut piece: Bytes, out: &mut Vec<Bytes>) -> Result<(), Error> {
        while !piece.is_empty() {
            if self.is_done() {
                self.carry.extend_from_slice(&piece);
                return Ok(());
            }
            let from = self.block * BLOCK_BYTES;
            let length = (self.size - from).min(BLOCK_BYTES);
            let summed = (length + SUM_BYTES) as usize;
            if self.carry.capacity() == 0 {
                self.carry = BytesMut::with_capacity(summed);
            }
            let missing = summed - self.carry.len();
            self.carry.extend_from_slice(&piece.split_to(missing.min(piece.len())));
            if self.carry.len() < summed {
                return Ok(());
            }
            let whole = std::mem::take(&mut self.carry).freeze();
            let (bytes, sum) = whole.split_at(length as usize);
            if format::sum(self.id, self.block, bytes).to_be_bytes() != *sum {
                tracing::error!(blob = %self.id, block = self.block, "a block of a blob is damaged");
                return Err(Error::Corrupt { id: self.id, at: from });
            }
            let end = self.wanted.end.min(from + length);
            out.push(whole.slice((self.wanted.start - from) as usize..(end - from) as usize));
            self.wanted.start = end;
            self.block += 1;
        }
        Ok(())
    }

    /// Checks the trailer, once all of the blob was read.
    pub(super) fn check_trailer(&self) -> Result<(), Error> {
        let damaged = Error::Corrupt { id: self.id, at: self.size };
        let Ok(trailer) = self.rest().try_into() else { return Err(damaged) };
        let length = format::file_len(self.size).unwrap_or_default();
        match format::read_trailer(self.id, trailer, length) {
            Trailer::Size(_) => Ok(()),
            Trailer::Damaged => Err(damaged),
            Trailer::Newer(found) => Err(Error::Io(std::io::Error::other(format!(
                "blob {} has format {found}, and this hawker reads up to {}; use a newer hawker",
                self.id,
                format::FORMAT
            )))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    const ID: BlobId = BlobId([7; 16]);

    fn object(bytes: &[u8], piece: usize) -> Vec<u8> {
        let (mut encoder, mut out) = (Encoder::new(ID), Vec::new());
        bytes.chunks(piece).for_each(|piece| encoder.add(piece, &mut out));
        assert_eq!(encoder.size(), bytes.len() as u64);
        encoder.end(&mut out);
        out
    }

    proptest! {
        #![proptest_config(proptest::test_runner::Config { cases: 48, failure_persistence: None, ..Default::default() })]
        #[test]
        fn any_range_comes_back(size in 0_usize..400_000, piece in 1_usize..90_000, cut in any::<(u32, u32)>(), flip in any::<u32>()) {
            let bytes: Vec<u8> = (0..size).map(|n| (n * 31 + n / 251) as u8).collect();
            let whole = object(&bytes, piece);
            prop_assert_eq!(size_of(whole.len() as u64), Some(size as u64));
            let scale = |at: u32| u64::from(at) * size as u64 / u64::from(u32::MAX);
            let range = scale(cut.0.min(cut.1))..scale(cut.0.max(cut.1));
            let part = object_range(&range);
            let part = &whole[part.start as usize..(part.end as usize).min(whole.len())];
            let read = |part: &[u8]| {
                let (mut decoder, mut out) = (Decoder::new(ID, size as u64, range.clone()), Vec::new());
                for piece in part.chunks(piece) {
                    decoder.add(Bytes::copy_from_slice(piece), &mut out)?;
                }
                Ok::<_, Error>((decoder.is_done(), out.concat()))
            };
            let expected = &bytes[range.start as usize..range.end as usize];
            prop_assert_eq!(read(part).unwrap(), (true, expected.to_vec()));
            if !range.is_empty() {
                let mut damaged = part.to_vec();
                let at = flip as usize % damaged.len();
                damaged[at] ^= 1;
                // What is behind the last block is not looked at.
                if let Ok((_, found)) = read(&damaged) {
                    prop_assert_eq!(found, expected);
                    prop_assert!(part.len() - at <= TRAILER_BYTES as usize);
                }
            }
        }
    }

    #[test]
    fn lengths_that_no_blob_has() {
        for length in [0, 1, 23, 25, 32, 24 + SUMMED_BYTES + 1, 24 + SUMMED_BYTES + 8] {
            assert_eq!(size_of(length), None, "{length}");
        }
        assert_eq!(size_of(24), Some(0));
        assert_eq!(size_of(33), Some(1));
    }
}
