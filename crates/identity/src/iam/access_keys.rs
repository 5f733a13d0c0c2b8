//! Access keys of users. Those of an account's root are listed here and set by the operator.

use aws::query::Form;
use aws::xml::Xml;
use store::{Read, Write};

use super::input;
use super::subject::not_found;
use super::users::named_or_caller;
use crate::call::{Action, Cx, Reply, Target, date, invalid, reply};
use crate::tables::{self, ACCESS_KEYS, ACCOUNTS, AccessKey, HolderKind, KeyOwner, USERS};
use crate::{Error, ids};

/// The most keys of a user.
const MOST: usize = 2;

fn target(user: Option<&String>) -> Target {
    match user {
        Some(name) => Target::Holder(HolderKind::User, name.clone()),
        None => Target::Any,
    }
}

fn user_only(user: Option<String>) -> Result<String, Error> {
    user.ok_or_else(|| {
        let message =
            "The keys of an account's root are set by the node's operator; name a user with UserName.";
        Error::UnmodifiableEntity(message.into())
    })
}

fn no_key(id: &str) -> Error {
    Error::NoSuchEntity(format!("The Access Key with id {id} cannot be found."))
}

fn status(active: bool) -> &'static str {
    if active { "Active" } else { "Inactive" }
}

fn write_key(xml: &mut Xml, user: &str, id: &str, key: &AccessKey, with_secret: bool) {
    xml.text("UserName", user);
    xml.text("AccessKeyId", id);
    xml.text("Status", status(key.active));
    if with_secret {
        xml.text("SecretAccessKey", &key.secret);
    }
    xml.text("CreateDate", &date(key.created_at));
}

pub(super) struct Create {
    user: Option<String>,
}

impl Create {
    pub(super) fn parse(form: &mut Form, cx: &Cx) -> Result<Self, aws::Error> {
        Ok(Self { user: named_or_caller(form, cx)? })
    }
}

impl Action for Create {
    fn target(&self) -> Target {
        target(self.user.as_ref())
    }

    async fn run(self, cx: Cx) -> Reply {
        let name = user_only(self.user)?;
        let account = cx.account();
        let (env, now) = (cx.identity.env(), cx.identity.now());
        let (id, secret) = (ids::fresh(env, "AKIA"), ids::secret(env));
        let reads = vec![Read::Key(tables::user(account, &name))];
        let key_id = id.clone();
        let decide = move |pages: &[store::Page], _| {
            let user = USERS.first(&pages[0])?.map(|row| row.value);
            let mut user = user.ok_or_else(|| not_found(HolderKind::User, &name))?;
            if user.access_keys.len() >= MOST {
                let message = format!("Cannot exceed quota for AccessKeysPerUser: {MOST}");
                return Err(Error::LimitExceeded(message));
            }
            let owner = KeyOwner::User { name: user.name.clone(), id: user.id.clone() };
            let key = AccessKey { account, owner, secret: secret.clone(), active: true, created_at: now };
            user.access_keys.push(key_id.clone());
            let writes = vec![
                USERS.put(tables::user(account, &user.name), &user),
                ACCESS_KEYS.put(tables::access_key(&key_id), &key),
            ];
            Ok((writes, (user.name, key)))
        };
        let (user, key) = cx.identity.store.transact::<_, Error, _>(reads, decide).await?;
        cx.identity.keys.invalidate(&id);
        reply(move |xml| xml.element("AccessKey", |xml| write_key(xml, &user, &id, &key, true)))
    }
}

pub(super) struct List {
    user: Option<String>,
    page: input::Page,
}

impl List {
    pub(super) fn parse(form: &mut Form, cx: &Cx) -> Result<Self, aws::Error> {
        Ok(Self { user: named_or_caller(form, cx)?, page: input::Page::parse(form)? })
    }
}

impl Action for List {
    fn target(&self) -> Target {
        target(self.user.as_ref())
    }

