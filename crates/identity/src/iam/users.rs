//! Users.

use std::collections::BTreeMap;

use aws::query::Form;
use aws::xml::Xml;
use store::{Read, key};
use types::{AccountId, Principal, Timestamp};

use super::attachments::{check_policy, policy_reads};
use super::input;
use super::roles::write_boundary;
use super::subject::{Subject, parse_name};
use crate::call::{Action, Cx, Reply, Target, date, reply};
use crate::holders::HolderKey;
use crate::tables::{self, ACCOUNTS, ATTACHMENTS, Attachment, Grants, HolderKind, USERS, User};
use crate::{Error, ids};

fn write_user(xml: &mut Xml, account: AccountId, user: &User, full: bool) {
    xml.text("Path", &user.path);
    xml.text("UserName", &user.name);
    xml.text("UserId", &user.id);
    xml.text("Arn", &format!("arn:aws:iam::{account}:user{}{}", user.path, user.name));
    xml.text("CreateDate", &date(user.created_at));
    if full {
        write_boundary(xml, &user.grants);
        if !user.tags.is_empty() {
            input::write_tags(xml, &user.tags);
        }
    }
}

/// `UserName`, or the user who calls; `None` for the account's root.
pub(super) fn named_or_caller(form: &mut Form, cx: &Cx) -> Result<Option<String>, aws::Error> {
    if let Some(name) = form.take("UserName") {
        input::check_name(&name, "UserName", 64)?;
        return Ok(Some(name));
    }
    match &cx.caller().principal {
        Principal::User { name, .. } => Ok(Some(name.clone())),
        Principal::Root { .. } => Ok(None),
        Principal::AssumedRole { .. } | Principal::Service { .. } | Principal::Anonymous => {
            let message = "Must specify userName when calling with non-User credentials";
            Err(Error::ValidationError(message.into()).into())
        }
    }
}

pub(super) struct CreateUser {
    arn: String,
    name: String,
    path: String,
    boundary: Option<String>,
    tags: BTreeMap<String, String>,
}

impl CreateUser {
    pub(super) fn parse(form: &mut Form, cx: &Cx) -> Result<Self, aws::Error> {
        let name = parse_name(form, HolderKind::User)?;
        let path = input::path(form)?;
        let arn = format!("arn:aws:iam::{}:user{path}{name}", cx.account());
        let tags = input::tags(form)?;
        input::check_tag_count(&tags)?;
        Ok(Self { arn, name, path, boundary: form.take("PermissionsBoundary"), tags })
    }
}

impl Action for CreateUser {
    fn target(&self) -> Target {
        Target::Arn(self.arn.clone())
    }

    async fn run(self, cx: Cx) -> Reply {
        let account = cx.account();
        let user = User {
            name: self.name,
            id: ids::fresh(cx.identity.env(), "AIDA"),
            path: self.path,
            created_at: cx.identity.now(),
            tags: self.tags,
            access_keys: Vec::new(),
            grants: Grants { boundary: self.boundary, ..Grants::default() },
        };
        let holder = HolderKey::new(account, HolderKind::User, &user.name);
        let mut reads = vec![Read::Key(tables::user(account, &user.name))];
        reads.extend(user.grants.boundary.iter().flat_map(|arn| policy_reads(account, arn)));
        let new = user.clone();
        let decide = move |pages: &[store::Page], _| {
            if USERS.first(&pages[0])?.is_some() {
                let message = format!("User with name {} already exists.", new.name);
                return Err(Error::EntityAlreadyExists(message));
            }
            let mut writes = vec![USERS.put(tables::user(account, &new.name), &new)];
            if let Some(boundary) = &new.grants.boundary {
                check_policy(account, boundary, &pages[1..])?;
                let key = tables::boundary(account, boundary, HolderKind::User, &new.name);
                writes.push(ATTACHMENTS.put(key, &Attachment {}));
            }
            Ok((writes, ()))
        };
        cx.identity.store.transact(reads, decide).await?;
        cx.identity.holders.invalidate(&holder);
        reply(move |xml| xml.element("User", |xml| write_user(xml, account, &user, true)))
    }
}

pub(super) struct GetUser {
    name: Option<String>,
}

impl GetUser {
    pub(super) fn parse(form: &mut Form, cx: &Cx) -> Result<Self, aws::Error> {
        Ok(Self { name: named_or_caller(form, cx)? })
    }
}

impl Action for GetUser {
    fn target(&self) -> Target {
        match &self.name {
            Some(name) => Target::Holder(HolderKind::User, name.clone()),
            None => Target::Any,
        }
    }

    async fn run(self, cx: Cx) -> Reply {
        let account = cx.account();
        let Some(name) = self.name else {
            let row = ACCOUNTS.get(&cx.identity.store, tables::account(account)).await?;
            let created_at = row.map_or(Timestamp::UNIX_EPOCH, |row| row.value.created_at);
            return reply(move |xml| {
                xml.element("User", |xml| {
                    xml.text("Path", "/");
                    xml.value("UserId", account);
                    xml.text("Arn", &format!("arn:aws:iam::{account}:root"));
                    xml.text("CreateDate", &date(created_at));
                });
            });
        };
        let subject = cx.identity.subject(account, HolderKind::User, &name).await?;
        reply(move |xml| {
            if let Subject::User(user) = &subject {
                xml.element("User", |xml| write_user(xml, account, user, true));
            }
        })
    }
}

pub(super) struct ListUsers {
    path_prefix: String,
    page: input::Page,
}

impl ListUsers {
    pub(super) fn parse(form: &mut Form) -> Result<Self, aws::Error> {
        let path_prefix = form.take("PathPrefix").unwrap_or_else(|| "/".to_owned());
        Ok(Self { path_prefix, page: input::Page::parse(form)? })
    }
}

impl Action for ListUsers {
    fn target(&self) -> Target {
        Target::Any
    }

    async fn run(self, cx: Cx) -> Reply {
        let account = cx.account();
        let mut range = USERS.range(account, self.page.limit + 1, |_| {});
        if let Some(after) = &self.page.after {
            range.start = key::after(&tables::user(account, after));
        }
        let mut users: Vec<User> = Vec::new();
        loop {
            let (rows, more) = USERS.scan(&cx.identity.store, range.clone()).await?;
            let Some(last) = rows.last() else { break };
            range.start = key::after(&last.key);
            users.extend(rows.into_iter().map(|r| r.value).filter(|u| u.path.starts_with(&self.path_prefix)));
            if !more || users.len() > self.page.limit {
                break;
            }
        }
        let more = users.len() > self.page.limit;
        users.truncate(self.page.limit);
        let marker = users.last().filter(|_| more).map(|user| user.name.clone());
        reply(move |xml| {
            xml.list("Users", &users, |xml, user| write_user(xml, account, user, false));
            input::write_page_end(xml, marker.as_ref());
        })
    }
}
