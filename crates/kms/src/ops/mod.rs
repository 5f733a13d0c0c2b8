//! The operations: one type for each, with its input, the rights it needs, and what it does.

pub(crate) mod aliases;
pub(crate) mod data;
pub(crate) mod keys;
pub(crate) mod policies;
pub(crate) mod rotation;
pub(crate) mod tags;

use aws::Access;
use aws::input::Input;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use store::{Read, Write};

use crate::Error;
use crate::find::Found;
use crate::service::Scope;
use crate::tables::{self, KEYS, KeyRow};

/// Bytes, in base64 as JSON has them.
pub(crate) struct Blob(pub(crate) Vec<u8>);

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        BASE64.decode(text.as_bytes()).map(Self).map_err(|_| D::Error::custom("a blob is not base64"))
    }
}

// Some of them are secrets.
impl std::fmt::Debug for Blob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Blob")
    }
}

/// Times are seconds since the epoch.
pub(crate) fn seconds(ms: i64) -> f64 {
    // Exact: there are not 2^53 milliseconds yet.
    #[expect(clippy::cast_precision_loss, reason = "see above")]
    let ms = ms as f64;
    ms / 1000.0
}

/// One key by its id or ARN, and one right on it.
pub(crate) async fn one_key(
    scope: &Scope,
    key_id: &str,
    action: &str,
) -> Result<(Vec<Access>, Found), Error> {
    let found = scope.key(key_id).await?;
    Ok((vec![found.access(scope, action)], found))
}

/// Changes a key in one commit. `change` sees it as it is then.
pub(crate) async fn change<T: Send + 'static>(
    scope: &Scope,
    found: &Found,
    change: impl Fn(&mut KeyRow) -> Result<(Vec<Write>, T), Error> + Send + 'static,
) -> Result<T, Error> {
    let row_key = tables::key_row(found.account, &found.key().id);
    let arn = found.arn.clone();
    scope
        .inner
        .store
        .transact(vec![Read::Key(row_key.clone())], move |pages, _| {
            let row = KEYS.first(&pages[0])?;
            let mut key = row.ok_or_else(|| Error::NotFound(format!("Key '{arn}' does not exist")))?.value;
            let (mut writes, outcome) = change(&mut key)?;
            writes.push(KEYS.put(row_key.clone(), &key));
            Ok((writes, outcome))
        })
        .await
}

/// How many things a page has.
pub(crate) fn limit(asked: Option<i64>, usual: usize, most: usize) -> Result<usize, Error> {
    match asked {
        None => Ok(usual),
        Some(asked) => usize::try_from(asked).ok().filter(|n| (1..=most).contains(n)).ok_or_else(|| {
            Error::validation(format!(
                "1 validation error detected: Value '{asked}' at 'limit' failed to satisfy constraint: Member must be between 1 and {most}"
            ))
        }),
    }
}
