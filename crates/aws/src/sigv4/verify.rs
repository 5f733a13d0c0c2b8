//! Whether a presented signature is right.

use http::header::{HeaderName, HeaderValue};
use http::request::Parts;
use http::uri::{PathAndQuery, Uri};
use percent_encoding::percent_decode_str;
use subtle::ConstantTimeEq;
use types::{Region, Timestamp};

use super::canonical::{Canonical, pairs, string_to_sign};
use super::key::KeyCache;
use super::presented::{Payload, Presented};
use super::{Failure, MAX_SKEW_SECONDS, Mismatch, Source, hex_str, hex64};
use crate::Credential;
use crate::chunked::{ChunkKey, Framing};

/// Derived keys that are remembered: about 1 MiB of them.
const CACHED_KEYS: usize = 1024;

/// Services with one endpoint for the world, whose clients sign for us-east-1 wherever they are.
const GLOBAL: [&str; 6] = ["iam", "sts", "cloudfront", "route53", "organizations", "budgets"];

/// What is left to check once the head is verified: the body.
#[derive(Debug)]
pub enum Verified {
    /// Nothing: the body is not signed, or was part of what was verified.
    Whole,
    /// The body must have this SHA-256.
    Sha256([u8; 32]),
    /// The body is in chunks.
    Chunked(Box<Framing>),
}

/// Verifies signatures for one node.
#[derive(Debug)]
pub struct Verifier {
    region: Region,
    keys: KeyCache,
}

impl Verifier {
    /// A verifier for a node of that region.
    pub fn new(region: Region) -> Self {
        Self { region, keys: KeyCache::new(CACHED_KEYS) }
    }

    /// Verifies everything that needs no secret: region, date, clock. Asked first, so that a wrong clock is
    /// not reported as a wrong key.
    pub fn precheck(&self, presented: &Presented<'_>, now: Timestamp) -> Result<(), Failure> {
        let source = presented.source;
        let at_home = presented.region == self.region.as_str();
        let global = presented.region == "us-east-1" && GLOBAL.contains(&presented.service());
        if !at_home && !global {
            let (given, expected) = (presented.region.to_string(), self.region.to_string());
            return Err(Failure::WrongRegion { source, given, expected });
        }
        if !presented.amz_date.starts_with(&*presented.date) {
            let (given, amz_date) = (presented.date.to_string(), presented.amz_date.to_string());
            return Err(Failure::WrongDate { source, given, amz_date });
        }
        let age = now.as_second() - presented.time.as_second();
        match presented.expires_seconds {
            None if age.abs() > MAX_SKEW_SECONDS => Err(Failure::Skewed { request: presented.time, now }),
            None => Ok(()),
            Some(_) if age < -MAX_SKEW_SECONDS => Err(Failure::NotYetValid),
            Some(expires_seconds) if age > expires_seconds => {
                Err(Failure::Expired { request: presented.time, expires_seconds, now })
            }
            Some(_) => Ok(()),
        }
    }

    /// Verifies the signature against the key's credential. `body_sha256` is needed where
    /// [`Presented::payload`] is [`Payload::FromBody`].
    pub fn verify(
        &self,
        presented: &Presented<'_>,
        head: &Parts,
        credential: &Credential,
        now: Timestamp,
        body_sha256: Option<&[u8; 32]>,
    ) -> Result<Verified, Failure> {
        session_token_matches(credential, presented.session_token(), now)?;
        let s3 = presented.service == "s3";
        check_signed(head, &presented.signed_headers, s3)?;

        let hash = body_sha256.map(hex64);
        let payload = match (&presented.content_sha256, &hash) {
            (Some(named), _) => &**named,
            (None, Some(hash)) => hex_str(hash),
            (None, None) => super::EMPTY_SHA256,
        };
        let canonical = Canonical {
            method: head.method.as_str(),
            path: head.uri.path(),
            query: head.uri.query().unwrap_or(""),
            headers: &head.headers,
            authority: head.uri.authority().map_or("", |a| a.as_str()),
            signed_headers: &presented.signed_headers,
            payload,
            s3,
        }
        .to_bytes();
        let scope = presented.scope();
        let to_sign = string_to_sign(&presented.amz_date, &scope, &canonical);
        let key = self.keys.get(
            presented.access_key_id(),
            &credential.secret_access_key,
            &presented.date,
            &presented.region,
            presented.service(),
        );
        let signature = hex64(&key.sign(to_sign.as_bytes()));
        if !bool::from(signature.as_slice().ct_eq(presented.signature.as_bytes())) {
            return Err(Failure::Mismatch(Box::new(Mismatch {
                access_key_id: presented.access_key_id.to_string(),
                string_to_sign: to_sign,
                signature: presented.signature.to_string(),
                canonical_request: String::from_utf8_lossy(&canonical).into_owned(),
            })));
        }
        Ok(match presented.payload() {
            Payload::Unsigned | Payload::FromBody => Verified::Whole,
            Payload::Sha256(hash) => Verified::Sha256(hash),
            Payload::Chunked { signed, trailer } => {
                let key = signed.then(|| ChunkKey {
                    key,
                    amz_date: presented.amz_date.to_string(),
                    scope,
                    previous: signature,
                });
                Verified::Chunked(Box::new(Framing { key, trailer }))
            }
        })
    }
}

