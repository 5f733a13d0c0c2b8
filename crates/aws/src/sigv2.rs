//! Signature Version 2 in a query (Amazon S3 user guide, "Query string request authentication alternative"):
//! what some clients still make of "presign a URL" in us-east-1, boto3 among them, unless told otherwise.
//!
//! Invariants: only for S3, only in a query, only verified; the signature is compared in constant time. The
//! body is not part of it. Nor is a parameter whose name is not known here as it is written: who holds a URL
//! could add it, so a request with one is refused.

use std::borrow::Cow;
use std::collections::BTreeMap;

use base64::prelude::{BASE64_STANDARD, Engine};
use hmac::{Hmac, KeyInit, Mac};
use http::header::{CONTENT_TYPE, HeaderName};
use http::request::Parts;
use percent_encoding::percent_decode_str;
use sha1::Sha1;
use subtle::ConstantTimeEq;
use types::Timestamp;

use crate::Credential;
use crate::sigv4::{Failure, Mismatch, Source, pairs, retain_query, session_token_matches};

/// The parameters that name a part of a resource, or change its answer: they are signed.
const SIGNED: [&str; 31] = [
    "accelerate",
    "acl",
    "analytics",
    "cors",
    "delete",
    "inventory",
    "lifecycle",
    "location",
    "logging",
    "metrics",
    "notification",
    "object-lock",
    "partNumber",
    "policy",
    "replication",
    "requestPayment",
    "response-cache-control",
    "response-content-disposition",
    "response-content-encoding",
    "response-content-language",
    "response-content-type",
    "response-expires",
    "restore",
    "select",
    "select-type",
    "tagging",
    "torrent",
    "uploadId",
    "uploads",
    "versionId",
    "versioning",
];
const SIGNED_TOO: [&str; 4] = ["defaultObjectAcl", "storageClass", "versions", "website"];

/// The parameters that are not signed and may be there all the same: they say which part of a listing is wanted,
/// or belong to the signature.
const UNSIGNED: [&str; 21] = [
    "AWSAccessKeyId",
    "Expires",
    "Signature",
    "content-md5",
    "content-type",
    "continuation-token",
    "delimiter",
    "encoding-type",
    "fetch-owner",
    "key-marker",
    "list-type",
    "marker",
    "max-keys",
    "max-parts",
    "max-uploads",
    "part-number-marker",
    "prefix",
    "start-after",
    "upload-id-marker",
    "version-id-marker",
    "x-id",
];

/// Whether a request has a signature of this kind.
pub fn is_presented(head: &Parts) -> bool {
    head.uri.query().is_some_and(|query| find(query, "AWSAccessKeyId").is_some())
}

/// A signature and what it says of itself.
#[derive(Debug, Clone)]
pub struct Presented<'a> {
    access_key_id: Cow<'a, str>,
    signature: Cow<'a, str>,
    expires: i64,
    session_token: Option<Cow<'a, str>>,
}

impl<'a> Presented<'a> {
    /// Reads a request's signature.
    pub fn read(head: &'a Parts) -> Result<Self, Failure> {
        let query = head.uri.query().unwrap_or("");
        if head.headers.contains_key(http::header::AUTHORIZATION) {
            return Err(Failure::TwoMechanisms);
        }
        let malformed = || Failure::Malformed {
            source: Source::Query,
            message:
                "Query-string authentication requires the Signature, Expires and AWSAccessKeyId parameters"
                    .to_owned(),
        };
        let expires = find(query, "Expires").and_then(|text| text.parse().ok()).ok_or_else(malformed)?;
        Ok(Self {
            access_key_id: find(query, "AWSAccessKeyId").ok_or_else(malformed)?,
            signature: find(query, "Signature").ok_or_else(malformed)?,
            expires,
            session_token: find(query, "x-amz-security-token"),
        })
    }

    /// The key that signed.
    pub fn access_key_id(&self) -> &str {
        &self.access_key_id
    }

    /// The token of a temporary key.
    pub fn session_token(&self) -> Option<&str> {
        self.session_token.as_deref()
    }

