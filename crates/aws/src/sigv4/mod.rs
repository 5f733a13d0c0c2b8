//! Signature Version 4 (AWS IAM user guide, "AWS Signature Version 4 for API requests"; Amazon S3 API reference,
//! "Authenticating Requests"): reading, verifying and making signatures.
//!
//! The map: [`Presented`] is a signature as a request presents it, in `Authorization` or in the query;
//! [`Verifier`] decides whether it is right; [`Failure`] says why not and becomes an [`crate::Error`] in the
//! words of the service asked; [`sign`] and [`presign`] make signatures.
//!
//! Invariants: signatures and tokens are compared in constant time; a secret never reaches an error or a log;
//! what is remembered between requests (derived keys) is bounded. Nothing here looks a key up, reads a body
//! or knows what a caller may do.

mod canonical;
mod failure;
mod form;
mod key;
mod presented;
mod sign;
mod verify;

#[cfg(test)]
mod tests;

use jiff::tz::TimeZone;
use types::Timestamp;

pub(crate) use canonical::pairs;
pub use failure::{Failure, Mismatch};
pub use form::FormSignature;
pub(crate) use key::SigningKey;
pub use presented::{Payload, Presented, Source};
pub use sign::{Credentials, PayloadHash, presign, sign, sign_parts};
pub use verify::{Verified, Verifier, strip};
pub(crate) use verify::{retain_query, session_token_matches};

/// The only algorithm: HMAC-SHA256 with shared secrets.
pub(crate) const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// SHA-256 of nothing.
pub(crate) const EMPTY_SHA256: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// Instead of a hash: the body is not part of the signature.
pub(crate) const UNSIGNED_PAYLOAD: &str = "UNSIGNED-PAYLOAD";

/// How far a request's clock may be off.
pub(crate) const MAX_SKEW_SECONDS: i64 = 15 * 60;

/// The longest that a presigned URL may be good for: a week.
pub(crate) const MAX_EXPIRES_SECONDS: i64 = 604_800;

/// Reads `yyyyMMdd'T'HHmmss'Z'`.
pub fn parse_amz_date(text: &str) -> Option<Timestamp> {
    let bytes = text.as_bytes();
    if bytes.len() != 16 || bytes[8] != b'T' || bytes[15] != b'Z' {
        return None;
    }
    let number = |range: std::ops::Range<usize>| -> Option<i16> {
        bytes[range]
            .iter()
            .try_fold(0_i16, |sum, b| b.is_ascii_digit().then(|| sum * 10 + i16::from(b - b'0')))
    };
    let small = |range| number(range).and_then(|n| i8::try_from(n).ok());
    let date = jiff::civil::DateTime::new(
        number(0..4)?,
        small(4..6)?,
        small(6..8)?,
        small(9..11)?,
        small(11..13)?,
        small(13..15)?,
        0,
    );
    TimeZone::UTC.to_timestamp(date.ok()?).ok()
}

/// Writes `yyyyMMdd'T'HHmmss'Z'`.
pub(crate) fn format_amz_date(time: Timestamp) -> String {
    let t = TimeZone::UTC.to_datetime(time);
    let (year, month, day) = (t.year(), t.month(), t.day());
    format!("{year:04}{month:02}{day:02}T{:02}{:02}{:02}Z", t.hour(), t.minute(), t.second())
}

/// Lower-case hexadecimal of a hash, on the stack.
pub(crate) fn hex64(hash: &[u8; 32]) -> [u8; 64] {
    let mut out = [0; 64];
    hex::encode_to_slice(hash, &mut out).expect("64 digits hold 32 bytes");
    out
}

/// The same as text.
pub(crate) fn hex_str(digits: &[u8; 64]) -> &str {
    std::str::from_utf8(digits).expect("hexadecimal is ASCII")
}
