//! Checksums of objects (Amazon S3 user guide, "Checking object integrity for data uploads").
//!
//! Every object has one: the algorithm that its uploader chose, CRC-64/NVME if none. It is computed as the
//! bytes stream by, together with the MD5 that is the ETag; nothing is buffered for it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use crc_fast::CrcAlgorithm;
use http::HeaderMap;
use serde::{Deserialize, Serialize};
use sha2::Digest as _;

use crate::Error;

/// An algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Algorithm {
    #[serde(rename = "CRC32")]
    Crc32,
    #[serde(rename = "CRC32C")]
    Crc32c,
    #[serde(rename = "CRC64NVME")]
    Crc64Nvme,
    #[serde(rename = "SHA1")]
    Sha1,
    #[serde(rename = "SHA256")]
    Sha256,
}

impl Algorithm {
    pub(crate) const ALL: [Self; 5] = [Self::Crc32, Self::Crc32c, Self::Crc64Nvme, Self::Sha1, Self::Sha256];

    /// The name in members and in the `x-amz-checksum-algorithm` header.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Crc32 => "CRC32",
            Self::Crc32c => "CRC32C",
            Self::Crc64Nvme => "CRC64NVME",
            Self::Sha1 => "SHA1",
            Self::Sha256 => "SHA256",
        }
    }

    /// The header, or trailer, that carries a value.
    pub(crate) fn header(self) -> &'static str {
        match self {
            Self::Crc32 => "x-amz-checksum-crc32",
            Self::Crc32c => "x-amz-checksum-crc32c",
            Self::Crc64Nvme => "x-amz-checksum-crc64nvme",
            Self::Sha1 => "x-amz-checksum-sha1",
            Self::Sha256 => "x-amz-checksum-sha256",
        }
    }

    /// The algorithm of that name.
    pub(crate) fn of_name(name: &str) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|a| a.name().eq_ignore_ascii_case(name)).ok_or_else(|| {
            Error::invalid_request("Checksum algorithm provided is unsupported. Please try again with any of the valid types: [CRC32, CRC32C, CRC64NVME, SHA1, SHA256]")
        })
    }

    fn crc(self) -> Option<CrcAlgorithm> {
        match self {
            Self::Crc32 => Some(CrcAlgorithm::Crc32IsoHdlc),
            Self::Crc32c => Some(CrcAlgorithm::Crc32Iscsi),
            Self::Crc64Nvme => Some(CrcAlgorithm::Crc64Nvme),
            Self::Sha1 | Self::Sha256 => None,
        }
    }

    fn len(self) -> usize {
        match self {
            Self::Crc32 | Self::Crc32c => 4,
            Self::Crc64Nvme => 8,
            Self::Sha1 => 20,
            Self::Sha256 => 32,
        }
    }

    /// The checksum of bytes at hand.
    pub(crate) fn of(self, bytes: &[u8]) -> Vec<u8> {
        let mut hasher = Hasher::new(self);
        hasher.update(bytes);
        hasher.finish()
    }
}

/// Computes one checksum.
pub(crate) struct Hasher {
    algorithm: Algorithm,
    state: State,
}

enum State {
    Crc(Box<crc_fast::Digest>),
    Sha1(sha1::Sha1),
    Sha256(sha2::Sha256),
}

impl Hasher {
    pub(crate) fn new(algorithm: Algorithm) -> Self {
        let state = match algorithm {
            Algorithm::Sha1 => State::Sha1(sha1::Sha1::new()),
            Algorithm::Sha256 => State::Sha256(sha2::Sha256::new()),
            Algorithm::Crc32 | Algorithm::Crc32c | Algorithm::Crc64Nvme => {
                let crc = algorithm.crc().expect("these three are CRCs");
                State::Crc(Box::new(crc_fast::Digest::new(crc)))
            }
        };
        Self { algorithm, state }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match &mut self.state {
            State::Crc(digest) => digest.update(bytes),
            State::Sha1(sha) => sha.update(bytes),
            State::Sha256(sha) => sha.update(bytes),
        }
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        match self.state {
            State::Crc(digest) => digest.finalize().to_be_bytes()[8 - self.algorithm.len()..].to_vec(),
            State::Sha1(sha) => sha.finalize().to_vec(),
            State::Sha256(sha) => sha.finalize().to_vec(),
        }
    }
}

