//! TagQueue, UntagQueue, ListQueueTags.

use std::collections::BTreeMap;

use aws::{Access, Response};
use serde::{Deserialize, Serialize};

use super::attributes::change;
use super::{Input, one_queue};
use crate::Error;
use crate::find::Found;
use crate::service::Scope;

const MAX_TAGS: usize = 50;

/// Refuses what are no tags.
pub(super) fn check(tags: &BTreeMap<String, String>) -> Result<(), Error> {
    if tags.len() > MAX_TAGS {
        return Err(Error::InvalidParameterValue(format!("Too many tags: a queue has at most {MAX_TAGS}.")));
    }
    for (key, value) in tags {
        if key.is_empty() || key.chars().count() > 128 || value.chars().count() > 256 {
            return Err(Error::InvalidParameterValue(
                "A tag's key has 1 to 128 characters, and its value at most 256.".to_owned(),
            ));
        }
        if key.starts_with("aws:") {
            return Err(Error::InvalidParameterValue("Tag keys may not begin with aws:.".to_owned()));
        }
    }
    Ok(())
}

/// A right with the tags of its request.
pub(super) fn with_request(need: Access, tags: &BTreeMap<String, String>) -> Access {
    let need = need.with("aws:TagKeys", tags.keys().cloned().collect());
    tags.iter()
        .fold(need, |need, (key, value)| need.with(format!("aws:RequestTag/{key}"), vec![value.clone()]))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(crate) struct TagQueue {
    queue_url: Option<String>,
    tags: Option<BTreeMap<String, String>>,
}

impl Input<Scope> for TagQueue {
    const NAME: &'static str = "TagQueue";
    type Found = Found;

    async fn find(&self, scope: &Scope) -> Result<(Vec<Access>, Found), Error> {
        let (needs, found) = one_queue(scope, self.queue_url.as_deref(), Self::NAME).await?;
        let given = self.tags.clone().unwrap_or_default();
        Ok((needs.into_iter().map(|need| with_request(need, &given)).collect(), found))
    }

    async fn run(self, scope: Scope, found: Found) -> Result<Response, Error> {
        let given = self.tags.ok_or(Error::MissingParameter("Tags"))?;
        let queue = found.there()?;
        check(&given)?;
        change(&scope, queue, move |row, _, _| {
            row.tags.extend(given.clone());
            check(&row.tags)
        })
        .await?;
        Ok(aws::json::empty(200))
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(crate) struct UntagQueue {
    queue_url: Option<String>,
    tag_keys: Option<Vec<String>>,
}

impl Input<Scope> for UntagQueue {
    const NAME: &'static str = "UntagQueue";
    type Found = Found;

    async fn find(&self, scope: &Scope) -> Result<(Vec<Access>, Found), Error> {
        let (needs, found) = one_queue(scope, self.queue_url.as_deref(), Self::NAME).await?;
        let keys = self.tag_keys.clone().unwrap_or_default();
        Ok((needs.into_iter().map(|need| need.with("aws:TagKeys", keys.clone())).collect(), found))
    }

    async fn run(self, scope: Scope, found: Found) -> Result<Response, Error> {
        let keys = self.tag_keys.ok_or(Error::MissingParameter("TagKeys"))?;
        let queue = found.there()?;
        change(&scope, queue, move |row, _, _| {
            row.tags.retain(|key, _| !keys.contains(key));
            Ok(())
        })
        .await?;
        Ok(aws::json::empty(200))
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(crate) struct ListQueueTags {
    queue_url: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Tags<'a> {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    tags: &'a BTreeMap<String, String>,
}

impl Input<Scope> for ListQueueTags {
    const NAME: &'static str = "ListQueueTags";
    type Found = Found;

    async fn find(&self, scope: &Scope) -> Result<(Vec<Access>, Found), Error> {
        one_queue(scope, self.queue_url.as_deref(), Self::NAME).await
    }

    async fn run(self, _scope: Scope, found: Found) -> Result<Response, Error> {
        let queue = found.there()?;
        Ok(aws::json::output(&Tags { tags: &queue.row.tags }))
    }
}