    /// Verifies the signature; `bucket` is the one in the host name, if it is there and not in the path.
    pub fn verify(
        &self,
        head: &Parts,
        bucket: Option<&str>,
        credential: &Credential,
        now: Timestamp,
    ) -> Result<(), Failure> {
        if now.as_second() > self.expires {
            let request = Timestamp::from_second(self.expires).unwrap_or(Timestamp::MIN);
            return Err(Failure::Expired { request, expires_seconds: 0, now });
        }
        session_token_matches(credential, self.session_token(), now)?;
        all_known(head.uri.query().unwrap_or(""))?;
        let text = string_to_sign(head, bucket, self.expires);
        let key = credential.secret_access_key.as_bytes();
        let key = Hmac::<Sha1>::new_from_slice(key).expect("HMAC takes keys of any length");
        let signature = BASE64_STANDARD.encode(key.chain_update(&text).finalize().into_bytes());
        if bool::from(signature.as_bytes().ct_eq(self.signature.as_bytes())) {
            return Ok(());
        }
        Err(Failure::Mismatch(Box::new(Mismatch {
            access_key_id: self.access_key_id.to_string(),
            string_to_sign: text,
            signature: self.signature.to_string(),
            canonical_request: String::new(),
        })))
    }
}

/// Whether the policy of an HTML form was signed with that credential, as old SDKs do it.
pub fn verify_form(
    credential: &Credential,
    token: Option<&str>,
    policy: &str,
    signature: &str,
    now: Timestamp,
) -> Result<(), Failure> {
    session_token_matches(credential, token, now)?;
    let key = credential.secret_access_key.as_bytes();
    let key = Hmac::<Sha1>::new_from_slice(key).expect("HMAC takes keys of any length");
    let expected = BASE64_STANDARD.encode(key.chain_update(policy).finalize().into_bytes());
    if bool::from(expected.as_bytes().ct_eq(signature.as_bytes())) {
        return Ok(());
    }
    Err(Failure::Mismatch(Box::new(Mismatch {
        access_key_id: String::new(),
        string_to_sign: policy.to_owned(),
        signature: signature.to_owned(),
        canonical_request: String::new(),
    })))
}

/// Takes the signature out of a request that is verified.
pub fn strip(head: &mut Parts) {
    retain_query(head, |name| {
        !["AWSAccessKeyId", "Signature", "Expires", "content-type", "content-md5"].contains(&name)
    });
}

fn find<'a>(query: &'a str, wanted: &str) -> Option<Cow<'a, str>> {
    let (_, value) = pairs(query).find(|(name, _)| *name == wanted)?;
    percent_decode_str(value).decode_utf8().ok()
}

fn string_to_sign(head: &Parts, bucket: Option<&str>, expires: i64) -> String {
    let query = head.uri.query().unwrap_or("");
    let header = |name: &HeaderName| {
        let value = head.headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()));
        value.or_else(|| find(query, name.as_str())).unwrap_or_default()
    };
    let content_md5 = header(&HeaderName::from_static("content-md5"));
    let content_type = header(&CONTENT_TYPE);
    let mut text = format!("{}\n{}\n{}\n{expires}\n", head.method, content_md5.trim(), content_type.trim());

    let mut amz: BTreeMap<&str, Vec<Cow<'_, str>>> = BTreeMap::new();
    for (name, value) in pairs(query).filter(|(name, _)| name.starts_with("x-amz-")) {
        amz.entry(name).or_default().push(percent_decode_str(value).decode_utf8_lossy());
    }
    for (name, value) in head.headers.iter().filter(|(name, _)| name.as_str().starts_with("x-amz-")) {
        amz.entry(name.as_str()).or_default().push(String::from_utf8_lossy(value.as_bytes()));
    }
    for (name, values) in amz {
        let values: Vec<_> = values.iter().map(|value| value.trim()).collect();
        text += &format!("{name}:{}\n", values.join(","));
    }

    if let Some(bucket) = bucket {
        text.push('/');
        text += bucket;
    }
    text += head.uri.path();
    let mut signed: Vec<_> =
        query.split('&').filter(|pair| pairs(pair).any(|(name, _)| is_signed(name))).collect();
    signed.sort_by_key(|pair| pair.split('=').next());
    for (i, pair) in signed.into_iter().enumerate() {
        text.push(if i == 0 { '?' } else { '&' });
        text += &percent_decode_str(pair).decode_utf8_lossy();
    }
    text
}

/// Refuses parameters that would mean something and that the signature does not vouch for: unknown ones, known
/// ones in another spelling (`X-Amz-Copy-Source`, `%75ploadId`), and text that pretends to be several lines of
/// what was signed.
fn all_known(query: &str) -> Result<(), Failure> {
    for (name, value) in pairs(query) {
        let in_header_form = name.starts_with("x-amz-")
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        let one_line = percent_decode_str(value).all(|byte| byte != b'\n');
        if !one_line || !(in_header_form || is_signed(name) || UNSIGNED.contains(&name)) {
            let name: String = name.chars().take(64).collect();
            let message = format!(
                "The parameter `{name}` is no part of a signature of version 2; sign with version 4 \
                 (AWS4-HMAC-SHA256) to use it"
            );
            return Err(Failure::Malformed { source: Source::Query, message });
        }
    }
    Ok(())
}

