//! Encrypt, Decrypt, ReEncrypt, GenerateDataKey, GenerateDataKeyWithoutPlaintext, GenerateRandom.

use aws::{Access, Response};
use serde::{Deserialize, Serialize};

use super::{Blob, Input, rotation};
use crate::Error;
use crate::find::Found;
use crate::material::{self, Context, Head, MAX_CIPHERTEXT_BYTES, Which};
use crate::service::Scope;

const ALGORITHM: &str = "SYMMETRIC_DEFAULT";
const MAX_PLAINTEXT_BYTES: usize = 4096;
const MAX_RANDOM_BYTES: usize = 1024;
/// All pairs of a context together (developer guide, "Resource quotas").
const MAX_CONTEXT_BYTES: usize = 8192;

/// Seals with the key's newest material, which is made if the calendar says so.
pub(crate) async fn seal(
    scope: &Scope,
    found: &Found,
    context: &Context,
    message: &[u8],
) -> Result<Vec<u8>, Error> {
    let generations = rotation::up_to_date(scope, found).await?;
    let (newest, material) = generations.iter().enumerate().next_back().expect("a key has material");
    let generation = u32::try_from(newest).expect("a key has few generations");
    let which = Which { account: found.account, id: &found.key().id, generation };
    material::seal(&scope.inner.node_key, which, &material.wrapped, context, message, &*scope.inner.env)
}

/// Opens with the generation that sealed.
pub(crate) fn open(
    scope: &Scope,
    found: &Found,
    generation: u32,
    context: &Context,
    sealed: &[u8],
) -> Result<Vec<u8>, Error> {
    let index = usize::try_from(generation).unwrap_or(usize::MAX);
    let material = found.key().material.get(index).ok_or(Error::InvalidCiphertext)?;
    let which = Which { account: found.account, id: &found.key().id, generation };
    material::open(&scope.inner.node_key, which, &material.wrapped, context, sealed)
}

fn check_algorithm(name: Option<&str>) -> Result<(), Error> {
    match name {
        None | Some(ALGORITHM) => Ok(()),
        Some(other) => Err(Error::Unsupported(format!(
            "The encryption algorithm {other} is not supported here: keys are symmetric ({ALGORITHM})."
        ))),
    }
}

fn check_context(context: &Context) -> Result<(), Error> {
    let size: usize = context.iter().map(|(name, value)| name.len() + value.len()).sum();
    if size > MAX_CONTEXT_BYTES {
        return Err(Error::validation(format!(
            "The encryption context has {size} bytes, and may have {MAX_CONTEXT_BYTES}"
        )));
    }
    Ok(())
}

fn check_length(member: &str, bytes: &[u8], most: usize) -> Result<(), Error> {
    if bytes.is_empty() || bytes.len() > most {
        return Err(Error::validation(format!(
            "1 validation error detected: Value at '{member}' failed to satisfy constraint: Member must have length between 1 and {most}"
        )));
    }
    Ok(())
}

