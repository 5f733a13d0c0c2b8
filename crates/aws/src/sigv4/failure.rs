//! Why a request is not let in, in the words of the service that was asked.
//!
//! Sources: Amazon S3 API reference, "Error responses"; IAM API reference and DynamoDB developer guide,
//! "Common errors".

use jiff::SignedDuration;
use types::{ErrorKind, Timestamp};

use super::{MAX_SKEW_SECONDS, Source, format_amz_date};
use crate::{Error, Protocol};

/// The parts of a signature that did not match, which S3 shows so that a client's author can compare.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// The key.
    pub access_key_id: String,
    /// What should have been signed.
    pub string_to_sign: String,
    /// What came.
    pub signature: String,
    /// The canonical request, lossily as text; empty for Version 2, which has none.
    pub canonical_request: String,
}

/// Why a signature was refused.
#[derive(Debug, Clone, PartialEq)]
pub enum Failure {
    /// There is no signature, and one is needed.
    Missing,
    /// `Authorization` holds something else than a Version 4 signature.
    UnsupportedAuthorization {
        /// Its beginning.
        value: String,
    },
    /// Both `Authorization` and a presigned query.
    TwoMechanisms,
    /// A signature that cannot be read.
    Malformed {
        /// Where.
        source: Source,
        /// What is wrong.
        message: String,
    },
    /// Neither `x-amz-date` nor `Date`.
    NoDate,
    /// No such key, or an inactive one.
    UnknownKey {
        /// The key.
        access_key_id: String,
    },
    /// A token that is not this key's.
    InvalidToken,
    /// A temporary key that has ended.
    ExpiredToken,
    /// The scope names another region.
    WrongRegion {
        /// Where the signature was.
        source: Source,
        /// The region it names.
        given: String,
        /// The node's.
        expected: String,
    },
    /// The scope's date is not the day of the request's.
    WrongDate {
        /// Where the signature was.
        source: Source,
        /// The scope's date.
        given: String,
        /// The request's time.
        amz_date: String,
    },
    /// The request's clock is off by more than 15 minutes.
    Skewed {
        /// When it says it was made.
        request: Timestamp,
        /// When it came.
        now: Timestamp,
    },
    /// A presigned URL that has expired.
    Expired {
        /// When it was made.
        request: Timestamp,
        /// For how long it was good.
        expires_seconds: i64,
        /// When it came.
        now: Timestamp,
    },
    /// A presigned URL from the future.
    NotYetValid,
    /// Headers that must be signed and are not.
    UnsignedHeaders {
        /// Their names, joined by `, `.
        names: String,
    },
    /// S3 needs `x-amz-content-sha256`.
    NoContentSha256,
    /// `x-amz-content-sha256` is neither a hash nor one of the words for it.
    BadContentSha256 {
        /// What it is.
        value: String,
    },
    /// The signature does not match.
    Mismatch(Box<Mismatch>),
}

const MISMATCH: &str = "The request signature we calculated does not match the signature you provided. Check your \
                        AWS Secret Access Key and signing method. Consult the service documentation for details.";

impl Failure {
    /// A key that is not known, with the token that came with it: where there is one, it is at fault.
    pub fn unknown(access_key_id: &str, token: Option<&str>) -> Self {
        match token {
            Some(_) => Self::InvalidToken,
            None => Self::UnknownKey { access_key_id: access_key_id.to_owned() },
        }
    }

    /// The error as a service of that protocol words it.
    pub fn into_error(self, protocol: Protocol) -> Error {
        match protocol {
            Protocol::RestXml => self.into_s3(),
            Protocol::Query => self.into_common(&QUERY),
            Protocol::Json10 | Protocol::Json11 => self.into_common(&JSON),
            Protocol::RestJson => self.into_common(&REST_JSON),
        }
    }

