//! Encryption at rest: which key seals an object, and what requests and answers say of it (Amazon S3 user guide,
//! "Protecting data with encryption").
//!
//! Every object is sealed under a data key of its own, which is derived from 128 random bits in its row and either
//! the node's master key (SSE-S3, the default) or the key that the client sends along with every request
//! (SSE-C), of which nothing is kept but a salted digest; or which was made by KMS under a key there, and is kept as
//! KMS has sealed it (SSE-KMS, see `kms`). Each blob of an object is sealed under a key derived from
//! the data key and the blob's id.
//!
//! Invariant: keys are never stored beside what they seal, never logged, never answered.

mod cipher;
mod kms;
mod master;

use std::fmt;

use aws::{Caller, DataKeys};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use http::{HeaderMap, HeaderName, HeaderValue};
use ring::hmac::{self, HMAC_SHA256};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use types::Env;

use crate::Error;
use crate::checksum::Digests;
#[cfg(test)]
pub(crate) use cipher::stream_key;
pub(crate) use cipher::{CHUNK_BYTES, DoesNotOpen, StreamKey, TAG_BYTES, sealed_length, sealed_range};
pub(crate) use kms::{AskedKey, UnderKey};
pub use master::{KeyFileError, MasterKey};

const ALGORITHM: &str = "x-amz-server-side-encryption";
const CUSTOMER: &str = "x-amz-server-side-encryption-customer-";
const COPY_SOURCE_CUSTOMER: &str = "x-amz-copy-source-server-side-encryption-customer-";
const NOT_NEEDED: &str = "The encryption parameters are not applicable to this object.";
const NEEDED: &str = "The object was stored using a form of Server Side Encryption. The correct parameters must be provided to retrieve the object.";

/// `N` bytes that are not text.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bits<const N: usize>(pub(crate) [u8; N]);

// Some of them are keys.
impl<const N: usize> fmt::Debug for Bits<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bits")
    }
}

impl<const N: usize> Serialize for Bits<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64.encode(self.0))
    }
}

impl<'de, const N: usize> Deserialize<'de> for Bits<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        let bytes = BASE64.decode(text.as_bytes()).map_err(serde::de::Error::custom)?;
        bytes.try_into().map(Self).map_err(|_| serde::de::Error::custom("of another length"))
    }
}

/// How an object is sealed, as its row says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Encryption {
    /// SSE-S3: under the node's master key.
    #[serde(rename = "s")]
    Managed(Bits<16>),
    /// SSE-C: under the customer's key; `check` tells whether a key is that one.
    #[serde(rename = "c")]
    Customer {
        #[serde(rename = "s")]
        salt: Bits<16>,
        #[serde(rename = "v")]
        check: Bits<16>,
    },
    /// SSE-KMS: under a key of KMS.
    #[serde(rename = "k")]
    Kms(Box<UnderKey>),
}

fn derive(key: &[u8], purpose: &[u8], of: &[u8]) -> Bits<32> {
    let mut context = hmac::Context::with_key(&hmac::Key::new(HMAC_SHA256, key));
    context.update(purpose);
    context.update(of);
    Bits(context.sign().as_ref().try_into().expect("SHA-256 has 32 bytes"))
}

/// The key of one object, from which those of its streams are derived.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DataKey(Bits<32>);

impl DataKey {
    /// The key of the object's bytes where they are a row; they are `length`.
    pub(crate) fn of_row(&self, length: u64) -> StreamKey {
        StreamKey::new(&derive(&self.0.0, b"row", b""), length)
    }

    /// The key of a blob of `length` bytes, before it is sealed.
    pub(crate) fn of_blob(&self, id: blobs::BlobId, length: u64) -> StreamKey {
        StreamKey::new(&derive(&self.0.0, b"blob", &id.0), length)
    }
}

/// How new bytes are sealed.
#[derive(Debug, Clone)]
pub(crate) struct Seal {
    pub(crate) encryption: Encryption,
    pub(crate) key: DataKey,
}

/// The ETag of bytes that were sealed so. Under a customer's key or one of KMS it says nothing of them.
pub(crate) fn etag(seal: Option<&Seal>, digests: &Digests) -> String {
    match seal {
        Some(Seal { encryption: Encryption::Customer { .. } | Encryption::Kms(_), key }) => {
            hex::encode(&derive(&key.0.0, b"etag", &digests.md5).0[..16])
        }
        Some(Seal { encryption: Encryption::Managed(_), .. }) | None => digests.etag(),
    }
}

/// A customer's key, checked for what can be checked of it.
#[derive(Clone)]
pub(crate) struct CustomerKey {
    key: Bits<32>,
    md5: String,
}

