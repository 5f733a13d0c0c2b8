//! The CloudWatch Logs API (Amazon CloudWatch Logs API reference, 2014-03-28).
//!
//! One type per operation: its input, the rights it needs, and what it does.

mod events;
mod groups;
mod pattern;
mod streams;
mod tags;

use async_trait::async_trait;
use aws::{Access, Api, Error as WireError, Operation, Protocol, Request, RequestContext, Response};
use serde::de::DeserializeOwned;
use types::{AccountId, Region};

use crate::tables::{self, GROUPS, Group, STREAMS, Stream};
use crate::{Error, Telemetry};

/// Requests are at most a PutLogEvents of 1 MiB, in JSON.
const BODY_LIMIT: usize = 8 << 20;

/// CloudWatch Logs, as the pipeline sees it.
#[derive(Debug, Clone)]
pub struct LogsApi {
    telemetry: Telemetry,
}

impl LogsApi {
    /// Serves what `telemetry` holds.
    pub fn new(telemetry: Telemetry) -> Self {
        Self { telemetry }
    }
}

/// Where a request acts.
#[derive(Debug, Clone)]
struct Scope {
    telemetry: Telemetry,
    account: AccountId,
    region: Region,
}

/// An operation's input.
trait Input: DeserializeOwned + Send + 'static {
    /// The operation's name.
    const NAME: &'static str;

    /// The resource it acts on.
    fn resource(&self, scope: &Scope) -> String;

    /// Carries it out.
    fn run(self, scope: Scope) -> impl Future<Output = Result<Response, Error>> + Send;
}

struct Call<I> {
    input: I,
    scope: Scope,
}

#[async_trait]
impl<I: Input> Operation for Call<I> {
    fn name(&self) -> &'static str {
        I::NAME
    }

    fn access(&self) -> Vec<Access> {
        vec![Access::new(format!("logs:{}", I::NAME), self.input.resource(&self.scope))]
    }

    async fn handle(self: Box<Self>) -> Result<Response, WireError> {
        Ok(self.input.run(self.scope).await?)
    }
}

#[async_trait]
impl Api for LogsApi {
    fn signing_name(&self) -> &'static str {
        "logs"
    }

    fn protocol(&self) -> Protocol {
        Protocol::Json11
    }

    fn target_prefix(&self) -> &'static str {
        "Logs_20140328"
    }

    async fn parse(&self, request: Request) -> Result<Box<dyn Operation>, WireError> {
        let target = request.head.headers.get("x-amz-target").and_then(|value| value.to_str().ok());
        let name = target.and_then(|target| target.strip_prefix("Logs_20140328.")).unwrap_or_default();
        let name = name.to_owned();
        let RequestContext { caller, region, .. } = request.context;
        let scope = Scope { telemetry: self.telemetry.clone(), account: caller.account, region };
        let body = aws::body::collect(request.body, BODY_LIMIT).await?;
        match name.as_str() {
            groups::CreateLogGroup::NAME => call::<groups::CreateLogGroup>(&body, scope),
            groups::DeleteLogGroup::NAME => call::<groups::DeleteLogGroup>(&body, scope),
            groups::DescribeLogGroups::NAME => call::<groups::DescribeLogGroups>(&body, scope),
            groups::PutRetentionPolicy::NAME => call::<groups::PutRetentionPolicy>(&body, scope),
            groups::DeleteRetentionPolicy::NAME => call::<groups::DeleteRetentionPolicy>(&body, scope),
            streams::CreateLogStream::NAME => call::<streams::CreateLogStream>(&body, scope),
            streams::DeleteLogStream::NAME => call::<streams::DeleteLogStream>(&body, scope),
            streams::DescribeLogStreams::NAME => call::<streams::DescribeLogStreams>(&body, scope),
            events::PutLogEvents::NAME => call::<events::PutLogEvents>(&body, scope),
            events::GetLogEvents::NAME => call::<events::GetLogEvents>(&body, scope),
            events::FilterLogEvents::NAME => call::<events::FilterLogEvents>(&body, scope),
            tags::TagResource::NAME => call::<tags::TagResource>(&body, scope),
            tags::UntagResource::NAME => call::<tags::UntagResource>(&body, scope),
            tags::ListTagsForResource::NAME => call::<tags::ListTagsForResource>(&body, scope),
            other => {
                let message = format!("The operation {other} of CloudWatch Logs is not supported here.");
                Err(Error::UnknownOperation(message).into())
            }
        }
    }
}