/// What a checksum covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Kind {
    /// The object's bytes.
    #[serde(rename = "F")]
    FullObject,
    /// The checksums of its parts.
    #[serde(rename = "C")]
    Composite,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::FullObject => "FULL_OBJECT",
            Self::Composite => "COMPOSITE",
        }
    }
}

/// An object's checksum, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Checksum {
    #[serde(rename = "a")]
    pub(crate) algorithm: Algorithm,
    #[serde(rename = "k")]
    pub(crate) kind: Kind,
    /// Base64, with `-N` after it if composite.
    #[serde(rename = "v")]
    pub(crate) value: String,
}

/// A checksum of a part's bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PartChecksum {
    pub(crate) algorithm: Algorithm,
    /// Base64.
    pub(crate) value: String,
}

/// Base64, as checksums are written.
pub(crate) fn encode(bytes: &[u8]) -> String {
    BASE64.encode(bytes)
}

/// How an upload's whole is checksummed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UploadPlan {
    pub(crate) algorithm: Algorithm,
    pub(crate) kind: Kind,
    /// Whether the client asked for it; otherwise it is the default, and parts may carry any algorithm.
    pub(crate) asked: bool,
}

impl UploadPlan {
    /// The plan for what CreateMultipartUpload says.
    pub(crate) fn new(algorithm: Option<&str>, kind: Option<&str>) -> Result<Self, Error> {
        let Some(name) = algorithm else {
            if kind.is_some() {
                return Err(Error::invalid_request(
                    "The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm header.",
                ));
            }
            return Ok(Self { algorithm: Algorithm::Crc64Nvme, kind: Kind::FullObject, asked: false });
        };
        let algorithm = Algorithm::of_name(name)?;
        let default = if algorithm == Algorithm::Crc64Nvme { Kind::FullObject } else { Kind::Composite };
        let kind = match kind {
            None => default,
            Some("FULL_OBJECT") => Kind::FullObject,
            Some("COMPOSITE") => Kind::Composite,
            Some(_) => {
                return Err(Error::invalid_request(
                    "Value for x-amz-checksum-type header is invalid. Valid values are [FULL_OBJECT, COMPOSITE]",
                ));
            }
        };
        let possible = match (algorithm, kind) {
            (Algorithm::Crc64Nvme, Kind::Composite) => false,
            (Algorithm::Sha1 | Algorithm::Sha256, Kind::FullObject) => false,
            (_, Kind::FullObject | Kind::Composite) => true,
        };
        if !possible {
            return Err(Error::invalid_request(format!(
                "The {} checksum type cannot be used with the {} checksum algorithm.",
                kind.name(),
                algorithm.name().to_lowercase()
            )));
        }
        Ok(Self { algorithm, kind, asked: true })
    }

    /// The checksum of the whole, from those of its parts and their sizes.
    pub(crate) fn combine(&self, parts: &[(Vec<u8>, u64)]) -> Checksum {
        let value = match (self.kind, self.algorithm.crc()) {
            (Kind::FullObject, Some(crc)) => {
                let number = |bytes: &[u8]| bytes.iter().fold(0_u64, |n, &b| n << 8 | u64::from(b));
                let mut parts = parts.iter();
                let first = parts.next().map_or_else(|| self.algorithm.of(b""), |(value, _)| value.clone());
                let whole = parts.fold(number(&first), |whole, (value, size)| {
                    crc_fast::checksum_combine(crc, whole, number(value), *size)
                });
                encode(&whole.to_be_bytes()[8 - self.algorithm.len()..])
            }
            (Kind::Composite, _) | (Kind::FullObject, None) => {
                let mut hasher = Hasher::new(self.algorithm);
                parts.iter().for_each(|(value, _)| hasher.update(value));
                format!("{}-{}", encode(&hasher.finish()), parts.len())
            }
        };
        Checksum { algorithm: self.algorithm, kind: self.kind, value }
    }
}

