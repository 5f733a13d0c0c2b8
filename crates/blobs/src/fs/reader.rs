//! Reads a range of one blob, chunk by chunk, each verified. On blocking threads only.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use bytes::Bytes;
use rustix::buffer::spare_capacity;
use tokio::sync::OwnedSemaphorePermit;

use super::failure;
use super::format::{self, BLOCK_BYTES, SUM_BYTES, TRAILER_BYTES, Trailer};
use crate::{BlobId, Error};

/// Read at once: enough that a step on another thread costs little beside it.
const CHUNK_BYTES: u64 = 4 * BLOCK_BYTES;

/// The same without a lane: as much as a sealed chunk of an object has, so that who reads those holds one.
const SMALL_CHUNK_BYTES: u64 = BLOCK_BYTES + 16;

/// An open blob, and what is still to be read of it.
pub(super) struct Reader {
    file: File,
    id: BlobId,
    size: u64,
    range: Range<u64>,
    /// Whether it may read ahead.
    lane: Option<OwnedSemaphorePermit>,
}

impl Reader {
    pub(super) fn open(
        path: &Path,
        id: BlobId,
        range: Range<u64>,
        lane: Option<OwnedSemaphorePermit>,
    ) -> Result<Self, Error> {
        let whole = Self::open_whole(path, id, lane)?;
        if range.start > range.end || range.end > whole.size {
            return Err(Error::Range { start: range.start, end: range.end, size: whole.size });
        }
        Ok(Self { range, ..whole })
    }

    /// The same, to read all of it.
    pub(super) fn open_whole(
        path: &Path,
        id: BlobId,
        lane: Option<OwnedSemaphorePermit>,
    ) -> Result<Self, Error> {
        let file = File::open(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Error::NotFound(id),
            _ => failure(error),
        })?;
        let len = file.metadata().map_err(failure)?.len();
        let damaged = || Error::Corrupt { id, at: 0 };
        let at = len.checked_sub(TRAILER_BYTES).ok_or_else(damaged)?;
        let mut trailer = [0; TRAILER_BYTES as usize];
        file.read_exact_at(&mut trailer, at).map_err(failure)?;
        let size = match format::read_trailer(id, &trailer, len) {
            Trailer::Size(size) => size,
            Trailer::Damaged => return Err(damaged()),
            Trailer::Newer(found) => {
                let supported = format::FORMAT;
                return Err(Error::Io(io::Error::other(format!(
                    "blob {id} has format {found}, and this hawker reads up to {supported}; use a newer hawker"
                ))));
            }
        };
        Ok(Self { file, id, size, range: 0..size, lane })
    }

    /// The blob's size.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// True if nothing is left.
    pub(super) fn is_done(&self) -> bool {
        self.range.is_empty()
    }

    /// True if it reads large chunks, and may do so ahead of who uses them.
    pub(super) fn is_fast(&self) -> bool {
        self.lane.is_some()
    }

    /// The next bytes; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Bytes>, Error> {
        if self.is_done() {
            return Ok(None);
        }
        // Whole blocks, since only they can be verified.
        let first = self.range.start / BLOCK_BYTES;
        let end = match self.is_fast() {
            true => (first * BLOCK_BYTES + CHUNK_BYTES).min(self.range.end),
            false => (self.range.start + SMALL_CHUNK_BYTES).min(self.range.end),
        };
        let last = format::blocks(end);
        let from = first * BLOCK_BYTES;
        let to = (last * BLOCK_BYTES).min(self.size);
        let bytes = self.read(from..to)?;
        let sums = self.read(self.sum_at(first)..self.sum_at(last))?;
        let blocks = bytes.chunks(BLOCK_BYTES as usize).zip(sums.chunks(SUM_BYTES as usize));
        for (block, (bytes, sum)) in (first..).zip(blocks) {
            if format::sum(self.id, block, bytes).to_be_bytes() != *sum {
                tracing::error!(blob = %self.id, block, "a block of a blob is damaged");
                return Err(Error::Corrupt { id: self.id, at: block * BLOCK_BYTES });
            }
        }
        let wanted = (self.range.start - from) as usize..(end - from) as usize;
        self.range.start = end;
        // The rest of what was read is not kept for the sake of a part of it.
        let all = Bytes::from(bytes);
        Ok(Some(if self.is_fast() { all.slice(wanted) } else { Bytes::copy_from_slice(&all[wanted]) }))
    }

    fn sum_at(&self, block: u64) -> u64 {
        self.size + block * SUM_BYTES
    }

    fn read(&self, range: Range<u64>) -> Result<Vec<u8>, Error> {
        let len = (range.end - range.start) as usize;
        // Not zeroed first.
        let mut bytes = Vec::with_capacity(len);
        while bytes.len() < len {
            let at = range.start + bytes.len() as u64;
            match rustix::io::pread(&self.file, spare_capacity(&mut bytes), at) {
                Ok(0) => return Err(Error::Corrupt { id: self.id, at: range.start.min(self.size) }),
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(failure(error.into())),
            }
        }
        // The allocation may be larger than asked for.
        bytes.truncate(len);
        Ok(bytes)
    }
}
