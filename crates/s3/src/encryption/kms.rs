//! SSE-KMS: data keys that are made, sealed and opened under keys of KMS (Amazon S3 user guide, "Using server-side
//! encryption with AWS KMS keys").
//!
//! Invariant: nobody seals or opens an object who may not use its key, since KMS is asked in the caller's name each
//! time. With a bucket key a data key is bound to the bucket rather than to the object, as on AWS; it is not kept any
//! longer than without.

use std::collections::BTreeMap;

use aws::KeyUse;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::{HeaderMap, HeaderValue};
use serde::{Deserialize, Serialize};
use types::{ErrorKind, Principal};

use super::{ALGORITHM, Bits, DataKey, Encryption, Means, Seal};
use crate::Error;

const KEY_ID: &str = "x-amz-server-side-encryption-aws-kms-key-id";
const CONTEXT: &str = "x-amz-server-side-encryption-context";
const BUCKET_KEY: &str = "x-amz-server-side-encryption-bucket-key-enabled";
/// The pair that every object's data key is bound to.
const ARN: &str = "aws:s3:arn";

/// How an object is sealed that is under a key of KMS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UnderKey {
    /// The ARN of the key.
    #[serde(rename = "k")]
    pub(crate) key_arn: String,
    /// The data key, as KMS sealed it, in base64.
    #[serde(rename = "d")]
    sealed: String,
    /// What it is bound to.
    #[serde(rename = "c")]
    context: BTreeMap<String, String>,
    #[serde(rename = "b", default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) bucket_key: bool,
}

/// The key that a request asks for, or that a bucket has for those that ask for none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AskedKey {
    /// Its id, ARN or alias; `None`: the account's own for S3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) bucket_key: Option<bool>,
    /// What the request wants a data key to be bound to besides its object.
    #[serde(skip)]
    context: BTreeMap<String, String>,
}

/// Refuses what goes with a key of KMS where none is asked for.
pub(super) fn refuse_without(headers: &HeaderMap) -> Result<(), Error> {
    for name in [KEY_ID, CONTEXT] {
        if let Some(value) = headers.get(name) {
            return Err(Error::argument(
                name,
                value.to_str().unwrap_or_default(),
                "Server Side Encryption with AWS KMS managed key requires HTTP header x-amz-server-side-encryption : aws:kms",
            ));
        }
    }
    Ok(())
}

/// What a request says of bucket keys.
pub(super) fn bucket_key(headers: &HeaderMap) -> Result<Option<bool>, Error> {
    match headers.get(BUCKET_KEY).map(|value| value.to_str().unwrap_or_default()) {
        None => Ok(None),
        Some(text) if text.eq_ignore_ascii_case("true") => Ok(Some(true)),
        Some(text) if text.eq_ignore_ascii_case("false") => Ok(Some(false)),
        Some(other) => Err(Error::argument(BUCKET_KEY, other, format!("{BUCKET_KEY} is true or false"))),
    }
}

/// Refuses a bucket key where there is none of KMS that it would be for.
pub(super) fn refuse_bucket_key(asked: Option<bool>) -> Result<(), Error> {
    match asked {
        Some(true) => Err(Error::argument(
            BUCKET_KEY,
            "true",
            "A bucket key is for objects that are encrypted with aws:kms",
        )),
        Some(false) | None => Ok(()),
    }
}

impl AskedKey {
    /// The key of a bucket's configuration.
    pub(crate) fn of_bucket(key: Option<String>, bucket_key: bool) -> Self {
        Self { key, bucket_key: Some(bucket_key), context: BTreeMap::new() }
    }

