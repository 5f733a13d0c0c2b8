//! A signature as a request presents it.
//!
//! Invariant: everything here is what the client claims; nothing is verified but its form.

use std::borrow::Cow;

use http::HeaderMap;
use http::request::Parts;
use percent_encoding::percent_decode_str;
use types::Timestamp;

use super::canonical::pairs;
use super::{ALGORITHM, Failure, MAX_EXPIRES_SECONDS, UNSIGNED_PAYLOAD, parse_amz_date};

/// Where a signature was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// In `Authorization`.
    Header,
    /// In the query: a presigned URL.
    Query,
}

impl Payload {
    /// The same in the words of `x-amz-content-sha256`; nothing if no header said it.
    pub fn named(self) -> Option<String> {
        Some(match self {
            Self::Sha256(hash) => hash.iter().map(|byte| format!("{byte:02x}")).collect(),
            Self::FromBody => return None,
            Self::Unsigned => UNSIGNED_PAYLOAD.to_owned(),
            Self::Chunked { signed: true, trailer: false } => "STREAMING-AWS4-HMAC-SHA256-PAYLOAD".to_owned(),
            Self::Chunked { signed: true, trailer: true } => {
                "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER".to_owned()
            }
            Self::Chunked { signed: false, .. } => "STREAMING-UNSIGNED-PAYLOAD-TRAILER".to_owned(),
        })
    }
}

/// How the body takes part in the signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload {
    /// By its SHA-256, which the request names: it is checked as the body is read.
    Sha256([u8; 32]),
    /// By its SHA-256, which the request does not name: the body must be read first.
    FromBody,
    /// Not at all.
    Unsigned,
    /// It is `aws-chunked`.
    Chunked {
        /// Each chunk is signed.
        signed: bool,
        /// Headers follow the last chunk.
        trailer: bool,
    },
}

/// A signature and what it says of itself.
#[derive(Debug, Clone)]
pub struct Presented<'a> {
    pub(crate) source: Source,
    pub(crate) access_key_id: Cow<'a, str>,
    pub(crate) date: Cow<'a, str>,
    pub(crate) region: Cow<'a, str>,
    pub(crate) service: Cow<'a, str>,
    pub(crate) signed_headers: Cow<'a, str>,
    pub(crate) signature: Cow<'a, str>,
    pub(crate) amz_date: Cow<'a, str>,
    pub(crate) time: Timestamp,
    pub(crate) expires_seconds: Option<i64>,
    pub(crate) session_token: Option<Cow<'a, str>>,
    /// The payload's place in the canonical request; `None` if that is the hash of the body to be read.
    pub(crate) content_sha256: Option<Cow<'a, str>>,
    pub(crate) payload: Payload,
}

impl<'a> Presented<'a> {
    /// Reads a request's signature; `None` if it has none.
    pub fn read(head: &'a Parts) -> Result<Option<Self>, Failure> {
        let authorization = head.headers.get(http::header::AUTHORIZATION);
        let query = head.uri.query().unwrap_or("");
        let presigned = query.contains("X-Amz-")
            && pairs(query)
                .any(|(name, _)| matches!(name, "X-Amz-Algorithm" | "X-Amz-Signature" | "X-Amz-Credential"));
        let read = match (authorization, presigned) {
            (None, false) => return Ok(None),
            (Some(_), true) => return Err(Failure::TwoMechanisms),
            (Some(value), false) => {
                let text = value.to_str().map_err(|_| malformed(Source::Header, "it is not ASCII"))?;
                Self::from_header(text, &head.headers)?
            }
            (None, true) => Self::from_query(query, &head.headers)?,
        };
        Ok(Some(read))
    }

    /// The service it is for, by which requests are routed.
    pub fn service(&self) -> &str {
        &self.service
    }

    /// The key that signed.
    pub fn access_key_id(&self) -> &str {
        &self.access_key_id
    }

    /// The token of a temporary key.
    pub fn session_token(&self) -> Option<&str> {
        self.session_token.as_deref()
    }

    /// How the body takes part.
    pub fn payload(&self) -> Payload {
        self.payload
    }

