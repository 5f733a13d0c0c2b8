//! Where a subscription goes on after a lost connection.
//!
//! A token is not a secret: whoever uses it needs the right to what it goes on with.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use crate::Error;
use crate::stream::Position;

/// The format that this code writes.
const FORMAT: u8 = 1;

/// What is watched: a token of one subscription means nothing to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fingerprint([u8; 8]);

impl Fingerprint {
    pub(super) fn of(question: &str) -> Self {
        let digest = Sha256::digest(question);
        Self(*digest.first_chunk().expect("it has 32 bytes"))
    }
}

/// A place in a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) stream: u64,
    /// The next record.
    pub(super) position: Position,
}

impl Token {
    pub(super) fn to_text(self, fingerprint: Fingerprint) -> String {
        let (version, ordinal) = self.position.parts();
        let mut bytes = Vec::with_capacity(27);
        bytes.push(FORMAT);
        bytes.extend_from_slice(&self.stream.to_be_bytes());
        bytes.extend_from_slice(&version.to_be_bytes());
        bytes.extend_from_slice(&ordinal.to_be_bytes());
        bytes.extend_from_slice(&fingerprint.0);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// A token of the subscription with that fingerprint.
    pub(super) fn parse(text: &str, fingerprint: Fingerprint) -> Result<Self, Error> {
        let (token, of) = Self::read(text).ok_or_else(|| Error::validation("Invalid token"))?;
        if of != fingerprint {
            return Err(Error::validation("The token belongs to a subscription to something else"));
        }
        Ok(token)
    }

    fn read(text: &str) -> Option<(Self, Fingerprint)> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (&format, rest) = bytes.split_first()?;
        if format != FORMAT || rest.len() != 26 {
            return None;
        }
        let (stream, rest) = rest.split_first_chunk()?;
        let (version, rest) = rest.split_first_chunk()?;
        let (ordinal, rest) = rest.split_first_chunk()?;
        let position = Position::new(u64::from_be_bytes(*version), u16::from_be_bytes(*ordinal));
        Some((Self { stream: u64::from_be_bytes(*stream), position }, Fingerprint(*rest.first_chunk()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_round_trip_for_their_own_subscription() {
        let (mine, other) = (Fingerprint::of("a"), Fingerprint::of("b"));
        let token = Token { stream: 7, position: Position::new(u64::MAX >> 1, 513) };
        let text = token.to_text(mine);
        assert_eq!(Token::parse(&text, mine).unwrap(), token);
        assert!(Token::parse(&text, other).is_err());
        for cut in 0..text.len() {
            assert!(Token::parse(&text[..cut], mine).is_err(), "{cut}");
        }
        assert!(Token::parse("", mine).is_err());
    }
}
