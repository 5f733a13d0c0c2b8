//! Requests as they come over the wire: paths and members to operations.

mod document;
pub(crate) mod input;
pub(crate) mod marker;
pub(crate) mod members;
pub(crate) mod output;

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;

use aws::{Operation, Request};
use bytes::Bytes;
use http::Method;
use types::ErrorKind;

use crate::Error;
use crate::name::FunctionName;
use crate::ops::layers::{self, LayerVersion, Wanted};
use crate::ops::{Call, MappingId, Op};
use crate::service::Inner;
use input::{InvocationType, Invoke};

/// Largest request that carries a package, in bytes.
pub(crate) const DEPLOY_LIMIT: usize = 70_167_211;
/// Largest request otherwise.
const REQUEST_LIMIT: usize = 1 << 20;
/// Largest event of a synchronous invocation.
const SYNC_LIMIT: usize = 6_291_456;
/// Largest event of an asynchronous invocation.
pub(crate) const ASYNC_LIMIT: usize = 1_048_576;

/// Largest client context, in bytes of base64.
const CLIENT_CONTEXT_LIMIT: usize = 3583;

/// The most items that clients can ask for of a list, where the service's model has no other number.
const LIST_MOST: usize = 10_000;

/// The parameters of a query string.
#[derive(Debug, Default)]
struct Query(BTreeMap<String, Vec<String>>);

impl Query {
    fn parse(uri: &http::Uri) -> Self {
        let mut parameters: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, value) in form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()) {
            parameters.entry(name.into_owned()).or_default().push(value.into_owned());
        }
        Self(parameters)
    }

    fn take(&mut self, name: &str) -> Option<String> {
        self.0.remove(name)?.into_iter().next()
    }

    fn take_all(&mut self, name: &str) -> Vec<String> {
        self.0.remove(name).unwrap_or_default()
    }

    /// Where a list goes on.
    fn take_marker(&mut self, list: &str) -> Result<Option<String>, Error> {
        marker::take(list, self.take("Marker"))
    }

    /// A page's length: at most `limit`, of which clients can ask for up to `most`.
    fn take_max_items(&mut self, limit: usize, most: usize) -> Result<usize, Error> {
        let Some(text) = self.take("MaxItems") else { return Ok(limit) };
        let Ok(items) = text.parse::<i64>() else {
            return Err(Error::Serialization("STRING_VALUE cannot be converted to Integer".into()));
        };
        let refused = |rule: &str| Err(Error::constraint(items, "maxItems", rule));
        match usize::try_from(items) {
            Ok(items) if items > most => {
                refused(&format!("Member must have value less than or equal to {most}"))
            }
            Ok(items) if items > 0 => Ok(limit.min(items)),
            _ => refused("Member must have value greater than or equal to 1"),
        }
    }

    /// The function of a path with the query's qualifier, which `check` judges.
    fn qualify(
        &mut self,
        function: FunctionName,
        check: fn(&str) -> Result<(), Error>,
    ) -> Result<FunctionName, Error> {
        let qualifier = self.take("Qualifier");
        if let Some(qualifier) = &qualifier {
            check(qualifier)?;
        }
        function.qualified(qualifier)
    }

    fn finish(self) -> Result<(), Error> {
        match self.0.into_keys().next() {
            Some(name) => {
                Err(Error::Unsupported(format!("The parameter {name} is not supported by this node.")))
            }
            None => Ok(()),
        }
    }
}