/// What a client says its body's digests are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Expected {
    /// `Content-MD5`.
    pub(crate) md5: Option<[u8; 16]>,
    /// The one checksum, by header or trailer.
    pub(crate) algorithm: Option<Algorithm>,
    /// Its value, if it came as a header; otherwise it will come as a trailer.
    pub(crate) value: Option<String>,
}

impl Expected {
    /// Reads the headers of an upload.
    pub(crate) fn read(headers: &HeaderMap) -> Result<Self, Error> {
        let mut expected = Self::default();
        if let Some(value) = headers.get("content-md5") {
            let mut md5 = [0; 16];
            let decoded = BASE64.decode(value.as_bytes()).map_err(|_| Error::InvalidDigest)?;
            if decoded.len() != md5.len() {
                return Err(Error::InvalidDigest);
            }
            md5.copy_from_slice(&decoded);
            expected.md5 = Some(md5);
        }
        let several = || {
            Error::invalid_request(
                "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.",
            )
        };
        for algorithm in Algorithm::ALL {
            let Some(value) = headers.get(algorithm.header()) else { continue };
            if expected.algorithm.is_some() {
                return Err(several());
            }
            expected.algorithm = Some(algorithm);
            expected.value = Some(valid_value(algorithm, value)?);
        }
        for name in headers.get_all("x-amz-trailer").iter().filter_map(|v| v.to_str().ok()) {
            for name in name.split(',').map(str::trim) {
                let Some(algorithm) =
                    Algorithm::ALL.into_iter().find(|a| a.header().eq_ignore_ascii_case(name))
                else {
                    return Err(Error::invalid_request(
                        "The value specified in the x-amz-trailer header is not supported",
                    ));
                };
                if expected.algorithm.is_some() {
                    return Err(several());
                }
                expected.algorithm = Some(algorithm);
            }
        }
        if let Some(name) = headers.get("x-amz-sdk-checksum-algorithm").and_then(|v| v.to_str().ok()) {
            let named = Algorithm::of_name(name)?;
            match expected.algorithm {
                Some(algorithm) if algorithm == named => {}
                Some(_) => {
                    return Err(Error::invalid_request(
                        "Value for x-amz-sdk-checksum-algorithm header is invalid.",
                    ));
                }
                None if expected.md5.is_some() => {}
                None => {
                    return Err(Error::invalid_request(
                        "x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* or x-amz-trailer headers were found.",
                    ));
                }
            }
        }
        Ok(expected)
    }

    /// Whether nothing is said of the body.
    pub(crate) fn is_empty(&self) -> bool {
        self.md5.is_none() && self.algorithm.is_none()
    }

    /// Compares with what was computed; `trailers` have arrived by now.
    pub(crate) fn verify(
        &self,
        digests: &Digests,
        trailers: Option<&aws::chunked::Trailers>,
    ) -> Result<(), Error> {
        if let Some(md5) = self.md5
            && md5 != digests.md5
        {
            return Err(Error::bad_digest("The Content-MD5 you specified did not match what we received."));
        }
        let Some(algorithm) = self.algorithm else { return Ok(()) };
        let expected = match &self.value {
            Some(value) => value.clone(),
            None => {
                let trailer = trailers.and_then(|trailers| trailers.get(algorithm.header()));
                let value = trailer.ok_or(Error::MalformedTrailer)?;
                valid_value(algorithm, &value)?
            }
        };
        let computed = digests.checksum(algorithm).expect("the algorithm of a given checksum is computed");
        if encode(computed) != expected {
            let name = algorithm.name();
            return Err(Error::bad_digest(format!(
                "The {name} you specified did not match the calculated checksum."
            )));
        }
        Ok(())
    }
}

