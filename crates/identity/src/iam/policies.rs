//! Managed policies.

use std::collections::BTreeMap;

use aws::query::Form;
use aws::xml::Xml;
use store::{Range, Read, Write, key};
use types::{AccountId, Timestamp};

use super::inline::size;
use super::input;
use crate::call::{Action, Cx, Reply, Target, date, invalid, own_policy_name, reply};
use crate::managed::{self, AwsPolicy};
use crate::policy::{Kind, Policy};
use crate::tables::{self, ManagedPolicy, POLICIES, PolicyVersion};
use crate::{Error, ids};

/// The most characters of a managed policy, white space aside.
const QUOTA: usize = 6_144;

pub(super) fn check_document(document: &str) -> Result<(), aws::Error> {
    Policy::parse(document, Kind::Identity)?;
    if size(document) > QUOTA {
        let message = format!("Cannot exceed quota for PolicySize: {QUOTA}");
        return Err(Error::LimitExceeded(message).into());
    }
    Ok(())
}

pub(super) fn no_policy(arn: &str) -> Error {
    Error::NoSuchEntity(format!("Policy {arn} does not exist or is not attachable."))
}

/// A policy as answers show it.
struct Shown {
    name: String,
    id: String,
    arn: String,
    path: String,
    default_version: u32,
    attached: usize,
    bounding: usize,
    description: Option<String>,
    created_at: Timestamp,
    updated_at: Timestamp,
    tags: BTreeMap<String, String>,
}

impl Shown {
    fn own(account: AccountId, policy: ManagedPolicy) -> Self {
        Self {
            arn: policy.arn(account),
            name: policy.name,
            id: policy.id,
            path: policy.path,
            default_version: policy.default_version,
            attached: 0,
            bounding: 0,
            description: policy.description,
            created_at: policy.created_at,
            updated_at: policy.updated_at,
            tags: policy.tags,
        }
    }

    fn aws(policy: &AwsPolicy) -> Self {
        Self {
            arn: policy.arn.clone(),
            name: policy.name.clone(),
            id: policy.id.clone(),
            path: policy.path.clone(),
            default_version: policy.version,
            attached: 0,
            bounding: 0,
            description: None,
            created_at: policy.created_at,
            updated_at: policy.updated_at,
            tags: BTreeMap::new(),
        }
    }

    fn write(&self, xml: &mut Xml, full: bool) {
        xml.text("PolicyName", &self.name);
        xml.text("PolicyId", &self.id);
        xml.text("Arn", &self.arn);
        xml.text("Path", &self.path);
        xml.text("DefaultVersionId", &format!("v{}", self.default_version));
        xml.value("AttachmentCount", self.attached);
        xml.value("PermissionsBoundaryUsageCount", self.bounding);
        xml.value("IsAttachable", true);
        xml.text("CreateDate", &date(self.created_at));
        xml.text("UpdateDate", &date(self.updated_at));
        if full {
            xml.optional("Description", self.description.as_ref());
            if !self.tags.is_empty() {
                input::write_tags(xml, &self.tags);
            }
        }
    }
}

/// Counts who holds each policy.
async fn count(cx: &Cx, policies: &mut [Shown]) -> Result<(), Error> {
    let account = cx.account();
    let most = 10_000;
    let reads = policies.iter().map(|p| Read::Range(tables::attachments(account, &p.arn, most))).collect();
    let pages = cx.identity.store.read(reads).await?;
    for (policy, page) in policies.iter_mut().zip(pages) {
        for entry in &page.entries {
            let mut reader = key::KeyReader::new(&entry.key).map_err(|e| Error::Corrupt(e.to_string()))?;
            let usage = reader.text().and_then(|_| reader.u8()).map_err(|e| Error::Corrupt(e.to_string()))?;
            if usage <= 2 { policy.attached += 1 } else { policy.bounding += 1 }
        }
    }
    Ok(())
}

pub(super) struct Create {
    arn: String,
    name: String,
    path: String,
    document: String,
    description: Option<String>,
    tags: BTreeMap<String, String>,
}

impl Create {
    pub(super) fn parse(form: &mut Form, cx: &Cx) -> Result<Self, aws::Error> {
        let name = input::name(form, "PolicyName", 128)?;
        let path = input::path(form)?;
        let document = form.require("PolicyDocument")?;
        check_document(&document)?;
        let tags = input::tags(form)?;
        input::check_tag_count(&tags)?;
        let arn = format!("arn:aws:iam::{}:policy{path}{name}", cx.account());
        Ok(Self { arn, name, path, document, description: form.take("Description"), tags })
    }
}

impl Action for Create {
    fn target(&self) -> Target {
        Target::Arn(self.arn.clone())
    }

    async fn run(self, cx: Cx) -> Reply {
        let account = cx.account();
        let now = cx.identity.now();
        let policy = ManagedPolicy {
            id: ids::fresh(cx.identity.env(), "ANPA"),
            name: self.name,
            path: self.path,
            description: self.description,
            created_at: now,
            updated_at: now,
            tags: self.tags,
            default_version: 1,
            next_version: 2,
            versions: vec![PolicyVersion { number: 1, document: self.document, created_at: now }],
        };
        let row_key = tables::policy(account, &policy.name);
        let reads = vec![Read::Key(row_key.clone())];
        let new = policy.clone();
        let decide = move |pages: &[store::Page], _| {
            if POLICIES.first(&pages[0])?.is_some() {
                let message =
                    format!("A policy called {} already exists. Duplicate names are not allowed.", new.name);
                return Err(Error::EntityAlreadyExists(message));
            }
            Ok((vec![POLICIES.put(row_key.clone(), &new)], ()))
        };
        cx.identity.store.transact(reads, decide).await?;
        let shown = Shown::own(account, policy);
        reply(move |xml| xml.element("Policy", |xml| shown.write(xml, true)))
    }
}

