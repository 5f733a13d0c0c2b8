//! Logical ids that follow from what a resource is made of, as aws-sam-translator makes them: another resource
//! takes the place of one that can not change.

use std::fmt::Write as _;

use serde_json::Value as Json;
use sha1::{Digest, Sha1};

/// How many characters of a hash are part of an id.
const LENGTH: usize = 10;

/// `prefix` and a hash of `data`.
pub(super) fn hashed(prefix: &str, data: &Json) -> String {
    let mut text = String::new();
    canonical(data, &mut text);
    let mut id = prefix.to_owned();
    for byte in &Sha1::digest(text)[..LENGTH / 2] {
        let _ = write!(id, "{byte:02x}");
    }
    id
}

/// `prefix` and the beginning of a hash that the template gives.
pub(super) fn given(prefix: &str, hash: &str) -> String {
    prefix.chars().chain(hash.chars().take(LENGTH)).collect()
}

/// Compact JSON with sorted keys, in ASCII.
fn canonical(value: &Json, out: &mut String) {
    match value {
        Json::Null | Json::Bool(_) | Json::Number(_) => {
            let _ = write!(out, "{value}");
        }
        Json::String(text) => quoted(text, out),
        Json::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                canonical(item, out);
            }
            out.push(']');
        }
        Json::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_unstable_by_key(|(key, _)| *key);
            out.push('{');
            for (index, (key, value)) in members.into_iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                quoted(key, out);
                out.push(':');
                canonical(value, out);
            }
            out.push('}');
        }
    }
}

fn quoted(text: &str, out: &mut String) {
    for c in Json::from(text).to_string().chars() {
        if c.is_ascii() {
            out.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            let _ = write!(out, "\\u{unit:04x}");
        }
    }
}
