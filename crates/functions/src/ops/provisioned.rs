//! Provisioned concurrency: instances that are ready before a request comes.

use std::sync::Arc;

use aws::Response;
use serde_json::{Value, json};
use store::{Page, Read, Write};
use types::AccountId;

use super::Cx;
use crate::Error;
use crate::invoke::MOST_QUALIFIERS;
use crate::name::{FunctionName, LATEST, Version};
use crate::service::Inner;
use crate::tables::{
    ALIASES, AliasRow, FUNCTIONS, PROVISIONED, ProvisionedRow, VERSIONS, all_of, by_name, by_number,
    by_qualifier, marker_of, page_of, qualifier_of,
};
use crate::wire::marker;

impl Inner {
    /// Has the versions of a function that are to be kept ready make what is missing.
    pub(crate) async fn provision(self: &Arc<Self>, account: AccountId, name: &str) {
        let key = (account, name.to_owned());
        let lock = || self.provisioned.lock().expect("no holder of this lock panics");
        match self.try_provision(account, name).await {
            Ok(true) => {
                lock().insert(key);
            }
            Ok(false) => {
                lock().remove(&key);
            }
            Err(Error::NotFound(_)) => {
                lock().remove(&key);
            }
            Err(error) => tracing::warn!(%account, name, %error, "instances could not be provisioned"),
        }
    }

    /// False if nothing of the function is provisioned.
    async fn try_provision(self: &Arc<Self>, account: AccountId, name: &str) -> Result<bool, Error> {
        let function = self.function(account, name).await?;
        let known = self.known(&function).await?;
        let wanted = known.provisioned();
        // Pools that were kept ready and are not to be any more have to hear of it too.
        let mut versions: Vec<_> = function.pools().iter().map(|pool| pool.version).collect();
        versions
            .extend(wanted.keys().filter(|version| !versions.contains(version)).copied().collect::<Vec<_>>());
        for version in versions {
            let (pool, _) = self.deployed(&function, &known, version).await?;
            if !self.is_draining() {
                pool.pump(self);
            }
        }
        Ok(!wanted.is_empty())
    }
}

/// The qualifiers on a page that have something provisioned.
pub(super) fn there_on(page: &Page) -> Result<Vec<String>, Error> {
    let names = page.entries.iter().map(|entry| Ok(qualifier_of(&PROVISIONED.decode(entry)?.key)));
    Ok(names.collect::<Result<Vec<_>, Error>>()?.into_iter().flatten().collect())
}

/// Refuses an alias with something provisioned that leads to what can not be kept ready, or is kept ready itself:
/// `there` are the qualifiers that have something provisioned.
pub(super) fn check_alias(alias: &AliasRow, there: &[String]) -> Result<(), Error> {
    if there.contains(&alias.name) { check_target(alias, there) } else { Ok(()) }
}

fn check_target(alias: &AliasRow, there: &[String]) -> Result<(), Error> {
    if alias.version == Version::Latest {
        return Err(unpublished());
    }
    if there.contains(&alias.version.to_string()) {
        return Err(Error::Conflict(
            "Alias can't be used for Provisioned Concurrency configuration on an already Provisioned version"
                .into(),
        ));
    }
    Ok(())
}

/// Refuses aliases of what can not be kept ready, and what is kept ready under another name: `there` are the
/// qualifiers that have something provisioned.
fn check_others(own: &str, aliases: &[AliasRow], there: &[String]) -> Result<(), Error> {
    if let Some(alias) = aliases.iter().find(|alias| alias.name == own) {
        check_target(alias, there)?;
    }
    if aliases.iter().any(|alias| alias.version.to_string() == own && there.contains(&alias.name)) {
        return Err(Error::Conflict("Version is pointed by a Provisioned Concurrency alias".into()));
    }
    Ok(())
}

fn unpublished() -> Error {
    Error::InvalidParameter(
        "Provisioned Concurrency Configs cannot be applied to unpublished function versions.".into(),
    )
}

