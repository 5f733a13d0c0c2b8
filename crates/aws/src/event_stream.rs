//! Frames of `application/vnd.amazon.eventstream` (Amazon Transcribe developer guide, "Event stream encoding"):
//! lengths and headers, each with its checksum, then the payload and a checksum of all.

use bytes::{BufMut, Bytes, BytesMut};

/// The content type of such a stream.
pub const CONTENT_TYPE: &str = "application/vnd.amazon.eventstream";

/// A header value that is a string.
const STRING: u8 = 7;

/// One frame. Header names and values are short text.
pub fn frame(headers: &[(&str, &str)], payload: &[u8]) -> Bytes {
    let length = |text: &str| u8::try_from(text.len()).expect("names of headers are short");
    let headers_length: usize = headers.iter().map(|(name, value)| 1 + name.len() + 3 + value.len()).sum();
    let total = 12 + headers_length + payload.len() + 4;
    let mut out = BytesMut::with_capacity(total);
    out.put_u32(u32::try_from(total).expect("a frame is below 4 GiB"));
    out.put_u32(u32::try_from(headers_length).expect("headers are short"));
    out.put_u32(crc32(&out));
    for (name, value) in headers {
        out.put_u8(length(name));
        out.put_slice(name.as_bytes());
        out.put_u8(STRING);
        out.put_u16(u16::try_from(value.len()).expect("values of headers are short"));
        out.put_slice(value.as_bytes());
    }
    out.put_slice(payload);
    out.put_u32(crc32(&out));
    out.freeze()
}

fn crc32(bytes: &[u8]) -> u32 {
    let sum = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32IsoHdlc, bytes);
    u32::try_from(sum).expect("it has 32 bits")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_have_their_lengths_and_checksums() {
        // The empty message of the encoding's published test vectors.
        assert_eq!(hex::encode(frame(&[], b"")), "000000100000000005c248eb7d98c8ff");
        let frame = frame(&[(":message-type", "event")], b"{'foo':'bar'}");
        let number = |at: usize| u32::from_be_bytes(frame[at..at + 4].try_into().unwrap()) as usize;
        assert_eq!((number(0), number(4)), (frame.len(), 1 + 13 + 3 + 5));
        assert_eq!(number(8), crc32(&frame[..8]) as usize);
        assert_eq!(number(frame.len() - 4), crc32(&frame[..frame.len() - 4]) as usize);
    }
}
