//! `aws-chunked` bodies (Amazon S3 API reference, "Signature Calculations: Transferring Payload in Multiple
//! Chunks" and "Including Trailing Headers").
//!
//! Invariants: what is held of a body is one frame, one line and its trailers, whatever the client sends; the
//! last bytes of a signed chunk are handed out only once its signature was right; the decoded length is what
//! the client declared, or the body fails. Trailing checksums are read here, and compared by who computes them.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http_body::{Body as HttpBody, Frame, SizeHint};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use types::ErrorKind;

use crate::sigv4::{EMPTY_SHA256, SigningKey, hex_str, hex64};
use crate::{BodyError, Error};

/// The longest line that announces a chunk.
const MAX_CHUNK_LINE_BYTES: usize = 1024;
/// The longest all trailing headers may be together.
const MAX_TRAILER_BYTES: usize = 8 * 1024;

/// Headers that came after a body; filled when it has been read to its end.
#[derive(Debug, Clone, Default)]
pub struct Trailers(Arc<Mutex<HeaderMap>>);

impl Trailers {
    /// The trailing header of that name, once the body has been read to its end.
    pub fn get(&self, name: &str) -> Option<HeaderValue> {
        self.0.lock().expect("no holder of this lock panics").get(name).cloned()
    }

    /// Adds a header.
    pub fn insert(&self, name: HeaderName, value: HeaderValue) {
        self.0.lock().expect("no holder of this lock panics").insert(name, value);
    }
}

/// What verifies the next chunk: each signature covers the one before.
#[derive(Debug)]
pub(crate) struct ChunkKey {
    pub(crate) key: SigningKey,
    pub(crate) amz_date: String,
    pub(crate) scope: String,
    pub(crate) previous: [u8; 64],
}

impl ChunkKey {
    fn check(&mut self, kind: &str, hashes: &[&str], given: &[u8]) -> Result<(), Error> {
        let mut text = ["AWS4-HMAC-SHA256-", kind, "\n", &self.amz_date, "\n", &self.scope, "\n"].concat();
        text.push_str(hex_str(&self.previous));
        for hash in hashes {
            text.push('\n');
            text.push_str(hash);
        }
        let signature = hex64(&self.key.sign(text.as_bytes()));
        if !bool::from(signature.as_slice().ct_eq(given)) {
            return Err(Error::new(
                ErrorKind::Denied,
                "SignatureDoesNotMatch",
                "The chunk signature we calculated does not match the signature you provided. Check your key and \
                 signing method.",
            )
            .with_field("StringToSign", text)
            .with_field("SignatureProvided", String::from_utf8_lossy(given).into_owned()));
        }
        self.previous = signature;
        Ok(())
    }
}

/// How a body is framed, from its verified head.
#[derive(Debug)]
pub struct Framing {
    /// Verifies the chunks; `None` if they are not signed.
    pub(crate) key: Option<ChunkKey>,
    /// Headers follow the last chunk.
    pub(crate) trailer: bool,
}

impl Framing {
    /// `STREAMING-UNSIGNED-PAYLOAD-TRAILER`, which needs no key.
    pub fn unsigned() -> Self {
        Self { key: None, trailer: true }
    }
}

