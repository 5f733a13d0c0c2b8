//! Tags of log groups.

use std::collections::BTreeMap;

use aws::Response;
use serde::{Deserialize, Serialize};
use store::Read;

use super::{Input, Scope, identified, invalid, no_group};
use crate::Error;
use crate::tables::{self, GROUPS};

/// Keys of 1 to 128 characters, values of up to 256, at most 50.
pub(super) fn check(tags: &BTreeMap<String, String>) -> Result<(), Error> {
    let fits = |(key, value): (&String, &String)| {
        (1..=128).contains(&key.chars().count()) && value.chars().count() <= 256
    };
    if tags.len() > 50 || !tags.iter().all(fits) {
        return Err(invalid("Tags have keys of 1 to 128 characters and values of up to 256; at most 50."));
    }
    Ok(())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct TagResource {
    resource_arn: String,
    tags: BTreeMap<String, String>,
}

impl Input for TagResource {
    const NAME: &'static str = "TagResource";

    fn resource(&self, scope: &Scope) -> String {
        scope.group_arn(&identified(&self.resource_arn))
    }

    async fn run(self, scope: Scope) -> Result<Response, Error> {
        let add = self.tags;
        change(&scope, &self.resource_arn, move |tags| tags.extend(add.clone())).await
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct UntagResource {
    resource_arn: String,
    tag_keys: Vec<String>,
}

impl Input for UntagResource {
    const NAME: &'static str = "UntagResource";

    fn resource(&self, scope: &Scope) -> String {
        scope.group_arn(&identified(&self.resource_arn))
    }

    async fn run(self, scope: Scope) -> Result<Response, Error> {
        let remove = self.tag_keys;
        change(&scope, &self.resource_arn, move |tags| tags.retain(|key, _| !remove.contains(key))).await
    }
}

async fn change(
    scope: &Scope,
    arn: &str,
    apply: impl Fn(&mut BTreeMap<String, String>) + Send + 'static,
) -> Result<Response, Error> {
    let group_key = tables::group(scope.account, &identified(arn));
    let reads = vec![Read::Key(group_key.clone())];
    let decide = move |pages: &[store::Page], _| {
        let mut group = GROUPS.first(&pages[0])?.ok_or_else(no_group)?.value;
        apply(&mut group.tags);
        check(&group.tags)?;
        Ok::<_, Error>((vec![GROUPS.put(group_key.clone(), &group)], ()))
    };
    scope.store().transact(reads, decide).await?;
    Ok(aws::json::empty(200))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct ListTagsForResource {
    resource_arn: String,
}

#[derive(Debug, Serialize)]
struct Tags {
    tags: BTreeMap<String, String>,
}

impl Input for ListTagsForResource {
    const NAME: &'static str = "ListTagsForResource";

    fn resource(&self, scope: &Scope) -> String {
        scope.group_arn(&identified(&self.resource_arn))
    }

    async fn run(self, scope: Scope) -> Result<Response, Error> {
        let group = scope.group(&identified(&self.resource_arn)).await?;
        Ok(aws::json::output(&Tags { tags: group.tags }))
    }
}
