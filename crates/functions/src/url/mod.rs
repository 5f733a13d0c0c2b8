//! What answers at the URLs of functions (AWS Lambda developer guide, "Invoking Lambda function URLs").
//!
//! The map: [`FunctionUrls`] is the service; `event` makes an event of a request and an answer of what the
//! function returned; `cors` answers for the browser; `target` finds the function; `respond` runs the function and sends its answer.
//!
//! Invariants: a URL of `AWS_IAM` asks for the caller's right like any operation; one of `NONE` runs only if the
//! function's policy lets everybody in. A function that takes HTTP gets the request as it came.

mod cors;
mod event;
mod id;
mod respond;
mod target;

use std::sync::Arc;

use async_trait::async_trait;
use aws::{Access, Api, Operation, Protocol, Request, RequestContext, Response};
use bytes::Bytes;
use http::request::Parts;
use types::{AccountId, ErrorKind, Principal};

use crate::invoke::Known;
use crate::name::FunctionName;
use crate::permission::lets_url_in;
use crate::service::{Functions, Inner};
use crate::tables::UrlRow;

pub(crate) use id::{UrlId, address};
pub(crate) use target::Targets;

use target::Target;

/// Largest request, in bytes.
const REQUEST_LIMIT: usize = 6_291_456;
/// The node's own path to URLs, for clients that cannot resolve their host names.
const PATH: &str = "/_hawker/url/";

/// The URLs of a node's functions.
#[derive(Debug)]
pub struct FunctionUrls {
    inner: Arc<Inner>,
}

impl FunctionUrls {
    /// The URLs of these functions.
    pub fn new(functions: &Functions) -> Arc<Self> {
        Arc::new(Self { inner: functions.inner.clone() })
    }
}

/// A request to a URL.
struct Call {
    inner: Arc<Inner>,
    context: RequestContext,
    function: FunctionName,
    account: AccountId,
    arn: String,
    known: Arc<Known>,
    url: Arc<UrlRow>,
    head: Parts,
    body: Bytes,
}

fn forbidden() -> aws::Error {
    // As at a URL of AWS: nothing says whether there is such a function.
    let mut error = aws::Error::new(ErrorKind::Denied, "AccessDeniedException", "Forbidden").with_status(403);
    error.capital_message = true;
    error
}

/// The id in a request's host name or path, and the path that the function sees.
fn locate(head: &Parts) -> Option<(UrlId, String)> {
    let path = head.uri.path();
    if let Some(rest) = path.strip_prefix(PATH) {
        let (id, below) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        return Some((id.parse().ok()?, if below.is_empty() { "/".to_owned() } else { below.to_owned() }));
    }
    let host = head.headers.get(http::header::HOST)?.to_str().ok()?;
    Some((host.split('.').next()?.parse().ok()?, path.to_owned()))
}

#[async_trait]
impl Api for FunctionUrls {
    fn signing_name(&self) -> &'static str {
        "lambda-url"
    }

    fn protocol(&self) -> Protocol {
        Protocol::RestJson
    }

    fn accepts_anonymous(&self) -> bool {
        true
    }

    fn max_signed_body_bytes(&self) -> usize {
        REQUEST_LIMIT
    }

    async fn parse(&self, request: Request) -> Result<Box<dyn Operation>, aws::Error> {
        let Request { mut head, body, context } = request;
        let (id, path) = locate(&head).ok_or_else(forbidden)?;
        let account = id.account();
        let Target { function, known, url } = self.inner.target(&id).await?;
        head.uri = event::with_path(&head.uri, &path);
        let body = aws::body::collect(body, REQUEST_LIMIT).await?;
        let (inner, arn) = (self.inner.clone(), function.arn(account, &self.inner.region));
        Ok(Box::new(Call { inner, context, function, account, arn, known, url, head, body }))
    }
}

#[async_trait]
impl Operation for Call {
    fn name(&self) -> &'static str {
        "InvokeFunctionUrl"
    }

    fn access(&self) -> Vec<Access> {
        // What everybody may do is looked at when it is carried out; so are callers whom the function's own policy
        // names.
        if !self.url.signed || self.is_preflight() || self.lets_caller_in() {
            return Vec::new();
        }
        let access = Access::new("lambda:InvokeFunctionUrl", &self.arn);
        vec![access.with("lambda:FunctionUrlAuthType", vec!["AWS_IAM".to_owned()])]
    }

    async fn handle(self: Box<Self>) -> Result<Response, aws::Error> {
        if let (Some(cors), true) = (&self.url.cors, self.is_preflight()) {
            return Ok(cors::preflight(cors, &self.head.headers));
        }
        let anonymous = self.context.caller.principal == Principal::Anonymous;
        if self.url.signed && anonymous {
            return Err(forbidden());
        }
        if !self.url.signed && !self.lets_caller_in() {
            return Err(forbidden());
        }
        let cors = self.url.cors.clone();
        let origin = self.head.headers.get(http::header::ORIGIN).cloned();
        let mut response = self.respond().await?;
        if let Some(cors) = cors {
            cors::dress(&cors, origin.as_ref(), response.headers_mut());
        }
        response.extensions_mut().insert(aws::Traced);
        Ok(response)
    }
}

impl Call {
    fn is_preflight(&self) -> bool {
        self.head.method == http::Method::OPTIONS
            && self.url.cors.is_some()
            && self.head.headers.contains_key("access-control-request-method")
    }

    /// Whether the function's policy lets the caller in.
    fn lets_caller_in(&self) -> bool {
        let auth = if self.url.signed { "AWS_IAM" } else { "NONE" };
        let policy = self.known.policy(self.function.qualifier.as_deref());
        policy.is_some_and(|policy| lets_url_in(policy, &self.context.caller.principal, auth))
    }
}