/// How Lambda's paths begin.
const PATHS: &[(&str, &str)] = &[
    ("2014-11-13", "functions"),
    ("2015-03-31", "event-source-mappings"),
    ("2015-03-31", "functions"),
    ("2016-08-19", "account-settings"),
    ("2017-03-31", "tags"),
    ("2017-10-31", "functions"),
    ("2018-10-31", "layers"),
    ("2019-09-25", "functions"),
    ("2019-09-30", "functions"),
    ("2020-04-22", "code-signing-configs"),
    ("2020-06-30", "functions"),
    ("2021-07-20", "functions"),
    ("2021-10-31", "functions"),
    ("2021-11-15", "functions"),
    ("2024-08-31", "functions"),
    ("2025-11-30", "capacity-providers"),
    ("2025-11-30", "functions"),
    ("2025-12-01", "durable-execution-callbacks"),
    ("2025-12-01", "durable-executions"),
    ("2025-12-01", "functions"),
    ("2026-07-09", "resource-policy"),
];

/// Whether a path is one of Lambda's, served here or not.
pub(crate) fn has_path(path: &str) -> bool {
    let mut segments = path.trim_start_matches('/').splitn(3, '/');
    let (Some(date), Some(what)) = (segments.next(), segments.next()) else { return false };
    PATHS.contains(&(date, what))
}

