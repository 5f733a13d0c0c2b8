//! The signature in the fields of an HTML form that uploads to S3: over the policy, Base64 as it stands (Amazon S3 API
//! reference, "Authenticating Requests: Browser-Based Uploads Using POST").

use subtle::ConstantTimeEq;
use types::Timestamp;

use super::failure::{Failure, Mismatch};
use super::verify::session_token_matches;
use super::{ALGORITHM, SigningKey, Source, hex64};
use crate::Credential;

/// What a form says of its signature.
#[derive(Debug, Clone, Copy)]
pub struct FormSignature<'a> {
    /// `x-amz-algorithm`.
    pub algorithm: &'a str,
    /// `x-amz-credential`: key, date, region, service, `aws4_request`.
    pub credential: &'a str,
    /// `x-amz-signature`.
    pub signature: &'a str,
    /// `x-amz-security-token`.
    pub token: Option<&'a str>,
    /// `policy`.
    pub policy: &'a str,
}

impl<'a> FormSignature<'a> {
    fn scope(&self) -> Result<[&'a str; 5], Failure> {
        let malformed = || Failure::Malformed {
            source: Source::Query,
            message: "the x-amz-credential field must be <key>/<date>/<region>/s3/aws4_request".to_owned(),
        };
        let parts: Vec<_> = self.credential.split('/').collect();
        let parts: [&str; 5] = parts.try_into().map_err(|_| malformed())?;
        let fits = self.algorithm == ALGORITHM && parts[3] == "s3" && parts[4] == "aws4_request";
        if fits { Ok(parts) } else { Err(malformed()) }
    }

    /// Whose key it names.
    pub fn access_key_id(&self) -> Result<&'a str, Failure> {
        Ok(self.scope()?[0])
    }

    /// Whether the policy was signed with that credential, for this region.
    pub fn verify(&self, credential: &Credential, region: &str, now: Timestamp) -> Result<(), Failure> {
        let [access_key_id, date, given, service, _] = self.scope()?;
        session_token_matches(credential, self.token, now)?;
        if given != region {
            return Err(Failure::WrongRegion {
                source: Source::Query,
                given: given.to_owned(),
                expected: region.to_owned(),
            });
        }
        let key = SigningKey::derive(&credential.secret_access_key, date, given, service);
        let signature = hex64(&key.sign(self.policy.as_bytes()));
        if bool::from(signature.as_slice().ct_eq(self.signature.as_bytes())) {
            return Ok(());
        }
        Err(Failure::Mismatch(Box::new(Mismatch {
            access_key_id: access_key_id.to_owned(),
            string_to_sign: self.policy.to_owned(),
            signature: self.signature.to_owned(),
            canonical_request: String::new(),
        })))
    }
}
