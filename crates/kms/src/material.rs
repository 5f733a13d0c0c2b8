//! The cryptography: how keys are kept, and what they seal.
//!
//! A key's material is 256 random bits, stored sealed by AES-256-GCM under a key derived from the node's for just that
//! generation of just that key. What a key seals is sealed by AES-256-GCM under a key derived from the material and a
//! random salt of its own, so that no key ever seals two messages:
//!
//! ```text
//! format (1), 1 byte; account, 8 bytes; id of the key, 16 bytes; generation, 4 bytes; salt, 16 bytes;
//! ciphertext; tag, 16 bytes
//! ```
//! All of it is authenticated, and the encryption context with it: its pairs in order, each text with its length.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::hmac::{self, HMAC_SHA256};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use types::{AccountId, Env};

use crate::Error;

const FORMAT: u8 = 1;
const HEAD_BYTES: usize = 1 + 8 + 16 + 4 + 16;
const TAG_BYTES: usize = 16;
/// How long a ciphertext may be that is looked at (API reference, Decrypt).
pub(crate) const MAX_CIPHERTEXT_BYTES: usize = 6144;

/// The pairs that were given when something was sealed, and have to be given again.
pub(crate) type Context = BTreeMap<String, String>;

/// The node's key, under which the material of all keys is kept.
pub struct NodeKey([u8; 32]);

impl NodeKey {
    /// Takes a key that is used for nothing else.
    pub fn new(bits: [u8; 32]) -> Self {
        Self(bits)
    }

    /// Says which key it is, and nothing of what it is.
    pub(crate) fn fingerprint(&self) -> String {
        hex::encode(&derive(&self.0, &[b"fingerprint"])[..8])
    }
}

impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NodeKey")
    }
}

/// Material as it is stored.
#[derive(Clone)]
pub(crate) struct Wrapped(Vec<u8>);

impl fmt::Debug for Wrapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wrapped")
    }
}

impl Serialize for Wrapped {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Wrapped {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        BASE64.decode(text.as_bytes()).map(Self).map_err(serde::de::Error::custom)
    }
}

fn derive(key: &[u8], of: &[&[u8]]) -> [u8; 32] {
    let mut context = hmac::Context::with_key(&hmac::Key::new(HMAC_SHA256, key));
    for part in of {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    context.sign().as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// A cipher for one message: its nonce is always the same.
fn cipher(key: &[u8; 32]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).expect("the key has the cipher's length"))
}

fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

/// One generation of one key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Which<'a> {
    pub(crate) account: AccountId,
    pub(crate) id: &'a str,
    pub(crate) generation: u32,
}

impl Which<'_> {
    fn wrapping(&self, node: &NodeKey) -> LessSafeKey {
        let (account, generation) = (self.account.to_string(), self.generation.to_be_bytes());
        cipher(&derive(&node.0, &[b"wrap", account.as_bytes(), self.id.as_bytes(), &generation]))
    }
}

/// Makes new material for a generation that has none.
pub(crate) fn make(node: &NodeKey, which: Which<'_>, env: &dyn Env) -> Wrapped {
    let mut bits = vec![0; 32];
    env.fill(&mut bits);
    let sealed = which.wrapping(node).seal_in_place_append_tag(nonce(), Aad::empty(), &mut bits);
    sealed.expect("32 bytes are not too many");
    Wrapped(bits)
}

fn unwrap(node: &NodeKey, which: Which<'_>, wrapped: &Wrapped) -> Result<[u8; 32], Error> {
    let mut bytes = wrapped.0.clone();
    let opened = which.wrapping(node).open_in_place(nonce(), Aad::empty(), &mut bytes);
    let opened = opened.ok().and_then(|bits| <[u8; 32]>::try_from(&*bits).ok());
    opened.ok_or_else(|| Error::Damaged(which.id.to_owned()))
}

/// What a ciphertext says of itself. Whether that is true is seen when it is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) account: AccountId,
    pub(crate) id: String,
    pub(crate) generation: u32,
}

/// Reads the beginning of a ciphertext.
pub(crate) fn read_head(sealed: &[u8]) -> Result<Head, Error> {
    fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
        let (head, rest) = bytes.split_at_checked(count)?;
        *bytes = rest;
        Some(head)
    }
    let read = || {
        let mut rest = sealed;
        (sealed.len() >= HEAD_BYTES + TAG_BYTES && take(&mut rest, 1)? == [FORMAT]).then_some(())?;
        let account = u64::from_be_bytes(take(&mut rest, 8)?.try_into().ok()?);
        let account = AccountId::from_number(account)?;
        let id = id_text(take(&mut rest, 16)?.try_into().ok()?);
        let generation = u32::from_be_bytes(take(&mut rest, 4)?.try_into().ok()?);
        Some(Head { account, id, generation })
    };
    read().ok_or(Error::InvalidCiphertext)
}

