//! How bytes are sealed: AES-256-GCM over chunks of 64 KiB, so that a range is opened without the rest.
//!
//! ```text
//! for each chunk of 64 KiB (the last may be shorter): its ciphertext, then its tag, 16 bytes
//! ```
//! The nonce of a chunk is its number; what is authenticated with it is the length of the whole. A key seals one
//! stream of bytes and no other, so no nonce is used twice under a key, and a chunk that belongs elsewhere, or a
//! stream that was cut short, is as wrong as a damaged one.
//!
//! Memory is flat: a chunk on its way in, the pieces of one read on its way out.

use std::ops::Range;

use blobs::ByteStream;
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, TryStreamExt, stream};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

use super::Bits;

/// Bytes that are sealed together.
pub(crate) const CHUNK_BYTES: u64 = 64 << 10;
/// What sealing adds to each chunk.
pub(crate) const TAG_BYTES: u64 = 16;
const SEALED_CHUNK_BYTES: usize = (CHUNK_BYTES + TAG_BYTES) as usize;

/// Bytes that do not open: they are not what was sealed, or not with this key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("sealed bytes do not open: they are damaged, or sealed under another key")]
pub(crate) struct DoesNotOpen;

/// The key of one stream of bytes of a known length.
pub(crate) struct StreamKey {
    key: LessSafeKey,
    length: [u8; 8],
}

/// The length of `length` bytes once they are sealed.
pub(crate) fn sealed_length(length: u64) -> u64 {
    length + length.div_ceil(CHUNK_BYTES) * TAG_BYTES
}

impl StreamKey {
    pub(super) fn new(key: &Bits<32>, length: u64) -> Self {
        let key = UnboundKey::new(&AES_256_GCM, &key.0).expect("the key has the cipher's length");
        Self { key: LessSafeKey::new(key), length: length.to_be_bytes() }
    }

    fn nonce(chunk: u64) -> Nonce {
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&chunk.to_be_bytes());
        Nonce::assume_unique_for_key(nonce)
    }

    /// Seals a chunk where it is, and gives the tag that goes behind it.
    fn seal(&self, chunk: u64, bytes: &mut [u8]) -> impl AsRef<[u8]> + use<> {
        let sealed = self.key.seal_in_place_separate_tag(Self::nonce(chunk), Aad::from(self.length), bytes);
        sealed.expect("a chunk is shorter than what the cipher takes")
    }

    /// Opens a chunk and its tag where they are.
    fn open(&self, chunk: u64, mut sealed: BytesMut) -> Result<Bytes, DoesNotOpen> {
        let aad = Aad::from(self.length);
        let opened = self.key.open_in_place(Self::nonce(chunk), aad, &mut sealed).map_err(|_| DoesNotOpen)?;
        let length = opened.len();
        sealed.truncate(length);
        Ok(sealed.freeze())
    }

    /// Seals a chunk of a stream and puts its tag behind it.
    pub(crate) fn seal_chunk(&self, chunk: u64, bytes: &mut BytesMut) {
        let tag = self.seal(chunk, bytes);
        bytes.extend_from_slice(tag.as_ref());
    }

    /// Seals what is in memory from `from` on, chunk by chunk: for bytes that are stored in one piece.
    pub(crate) fn seal_whole(&self, bytes: &mut Vec<u8>, from: usize) {
        let plain = bytes.len() - from;
        if plain <= CHUNK_BYTES as usize {
            if plain > 0 {
                let tag = self.seal(0, &mut bytes[from..]);
                bytes.extend_from_slice(tag.as_ref());
            }
            return;
        }
        let mut sealed = Vec::with_capacity(from + sealed_length(plain as u64) as usize);
        sealed.extend_from_slice(&bytes[..from]);
        for (chunk, plain) in (0..).zip(bytes[from..].chunks_mut(CHUNK_BYTES as usize)) {
            let tag = self.seal(chunk, plain);
            sealed.extend_from_slice(plain);
            sealed.extend_from_slice(tag.as_ref());
        }
        *bytes = sealed;
    }

    /// Opens what [`Self::seal_whole`] sealed.
    pub(crate) fn open_whole(&self, sealed: &[u8]) -> Result<Bytes, DoesNotOpen> {
        if sealed.len() <= SEALED_CHUNK_BYTES {
            return if sealed.is_empty() { Ok(Bytes::new()) } else { self.open(0, BytesMut::from(sealed)) };
        }
        let mut plain = Vec::with_capacity(sealed.len());
        for (chunk, sealed) in (0..).zip(sealed.chunks(SEALED_CHUNK_BYTES)) {
            plain.extend_from_slice(&self.open(chunk, BytesMut::from(sealed))?);
        }
        Ok(plain.into())
    }

    /// Seals a stream.
    pub(crate) fn seal_stream(self, plain: ByteStream) -> ByteStream {
        let state = Sealing { key: self, plain, rest: Bytes::new(), chunk: 0, ended: false };
        stream::try_unfold(state, Sealing::next).boxed()
    }

    /// Opens a stream that has the sealed bytes of the chunks which `range` touches, and gives the bytes of `range`.
    pub(crate) fn open_stream(self, sealed: ByteStream, range: Range<u64>) -> ByteStream {
        let chunk = range.start / CHUNK_BYTES;
        let skip = range.start % CHUNK_BYTES;
        let left = range.end - range.start;
        let carry = BytesMut::new();
        let state = Opening { key: self, sealed, carry, chunk, skip, left, ended: false };
        stream::try_unfold(state, Opening::next).try_flatten().boxed()
    }
}

