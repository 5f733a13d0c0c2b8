//! Bodies whose SHA-256 was signed.
//!
//! Invariant: the last bytes are handed out only if the hash is right, where the body's end can be foreseen;
//! in any case the body ends in an error if it is not.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use sha2::{Digest, Sha256};
use types::ErrorKind;

use crate::{BodyError, Error};

/// A body that fails at its end unless it has the hash expected.
#[derive(Debug)]
pub struct Checked<B> {
    inner: B,
    hash: Option<Sha256>,
    expected: [u8; 32],
}

impl<B> Checked<B> {
    /// Checks `inner` as it is read.
    pub fn new(inner: B, expected: [u8; 32]) -> Self {
        Self { inner, hash: Some(Sha256::new()), expected }
    }
}

/// The error if a body of hash `computed` does not have the hash that was signed.
pub fn check_sha256(expected: &[u8; 32], computed: &[u8; 32]) -> Result<(), Error> {
    if expected == computed {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Invalid,
        "XAmzContentSHA256Mismatch",
        "The provided 'x-amz-content-sha256' header does not match what was computed.",
    )
    .with_field("ClientComputedContentSHA256", hex::encode(expected))
    .with_field("S3ComputedContentSHA256", hex::encode(computed)))
}

impl<B> HttpBody for Checked<B>
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
        let Some(hash) = &mut this.hash else { return Poll::Ready(None) };
        let frame = match ready!(Pin::new(&mut this.inner).poll_frame(cx)) {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    hash.update(data);
                }
                Some(frame)
            }
            Some(Err(error)) => {
                this.hash = None;
                return Poll::Ready(Some(Err(error.into())));
            }
            None => None,
        };
        if (frame.is_none() || this.inner.is_end_stream())
            && let Some(hash) = this.hash.take()
            && let Err(error) = check_sha256(&this.expected, &hash.finalize().into())
        {
            return Poll::Ready(Some(Err(error.into())));
        }
        Poll::Ready(frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.hash.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
