//! Who calls, what they ask for, and who decides.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use types::{AccountId, Principal, Timestamp};

use crate::Error;

/// Where a request came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A client's connection, from this address.
    Network(std::net::IpAddr),
    /// A running instance of this function (its ARN), through its own endpoint.
    Function(String),
    /// The platform itself (a stack being deployed, an event being delivered).
    Platform,
}

/// An authenticated caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Who.
    pub principal: Principal,
    /// The account that the request acts in: the principal's own.
    pub account: AccountId,
    /// The key that signed; `None` for anonymous callers and the platform.
    pub access_key_id: Option<String>,
    /// From where.
    pub origin: Origin,
    /// A policy document (JSON) that narrows what a session may do further, from AssumeRole.
    pub session_policy: Option<String>,
}

impl Caller {
    /// The platform acting as the root of an account.
    pub fn platform(account: AccountId) -> Self {
        Self {
            principal: Principal::Root { account },
            account,
            access_key_id: None,
            origin: Origin::Platform,
            session_policy: None,
        }
    }
}

/// One right that an operation needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// The action, such as `dynamodb:PutItem`.
    pub action: Cow<'static, str>,
    /// The ARN it acts on; `*` for actions without a resource.
    pub resource: String,
    /// Condition keys of this request beyond the global ones, such as `("s3:prefix", ["photos/"])`.
    pub context: Vec<(Cow<'static, str>, Vec<String>)>,
    /// The resource's own side, where its service keeps it and its ARN does not tell whose it is.
    pub guard: Option<Arc<Guard>>,
}

/// What a resource itself says of who may use it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guard {
    /// Whose it is.
    pub owner: AccountId,
    /// The policy that hangs on it (JSON), which was checked when it was put there.
    pub policy: Option<Arc<str>>,
    /// Whether a policy that is open to the public lets in nobody but the owner's account and services.
    pub restricted: bool,
    /// Whether something else than a policy (an access control list) allows just this.
    pub granted: bool,
    /// Whether the policies of callers count only where the resource's own lets their account decide: so it is with
    /// keys of KMS, also in the account whose they are.
    pub decisive: bool,
}

/// What a policy comes to, for the service that keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PolicyFacts {
    /// Whether it allows something to everybody.
    pub public: bool,
}

/// Checks the policies of resources before their services keep them.
pub trait PolicyCheck: Send + Sync + fmt::Debug {
    /// Reads a document (JSON); the error's message says what is wrong with it.
    fn check(&self, policy: &str) -> Result<PolicyFacts, Error>;
}

impl Access {
    /// A right without condition keys of its own.
    pub fn new(action: impl Into<Cow<'static, str>>, resource: impl Into<String>) -> Self {
        Self { action: action.into(), resource: resource.into(), context: Vec::new(), guard: None }
    }

    /// The same with one more condition key.
    #[must_use]
    pub fn with(mut self, key: impl Into<Cow<'static, str>>, values: Vec<String>) -> Self {
        self.context.push((key.into(), values));
        self
    }
}

/// Decides what callers may do. Deny by default.
#[async_trait]
pub trait Authorizer: Send + Sync + fmt::Debug {
    /// Allows all of `needs` or answers with the error to send: kind `Denied`, code `AccessDeniedException`,
    /// a message that names principal, action and resource as AWS words it.
    async fn authorize(&self, caller: &Caller, needs: &[Access]) -> Result<(), Error>;
}

/// What a signature is verified against.
#[derive(Clone)]
pub struct Credential {
    /// The secret key.
    pub secret_access_key: String,
    /// The session token that must come with it, for temporary keys.
    pub session_token: Option<String>,
    /// When it ends, for temporary keys.
    pub expires_at: Option<Timestamp>,
    /// Whose it is.
    pub principal: Principal,
    /// See [`Caller::session_policy`].
    pub session_policy: Option<String>,
}

// The secret stays out of logs.
impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential").field("principal", &self.principal).finish_non_exhaustive()
    }
}

/// Finds credentials by access key.
#[async_trait]
pub trait CredentialSource: Send + Sync + fmt::Debug {
    /// The credential of `access_key_id`; `None` if there is none or it is inactive. Temporary keys carry
    /// what is needed to verify them in `session_token`, so that nothing must be stored for each session.
    async fn find(
        &self,
        access_key_id: &str,
        session_token: Option<&str>,
    ) -> Result<Option<Credential>, Error>;
}

/// Temporary credentials as STS hands them out.
#[derive(Clone)]
pub struct TemporaryCredentials {
    /// `ASIA...`.
    pub access_key_id: String,
    /// The secret.
    pub secret_access_key: String,
    /// The token to send along.
    pub session_token: String,
    /// When they end.
    pub expires_at: Timestamp,
    /// Who they make their holder: for the platform's own calls in a role's name.
    pub principal: Principal,
}

// The secrets stay out of logs.
impl fmt::Debug for TemporaryCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TemporaryCredentials")
            .field("access_key_id", &self.access_key_id)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// Assumes roles on behalf of a service: how functions get the credentials they run with.
#[async_trait]
pub trait RoleSource: Send + Sync + fmt::Debug {
    /// Credentials of `role_arn` for `service` (`lambda.amazonaws.com`), if the role exists in `account` and
    /// its trust policy lets that service assume it. The error has kind `Denied` or `Invalid`.
    async fn assume(
        &self,
        account: AccountId,
        role_arn: &str,
        session_name: &str,
        service: &str,
        duration: std::time::Duration,
    ) -> Result<TemporaryCredentials, Error>;

    /// Whether the user or the role of that ARN is there. `None` if nothing is known of it: it is neither, or of an
    /// account that is not this node's.
    async fn is_there(&self, arn: &str) -> Result<Option<bool>, Error>;
}
