//! Bodies that are compressed: `Content-Encoding`.
//!
//! Invariant: nothing is decompressed beyond what a body may have, so that little can not become much. DynamoDB answers
//! what it can not decompress with a fault of its own, which clients try again; so it is here.

use std::io::Read;

use bytes::Bytes;
use flate2::bufread::{MultiGzDecoder, ZlibDecoder};
use http::header::{CONTENT_ENCODING, HeaderMap};
use types::ErrorKind;

fn failed(message: String) -> aws::Error {
    aws::Error::new(ErrorKind::Invalid, "InternalServerError", message).with_status(500)
}

/// A body of at most `limit` bytes as it was before its client compressed it.
pub(crate) fn decoded(headers: &HeaderMap, body: Bytes, limit: usize) -> Result<Bytes, aws::Error> {
    let Some(encoding) = headers.get(CONTENT_ENCODING) else { return Ok(body) };
    let encoding = String::from_utf8_lossy(encoding.as_bytes()).trim().to_ascii_lowercase();
    let most = limit as u64 + 1;
    let mut out = Vec::new();
    let read = match encoding.as_str() {
        "" | "identity" => return Ok(body),
        "gzip" => MultiGzDecoder::new(&body[..]).take(most).read_to_end(&mut out).map(|_| body.is_empty()),
        "deflate" => {
            let mut decoder = ZlibDecoder::new(&body[..]);
            let read = decoder.by_ref().take(most).read_to_end(&mut out);
            // One stream, and nothing behind it.
            read.map(|_| out.len() <= limit && decoder.total_in() < body.len() as u64 || body.is_empty())
        }
        other => {
            let message = format!("The Content-Encoding {other} is not supported; use gzip, deflate or none");
            return Err(failed(message));
        }
    };
    match read {
        _ if out.len() > limit => Err(aws::Error::too_large(limit)),
        Ok(false) => Ok(out.into()),
        Ok(true) | Err(_) => Err(failed(format!("The body could not be decompressed: it is not {encoding}"))),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::{GzEncoder, ZlibEncoder};

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn deflate(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn of(encoding: &str, body: impl Into<Bytes>) -> Result<Bytes, u16> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_ENCODING, encoding.parse().unwrap());
        decoded(&headers, body.into(), 100).map_err(|error| error.status)
    }

    #[test]
    fn bodies_are_decompressed_up_to_their_limit() {
        let text = Bytes::from_static(b"{\"a\": 1}");
        for (encoding, body) in [
            ("gzip", gzip(&text)),
            ("GZIP", [gzip(&text[..3]), gzip(&text[3..])].concat()),
            ("deflate", deflate(&text)),
            ("identity", text.to_vec()),
            ("", text.to_vec()),
        ] {
            assert_eq!(of(encoding, body), Ok(text.clone()), "{encoding}");
        }
        assert_eq!(of("gzip", gzip(&[b' '; 100])).unwrap().len(), 100);
        assert_eq!(of("deflate", deflate(&[b' '; 100])).unwrap().len(), 100);
        for (encoding, body, status) in [
            ("gzip", gzip(&[b' '; 101]), 413),
            ("deflate", deflate(&[b' '; 101]), 413),
            ("deflate", deflate(&[b' '; 1_000_000]), 413),
            ("br", text.to_vec(), 500),
            ("gzip, deflate", text.to_vec(), 500),
            ("gzip", text.to_vec(), 500),
            ("gzip", Vec::new(), 500),
            ("deflate", Vec::new(), 500),
            ("deflate", text.to_vec(), 500),
            ("gzip", [gzip(&text), b"more".to_vec()].concat(), 500),
            ("gzip", gzip(&text)[..20].to_vec(), 500),
            ("deflate", [deflate(&text), deflate(&text)].concat(), 500),
            ("deflate", deflate(&text)[..10].to_vec(), 500),
        ] {
            assert_eq!(of(encoding, body), Err(status), "{encoding}");
        }
    }
}
