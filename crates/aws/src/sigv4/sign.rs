//! Making signatures, as a client.

use std::fmt;

use http::header::{AUTHORIZATION, HOST, HeaderMap, HeaderName, HeaderValue};
use http::uri::Uri;
use http::{Method, Request};
use sha2::{Digest, Sha256};
use types::Timestamp;

use super::canonical::{Canonical, push_encoded, string_to_sign};
use super::{ALGORITHM, SigningKey, UNSIGNED_PAYLOAD, format_amz_date, hex_str, hex64};
use crate::Error;

/// What a client signs with.
#[derive(Clone)]
pub struct Credentials {
    /// The key's id.
    pub access_key_id: String,
    /// The secret.
    pub secret_access_key: String,
    /// The token of a temporary key.
    pub session_token: Option<String>,
}

// The secrets stay out of logs.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("access_key_id", &self.access_key_id).finish_non_exhaustive()
    }
}

impl From<crate::TemporaryCredentials> for Credentials {
    fn from(from: crate::TemporaryCredentials) -> Self {
        Self {
            access_key_id: from.access_key_id,
            secret_access_key: from.secret_access_key,
            session_token: Some(from.session_token),
        }
    }
}

/// How a body takes part in a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PayloadHash {
    /// By this SHA-256.
    Sha256([u8; 32]),
    /// Not at all (S3 only): for bodies that stream.
    Unsigned,
}

/// Headers that proxies change or add, which are never signed.
const NOT_SIGNED: [&str; 12] = [
    "authorization",
    "cache-control",
    "connection",
    "expect",
    "keep-alive",
    "pragma",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "x-amzn-trace-id",
];

/// Signs a request whose body is at hand: adds `host` (from the URI), `x-amz-date`, `x-amz-content-sha256`,
/// `x-amz-security-token` and `authorization`. Fails if the request has no host or the token is no header.
pub fn sign<B: AsRef<[u8]>>(
    request: &mut Request<B>,
    credentials: &Credentials,
    region: &str,
    service: &str,
    time: Timestamp,
) -> Result<(), Error> {
    let hash = PayloadHash::Sha256(Sha256::digest(request.body().as_ref()).into());
    let (method, uri) = (request.method().clone(), request.uri().clone());
    sign_parts(&method, &uri, request.headers_mut(), hash, credentials, region, service, time)
}

/// The same for a request in parts, such as one whose body streams.
#[expect(clippy::too_many_arguments, reason = "they are what a signature is made of, each of its own type")]
pub fn sign_parts(
    method: &Method,
    uri: &Uri,
    headers: &mut HeaderMap,
    payload: PayloadHash,
    credentials: &Credentials,
    region: &str,
    service: &str,
    time: Timestamp,
) -> Result<(), Error> {
    let amz_date = format_amz_date(time);
    let hash = match &payload {
        PayloadHash::Sha256(hash) => Some(hex64(hash)),
        PayloadHash::Unsigned => None,
    };
    let hash = hash.as_ref().map_or(UNSIGNED_PAYLOAD, hex_str);
    if !headers.contains_key(HOST) {
        headers.insert(HOST, value(host(uri)?)?);
    }
    headers.insert(HeaderName::from_static("x-amz-date"), value(&amz_date)?);
    headers.insert(HeaderName::from_static("x-amz-content-sha256"), value(hash)?);
    if let Some(token) = &credentials.session_token {
        headers.insert(HeaderName::from_static("x-amz-security-token"), value(token)?);
    }
    let mut names: Vec<_> =
        headers.keys().map(HeaderName::as_str).filter(|name| !NOT_SIGNED.contains(name)).collect();
    names.sort_unstable();
    let signed_headers = names.join(";");
    let canonical = Canonical {
        method: method.as_str(),
        path: uri.path(),
        query: uri.query().unwrap_or(""),
        headers,
        authority: "",
        signed_headers: &signed_headers,
        payload: hash,
        s3: service == "s3",
    }
    .to_bytes();
    let scope = [&amz_date[..8], region, service, "aws4_request"].join("/");
    let to_sign = string_to_sign(&amz_date, &scope, &canonical);
    let key = SigningKey::derive(&credentials.secret_access_key, &amz_date[..8], region, service);
    let signature = hex64(&key.sign(to_sign.as_bytes()));
    let id = &credentials.access_key_id;
    let signature = hex_str(&signature);
    let text =
        format!("{ALGORITHM} Credential={id}/{scope}, SignedHeaders={signed_headers}, Signature={signature}");
    headers.insert(AUTHORIZATION, value(&text)?);
    Ok(())
}

/// Signs a URL that anybody may use for `expires_seconds` (1 to 604,800), with no other header than `Host`.
pub fn presign(
    method: &Method,
    uri: &Uri,
    credentials: &Credentials,
    region: &str,
    service: &str,
    time: Timestamp,
    expires_seconds: u32,
) -> Result<Uri, Error> {
    let amz_date = format_amz_date(time);
    let scope = [&amz_date[..8], region, service, "aws4_request"].join("/");
    let host = host(uri)?;
    let mut query = uri.query().map(|q| format!("{q}&")).unwrap_or_default();
    let id = encoded(&format!("{}/{scope}", credentials.access_key_id));
    query += &format!(
        "X-Amz-Algorithm={ALGORITHM}&X-Amz-Credential={id}&X-Amz-Date={amz_date}&X-Amz-Expires={expires_seconds}"
    );
    if let Some(token) = &credentials.session_token {
        query += &format!("&X-Amz-Security-Token={}", encoded(token));
    }
    query += "&X-Amz-SignedHeaders=host";
    let s3 = service == "s3";
    let canonical = Canonical {
        method: method.as_str(),
        path: uri.path(),
        query: &query,
        headers: &HeaderMap::new(),
        authority: host,
        signed_headers: "host",
        payload: if s3 { UNSIGNED_PAYLOAD } else { super::EMPTY_SHA256 },
        s3,
    }
    .to_bytes();
    let to_sign = string_to_sign(&amz_date, &scope, &canonical);
    let key = SigningKey::derive(&credentials.secret_access_key, &amz_date[..8], region, service);
    let signature = hex64(&key.sign(to_sign.as_bytes()));
    let scheme = uri.scheme_str().unwrap_or("http");
    let text = format!("{scheme}://{host}{}?{query}&X-Amz-Signature={}", uri.path(), hex_str(&signature));
    text.parse().map_err(|_| unsignable("the URL is not valid once it is signed"))
}

fn host(uri: &Uri) -> Result<&str, Error> {
    uri.authority().map(|a| a.as_str()).ok_or_else(|| unsignable("the URL has no host"))
}

fn value(text: &str) -> Result<HeaderValue, Error> {
    HeaderValue::from_str(text).map_err(|_| unsignable("a credential holds characters that no header can"))
}

fn unsignable(why: &str) -> Error {
    Error::new(types::ErrorKind::Invalid, "ValidationError", format!("The request cannot be signed: {why}"))
}

fn encoded(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len() + 16);
    text.bytes().for_each(|byte| push_encoded(&mut out, byte, false));
    String::from_utf8(out).expect("what is encoded is ASCII")
}