fn head(which: Which<'_>, salt: [u8; 16]) -> Vec<u8> {
    let mut head = Vec::with_capacity(HEAD_BYTES);
    head.push(FORMAT);
    head.extend_from_slice(&which.account.number().to_be_bytes());
    head.extend_from_slice(&id_bits(which.id).expect("ids are made here"));
    head.extend_from_slice(&which.generation.to_be_bytes());
    head.extend_from_slice(&salt);
    head
}

fn authenticated(head: &[u8], context: &Context) -> Vec<u8> {
    let mut bytes = head.to_vec();
    for text in context.iter().flat_map(|(name, value)| [name, value]) {
        bytes.extend_from_slice(&(text.len() as u64).to_be_bytes());
        bytes.extend_from_slice(text.as_bytes());
    }
    bytes
}

/// Seals a message.
pub(crate) fn seal(
    node: &NodeKey,
    which: Which<'_>,
    wrapped: &Wrapped,
    context: &Context,
    message: &[u8],
    env: &dyn Env,
) -> Result<Vec<u8>, Error> {
    let material = unwrap(node, which, wrapped)?;
    let mut salt = [0; 16];
    env.fill(&mut salt);
    let head = head(which, salt);
    let mut body = message.to_vec();
    cipher(&derive(&material, &[b"message", &salt]))
        .seal_in_place_append_tag(nonce(), Aad::from(authenticated(&head, context)), &mut body)
        .expect("messages are short");
    Ok([head, body].concat())
}

/// Opens what was sealed with the same key and context.
pub(crate) fn open(
    node: &NodeKey,
    which: Which<'_>,
    wrapped: &Wrapped,
    context: &Context,
    sealed: &[u8],
) -> Result<Vec<u8>, Error> {
    let material = unwrap(node, which, wrapped)?;
    let (head, body) = sealed.split_at_checked(HEAD_BYTES).ok_or(Error::InvalidCiphertext)?;
    let salt = &head[HEAD_BYTES - 16..];
    let mut body = body.to_vec();
    let opened = cipher(&derive(&material, &[b"message", salt]))
        .open_in_place(nonce(), Aad::from(authenticated(head, context)), &mut body)
        .map_err(|_| Error::InvalidCiphertext)?;
    Ok(opened.to_vec())
}

/// An id as KMS writes it: a UUID.
pub(crate) fn id_text(bits: [u8; 16]) -> String {
    let text = hex::encode(bits);
    let parts = [&text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..]];
    parts.join("-")
}

/// A new id.
pub(crate) fn new_id(env: &dyn Env) -> String {
    let mut bits = [0; 16];
    env.fill(&mut bits);
    // A random UUID says so (RFC 9562).
    bits[6] = bits[6] & 0x0f | 0x40;
    bits[8] = bits[8] & 0x3f | 0x80;
    id_text(bits)
}

/// The bits of an id; `None` for a text that is none.
pub(crate) fn id_bits(text: &str) -> Option<[u8; 16]> {
    let mut bits = [0; 16];
    hex::decode_to_slice(text.replace('-', ""), &mut bits).ok()?;
    (id_text(bits) == text).then_some(bits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::SystemEnv;

    #[test]
    fn what_is_sealed_opens_with_all_that_it_was_sealed_with() {
        let (env, node) = (SystemEnv::new(), NodeKey::new([7; 32]));
        let id = new_id(&*env);
        let which = Which { account: AccountId::DEFAULT, id: &id, generation: 1 };
        let wrapped = make(&node, which, &*env);
        let context = Context::from([("a".to_owned(), "bc".to_owned())]);
        let sealed = seal(&node, which, &wrapped, &context, b"secret", &*env).unwrap();
        assert!(!sealed.windows(6).any(|bytes| bytes == b"secret"));
        let head = read_head(&sealed).unwrap();
        assert_eq!(head, Head { account: AccountId::DEFAULT, id: id.clone(), generation: 1 });
        assert_eq!(open(&node, which, &wrapped, &context, &sealed).unwrap(), b"secret");
        assert_ne!(seal(&node, which, &wrapped, &context, b"secret", &*env).unwrap(), sealed);

        let another = Context::from([("ab".to_owned(), "c".to_owned())]);
        for context in [another, Context::new()] {
            assert!(matches!(open(&node, which, &wrapped, &context, &sealed), Err(Error::InvalidCiphertext)));
        }
        for at in 0..sealed.len() {
            let mut damaged = sealed.clone();
            damaged[at] ^= 1;
            assert!(open(&node, which, &wrapped, &context, &damaged).is_err(), "byte {at}");
        }
        for length in 0..sealed.len() {
            assert!(open(&node, which, &wrapped, &context, &sealed[..length]).is_err());
            let _ = read_head(&sealed[..length]);
        }
        let node = NodeKey::new([8; 32]);
        assert!(matches!(open(&node, which, &wrapped, &context, &sealed), Err(Error::Damaged(_))));
    }

    #[test]
    fn ids_are_uuids() {
        let id = new_id(&*SystemEnv::new());
        assert_eq!(id_bits(&id).map(id_text), Some(id));
        for text in ["", "x", "00000000000000000000000000000000", "0000000g-0000-0000-0000-000000000000"] {
            assert_eq!(id_bits(text), None, "{text}");
        }
    }
}