    /// `date/region/service/aws4_request`.
    pub(crate) fn scope(&self) -> String {
        [&*self.date, &*self.region, &*self.service, "aws4_request"].join("/")
    }

    fn from_header(text: &'a str, headers: &'a HeaderMap) -> Result<Self, Failure> {
        const SOURCE: Source = Source::Header;
        let (algorithm, rest) = text.trim().split_once(' ').unwrap_or((text, ""));
        if algorithm != ALGORITHM {
            return Err(Failure::UnsupportedAuthorization { value: text.chars().take(64).collect() });
        }
        let (mut credential, mut signed_headers, mut signature) = (None, None, None);
        for part in rest.split(',') {
            match part.trim().split_once('=') {
                Some(("Credential", value)) => credential = Some(value),
                Some(("SignedHeaders", value)) => signed_headers = Some(value),
                Some(("Signature", value)) => signature = Some(value),
                _ => return Err(malformed(SOURCE, "it holds something other than key=value pairs")),
            }
        }
        let credential = credential.ok_or_else(|| missing("Credential"))?;
        let signed_headers = signed_headers.ok_or_else(|| missing("SignedHeaders"))?;
        let signature = signature.ok_or_else(|| missing("Signature"))?;
        let [access_key_id, date, region, service] = split_credential(credential, SOURCE)?;
        let (amz_date, time) = header_date(headers)?;
        let (content_sha256, payload) = payload(headers, service, SOURCE, None)?;
        Ok(Self {
            source: SOURCE,
            access_key_id: access_key_id.into(),
            date: date.into(),
            region: region.into(),
            service: service.into(),
            signed_headers: checked_headers(signed_headers.into(), SOURCE)?,
            signature: signature.into(),
            amz_date,
            time,
            expires_seconds: None,
            session_token: text_header(headers, "x-amz-security-token").map(Cow::Borrowed),
            content_sha256,
            payload,
        })
    }

    fn from_query(query: &'a str, headers: &'a HeaderMap) -> Result<Self, Failure> {
        const SOURCE: Source = Source::Query;
        let find = |wanted: &str| {
            let (_, value) = pairs(query).find(|(name, _)| *name == wanted)?;
            percent_decode_str(value).decode_utf8().ok()
        };
        let require = |name: &str| {
            find(name).ok_or_else(|| {
                malformed(
                    SOURCE,
                    "Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential, \
                     X-Amz-Signature, X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters.",
                )
            })
        };
        if require("X-Amz-Algorithm")? != ALGORITHM {
            return Err(malformed(SOURCE, "X-Amz-Algorithm only supports \"AWS4-HMAC-SHA256\""));
        }
        let credential = require("X-Amz-Credential")?;
        let signature = require("X-Amz-Signature")?;
        let amz_date = require("X-Amz-Date")?;
        let signed_headers = require("X-Amz-SignedHeaders")?;
        let expires = require("X-Amz-Expires")?;
        let time = parse_amz_date(&amz_date).ok_or_else(|| {
            malformed(SOURCE, "X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\"")
        })?;
        let expires_seconds = match expires.parse::<i64>() {
            Err(_) => return Err(malformed(SOURCE, "X-Amz-Expires should be a number")),
            Ok(..=-1) => return Err(malformed(SOURCE, "X-Amz-Expires must be non-negative")),
            Ok(0) => return Err(malformed(SOURCE, "X-Amz-Expires must be at least one second")),
            Ok(seconds) if seconds > MAX_EXPIRES_SECONDS => {
                return Err(malformed(
                    SOURCE,
                    "X-Amz-Expires must be less than a week (in seconds); that is, the given X-Amz-Expires must \
                     be less than 604800 seconds",
                ));
            }
            Ok(seconds) => seconds,
        };
        let [access_key_id, date, region, service] = match &credential {
            Cow::Borrowed(text) => split_credential(text, SOURCE)?.map(Cow::Borrowed),
            Cow::Owned(text) => split_credential(text, SOURCE)?.map(|part| Cow::Owned(part.to_owned())),
        };
        let (content_sha256, payload) = payload(headers, &service, SOURCE, find("X-Amz-Content-Sha256"))?;
        Ok(Self {
            source: SOURCE,
            access_key_id,
            date,
            region,
            service,
            signed_headers: checked_headers(signed_headers, SOURCE)?,
            signature,
            amz_date,
            time,
            expires_seconds: Some(expires_seconds),
            session_token: find("X-Amz-Security-Token"),
            content_sha256,
            payload,
        })
    }
}

