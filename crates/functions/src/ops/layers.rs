//! Layers: packages that functions share (AWS Lambda developer guide, "Managing Lambda dependencies with
//! layers").

use std::collections::HashMap;
use std::sync::Arc;

use aws::{Guard, Response};
use serde_json::{Value, json};
use store::key::{after, prefix_end};
use store::{Range, Read, Write};
use types::AccountId;

use super::{Cx, check_revision_of, settings};
use crate::Error;
use crate::code::{Uses, sha256_base64};
use crate::service::Inner;
use crate::tables::{
    CodeRef, CounterRow, LAYER_COUNTERS, LAYERS, LayerRef, LayerRow, PolicyRow, Statement, TOTALS, all_of,
    by_name, by_number, totals_key,
};
use crate::wire::input::{AddLayerVersionPermission, PublishLayerVersion};
use crate::wire::marker;
use crate::wire::members::{self, Faults};
use crate::wire::output::iso_time;

/// Most layers of one function (AWS Lambda developer guide, "Lambda quotas").
const MOST_LAYERS: usize = 5;

/// How many versions of a layer are looked at in one read for the newest that is wanted.
const MATCHED_AT_ONCE: usize = 16;

/// A version of a layer, as a request names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LayerVersion {
    /// Whose it is.
    pub(crate) owner: AccountId,
    pub(crate) name: String,
    pub(crate) number: u64,
}

impl LayerVersion {
    /// Its ARN.
    pub(crate) fn arn(&self, region: &types::Region) -> String {
        format!("{}:{}", arn_of(self.owner, region, &self.name), self.number)
    }
}

/// Which versions of layers a list is of.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) runtime: Option<String>,
    pub(crate) architecture: Option<String>,
}

impl Wanted {
    /// Whether a version is one of them.
    fn holds(&self, row: &LayerRow) -> bool {
        let among = |wanted: &Option<String>, list: &[String]| {
            wanted.as_ref().is_none_or(|wanted| list.contains(wanted))
        };
        among(&self.runtime, &row.runtimes) && among(&self.architecture, &row.architectures)
    }
}

fn arn_of(owner: AccountId, region: &types::Region, name: &str) -> String {
    format!("arn:aws:lambda:{region}:{owner}:layer:{name}")
}

fn constraint(value: &str, at: &str, pattern: &str) -> Error {
    Error::rule(format!(
        "Value '{value}' at '{at}' failed to satisfy constraint: Member must satisfy regular expression pattern: \
         {pattern}"
    ))
}

/// A layer's name, or the name in its ARN.
pub(crate) fn layer_name(text: &str, account: AccountId, region: &types::Region) -> Result<String, Error> {
    let prefix = format!("arn:aws:lambda:{region}:{account}:layer:");
    let name = text.strip_prefix(&prefix).unwrap_or(text);
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if name.is_empty() || name.len() > 140 || !name.bytes().all(word) {
        return Err(constraint(text, "layerName", "[a-zA-Z0-9-_]+"));
    }
    Ok(name.to_owned())
}

/// A layer's name, or its ARN, which may be another account's.
pub(crate) fn owned_name(
    text: &str,
    account: AccountId,
    region: &types::Region,
) -> Result<(AccountId, String), Error> {
    let parts = text.strip_prefix("arn:aws:lambda:").map(|rest| rest.split(':').collect::<Vec<_>>());
    let owner = match parts.as_deref() {
        Some([named, owner, "layer", _]) if *named == region.as_str() => owner.parse().ok(),
        Some(_) | None => None,
    };
    let owner = owner.unwrap_or(account);
    Ok((owner, layer_name(text, owner, region)?))
}

/// The version in a layer version's ARN.
pub(crate) fn layer_version(arn: &str, region: &types::Region) -> Result<LayerVersion, Error> {
    let pattern = "arn:[a-zA-Z0-9-]+:lambda:[a-zA-Z0-9-]+:\\d{12}:layer:[a-zA-Z0-9-_]+:[0-9]+";
    let invalid = || constraint(arn, "layers", pattern);
    let rest = arn.strip_prefix("arn:aws:lambda:").ok_or_else(invalid)?;
    let mut parts = rest.split(':');
    let (named, owner) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let (kind, name, number) = (parts.next(), parts.next(), parts.next());
    let (Some("layer"), Some(name), Some(number), None) = (kind, name, number, parts.next()) else {
        return Err(invalid());
    };
    let number = number.parse().map_err(|_| invalid())?;
    if named != region.as_str() {
        return Err(Error::InvalidParameter(format!("Layer version {arn} is not of this region, {region}.")));
    }
    let owner = owner.parse().map_err(|_| invalid())?;
    Ok(LayerVersion { owner, name: layer_name(name, owner, region)?, number })
}

