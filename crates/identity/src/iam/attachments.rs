//! Managed policies attached to users and roles, and permissions boundaries.

use aws::query::Form;
use store::{Read, Write};
use types::AccountId;

use super::input;
use super::subject::{Subject, parse_name};
use crate::call::{Action, Cx, Reply, Target, own_policy_name, reply};
use crate::tables::{self, ATTACHMENTS, Attachment, HolderKind, POLICIES};
use crate::{Error, managed};

/// The most managed policies a user or role has.
const MOST: usize = 10;

/// What must be read to know, in the commit, that a managed policy exists.
pub(super) fn policy_reads(account: AccountId, arn: &str) -> Vec<Read> {
    if managed::get(arn).is_some() {
        return Vec::new();
    }
    let name = own_policy_name(account, arn).unwrap_or_default();
    vec![Read::Key(tables::policy(account, name))]
}

/// Whether the policy exists, by the pages of [`policy_reads`].
pub(super) fn check_policy(account: AccountId, arn: &str, pages: &[store::Page]) -> Result<(), Error> {
    let own = match pages.first() {
        None => return Ok(()),
        Some(page) => POLICIES.first(page)?,
    };
    match own {
        Some(row) if row.value.arn(account) == arn => Ok(()),
        _ => Err(Error::NoSuchEntity(format!("Policy {arn} does not exist or is not attachable."))),
    }
}

/// `AttachRolePolicy`, `AttachUserPolicy`.
pub(super) struct Attach {
    kind: HolderKind,
    holder: String,
    arn: String,
}

impl Attach {
    pub(super) fn parse(form: &mut Form, kind: HolderKind) -> Result<Self, aws::Error> {
        Ok(Self { kind, holder: parse_name(form, kind)?, arn: form.require("PolicyArn")? })
    }
}

impl Action for Attach {
    fn target(&self) -> Target {
        Target::Holder(self.kind, self.holder.clone())
    }

    async fn run(self, cx: Cx) -> Reply {
        let Self { kind, holder, arn } = self;
        let account = cx.account();
        let reads = policy_reads(account, &arn);
        let change = move |subject: &mut Subject, pages: &[store::Page], writes: &mut Vec<Write>| {
            check_policy(account, &arn, pages)?;
            let attached = &mut subject.grants().attached;
            if attached.contains(&arn) {
                return Ok(());
            }
            if attached.len() >= MOST {
                let what = match kind {
                    HolderKind::User => "User",
                    HolderKind::Role => "Role",
                };
                let message = format!("Cannot exceed quota for PoliciesPer{what}: {MOST}");
                return Err(Error::LimitExceeded(message));
            }
            attached.push(arn.clone());
            let key = tables::attachment(account, &arn, kind, subject.name());
            writes.push(ATTACHMENTS.put(key, &Attachment {}));
            Ok(())
        };
        cx.identity.change_subject(account, kind, &holder, reads, change).await?;
        Ok(None)
    }
}

/// `DetachRolePolicy`, `DetachUserPolicy`.
pub(super) struct Detach {
    kind: HolderKind,
    holder: String,
    arn: String,
}

impl Detach {
    pub(super) fn parse(form: &mut Form, kind: HolderKind) -> Result<Self, aws::Error> {
        Ok(Self { kind, holder: parse_name(form, kind)?, arn: form.require("PolicyArn")? })
    }
}

impl Action for Detach {
    fn target(&self) -> Target {
        Target::Holder(self.kind, self.holder.clone())
    }

    async fn run(self, cx: Cx) -> Reply {
        let Self { kind, holder, arn } = self;
        let account = cx.account();
        let change = move |subject: &mut Subject, _: &[store::Page], writes: &mut Vec<Write>| {
            let attached = &mut subject.grants().attached;
            let at = attached.iter().position(|a| *a == arn);
            let at = at.ok_or_else(|| Error::NoSuchEntity(format!("Policy {arn} was not found.")))?;
            attached.remove(at);
            writes.push(Write::Delete(tables::attachment(account, &arn, kind, subject.name())));
            Ok(())
        };
        cx.identity.change_subject(account, kind, &holder, Vec::new(), change).await?;
        Ok(None)
    }
}

/// `ListAttachedRolePolicies`, `ListAttachedUserPolicies`.
pub(super) struct List {
    kind: HolderKind,
    holder: String,
    path_prefix: String,
    page: input::Page,
}

impl List {
    pub(super) fn parse(form: &mut Form, kind: HolderKind) -> Result<Self, aws::Error> {
        Ok(Self {
            kind,
            holder: parse_name(form, kind)?,
            path_prefix: form.take("PathPrefix").unwrap_or_else(|| "/".to_owned()),
            page: input::Page::parse(form)?,
        })
    }
}

impl Action for List {
    fn target(&self) -> Target {
        Target::Holder(self.kind, self.holder.clone())
    }

    async fn run(self, cx: Cx) -> Reply {
        let mut subject = cx.identity.subject(cx.account(), self.kind, &self.holder).await?;
        let mut arns = std::mem::take(&mut subject.grants().attached);
        // What follows `:policy` is path and name.
        arns.retain(|arn| {
            arn.split_once(":policy").is_some_and(|(_, path)| path.starts_with(&self.path_prefix))
        });
        arns.sort();
        let (arns, marker) = self.page.of(arns, |arn| arn);
        reply(move |xml| {
            xml.list("AttachedPolicies", &arns, |xml, arn| {
                xml.text("PolicyName", arn.rsplit('/').next().unwrap_or_default());
                xml.text("PolicyArn", arn);
            });
            input::write_page_end(xml, marker.as_ref());
        })
    }
}

/// `PutRolePermissionsBoundary`, `DeleteRolePermissionsBoundary`, and the same for users.
pub(super) struct SetBoundary {
    kind: HolderKind,
    holder: String,
    arn: Option<String>,
}

impl SetBoundary {
    pub(super) fn parse(form: &mut Form, kind: HolderKind, put: bool) -> Result<Self, aws::Error> {
        let holder = parse_name(form, kind)?;
        let arn = if put { Some(form.require("PermissionsBoundary")?) } else { None };
        Ok(Self { kind, holder, arn })
    }
}

impl Action for SetBoundary {
    fn target(&self) -> Target {
        Target::Holder(self.kind, self.holder.clone())
    }

    async fn run(self, cx: Cx) -> Reply {
        let Self { kind, holder, arn } = self;
        let account = cx.account();
        let reads = arn.as_deref().map(|arn| policy_reads(account, arn)).unwrap_or_default();
        let change = move |subject: &mut Subject, pages: &[store::Page], writes: &mut Vec<Write>| {
            if let Some(arn) = &arn {
                check_policy(account, arn, pages)?;
            }
            let old = std::mem::replace(&mut subject.grants().boundary, arn.clone());
            if old.is_some() && old == arn {
                return Ok(());
            }
            if let Some(old) = old {
                writes.push(Write::Delete(tables::boundary(account, &old, kind, subject.name())));
            } else if arn.is_none() {
                let message = format!("{} does not have a permissions boundary.", subject.name());
                return Err(Error::NoSuchEntity(message));
            }
            if let Some(arn) = &arn {
                let key = tables::boundary(account, arn, kind, subject.name());
                writes.push(ATTACHMENTS.put(key, &Attachment {}));
            }
            Ok(())
        };
        cx.identity.change_subject(account, kind, &holder, reads, change).await?;
        Ok(None)
    }
}
