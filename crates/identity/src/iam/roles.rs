//! Roles.

use std::collections::BTreeMap;

use aws::query::Form;
use aws::xml::Xml;
use store::{Read, Write, key};
use types::AccountId;

use super::attachments::{check_policy, policy_reads};
use super::inline::size;
use super::input;
use super::subject::{Subject, parse_name};
use crate::call::{Action, Cx, Reply, Target, date, invalid, reply};
use crate::holders::HolderKey;
use crate::policy::{Kind, Policy};
use crate::tables::{self, ATTACHMENTS, Attachment, Grants, HolderKind, ROLES, Role};
use crate::{Error, ids};

/// The most characters of a trust policy, white space aside.
const TRUST_QUOTA: usize = 2_048;

pub(super) fn arn(account: AccountId, role: &Role) -> String {
    format!("arn:aws:iam::{account}:role{}{}", role.path, role.name)
}

fn write_role(xml: &mut Xml, account: AccountId, role: &Role, full: bool) {
    xml.text("Path", &role.path);
    xml.text("RoleName", &role.name);
    xml.text("RoleId", &role.id);
    xml.text("Arn", &arn(account, role));
    xml.text("CreateDate", &date(role.created_at));
    xml.text("AssumeRolePolicyDocument", &input::encode_document(&role.trust));
    xml.optional("Description", role.description.as_ref());
    xml.value("MaxSessionDuration", role.max_session_s);
    if full {
        write_boundary(xml, &role.grants);
        if !role.tags.is_empty() {
            input::write_tags(xml, &role.tags);
        }
        // When roles were used is not recorded.
        xml.element("RoleLastUsed", |_| {});
    }
}

pub(super) fn write_boundary(xml: &mut Xml, grants: &Grants) {
    if let Some(boundary) = &grants.boundary {
        xml.element("PermissionsBoundary", |xml| {
            xml.text("PermissionsBoundaryType", "Policy");
            xml.text("PermissionsBoundaryArn", boundary);
        });
    }
}

fn description(form: &mut Form) -> Result<Option<String>, aws::Error> {
    let description = form.take("Description");
    if description.as_ref().is_some_and(|text| text.chars().count() > 1000) {
        return Err(invalid("1 validation error detected: 'description' must have at most 1000 characters"));
    }
    Ok(description)
}

fn max_session(form: &mut Form) -> Result<Option<u32>, aws::Error> {
    let seconds: Option<u32> = form.take_parsed("MaxSessionDuration")?;
    match seconds {
        Some(seconds) if !(3_600..=43_200).contains(&seconds) => Err(invalid(format!(
            "1 validation error detected: Value '{seconds}' at 'maxSessionDuration' failed to satisfy \
             constraint: Member must be between 3600 and 43200"
        ))),
        seconds => Ok(seconds),
    }
}

fn trust(document: &str) -> Result<(), Error> {
    Policy::parse(document, Kind::Trust)?;
    if size(document) > TRUST_QUOTA {
        return Err(Error::LimitExceeded(format!("Cannot exceed quota for ACLSizePerRole: {TRUST_QUOTA}")));
    }
    Ok(())
}

pub(super) struct CreateRole {
    arn: String,
    name: String,
    path: String,
    trust: String,
    description: Option<String>,
    max_session_s: u32,
    boundary: Option<String>,
    tags: BTreeMap<String, String>,
}

impl CreateRole {
    pub(super) fn parse(form: &mut Form, cx: &Cx) -> Result<Self, aws::Error> {
        let name = parse_name(form, HolderKind::Role)?;
        let path = input::path(form)?;
        let document = form.require("AssumeRolePolicyDocument")?;
        trust(&document)?;
        let tags = input::tags(form)?;
        input::check_tag_count(&tags)?;
        Ok(Self {
            arn: format!("arn:aws:iam::{}:role{path}{name}", cx.account()),
            name,
            path,
            trust: document,
            description: description(form)?,
            max_session_s: max_session(form)?.unwrap_or(3_600),
            boundary: form.take("PermissionsBoundary"),
            tags,
        })
    }
}

impl Action for CreateRole {
    fn target(&self) -> Target {
        Target::Arn(self.arn.clone())
    }

    async fn run(self, cx: Cx) -> Reply {
        let account = cx.account();
        let role = Role {
            name: self.name,
            id: ids::fresh(cx.identity.env(), "AROA"),
            path: self.path,
            created_at: cx.identity.now(),
            description: self.description,
            max_session_s: self.max_session_s,
            tags: self.tags,
            trust: self.trust,
            grants: Grants { boundary: self.boundary, ..Grants::default() },
        };
        let holder = HolderKey::new(account, HolderKind::Role, &role.name);
        let mut reads = vec![Read::Key(tables::role(account, &role.name))];
        reads.extend(role.grants.boundary.iter().flat_map(|arn| policy_reads(account, arn)));
        let new = role.clone();
        let decide = move |pages: &[store::Page], _| {
            if ROLES.first(&pages[0])?.is_some() {
                let message = format!("Role with name {} already exists.", new.name);
                return Err(Error::EntityAlreadyExists(message));
            }
            let mut writes = vec![ROLES.put(tables::role(account, &new.name), &new)];
            if let Some(boundary) = &new.grants.boundary {
                check_policy(account, boundary, &pages[1..])?;
                let key = tables::boundary(account, boundary, HolderKind::Role, &new.name);
                writes.push(ATTACHMENTS.put(key, &Attachment {}));
            }
            Ok((writes, ()))
        };
        cx.identity.store.transact(reads, decide).await?;
        cx.identity.holders.invalidate(&holder);
        reply(move |xml| xml.element("Role", |xml| write_role(xml, account, &role, true)))
    }
}