/// Whom a layer's policy can name: an account, or everybody.
fn is_principal(text: &str) -> bool {
    let root = |text: &str| text.strip_prefix("arn:aws:iam::")?.strip_suffix(":root").map(str::to_owned);
    let account = root(text).unwrap_or_else(|| text.to_owned());
    text == "*" || (account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit()))
}

impl Inner {
    async fn layer(&self, layer: &LayerVersion) -> Result<Option<LayerRow>, Error> {
        let key = by_number(&LAYERS, layer.owner, &layer.name, layer.number);
        Ok(LAYERS.get(&self.store, key).await?.map(|stored| stored.value))
    }

    /// What the layers of other accounts themselves say of who may use them, by their ARNs. One that is not there says
    /// nothing, as one that lets nobody in.
    pub(crate) async fn layer_guards(
        &self,
        account: AccountId,
        layers: &[LayerVersion],
    ) -> Result<HashMap<String, Arc<Guard>>, Error> {
        let mut guards = HashMap::new();
        for layer in layers.iter().filter(|layer| layer.owner != account) {
            let arn = layer.arn(&self.region);
            let policy = self.layer(layer).await?.and_then(|row| row.policy);
            let policy = policy.map(|policy| super::permissions::policy_document(&policy, &arn).into());
            let guard =
                Guard { owner: layer.owner, policy, restricted: false, granted: false, decisive: false };
            guards.insert(arn, Arc::new(guard));
        }
        Ok(guards)
    }
}

impl Cx {
    fn layer_arn(&self, name: &str) -> String {
        arn_of(self.account, &self.inner.region, name)
    }

    fn shown_layer(&self, owner: AccountId, row: &LayerRow, content: bool) -> Value {
        let arn = arn_of(owner, &self.inner.region, &row.name);
        let by = if owner == self.account { row.name.clone() } else { arn.replace(':', "%3A") };
        let mut shown = json!({
            "LayerVersionArn": format!("{arn}:{}", row.number),
            "Version": row.number,
            "Description": row.description,
            "CreatedDate": iso_time(row.created),
            "CompatibleRuntimes": row.runtimes,
            "CompatibleArchitectures": row.architectures,
        });
        if let Some(license) = &row.license {
            shown["LicenseInfo"] = json!(license);
        }
        if content {
            shown["LayerArn"] = json!(arn);
            shown["Content"] = json!({
                "CodeSha256": sha256_base64(&row.code.sha256),
                "CodeSize": row.code.size_bytes,
                "Location": format!(
                    "{}/2018-10-31/layers/{}/versions/{}/content",
                    self.context.endpoint, by, row.number
                ),
            });
        }
        shown
    }

    pub(super) async fn publish_layer(
        &self,
        name: String,
        input: PublishLayerVersion,
    ) -> Result<Response, aws::Error> {
        let description = settings::description(input.description.unwrap_or_default())?;
        members::layer(&input.compatible_runtimes, &input.compatible_architectures)?;
        if input.license_info.as_ref().is_some_and(|license| license.len() > 512) {
            return Err(Error::InvalidParameter("LicenseInfo has at most 512 characters.".into()).into());
        }
        let package = self.package(input.content).await?;
        let account = self.account;
        let now = self.inner.env.now();
        let new = LayerRow {
            name,
            number: 0,
            description,
            license: input.license_info,
            runtimes: input.compatible_runtimes,
            architectures: input.compatible_architectures,
            code: package.reference(),
            created: now,
            policy: None,
        };
        let row = loop {
            let mut uses = Uses::of(account);
            uses.upload(self.inner.upload(account, &package).await?);
            let counter = by_name(&LAYER_COUNTERS, account, &new.name);
            let mut reads = vec![Read::Key(counter.clone()), Read::Key(totals_key(account))];
            reads.extend(uses.reads());
            let new = new.clone();
            let published = self.inner.store.transact(reads, move |pages, _| -> Result<_, Error> {
                let Some((mut writes, Some(code))) = uses.decide(&pages[2..], now)? else {
                    return Ok((Vec::new(), None));
                };
                let last = LAYER_COUNTERS.first(&pages[0])?.map_or(0, |stored| stored.value.last);
                let mut totals = TOTALS.first(&pages[1])?.map(|stored| stored.value).unwrap_or_default();
                totals.code_bytes += code.size_bytes;
                let row = LayerRow { number: last + 1, code, ..new.clone() };
                writes.push(LAYERS.put(by_number(&LAYERS, account, &row.name, row.number), &row));
                writes.push(LAYER_COUNTERS.put(counter.clone(), &CounterRow { last: row.number }));
                writes.push(TOTALS.put(totals_key(account), &totals));
                Ok((writes, Some(row)))
            });
            if let Some(row) = published.await? {
                break row;
            }
        };
        Ok(aws::json::output_with_status(201, &self.shown_layer(account, &row, true)))
    }

