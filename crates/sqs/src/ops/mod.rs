//! Operations: one type for each, with its input, the rights it needs, and what it does.

pub(crate) mod attributes;
pub(crate) mod permissions;
pub(crate) mod queues;
pub(crate) mod receive;
pub(crate) mod send;
pub(crate) mod settle;
pub(crate) mod tags;

use std::collections::HashSet;

use aws::Access;
use aws::input::Input;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::find::Found;
use crate::service::Scope;

/// Most entries of a batch.
const MAX_ENTRIES: usize = 10;

/// One queue by its URL, and one right on it.
pub(crate) async fn one_queue(
    scope: &Scope,
    url: Option<&str>,
    action: &str,
) -> Result<(Vec<Access>, Found), Error> {
    let url = url.filter(|url| !url.is_empty()).ok_or(Error::MissingParameter("QueueUrl"))?;
    let found = scope.queue(url).await?;
    Ok((vec![found.access(scope, action)], found))
}

/// An entry of a batch that failed.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Failed {
    id: String,
    sender_fault: bool,
    code: &'static str,
    message: String,
}

impl Failed {
    pub(crate) fn new(id: String, error: &Error) -> Self {
        let (_, code) = error.codes();
        Self { id, sender_fault: true, code, message: error.to_string() }
    }
}

/// An answer to a batch.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct BatchAnswer<T> {
    pub(crate) successful: Vec<T>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) failed: Vec<Failed>,
}

/// An entry of a batch that succeeded, and has nothing to say.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Succeeded {
    pub(crate) id: String,
}

/// Refuses batches that are none.
pub(crate) fn check_batch<'a>(ids: impl Iterator<Item = &'a str>, kind: &'static str) -> Result<(), Error> {
    let mut seen = HashSet::new();
    let ids: Vec<_> = ids.collect();
    if ids.is_empty() {
        return Err(Error::EmptyBatchRequest(kind));
    }
    if ids.len() > MAX_ENTRIES {
        return Err(Error::TooManyEntries(ids.len()));
    }
    for id in ids {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if id.is_empty() || id.len() > 80 || !id.chars().all(plain) {
            return Err(Error::InvalidBatchEntryId);
        }
        if !seen.insert(id) {
            return Err(Error::BatchEntryIdsNotDistinct(id.to_owned()));
        }
    }
    Ok(())
}
