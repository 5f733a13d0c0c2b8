//! What the operations of IAM and STS have in common: a form in, rights on a resource, XML out.

use std::sync::Arc;

use async_trait::async_trait;
use aws::query::Form;
use aws::xml::Xml;
use aws::{Access, Caller, Operation, RequestContext, Response};
use types::{AccountId, Timestamp};

use crate::holders::HolderKey;
use crate::tables::{self, HolderKind, POLICIES};
use crate::{Error, Identity};

/// Requests are small: the largest holds a policy document.
pub(crate) const BODY_LIMIT: usize = 256 << 10;

/// What an operation needs besides its input.
#[derive(Debug, Clone)]
pub(crate) struct Cx {
    pub(crate) identity: Arc<Identity>,
    pub(crate) context: RequestContext,
}

impl Cx {
    pub(crate) fn caller(&self) -> &Caller {
        &self.context.caller
    }

    pub(crate) fn account(&self) -> AccountId {
        self.context.caller.account
    }
}

/// Writes the result of an operation.
pub(crate) type Body = Box<dyn Fn(&mut Xml) + Send>;

/// The result of an operation; `None` if it has none.
pub(crate) type Reply = Result<Option<Body>, Error>;

pub(crate) fn reply(body: impl Fn(&mut Xml) + Send + 'static) -> Reply {
    Ok(Some(Box::new(body)))
}

/// What an operation acts on.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    /// Nothing in particular.
    Any,
    /// An ARN that the request holds, or makes.
    Arn(String),
    /// A user or role, whose path is looked up.
    Holder(HolderKind, String),
    /// Everybody may: no rights are asked for.
    Nothing,
}

/// A typed operation.
pub(crate) trait Action: Send + 'static {
    /// What it acts on.
    fn target(&self) -> Target;

    /// Carries it out.
    fn run(self, cx: Cx) -> impl Future<Output = Reply> + Send;
}

struct Call<A> {
    name: &'static str,
    namespace: &'static str,
    access: Vec<Access>,
    action: A,
    cx: Cx,
}

/// Readies an operation; what the form still holds is refused.
pub(crate) async fn call<A: Action>(
    (service, namespace, name): (&'static str, &'static str, &'static str),
    mut form: Form,
    cx: Cx,
    parse: impl FnOnce(&mut Form, &Cx) -> Result<A, aws::Error>,
) -> Result<Box<dyn Operation>, aws::Error> {
    let action = parse(&mut form, &cx)?;
    form.finish()?;
    let resource = match action.target() {
        Target::Nothing => None,
        Target::Any => Some("*".to_owned()),
        Target::Arn(arn) => Some(arn),
        Target::Holder(kind, name) => Some(cx.holder_arn(kind, &name).await?),
    };
    let access = resource.map(|resource| Access::new(format!("{service}:{name}"), resource));
    Ok(Box::new(Call { name, namespace, access: access.into_iter().collect(), action, cx }))
}

impl Cx {
    /// The ARN of a user or role; where there is none, as if it had no path.
    async fn holder_arn(&self, kind: HolderKind, name: &str) -> Result<String, Error> {
        let account = self.account();
        let holder = self.identity.holder(HolderKey::new(account, kind, name)).await?;
        let word = match kind {
            HolderKind::User => "user",
            HolderKind::Role => "role",
        };
        Ok(holder.map_or_else(|| format!("arn:aws:iam::{account}:{word}/{name}"), |h| h.arn.clone()))
    }

    /// The managed policy of the account with that ARN, which must be its own in full.
    pub(crate) async fn managed_policy(&self, arn: &str) -> Result<Option<tables::ManagedPolicy>, Error> {
        let Some(name) = own_policy_name(self.account(), arn) else { return Ok(None) };
        let row = POLICIES.get(&self.identity.store, tables::policy(self.account(), name)).await?;
        Ok(row.map(|row| row.value).filter(|policy| policy.arn(self.account()) == arn))
    }
}

/// The name in the ARN of a managed policy of `account`.
pub(crate) fn own_policy_name(account: AccountId, arn: &str) -> Option<&str> {
    let (owner, resource) = arn.strip_prefix("arn:aws:iam::")?.split_once(':')?;
    let name = resource.strip_prefix("policy/")?.rsplit('/').next()?;
    (owner.parse() == Ok(account)).then_some(name)
}

impl tables::ManagedPolicy {
    pub(crate) fn arn(&self, account: AccountId) -> String {
        format!("arn:aws:iam::{account}:policy{}{}", self.path, self.name)
    }
}

#[async_trait]
impl<A: Action> Operation for Call<A> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn access(&self) -> Vec<Access> {
        self.access.clone()
    }

    async fn handle(self: Box<Self>) -> Result<Response, aws::Error> {
        let Self { name, namespace, action, cx, .. } = *self;
        let request_id = cx.context.request_id;
        let body = action.run(cx).await?;
        let result = body.as_ref().map(|body| &**body as &dyn Fn(&mut Xml));
        Ok(aws::query::output(name, namespace, request_id, result))
    }
}

/// A moment as the Query protocol writes it.
pub(crate) fn date(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

pub(crate) fn invalid(message: impl Into<String>) -> aws::Error {
    Error::ValidationError(message.into()).into()
}
