//! Receipt handles: which message, and which receive of it.
//!
//! Invariant: a handle holds 16 random bytes that are stored with the message, and those of its last receive alone
//! settle it; so nobody makes one up, and one of an earlier receive has no power.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::Error;

/// A receive of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Handle {
    /// The queue's id.
    pub(crate) queue: u64,
    pub(crate) bag: u64,
    pub(crate) number: u64,
    pub(crate) nonce: [u8; 16],
}

impl Handle {
    pub(crate) fn text(&self) -> String {
        let mut bytes = Vec::with_capacity(40);
        for part in [self.queue, self.bag, self.number] {
            bytes.extend_from_slice(&part.to_be_bytes());
        }
        bytes.extend_from_slice(&self.nonce);
        BASE64.encode(bytes)
    }

    /// Reads a handle that was given out by the queue with that id.
    pub(crate) fn read(text: &str, queue: u64) -> Result<Self, Error> {
        let bytes = BASE64.decode(text).map_err(|_| Error::ReceiptHandleIsInvalid)?;
        let bytes: [u8; 40] = bytes.try_into().map_err(|_| Error::ReceiptHandleIsInvalid)?;
        let part = |at: usize| {
            let mut part = [0; 8];
            part.copy_from_slice(&bytes[at..at + 8]);
            u64::from_be_bytes(part)
        };
        let mut nonce = [0; 16];
        nonce.copy_from_slice(&bytes[24..]);
        let handle = Self { queue: part(0), bag: part(8), number: part(16), nonce };
        if handle.queue == queue { Ok(handle) } else { Err(Error::ReceiptHandleIsInvalid) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_come_back_as_they_were_and_only_to_their_queue() {
        let handle = Handle { queue: 7, bag: u64::MAX, number: 3 << 16, nonce: [9; 16] };
        let text = handle.text();
        assert_eq!(Handle::read(&text, 7).unwrap(), handle);
        assert!(Handle::read(&text, 8).is_err());
        for bad in ["", "x", &text[4..], &format!("{text}AAAA")] {
            assert!(Handle::read(bad, 7).is_err(), "{bad}");
        }
    }
}