    async fn layer(&self, layer: &LayerVersion) -> Result<LayerRow, Error> {
        let stored = self.inner.layer(layer).await?;
        stored.ok_or_else(|| self.no_layer(layer))
    }

    fn no_layer(&self, layer: &LayerVersion) -> Error {
        let arn = layer.arn(&self.inner.region);
        Error::NotFound(format!("The resource you requested does not exist: {arn}"))
    }

    pub(super) async fn get_layer(&self, layer: LayerVersion) -> Result<Response, Error> {
        Ok(aws::json::output(&self.shown_layer(layer.owner, &self.layer(&layer).await?, true)))
    }

    /// The package: where `GetLayerVersion` points to.
    pub(super) async fn download_layer(&self, layer: LayerVersion) -> Result<Response, Error> {
        let row = self.layer(&layer).await?;
        self.package_body(&row.code).await
    }

    /// The newest version of each layer that is wanted.
    pub(super) async fn list_layers(
        &self,
        wanted: Wanted,
        marker: Option<String>,
        limit: usize,
    ) -> Result<Response, Error> {
        let all = LAYER_COUNTERS.key(self.account, |_| {});
        let start = match &marker {
            Some(name) => after(&by_name(&LAYER_COUNTERS, self.account, name)),
            None => all.clone(),
        };
        let range = Range { start, end: prefix_end(&all), limit, limit_bytes: 4 << 20, reverse: false };
        let page = self.inner.store.scan(range).await?;
        let mut names = Vec::new();
        for entry in &page.entries {
            let name = store::key::KeyReader::new(&entry.key).and_then(|mut key| key.text());
            names.push(
                name.map_err(|e| store::Error::Corrupt { table: "layer_counters", reason: e.to_string() })?,
            );
        }
        let newest = |name: &String| {
            Read::Range(Range { reverse: true, ..all_of(&LAYERS, self.account, name, MATCHED_AT_ONCE) })
        };
        let pages = self.inner.store.read(names.iter().map(newest).collect()).await?;
        let mut layers = Vec::new();
        for (name, page) in names.iter().zip(pages) {
            // A layer all of whose versions were deleted keeps its counter and is not there any more.
            if let Some(row) = self.newest_layer(name, page, &wanted).await? {
                layers.push(json!({
                    "LayerName": row.name,
                    "LayerArn": self.layer_arn(&row.name),
                    "LatestMatchingVersion": self.shown_layer(self.account, &row, false),
                }));
            }
        }
        let mut output = json!({ "Layers": layers });
        if let Some(last) = names.last().filter(|_| page.more) {
            output["NextMarker"] = json!(marker::give("ListLayers", last));
        }
        Ok(aws::json::output(&output))
    }

    /// The newest version that is wanted, of those on the page and older ones.
    async fn newest_layer(
        &self,
        name: &str,
        mut page: store::Page,
        wanted: &Wanted,
    ) -> Result<Option<LayerRow>, Error> {
        loop {
            let mut oldest = None;
            for entry in &page.entries {
                let row = LAYERS.decode(entry)?.value;
                if wanted.holds(&row) {
                    return Ok(Some(row));
                }
                oldest = Some(row.number);
            }
            let (Some(oldest), true) = (oldest, page.more) else { return Ok(None) };
            let mut older = Range { reverse: true, ..all_of(&LAYERS, self.account, name, MATCHED_AT_ONCE) };
            older.end = by_number(&LAYERS, self.account, name, oldest);
            page = self.inner.store.scan(older).await?;
        }
    }