fn malformed(source: Source, message: &str) -> Failure {
    Failure::Malformed { source, message: message.to_owned() }
}

fn missing(part: &str) -> Failure {
    malformed(Source::Header, &format!("Authorization header requires '{part}' parameter."))
}

fn text_header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn split_credential(credential: &str, source: Source) -> Result<[&str; 4], Failure> {
    let refuse = || {
        let message = "the Credential is mal-formed; expecting \
                       \"<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request\".";
        malformed(source, message)
    };
    // From the right: keys of other makers may hold slashes.
    let mut parts = credential.rsplitn(5, '/');
    let mut next = || parts.next().filter(|part| !part.is_empty()).ok_or_else(refuse);
    let (end, service, region, date, access_key_id) = (next()?, next()?, next()?, next()?, next()?);
    let is_date = date.len() == 8 && date.bytes().all(|b| b.is_ascii_digit());
    if end != "aws4_request" || !is_date {
        return Err(refuse());
    }
    Ok([access_key_id, date, region, service])
}

fn checked_headers(list: Cow<'_, str>, source: Source) -> Result<Cow<'_, str>, Failure> {
    if list.split(';').any(|name| name == "host") {
        Ok(list)
    } else {
        Err(malformed(source, "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization."))
    }
}

/// `x-amz-date`, else `Date`.
fn header_date(headers: &HeaderMap) -> Result<(Cow<'_, str>, Timestamp), Failure> {
    if let Some(text) = text_header(headers, "x-amz-date") {
        let time = parse_amz_date(text).ok_or(Failure::NoDate)?;
        return Ok((text.into(), time));
    }
    let text = text_header(headers, "date").ok_or(Failure::NoDate)?;
    if let Some(time) = parse_amz_date(text) {
        return Ok((text.into(), time));
    }
    let time =
        jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).map_err(|_| Failure::NoDate)?;
    Ok((super::format_amz_date(time).into(), time))
}

type ContentHash<'a> = (Option<Cow<'a, str>>, Payload);

/// What `x-amz-content-sha256` says of the body. Only S3 has the forms that are not a hash; other services
/// are sent the hash by some clients and none by others.
fn payload<'a>(
    headers: &'a HeaderMap,
    service: &str,
    source: Source,
    in_query: Option<Cow<'a, str>>,
) -> Result<ContentHash<'a>, Failure> {
    let named = text_header(headers, "x-amz-content-sha256").map(Cow::Borrowed).or(in_query);
    let hash = named.as_deref().and_then(|text| {
        let mut hash = [0; 32];
        hex::decode_to_slice(text, &mut hash).ok().map(|()| hash)
    });
    if let Some(hash) = hash {
        return Ok((named, Payload::Sha256(hash)));
    }
    if service != "s3" {
        return Ok((None, Payload::FromBody));
    }
    let payload = match named.as_deref() {
        None if source == Source::Query => return Ok((Some(UNSIGNED_PAYLOAD.into()), Payload::Unsigned)),
        None => return Err(Failure::NoContentSha256),
        Some(UNSIGNED_PAYLOAD) => Payload::Unsigned,
        Some("STREAMING-AWS4-HMAC-SHA256-PAYLOAD") => Payload::Chunked { signed: true, trailer: false },
        Some("STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER") => {
            Payload::Chunked { signed: true, trailer: true }
        }
        Some("STREAMING-UNSIGNED-PAYLOAD-TRAILER") => Payload::Chunked { signed: false, trailer: true },
        Some(other) => return Err(Failure::BadContentSha256 { value: other.chars().take(128).collect() }),
    };
    Ok((named, payload))
}
