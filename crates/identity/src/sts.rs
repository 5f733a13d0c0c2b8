//! The STS API (AWS STS API reference, 2011-06-15).

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws::query::Form;
use aws::xml::Xml;
use aws::{Access, Api, Operation, Protocol, Request, TemporaryCredentials};
use types::Principal;

use crate::call::{Action, BODY_LIMIT, Cx, Reply, Target, call, date, invalid, reply};
use crate::policy::{Decision, Kind, Policy};
use crate::sessions::Who;
use crate::{Error, Identity};

const NAMESPACE: &str = "https://sts.amazonaws.com/doc/2011-06-15/";
/// The most characters of a session policy.
const SESSION_POLICY_QUOTA: usize = 2_048;

/// STS, as the pipeline sees it.
#[derive(Debug, Clone)]
pub struct StsApi {
    identity: Arc<Identity>,
}

impl StsApi {
    /// Serves what `identity` holds.
    pub fn new(identity: Arc<Identity>) -> Self {
        Self { identity }
    }
}

#[async_trait]
impl Api for StsApi {
    fn signing_name(&self) -> &'static str {
        "sts"
    }

    fn protocol(&self) -> Protocol {
        Protocol::Query
    }

    fn namespace(&self) -> &'static str {
        NAMESPACE
    }

    async fn parse(&self, request: Request) -> Result<Box<dyn Operation>, aws::Error> {
        // STS takes GET as well as POST.
        let body = match request.head.uri.query() {
            Some(query) if request.head.method == http::Method::GET => query.as_bytes().to_vec().into(),
            _ => aws::body::collect(request.body, BODY_LIMIT).await?,
        };
        let mut form = Form::parse(&body);
        let name = form.require("Action")?;
        form.take("Version");
        let cx = Cx { identity: self.identity.clone(), context: request.context };
        let op = |name: &'static str| ("sts", NAMESPACE, name);
        match name.as_str() {
            "GetCallerIdentity" => {
                call(op("GetCallerIdentity"), form, cx, |_, _| Ok(GetCallerIdentity)).await
            }
            "AssumeRole" => call(op("AssumeRole"), form, cx, |f, _| AssumeRole::parse(f)).await,
            "GetSessionToken" => call(op("GetSessionToken"), form, cx, GetSessionToken::parse).await,
            other => {
                let message =
                    format!("The action {other} is not valid for this endpoint, or not supported here.");
                Err(Error::InvalidAction(message).into())
            }
        }
    }
}

fn write_credentials(xml: &mut Xml, credentials: &TemporaryCredentials) {
    xml.element("Credentials", |xml| {
        xml.text("AccessKeyId", &credentials.access_key_id);
        xml.text("SecretAccessKey", &credentials.secret_access_key);
        xml.text("SessionToken", &credentials.session_token);
        xml.text("Expiration", &date(credentials.expires_at));
    });
}

fn duration(form: &mut Form, most: u64, default: u64) -> Result<Duration, aws::Error> {
    let seconds = form.take_parsed("DurationSeconds")?.unwrap_or(default);
    if !(900..=most).contains(&seconds) {
        return Err(invalid(format!(
            "1 validation error detected: Value '{seconds}' at 'durationSeconds' failed to satisfy constraint: \
             Member must be between 900 and {most}"
        )));
    }
    Ok(Duration::from_secs(seconds))
}

struct GetCallerIdentity;

impl Action for GetCallerIdentity {
    fn target(&self) -> Target {
        Target::Nothing
    }

    async fn run(self, cx: Cx) -> Reply {
        let principal = &cx.caller().principal;
        let account = cx.account();
        let (user_id, arn) = match principal {
            Principal::Root { .. } => (account.to_string(), principal.arn()),
            Principal::User { id, .. } => {
                let holder = cx.identity.holder_of(principal).await?;
                (id.clone(), holder.map_or_else(|| principal.arn(), |holder| holder.arn.clone()))
            }
            Principal::AssumedRole { id, session, .. } => (format!("{id}:{session}"), principal.arn()),
            Principal::Service { .. } | Principal::Anonymous => {
                let message = "Credentials are needed to ask who they belong to.";
                return Err(Error::AccessDenied(message.into()));
            }
        };
        reply(move |xml| {
            xml.text("Arn", &arn);
            xml.text("UserId", &user_id);
            xml.value("Account", account);
        })
    }
}

/// Rights are not asked for by the pipeline, since whether the caller's own policies matter depends on what
/// the role's trust policy says; both are weighed here.
struct AssumeRole {
    role_arn: String,
    session: String,
    policy: Option<String>,
    duration: Duration,
    external_id: Option<String>,
}