pub(super) struct GetRole {
    name: String,
}

impl GetRole {
    pub(super) fn parse(form: &mut Form) -> Result<Self, aws::Error> {
        Ok(Self { name: parse_name(form, HolderKind::Role)? })
    }
}

impl Action for GetRole {
    fn target(&self) -> Target {
        Target::Holder(HolderKind::Role, self.name.clone())
    }

    async fn run(self, cx: Cx) -> Reply {
        let account = cx.account();
        let subject = cx.identity.subject(account, HolderKind::Role, &self.name).await?;
        reply(move |xml| {
            if let Subject::Role(role) = &subject {
                xml.element("Role", |xml| write_role(xml, account, role, true));
            }
        })
    }
}

pub(super) struct ListRoles {
    path_prefix: String,
    page: input::Page,
}

impl ListRoles {
    pub(super) fn parse(form: &mut Form) -> Result<Self, aws::Error> {
        let path_prefix = form.take("PathPrefix").unwrap_or_else(|| "/".to_owned());
        Ok(Self { path_prefix, page: input::Page::parse(form)? })
    }
}

impl Action for ListRoles {
    fn target(&self) -> Target {
        Target::Any
    }

    async fn run(self, cx: Cx) -> Reply {
        let account = cx.account();
        let mut range = ROLES.range(account, self.page.limit + 1, |_| {});
        if let Some(after) = &self.page.after {
            range.start = key::after(&tables::role(account, after));
        }
        let mut roles: Vec<Role> = Vec::new();
        loop {
            let (rows, more) = ROLES.scan(&cx.identity.store, range.clone()).await?;
            let Some(last) = rows.last() else { break };
            range.start = key::after(&last.key);
            roles.extend(rows.into_iter().map(|r| r.value).filter(|r| r.path.starts_with(&self.path_prefix)));
            if !more || roles.len() > self.page.limit {
                break;
            }
        }
        let more = roles.len() > self.page.limit;
        roles.truncate(self.page.limit);
        let marker = roles.last().filter(|_| more).map(|role| role.name.clone());
        reply(move |xml| {
            xml.list("Roles", &roles, |xml, role| write_role(xml, account, role, false));
            input::write_page_end(xml, marker.as_ref());
        })
    }
}

pub(super) struct UpdateRole {
    name: String,
    description: Option<String>,
    max_session_s: Option<u32>,
}

impl UpdateRole {
    pub(super) fn parse(form: &mut Form) -> Result<Self, aws::Error> {
        Ok(Self {
            name: parse_name(form, HolderKind::Role)?,
            description: description(form)?,
            max_session_s: max_session(form)?,
        })
    }
}

impl Action for UpdateRole {
    fn target(&self) -> Target {
        Target::Holder(HolderKind::Role, self.name.clone())
    }

    async fn run(self, cx: Cx) -> Reply {
        let Self { name, description, max_session_s } = self;
        let change = move |subject: &mut Subject, _: &[store::Page], _: &mut Vec<Write>| {
            if let Subject::Role(role) = subject {
                // As on AWS, what is not given goes back to its default.
                role.description.clone_from(&description);
                role.max_session_s = max_session_s.unwrap_or(3_600);
            }
            Ok(())
        };
        cx.identity.change_subject(cx.account(), HolderKind::Role, &name, Vec::new(), change).await?;
        reply(|_| {})
    }
}

pub(super) struct UpdateRoleDescription {
    name: String,
    description: String,
}

impl UpdateRoleDescription {
    pub(super) fn parse(form: &mut Form) -> Result<Self, aws::Error> {
        let name = parse_name(form, HolderKind::Role)?;
        let missing = || invalid("The request must contain the parameter Description.");
        Ok(Self { name, description: description(form)?.ok_or_else(missing)? })
    }
}

impl Action for UpdateRoleDescription {
    fn target(&self) -> Target {
        Target::Holder(HolderKind::Role, self.name.clone())
    }

    async fn run(self, cx: Cx) -> Reply {
        let (account, description) = (cx.account(), self.description);
        let change = move |subject: &mut Subject, _: &[store::Page], _: &mut Vec<Write>| {
            if let Subject::Role(role) = subject {
                role.description = Some(description.clone());
            }
            Ok(())
        };
        cx.identity.change_subject(account, HolderKind::Role, &self.name, Vec::new(), change).await?;
        GetRole { name: self.name }.run(cx).await
    }
}

pub(super) struct UpdateAssumeRolePolicy {
    name: String,
    document: String,
}

impl UpdateAssumeRolePolicy {
    pub(super) fn parse(form: &mut Form) -> Result<Self, aws::Error> {
        let name = parse_name(form, HolderKind::Role)?;
        let document = form.require("PolicyDocument")?;
        trust(&document)?;
        Ok(Self { name, document })
    }
}

impl Action for UpdateAssumeRolePolicy {
    fn target(&self) -> Target {
        Target::Holder(HolderKind::Role, self.name.clone())
    }

    async fn run(self, cx: Cx) -> Reply {
        let document = self.document;
        let change = move |subject: &mut Subject, _: &[store::Page], _: &mut Vec<Write>| {
            if let Subject::Role(role) = subject {
                role.trust.clone_from(&document);
            }
            Ok(())
        };
        cx.identity.change_subject(cx.account(), HolderKind::Role, &self.name, Vec::new(), change).await?;
        Ok(None)
    }
}