fn valid_value(algorithm: Algorithm, value: &http::HeaderValue) -> Result<String, Error> {
    let text = value.to_str().unwrap_or_default();
    let valid = BASE64.decode(text).is_ok_and(|bytes| bytes.len() == algorithm.len());
    if !valid {
        let message = format!("Value for {} header is invalid.", algorithm.header());
        return Err(Error::invalid_request(message));
    }
    Ok(text.to_owned())
}

/// Computes a body's digests as it streams by.
pub(crate) struct Hashers {
    md5: fast_md5::Md5,
    checksums: Vec<Hasher>,
}

impl Hashers {
    /// For MD5 and these algorithms, each once.
    pub(crate) fn new(algorithms: impl IntoIterator<Item = Algorithm>) -> Self {
        let mut checksums: Vec<Hasher> = Vec::new();
        for algorithm in algorithms {
            if checksums.iter().all(|h| h.algorithm != algorithm) {
                checksums.push(Hasher::new(algorithm));
            }
        }
        Self { md5: fast_md5::Md5::new(), checksums }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.md5.update(bytes);
        self.checksums.iter_mut().for_each(|hasher| hasher.update(bytes));
    }

    pub(crate) fn finish(self) -> Digests {
        let checksums = self.checksums.into_iter().map(|h| (h.algorithm, h.finish())).collect();
        Digests { md5: self.md5.finalize(), checksums }
    }
}

/// A body's digests.
#[derive(Debug, Clone)]
pub(crate) struct Digests {
    pub(crate) md5: [u8; 16],
    checksums: Vec<(Algorithm, Vec<u8>)>,
}

impl Digests {
    /// The checksum of that algorithm, if it was computed.
    pub(crate) fn checksum(&self, algorithm: Algorithm) -> Option<&[u8]> {
        self.checksums.iter().find(|(a, _)| *a == algorithm).map(|(_, value)| &**value)
    }

    /// The ETag: MD5 in hexadecimal.
    pub(crate) fn etag(&self) -> String {
        hex::encode(self.md5)
    }

    /// The checksum of a whole object.
    pub(crate) fn full(&self, algorithm: Algorithm) -> Checksum {
        let value = encode(self.checksum(algorithm).expect("the object's own algorithm is computed"));
        Checksum { algorithm, kind: Kind::FullObject, value }
    }

    /// All of them, as a part keeps them.
    pub(crate) fn of_part(&self) -> Vec<PartChecksum> {
        self.checksums
            .iter()
            .map(|(algorithm, v)| PartChecksum { algorithm: *algorithm, value: encode(v) })
            .collect()
    }
}

/// The bytes of a value that was stored.
pub(crate) fn decode(value: &str) -> Vec<u8> {
    BASE64.decode(value).unwrap_or_default()
}