    async fn run(self, cx: Cx) -> Reply {
        let account = cx.account();
        let store = &cx.identity.store;
        let (user, mut key_ids) = match &self.user {
            Some(name) => {
                let row = USERS.get(store, tables::user(account, name)).await?;
                let user = row.ok_or_else(|| not_found(HolderKind::User, name))?.value;
                (user.name, user.access_keys)
            }
            None => {
                let row = ACCOUNTS.get(store, tables::account(account)).await?;
                ("root".to_owned(), row.map(|row| row.value.root_keys).unwrap_or_default())
            }
        };
        key_ids.sort();
        let (key_ids, marker) = self.page.of(key_ids, |id| id);
        let pages = store.read(key_ids.iter().map(|id| Read::Key(tables::access_key(id))).collect()).await?;
        let mut keys = Vec::with_capacity(key_ids.len());
        for (id, page) in key_ids.into_iter().zip(pages) {
            keys.extend(ACCESS_KEYS.first(&page)?.map(|row| (id, row.value)));
        }
        reply(move |xml| {
            xml.text("UserName", &user);
            xml.list("AccessKeyMetadata", &keys, |xml, (id, key)| write_key(xml, &user, id, key, false));
            input::write_page_end(xml, marker.as_ref());
        })
    }
}

pub(super) struct Update {
    user: Option<String>,
    id: String,
    active: bool,
}

impl Update {
    pub(super) fn parse(form: &mut Form, cx: &Cx) -> Result<Self, aws::Error> {
        let active = match form.require("Status")?.as_str() {
            "Active" => true,
            "Inactive" => false,
            other => {
                return Err(invalid(format!(
                    "1 validation error detected: Value '{other}' at 'status' failed to satisfy constraint: \
                     Member must satisfy enum value set: [Active, Inactive]"
                )));
            }
        };
        Ok(Self { user: named_or_caller(form, cx)?, id: form.require("AccessKeyId")?, active })
    }
}

impl Action for Update {
    fn target(&self) -> Target {
        target(self.user.as_ref())
    }

    async fn run(self, cx: Cx) -> Reply {
        let Self { user, id, active } = self;
        let name = user_only(user)?;
        let account = cx.account();
        let row_key = tables::access_key(&id);
        let reads = vec![Read::Key(tables::user(account, &name)), Read::Key(row_key.clone())];
        let key_id = id.clone();
        let decide = move |pages: &[store::Page], _| {
            let user = USERS.first(&pages[0])?.map(|row| row.value);
            let user = user.ok_or_else(|| not_found(HolderKind::User, &name))?;
            let key = ACCESS_KEYS.first(&pages[1])?.map(|row| row.value);
            let key = key.filter(|_| user.access_keys.contains(&key_id));
            let mut key = key.ok_or_else(|| no_key(&key_id))?;
            key.active = active;
            Ok::<_, Error>((vec![ACCESS_KEYS.put(row_key.clone(), &key)], ()))
        };
        cx.identity.store.transact(reads, decide).await?;
        cx.identity.keys.invalidate(&id);
        Ok(None)
    }
}

pub(super) struct Delete {
    user: Option<String>,
    id: String,
}

impl Delete {
    pub(super) fn parse(form: &mut Form, cx: &Cx) -> Result<Self, aws::Error> {
        Ok(Self { user: named_or_caller(form, cx)?, id: form.require("AccessKeyId")? })
    }
}

impl Action for Delete {
    fn target(&self) -> Target {
        target(self.user.as_ref())
    }

    async fn run(self, cx: Cx) -> Reply {
        let Self { user, id } = self;
        let name = user_only(user)?;
        let account = cx.account();
        let reads = vec![Read::Key(tables::user(account, &name))];
        let key_id = id.clone();
        let decide = move |pages: &[store::Page], _| {
            let user = USERS.first(&pages[0])?.map(|row| row.value);
            let mut user = user.ok_or_else(|| not_found(HolderKind::User, &name))?;
            let at = user.access_keys.iter().position(|id| *id == key_id);
            user.access_keys.remove(at.ok_or_else(|| no_key(&key_id))?);
            let writes = vec![
                USERS.put(tables::user(account, &user.name), &user),
                Write::Delete(tables::access_key(&key_id)),
            ];
            Ok::<_, Error>((writes, ()))
        };
        cx.identity.store.transact(reads, decide).await?;
        cx.identity.keys.invalidate(&id);
        Ok(None)
    }
}