impl CustomerKey {
    fn read(headers: &HeaderMap, prefix: &str) -> Result<Option<Self>, Error> {
        let text = |name| headers.get(format!("{prefix}{name}")).map(|v| v.to_str().unwrap_or_default());
        let (algorithm, key, md5) = (text("algorithm"), text("key"), text("key-md5"));
        if algorithm.is_none() && key.is_none() && md5.is_none() {
            return Ok(None);
        }
        let invalid = |name, what: &str| Error::argument(name, "null", what);
        let algorithm = algorithm.ok_or_else(|| {
            invalid(
                "x-amz-server-side-encryption-customer-algorithm",
                "Requests specifying Server Side Encryption with Customer provided keys must provide a valid encryption algorithm.",
            )
        })?;
        if algorithm != "AES256" {
            return Err(Error::InvalidEncryptionAlgorithm(algorithm.to_owned()));
        }
        let name = "x-amz-server-side-encryption-customer-key";
        let key = key.ok_or_else(|| {
            invalid(
                name,
                "Requests specifying Server Side Encryption with Customer provided keys must provide an appropriate secret key.",
            )
        })?;
        let md5_name = "x-amz-server-side-encryption-customer-key-MD5";
        let md5 = md5.ok_or_else(|| {
            invalid(
                md5_name,
                "Requests specifying Server Side Encryption with Customer provided keys must provide the client calculated MD5 of the secret key.",
            )
        })?;
        let padded = base64::engine::general_purpose::STANDARD;
        let bytes = padded.decode(key).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        let bytes =
            bytes.ok_or_else(|| invalid(name, "The secret key was invalid for the specified algorithm."))?;
        if padded.encode(fast_md5::digest(&bytes)) != md5 {
            return Err(invalid(
                md5_name,
                "The calculated MD5 hash of the key did not match the hash that was provided.",
            ));
        }
        Ok(Some(Self { key: Bits(bytes), md5: md5.to_owned() }))
    }

    /// The key of a request to read or to write an object.
    pub(crate) fn of_request(headers: &HeaderMap) -> Result<Option<Self>, Error> {
        Self::read(headers, CUSTOMER)
    }

    /// The key of the source of a copy.
    pub(crate) fn of_copy_source(headers: &HeaderMap) -> Result<Option<Self>, Error> {
        Self::read(headers, COPY_SOURCE_CUSTOMER)
    }

    fn seal(&self, env: &dyn Env) -> Seal {
        let salt = salt(env);
        Seal {
            encryption: Encryption::Customer { salt, check: self.check(&salt) },
            key: self.data_key(&salt),
        }
    }

    fn data_key(&self, salt: &Bits<16>) -> DataKey {
        DataKey(derive(&self.key.0, b"object", &salt.0))
    }

    fn check(&self, salt: &Bits<16>) -> Bits<16> {
        let check = derive(&self.key.0, b"check", &salt.0);
        Bits(*check.0.first_chunk().expect("16 of 32"))
    }
}

fn salt(env: &dyn Env) -> Bits<16> {
    let mut salt = Bits([0; 16]);
    env.fill(&mut salt.0);
    salt
}

/// A seal under the node's master key that no object has had before.
pub(crate) fn managed(master: &MasterKey, env: &dyn Env) -> Seal {
    let salt = salt(env);
    Seal { key: master.data_key(&salt), encryption: Encryption::Managed(salt) }
}

/// What a request says of how the object that it makes is to be sealed.
pub(crate) enum Asked {
    /// Nothing, but for bucket keys: as the bucket says.
    Default {
        /// Whether it wants one.
        bucket_key: Option<bool>,
    },
    /// `AES256`.
    Managed,
    /// With the customer's key.
    Customer(CustomerKey),
    /// With a key of KMS.
    Kms(AskedKey),
}

impl Asked {
    pub(crate) fn of_request(headers: &HeaderMap) -> Result<Self, Error> {
        let algorithm = headers.get(ALGORITHM).map(|value| value.to_str().unwrap_or_default());
        if let Some(key) = CustomerKey::of_request(headers)? {
            return match algorithm {
                None => Ok(Self::Customer(key)),
                Some(algorithm) => Err(Error::argument(
                    ALGORITHM,
                    algorithm,
                    "Server Side Encryption with Customer provided key is incompatible with the encryption method specified",
                )),
            };
        }
        match algorithm {
            Some("aws:kms") => Ok(Self::Kms(AskedKey::read(headers)?)),
            other => {
                kms::refuse_without(headers)?;
                let bucket_key = kms::bucket_key(headers)?;
                match other {
                    None => Ok(Self::Default { bucket_key }),
                    Some(_) => kms::refuse_bucket_key(bucket_key).map(|()| Self::Managed),
                }
            }
        }
    }

    /// A seal that no object has had before, for the object of that ARN in a bucket that seals so by default.
    pub(crate) async fn seal(
        self,
        means: Means<'_>,
        env: &dyn Env,
        object_arn: &str,
        usual: Option<&AskedKey>,
    ) -> Result<Seal, Error> {
        match (self, usual) {
            (Self::Managed, _) => Ok(managed(means.master, env)),
            (Self::Default { bucket_key }, None) => {
                kms::refuse_bucket_key(bucket_key).map(|()| managed(means.master, env))
            }
            (Self::Default { bucket_key }, Some(usual)) => {
                usual.with_bucket_key(bucket_key).seal(means, object_arn).await
            }
            (Self::Customer(key), _) => Ok(key.seal(env)),
            (Self::Kms(asked), usual) => asked.or(usual).seal(means, object_arn).await,
        }
    }
}

