//! TagResource, UntagResource, ListResourceTags.

use std::collections::BTreeMap;

use aws::{Access, Response};
use serde::{Deserialize, Serialize};

use super::{Input, change, limit, one_key};
use crate::Error;
use crate::find::Found;
use crate::service::Scope;

const MAX_TAGS: usize = 50;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(crate) struct Tag {
    tag_key: String,
    tag_value: String,
}

/// Checks a list of tags.
pub(super) fn of_list(tags: &[Tag]) -> Result<BTreeMap<String, String>, Error> {
    let mut map = BTreeMap::new();
    for Tag { tag_key, tag_value } in tags {
        if tag_key.starts_with("aws:") {
            return Err(Error::Tag("Tag keys may not begin with aws:".to_owned()));
        }
        if tag_key.is_empty() || tag_key.chars().count() > 128 || tag_value.chars().count() > 256 {
            return Err(Error::validation(
                "1 validation error detected: a tag's key has 1 to 128 characters, and its value at most 256",
            ));
        }
        if map.insert(tag_key.clone(), tag_value.clone()).is_some() {
            return Err(Error::Tag("Duplicate tag keys".to_owned()));
        }
    }
    check_count(&map)?;
    Ok(map)
}

fn check_count(tags: &BTreeMap<String, String>) -> Result<(), Error> {
    if tags.len() > MAX_TAGS {
        return Err(Error::LimitExceeded(format!("A key can have {MAX_TAGS} tags")));
    }
    Ok(())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(crate) struct TagResource {
    key_id: String,
    tags: Vec<Tag>,
}

impl Input<Scope> for TagResource {
    const NAME: &'static str = "TagResource";
    type Found = (Found, BTreeMap<String, String>);

    async fn find(&self, scope: &Scope) -> Result<(Vec<Access>, Self::Found), Error> {
        let tags = of_list(&self.tags)?;
        let found = scope.key(&self.key_id).await?;
        let mut need = found.access(scope, Self::NAME).with("aws:TagKeys", tags.keys().cloned().collect());
        for (name, value) in &tags {
            need = need.with(format!("aws:RequestTag/{name}"), vec![value.clone()]);
        }
        Ok((vec![need], (found, tags)))
    }

    async fn run(self, scope: Scope, (found, tags): Self::Found) -> Result<Response, Error> {
        found.check_changeable()?;
        change(&scope, &found, move |key| {
            key.tags.extend(tags.clone());
            check_count(&key.tags)?;
            Ok((Vec::new(), ()))
        })
        .await?;
        Ok(aws::json::empty(200))
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(crate) struct UntagResource {
    key_id: String,
    tag_keys: Vec<String>,
}

impl Input<Scope> for UntagResource {
    const NAME: &'static str = "UntagResource";
    type Found = Found;

    async fn find(&self, scope: &Scope) -> Result<(Vec<Access>, Found), Error> {
        let found = scope.key(&self.key_id).await?;
        let need = found.access(scope, Self::NAME).with("aws:TagKeys", self.tag_keys.clone());
        Ok((vec![need], found))
    }

    async fn run(self, scope: Scope, found: Found) -> Result<Response, Error> {
        found.check_changeable()?;
        change(&scope, &found, move |key| {
            key.tags.retain(|name, _| !self.tag_keys.contains(name));
            Ok((Vec::new(), ()))
        })
        .await?;
        Ok(aws::json::empty(200))
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(crate) struct ListResourceTags {
    key_id: String,
    limit: Option<i64>,
    marker: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Tags {
    tags: Vec<Tag>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_marker: Option<String>,
    truncated: bool,
}

impl Input<Scope> for ListResourceTags {
    const NAME: &'static str = "ListResourceTags";
    type Found = Found;

    async fn find(&self, scope: &Scope) -> Result<(Vec<Access>, Found), Error> {
        one_key(scope, &self.key_id, Self::NAME).await
    }

    async fn run(self, _scope: Scope, found: Found) -> Result<Response, Error> {
        let limit = limit(self.limit, 50, 50)?;
        let after = self.marker.unwrap_or_default();
        let rest: Vec<_> = found.key().tags.iter().filter(|(name, _)| **name > after).collect();
        let truncated = rest.len() > limit;
        let page = rest.into_iter().take(limit);
        let tags: Vec<_> =
            page.map(|(name, value)| Tag { tag_key: name.clone(), tag_value: value.clone() }).collect();
        let next_marker = tags.last().filter(|_| truncated).map(|tag| tag.tag_key.clone());
        Ok(aws::json::output(&Tags { tags, next_marker, truncated }))
    }
}