impl Cx {
    /// The version or alias that is meant; `$LATEST` can not be kept ready.
    fn provisionable<'a>(&self, function: &'a FunctionName) -> Result<&'a str, Error> {
        match function.qualifier.as_deref() {
            Some(LATEST) => Err(unpublished()),
            Some(qualifier) => Ok(qualifier),
            None => Err(Error::missing("qualifier")),
        }
    }

    async fn shown_provisioned(
        &self,
        function: &FunctionName,
        qualifier: &str,
        row: &ProvisionedRow,
    ) -> Result<Value, Error> {
        let live = self.inner.function(self.account, &function.name).await?;
        let known = self.inner.known(&live).await?;
        let version = known.version(Some(qualifier), || 1.0)?;
        let pools = live.pools();
        let ready = pools.iter().find(|pool| pool.version == version).map_or(0, |pool| pool.ready());
        let ready = ready.min(row.requested);
        Ok(json!({
            "RequestedProvisionedConcurrentExecutions": row.requested,
            "AvailableProvisionedConcurrentExecutions": ready,
            "AllocatedProvisionedConcurrentExecutions": ready,
            "Status": if ready == row.requested { "READY" } else { "IN_PROGRESS" },
            "LastModified": row.modified.strftime("%Y-%m-%dT%H:%M:%S+0000").to_string(),
        }))
    }

    pub(super) async fn put_provisioned(
        &self,
        function: FunctionName,
        requested: i64,
    ) -> Result<Response, Error> {
        let qualifier = self.provisionable(&function)?;
        let requested = u32::try_from(requested).ok().filter(|requested| *requested > 0).ok_or_else(|| {
            Error::rule(format!(
                "Value '{requested}' at 'provisionedConcurrentExecutions' failed to satisfy constraint: Member must \
                 have value greater than or equal to 1"
            ))
        })?;
        let (_, version) = self.resolve(&function).await?;
        let memory_mb = u64::from(version.memory_mb) * u64::from(requested);
        let budget_mb = self.inner.config.memory_budget_mb();
        if memory_mb > budget_mb {
            return Err(Error::InvalidParameter(format!(
                "{requested} instances of {} MB are more than this node's {budget_mb} MB for functions.",
                version.memory_mb
            )));
        }
        let account = self.account;
        let row = ProvisionedRow { requested, modified: self.inner.env.now() };
        let key = by_qualifier(&PROVISIONED, account, &function.name, Some(qualifier));
        let there = match qualifier.parse::<u64>() {
            Ok(number) => by_number(&VERSIONS, account, &function.name, number),
            Err(_) => by_qualifier(&ALIASES, account, &function.name, Some(qualifier)),
        };
        let others = all_of(&PROVISIONED, account, &function.name, MOST_QUALIFIERS);
        let aliases = all_of(&ALIASES, account, &function.name, MOST_QUALIFIERS);
        let reads = vec![
            Read::Key(by_name(&FUNCTIONS, account, &function.name)),
            Read::Key(there),
            Read::Range(others),
            Read::Range(aliases),
        ];
        let (not_found, own) = (self.not_found(&function.name), qualifier.to_owned());
        let limit =
            self.inner.config.account_concurrency.saturating_sub(self.inner.config.unreserved_concurrency);
        let put = self.inner.store.transact(reads, move |pages, _| -> Result<_, Error> {
            let Some(stored) = FUNCTIONS.first(&pages[0])? else { return Err(not_found.clone()) };
            if pages[1].first().is_none() {
                return Err(not_found.clone());
            }
            let mut sum = requested;
            for entry in &pages[2].entries {
                let other = PROVISIONED.decode(entry)?;
                if qualifier_of(&other.key).as_deref() != Some(&own) {
                    sum = sum.saturating_add(other.value.requested);
                }
            }
            let there = there_on(&pages[2])?;
            let aliases = pages[3].entries.iter().map(|entry| Ok(ALIASES.decode(entry)?.value));
            check_others(&own, &aliases.collect::<Result<Vec<_>, Error>>()?, &there)?;
            let limit = stored.value.reserved_concurrency.unwrap_or(limit);
            if sum > limit {
                return Err(Error::InvalidParameter(format!(
                    "Requested Provisioned Concurrency should not be greater than the reservedConcurrentExecution for \
                     function, or what is left of the account's: [{limit}]"
                )));
            }
            Ok((vec![PROVISIONED.put(key.clone(), &row)], ()))
        });
        put.await?;
        self.inner.changed(account, &function.name, false);
        self.inner.provision(account, &function.name).await;
        let shown = self.shown_provisioned(&function, qualifier, &row).await?;
        Ok(aws::json::output_with_status(202, &shown))
    }

    async fn provisioned_row(
        &self,
        function: &FunctionName,
        qualifier: &str,
    ) -> Result<ProvisionedRow, Error> {
        self.row(&function.name).await?;
        let key = by_qualifier(&PROVISIONED, self.account, &function.name, Some(qualifier));
        let stored = PROVISIONED.get(&self.inner.store, key).await?;
        stored.map(|stored| stored.value).ok_or(Error::NotProvisioned)
    }

    pub(super) async fn get_provisioned(&self, function: FunctionName) -> Result<Response, Error> {
        let qualifier = self.provisionable(&function)?;
        let row = self.provisioned_row(&function, qualifier).await?;
        Ok(aws::json::output(&self.shown_provisioned(&function, qualifier, &row).await?))
    }

    pub(super) async fn delete_provisioned(&self, function: FunctionName) -> Result<Response, Error> {
        let qualifier = self.provisionable(&function)?;
        self.provisioned_row(&function, qualifier).await?;
        let key = by_qualifier(&PROVISIONED, self.account, &function.name, Some(qualifier));
        self.inner.store.write(vec![Write::Delete(key)]).await?;
        self.inner.changed(self.account, &function.name, false);
        self.inner.provision(self.account, &function.name).await;
        Ok(aws::json::empty(204))
    }

    pub(super) async fn list_provisioned(
        &self,
        function: FunctionName,
        marker: Option<String>,
        limit: usize,
    ) -> Result<Response, Error> {
        self.row(&function.name).await?;
        let range = page_of(&PROVISIONED, self.account, &function.name, marker.as_deref(), limit);
        let (rows, more) = PROVISIONED.scan(&self.inner.store, range).await?;
        let mut shown = Vec::new();
        for row in &rows {
            let Some(qualifier) = qualifier_of(&row.key) else { continue };
            let mut one = self.shown_provisioned(&function, &qualifier, &row.value).await?;
            one["FunctionArn"] = json!(format!("{}:{qualifier}", self.arn(&function.name)));
            shown.push(one);
        }
        let mut output = json!({ "ProvisionedConcurrencyConfigs": shown });
        if let Some(last) = rows.last().filter(|_| more) {
            output["NextMarker"] =
                json!(marker::give("ListProvisionedConcurrencyConfigs", &marker_of(&last.key)));
        }
        Ok(aws::json::output(&output))
    }
}
