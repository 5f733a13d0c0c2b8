//! Users and roles where they are alike: a row with policies and tags, found by name.

use std::collections::BTreeMap;

use aws::query::Form;
use store::{Read, Table, Write};
use types::AccountId;

use super::input;
use crate::call::{Action, Cx, Reply, Target, reply};
use crate::holders::HolderKey;
use crate::tables::{self, Grants, HolderKind, ROLES, Role, USERS, User};
use crate::{Error, Identity};

/// A user's or role's row.
#[derive(Debug, Clone)]
pub(super) enum Subject {
    User(User),
    Role(Role),
}

pub(super) fn not_found(kind: HolderKind, name: &str) -> Error {
    Error::NoSuchEntity(match kind {
        HolderKind::User => format!("The user with name {name} cannot be found."),
        HolderKind::Role => format!("The role with name {name} cannot be found."),
    })
}

/// The parameter that names it.
pub(super) fn parse_name(form: &mut Form, kind: HolderKind) -> Result<String, aws::Error> {
    match kind {
        HolderKind::User => input::name(form, "UserName", 64),
        HolderKind::Role => input::name(form, "RoleName", 64),
    }
}

fn key(account: AccountId, kind: HolderKind, name: &str) -> store::Key {
    match kind {
        HolderKind::User => tables::user(account, name),
        HolderKind::Role => tables::role(account, name),
    }
}

impl Subject {
    fn from_page(kind: HolderKind, page: &store::Page) -> Result<Option<Self>, Error> {
        fn value<V: store::Record>(table: &Table<V>, page: &store::Page) -> Result<Option<V>, Error> {
            Ok(table.first(page)?.map(|row| row.value))
        }
        Ok(match kind {
            HolderKind::User => value(&USERS, page)?.map(Self::User),
            HolderKind::Role => value(&ROLES, page)?.map(Self::Role),
        })
    }

    pub(super) fn name(&self) -> &str {
        match self {
            Self::User(user) => &user.name,
            Self::Role(role) => &role.name,
        }
    }

    pub(super) fn grants(&mut self) -> &mut Grants {
        match self {
            Self::User(user) => &mut user.grants,
            Self::Role(role) => &mut role.grants,
        }
    }

    pub(super) fn tags(&mut self) -> &mut BTreeMap<String, String> {
        match self {
            Self::User(user) => &mut user.tags,
            Self::Role(role) => &mut role.tags,
        }
    }

    pub(super) fn put(&self, account: AccountId) -> Write {
        match self {
            Self::User(user) => USERS.put(tables::user(account, &user.name), user),
            Self::Role(role) => ROLES.put(tables::role(account, &role.name), role),
        }
    }
}

impl Identity {
    pub(super) async fn subject(
        &self,
        account: AccountId,
        kind: HolderKind,
        name: &str,
    ) -> Result<Subject, Error> {
        let pages = self.store.read(vec![Read::Key(key(account, kind, name))]).await?;
        Subject::from_page(kind, &pages[0])?.ok_or_else(|| not_found(kind, name))
    }

    /// Changes a row in one step. `change` sees the pages of `reads` too, and adds what else is to be written.
    pub(super) async fn change_subject(
        &self,
        account: AccountId,
        kind: HolderKind,
        name: &str,
        mut reads: Vec<Read>,
        mut change: impl FnMut(&mut Subject, &[store::Page], &mut Vec<Write>) -> Result<(), Error>
        + Send
        + 'static,
    ) -> Result<(), Error> {
        let holder = HolderKey::new(account, kind, name);
        reads.insert(0, Read::Key(key(account, kind, name)));
        let name = name.to_owned();
        let decide = move |pages: &[store::Page], _| {
            let subject = Subject::from_page(kind, &pages[0])?;
            let mut subject = subject.ok_or_else(|| not_found(kind, &name))?;
            let mut writes = Vec::new();
            change(&mut subject, &pages[1..], &mut writes)?;
            writes.push(subject.put(account));
            Ok((writes, ()))
        };
        self.store.transact::<_, Error, _>(reads, decide).await?;
        self.holders.invalidate(&holder);
        Ok(())
    }
}

/// `DeleteRole`, `DeleteUser`.
pub(super) struct Delete {
    kind: HolderKind,
    name: String,
}

impl Delete {
    pub(super) fn parse(form: &mut Form, kind: HolderKind) -> Result<Self, aws::Error> {
        Ok(Self { kind, name: parse_name(form, kind)? })
    }
}

