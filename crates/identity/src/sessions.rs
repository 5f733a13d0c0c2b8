//! Session tokens: everything that is known of temporary credentials, sealed by a key of the node, so that
//! nothing is stored for a session.
//!
//! A token is base64 of: format (1 byte), number of the node's key (4), HMAC-SHA-256 of the claims (32), the
//! claims as JSON. The secret key is a second HMAC of the claims, under another label: it is never in the
//! token. Whoever holds a token may read its claims; nobody but the node can make one.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use types::{AccountId, Principal, Timestamp};

const FORMAT: u8 = 1;
const MAC_LEN: usize = 32;

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claims {
    /// The access key id that goes with it; random, so no two tokens are alike.
    #[serde(rename = "k")]
    pub(crate) access_key_id: String,
    /// Expiry, seconds since the epoch.
    #[serde(rename = "e")]
    pub(crate) expires_s: i64,
    /// The account.
    #[serde(rename = "a")]
    pub(crate) account: AccountId,
    /// Whose session.
    #[serde(rename = "w")]
    pub(crate) who: Who,
    /// The session policy.
    #[serde(rename = "p", default, skip_serializing_if = "Option::is_none")]
    pub(crate) policy: Option<String>,
}

/// Whose session it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Who {
    /// Of a role: name, id, session name.
    #[serde(rename = "r")]
    Role(String, String, String),
    /// Of a user: name, id.
    #[serde(rename = "u")]
    User(String, String),
    /// Of the account's root.
    #[serde(rename = "0")]
    Root,
}

impl Claims {
    pub(crate) fn principal(self) -> Principal {
        let account = self.account;
        match self.who {
            Who::Role(role, id, session) => Principal::AssumedRole { account, role, id, session },
            Who::User(name, id) => Principal::User { account, name, id },
            Who::Root => Principal::Root { account },
        }
    }

    pub(crate) fn expires_at(&self) -> Option<Timestamp> {
        Timestamp::from_second(self.expires_s).ok()
    }
}

/// Seals and opens tokens.
pub(crate) struct Sealer {
    number: u32,
    key: [u8; 32],
}

// The key stays out of logs.
impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").field("number", &self.number).finish_non_exhaustive()
    }
}

impl Sealer {
    pub(crate) fn new(number: u32, key: [u8; 32]) -> Self {
        Self { number, key }
    }

    fn mac(&self, label: &[u8], claims: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes a key of any length");
        mac.update(label);
        mac.update(claims);
        mac
    }

    fn secret(&self, claims: &[u8]) -> String {
        // 30 bytes are 40 characters, as long as AWS's.
        let bytes = self.mac(b"hawker session secret\0", claims).finalize().into_bytes();
        STANDARD.encode(&bytes[..30])
    }

    /// The token and the secret key of these claims.
    pub(crate) fn seal(&self, claims: &Claims) -> (String, String) {
        let claims = serde_json::to_vec(claims).expect("claims have string keys");
        let mut token = vec![FORMAT];
        token.extend_from_slice(&self.number.to_be_bytes());
        token.extend_from_slice(&self.mac(b"hawker session token\0", &claims).finalize().into_bytes());
        token.extend_from_slice(&claims);
        (STANDARD.encode(&token), self.secret(&claims))
    }

    /// The claims of a token and the secret key; `None` unless this node sealed it.
    pub(crate) fn open(&self, token: &str) -> Option<(Claims, String)> {
        let bytes = STANDARD.decode(token).ok()?;
        let (&format, rest) = bytes.split_first()?;
        let (number, rest) = rest.split_first_chunk::<4>()?;
        let (mac, claims) = rest.split_first_chunk::<MAC_LEN>()?;
        if format != FORMAT || u32::from_be_bytes(*number) != self.number {
            return None;
        }
        // Compares in constant time.
        self.mac(b"hawker session token\0", claims).verify_slice(mac).ok()?;
        let secret = self.secret(claims);
        Some((serde_json::from_slice(claims).ok()?, secret))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims() -> Claims {
        Claims {
            access_key_id: "ASIAAAAAAAAAAAAAAAAA".into(),
            expires_s: 1_700_000_000,
            account: AccountId::DEFAULT,
            who: Who::Role("r".into(), "AROA1".into(), "s".into()),
            policy: None,
        }
    }

    #[test]
    fn only_what_was_sealed_opens() {
        let sealer = Sealer::new(1, [7; 32]);
        let (token, secret) = sealer.seal(&claims());
        assert_eq!(secret.len(), 40);
        assert_eq!(sealer.open(&token), Some((claims(), secret)));
        assert_eq!(Sealer::new(1, [8; 32]).open(&token), None);
        assert_eq!(Sealer::new(2, [7; 32]).open(&token), None);
        let bytes = STANDARD.decode(&token).unwrap();
        for at in 0..bytes.len() {
            let mut forged = bytes.clone();
            forged[at] ^= 1;
            assert_eq!(sealer.open(&STANDARD.encode(&forged)), None, "byte {at}");
        }
        for bad in ["", "AQ==", "not base64!", &token[..40]] {
            assert_eq!(sealer.open(bad), None, "{bad}");
        }
    }
}