fn is_signed(name: &str) -> bool {
    SIGNED.contains(&name) || SIGNED_TOO.contains(&name)
}

#[cfg(test)]
mod tests {
    use types::{AccountId, Principal};

    use super::*;

    fn verify(head: &Parts, bucket: Option<&str>, token: Option<&str>, now: i64) -> Result<(), Failure> {
        let credential = Credential {
            secret_access_key: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_owned(),
            session_token: token.map(str::to_owned),
            expires_at: None,
            principal: Principal::Root { account: AccountId::DEFAULT },
            session_policy: None,
        };
        let now = Timestamp::from_second(now).unwrap();
        Presented::read(head)?.verify(head, bucket, &credential, now)
    }

    fn head(method: &str, uri: &str) -> Parts {
        http::Request::builder().method(method).uri(uri).body(()).unwrap().into_parts().0
    }

    #[test]
    fn the_published_example_verifies_until_it_expires() {
        let mut get = head(
            "GET",
            "/photos/puppy.jpg?AWSAccessKeyId=AKIAIOSFODNN7EXAMPLE&Signature=NpgCjnDzrM%2BWFzoENXmpNDUsSn8%3D&\
             Expires=1175139620",
        );
        verify(&get, Some("johnsmith"), None, 1_175_139_620).unwrap();
        assert!(matches!(verify(&get, Some("johnsmith"), None, 1_175_139_621), Err(Failure::Expired { .. })));
        assert!(matches!(verify(&get, Some("other"), None, 0), Err(Failure::Mismatch(_))));
        assert_eq!(verify(&get, Some("johnsmith"), Some("t"), 0), Err(Failure::InvalidToken));
        strip(&mut get);
        assert_eq!(get.uri, "/photos/puppy.jpg");
    }

    #[test]
    fn what_changes_the_request_is_signed() {
        let uri = "/b/k%20ey?uploadId=x&partNumber=2&prefix=y&response-content-type=a%20b&content-type=text/plain&\
                   x-amz-meta-a=b%20c&x-amz-security-token=t%2Fk%3D&AWSAccessKeyId=A&Expires=1175139620&Signature=";
        let signature = "9%2F6BLMvfGduuqsihmvm6MQyQoQk%3D";
        let mut put = head("PUT", &format!("{uri}{signature}"));
        verify(&put, None, Some("t/k="), 0).unwrap();
        strip(&mut put);
        assert_eq!(put.uri.query(), Some("uploadId=x&partNumber=2&prefix=y&response-content-type=a%20b"));
        assert_eq!(put.headers["x-amz-meta-a"], "b c");
        assert!(!put.headers.contains_key("x-amz-security-token"));
        let other = head("PUT", &format!("{uri}{signature}").replace("partNumber=2", "partNumber=3"));
        assert!(matches!(verify(&other, None, Some("t/k="), 0), Err(Failure::Mismatch(_))));
    }
    #[test]
    fn what_is_not_signed_can_not_be_added() {
        let uri = "/photos/puppy.jpg?AWSAccessKeyId=AKIAIOSFODNN7EXAMPLE&Signature=NpgCjnDzrM%2BWFzoENXmpNDUsSn8%3D&\
                   Expires=1175139620";
        let with = |added: &str| {
            let head = head("GET", &format!("{uri}{added}"));
            verify(&head, Some("johnsmith"), None, 0)
        };
        with("&prefix=x").unwrap();
        for added in [
            "&X-Amz-Copy-Source=/b/secret",
            "&x-Amz-copy-source=/b/secret",
            "&x-amz%2Dcopy-source=/b/secret",
            "&%75ploadId=x",
            "&%74agging",
            "&attributes",
            "&retention",
            "&anything=else",
            "&prefix=a%0Ab",
        ] {
            assert!(matches!(with(added), Err(Failure::Malformed { .. })), "{added}");
        }
        for added in ["&x-amz-copy-source=/b/secret", "&tagging"] {
            assert!(matches!(with(added), Err(Failure::Mismatch(_))), "{added}");
        }
    }
}