/// What a request can open what is sealed with.
#[derive(Clone, Copy)]
pub(crate) struct Means<'a> {
    pub(crate) master: &'a MasterKey,
    pub(crate) keys: &'a dyn DataKeys,
    /// Who must have the right to use a key.
    pub(crate) caller: &'a Caller,
    /// The key that came with the request.
    pub(crate) customer: Option<&'a CustomerKey>,
}

/// Refuses a request whose customer's key does not go with what is stored.
pub(crate) fn check_customer(
    encryption: Option<&Encryption>,
    customer: Option<&CustomerKey>,
) -> Result<(), Error> {
    match (encryption, customer) {
        (None | Some(Encryption::Managed(_) | Encryption::Kms(_)), None) => Ok(()),
        (None | Some(Encryption::Managed(_) | Encryption::Kms(_)), Some(_)) => {
            Err(Error::invalid_request(NOT_NEEDED))
        }
        (Some(Encryption::Customer { .. }), None) => Err(Error::invalid_request(NEEDED)),
        (Some(Encryption::Customer { salt, check }), Some(key)) if key.check(salt) == *check => Ok(()),
        (Some(Encryption::Customer { .. }), Some(_)) => Err(Error::AccessDenied),
    }
}

/// The key that opens what is stored, given what the client sent along; `None` for what is not sealed.
pub(crate) async fn opener(
    encryption: Option<&Encryption>,
    means: Means<'_>,
) -> Result<Option<DataKey>, Error> {
    check_customer(encryption, means.customer)?;
    match (encryption, means.customer) {
        (None, _) => Ok(None),
        (Some(Encryption::Managed(salt)), _) => Ok(Some(means.master.data_key(salt))),
        (Some(Encryption::Kms(under)), _) => under.open(means).await.map(Some),
        (Some(Encryption::Customer { salt, .. }), Some(key)) => Ok(Some(key.data_key(salt))),
        (Some(Encryption::Customer { .. }), None) => Err(Error::invalid_request(NEEDED)),
    }
}

/// How a part of an upload is sealed: as the upload was begun; `None` for uploads that an older version began.
pub(crate) async fn of_part(
    encryption: Option<&Encryption>,
    means: Means<'_>,
) -> Result<Option<Seal>, Error> {
    let seal = |encryption: &Encryption, key| Ok(Some(Seal { encryption: encryption.clone(), key }));
    match (encryption, means.customer) {
        (None, None) => Ok(None),
        (Some(managed @ Encryption::Managed(salt)), None) => seal(managed, means.master.data_key(salt)),
        (Some(kms @ Encryption::Kms(under)), None) => seal(kms, under.open(means).await?),
        (None | Some(Encryption::Managed(_) | Encryption::Kms(_)), Some(_)) => Err(Error::invalid_request(
            "The multipart upload initiate did not request encryption. Please resend the request without sending encryption parameters.",
        )),
        (Some(Encryption::Customer { .. }), None) => Err(Error::invalid_request(
            "The multipart upload initiate requested encryption. Subsequent part requests must include the appropriate encryption parameters.",
        )),
        (Some(customer @ Encryption::Customer { salt, check }), Some(key)) if key.check(salt) == *check => {
            seal(customer, key.data_key(salt))
        }
        (Some(Encryption::Customer { .. }), Some(_)) => Err(Error::invalid_request(
            "The provided encryption parameters did not match the ones used originally.",
        )),
    }
}

/// What an answer says of how an object is sealed.
pub(crate) fn show(encryption: Option<&Encryption>, request: &HeaderMap, answer: &mut HeaderMap) {
    match encryption {
        None => {}
        Some(Encryption::Managed(_)) => {
            answer.insert(ALGORITHM, HeaderValue::from_static("AES256"));
        }
        Some(Encryption::Kms(under)) => under.show(answer),
        Some(Encryption::Customer { .. }) => {
            // The request had to name them.
            for name in ["algorithm", "key-md5"] {
                let name = format!("{CUSTOMER}{name}");
                if let (Ok(name), Some(value)) = (HeaderName::try_from(&*name), request.get(&*name)) {
                    answer.insert(name, value.clone());
                }
            }
        }
    }
}

/// Refuses what is asked for and not offered; `reads` says whether the request reads an object, which has no say.
pub(crate) fn check(headers: &HeaderMap, reads: bool) -> Result<(), Error> {
    let Some(value) = headers.get(ALGORITHM) else { return Ok(()) };
    let value = value.to_str().unwrap_or_default();
    if reads {
        let message = "x-amz-server-side-encryption header is not supported for this operation.";
        return Err(Error::argument(ALGORITHM, value, message));
    }
    match value {
        "AES256" | "aws:kms" => Ok(()),
        "aws:kms:dsse" | "aws:fsx" => {
            Err(Error::NotImplemented(format!("The header {ALGORITHM} with the value `{value}`")))
        }
        other => Err(Error::argument(ALGORITHM, other, "The encryption method specified is not supported")),
    }
}

impl fmt::Debug for CustomerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CustomerKey").field("md5", &self.md5).finish_non_exhaustive()
    }
}
