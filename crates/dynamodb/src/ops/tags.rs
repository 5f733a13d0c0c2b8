//! TagResource, UntagResource and ListTagsOfResource.

use std::collections::BTreeMap;

use async_trait::async_trait;
use aws::Access;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::json;

use super::{Run, document};
use crate::Error;
use crate::service::{Node, Scope};
use crate::tables::{TABLES, table_key};
use crate::wire::{self, Constraints};

/// The most tags of a table.
const MAX_TAGS: usize = 50;

/// Tags that one answer lists.
const PAGE: usize = 10;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(super) struct TagInput {
    key: Option<String>,
    value: Option<String>,
}

/// The signs that tags may have beside letters, digits and white space.
const SIGNS: &str = "+ - = . _ : / @";

fn is_of_tags(c: char) -> bool {
    c.is_alphanumeric() || c.is_whitespace() || SIGNS.contains(c)
}

/// Checks tags.
pub(super) fn tags(input: &[TagInput]) -> Result<BTreeMap<String, String>, Error> {
    let mut constraints = Constraints::default();
    for (at, tag) in (1..).zip(input) {
        let at = |member: &str| format!("tags.{at}.member.{member}");
        constraints.required(tag.key.as_ref(), &at("key")).required(tag.value.as_ref(), &at("value"));
        if let (Some(key), Some(value)) = (&tag.key, &tag.value) {
            constraints.text_len(key, &at("key"), 1, 128).text_len(value, &at("value"), 0, 256);
        }
    }
    constraints.finish()?;
    let mut tags = BTreeMap::new();
    for tag in input {
        let (key, value) = (tag.key.clone().unwrap_or_default(), tag.value.clone().unwrap_or_default());
        if let Some(text) = [&key, &value].into_iter().find(|text| !text.chars().all(is_of_tags)) {
            return Err(Error::invalid_parameter(format_args!(
                "Tag keys and values can only have letters, white space, digits and {SIGNS}: {text}"
            )));
        }
        if key.starts_with("aws:") {
            return Err(Error::validation("Tag keys that begin with aws: are reserved"));
        }
        if tags.insert(key, value).is_some() {
            return Err(Error::validation("One or more parameter values were invalid: Duplicate tag key"));
        }
    }
    check_count(&tags)?;
    Ok(tags)
}

/// A right with the tags of its request.
pub(super) fn with_tags(access: Access, tags: &BTreeMap<String, String>) -> Access {
    let keys = with_keys(access, tags.keys().cloned().collect());
    tags.iter()
        .fold(keys, |access, (key, value)| access.with(format!("aws:RequestTag/{key}"), vec![value.clone()]))
}

/// A right with the keys of the tags of its request.
fn with_keys(access: Access, keys: Vec<String>) -> Access {
    access.with("aws:TagKeys", keys)
}

fn check_count(tags: &BTreeMap<String, String>) -> Result<(), Error> {
    if tags.len() > MAX_TAGS {
        return Err(Error::Validation(format!("The number of tags exceeds the limit of {MAX_TAGS}")));
    }
    Ok(())
}

fn resource(arn: Option<&str>, scope: &Scope) -> Result<String, Error> {
    let arn = arn.ok_or_else(|| Error::validation("Invalid TableArn"))?;
    let invalid =
        || Error::Validation(format!("Invalid TableArn: Invalid ResourceArn provided as input {arn}"));
    if !arn.starts_with("arn:") {
        return Err(Error::validation("Invalid TableArn: ARNs must start with 'arn:'"));
    }
    scope.table_name(arn).map_err(|error| match error {
        Error::Validation(_) => invalid(),
        other => other,
    })
}

fn no_such(scope: &Scope, table: &str) -> Error {
    Error::ResourceNotFound(format!(
        "Requested resource not found: ResourcArn: {} not found",
        scope.table_arn(table)
    ))
}

