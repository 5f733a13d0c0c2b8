//! Versions of managed policies.

use aws::query::Form;
use aws::xml::Xml;
use store::Read;

use super::input;
use super::policies::{check_document, no_policy, target};
use crate::Error;
use crate::call::{Action, Cx, Reply, Target, date, invalid, own_policy_name, reply};
use crate::managed;
use crate::tables::{self, ManagedPolicy, POLICIES, PolicyVersion};

/// The most versions of a policy.
const MOST: usize = 5;

fn version(form: &mut Form) -> Result<u32, aws::Error> {
    let text = form.require("VersionId")?;
    let number = text.strip_prefix('v').and_then(|number| number.parse().ok());
    number.ok_or_else(|| invalid(format!("`{text}` is not a version of a policy: v1, v2, ...")))
}

fn no_version(arn: &str, number: u32) -> Error {
    Error::NoSuchEntity(format!("Policy {arn} version v{number} does not exist or is not attachable."))
}

fn write_version(xml: &mut Xml, version: &PolicyVersion, default: u32, with_document: bool) {
    if with_document {
        xml.text("Document", &input::encode_document(&version.document));
    }
    xml.text("VersionId", &format!("v{}", version.number));
    xml.value("IsDefaultVersion", version.number == default);
    xml.text("CreateDate", &date(version.created_at));
}

/// Changes a policy of the account; everybody's rights may follow from it.
async fn change<T: Send + 'static>(
    cx: &Cx,
    arn: &str,
    mut change: impl FnMut(&mut ManagedPolicy) -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let account = cx.account();
    if managed::get(arn).is_some() {
        return Err(Error::AccessDenied("AWS managed policies can not be changed.".into()));
    }
    let name = own_policy_name(account, arn).ok_or_else(|| no_policy(arn))?;
    let row_key = tables::policy(account, name);
    let reads = vec![Read::Key(row_key.clone())];
    let arn = arn.to_owned();
    let decide = move |pages: &[store::Page], _| {
        let policy = POLICIES.first(&pages[0])?.map(|row| row.value);
        let policy = policy.filter(|policy| policy.arn(account) == arn);
        let mut policy = policy.ok_or_else(|| no_policy(&arn))?;
        let value = change(&mut policy)?;
        Ok((vec![POLICIES.put(row_key.clone(), &policy)], value))
    };
    let value = cx.identity.store.transact::<_, Error, _>(reads, decide).await?;
    cx.identity.holders.clear();
    Ok(value)
}

/// The policy with its versions; AWS's own show only their current one.
async fn versions(cx: &Cx, arn: &str) -> Result<(Vec<PolicyVersion>, u32), Error> {
    if let Some(policy) = managed::get(arn) {
        let (document, created_at) = (policy.document.clone(), policy.updated_at);
        return Ok((vec![PolicyVersion { number: policy.version, document, created_at }], policy.version));
    }
    let policy = cx.managed_policy(arn).await?.ok_or_else(|| no_policy(arn))?;
    Ok((policy.versions, policy.default_version))
}

pub(super) struct Create {
    arn: String,
    document: String,
    default: bool,
}

impl Create {
    pub(super) fn parse(form: &mut Form) -> Result<Self, aws::Error> {
        let (arn, document) = (form.require("PolicyArn")?, form.require("PolicyDocument")?);
        check_document(&document)?;
        Ok(Self { arn, document, default: form.take_parsed("SetAsDefault")?.unwrap_or(false) })
    }
}

impl Action for Create {
    fn target(&self) -> Target {
        target(&self.arn)
    }

    async fn run(self, cx: Cx) -> Reply {
        let Self { arn, document, default } = self;
        let now = cx.identity.now();
        let (version, default) = change(&cx, &arn, move |policy| {
            if policy.versions.len() >= MOST {
                let message = "A managed policy can have up to 5 versions. Before you create a new version, you \
                               must delete an existing version.";
                return Err(Error::LimitExceeded(message.into()));
            }
            let version =
                PolicyVersion { number: policy.next_version, document: document.clone(), created_at: now };
            policy.next_version += 1;
            policy.updated_at = now;
            policy.versions.push(version.clone());
            if default {
                policy.default_version = version.number;
            }
            Ok((version, policy.default_version))
        })
        .await?;
        reply(move |xml| xml.element("PolicyVersion", |xml| write_version(xml, &version, default, false)))
    }
}