    fn into_s3(self) -> Error {
        use ErrorKind::{Denied, Invalid, Unauthenticated};
        match self {
            Self::Missing => Error::new(Denied, "AccessDenied", "Access Denied"),
            Self::UnsupportedAuthorization { value } if value.starts_with("AWS ") => invalid_request(
                "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256.",
            ),
            Self::UnsupportedAuthorization { value } => {
                Error::new(Invalid, "InvalidArgument", "Unsupported Authorization Type")
                    .with_field("ArgumentName", "Authorization")
                    .with_field("ArgumentValue", value)
            }
            Self::TwoMechanisms => Error::new(
                Invalid,
                "InvalidArgument",
                "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query string \
                 parameter or the Authorization header should be specified",
            ),
            Self::Malformed { source: Source::Header, message } => Error::new(
                Invalid,
                "AuthorizationHeaderMalformed",
                format!("The authorization header is malformed; {message}"),
            ),
            Self::Malformed { source: Source::Query, message } => {
                Error::new(Invalid, "AuthorizationQueryParametersError", message)
            }
            Self::NoDate => Error::new(
                Denied,
                "AccessDenied",
                "AWS authentication requires a valid Date or x-amz-date header",
            ),
            Self::UnknownKey { access_key_id } => Error::new(
                Unauthenticated,
                "InvalidAccessKeyId",
                "The AWS Access Key Id you provided does not exist in our records.",
            )
            .with_field("AWSAccessKeyId", access_key_id),
            Self::InvalidToken => Error::new(
                Invalid,
                "InvalidToken",
                "The provided token is malformed or otherwise invalid.",
            ),
            Self::ExpiredToken => Error::new(Invalid, "ExpiredToken", "The provided token has expired."),
            Self::WrongRegion { source, given, expected } => {
                s3_scope(source, &format!("the region '{given}' is wrong; expecting '{expected}'"))
                    .with_field("Region", expected)
            }
            Self::WrongDate { source, given, amz_date } => s3_scope(
                source,
                &format!(
                    "Invalid credential date \"{given}\". This date is not the same as X-Amz-Date: \"{}\".",
                    &amz_date[..8]
                ),
            ),
            Self::Skewed { request, now } => Error::new(
                Denied,
                "RequestTimeTooSkewed",
                "The difference between the request time and the current time is too large.",
            )
            .with_field("RequestTime", format_amz_date(request))
            .with_field("ServerTime", seconds(now))
            .with_field("MaxAllowedSkewMilliseconds", MAX_SKEW_SECONDS * 1000),
            Self::Expired { request, expires_seconds, now } => {
                let error = Error::new(Denied, "AccessDenied", "Request has expired");
                // Version 2 names the end only.
                let error = match expires_seconds {
                    0 => error,
                    seconds => error.with_field("X-Amz-Expires", seconds),
                };
                error
                    .with_field("Expires", seconds(request + SignedDuration::from_secs(expires_seconds)))
                    .with_field("ServerTime", seconds(now))
            }
            Self::NotYetValid => Error::new(Denied, "AccessDenied", "Request is not valid yet"),
            Self::UnsignedHeaders { names } => Error::new(
                Denied,
                "AccessDenied",
                "There were headers present in the request which were not signed",
            )
            .with_field("HeadersNotSigned", names),
            Self::NoContentSha256 => {
                invalid_request("Missing required header for this request: x-amz-content-sha256")
            }
            Self::BadContentSha256 { value } => Error::new(
                Invalid,
                "InvalidArgument",
                "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-UNSIGNED-PAYLOAD-TRAILER, \
                 STREAMING-AWS4-HMAC-SHA256-PAYLOAD, STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER or a valid sha256 \
                 value.",
            )
            .with_field("ArgumentName", "x-amz-content-sha256")
            .with_field("ArgumentValue", value),
            Self::Mismatch(mismatch) => {
                let Mismatch { access_key_id, string_to_sign, signature, canonical_request } = *mismatch;
                let string_bytes = spaced_hex(string_to_sign.as_bytes());
                let request_bytes = spaced_hex(canonical_request.as_bytes());
                let error = Error::new(
                    Denied,
                    "SignatureDoesNotMatch",
                    "The request signature we calculated does not match the signature you provided. Check your key \
                     and signing method.",
                )
                .with_field("AWSAccessKeyId", access_key_id)
                .with_field("StringToSign", string_to_sign)
                .with_field("SignatureProvided", signature)
                .with_field("StringToSignBytes", string_bytes);
                if canonical_request.is_empty() {
                    return error;
                }
                error
                    .with_field("CanonicalRequest", canonical_request)
                    .with_field("CanonicalRequestBytes", request_bytes)
            }
        }
    }