/// Reads an operation.
pub(crate) async fn parse(inner: &Arc<Inner>, request: Request) -> Result<Box<dyn Operation>, aws::Error> {
    let Request { head, body, context } = request;
    let mut segments = Vec::new();
    for segment in head.uri.path().trim_matches('/').split('/') {
        let decoded = percent_encoding::percent_decode_str(segment).decode_utf8();
        segments.push(decoded.map_err(|_| unknown(&head))?.into_owned());
    }
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let account = context.caller.account;
    let name = |text: &str| FunctionName::parse(text, account, &inner.region);
    let mut query = Query::parse(&head.uri);
    let method = head.method.as_str();

    let op = match (method, segments.as_slice()) {
        ("POST", ["2015-03-31", "functions"]) => {
            let body = collect(body, DEPLOY_LIMIT, "CreateFunction").await?;
            let input: input::CreateFunction = json(body)?;
            input.check()?;
            Op::CreateFunction(name(&input.function_name)?, Box::new(input))
        }
        ("GET", ["2015-03-31", "functions"]) => {
            let versions = query.take("FunctionVersion");
            if let Some(versions) = &versions {
                members::one_of(versions, "functionVersion", &["ALL"])?;
            }
            let every_version = versions.is_some();
            let (marker, limit) = (query.take_marker("ListFunctions")?, query.take_max_items(50, LIST_MOST)?);
            Op::ListFunctions { every_version, marker, limit }
        }
        (_, ["2015-03-31", "functions", function, rest @ ..]) => {
            let function = query.qualify(name(function)?, members::qualifier)?;
            match (method, rest) {
                ("GET", []) => Op::GetFunction(function),
                ("DELETE", []) => Op::DeleteFunction(function),
                ("GET", ["configuration"]) => Op::GetFunctionConfiguration(function),
                ("PUT", ["configuration"]) => {
                    let body = collect(body, REQUEST_LIMIT, "UpdateFunctionConfiguration").await?;
                    let input: input::UpdateFunctionConfiguration = json(body)?;
                    input.check()?;
                    Op::UpdateFunctionConfiguration(function, Box::new(input))
                }
                ("PUT", ["code"]) => {
                    let body = collect(body, DEPLOY_LIMIT, "UpdateFunctionCode").await?;
                    let input: input::UpdateFunctionCode = json(body)?;
                    input.check()?;
                    Op::UpdateFunctionCode(function, Box::new(input))
                }
                ("GET", ["code"]) => Op::DownloadCode(function),
                ("POST", ["invocations"]) => Op::Invoke(Box::new(invoke(&head, function, body).await?)),
                ("GET", ["policy"]) => Op::GetPolicy(function),
                ("POST", ["policy"]) => {
                    let input: input::AddPermission =
                        json(collect(body, REQUEST_LIMIT, "AddPermission").await?)?;
                    input.check()?;
                    Op::AddPermission(function, Box::new(input))
                }
                ("DELETE", ["policy", statement]) => Op::RemovePermission {
                    function,
                    statement: (*statement).to_owned(),
                    revision: query.take("RevisionId"),
                },
                ("GET", ["versions"]) => Op::ListVersionsByFunction {
                    function,
                    marker: query.take_marker("ListVersionsByFunction")?,
                    limit: query.take_max_items(50, LIST_MOST)?,
                },
                ("POST", ["versions"]) => {
                    let input: input::PublishVersion =
                        json(collect(body, REQUEST_LIMIT, "PublishVersion").await?)?;
                    input.check()?;
                    Op::PublishVersion(function, input)
                }
                ("GET", ["aliases"]) => {
                    let (version, marker) =
                        (query.take("FunctionVersion"), query.take_marker("ListAliases")?);
                    Op::ListAliases { function, version, marker, limit: query.take_max_items(50, LIST_MOST)? }
                }
                ("POST", ["aliases"]) => {
                    Op::CreateAlias(function, json(collect(body, REQUEST_LIMIT, "CreateAlias").await?)?)
                }
                ("GET", ["aliases", alias]) => Op::GetAlias(function, (*alias).to_owned()),
                ("PUT", ["aliases", alias]) => {
                    let input = json(collect(body, REQUEST_LIMIT, "UpdateAlias").await?)?;
                    Op::UpdateAlias(function, (*alias).to_owned(), input)
                }
                ("DELETE", ["aliases", alias]) => Op::DeleteAlias(function, (*alias).to_owned()),
                _ => return Err(unknown(&head)),
            }
        }
        ("PUT", ["2017-10-31", "functions", function, "concurrency"]) => {
            let function = name(function)?.unqualified()?;
            let input: input::PutFunctionConcurrency =
                json(collect(body, REQUEST_LIMIT, "PutFunctionConcurrency").await?)?;
            Op::PutFunctionConcurrency(function, input.reserved_concurrent_executions)
        }
        ("DELETE", ["2017-10-31", "functions", function, "concurrency"]) => {
            Op::DeleteFunctionConcurrency(name(function)?.unqualified()?)
        }
        ("GET", ["2019-09-30", "functions", function, "concurrency"]) => {
            Op::GetFunctionConcurrency(name(function)?.unqualified()?)
        }
        (_, ["2019-09-25", "functions", function, "event-invoke-config"]) => {
            let function = query.qualify(name(function)?, members::qualifier)?;
            match method {
                "GET" => Op::GetFunctionEventInvokeConfig(function),
                "DELETE" => Op::DeleteFunctionEventInvokeConfig(function),
                "PUT" | "POST" => {
                    let input = json(collect(body, REQUEST_LIMIT, "PutFunctionEventInvokeConfig").await?)?;
                    Op::PutFunctionEventInvokeConfig { function, input, merge: head.method == Method::POST }
                }
                _ => return Err(unknown(&head)),
            }
        }
        ("GET", ["2019-09-25", "functions", function, "event-invoke-config", "list"]) => {
            let (marker, limit) =
                (query.take_marker("ListFunctionEventInvokeConfigs")?, query.take_max_items(50, 50)?);
            Op::ListFunctionEventInvokeConfigs { function: name(function)?, marker, limit }
        }
        (_, ["2017-03-31", "tags", resource]) => {
            members::taggable(resource, &inner.region)?;
            let function = name(resource)?;
            match method {
                "GET" => Op::ListTags(function),
                "POST" => {
                    let input: input::TagResource = json(collect(body, REQUEST_LIMIT, "TagResource").await?)?;
                    Op::TagResource(function, input.tags)
                }
                "DELETE" => Op::UntagResource(function, query.take_all("tagKeys")),
                _ => return Err(unknown(&head)),
            }
        }
        ("POST", ["2015-03-31", "event-source-mappings"]) => {
            let body = collect(body, REQUEST_LIMIT, "CreateEventSourceMapping").await?;
            let input: input::EventSourceMapping = json(body)?;
            input.check()?;
            let named = input.function_name.as_deref();
            let function = name(named.ok_or_else(|| Error::missing("functionName"))?)?;
            Op::CreateEventSourceMapping(function, Box::new(input))
        }
        ("GET", ["2015-03-31", "event-source-mappings"]) => {
            let function = query.take("FunctionName").map(|function| name(&function)).transpose()?;
            let (source, marker) =
                (query.take("EventSourceArn"), query.take_marker("ListEventSourceMappings")?);
            Op::ListEventSourceMappings {
                source,
                function,
                marker,
                limit: query.take_max_items(100, LIST_MOST)?,
            }
        }
        (_, ["2015-03-31", "event-source-mappings", id]) => {
            let known = inner.mapping(account, id).await?;
            let function = known.map(|mapping| inner.mapped_arn(account, &mapping));
            let mapping = MappingId { id: (*id).to_owned(), function };
            match method {
                "GET" => Op::GetEventSourceMapping(mapping),
                "DELETE" => Op::DeleteEventSourceMapping(mapping),
                "PUT" => {
                    let body = collect(body, REQUEST_LIMIT, "UpdateEventSourceMapping").await?;
                    let input: input::EventSourceMapping = json(body)?;
                    input.check()?;
                    let function = input.function_name.as_deref().map(name).transpose()?;
                    Op::UpdateEventSourceMapping(mapping, function, Box::new(input))
                }
                _ => return Err(unknown(&head)),
            }
        }
        ("GET", ["2018-10-31", "layers"]) if query.take("find").as_deref() == Some("LayerVersion") => {
            let arn = query.take("Arn").unwrap_or_default();
            Op::GetLayerVersion { layer: layers::layer_version(&arn, &inner.region)?, by_arn: true }
        }
        ("GET", ["2018-10-31", "layers"]) => {
            let (wanted, marker) = (wanted_layers(&mut query)?, query.take_marker("ListLayers")?);
            Op::ListLayers { wanted, marker, limit: query.take_max_items(50, 50)? }
        }
        (_, ["2018-10-31", "layers", layer, "versions", rest @ ..]) => {
            let (owner, name) = layers::owned_name(layer, account, &inner.region)?;
            if rest.is_empty() && owner != account {
                // Only versions can be another account's.
                layers::layer_name(layer, account, &inner.region)?;
            }
            let number = match rest {
                [] => 0,
                [number, ..] => number.parse().map_err(|_| unknown(&head))?,
            };
            let layer = LayerVersion { owner, name: name.clone(), number };
            match (method, rest) {
                ("POST", []) => {
                    let input = json(collect(body, DEPLOY_LIMIT, "PublishLayerVersion").await?)?;
                    Op::PublishLayerVersion(name, Box::new(input))
                }
                ("GET", []) => {
                    let (wanted, marker) =
                        (wanted_layers(&mut query)?, query.take_marker("ListLayerVersions")?);
                    Op::ListLayerVersions { name, wanted, marker, limit: query.take_max_items(50, 50)? }
                }
                ("GET", [_]) => Op::GetLayerVersion { layer, by_arn: false },
                ("GET", [_, "content"]) => Op::DownloadLayer(layer),
                ("DELETE", [_]) => Op::DeleteLayerVersion(layer),
                ("GET", [_, "policy"]) => Op::GetLayerVersionPolicy(layer),
                ("POST", [_, "policy"]) => {
                    let input: input::AddLayerVersionPermission =
                        json(collect(body, REQUEST_LIMIT, "AddLayerVersionPermission").await?)?;
                    input.check()?;
                    Op::AddLayerVersionPermission(layer, input, query.take("RevisionId"))
                }
                ("DELETE", [_, "policy", statement]) => Op::RemoveLayerVersionPermission {
                    layer,
                    statement: (*statement).to_owned(),
                    revision: query.take("RevisionId"),
                },
                _ => return Err(unknown(&head)),
            }
        }
        (_, ["2021-10-31", "functions", function, "url"]) => {
            let named = name(function)?;
            members::url_function(function, named.qualifier.as_deref())?;
            let function = query.qualify(named, members::url_qualifier)?;
            match method {
                "GET" => Op::GetFunctionUrlConfig(function),
                "DELETE" => Op::DeleteFunctionUrlConfig(function),
                "POST" => {
                    let input = json(collect(body, REQUEST_LIMIT, "CreateFunctionUrlConfig").await?)?;
                    Op::CreateFunctionUrlConfig(function, input)
                }
                "PUT" => {
                    let input = json(collect(body, REQUEST_LIMIT, "UpdateFunctionUrlConfig").await?)?;
                    Op::UpdateFunctionUrlConfig(function, input)
                }
                _ => return Err(unknown(&head)),
            }
        }
        ("GET", ["2021-10-31", "functions", function, "urls"]) => {
            let (marker, limit) =
                (query.take_marker("ListFunctionUrlConfigs")?, query.take_max_items(50, 50)?);
            Op::ListFunctionUrlConfigs { function: name(function)?, marker, limit }
        }
        (_, ["2019-09-30", "functions", function, "provisioned-concurrency"]) => {
            if method == "GET" && query.take("List").as_deref() == Some("ALL") {
                let (marker, limit) =
                    (query.take_marker("ListProvisionedConcurrencyConfigs")?, query.take_max_items(50, 50)?);
                Op::ListProvisionedConcurrencyConfigs { function: name(function)?, marker, limit }
            } else {
                let function = query.qualify(name(function)?, members::provisioned_qualifier)?;
                match method {
                    "GET" => Op::GetProvisionedConcurrencyConfig(function),
                    "DELETE" => Op::DeleteProvisionedConcurrencyConfig(function),
                    "PUT" => {
                        let input: input::PutProvisionedConcurrencyConfig =
                            json(collect(body, REQUEST_LIMIT, "PutProvisionedConcurrencyConfig").await?)?;
                        Op::PutProvisionedConcurrencyConfig(function, input.provisioned_concurrent_executions)
                    }
                    _ => return Err(unknown(&head)),
                }
            }
        }
        (_, ["2024-08-31", "functions", function, "recursion-config"]) => {
            let function = name(function)?;
            match method {
                "GET" => Op::GetFunctionRecursionConfig(function),
                "PUT" => {
                    let input = json(collect(body, REQUEST_LIMIT, "PutFunctionRecursionConfig").await?)?;
                    Op::PutFunctionRecursionConfig(function, input)
                }
                _ => return Err(unknown(&head)),
            }
        }
        (_, ["2021-07-20", "functions", function, "runtime-management-config"]) => {
            let function = query.qualify(name(function)?, members::qualifier)?;
            match method {
                "GET" => Op::GetRuntimeManagementConfig(function),
                "PUT" => {
                    let input = json(collect(body, REQUEST_LIMIT, "PutRuntimeManagementConfig").await?)?;
                    Op::PutRuntimeManagementConfig(function, input)
                }
                _ => return Err(unknown(&head)),
            }
        }
        ("POST", ["2021-11-15", "functions", function, "response-streaming-invocations"]) => {
            let function = query.qualify(name(function)?, members::qualifier)?;
            Op::InvokeWithResponseStream(Box::new(invoke(&head, function, body).await?))
        }
        ("GET", ["2016-08-19", "account-settings"]) => Op::GetAccountSettings,
        ("GET", ["2020-06-30", "functions", function, "code-signing-config"]) => {
            Op::GetFunctionCodeSigningConfig(name(function)?)
        }
        _ => return Err(unknown(&head)),
    };
    query.finish()?;
    let guards = inner.layer_guards(account, &op.uses_layers(&inner.region)).await?;
    Ok(Box::new(Call { inner: inner.clone(), context, op, guards }))
}

