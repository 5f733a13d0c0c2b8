//! Ids and keys as IAM makes them (IAM user guide, "IAM identifiers": unique ID prefixes).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use types::Env;

const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// `prefix` and 16 characters of base32 for 10 bytes.
pub(crate) fn from_bytes(prefix: &str, bytes: &[u8]) -> String {
    let mut id = prefix.to_owned();
    for chunk in bytes.chunks(5) {
        let mut word = [0; 8];
        word[3..3 + chunk.len()].copy_from_slice(chunk);
        let word = u64::from_be_bytes(word);
        id.extend((0..8).rev().map(|i| char::from(BASE32[(word >> (i * 5) & 31) as usize])));
    }
    id
}

/// A fresh id: `AKIA`, `ASIA`, `AIDA`, `AROA`, `ANPA` and 16 characters.
pub(crate) fn fresh(env: &dyn Env, prefix: &str) -> String {
    let mut bytes = [0; 10];
    env.fill(&mut bytes);
    from_bytes(prefix, &bytes)
}

/// A fresh secret access key: 40 characters.
pub(crate) fn secret(env: &dyn Env) -> String {
    let mut bytes = [0; 30];
    env.fill(&mut bytes);
    STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_have_the_form_of_iam() {
        assert_eq!(from_bytes("AKIA", &[0; 10]), "AKIAAAAAAAAAAAAAAAAA");
        assert_eq!(from_bytes("AKIA", &[0xFF; 10]), "AKIA7777777777777777");
        let env = types::SystemEnv::new();
        assert_eq!((fresh(&*env, "AROA").len(), secret(&*env).len()), (20, 40));
    }
}
