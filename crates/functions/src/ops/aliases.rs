//! Aliases: names that lead to versions (AWS Lambda developer guide, "Create an alias for a Lambda function").

use aws::Response;
use serde_json::{Value, json};
use store::{Read, Write};

use super::provisioned::{check_alias, there_on};
use super::{Cx, check_revision, settings};
use crate::Error;
use crate::invoke::MOST_QUALIFIERS;
use crate::name::{FunctionName, Version};
use crate::tables::{
    ALIASES, AliasRow, FUNCTIONS, PROVISIONED, VERSIONS, all_of, by_name, by_number, by_qualifier, page_of,
};
use crate::wire::input::{Alias, RoutingConfig};
use crate::wire::marker;
use crate::wire::members::Faults;

fn check_name(name: &str) -> Result<(), Error> {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    let number = name.bytes().all(|b| b.is_ascii_digit());
    if name.is_empty() || name.len() > 128 || number || !name.bytes().all(word) {
        return Err(Error::rule(format!(
            "Value '{name}' at 'name' failed to satisfy constraint: Member must satisfy regular expression \
             pattern: (?!^[0-9]+$)([a-zA-Z0-9-_]+)"
        )));
    }
    Ok(())
}

fn parse_version(text: &str) -> Result<Version, Error> {
    text.parse().map_err(|_| {
        Error::rule(format!(
            "Value '{text}' at 'functionVersion' failed to satisfy constraint: Member must satisfy regular \
             expression pattern: (\\$LATEST|[0-9]+)"
        ))
    })
}

/// The version that a part of the invocations goes to, and how large a part.
fn shifted(routing: &RoutingConfig) -> Result<Option<(Version, f64)>, Error> {
    let mut weights = routing.additional_version_weights.iter();
    let Some((version, weight)) = weights.next() else { return Ok(None) };
    if weights.next().is_some() {
        return Err(Error::InvalidParameter(
            "Number of items in AdditionalVersionWeights cannot be greater than 1".into(),
        ));
    }
    if !(0.0..=1.0).contains(weight) {
        return Err(Error::rule(format!(
            "Value '{weight}' at 'routingConfig.additionalVersionWeights' failed to satisfy constraint: Map values \
             must be between 0.0 and 1.0"
        )));
    }
    Ok(Some((parse_version(version)?, *weight)))
}

fn check_pair(version: Version, shifted: Option<(Version, f64)>) -> Result<(), Error> {
    match shifted {
        Some((other, _)) if version == Version::Latest || other == Version::Latest => {
            Err(Error::InvalidParameter(
                "$LATEST is not supported for an alias pointing to more than 1 version".into(),
            ))
        }
        Some((other, _)) if other == version => Err(Error::InvalidParameter(format!(
            "Invalid function version {other}. Function version {other} is already included in routing configuration."
        ))),
        _ => Ok(()),
    }
}

impl Cx {
    fn no_alias(&self, name: &str, alias: &str) -> Error {
        Error::NotFound(format!("Cannot find alias arn: {}:{alias}", self.arn(name)))
    }

    /// The alias that a name is qualified with.
    pub(super) async fn alias(&self, function: &FunctionName) -> Result<AliasRow, Error> {
        let name = function.qualifier.as_deref().unwrap_or_default();
        let key = by_qualifier(&ALIASES, self.account, &function.name, Some(name));
        let stored = ALIASES.get(&self.inner.store, key).await?;
        let arn = || function.arn(self.account, &self.inner.region);
        stored
            .map(|stored| stored.value)
            .ok_or_else(|| Error::NotFound(format!("Function not found: {}", arn())))
    }

    fn shown_alias(&self, function: &str, alias: &AliasRow) -> Value {
        let mut shown = json!({
            "AliasArn": format!("{}:{}", self.arn(function), alias.name),
            "Name": alias.name,
            "FunctionVersion": alias.version.to_string(),
            "Description": alias.description,
            "RevisionId": alias.revision,
        });
        if let Some((version, weight)) = alias.shifted {
            shown["RoutingConfig"] = json!({ "AdditionalVersionWeights": { version.to_string(): weight } });
        }
        shown
    }