/// Which layers are to be listed.
fn wanted_layers(query: &mut Query) -> Result<Wanted, Error> {
    let wanted = Wanted {
        runtime: query.take("CompatibleRuntime"),
        architecture: query.take("CompatibleArchitecture"),
    };
    wanted.runtime.as_deref().map(members::runtime).transpose()?;
    wanted.architecture.as_deref().map(members::architecture).transpose()?;
    Ok(wanted)
}

fn unknown(head: &http::request::Parts) -> aws::Error {
    let message = format!("{} {} is not an operation that this node supports.", head.method, head.uri.path());
    aws::Error::new(ErrorKind::Unsupported, "UnknownOperationException", message).with_status(404)
}

async fn collect(body: aws::Body, limit: usize, operation: &'static str) -> Result<Bytes, aws::Error> {
    // Boxed as `Send` here: the compiler can not show it through the lifetimes of an async trait's method.
    let whole: Pin<Box<dyn Future<Output = Result<Bytes, aws::Error>> + Send>> =
        Box::pin(aws::body::collect(body, limit));
    whole.await.map_err(|error| match error.kind {
        ErrorKind::TooLarge => Error::TooLarge { limit, operation }.into(),
        _ => error,
    })
}

fn json<T: serde::de::DeserializeOwned>(body: Bytes) -> Result<T, aws::Error> {
    Ok(document::read(&body)?)
}