fn call<I: Input>(body: &[u8], scope: Scope) -> Result<Box<dyn Operation>, WireError> {
    let input: I = aws::json::input(body).map_err(|mut error| {
        // CloudWatch Logs has one code for inputs that do not fit.
        if error.code == "ValidationException" {
            error.code = "InvalidParameterException".into();
        }
        error
    })?;
    Ok(Box::new(Call { input, scope }))
}

fn invalid(message: impl Into<String>) -> Error {
    Error::InvalidParameter(message.into())
}

fn no_group() -> Error {
    Error::NotFound("The specified log group does not exist.".into())
}

fn no_stream() -> Error {
    Error::NotFound("The specified log stream does not exist.".into())
}

impl Scope {
    /// The ARN of a group.
    fn group_arn(&self, name: &str) -> String {
        format!("arn:aws:logs:{}:{}:log-group:{name}", self.region, self.account)
    }

    /// What policies name for a group: AWS asks for an empty stream of it, so that `...:group:*` matches.
    fn group_resource(&self, name: &str) -> String {
        format!("{}:log-stream:", self.group_arn(name))
    }

    fn stream_resource(&self, group: &str, stream: &str) -> String {
        format!("{}:log-stream:{stream}", self.group_arn(group))
    }

    fn store(&self) -> &store::Store {
        self.telemetry.store()
    }

    fn now_ms(&self) -> i64 {
        self.telemetry.writer.now_ms()
    }

    async fn group(&self, name: &str) -> Result<Group, Error> {
        let row = GROUPS.get(self.store(), tables::group(self.account, name)).await?;
        Ok(row.ok_or_else(no_group)?.value)
    }

    async fn stream(&self, group: &Group, name: &str) -> Result<Stream, Error> {
        let row = STREAMS.get(self.store(), tables::stream(self.account, group.number, name)).await?;
        Ok(row.ok_or_else(no_stream)?.value)
    }
}

/// A group by name, or by name or ARN in `logGroupIdentifier`: exactly one of them.
fn group_name(name: Option<&str>, identifier: Option<&str>) -> Result<String, Error> {
    match (name, identifier) {
        (Some(name), None) => Ok(name.to_owned()),
        (None, Some(identifier)) => Ok(identified(identifier)),
        (None, None) => Err(invalid("Either logGroupName or logGroupIdentifier is required.")),
        (Some(_), Some(_)) => {
            Err(invalid("LogGroupName and logGroupIdentifier are mutually exclusive. Use one of them."))
        }
    }
}

/// The name in `arn:aws:logs:region:account:log-group:name[:*]`, or the text itself.
fn identified(identifier: &str) -> String {
    let resource = identifier.strip_prefix("arn:").and_then(|arn| arn.splitn(5, ':').nth(4));
    let name = resource.and_then(|resource| resource.strip_prefix("log-group:")).unwrap_or(identifier);
    name.strip_suffix(":*").unwrap_or(name).to_owned()
}

/// Names of groups and streams (API reference, `logGroupName`, `logStreamName`).
fn check_name(member: &str, name: &str, valid: impl Fn(u8) -> bool) -> Result<(), Error> {
    if name.is_empty() || name.len() > 512 || !name.bytes().all(valid) {
        return Err(invalid(format!("Value '{name}' at '{member}' failed to satisfy its constraints.")));
    }
    Ok(())
}

fn check_limit(limit: Option<i64>, most: i64) -> Result<usize, Error> {
    match limit.unwrap_or(most) {
        limit if (1..=most).contains(&limit) => Ok(usize::try_from(limit).expect("it is small and positive")),
        limit => Err(invalid(format!(
            "Value '{limit}' at 'limit' failed to satisfy constraint: Member must be between 1 and {most}"
        ))),
    }
}