/// Decodes a request's body: leaves [`Trailers`] in the head's extensions, the decoded length in
/// `content-length`, and takes `aws-chunked` out of `content-encoding`, as S3 does before it stores it.
pub fn decode<B>(head: &mut Parts, body: B, framing: Framing) -> Result<Decoder<B>, Error> {
    let declared = head.headers.get("x-amz-decoded-content-length").and_then(|value| value.to_str().ok());
    let left = declared.and_then(|text| text.parse::<u64>().ok()).ok_or_else(|| {
        let message = "You must provide the x-amz-decoded-content-length HTTP header.";
        Error::new(ErrorKind::Invalid, "MissingContentLength", message).with_status(411)
    })?;
    let expected = head.headers.get_all("x-amz-trailer").iter().filter_map(|value| value.to_str().ok());
    let expected = expected
        .flat_map(|list| list.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .filter(|name| !name.is_empty())
        .collect();
    head.headers.insert(CONTENT_LENGTH, left.into());
    strip_encoding(&mut head.headers);
    let trailers = Trailers::default();
    head.extensions.insert(trailers.clone());
    Ok(Decoder {
        inner: body,
        buffer: Bytes::new(),
        line: Vec::new(),
        state: State::Header,
        hash: Sha256::new(),
        framing,
        left,
        expected,
        trailers,
        trailer_text: String::new(),
    })
}

fn strip_encoding(headers: &mut HeaderMap) {
    let Some(value) = headers.get(CONTENT_ENCODING).and_then(|value| value.to_str().ok()) else { return };
    let kept: Vec<_> =
        value.split(',').map(str::trim).filter(|e| !e.eq_ignore_ascii_case("aws-chunked")).collect();
    match HeaderValue::from_str(&kept.join(",")) {
        Ok(value) if !value.is_empty() => drop(headers.insert(CONTENT_ENCODING, value)),
        _ => drop(headers.remove(CONTENT_ENCODING)),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// In the line that announces a chunk.
    Header,
    /// In a chunk, with this much to come.
    Data { left: u64, signature: [u8; 64] },
    /// In the line end after a chunk.
    DataEnd,
    /// After the last chunk.
    Trailers { verified: bool },
    /// After everything: only the end may come.
    End,
    /// The end has come.
    Done,
}

/// A body without its chunk framing.
#[derive(Debug)]
pub struct Decoder<B> {
    inner: B,
    buffer: Bytes,
    line: Vec<u8>,
    state: State,
    hash: Sha256,
    framing: Framing,
    left: u64,
    expected: Vec<String>,
    trailers: Trailers,
    trailer_text: String,
}

fn malformed(what: &str) -> Error {
    Error::new(ErrorKind::Invalid, "InvalidRequest", format!("The aws-chunked body is malformed: {what}"))
}

fn bad_trailer() -> Error {
    let message = "The request contained trailing data that was not well-formed or did not conform to our \
                   published schema.";
    Error::new(ErrorKind::Invalid, "MalformedTrailerError", message)
}

fn incomplete(what: &str) -> Error {
    Error::new(ErrorKind::Invalid, "IncompleteBody", what)
}

const WRONG_LENGTH: &str =
    "You did not provide the number of bytes specified by the x-amz-decoded-content-length HTTP header";

impl<B> Decoder<B> {
    /// Moves what belongs to the current line out of the buffer; the line if it is whole, without its end.
    fn take_line(&mut self, limit: usize) -> Result<Option<Vec<u8>>, Error> {
        let end = self.buffer.iter().position(|b| *b == b'\n');
        let take = end.map_or(self.buffer.len(), |end| end + 1);
        if self.line.len() + take > limit {
            return Err(malformed("a line is too long"));
        }
        self.line.extend_from_slice(&self.buffer[..take]);
        self.buffer.advance(take);
        if end.is_none() {
            return Ok(None);
        }
        let mut line = std::mem::take(&mut self.line);
        line.pop();
        line.pop_if(|b| *b == b'\r');
        Ok(Some(line))
    }

    /// `<size in hexadecimal>[;chunk-signature=<64 hexadecimal digits>]`.
    fn begin_chunk(&mut self, line: &[u8]) -> Result<State, Error> {
        let line = std::str::from_utf8(line).map_err(|_| malformed("a chunk's size is not hexadecimal"))?;
        let (size, extension) = line.split_once(';').unwrap_or((line, ""));
        let digits = size.trim();
        let is_hex = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit());
        let size = is_hex.then(|| u64::from_str_radix(digits, 16).ok()).flatten();
        let size = size.ok_or_else(|| malformed("a chunk's size is not hexadecimal"))?;
        if size > self.left {
            return Err(incomplete(WRONG_LENGTH));
        }
        let mut signature = [0; 64];
        if self.framing.key.is_some() {
            let given = extension.trim().strip_prefix("chunk-signature=").map(str::as_bytes);
            let given = given.filter(|given| given.len() == 64);
            signature.copy_from_slice(given.ok_or_else(|| malformed("a chunk has no signature"))?);
        }
        if size == 0 {
            self.end_chunk(&signature)?;
            return Ok(State::Trailers { verified: false });
        }
        Ok(State::Data { left: size, signature })
    }

    fn end_chunk(&mut self, signature: &[u8; 64]) -> Result<(), Error> {
        let Some(key) = &mut self.framing.key else { return Ok(()) };
        let hash = hex64(&self.hash.finalize_reset().into());
        key.check("PAYLOAD", &[EMPTY_SHA256, hex_str(&hash)], signature)
    }

    fn trailer_line(&mut self, line: &[u8], verified: bool) -> Result<State, Error> {
        let signed = self.framing.trailer && self.framing.key.is_some();
        let text = std::str::from_utf8(line).map_err(|_| bad_trailer())?.trim_end();
        if text.is_empty() {
            // Some writers end the headers with a line of their own before the signature.
            return Ok(if signed && !verified { State::Trailers { verified } } else { State::End });
        }
        if !self.framing.trailer || verified {
            return Err(bad_trailer());
        }
        let (name, value) = text.split_once(':').ok_or_else(bad_trailer)?;
        let (name, value) = (name.trim().to_ascii_lowercase(), value.trim());
        if name == "x-amz-trailer-signature" {
            let Some(key) = &mut self.framing.key else { return Err(bad_trailer()) };
            let hash = hex64(&Sha256::digest(&self.trailer_text).into());
            key.check("TRAILER", &[hex_str(&hash)], value.as_bytes())?;
            return Ok(State::Trailers { verified: true });
        }
        let place = self.expected.iter().position(|expected| *expected == name).ok_or_else(bad_trailer)?;
        self.expected.swap_remove(place);
        self.trailer_text += &format!("{name}:{value}\n");
        if self.trailer_text.len() > MAX_TRAILER_BYTES {
            return Err(bad_trailer());
        }
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad_trailer())?;
        self.trailers.insert(name, HeaderValue::from_str(value).map_err(|_| bad_trailer())?);
        Ok(State::Trailers { verified })
    }

    /// The body has ended: is everything there?
    fn finish(&self) -> Result<(), Error> {
        let signed_trailer = self.framing.trailer && self.framing.key.is_some();
        match self.state {
            State::Header | State::Data { .. } | State::DataEnd => {
                Err(incomplete("The request body terminated unexpectedly"))
            }
            State::Trailers { verified: false } if signed_trailer => Err(bad_trailer()),
            State::Trailers { .. } | State::End | State::Done if self.left > 0 => {
                Err(incomplete(WRONG_LENGTH))
            }
            State::Trailers { .. } | State::End | State::Done if !self.expected.is_empty() => {
                Err(bad_trailer())
            }
            State::Trailers { .. } | State::End | State::Done => Ok(()),
        }
    }

    /// Reads on in the buffer, as far as it goes; data if there is some to hand out.
    fn step(&mut self) -> Result<Option<Bytes>, Error> {
        while !self.buffer.is_empty() {
            self.state = match self.state {
                State::Header => match self.take_line(MAX_CHUNK_LINE_BYTES)? {
                    Some(line) => self.begin_chunk(&line)?,
                    None => State::Header,
                },
                State::Data { left, signature } => {
                    let here = self.buffer.len() as u64;
                    // At most the buffer's length, which is a usize.
                    let data = self.buffer.split_to(left.min(here) as usize);
                    if self.framing.key.is_some() {
                        self.hash.update(&data);
                    }
                    let taken = data.len() as u64;
                    self.left -= taken;
                    self.state = if taken == left {
                        self.end_chunk(&signature)?;
                        State::DataEnd
                    } else {
                        State::Data { left: left - taken, signature }
                    };
                    return Ok(Some(data));
                }
                State::DataEnd => match self.take_line(2)? {
                    Some(line) if line.is_empty() => State::Header,
                    Some(_) => return Err(malformed("a chunk is longer than its size")),
                    None => State::DataEnd,
                },
                State::Trailers { verified } => match self.take_line(MAX_TRAILER_BYTES)? {
                    Some(line) => self.trailer_line(&line, verified)?,
                    None => State::Trailers { verified },
                },
                State::End => return Err(malformed("bytes follow its end")),
                State::Done => return Ok(None),
            };
        }
        Ok(None)
    }
}

impl<B> HttpBody for Decoder<B>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<BodyError>,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        loop {
            if this.state == State::Done {
                return Poll::Ready(None);
            }
            match this.step() {
                Ok(Some(data)) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Ok(None) => {}
                Err(error) => {
                    this.state = State::Done;
                    return Poll::Ready(Some(Err(error.into())));
                }
            }
            match ready!(Pin::new(&mut this.inner).poll_frame(cx)) {
                Some(Ok(frame)) => this.buffer = frame.into_data().unwrap_or_default(),
                Some(Err(error)) => {
                    this.state = State::Done;
                    return Poll::Ready(Some(Err(error.into())));
                }
                None => {
                    let end = this.finish();
                    this.state = State::Done;
                    return Poll::Ready(end.err().map(|error| Err(error.into())));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.state == State::Done
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests;