/// Sets the members of an output that show a checksum.
macro_rules! show_checksum {
    ($out:expr, $algorithm:expr, $value:expr) => {
        match $algorithm {
            $crate::checksum::Algorithm::Crc32 => $out.checksum_crc32 = Some($value),
            $crate::checksum::Algorithm::Crc32c => $out.checksum_crc32c = Some($value),
            $crate::checksum::Algorithm::Crc64Nvme => $out.checksum_crc64nvme = Some($value),
            $crate::checksum::Algorithm::Sha1 => $out.checksum_sha1 = Some($value),
            $crate::checksum::Algorithm::Sha256 => $out.checksum_sha256 = Some($value),
        }
    };
}
/// The checksums among the members of an input, as (algorithm, value).
macro_rules! given_checksums {
    ($input:expr) => {
        [
            ($crate::checksum::Algorithm::Crc32, &$input.checksum_crc32),
            ($crate::checksum::Algorithm::Crc32c, &$input.checksum_crc32c),
            ($crate::checksum::Algorithm::Crc64Nvme, &$input.checksum_crc64nvme),
            ($crate::checksum::Algorithm::Sha1, &$input.checksum_sha1),
            ($crate::checksum::Algorithm::Sha256, &$input.checksum_sha256),
        ]
        .into_iter()
        .filter_map(|(algorithm, value)| value.as_deref().map(|value| (algorithm, value)))
    };
}
pub(crate) use {given_checksums, show_checksum};

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_vectors() {
        // The check values of the CRC catalogue, and of FIPS 180 for "abc".
        let crc = b"123456789";
        assert_eq!(Algorithm::Crc32.of(crc), 0xCBF4_3926_u32.to_be_bytes());
        assert_eq!(Algorithm::Crc32c.of(crc), 0xE306_9283_u32.to_be_bytes());
        assert_eq!(Algorithm::Crc64Nvme.of(crc), 0xAE8B_1486_0A79_9888_u64.to_be_bytes());
        assert_eq!(hex::encode(Algorithm::Sha1.of(b"abc")), "a9993e364706816aba3e25717850c26c9cd0d89d");
        assert_eq!(
            hex::encode(Algorithm::Sha256.of(b"abc")),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        let mut hashers = Hashers::new([Algorithm::Crc32]);
        hashers.update(b"hello ");
        hashers.update(b"world");
        assert_eq!(hashers.finish().etag(), "5eb63bbbe01eeed093cb22bb8f5acdc3");
    }

    proptest! {
        /// Beside the implementation that everybody uses: this one is faster, and younger.
        #[test]
        fn md5_is_md5(pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..8)) {
            let mut hashers = Hashers::new([]);
            pieces.iter().for_each(|piece| hashers.update(piece));
            prop_assert_eq!(hashers.finish().md5, <[u8; 16]>::from(md5::Md5::digest(pieces.concat())));
        }

        #[test]
        fn parts_combine_to_the_whole(parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..50), 1..6)) {
            for algorithm in [Algorithm::Crc32, Algorithm::Crc32c, Algorithm::Crc64Nvme] {
                let plan = UploadPlan { algorithm, kind: Kind::FullObject, asked: true };
                let checksums: Vec<_> = parts.iter().map(|p| (algorithm.of(p), p.len() as u64)).collect();
                prop_assert_eq!(plan.combine(&checksums).value, encode(&algorithm.of(&parts.concat())));
            }
        }
    }

    #[test]
    fn plans_follow_the_table_of_the_user_guide() {
        let plan = |a, k| UploadPlan::new(a, k).map(|p| (p.algorithm, p.kind, p.asked)).ok();
        assert_eq!(plan(None, None), Some((Algorithm::Crc64Nvme, Kind::FullObject, false)));
        assert_eq!(plan(Some("CRC32"), None), Some((Algorithm::Crc32, Kind::Composite, true)));
        assert_eq!(
            plan(Some("CRC32"), Some("FULL_OBJECT")),
            Some((Algorithm::Crc32, Kind::FullObject, true))
        );
        assert_eq!(plan(Some("CRC64NVME"), Some("COMPOSITE")), None);
        assert_eq!(plan(Some("SHA256"), Some("FULL_OBJECT")), None);
        assert_eq!(plan(Some("MD4"), None), None);
    }

    #[test]
    fn headers_are_checked() {
        let read = |pairs: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.insert(*name, http::HeaderValue::from_static(value));
            }
            Expected::read(&headers).map_err(|e| aws::Error::from(e).code.into_owned())
        };
        assert_eq!(read(&[]).unwrap(), Expected::default());
        assert_eq!(read(&[("content-md5", "nonsense")]).unwrap_err(), "InvalidDigest");
        assert_eq!(read(&[("x-amz-checksum-crc32", "AAAA")]).unwrap_err(), "InvalidRequest");
        let both = [("x-amz-checksum-crc32", "AAAAAA=="), ("x-amz-trailer", "x-amz-checksum-crc32c")];
        assert_eq!(read(&both).unwrap_err(), "InvalidRequest");
        assert_eq!(read(&[("x-amz-sdk-checksum-algorithm", "CRC32")]).unwrap_err(), "InvalidRequest");
        let trailer =
            read(&[("x-amz-sdk-checksum-algorithm", "CRC32"), ("x-amz-trailer", "x-amz-checksum-crc32")]);
        assert_eq!(trailer.unwrap().algorithm, Some(Algorithm::Crc32));
    }
}
