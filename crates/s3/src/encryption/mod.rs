//! Encryption at rest: which key seals an object, and what requests and answers say of it (Amazon S3 user guide,
//! "Protecting data with encryption").
//!
//! Every object is sealed under a data key of its own, which is derived from 128 random bits in its row and either
//! the node's master key (SSE-S3, the default) or the key that the client sends along with every request
//! (SSE-C), of which nothing is kept but a salted digest. Each blob of an object is sealed under a key derived from
//! the data key and the blob's id.
//!
//! Invariant: keys are never stored beside what they seal, never logged, never answered.

mod cipher;
mod master;

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use http::{HeaderMap, HeaderName, HeaderValue};
use md5::Digest as _;
use ring::hmac::{self, HMAC_SHA256};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use types::Env;

use crate::Error;
use crate::checksum::Digests;
pub(crate) use cipher::{DoesNotOpen, StreamKey, sealed_length, sealed_range};
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seal {
    pub(crate) encryption: Encryption,
    pub(crate) key: DataKey,
}

/// The ETag of bytes that were sealed so. Under a customer's key it says nothing of them.
pub(crate) fn etag(seal: Option<&Seal>, digests: &Digests) -> String {
    match seal {
        Some(Seal { encryption: Encryption::Customer { .. }, key }) => {
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
        if padded.encode(md5::Md5::digest(bytes)) != md5 {
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

    fn data_key(&self, salt: &Bits<16>) -> DataKey {
        DataKey(derive(&self.key.0, b"object", &salt.0))
    }

    fn check(&self, salt: &Bits<16>) -> Bits<16> {
        let check = derive(&self.key.0, b"check", &salt.0);
        Bits(*check.0.first_chunk().expect("16 of 32"))
    }
}

/// What a request says of how the object that it makes is to be sealed.
pub(crate) enum Asked {
    /// Nothing, or `AES256`.
    Managed,
    /// With the customer's key.
    Customer(CustomerKey),
}

impl Asked {
    pub(crate) fn of_request(headers: &HeaderMap) -> Result<Self, Error> {
        Ok(match CustomerKey::of_request(headers)? {
            None => Self::Managed,
            Some(_) if headers.contains_key(ALGORITHM) => {
                return Err(Error::argument(
                    ALGORITHM,
                    "AES256",
                    "Server Side Encryption with Customer provided key is incompatible with the encryption method specified",
                ));
            }
            Some(key) => Self::Customer(key),
        })
    }

    /// A data key that no object has had before.
    pub(crate) fn seal(&self, master: &MasterKey, env: &dyn Env) -> Seal {
        let mut salt = Bits([0; 16]);
        env.fill(&mut salt.0);
        match self {
            Self::Managed => Seal { encryption: Encryption::Managed(salt), key: master.data_key(&salt) },
            Self::Customer(key) => Seal {
                encryption: Encryption::Customer { salt, check: key.check(&salt) },
                key: key.data_key(&salt),
            },
        }
    }
}

/// The key that opens what is stored, given what the client sent along; `None` for what is not sealed.
pub(crate) fn opener(
    encryption: Option<&Encryption>,
    master: &MasterKey,
    customer: Option<&CustomerKey>,
) -> Result<Option<DataKey>, Error> {
    match (encryption, customer) {
        (None, None) => Ok(None),
        (Some(Encryption::Managed(salt)), None) => Ok(Some(master.data_key(salt))),
        (None | Some(Encryption::Managed(_)), Some(_)) => Err(Error::invalid_request(NOT_NEEDED)),
        (Some(Encryption::Customer { .. }), None) => Err(Error::invalid_request(NEEDED)),
        (Some(Encryption::Customer { salt, check }), Some(key)) if key.check(salt) == *check => {
            Ok(Some(key.data_key(salt)))
        }
        (Some(Encryption::Customer { .. }), Some(_)) => Err(Error::AccessDenied),
    }
}

/// How a part of an upload is sealed: as the upload was begun; `None` for uploads that an older version began.
pub(crate) fn of_part(
    encryption: Option<&Encryption>,
    master: &MasterKey,
    customer: Option<&CustomerKey>,
) -> Result<Option<Seal>, Error> {
    let seal = |encryption: &Encryption, key| Ok(Some(Seal { encryption: *encryption, key }));
    match (encryption, customer) {
        (None, None) => Ok(None),
        (Some(managed @ Encryption::Managed(salt)), None) => seal(managed, master.data_key(salt)),
        (None | Some(Encryption::Managed(_)), Some(_)) => Err(Error::invalid_request(
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
        "AES256" => Ok(()),
        "aws:kms" | "aws:kms:dsse" | "aws:fsx" => {
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