    /// What a commit has to read to know that versions are there.
    fn version_reads(&self, name: &str, versions: &[Version]) -> Vec<Read> {
        let key = |version: &Version| match version {
            Version::Latest => by_name(&FUNCTIONS, self.account, name),
            Version::Number(number) => by_number(&VERSIONS, self.account, name, *number),
        };
        versions.iter().map(|version| Read::Key(key(version))).collect()
    }

    pub(super) async fn create_alias(&self, function: FunctionName, input: Alias) -> Result<Response, Error> {
        self.require_latest(&function)?;
        let mut faults = Faults::default();
        let name = faults.see(input.name.ok_or_else(|| Error::missing("name")).and_then(|name| {
            check_name(&name)?;
            Ok(name)
        }));
        let version = input.function_version.ok_or_else(|| Error::missing("functionVersion"));
        let version = faults.see(version.and_then(|version| parse_version(&version)).map(Some));
        let shifted = faults.see(shifted(&input.routing_config.unwrap_or_default()));
        let description = faults.see(settings::description(input.description.unwrap_or_default()));
        faults.finish()?;
        let version = version.expect("there is one, or that was told");
        check_pair(version, shifted)?;
        let alias = AliasRow { name, version, description, shifted, revision: self.fresh_id() };
        let account = self.account;
        let key = by_qualifier(&ALIASES, account, &function.name, Some(&alias.name));
        let others = all_of(&ALIASES, account, &function.name, MOST_QUALIFIERS);
        let mut reads = vec![
            Read::Key(by_name(&FUNCTIONS, account, &function.name)),
            Read::Key(key.clone()),
            Read::Range(others),
        ];
        let versions: Vec<_> =
            [Some(version), shifted.map(|(version, _)| version)].into_iter().flatten().collect();
        reads.extend(self.version_reads(&function.name, &versions));
        let not_found = self.not_found(&function.name);
        let arn = self.arn(&function.name);
        let row = alias.clone();
        let created = self.inner.store.transact(reads, move |pages, _| -> Result<_, Error> {
            if pages[0].first().is_none() {
                return Err(not_found.clone());
            }
            if pages[1].first().is_some() {
                return Err(Error::Conflict(format!("Alias already exists: {arn}:{}", row.name)));
            }
            if pages[2].entries.len() >= MOST_QUALIFIERS {
                return Err(Error::InvalidParameter(format!(
                    "A function has at most {MOST_QUALIFIERS} aliases on this node."
                )));
            }
            require_versions(&versions, &pages[3..], &arn)?;
            Ok((vec![ALIASES.put(key.clone(), &row)], ()))
        });
        created.await?;
        self.inner.changed(account, &function.name, false);
        Ok(aws::json::output_with_status(201, &self.shown_alias(&function.name, &alias)))
    }

    pub(super) async fn update_alias(
        &self,
        function: FunctionName,
        name: String,
        input: Alias,
    ) -> Result<Response, Error> {
        self.require_latest(&function)?;
        let mut faults = Faults::default();
        faults.see(check_name(&name));
        if input.name.is_some() {
            let fixed = Error::InvalidParameter("The name of an alias can not be changed.".into());
            faults.see(Err::<(), _>(fixed));
        }
        let version = faults.see(input.function_version.as_deref().map(parse_version).transpose());
        let routing = faults.see(input.routing_config.as_ref().map(shifted).transpose());
        let description = faults.see(input.description.map(settings::description).transpose());
        faults.finish()?;
        let versions: Vec<_> =
            [version, routing.flatten().map(|(version, _)| version)].into_iter().flatten().collect();
        let key = by_qualifier(&ALIASES, self.account, &function.name, Some(&name));
        let provisioned = all_of(&PROVISIONED, self.account, &function.name, MOST_QUALIFIERS);
        let mut reads = vec![Read::Key(key.clone()), Read::Range(provisioned)];
        reads.extend(self.version_reads(&function.name, &versions));
        let (no_alias, arn) = (self.no_alias(&function.name, &name), self.arn(&function.name));
        let (fresh, expected) = (self.fresh_id(), input.revision_id);
        let updated = self.inner.store.transact(reads, move |pages, _| -> Result<_, Error> {
            let Some(stored) = ALIASES.first(&pages[0])? else { return Err(no_alias.clone()) };
            let mut alias = stored.value;
            check_revision(expected.as_deref(), alias.revision)?;
            require_versions(&versions, &pages[2..], &arn)?;
            alias.version = version.unwrap_or(alias.version);
            alias.shifted = routing.unwrap_or(alias.shifted);
            if let Some(description) = &description {
                alias.description.clone_from(description);
            }
            check_pair(alias.version, alias.shifted)?;
            check_alias(&alias, &there_on(&pages[1])?)?;
            alias.revision = fresh;
            Ok((vec![ALIASES.put(key.clone(), &alias)], alias))
        });
        let alias = updated.await?;
        self.inner.changed(self.account, &function.name, false);
        self.inner.provision(self.account, &function.name).await;
        Ok(aws::json::output(&self.shown_alias(&function.name, &alias)))
    }