/// The sealed bytes that hold bytes `range` of a stream of `length` bytes.
pub(crate) fn sealed_range(range: &Range<u64>, length: u64) -> Range<u64> {
    let sealed = CHUNK_BYTES + TAG_BYTES;
    let first = range.start / CHUNK_BYTES;
    let last = range.end.div_ceil(CHUNK_BYTES);
    first * sealed..(last * sealed).min(sealed_length(length))
}

struct Sealing {
    key: StreamKey,
    plain: ByteStream,
    /// What came with the piece that filled the last chunk.
    rest: Bytes,
    chunk: u64,
    ended: bool,
}

impl Sealing {
    async fn next(mut self) -> Result<Option<(Bytes, Self)>, blobs::Error> {
        if self.ended {
            return Ok(None);
        }
        let full = CHUNK_BYTES as usize;
        let mut buffer = BytesMut::with_capacity(SEALED_CHUNK_BYTES);
        loop {
            let room = full - buffer.len();
            if self.rest.len() >= room {
                buffer.extend_from_slice(&self.rest.split_to(room));
                break;
            }
            buffer.extend_from_slice(&self.rest);
            match self.plain.try_next().await? {
                Some(piece) => self.rest = piece,
                None => {
                    self.rest = Bytes::new();
                    self.ended = true;
                    break;
                }
            }
        }
        if buffer.is_empty() {
            return Ok(None);
        }
        self.key.seal_chunk(self.chunk, &mut buffer);
        self.chunk += 1;
        Ok(Some((buffer.freeze(), self)))
    }
}

struct Opening {
    key: StreamKey,
    sealed: ByteStream,
    /// The beginning of a chunk whose end has not been read yet.
    carry: BytesMut,
    chunk: u64,
    /// Bytes of the first chunk that were not asked for.
    skip: u64,
    /// Bytes that are still to be given out.
    left: u64,
    ended: bool,
}

type Opened = stream::Iter<std::vec::IntoIter<Result<Bytes, blobs::Error>>>;

impl Opening {
    /// All chunks that one more piece completes.
    async fn next(mut self) -> Result<Option<(Opened, Self)>, blobs::Error> {
        if self.ended || self.left == 0 {
            return Ok(None);
        }
        let mut opened = Vec::new();
        match self.sealed.try_next().await? {
            Some(piece) => {
                // A piece that was just read is nobody else's: it is opened where it is.
                let mut piece = piece.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
                if !self.carry.is_empty() {
                    let missing = SEALED_CHUNK_BYTES - self.carry.len();
                    self.carry.extend_from_slice(&piece.split_to(missing.min(piece.len())));
                    if self.carry.len() == SEALED_CHUNK_BYTES {
                        let chunk = std::mem::take(&mut self.carry);
                        self.open(chunk, &mut opened)?;
                    }
                }
                while piece.len() >= SEALED_CHUNK_BYTES {
                    let chunk = piece.split_to(SEALED_CHUNK_BYTES);
                    self.open(chunk, &mut opened)?;
                }
                if !piece.is_empty() {
                    self.carry = BytesMut::with_capacity(SEALED_CHUNK_BYTES);
                    self.carry.extend_from_slice(&piece);
                }
            }
            None => {
                self.ended = true;
                let chunk = std::mem::take(&mut self.carry);
                if !chunk.is_empty() {
                    self.open(chunk, &mut opened)?;
                }
                if self.left > 0 {
                    return Err(failure(DoesNotOpen));
                }
            }
        }
        Ok(Some((stream::iter(opened), self)))
    }

