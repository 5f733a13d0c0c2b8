//! Signing keys: derived from a secret for one day, region and service, and remembered.
//!
//! Invariant: the cache is bounded, holds no global lock, and gives a key only for the very secret that it was
//! derived from.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::Mutex;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// A derived key, ready to sign.
#[derive(Clone)]
pub(crate) struct SigningKey(Hmac<Sha256>);

// The key stays out of logs.
impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(..)")
    }
}

impl SigningKey {
    /// Derives the key.
    pub(crate) fn derive(secret: &str, date: &str, region: &str, service: &str) -> Self {
        let keyed = |key: &[u8]| Self(Hmac::new_from_slice(key).expect("HMAC takes keys of any length"));
        let day = keyed(format!("AWS4{secret}").as_bytes()).sign(date.as_bytes());
        let region = keyed(&day).sign(region.as_bytes());
        let service = keyed(&region).sign(service.as_bytes());
        keyed(&keyed(&service).sign(b"aws4_request"))
    }

    /// Signs.
    pub(crate) fn sign(&self, text: &[u8]) -> [u8; 32] {
        self.0.clone().chain_update(text).finalize().into_bytes().into()
    }
}

struct Slot {
    access_key_id: Box<str>,
    secret: Box<str>,
    date: Box<str>,
    region: Box<str>,
    service: Box<str>,
    key: SigningKey,
}

/// Keys derived lately: a table of fixed size in which a newer key takes the place of an older one.
pub(crate) struct KeyCache {
    slots: Box<[Mutex<Option<Slot>>]>,
    hasher: RandomState,
}

impl fmt::Debug for KeyCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyCache").field("slots", &self.slots.len()).finish_non_exhaustive()
    }
}

impl KeyCache {
    /// A cache of at most `slots` keys.
    pub(crate) fn new(slots: usize) -> Self {
        Self { slots: (0..slots).map(|_| Mutex::new(None)).collect(), hasher: RandomState::new() }
    }

    /// The key, derived if it is not at hand.
    pub(crate) fn get(
        &self,
        access_key_id: &str,
        secret: &str,
        date: &str,
        region: &str,
        service: &str,
    ) -> SigningKey {
        let hash = self.hasher.hash_one((access_key_id, date, region, service));
        // The remainder is below the number of slots.
        let slot = &self.slots[(hash % self.slots.len() as u64) as usize];
        let mut slot = slot.lock().expect("no holder of this lock panics");
        match &*slot {
            Some(held)
                if *held.access_key_id == *access_key_id
                    && *held.secret == *secret
                    && *held.date == *date
                    && *held.region == *region
                    && *held.service == *service =>
            {
                held.key.clone()
            }
            _ => {
                let key = SigningKey::derive(secret, date, region, service);
                *slot = Some(Slot {
                    access_key_id: access_key_id.into(),
                    secret: secret.into(),
                    date: date.into(),
                    region: region.into(),
                    service: service.into(),
                    key: key.clone(),
                });
                key
            }
        }
    }
}