pub(super) struct Get {
    arn: String,
}

impl Get {
    pub(super) fn parse(form: &mut Form) -> Result<Self, aws::Error> {
        Ok(Self { arn: form.require("PolicyArn")? })
    }
}

/// AWS's own policies belong to no account, so anybody's rights are asked on `*`.
pub(super) fn target(arn: &str) -> Target {
    if arn.starts_with("arn:aws:iam::aws:") { Target::Any } else { Target::Arn(arn.to_owned()) }
}

impl Action for Get {
    fn target(&self) -> Target {
        target(&self.arn)
    }

    async fn run(self, cx: Cx) -> Reply {
        let shown = match managed::get(&self.arn) {
            Some(policy) => Shown::aws(policy),
            None => {
                let policy = cx.managed_policy(&self.arn).await?;
                let missing = || Error::NoSuchEntity(format!("Policy {} was not found.", self.arn));
                Shown::own(cx.account(), policy.ok_or_else(missing)?)
            }
        };
        let mut shown = [shown];
        count(&cx, &mut shown).await?;
        reply(move |xml| shown.iter().for_each(|shown| xml.element("Policy", |xml| shown.write(xml, true))))
    }
}

#[derive(PartialEq)]
enum Scope {
    All,
    Aws,
    Local,
}

pub(super) struct List {
    scope: Scope,
    only_attached: bool,
    path_prefix: String,
    page: input::Page,
}

impl List {
    pub(super) fn parse(form: &mut Form) -> Result<Self, aws::Error> {
        let scope = match form.take("Scope").as_deref() {
            None | Some("All") => Scope::All,
            Some("AWS") => Scope::Aws,
            Some("Local") => Scope::Local,
            Some(other) => {
                return Err(invalid(format!(
                    "1 validation error detected: Value '{other}' at 'scope' failed to satisfy constraint: \
                     Member must satisfy enum value set: [All, AWS, Local]"
                )));
            }
        };
        Ok(Self {
            scope,
            only_attached: form.take_parsed("OnlyAttached")?.unwrap_or(false),
            path_prefix: form.take("PathPrefix").unwrap_or_else(|| "/".to_owned()),
            page: input::Page::parse(form)?,
        })
    }
}

impl Action for List {
    fn target(&self) -> Target {
        Target::Any
    }

    async fn run(self, cx: Cx) -> Reply {
        let account = cx.account();
        let mut all: Vec<Shown> = Vec::new();
        if self.scope != Scope::Aws {
            let mut range = POLICIES.range(account, 500, |_| {});
            loop {
                let (rows, more) = POLICIES.scan(&cx.identity.store, range.clone()).await?;
                let Some(last) = rows.last() else { break };
                range = Range { start: key::after(&last.key), ..range };
                all.extend(rows.into_iter().map(|row| Shown::own(account, row.value)));
                if !more {
                    break;
                }
            }
        }
        if self.scope != Scope::Local {
            all.extend(managed::all().map(Shown::aws));
        }
        all.retain(|policy| policy.path.starts_with(&self.path_prefix));
        if self.only_attached {
            count(&cx, &mut all).await?;
            all.retain(|policy| policy.attached > 0);
        }
        all.sort_by(|a, b| a.arn.cmp(&b.arn));
        let (mut policies, marker) = self.page.of(all, |policy| &policy.arn);
        if !self.only_attached {
            count(&cx, &mut policies).await?;
        }
        reply(move |xml| {
            xml.list("Policies", &policies, |xml, policy| policy.write(xml, false));
            input::write_page_end(xml, marker.as_ref());
        })
    }
}

pub(super) struct Delete {
    arn: String,
}

impl Delete {
    pub(super) fn parse(form: &mut Form) -> Result<Self, aws::Error> {
        Ok(Self { arn: form.require("PolicyArn")? })
    }
}

impl Action for Delete {
    fn target(&self) -> Target {
        target(&self.arn)
    }

    async fn run(self, cx: Cx) -> Reply {
        let (account, arn) = (cx.account(), self.arn);
        if managed::get(&arn).is_some() {
            return Err(Error::AccessDenied("AWS managed policies can not be deleted.".into()));
        }
        let name = own_policy_name(account, &arn).ok_or_else(|| no_policy(&arn))?;
        let row_key = tables::policy(account, name);
        let reads = vec![Read::Key(row_key.clone()), Read::Range(tables::attachments(account, &arn, 1))];
        let decide = move |pages: &[store::Page], _| {
            let policy = POLICIES.first(&pages[0])?.map(|row| row.value);
            let policy = policy.filter(|policy| policy.arn(account) == arn).ok_or_else(|| no_policy(&arn))?;
            if pages[1].first().is_some() {
                let message = "Cannot delete a policy attached to entities.";
                return Err(Error::DeleteConflict(message.into()));
            }
            if policy.versions.len() > 1 {
                let message = "This policy has more than one version. Before you delete a policy, you must delete \
                               the policy's versions. The default version is deleted with the policy.";
                return Err(Error::DeleteConflict(message.into()));
            }
            Ok((vec![Write::Delete(row_key.clone())], ()))
        };
        cx.identity.store.transact(reads, decide).await?;
        Ok(None)
    }
}