    pub(super) fn read(headers: &HeaderMap) -> Result<Self, Error> {
        let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
        let context = match text(CONTEXT) {
            None => BTreeMap::new(),
            Some(text) => {
                let bytes = BASE64.decode(text).ok();
                bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).ok_or_else(|| {
                    let message = "The header \'x-amz-server-side-encryption-context\' shall be Base64-encoded UTF-8 string holding JSON which represents a string-string map";
                    Error::argument(CONTEXT, text, message)
                })?
            }
        };
        Ok(Self { key: text(KEY_ID).map(str::to_owned), bucket_key: bucket_key(headers)?, context })
    }

    /// The same, with what a bucket says of bucket keys where the request says nothing. The bucket's own key is for
    /// requests that ask for none at all.
    pub(super) fn or(self, usual: Option<&Self>) -> Self {
        Self { bucket_key: self.bucket_key.or(usual.and_then(|usual| usual.bucket_key)), ..self }
    }

    /// The same, as a request wants it that says something of bucket keys alone.
    pub(super) fn with_bucket_key(&self, asked: Option<bool>) -> Self {
        Self { bucket_key: asked.or(self.bucket_key), ..self.clone() }
    }

    /// A seal that no object has had before.
    pub(super) async fn seal(&self, means: Means<'_>, object_arn: &str) -> Result<Seal, Error> {
        check_signed(means)?;
        let bucket_key = self.bucket_key.unwrap_or(false);
        let bucket_arn = object_arn.split_once('/').map_or(object_arn, |(bucket, _)| bucket);
        let mut context = self.context.clone();
        context.insert(ARN.to_owned(), if bucket_key { bucket_arn } else { object_arn }.to_owned());
        let pairs: Vec<_> = context.clone().into_iter().collect();
        let usage = KeyUse { caller: means.caller, service: "s3", context: &pairs };
        let made = means.keys.generate(&usage, self.key.as_deref()).await.map_err(failure)?;
        let sealed = BASE64.encode(&made.sealed);
        let under = UnderKey { key_arn: made.key_arn, sealed, context, bucket_key };
        Ok(Seal { encryption: Encryption::Kms(Box::new(under)), key: DataKey(Bits(made.plaintext)) })
    }
}

impl UnderKey {
    /// The data key, if the caller may use the key that it is under.
    pub(super) async fn open(&self, means: Means<'_>) -> Result<DataKey, Error> {
        check_signed(means)?;
        let pairs: Vec<_> = self.context.clone().into_iter().collect();
        let usage = KeyUse { caller: means.caller, service: "s3", context: &pairs };
        let damaged =
            |_| store::Error::Corrupt { table: "objects", reason: "a data key is not base64".into() };
        let sealed = BASE64.decode(&self.sealed).map_err(damaged)?;
        let opened = means.keys.open(&usage, &sealed).await.map_err(failure)?;
        Ok(DataKey(Bits(opened)))
    }

    pub(super) fn show(&self, answer: &mut HeaderMap) {
        answer.insert(ALGORITHM, HeaderValue::from_static("aws:kms"));
        if let Ok(arn) = HeaderValue::from_str(&self.key_arn) {
            answer.insert(KEY_ID, arn);
        }
        if self.bucket_key {
            answer.insert(BUCKET_KEY, HeaderValue::from_static("true"));
        }
    }
}

/// KMS knows nobody who did not sign.
fn check_signed(means: Means<'_>) -> Result<(), Error> {
    if means.caller.principal == Principal::Anonymous {
        return Err(Error::argument(
            "Authorization",
            "null",
            "Requests specifying Server Side Encryption with AWS KMS managed keys require AWS Signature Version 4.",
        ));
    }
    Ok(())
}

/// What S3 says where KMS refuses.
fn failure(error: aws::Error) -> Error {
    match error.kind {
        ErrorKind::Denied => Error::Denied(error.message),
        ErrorKind::Unavailable | ErrorKind::Internal | ErrorKind::Throttled | ErrorKind::Timeout => {
            Error::Body(aws::Error::new(
                ErrorKind::Unavailable,
                "ServiceUnavailable",
                "Reduce your request rate.",
            ))
        }
        ErrorKind::Invalid
        | ErrorKind::NotFound
        | ErrorKind::Conflict
        | ErrorKind::PreconditionFailed
        | ErrorKind::Unauthenticated
        | ErrorKind::TooLarge
        | ErrorKind::Unsupported => {
            Error::Kms { code: format!("KMS.{}", error.code), message: error.message }
        }
    }
}
