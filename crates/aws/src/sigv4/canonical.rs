//! The canonical request and the string to sign (AWS IAM user guide, "Create a signed AWS API request").
//!
//! Invariant: two requests that mean the same bytes on the wire have the same canonical form. Nothing here
//! fails: what is malformed just does not match.

use http::HeaderMap;
use sha2::{Digest, Sha256};

use super::{ALGORITHM, hex_str, hex64};

/// What goes into a canonical request.
pub(crate) struct Canonical<'a> {
    pub(crate) method: &'a str,
    /// As on the wire.
    pub(crate) path: &'a str,
    /// As on the wire, without `?`.
    pub(crate) query: &'a str,
    pub(crate) headers: &'a HeaderMap,
    /// Stands in for a missing `Host` header.
    pub(crate) authority: &'a str,
    /// Names in lower case, joined by `;`.
    pub(crate) signed_headers: &'a str,
    /// The payload's hash or what stands for it.
    pub(crate) payload: &'a str,
    /// S3's way with paths: encoded once and never normalised, since keys may hold `//` and `..`.
    pub(crate) s3: bool,
}

impl Canonical<'_> {
    /// The canonical request.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(512 + self.path.len() + self.query.len());
        out.extend_from_slice(self.method.as_bytes());
        out.push(b'\n');
        if self.s3 {
            push_decoded(&mut out, self.path, true, false);
        } else {
            push_normalised(&mut out, self.path);
        }
        out.push(b'\n');
        push_query(&mut out, self.query);
        out.push(b'\n');
        for name in self.signed_headers.split(';') {
            out.extend_from_slice(name.as_bytes());
            out.push(b':');
            self.push_values(&mut out, name);
            out.push(b'\n');
        }
        out.push(b'\n');
        out.extend_from_slice(self.signed_headers.as_bytes());
        out.push(b'\n');
        out.extend_from_slice(self.payload.as_bytes());
        out
    }

    fn push_values(&self, out: &mut Vec<u8>, name: &str) {
        let mut values = self.headers.get_all(name).iter().peekable();
        if values.peek().is_none() && name == "host" {
            out.extend_from_slice(self.authority.as_bytes());
            return;
        }
        for (i, value) in values.enumerate() {
            if i > 0 {
                out.push(b',');
            }
            let words = value.as_bytes().split(|b| matches!(b, b' ' | b'\t')).filter(|word| !word.is_empty());
            for (i, word) in words.enumerate() {
                if i > 0 {
                    out.push(b' ');
                }
                out.extend_from_slice(word);
            }
        }
    }
}

/// The string that is signed, for a canonical request.
pub(crate) fn string_to_sign(amz_date: &str, scope: &str, canonical: &[u8]) -> String {
    let hash = hex64(&Sha256::digest(canonical).into());
    [ALGORITHM, amz_date, scope, hex_str(&hash)].join("\n")
}

/// The raw query without the pair of that name, for the presigned form.
pub(crate) fn pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

fn push_query(out: &mut Vec<u8>, query: &str) {
    if query.is_empty() {
        return;
    }
    let encoded = |text: &str| {
        let mut out = Vec::with_capacity(text.len() + 8);
        push_decoded(&mut out, text, false, true);
        out
    };
    let mut all: Vec<_> = pairs(query)
        .filter(|(name, _)| *name != "X-Amz-Signature")
        .map(|(name, value)| (encoded(name), encoded(value)))
        .collect();
    all.sort_unstable();
    for (i, (name, value)) in all.iter().enumerate() {
        if i > 0 {
            out.push(b'&');
        }
        out.extend_from_slice(name);
        out.push(b'=');
        out.extend_from_slice(value);
    }
}

/// Decodes what is percent-encoded and encodes it as the signature wants it, so that a client's own way of
/// encoding (`%7e` for `~`) does not matter.
fn push_decoded(out: &mut Vec<u8>, text: &str, keep_slash: bool, plus_is_space: bool) {
    let bytes = text.as_bytes();
    let mut i = 0;
    while i < bytes.len() {
        let digit = |at: usize| bytes.get(at).and_then(|b| char::from(*b).to_digit(16));
        let byte = match (bytes[i], digit(i + 1), digit(i + 2)) {
            (b'%', Some(high), Some(low)) => {
                i += 2;
                // Two hexadecimal digits make a byte.
                (high * 16 + low) as u8
            }
            (b'+', ..) if plus_is_space => b' ',
            (byte, ..) => byte,
        };
        push_encoded(out, byte, keep_slash);
        i += 1;
    }
}

/// Services other than S3: the path as on the wire, without `.`, `..` and empty segments, encoded again.
fn push_normalised(out: &mut Vec<u8>, path: &str) {
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            other => segments.push(other),
        }
    }
    for segment in &segments {
        out.push(b'/');
        segment.bytes().for_each(|byte| push_encoded(out, byte, false));
    }
    if segments.is_empty() || path.ends_with('/') {
        out.push(b'/');
    }
}

pub(crate) fn push_encoded(out: &mut Vec<u8>, byte: u8, keep_slash: bool) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(byte),
        b'/' if keep_slash => out.push(byte),
        _ => out.extend_from_slice(&[b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]),
    }
}