async fn change(
    node: &Node,
    scope: &Scope,
    table: &str,
    change: impl Fn(&mut BTreeMap<String, String>) -> Result<(), Error> + Send + 'static,
) -> Result<Vec<u8>, Error> {
    let key = table_key(scope.account, table);
    let (account, name) = (scope.account, table);
    let (scope, table) = (scope.clone(), table.to_owned());
    let reads = vec![TABLES.read(key.clone())];
    node.store
        .transact(reads, move |pages, _| {
            let row = TABLES.first(&pages[0])?;
            let mut record = row.ok_or_else(|| no_such(&scope, &table))?.value;
            change(&mut record.tags)?;
            Ok::<_, Error>((vec![TABLES.put(key.clone(), &record)], ()))
        })
        .await?;
    node.cache.forget(account, name);
    // This answer has no body at all.
    Ok(Vec::new())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct TagResourceInput {
    resource_arn: Option<String>,
    tags: Option<Vec<TagInput>>,
}

/// Adds or replaces tags.
pub(crate) struct TagResource {
    table: String,
    tags: BTreeMap<String, String>,
}

#[async_trait]
impl Run for TagResource {
    const NAME: &'static str = "TagResource";

    fn parse(body: &[u8], scope: &Scope) -> Result<Self, Error> {
        let input: TagResourceInput = wire::input(body)?;
        let table = resource(input.resource_arn.as_deref(), scope)?;
        Constraints::default().required(input.tags.as_ref(), "tags").finish()?;
        let tags = tags(&input.tags.unwrap_or_default())?;
        if tags.is_empty() {
            return Err(Error::validation("Atleast one Tag needs to be provided as Input."));
        }
        Ok(Self { table, tags })
    }

    async fn access(&self, _node: &Node, scope: &Scope) -> Vec<Access> {
        vec![with_tags(Access::new("dynamodb:TagResource", scope.table_arn(&self.table)), &self.tags)]
    }

    async fn run(self, node: &Node, scope: &Scope) -> Result<Vec<u8>, Error> {
        let tags = self.tags;
        change(node, scope, &self.table, move |existing| {
            existing.extend(tags.clone());
            check_count(existing)
        })
        .await
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct UntagResourceInput {
    resource_arn: Option<String>,
    tag_keys: Option<Vec<String>>,
}

/// Removes tags.
pub(crate) struct UntagResource {
    table: String,
    keys: Vec<String>,
}

#[async_trait]
impl Run for UntagResource {
    const NAME: &'static str = "UntagResource";

    fn parse(body: &[u8], scope: &Scope) -> Result<Self, Error> {
        let input: UntagResourceInput = wire::input(body)?;
        let table = resource(input.resource_arn.as_deref(), scope)?;
        Constraints::default().required(input.tag_keys.as_ref(), "tagKeys").finish()?;
        let keys = input.tag_keys.unwrap_or_default();
        if keys.is_empty() {
            return Err(Error::validation("Atleast one Tag Key needs to be provided as Input."));
        }
        Ok(Self { table, keys })
    }

    async fn access(&self, _node: &Node, scope: &Scope) -> Vec<Access> {
        vec![with_keys(
            Access::new("dynamodb:UntagResource", scope.table_arn(&self.table)),
            self.keys.clone(),
        )]
    }

    async fn run(self, node: &Node, scope: &Scope) -> Result<Vec<u8>, Error> {
        let keys = self.keys;
        change(node, scope, &self.table, move |existing| {
            existing.retain(|key, _| !keys.contains(key));
            Ok(())
        })
        .await
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct ListTagsInput {
    resource_arn: Option<String>,
    next_token: Option<String>,
}

/// What a token begins with, before it is encoded; the last key follows.
const TOKEN: &str = "tags after ";

/// The last key of the page before.
fn read_token(token: &str) -> Result<String, Error> {
    let text = URL_SAFE_NO_PAD.decode(token).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let key = text.as_deref().and_then(|text| text.strip_prefix(TOKEN));
    key.map(str::to_owned).ok_or_else(|| Error::validation("Invalid NextToken"))
}

/// Lists the tags of a table.
pub(crate) struct ListTagsOfResource {
    table: String,
    /// The last key of the page before.
    after: Option<String>,
}

#[async_trait]
impl Run for ListTagsOfResource {
    const NAME: &'static str = "ListTagsOfResource";

    fn parse(body: &[u8], scope: &Scope) -> Result<Self, Error> {
        let input: ListTagsInput = wire::input(body)?;
        let table = resource(input.resource_arn.as_deref(), scope)?;
        let after = input.next_token.map(|token| read_token(&token)).transpose()?;
        Ok(Self { table, after })
    }

    async fn access(&self, _node: &Node, scope: &Scope) -> Vec<Access> {
        vec![Access::new("dynamodb:ListTagsOfResource", scope.table_arn(&self.table))]
    }

    async fn run(self, node: &Node, scope: &Scope) -> Result<Vec<u8>, Error> {
        let found = TABLES.get(&node.store, table_key(scope.account, &self.table)).await?;
        let tags = found.ok_or_else(|| no_such(scope, &self.table))?.value.tags;
        let mut rest =
            tags.iter().filter(|(key, _)| self.after.as_ref().is_none_or(|after| *key > after)).peekable();
        let page: Vec<_> = rest.by_ref().take(PAGE).collect();
        let listed: Vec<_> = page.iter().map(|(key, value)| json!({"Key": key, "Value": value})).collect();
        let mut out = json!({ "Tags": listed });
        if let Some((last, _)) = page.last().filter(|_| rest.peek().is_some()) {
            out["NextToken"] = json!(URL_SAFE_NO_PAD.encode(format!("{TOKEN}{last}")));
        }
        Ok(document(&out))
    }
}