    pub(super) async fn get_alias(&self, function: FunctionName, name: String) -> Result<Response, Error> {
        self.require_latest(&function)?;
        check_name(&name)?;
        let key = by_qualifier(&ALIASES, self.account, &function.name, Some(&name));
        let stored = ALIASES.get(&self.inner.store, key).await?;
        let stored = stored.ok_or_else(|| self.no_alias(&function.name, &name))?;
        Ok(aws::json::output(&self.shown_alias(&function.name, &stored.value)))
    }

    pub(super) async fn delete_alias(&self, function: FunctionName, name: String) -> Result<Response, Error> {
        self.require_latest(&function)?;
        check_name(&name)?;
        self.row(&function.name).await?;
        let (account, key) =
            (self.account, by_qualifier(&ALIASES, self.account, &function.name, Some(&name)));
        let url = by_qualifier(&crate::tables::URLS, account, &function.name, Some(&name));
        let mut belongings = super::belongings(account, &function.name, Some(&name));
        belongings.push(Write::Delete(key));
        // Deleting what is not there is fine, as on AWS.
        let deleted = self.inner.store.transact(vec![Read::Key(url)], move |pages, _| -> Result<_, Error> {
            let mut writes = belongings.clone();
            if let Some(url) = crate::tables::URLS.first(&pages[0])? {
                writes.push(Write::Delete(super::urls::id_key(account, &url.value.id)));
            }
            Ok((writes, ()))
        });
        deleted.await?;
        self.inner.changed(account, &function.name, false);
        Ok(aws::json::empty(204))
    }

    pub(super) async fn list_aliases(
        &self,
        function: FunctionName,
        version: Option<String>,
        marker: Option<String>,
        limit: usize,
    ) -> Result<Response, Error> {
        self.row(&function.name).await?;
        let version = version.as_deref().map(parse_version).transpose()?;
        let range = page_of(&ALIASES, self.account, &function.name, marker.as_deref(), limit);
        let (rows, more) = ALIASES.scan(&self.inner.store, range).await?;
        let last = rows.last().filter(|_| more).map(|row| row.value.name.clone());
        let wanted = |alias: &AliasRow| {
            version.is_none_or(|version| {
                alias.version == version || alias.shifted.is_some_and(|(other, _)| other == version)
            })
        };
        let shown: Vec<_> = rows
            .iter()
            .filter(|row| wanted(&row.value))
            .map(|row| self.shown_alias(&function.name, &row.value))
            .collect();
        let mut output = json!({ "Aliases": shown });
        if let Some(last) = last {
            output["NextMarker"] = json!(marker::give("ListAliases", &last));
        }
        Ok(aws::json::output(&output))
    }
}

/// Refuses versions of which `pages` show that they are not there.
fn require_versions(versions: &[Version], pages: &[store::Page], arn: &str) -> Result<(), Error> {
    match versions.iter().zip(pages).find(|(_, page)| page.first().is_none()) {
        Some((version, _)) => Err(Error::NotFound(format!("Function not found: {arn}:{version}"))),
        None => Ok(()),
    }
}
