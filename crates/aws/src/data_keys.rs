//! The seam by which a service seals what it stores under keys of its users, wherever those are kept.

use std::fmt;

use async_trait::async_trait;

use crate::{Caller, Error};

/// Whose rights a use of a key needs, and what for.
#[derive(Debug, Clone, Copy)]
pub struct KeyUse<'a> {
    /// Who must have the right to use the key.
    pub caller: &'a Caller,
    /// The service that asks on its behalf, such as `s3`.
    pub service: &'static str,
    /// What the use is bound to: what was sealed with these pairs opens with them alone.
    pub context: &'a [(String, String)],
}

/// A key for data, which belongs to a key of somebody's.
#[derive(Clone)]
pub struct DataKey {
    /// The ARN of that key.
    pub key_arn: String,
    /// What to seal with.
    pub plaintext: [u8; 32],
    /// What to keep: it opens to the same again.
    pub sealed: Vec<u8>,
}

// The key stays out of logs.
impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DataKey").field("key_arn", &self.key_arn).finish_non_exhaustive()
    }
}

/// Makes keys for data, and opens them again. Errors are those of KMS: of kind `Denied` if the caller has no right.
#[async_trait]
pub trait DataKeys: Send + Sync + fmt::Debug {
    /// A new one under `key` (an id, alias or ARN); `None`: the key that the caller's account has for the service.
    async fn generate(&self, usage: &KeyUse<'_>, key: Option<&str>) -> Result<DataKey, Error>;

    /// Opens one.
    async fn open(&self, usage: &KeyUse<'_>, sealed: &[u8]) -> Result<[u8; 32], Error>;
}
