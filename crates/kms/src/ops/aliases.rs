//! CreateAlias, UpdateAlias, DeleteAlias, ListAliases.

use aws::{Access, Response};
use serde::{Deserialize, Serialize};
use store::key::after;
use store::{Range, Read, Store, Write};
use types::AccountId;

use super::{Input, limit, seconds};
use crate::Error;
use crate::find::Found;
use crate::service::Scope;
use crate::tables::{self, ALIASES, AliasRow};

/// The part of an alias's name behind `alias/`.
fn read_name(text: &str) -> Result<&str, Error> {
    let named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '_' | '-');
    let name = text.strip_prefix("alias/").ok_or_else(|| Error::validation("Invalid identifier"))?;
    if name.is_empty() || text.len() > 256 || !name.chars().all(named) {
        return Err(Error::InvalidAliasName(format!(
            "{text} contains invalid characters for an alias (alias/ and letters, digits, /, _ and -)"
        )));
    }
    if name.starts_with("aws/") {
        return Err(Error::NotAuthorized(String::new()));
    }
    Ok(name)
}

/// The names of a key's aliases.
pub(crate) async fn of_key(store: &Store, account: AccountId, id: &str) -> Result<Vec<String>, Error> {
    let mut range = ALIASES.range(account, 500, |_| {});
    let mut names = Vec::new();
    loop {
        let (rows, more) = ALIASES.scan(store, range.clone()).await?;
        let Some(last) = rows.last() else { return Ok(names) };
        range.start = after(&last.key);
        names.extend(rows.into_iter().filter(|row| row.value.key == id).map(|row| row.value.name));
        if !more {
            return Ok(names);
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(crate) struct CreateAlias {
    alias_name: String,
    target_key_id: String,
}

/// A key of one's own account.
async fn target(scope: &Scope, text: &str) -> Result<Found, Error> {
    if text.contains("alias/") {
        return Err(Error::validation("Aliases must refer to keys. Not aliases"));
    }
    let found = scope.key(text).await?;
    if found.account != scope.account {
        return Err(Error::NotFound(format!("Key '{}' does not exist", found.arn)));
    }
    Ok(found)
}

impl Input<Scope> for CreateAlias {
    const NAME: &'static str = "CreateAlias";
    type Found = Found;

    async fn find(&self, scope: &Scope) -> Result<(Vec<Access>, Found), Error> {
        let name = read_name(&self.alias_name)?;
        let found = target(scope, &self.target_key_id).await?;
        let alias = Access::new("kms:CreateAlias", scope.alias_arn(scope.account, name));
        Ok((vec![alias, found.access(scope, Self::NAME)], found))
    }

    async fn run(self, scope: Scope, found: Found) -> Result<Response, Error> {
        found.check_changeable()?;
        let (name, now_ms) = (read_name(&self.alias_name)?.to_owned(), scope.now_ms());
        let arn = scope.alias_arn(scope.account, &name);
        let row_key = tables::alias_row(scope.account, &name);
        let row = AliasRow { name, key: found.key().id.clone(), created_ms: now_ms, updated_ms: now_ms };
        scope
            .inner
            .store
            .transact(vec![Read::Key(row_key.clone())], move |pages, _| {
                if ALIASES.first(&pages[0])?.is_some() {
                    return Err(Error::AlreadyExists(format!("An alias with the name {arn} already exists")));
                }
                Ok((vec![ALIASES.put(row_key.clone(), &row)], ()))
            })
            .await?;
        Ok(aws::json::empty(200))
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(crate) struct UpdateAlias {
    alias_name: String,
    target_key_id: String,
}

fn no_alias(scope: &Scope, name: &str) -> Error {
    Error::NotFound(format!("Alias {} is not found.", scope.alias_arn(scope.account, name)))
}

/// An alias, and the key it stands for if that is still there.
async fn existing(scope: &Scope, text: &str) -> Result<(AliasRow, Option<Found>), Error> {
    let name = read_name(text)?;
    let row = ALIASES.get(&scope.inner.store, tables::alias_row(scope.account, name)).await?;
    let alias = row.ok_or_else(|| no_alias(scope, name))?.value;
    match scope.by_id(scope.account, &alias.key).await {
        Ok(found) => Ok((alias, Some(found))),
        Err(Error::NotFound(_)) => Ok((alias, None)),
        Err(error) => Err(error),
    }
}

impl Input<Scope> for UpdateAlias {
    const NAME: &'static str = "UpdateAlias";
    type Found = (AliasRow, Found);

    async fn find(&self, scope: &Scope) -> Result<(Vec<Access>, Self::Found), Error> {
        let (alias, old) = existing(scope, &self.alias_name).await?;
        let new = target(scope, &self.target_key_id).await?;
        let mut needs = vec![Access::new("kms:UpdateAlias", scope.alias_arn(scope.account, &alias.name))];
        needs.extend(old.iter().chain([&new]).map(|key| key.access(scope, Self::NAME)));
        Ok((needs, (alias, new)))
    }

    async fn run(self, scope: Scope, (alias, found): Self::Found) -> Result<Response, Error> {
        found.check_changeable()?;
        let row_key = tables::alias_row(scope.account, &alias.name);
        let (missing, now_ms) = (no_alias(&scope, &alias.name), scope.now_ms());
        let id = found.key().id.clone();
        scope
            .inner
            .store
            .transact(vec![Read::Key(row_key.clone())], move |pages, _| {
                let mut alias = ALIASES.first(&pages[0])?.ok_or_else(|| missing.clone())?.value;
                alias.key.clone_from(&id);
                alias.updated_ms = now_ms;
                Ok::<_, Error>((vec![ALIASES.put(row_key.clone(), &alias)], ()))
            })
            .await?;
        Ok(aws::json::empty(200))
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(crate) struct DeleteAlias {
    alias_name: String,
}

impl Input<Scope> for DeleteAlias {
    const NAME: &'static str = "DeleteAlias";
    type Found = AliasRow;

    async fn find(&self, scope: &Scope) -> Result<(Vec<Access>, AliasRow), Error> {
        let (alias, key) = existing(scope, &self.alias_name).await?;
        let mut needs = vec![Access::new("kms:DeleteAlias", scope.alias_arn(scope.account, &alias.name))];
        needs.extend(key.map(|key| key.access(scope, Self::NAME)));
        Ok((needs, alias))
    }

    async fn run(self, scope: Scope, alias: AliasRow) -> Result<Response, Error> {
        let row_key = tables::alias_row(scope.account, &alias.name);
        scope.inner.store.write(vec![Write::Delete(row_key)]).await?;
        Ok(aws::json::empty(200))
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
pub(crate) struct ListAliases {
    key_id: Option<String>,
    limit: Option<i64>,
    marker: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct AliasList {
    aliases: Vec<AliasEntry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_marker: Option<String>,
    truncated: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct AliasEntry {
    alias_name: String,
    alias_arn: String,
    target_key_id: String,
    creation_date: f64,
    last_updated_date: f64,
}

impl Input<Scope> for ListAliases {
    const NAME: &'static str = "ListAliases";
    type Found = Option<Found>;

    async fn find(&self, scope: &Scope) -> Result<(Vec<Access>, Self::Found), Error> {
        let mut needs = vec![Access::new("kms:ListAliases", "*")];
        let Some(key_id) = &self.key_id else { return Ok((needs, None)) };
        let found = target(scope, key_id).await?;
        needs.push(found.access(scope, Self::NAME));
        Ok((needs, Some(found)))
    }

    async fn run(self, scope: Scope, of: Self::Found) -> Result<Response, Error> {
        let limit = limit(self.limit, 50, 100)?;
        let mut range = ALIASES.range(scope.account, 500, |_| {});
        if let Some(marker) = &self.marker {
            range.start = after(&tables::alias_row(scope.account, marker));
        }
        let mut aliases: Vec<AliasRow> = Vec::new();
        let truncated = 'pages: loop {
            let (rows, more) = ALIASES.scan(&scope.inner.store, range.clone()).await?;
            let Some(last) = rows.last() else { break false };
            range = Range { start: after(&last.key), ..range };
            for row in rows {
                if of.as_ref().is_some_and(|key| key.key().id != row.value.key) {
                    continue;
                }
                if aliases.len() == limit {
                    break 'pages true;
                }
                aliases.push(row.value);
            }
            if !more {
                break false;
            }
        };
        let next_marker = aliases.last().filter(|_| truncated).map(|alias| alias.name.clone());
        let entries = aliases.into_iter().map(|alias| AliasEntry {
            alias_arn: scope.alias_arn(scope.account, &alias.name),
            alias_name: format!("alias/{}", alias.name),
            target_key_id: alias.key,
            creation_date: seconds(alias.created_ms),
            last_updated_date: seconds(alias.updated_ms),
        });
        Ok(aws::json::output(&AliasList { aliases: entries.collect(), next_marker, truncated }))
    }
}