    /// The services that share one front door: JSON and Query, which differ in codes and statuses.
    fn into_common(self, codes: &Codes) -> Error {
        let refuse = |code: &'static str, message: String| {
            Error::new(ErrorKind::Unauthenticated, code, message).with_status(codes.status)
        };
        match self {
            Self::Missing => refuse(codes.missing, codes.missing_message.to_owned()),
            Self::UnsupportedAuthorization { value } => {
                let name = value.split(' ').next().unwrap_or_default().to_owned();
                refuse(codes.incomplete, format!("Unsupported AWS 'algorithm': '{name}'."))
            }
            Self::TwoMechanisms => {
                let message = "Only one of the Authorization header and the X-Amz-Algorithm query parameter may be \
                               given.";
                refuse(codes.incomplete, message.to_owned())
            }
            Self::Malformed { source: _, message } => refuse(codes.incomplete, message),
            Self::NoDate => refuse(
                codes.incomplete,
                "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header."
                    .to_owned(),
            ),
            Self::UnknownKey { .. } | Self::InvalidToken => {
                refuse(codes.unknown, "The security token included in the request is invalid.".to_owned())
            }
            Self::ExpiredToken => {
                refuse(codes.expired, "The security token included in the request is expired".to_owned())
            }
            Self::WrongRegion { source: _, given, expected } => refuse(
                codes.mismatch,
                format!(
                    "Credential should be scoped to a valid region, not '{given}': this node is region '{expected}'."
                ),
            ),
            Self::WrongDate { source: _, given, amz_date } => refuse(
                codes.mismatch,
                format!(
                    "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: \
                     '{given}' != '{}', from '{amz_date}'.",
                    &amz_date[..8]
                ),
            ),
            Self::Skewed { request, now } => {
                let skew = SignedDuration::from_secs(MAX_SKEW_SECONDS);
                let (at, server) = (format_amz_date(request), format_amz_date(now));
                let message = if request < now {
                    let edge = format_amz_date(now - skew);
                    format!("Signature expired: {at} is now earlier than {edge} ({server} - 15 min.)")
                } else {
                    let edge = format_amz_date(now + skew);
                    format!("Signature not yet current: {at} is still later than {edge} ({server} + 15 min.)")
                };
                refuse(codes.mismatch, message)
            }
            Self::Expired { request, expires_seconds, now } => {
                let end = request + SignedDuration::from_secs(expires_seconds);
                let (end, now) = (format_amz_date(end), format_amz_date(now));
                refuse(codes.mismatch, format!("Signature expired: {end} is now earlier than {now}"))
            }
            Self::NotYetValid => refuse(codes.mismatch, "Signature not yet current".to_owned()),
            Self::UnsignedHeaders { names } => {
                let message = format!("'{names}' must be a 'SignedHeader' in the AWS Authorization.");
                refuse(codes.incomplete, message)
            }
            Self::NoContentSha256 => refuse(
                codes.incomplete,
                "The request must contain the header x-amz-content-sha256.".to_owned(),
            ),
            Self::BadContentSha256 { value } => {
                refuse(codes.incomplete, format!("'{value}' is not a valid x-amz-content-sha256."))
            }
            Self::Mismatch(_) => refuse(codes.mismatch, MISMATCH.to_owned()),
        }
    }
}

struct Codes {
    status: u16,
    missing: &'static str,
    missing_message: &'static str,
    incomplete: &'static str,
    unknown: &'static str,
    expired: &'static str,
    mismatch: &'static str,
}

const JSON: Codes = Codes {
    status: 400,
    missing: "MissingAuthenticationTokenException",
    missing_message: "Missing Authentication Token",
    incomplete: "IncompleteSignatureException",
    unknown: "UnrecognizedClientException",
    expired: "ExpiredTokenException",
    mismatch: "InvalidSignatureException",
};

const REST_JSON: Codes = Codes { status: 403, ..JSON };

const QUERY: Codes = Codes {
    status: 403,
    missing: "MissingAuthenticationToken",
    missing_message: "Request is missing Authentication Token",
    incomplete: "IncompleteSignature",
    unknown: "InvalidClientTokenId",
    expired: "ExpiredToken",
    mismatch: "SignatureDoesNotMatch",
};

fn invalid_request(message: &str) -> Error {
    Error::new(ErrorKind::Invalid, "InvalidRequest", message)
}

fn s3_scope(source: Source, problem: &str) -> Error {
    match source {
        Source::Header => Error::new(
            ErrorKind::Invalid,
            "AuthorizationHeaderMalformed",
            format!("The authorization header is malformed; {problem}"),
        ),
        Source::Query => Error::new(
            ErrorKind::Invalid,
            "AuthorizationQueryParametersError",
            format!("Error parsing the X-Amz-Credential parameter; {problem}"),
        ),
    }
}

fn seconds(time: Timestamp) -> String {
    Timestamp::from_second(time.as_second()).unwrap_or(time).to_string()
}

/// `47 45 54`, as S3 shows bytes.
fn spaced_hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() * 3);
    for (i, byte) in bytes.iter().enumerate() {
        if i > 0 {
            out.push(' ');
        }
        out.push_str(&hex::encode([*byte]));
    }
    out
}