    pub(super) async fn list_layer_versions(
        &self,
        name: String,
        wanted: Wanted,
        marker: Option<String>,
        limit: usize,
    ) -> Result<Response, Error> {
        let mut range = Range { reverse: true, ..all_of(&LAYERS, self.account, &name, limit) };
        if let Some(marker) = &marker {
            let number = marker.parse();
            let number = number
                .map_err(|_| Error::InvalidParameter("Marker is not one that was given out.".into()))?;
            range.end = by_number(&LAYERS, self.account, &name, number);
        }
        let (rows, more) = LAYERS.scan(&self.inner.store, range).await?;
        let shown: Vec<_> = rows
            .iter()
            .map(|row| &row.value)
            .filter(|row| wanted.holds(row))
            .map(|row| self.shown_layer(self.account, row, false))
            .collect();
        let mut output = json!({ "LayerVersions": shown });
        if let Some(last) = rows.last().filter(|_| more) {
            output["NextMarker"] = json!(marker::give("ListLayerVersions", &last.value.number.to_string()));
        }
        Ok(aws::json::output(&output))
    }

    /// Functions that use it keep what they use.
    pub(super) async fn delete_layer(&self, layer: LayerVersion) -> Result<Response, Error> {
        let account = self.account;
        let now = self.inner.env.now();
        let key = by_number(&LAYERS, account, &layer.name, layer.number);
        // What is not there is deleted.
        if let Some(before) = LAYERS.get(&self.inner.store, key.clone()).await? {
            let mut uses = Uses::of(account);
            uses.release(&before.value.code);
            let mut reads = vec![Read::Key(key.clone()), Read::Key(totals_key(account))];
            reads.extend(uses.reads());
            let removed = self.inner.store.transact(reads, move |pages, _| -> Result<_, Error> {
                if pages[0].first().is_none() {
                    return Ok((Vec::new(), ()));
                }
                let mut writes = uses.decide(&pages[2..], now)?.map(|(writes, _)| writes).unwrap_or_default();
                let mut totals = TOTALS.first(&pages[1])?.map(|stored| stored.value).unwrap_or_default();
                totals.code_bytes = totals.code_bytes.saturating_sub(before.value.code.size_bytes);
                writes.push(TOTALS.put(totals_key(account), &totals));
                writes.push(Write::Delete(key.clone()));
                Ok((writes, ()))
            });
            removed.await?;
            self.inner.code_may_be_unused(account);
        }
        Ok(aws::json::empty(204))
    }

    async fn change_layer_policy(
        &self,
        layer: &LayerVersion,
        mut change: impl FnMut(Option<PolicyRow>) -> Result<Option<PolicyRow>, Error> + Send + 'static,
    ) -> Result<LayerRow, Error> {
        let key = by_number(&LAYERS, self.account, &layer.name, layer.number);
        let no_layer = self.no_layer(layer);
        let changed = self.inner.store.transact(vec![Read::Key(key.clone())], move |pages, _| {
            let Some(stored) = LAYERS.first(&pages[0])? else { return Err(no_layer.clone()) };
            let mut row = stored.value;
            row.policy = change(row.policy)?;
            Ok((vec![LAYERS.put(key.clone(), &row)], row))
        });
        changed.await
    }

    pub(super) async fn add_layer_permission(
        &self,
        layer: LayerVersion,
        input: AddLayerVersionPermission,
        revision: Option<String>,
    ) -> Result<Response, Error> {
        let mut faults = Faults::default();
        let mut matches = |fits: bool, value: &str, at: &str, pattern: &str| {
            faults.see(if fits { Ok(()) } else { Err(Error::pattern(value, at, pattern)) });
        };
        let sid = &input.statement_id;
        matches(sid.len() <= 100 && members::is_word(sid), sid, "statementId", "([a-zA-Z0-9-_]+)");
        let pattern = "\\d{12}|\\*|arn:(aws[a-zA-Z-]*):iam::\\d{12}:root";
        matches(is_principal(&input.principal), &input.principal, "principal", pattern);
        let action = "lambda:GetLayerVersion";
        matches(input.action == action, &input.action, "action", action);
        faults.finish()?;
        let statement = Statement {
            sid: input.statement_id,
            action: input.action,
            principal: input.principal,
            source_arn: None,
            source_account: None,
            url_auth: None,
            via_url: false,
        };
        let fresh = self.fresh_id();
        let resource = format!("{}:{}", self.layer_arn(&layer.name), layer.number);
        let shown = super::permissions::document(&statement, &resource).to_string();
        let add = move |policy: Option<PolicyRow>| {
            let mut statements = match policy {
                Some(policy) => {
                    check_revision_of(revision.as_deref(), policy.revision, "GetLayerPolicy")?;
                    policy.statements
                }
                None => Vec::new(),
            };
            if statements.iter().any(|one| one.sid == statement.sid) {
                return Err(Error::Conflict(format!(
                    "The statement id ({}) provided already exists. Please provide a new statement id, or remove the \
                     existing statement.",
                    statement.sid
                )));
            }
            statements.push(statement.clone());
            let policy = PolicyRow { revision: fresh, statements };
            let size = super::permissions::policy_document(&policy, &resource).len();
            if size > super::permissions::POLICY_LIMIT {
                return Err(Error::PolicyLength { size, limit: super::permissions::POLICY_LIMIT });
            }
            Ok(Some(policy))
        };
        self.change_layer_policy(&layer, add).await?;
        Ok(aws::json::output_with_status(201, &json!({ "Statement": shown, "RevisionId": fresh })))
    }