pub(super) struct Get {
    arn: String,
    number: u32,
}

impl Get {
    pub(super) fn parse(form: &mut Form) -> Result<Self, aws::Error> {
        Ok(Self { arn: form.require("PolicyArn")?, number: version(form)? })
    }
}

impl Action for Get {
    fn target(&self) -> Target {
        target(&self.arn)
    }

    async fn run(self, cx: Cx) -> Reply {
        let (versions, default) = versions(&cx, &self.arn).await?;
        let version = versions.into_iter().find(|version| version.number == self.number);
        let version = version.ok_or_else(|| no_version(&self.arn, self.number))?;
        reply(move |xml| xml.element("PolicyVersion", |xml| write_version(xml, &version, default, true)))
    }
}

pub(super) struct List {
    arn: String,
    page: input::Page,
}

impl List {
    pub(super) fn parse(form: &mut Form) -> Result<Self, aws::Error> {
        Ok(Self { arn: form.require("PolicyArn")?, page: input::Page::parse(form)? })
    }
}

impl Action for List {
    fn target(&self) -> Target {
        target(&self.arn)
    }

    async fn run(self, cx: Cx) -> Reply {
        let (mut versions, default) = versions(&cx, &self.arn).await?;
        // The latest first; a marker is how many were shown.
        versions.sort_by_key(|version| std::cmp::Reverse(version.number));
        let shown = match self.page.after.as_deref().map(str::parse::<usize>) {
            None => 0,
            Some(Ok(shown)) => shown,
            Some(Err(_)) => return Err(Error::ValidationError("Invalid Marker.".into())),
        };
        let rest = versions.len().saturating_sub(shown);
        let marker = (rest > self.page.limit).then(|| (shown + self.page.limit).to_string());
        let versions: Vec<_> = versions.into_iter().skip(shown).take(self.page.limit).collect();
        reply(move |xml| {
            xml.list("Versions", &versions, |xml, version| write_version(xml, version, default, false));
            input::write_page_end(xml, marker.as_ref());
        })
    }
}

pub(super) struct SetDefault {
    arn: String,
    number: u32,
}

impl SetDefault {
    pub(super) fn parse(form: &mut Form) -> Result<Self, aws::Error> {
        Ok(Self { arn: form.require("PolicyArn")?, number: version(form)? })
    }
}

impl Action for SetDefault {
    fn target(&self) -> Target {
        target(&self.arn)
    }

    async fn run(self, cx: Cx) -> Reply {
        let Self { arn, number } = self;
        let named = arn.clone();
        change(&cx, &arn, move |policy| {
            if !policy.versions.iter().any(|version| version.number == number) {
                return Err(no_version(&named, number));
            }
            policy.default_version = number;
            Ok(())
        })
        .await?;
        Ok(None)
    }
}

pub(super) struct Delete {
    arn: String,
    number: u32,
}

impl Delete {
    pub(super) fn parse(form: &mut Form) -> Result<Self, aws::Error> {
        Ok(Self { arn: form.require("PolicyArn")?, number: version(form)? })
    }
}

impl Action for Delete {
    fn target(&self) -> Target {
        target(&self.arn)
    }

    async fn run(self, cx: Cx) -> Reply {
        let Self { arn, number } = self;
        let named = arn.clone();
        change(&cx, &arn, move |policy| {
            if policy.default_version == number {
                let message = "Cannot delete the default version of a policy.";
                return Err(Error::DeleteConflict(message.into()));
            }
            let at = policy.versions.iter().position(|version| version.number == number);
            policy.versions.remove(at.ok_or_else(|| no_version(&named, number))?);
            Ok(())
        })
        .await?;
        Ok(None)
    }
}