impl Action for Delete {
    fn target(&self) -> Target {
        Target::Holder(self.kind, self.name.clone())
    }

    async fn run(self, cx: Cx) -> Reply {
        let Self { kind, name } = self;
        let account = cx.account();
        let row_key = key(account, kind, &name);
        let reads = vec![Read::Key(row_key.clone())];
        let holder = HolderKey::new(account, kind, &name);
        let decide = move |pages: &[store::Page], _| {
            let subject = Subject::from_page(kind, &pages[0])?;
            let mut subject = subject.ok_or_else(|| not_found(kind, &name))?;
            let conflict =
                |what| Err(Error::DeleteConflict(format!("Cannot delete entity, must {what} first.")));
            if let Subject::User(user) = &subject
                && !user.access_keys.is_empty()
            {
                return conflict("delete access keys");
            }
            if !subject.grants().attached.is_empty() {
                return conflict("detach all policies");
            }
            if !subject.grants().inline.is_empty() {
                return conflict("delete policies");
            }
            let mut writes = vec![Write::Delete(row_key.clone())];
            if let Some(boundary) = &subject.grants().boundary.clone() {
                writes.push(Write::Delete(tables::boundary(account, boundary, kind, subject.name())));
            }
            Ok((writes, ()))
        };
        cx.identity.store.transact(reads, decide).await?;
        cx.identity.holders.invalidate(&holder);
        Ok(None)
    }
}

/// `TagRole`, `TagUser`.
pub(super) struct Tag {
    kind: HolderKind,
    name: String,
    tags: BTreeMap<String, String>,
}

impl Tag {
    pub(super) fn parse(form: &mut Form, kind: HolderKind) -> Result<Self, aws::Error> {
        Ok(Self { kind, name: parse_name(form, kind)?, tags: input::tags(form)? })
    }
}

impl Action for Tag {
    fn target(&self) -> Target {
        Target::Holder(self.kind, self.name.clone())
    }

    async fn run(self, cx: Cx) -> Reply {
        let tags = self.tags;
        let change = move |subject: &mut Subject, _: &[store::Page], _: &mut Vec<Write>| {
            subject.tags().extend(tags.clone());
            input::check_tag_count(subject.tags())
        };
        cx.identity.change_subject(cx.account(), self.kind, &self.name, Vec::new(), change).await?;
        Ok(None)
    }
}

/// `UntagRole`, `UntagUser`.
pub(super) struct Untag {
    kind: HolderKind,
    name: String,
    keys: Vec<String>,
}

impl Untag {
    pub(super) fn parse(form: &mut Form, kind: HolderKind) -> Result<Self, aws::Error> {
        Ok(Self { kind, name: parse_name(form, kind)?, keys: form.take_list("TagKeys") })
    }
}

impl Action for Untag {
    fn target(&self) -> Target {
        Target::Holder(self.kind, self.name.clone())
    }

    async fn run(self, cx: Cx) -> Reply {
        let keys = self.keys;
        let change = move |subject: &mut Subject, _: &[store::Page], _: &mut Vec<Write>| {
            subject.tags().retain(|key, _| !keys.contains(key));
            Ok(())
        };
        cx.identity.change_subject(cx.account(), self.kind, &self.name, Vec::new(), change).await?;
        Ok(None)
    }
}

/// `ListRoleTags`, `ListUserTags`.
pub(super) struct ListTags {
    kind: HolderKind,
    name: String,
    page: input::Page,
}

impl ListTags {
    pub(super) fn parse(form: &mut Form, kind: HolderKind) -> Result<Self, aws::Error> {
        Ok(Self { kind, name: parse_name(form, kind)?, page: input::Page::parse(form)? })
    }
}

impl Action for ListTags {
    fn target(&self) -> Target {
        Target::Holder(self.kind, self.name.clone())
    }

    async fn run(self, cx: Cx) -> Reply {
        let mut subject = cx.identity.subject(cx.account(), self.kind, &self.name).await?;
        let (tags, marker) = self.page.of(std::mem::take(subject.tags()), |(key, _)| key);
        let tags: BTreeMap<_, _> = tags.into_iter().collect();
        reply(move |xml| {
            input::write_tags(xml, &tags);
            input::write_page_end(xml, marker.as_ref());
        })
    }
}