    pub(super) async fn remove_layer_permission(
        &self,
        layer: LayerVersion,
        sid: String,
        revision: Option<String>,
    ) -> Result<Response, Error> {
        let fresh = self.fresh_id();
        let remove = move |policy: Option<PolicyRow>| {
            let absent = || Error::NotFound(format!("Statement {sid} is not found in resource policy."));
            let mut policy = policy.ok_or_else(absent)?;
            check_revision_of(revision.as_deref(), policy.revision, "GetLayerPolicy")?;
            let before = policy.statements.len();
            policy.statements.retain(|one| one.sid != sid);
            if policy.statements.len() == before {
                return Err(absent());
            }
            policy.revision = fresh;
            Ok(Some(policy).filter(|policy| !policy.statements.is_empty()))
        };
        self.change_layer_policy(&layer, remove).await?;
        Ok(aws::json::empty(204))
    }

    pub(super) async fn get_layer_policy(&self, layer: LayerVersion) -> Result<Response, Error> {
        let row = self.layer(&layer).await?;
        let Some(policy) = row.policy else {
            return Err(Error::NotFound("No policy is associated with the given resource.".into()));
        };
        let resource = format!("{}:{}", self.layer_arn(&layer.name), layer.number);
        let document = super::permissions::policy_document(&policy, &resource);
        Ok(aws::json::output(&json!({ "Policy": document, "RevisionId": policy.revision })))
    }

    /// The layers that a function is to use, and the packages of those that are other accounts'.
    pub(super) async fn layers(&self, arns: Vec<String>) -> Result<(Vec<LayerRef>, Vec<CodeRef>), Error> {
        if arns.len() > MOST_LAYERS {
            return Err(Error::InvalidParameter(format!("Cannot reference more than {MOST_LAYERS} layers.")));
        }
        let mut layers: Vec<LayerRef> = Vec::new();
        let mut copied = Vec::new();
        for arn in arns {
            let layer = layer_version(&arn, &self.inner.region)?;
            let Some(row) = self.inner.layer(&layer).await? else {
                return Err(Error::InvalidParameter(format!("Layer version {arn} does not exist.")));
            };
            let of = |arn: &str| arn.rsplit_once(':').map(|(layer, _)| layer.to_owned());
            if layers.iter().any(|other| of(&other.arn) == of(&arn)) {
                return Err(Error::InvalidParameter(
                    "Two different versions of the same layer are not allowed to be referenced in the same function."
                        .into(),
                ));
            }
            let code = if layer.owner == self.account {
                row.code
            } else {
                // The blob is the copy's, which the account's own rows know.
                let code = CodeRef { blob: String::new(), ..row.code.clone() };
                copied.push(row.code);
                code
            };
            layers.push(LayerRef { arn, code });
        }
        Ok((layers, copied))
    }

    /// Has a commit use layers; those of other accounts are copied into this one.
    pub(super) async fn use_layers(
        &self,
        uses: &mut Uses,
        layers: &[LayerRef],
        copied: &[CodeRef],
    ) -> Result<(), Error> {
        for layer in layers {
            match copied.iter().find(|code| layer.code.blob.is_empty() && code.sha256 == layer.code.sha256) {
                Some(code) => uses.upload(self.inner.copy(self.account, code).await?),
                None => uses.retain(&layer.code),
            }
        }
        Ok(())
    }
}