async fn invoke(
    head: &http::request::Parts,
    function: FunctionName,
    body: aws::Body,
) -> Result<Invoke, aws::Error> {
    let header = |name: &str| -> Result<Option<&str>, aws::Error> {
        let Some(value) = head.headers.get(name) else { return Ok(None) };
        let invalid = || Error::InvalidParameter(format!("The header {name} is not ASCII."));
        value.to_str().map(Some).map_err(|_| invalid().into())
    };
    let kind = match header("x-amz-invocation-type")? {
        None | Some("RequestResponse") => Ok(Some(InvocationType::RequestResponse)),
        Some("Event") => Ok(Some(InvocationType::Event)),
        Some("DryRun") => Ok(Some(InvocationType::DryRun)),
        Some(other) => {
            members::one_of(other, "invocationType", &["Event", "RequestResponse", "DryRun"]).map(|()| None)
        }
    };
    let log_type = header("x-amz-log-type")?.unwrap_or("None");
    let mut faults = members::Faults::default();
    let kind = faults.see(kind);
    faults.see(members::one_of(log_type, "logType", &["None", "Tail"]));
    faults.finish()?;
    let (kind, log_tail) = (kind.unwrap_or(InvocationType::RequestResponse), log_type == "Tail");
    for refused in ["x-amz-durable-execution-name", "x-amz-tenant-id"] {
        if header(refused)?.is_some() {
            return Err(Error::Unsupported(format!("{refused} is not supported by this node.")).into());
        }
    }
    let idempotency_key = header("idempotency-key")?.map(str::to_owned);
    let client_context = header("x-amz-client-context")?.map(str::to_owned);
    if let Some(text) = &client_context {
        if text.len() > CLIENT_CONTEXT_LIMIT {
            return Err(Error::ClientContext("no more than 3583 bytes when it is Base64-encoded").into());
        }
        crate::invoke::client_context(text)?;
    }
    let limit = if kind == InvocationType::Event { ASYNC_LIMIT } else { SYNC_LIMIT };
    let mut payload = collect(body, limit, "InvokeFunction").await?;
    if payload.is_empty() {
        payload = Bytes::from_static(b"{}");
    }
    let checked: Result<serde::de::IgnoredAny, _> = serde_json::from_slice(&payload);
    checked.map_err(|error| Error::Content(error.to_string()))?;
    // JSON may come with a byte order mark or invalid UTF-8 inside strings that a lax reader lets through.
    std::str::from_utf8(&payload).map_err(|error| Error::Content(error.to_string()))?;
    Ok(Invoke { function, kind, log_tail, client_context, idempotency_key, payload })
}
