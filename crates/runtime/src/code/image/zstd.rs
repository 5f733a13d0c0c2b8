//! Layers compressed with zstd: frames one after another, of which some may hold nothing of the layer.

use std::io::{self, BufRead, Read};

use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

/// Whether something that begins with these four bytes is compressed with zstd.
pub(super) fn is_zstd(start: &[u8]) -> bool {
    matches!(start, [0x28, 0xB5, 0x2F, 0xFD] | [0x50..=0x5F, 0x2A, 0x4D, 0x18])
}

/// How far back a frame may refer, and so what is held of one. `zstd --ultra -22` goes so far, `--long` no farther.
const WINDOW_BYTES: u64 = 128 << 20;

/// Decompresses frame after frame.
pub(super) struct Decoder<R> {
    source: R,
    frame: FrameDecoder,
    is_in_frame: bool,
}

impl<R: BufRead> Decoder<R> {
    pub(super) fn new(source: R) -> Self {
        let mut frame = FrameDecoder::new();
        frame.set_max_window_size(WINDOW_BYTES);
        Self { source, frame, is_in_frame: false }
    }

    /// Goes to the next frame; false at the end.
    fn next_frame(&mut self) -> io::Result<bool> {
        while !self.source.fill_buf()?.is_empty() {
            match self.frame.reset(&mut self.source) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    let length = u64::from(length);
                    let skipped = io::copy(&mut (&mut self.source).take(length), &mut io::sink())?;
                    if skipped < length {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        Ok(false)
    }
}

impl<R: BufRead> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if !self.is_in_frame {
                if !self.next_frame()? {
                    return Ok(0);
                }
                self.is_in_frame = true;
            }
            let read = self.frame.read(buffer)?;
            if read > 0 || buffer.is_empty() {
                return Ok(read);
            }
            if self.frame.is_finished() {
                if self
                    .frame
                    .get_checksum_from_data()
                    .is_some_and(|sum| Some(sum) != self.frame.get_calculated_checksum())
                {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame's checksum is wrong"));
                }
                self.is_in_frame = false;
            } else {
                let blocks = BlockDecodingStrategy::UptoBlocks(1);
                self.frame.decode_blocks(&mut self.source, blocks).map_err(io::Error::other)?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `printf 'first ' | zstd --check` and `printf 'and second' | zstd --no-check` write.
    const FIRST: &[u8] = b"\x28\xb5\x2f\xfd\x04\x68\x31\x00\x00first \xd2\xfd\xb5\x11";
    const SECOND: &[u8] = b"\x28\xb5\x2f\xfd\x00\x58\x51\x00\x00and second";
    const SKIPPED: &[u8] = b"\x53\x2a\x4d\x18\x05\x00\x00\x00aside";

    fn read(parts: &[&[u8]]) -> io::Result<String> {
        let mut text = String::new();
        Decoder::new(&parts.concat()[..]).read_to_string(&mut text).map(|_| text)
    }

    #[test]
    fn frames_follow_one_another() {
        assert_eq!(read(&[]).unwrap(), "");
        assert_eq!(read(&[FIRST]).unwrap(), "first ");
        assert_eq!(read(&[SKIPPED, FIRST, SKIPPED, SECOND, SKIPPED]).unwrap(), "first and second");
        assert!(is_zstd(&FIRST[..4]) && is_zstd(&SKIPPED[..4]));
        assert!(!is_zstd(&FIRST[..3]) && !is_zstd(b"\x1f\x8b\x08\x00"));
    }

    #[test]
    fn what_is_cut_off_or_damaged_is_no_layer() {
        for cut in 1..FIRST.len() {
            assert!(read(&[&FIRST[..cut]]).is_err(), "{cut}");
        }
        assert!(read(&[FIRST, &SKIPPED[..10]]).is_err());
        let mut damaged = FIRST.to_vec();
        damaged[10] = b'I';
        assert_eq!(read(&[&damaged]).unwrap_err().to_string(), "a frame's checksum is wrong");
        // It wants to look back over a gibibyte.
        let wide = b"\x28\xb5\x2f\xfd\x00\xa0\x01\x00\x00";
        assert!(read(&[wide]).unwrap_err().to_string().contains("indow"));
    }
}