impl AssumeRole {
    fn parse(form: &mut Form) -> Result<Self, aws::Error> {
        let session = form.require("RoleSessionName")?;
        let valid = (2..=64).contains(&session.len())
            && session.bytes().all(|b| b.is_ascii_alphanumeric() || b"_=,.@-".contains(&b));
        if !valid {
            return Err(invalid(format!(
                "1 validation error detected: Value '{session}' at 'roleSessionName' failed to satisfy \
                 constraint: Member must satisfy regular expression pattern: [\\w+=,.@-]*"
            )));
        }
        let policy = form.take("Policy");
        if let Some(policy) = &policy {
            if policy.len() > SESSION_POLICY_QUOTA {
                let message = "Session policies have at most 2048 characters.";
                return Err(Error::PackedPolicyTooLarge(message.into()).into());
            }
            Policy::parse(policy, Kind::Identity)?;
        }
        Ok(Self {
            role_arn: form.require("RoleArn")?,
            session,
            policy,
            duration: duration(form, 43_200, 3_600)?,
            external_id: form.take("ExternalId"),
        })
    }
}

impl Action for AssumeRole {
    fn target(&self) -> Target {
        Target::Nothing
    }

    async fn run(self, cx: Cx) -> Reply {
        let caller = cx.caller();
        // A role that does not exist looks like one that may not be assumed.
        let denied = || {
            Error::AccessDenied(format!(
                "User: {} is not authorized to perform: sts:AssumeRole on resource: {}",
                caller.principal.arn(),
                self.role_arn
            ))
        };
        let identity = &cx.identity;
        let (account, role) = identity.role_by_arn(&self.role_arn).await?.ok_or_else(denied)?;
        let own = identity.holder_of(&caller.principal).await?;
        let own_arn = own.as_ref().map_or_else(|| caller.principal.arn(), |holder| holder.arn.clone());
        if own.is_none() && !matches!(caller.principal, Principal::Root { .. }) {
            return Err(denied());
        }
        let mut need = Access::new("sts:AssumeRole", self.role_arn.clone())
            .with("sts:RoleSessionName", vec![self.session.clone()]);
        if let Some(id) = &self.external_id {
            need = need.with("sts:ExternalId", vec![id.clone()]);
        }
        let trust =
            identity.trust_decision(&role, &caller.principal, &own_arn, &caller.origin, &need.context);
        let allowed = match trust {
            Decision::Deny | Decision::Default => false,
            // Another account's role, or one that trusts the whole account: the caller's own policies decide.
            _ if account != caller.account => identity.allows(caller, &need).await?,
            Decision::AllowAccount => identity.allows(caller, &need).await?,
            Decision::Allow => !identity.denies(caller, &need).await?,
        };
        if !allowed {
            return Err(denied());
        }
        let chained = matches!(caller.principal, Principal::AssumedRole { .. });
        if chained && self.duration > Duration::from_secs(3_600) {
            let message = "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by \
                           role chaining";
            return Err(Error::ValidationError(message.into()));
        }
        if self.duration > Duration::from_secs(role.max_session_s.into()) {
            let message = "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.";
            return Err(Error::ValidationError(message.into()));
        }
        let packed = self.policy.as_ref().map(|policy| policy.len() * 100 / SESSION_POLICY_QUOTA);
        let who = Who::Role(role.name.clone(), role.id.clone(), self.session.clone());
        let credentials = identity.issue(account, who, self.policy, self.duration);
        let (id, name, session) = (role.id.clone(), role.name.clone(), self.session);
        reply(move |xml| {
            write_credentials(xml, &credentials);
            xml.element("AssumedRoleUser", |xml| {
                xml.text("AssumedRoleId", &format!("{id}:{session}"));
                xml.text("Arn", &format!("arn:aws:sts::{account}:assumed-role/{name}/{session}"));
            });
            xml.optional("PackedPolicySize", packed);
        })
    }
}

/// Temporary credentials with the rights of the user who asks.
struct GetSessionToken {
    duration: Duration,
}

impl GetSessionToken {
    fn parse(form: &mut Form, cx: &Cx) -> Result<Self, aws::Error> {
        let root = matches!(cx.caller().principal, Principal::Root { .. });
        let (most, default) = if root { (3_600, 3_600) } else { (129_600, 43_200) };
        Ok(Self { duration: duration(form, most, default)? })
    }
}

impl Action for GetSessionToken {
    fn target(&self) -> Target {
        Target::Nothing
    }

    async fn run(self, cx: Cx) -> Reply {
        let caller = cx.caller();
        let temporary = caller.access_key_id.as_ref().is_some_and(|id| id.starts_with("ASIA"));
        let who = match &caller.principal {
            Principal::User { name, id, .. } if !temporary => Who::User(name.clone(), id.clone()),
            Principal::Root { .. } if !temporary => Who::Root,
            _ => {
                let message = "Cannot call GetSessionToken with session credentials";
                return Err(Error::AccessDenied(message.into()));
            }
        };
        let credentials = cx.identity.issue(cx.account(), who, None, self.duration);
        reply(move |xml| write_credentials(xml, &credentials))
    }
}