    fn open(
        &mut self,
        sealed: BytesMut,
        out: &mut Vec<Result<Bytes, blobs::Error>>,
    ) -> Result<(), blobs::Error> {
        let mut plain = self.key.open(self.chunk, sealed).map_err(failure)?;
        self.chunk += 1;
        let skip = usize::try_from(self.skip).unwrap_or(usize::MAX).min(plain.len());
        self.skip = 0;
        plain = plain.slice(skip..);
        plain.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
        self.left -= plain.len() as u64;
        if !plain.is_empty() {
            out.push(Ok(plain));
        }
        Ok(())
    }
}

fn failure(error: DoesNotOpen) -> blobs::Error {
    tracing::error!("sealed bytes of an object do not open");
    blobs::Error::Io(std::io::Error::new(std::io::ErrorKind::InvalidData, error))
}

/// A key for tests.
#[cfg(test)]
pub(crate) fn stream_key(length: u64) -> StreamKey {
    StreamKey::new(&Bits([7; 32]), length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEY: Bits<32> = Bits([7; 32]);

    fn key(length: usize) -> StreamKey {
        StreamKey::new(&KEY, length as u64)
    }

    fn pieces(bytes: &[u8], size: usize) -> ByteStream {
        let pieces: Vec<_> = bytes.chunks(size.max(1)).map(|b| Ok(Bytes::copy_from_slice(b))).collect();
        stream::iter(pieces).boxed()
    }

    fn all(stream: ByteStream) -> Result<Vec<u8>, blobs::Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(stream.try_fold(Vec::new(), |mut all, piece| async move {
            all.extend_from_slice(&piece);
            Ok(all)
        }))
    }

    fn noise(len: usize) -> Vec<u8> {
        (0..len).map(|n| u8::try_from((n * 31 + n / 251) % 256).unwrap()).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn ranges_open(len in 0_usize..300_000, a in 0_usize..300_000, b in 0_usize..300_000, size in 1000_usize..200_000) {
            let plain = noise(len);
            let sealed = all(key(len).seal_stream(pieces(&plain, size))).unwrap();
            prop_assert_eq!(sealed.len() as u64, sealed_length(len as u64));
            let mut whole = vec![9];
            whole.extend_from_slice(&plain);
            key(len).seal_whole(&mut whole, 1);
            prop_assert_eq!(&whole[1..], &sealed[..]);
            prop_assert_eq!(&key(len).open_whole(&sealed).unwrap()[..], &plain[..]);
            let (a, b) = (a.min(b).min(len), a.max(b).min(len));
            let range = a as u64..b as u64;
            let part = sealed_range(&range, len as u64);
            let part = if a == b { &[][..] } else { &sealed[usize::try_from(part.start).unwrap()..usize::try_from(part.end).unwrap()] };
            let opened = all(key(len).open_stream(pieces(part, size), range)).unwrap();
            prop_assert_eq!(&opened[..], &plain[a..b]);
        }
    }

    #[test]
    fn what_was_changed_does_not_open() {
        let plain = noise(150_000);
        let sealed = all(key(plain.len()).seal_stream(pieces(&plain, 8192))).unwrap();
        let opens = |bytes: &[u8], length: usize, key: Bits<32>| {
            let stream =
                StreamKey::new(&key, length as u64).open_stream(pieces(bytes, 8192), 0..length as u64);
            all(stream).is_ok()
        };
        assert!(opens(&sealed, plain.len(), KEY));
        assert!(!opens(&sealed, plain.len(), Bits([8; 32])));
        assert!(!opens(&sealed, plain.len() - 1, KEY));
        let mut flipped = sealed.clone();
        flipped[100_000] ^= 1;
        assert!(!opens(&flipped, plain.len(), KEY));
        // A chunk in another's place.
        let mut swapped = sealed[SEALED_CHUNK_BYTES..2 * SEALED_CHUNK_BYTES].to_vec();
        swapped.extend_from_slice(&sealed[..SEALED_CHUNK_BYTES]);
        swapped.extend_from_slice(&sealed[2 * SEALED_CHUNK_BYTES..]);
        assert!(!opens(&swapped, plain.len(), KEY));
        assert!(!opens(&sealed[..SEALED_CHUNK_BYTES], plain.len(), KEY));
    }
}
