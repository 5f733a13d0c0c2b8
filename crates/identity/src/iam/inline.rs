//! Inline policies of users and roles.

use aws::query::Form;
use store::Write;

use super::input;
use super::subject::{Subject, parse_name};
use crate::Error;
use crate::call::{Action, Cx, Reply, Target, reply};
use crate::policy::{Kind, Policy};
use crate::tables::HolderKind;

/// The most characters of all inline policies together, white space aside.
fn quota(kind: HolderKind) -> usize {
    match kind {
        HolderKind::User => 2_048,
        HolderKind::Role => 10_240,
    }
}

pub(super) fn size(document: &str) -> usize {
    document.chars().filter(|c| !c.is_whitespace()).count()
}

fn no_policy(kind: HolderKind, name: &str) -> Error {
    Error::NoSuchEntity(match kind {
        HolderKind::User => format!("The user policy with name {name} cannot be found."),
        HolderKind::Role => format!("The role policy with name {name} cannot be found."),
    })
}

/// `PutRolePolicy`, `PutUserPolicy`.
pub(super) struct Put {
    kind: HolderKind,
    holder: String,
    name: String,
    document: String,
}

impl Put {
    pub(super) fn parse(form: &mut Form, kind: HolderKind) -> Result<Self, aws::Error> {
        let (holder, name) = (parse_name(form, kind)?, input::name(form, "PolicyName", 128)?);
        let document = form.require("PolicyDocument")?;
        Policy::parse(&document, Kind::Identity)?;
        Ok(Self { kind, holder, name, document })
    }
}

impl Action for Put {
    fn target(&self) -> Target {
        Target::Holder(self.kind, self.holder.clone())
    }

    async fn run(self, cx: Cx) -> Reply {
        let Self { kind, holder, name, document } = self;
        let change = move |subject: &mut Subject, _: &[store::Page], _: &mut Vec<Write>| {
            let inline = &mut subject.grants().inline;
            inline.insert(name.clone(), document.clone());
            let quota = quota(kind);
            if inline.values().map(|document| size(document)).sum::<usize>() > quota {
                let (what, name) = match kind {
                    HolderKind::User => ("user", subject.name()),
                    HolderKind::Role => ("role", subject.name()),
                };
                let message = format!("Maximum policy size of {quota} bytes exceeded for {what} {name}");
                return Err(Error::LimitExceeded(message));
            }
            Ok(())
        };
        cx.identity.change_subject(cx.account(), kind, &holder, Vec::new(), change).await?;
        Ok(None)
    }
}

/// `GetRolePolicy`, `GetUserPolicy`.
pub(super) struct Get {
    kind: HolderKind,
    holder: String,
    name: String,
}

impl Get {
    pub(super) fn parse(form: &mut Form, kind: HolderKind) -> Result<Self, aws::Error> {
        Ok(Self { kind, holder: parse_name(form, kind)?, name: input::name(form, "PolicyName", 128)? })
    }
}

impl Action for Get {
    fn target(&self) -> Target {
        Target::Holder(self.kind, self.holder.clone())
    }

    async fn run(self, cx: Cx) -> Reply {
        let Self { kind, holder, name } = self;
        let mut subject = cx.identity.subject(cx.account(), kind, &holder).await?;
        let document = subject.grants().inline.remove(&name).ok_or_else(|| no_policy(kind, &name))?;
        let holder = subject.name().to_owned();
        reply(move |xml| {
            let element = match kind {
                HolderKind::User => "UserName",
                HolderKind::Role => "RoleName",
            };
            xml.text(element, &holder);
            xml.text("PolicyName", &name);
            xml.text("PolicyDocument", &input::encode_document(&document));
        })
    }
}

/// `DeleteRolePolicy`, `DeleteUserPolicy`.
pub(super) struct Delete {
    kind: HolderKind,
    holder: String,
    name: String,
}

impl Delete {
    pub(super) fn parse(form: &mut Form, kind: HolderKind) -> Result<Self, aws::Error> {
        Ok(Self { kind, holder: parse_name(form, kind)?, name: input::name(form, "PolicyName", 128)? })
    }
}

impl Action for Delete {
    fn target(&self) -> Target {
        Target::Holder(self.kind, self.holder.clone())
    }

    async fn run(self, cx: Cx) -> Reply {
        let Self { kind, holder, name } = self;
        let change = move |subject: &mut Subject, _: &[store::Page], _: &mut Vec<Write>| {
            subject.grants().inline.remove(&name).map(|_| ()).ok_or_else(|| no_policy(kind, &name))
        };
        cx.identity.change_subject(cx.account(), kind, &holder, Vec::new(), change).await?;
        Ok(None)
    }
}

/// `ListRolePolicies`, `ListUserPolicies`.
pub(super) struct List {
    kind: HolderKind,
    holder: String,
    page: input::Page,
}

impl List {
    pub(super) fn parse(form: &mut Form, kind: HolderKind) -> Result<Self, aws::Error> {
        Ok(Self { kind, holder: parse_name(form, kind)?, page: input::Page::parse(form)? })
    }
}

impl Action for List {
    fn target(&self) -> Target {
        Target::Holder(self.kind, self.holder.clone())
    }

    async fn run(self, cx: Cx) -> Reply {
        let mut subject = cx.identity.subject(cx.account(), self.kind, &self.holder).await?;
        let names = std::mem::take(&mut subject.grants().inline).into_keys();
        let (names, marker) = self.page.of(names, |name| name);
        reply(move |xml| {
            xml.list("PolicyNames", &names, |xml, name| xml.escape(name));
            input::write_page_end(xml, marker.as_ref());
        })
    }
}
