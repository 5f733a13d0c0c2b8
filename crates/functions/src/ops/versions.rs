//! Versions: a function as it was, for ever (AWS Lambda developer guide, "Manage Lambda function versions").

use aws::Response;
use serde_json::json;
use store::{Page, Range, Read};
use types::{AccountId, RequestId, Timestamp};

use super::{Cx, check_revision};
use crate::Error;
use crate::code::Uses;
use crate::name::{FunctionName, Version};
use crate::tables::{
    ALIASES, FUNCTIONS, FunctionRow, TOTALS, VERSIONS, VersionRow, all_of, by_name, by_number, totals_key,
};
use crate::wire::input::PublishVersion;
use crate::wire::marker;
use crate::wire::output::FunctionConfiguration;

/// The newest version of a function.
pub(super) fn newest(account: AccountId, name: &str) -> Range {
    Range { reverse: true, ..all_of(&VERSIONS, account, name, 1) }
}

/// What publishing has decided.
pub(super) enum Published {
    /// Nothing has changed since this version.
    Same(Box<VersionRow>),
    /// This version is new.
    New(Box<VersionRow>),
}

/// The version that `row` is to be published as; `last` is the page of [`newest`].
pub(super) fn publish(
    row: &mut FunctionRow,
    last: &Page,
    description: Option<&str>,
    revision: RequestId,
    now: Timestamp,
) -> Result<Published, Error> {
    if let Some(last) = VERSIONS.first(last)?
        && last.value.function.runs_as(row)
        && last.value.latest_description.as_ref().is_none_or(|then| *then == row.description)
    {
        return Ok(Published::Same(Box::new(last.value)));
    }
    let number = row.next_version;
    row.next_version += 1;
    let mut function = FunctionRow {
        tags: std::collections::BTreeMap::new(),
        reserved_concurrency: None,
        revision,
        last_modified: now,
        pull: row.pulling().cloned(),
        ..row.clone()
    };
    if let Some(description) = description {
        function.description = description.to_owned();
    }
    let latest_description = Some(row.description.clone());
    Ok(Published::New(Box::new(VersionRow { number, function, latest_description })))
}

impl Cx {
    pub(super) async fn publish_version(
        &self,
        function: FunctionName,
        input: PublishVersion,
    ) -> Result<Response, Error> {
        self.require_latest(&function)?;
        let description = input.description.map(super::settings::description).transpose()?;
        let description = description.filter(|description| !description.is_empty());
        let (account, name) = (self.account, function.name);
        let (now, revision) = (self.inner.env.now(), self.fresh_id());
        let version = loop {
            let before = self.row(&name).await?;
            check_revision(input.revision_id.as_deref(), before.revision)?;
            self.check_settled(&before)?;
            if input.code_sha256.as_ref().is_some_and(|sha256| *sha256 != before.code_sha256()) {
                return Err(Error::InvalidParameter(format!(
                    "CodeSHA256 ({}) is different from current CodeSHA256 in $LATEST ({}). Please try again with \
                     the CodeSHA256 in $LATEST.",
                    input.code_sha256.unwrap_or_default(),
                    before.code_sha256()
                )));
            }
            let mut uses = Uses::of(account);
            before.packages().for_each(|code| uses.retain(code));
            let key = by_name(&FUNCTIONS, account, &name);
            let mut reads = vec![
                Read::Key(key.clone()),
                Read::Range(newest(account, &name)),
                Read::Key(totals_key(account)),
            ];
            reads.extend(uses.reads());
            let (description, name) = (description.clone(), name.clone());
            let published = self.inner.store.transact(reads, move |pages, _| -> Result<_, Error> {
                let Some(stored) = FUNCTIONS.first(&pages[0])? else { return Ok((Vec::new(), None)) };
                let mut row = stored.value;
                if row.revision != before.revision {
                    return Ok((Vec::new(), None));
                }
                let version = match publish(&mut row, &pages[1], description.as_deref(), revision, now)? {
                    Published::Same(version) => return Ok((Vec::new(), Some(*version))),
                    Published::New(version) => *version,
                };
                let Some((mut writes, _)) = uses.decide(&pages[3..], now)? else {
                    return Ok((Vec::new(), None));
                };
                let mut totals = TOTALS.first(&pages[2])?.map(|stored| stored.value).unwrap_or_default();
                totals.code_bytes += version.function.code.size_bytes;
                writes.push(FUNCTIONS.put(key.clone(), &row));
                writes.push(VERSIONS.put(by_number(&VERSIONS, account, &name, version.number), &version));
                writes.push(TOTALS.put(totals_key(account), &totals));
                Ok((writes, Some(version)))
            });
            if let Some(version) = published.await? {
                break version;
            }
            // It changed between the look and the commit: once more, with what it is now.
        };
        self.inner.changed(account, &name, false);
        Ok(aws::json::output_with_status(201, &self.configuration_of(&version)))
    }