fn dry_run(asked: bool) -> Result<(), Error> {
    if asked { Err(Error::DryRun) } else { Ok(()) }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(crate) struct Encrypt {
    key_id: String,
    plaintext: Blob,
    #[serde(default)]
    encryption_context: Context,
    encryption_algorithm: Option<String>,
    #[serde(default)]
    dry_run: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Encrypted {
    ciphertext_blob: Blob,
    key_id: String,
    encryption_algorithm: &'static str,
}

impl Input<Scope> for Encrypt {
    const NAME: &'static str = "Encrypt";
    type Found = Found;

    async fn find(&self, scope: &Scope) -> Result<(Vec<Access>, Found), Error> {
        check_length("plaintext", &self.plaintext.0, MAX_PLAINTEXT_BYTES)?;
        check_algorithm(self.encryption_algorithm.as_deref())?;
        check_context(&self.encryption_context)?;
        let found = scope.key_or_alias(&self.key_id).await?;
        Ok((vec![found.access_with(scope, Self::NAME, &self.encryption_context)], found))
    }

    async fn run(self, scope: Scope, found: Found) -> Result<Response, Error> {
        found.check_usable()?;
        dry_run(self.dry_run)?;
        let sealed = seal(&scope, &found, &self.encryption_context, &self.plaintext.0).await?;
        Ok(aws::json::output(&Encrypted {
            ciphertext_blob: Blob(sealed),
            key_id: found.arn,
            encryption_algorithm: ALGORITHM,
        }))
    }
}

/// The key that sealed something, which has to be the one that the request names, if it names one.
async fn sealer(scope: &Scope, sealed: &Blob, key_id: Option<&str>) -> Result<(Head, Found), Error> {
    check_length("ciphertextBlob", &sealed.0, MAX_CIPHERTEXT_BYTES)?;
    let named = match key_id {
        Some(key_id) => Some(scope.key_or_alias(key_id).await?),
        None => None,
    };
    let head = material::read_head(&sealed.0)?;
    match named {
        Some(found) if found.account == head.account && found.key().id == head.id => Ok((head, found)),
        Some(_) => Err(Error::IncorrectKey),
        None => {
            let found = scope.by_id(head.account, &head.id).await?;
            Ok((head, found))
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(crate) struct Decrypt {
    ciphertext_blob: Blob,
    #[serde(default)]
    encryption_context: Context,
    key_id: Option<String>,
    encryption_algorithm: Option<String>,
    #[serde(default)]
    dry_run: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Decrypted {
    key_id: String,
    plaintext: Blob,
    encryption_algorithm: &'static str,
}

impl Input<Scope> for Decrypt {
    const NAME: &'static str = "Decrypt";
    type Found = (Head, Found);

    async fn find(&self, scope: &Scope) -> Result<(Vec<Access>, Self::Found), Error> {
        check_algorithm(self.encryption_algorithm.as_deref())?;
        check_context(&self.encryption_context)?;
        let (head, found) = sealer(scope, &self.ciphertext_blob, self.key_id.as_deref()).await?;
        let need = found.access_with(scope, Self::NAME, &self.encryption_context);
        Ok((vec![need], (head, found)))
    }

    async fn run(self, scope: Scope, (head, found): Self::Found) -> Result<Response, Error> {
        found.check_usable()?;
        dry_run(self.dry_run)?;
        let sealed = &self.ciphertext_blob.0;
        let plaintext = open(&scope, &found, head.generation, &self.encryption_context, sealed)?;
        Ok(aws::json::output(&Decrypted {
            key_id: found.arn,
            plaintext: Blob(plaintext),
            encryption_algorithm: ALGORITHM,
        }))
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(crate) struct ReEncrypt {
    ciphertext_blob: Blob,
    #[serde(default)]
    source_encryption_context: Context,
    source_key_id: Option<String>,
    destination_key_id: String,
    #[serde(default)]
    destination_encryption_context: Context,
    source_encryption_algorithm: Option<String>,
    destination_encryption_algorithm: Option<String>,
    #[serde(default)]
    dry_run: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct ReEncrypted {
    ciphertext_blob: Blob,
    source_key_id: String,
    key_id: String,
    source_encryption_algorithm: &'static str,
    destination_encryption_algorithm: &'static str,
}

impl Input<Scope> for ReEncrypt {
    const NAME: &'static str = "ReEncrypt";
    type Found = (Head, Found, Found);

    async fn find(&self, scope: &Scope) -> Result<(Vec<Access>, Self::Found), Error> {
        check_algorithm(self.source_encryption_algorithm.as_deref())?;
        check_algorithm(self.destination_encryption_algorithm.as_deref())?;
        check_context(&self.source_encryption_context)?;
        check_context(&self.destination_encryption_context)?;
        let (head, from) = sealer(scope, &self.ciphertext_blob, self.source_key_id.as_deref()).await?;
        let to = scope.key_or_alias(&self.destination_key_id).await?;
        let needs = vec![
            from.access_with(scope, "ReEncryptFrom", &self.source_encryption_context),
            to.access_with(scope, "ReEncryptTo", &self.destination_encryption_context),
        ];
        Ok((needs, (head, from, to)))
    }

    async fn run(self, scope: Scope, (head, from, to): Self::Found) -> Result<Response, Error> {
        from.check_usable()?;
        to.check_usable()?;
        dry_run(self.dry_run)?;
        let sealed = &self.ciphertext_blob.0;
        let plaintext = open(&scope, &from, head.generation, &self.source_encryption_context, sealed)?;
        let sealed = seal(&scope, &to, &self.destination_encryption_context, &plaintext).await?;
        Ok(aws::json::output(&ReEncrypted {
            ciphertext_blob: Blob(sealed),
            source_key_id: from.arn,
            key_id: to.arn,
            source_encryption_algorithm: ALGORITHM,
            destination_encryption_algorithm: ALGORITHM,
        }))
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(crate) struct GenerateDataKey {
    key_id: String,
    #[serde(default)]
    encryption_context: Context,
    key_spec: Option<String>,
    number_of_bytes: Option<i64>,
    #[serde(default)]
    dry_run: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Generated {
    ciphertext_blob: Blob,
    #[serde(skip_serializing_if = "Option::is_none")]
    plaintext: Option<Blob>,
    key_id: String,
}

impl GenerateDataKey {
    fn length(&self) -> Result<usize, Error> {
        match (self.key_spec.as_deref(), self.number_of_bytes) {
            (Some("AES_256"), None) => Ok(32),
            (Some("AES_128"), None) => Ok(16),
            (Some(other), None) => Err(Error::validation(format!(
                "1 validation error detected: Value '{other}' at 'keySpec' failed to satisfy constraint: Member must satisfy enum value set: [AES_256, AES_128]"
            ))),
            (None, Some(asked)) => random_length(asked),
            (Some(_), Some(_)) | (None, None) => {
                Err(Error::validation("Please specify either number of bytes or key spec."))
            }
        }
    }

    async fn found(&self, scope: &Scope, action: &str) -> Result<(Vec<Access>, Found), Error> {
        self.length()?;
        check_context(&self.encryption_context)?;
        let found = scope.key_or_alias(&self.key_id).await?;
        Ok((vec![found.access_with(scope, action, &self.encryption_context)], found))
    }

    async fn generate(self, scope: Scope, found: Found, shown: bool) -> Result<Response, Error> {
        found.check_usable()?;
        dry_run(self.dry_run)?;
        let mut plaintext = vec![0; self.length()?];
        scope.inner.env.fill(&mut plaintext);
        let sealed = seal(&scope, &found, &self.encryption_context, &plaintext).await?;
        let plaintext = shown.then_some(Blob(plaintext));
        Ok(aws::json::output(&Generated { ciphertext_blob: Blob(sealed), plaintext, key_id: found.arn }))
    }
}

fn random_length(asked: i64) -> Result<usize, Error> {
    usize::try_from(asked).ok().filter(|n| (1..=MAX_RANDOM_BYTES).contains(n)).ok_or_else(|| {
        Error::validation(format!(
            "1 validation error detected: Value '{asked}' at 'numberOfBytes' failed to satisfy constraint: Member must be between 1 and {MAX_RANDOM_BYTES}"
        ))
    })
}

impl Input<Scope> for GenerateDataKey {
    const NAME: &'static str = "GenerateDataKey";
    type Found = Found;

    async fn find(&self, scope: &Scope) -> Result<(Vec<Access>, Found), Error> {
        self.found(scope, Self::NAME).await
    }

    async fn run(self, scope: Scope, found: Found) -> Result<Response, Error> {
        self.generate(scope, found, true).await
    }
}

#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub(crate) struct GenerateDataKeyWithoutPlaintext(GenerateDataKey);

impl Input<Scope> for GenerateDataKeyWithoutPlaintext {
    const NAME: &'static str = "GenerateDataKeyWithoutPlaintext";
    type Found = Found;

    async fn find(&self, scope: &Scope) -> Result<(Vec<Access>, Found), Error> {
        self.0.found(scope, Self::NAME).await
    }

    async fn run(self, scope: Scope, found: Found) -> Result<Response, Error> {
        self.0.generate(scope, found, false).await
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(crate) struct GenerateRandom {
    number_of_bytes: i64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Random {
    plaintext: Blob,
}

impl Input<Scope> for GenerateRandom {
    const NAME: &'static str = "GenerateRandom";
    type Found = usize;

    async fn find(&self, _scope: &Scope) -> Result<(Vec<Access>, usize), Error> {
        Ok((vec![Access::new("kms:GenerateRandom", "*")], random_length(self.number_of_bytes)?))
    }

    async fn run(self, scope: Scope, length: usize) -> Result<Response, Error> {
        let mut bytes = vec![0; length];
        scope.inner.env.fill(&mut bytes);
        Ok(aws::json::output(&Random { plaintext: Blob(bytes) }))
    }
}