/// What changes the meaning of a request must be signed: for S3 every `x-amz-*` header, for others the
/// operation's name.
fn check_signed(head: &Parts, signed_headers: &str, s3: bool) -> Result<(), Failure> {
    let is_signed = |name: &str| signed_headers.split(';').any(|signed| signed == name);
    let needs = |name: &str| if s3 { name.starts_with("x-amz-") } else { name == "x-amz-target" };
    let mut names = head.headers.keys().map(http::HeaderName::as_str).filter(|n| needs(n) && !is_signed(n));
    match names.next() {
        None => Ok(()),
        Some(first) => {
            let names = names.fold(first.to_owned(), |all, name| all + ", " + name);
            Err(Failure::UnsignedHeaders { names })
        }
    }
}

/// Whether a key comes with its token and has not ended.
pub(crate) fn session_token_matches(
    credential: &Credential,
    given: Option<&str>,
    now: Timestamp,
) -> Result<(), Failure> {
    match (&credential.session_token, given) {
        (None, None) => {}
        (Some(held), Some(given)) if bool::from(held.as_bytes().ct_eq(given.as_bytes())) => {}
        _ => return Err(Failure::InvalidToken),
    }
    if credential.expires_at.is_some_and(|end| end <= now) {
        return Err(Failure::ExpiredToken);
    }
    Ok(())
}

/// Takes the signature out of a request that is verified: services never see it.
pub fn strip(head: &mut Parts, source: Source) {
    const GONE: [&str; 8] = [
        "X-Amz-Algorithm",
        "X-Amz-Content-Sha256",
        "X-Amz-Credential",
        "X-Amz-Date",
        "X-Amz-Expires",
        "X-Amz-Security-Token",
        "X-Amz-Signature",
        "X-Amz-SignedHeaders",
    ];
    match source {
        Source::Header => drop(head.headers.remove(http::header::AUTHORIZATION)),
        Source::Query => retain_query(head, |name| !GONE.contains(&name)),
    }
    // The token is a secret, and says nothing to a service.
    head.headers.remove("x-amz-security-token");
}

/// Whether a parameter says what the checksum of a body is. The AWS SDK for JavaScript puts that of no bytes into
/// each URL that it presigns, long before there is a body; S3 does not look at it.
fn is_body_digest(name: &str) -> bool {
    const DIGESTS: [&str; 6] = [
        "x-amz-checksum-crc32",
        "x-amz-checksum-crc32c",
        "x-amz-checksum-crc64nvme",
        "x-amz-checksum-sha1",
        "x-amz-checksum-sha256",
        "x-amz-sdk-checksum-algorithm",
    ];
    DIGESTS.iter().any(|digest| digest.eq_ignore_ascii_case(name))
}

/// Keeps the parameters of a presigned URL that are not its signature. Those that stand for a header
/// (`x-amz-acl`), as some clients write them, become that header.
pub(crate) fn retain_query(head: &mut Parts, keep: impl Fn(&str) -> bool) {
    let uri = std::mem::take(&mut head.uri);
    let mut kept = Vec::new();
    for pair in uri.query().unwrap_or("").split('&') {
        let Some((name, value)) = pairs(pair).next().filter(|(name, _)| keep(name)) else { continue };
        if !name.to_ascii_lowercase().starts_with("x-amz-") {
            kept.push(pair);
            continue;
        }
        // What was said of the body has been looked at, or is not to be believed.
        if is_body_digest(name) || name.eq_ignore_ascii_case("x-amz-content-sha256") {
            continue;
        }
        let value: Vec<u8> = percent_decode_str(value).collect();
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            head.headers.entry(name).or_insert(value);
        }
    }
    let path = uri.path();
    let text = if kept.is_empty() { path.to_owned() } else { format!("{path}?{}", kept.join("&")) };
    head.headers.remove("x-amz-security-token");
    let path = PathAndQuery::try_from(text).expect("a part of a URI that was parsed is one too");
    let mut parts = uri.into_parts();
    parts.path_and_query = Some(path);
    head.uri = Uri::from_parts(parts).expect("only its path has changed");
}

impl Presented<'_> {
    /// When it was made.
    pub fn time(&self) -> Timestamp {
        self.time
    }

    /// Where it was found, for [`strip`].
    pub fn source(&self) -> Source {
        self.source
    }
}