    pub(super) fn configuration_of<'a>(&self, version: &'a VersionRow) -> FunctionConfiguration<'a> {
        let number = Version::Number(version.number);
        let qualifier = number.to_string();
        FunctionConfiguration::new(
            &version.function,
            self.account,
            &self.inner.region,
            number,
            Some(&qualifier),
        )
    }

    /// A published version.
    pub(super) async fn version(&self, name: &str, number: u64) -> Result<VersionRow, Error> {
        let key = by_number(&VERSIONS, self.account, name, number);
        let stored = VERSIONS.get(&self.inner.store, key).await?;
        stored
            .map(|stored| stored.value)
            .ok_or_else(|| Error::NotFound(format!("Function not found: {}:{number}", self.arn(name))))
    }

    /// What a name with any qualifier stands for: the version, and the function as that has it.
    pub(super) async fn resolve(&self, function: &FunctionName) -> Result<(Version, FunctionRow), Error> {
        let latest = self.row(&function.name).await?;
        let version = match function.qualifier.as_deref() {
            None => Version::Latest,
            Some(qualifier) => match qualifier.parse() {
                Ok(version) => version,
                Err(_) => self.alias(function).await?.version,
            },
        };
        match version {
            Version::Latest => Ok((version, latest)),
            Version::Number(number) => Ok((version, self.version(&function.name, number).await?.function)),
        }
    }

    pub(super) async fn list_versions(
        &self,
        function: FunctionName,
        marker: Option<String>,
        limit: usize,
    ) -> Result<Response, Error> {
        let latest = self.row(&function.name).await?;
        let from = match marker.as_deref().map(str::parse) {
            None => 0,
            Some(Ok(number)) => number,
            Some(Err(_)) => {
                return Err(Error::InvalidParameter("Marker is not one that was given out.".into()));
            }
        };
        let mut range = all_of(&VERSIONS, self.account, &function.name, limit);
        if from > 0 {
            range.start = by_number(&VERSIONS, self.account, &function.name, from);
        } else {
            // The first place is that of the version which changes.
            range.limit = (limit - 1).max(1);
        }
        let (mut rows, mut more) = VERSIONS.scan(&self.inner.store, range).await?;
        if from == 0 && limit == 1 {
            more |= !rows.is_empty();
            rows.clear();
        }
        let region = &self.inner.region;
        let mut versions = Vec::new();
        if from == 0 {
            let qualifier = Some(crate::LATEST);
            versions.push(FunctionConfiguration::new(
                &latest,
                self.account,
                region,
                Version::Latest,
                qualifier,
            ));
        }
        versions.extend(rows.iter().map(|row| self.configuration_of(&row.value)));
        let mut output = json!({ "Versions": versions });
        if more {
            let next = rows.last().map_or(1, |row| row.value.number + 1);
            output["NextMarker"] = json!(marker::give("ListVersionsByFunction", &next.to_string()));
        }
        Ok(aws::json::output(&output))
    }

    /// Removes one version, unless an alias leads to it.
    pub(super) async fn delete_version(&self, name: &str, number: u64) -> Result<(), Error> {
        let account = self.account;
        let now = self.inner.env.now();
        loop {
            self.row(name).await?;
            // What is not there is deleted.
            let key = by_number(&VERSIONS, account, name, number);
            let Some(before) = VERSIONS.get(&self.inner.store, key.clone()).await? else { return Ok(()) };
            let mut uses = Uses::of(account);
            before.value.function.packages().for_each(|code| uses.release(code));
            let aliases = all_of(&ALIASES, account, name, crate::invoke::MOST_QUALIFIERS + 1);
            let mut reads =
                vec![Read::Key(key.clone()), Read::Range(aliases), Read::Key(totals_key(account))];
            reads.extend(uses.reads());
            let qualifier = number.to_string();
            let belongings = super::belongings(account, name, Some(&qualifier));
            let removed = self.inner.store.transact(reads, move |pages, _| -> Result<_, Error> {
                if pages[0].first().is_none() {
                    return Ok((Vec::new(), true));
                }
                for entry in &pages[1].entries {
                    let alias = ALIASES.decode(entry)?.value;
                    let shifted = alias.shifted.map(|(version, _)| version);
                    if [Some(alias.version), shifted].contains(&Some(Version::Number(number))) {
                        return Err(Error::Conflict(format!(
                            "Version {number} is currently in use by the alias {}; point it elsewhere first.",
                            alias.name
                        )));
                    }
                }
                let Some((mut writes, _)) = uses.decide(&pages[3..], now)? else {
                    return Ok((Vec::new(), false));
                };
                let mut totals = TOTALS.first(&pages[2])?.map(|stored| stored.value).unwrap_or_default();
                totals.code_bytes = totals.code_bytes.saturating_sub(before.value.function.code.size_bytes);
                writes.push(TOTALS.put(totals_key(account), &totals));
                writes.push(store::Write::Delete(key.clone()));
                writes.extend(belongings.iter().cloned());
                Ok((writes, true))
            });
            if removed.await? {
                break;
            }
        }
        self.inner.code_may_be_unused(account);
        self.inner.gone(account, name, Some(Version::Number(number)));
        Ok(())
    }
}
