//! A client of a node: signed HTTP/1.1 requests, and errors as the services report them.
//!
//! It speaks plain HTTP only: a node's own listener.

use std::fmt;

use anyhow::Context;
use aws::sigv4::{Credentials, sign};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde_json::Value as Json;
use tokio::net::TcpStream;
use types::Timestamp;

use crate::failure::Failure;
use crate::xml::Element;

/// Where a node is, and who asks.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    endpoint: Uri,
    credentials: Credentials,
    pub(crate) region: String,
}

/// An answer of status 2xx.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// An error that a service answered with.
#[derive(Debug, Clone)]
pub(crate) struct ServiceError {
    pub(crate) status: StatusCode,
    pub(crate) code: String,
    pub(crate) message: String,
}

impl fmt::Display for ServiceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.message.as_str() {
            "" => write!(f, "{} (status {})", self.code, self.status.as_u16()),
            message => write!(f, "{message} ({})", self.code),
        }
    }
}

impl std::error::Error for ServiceError {}

/// The service's error in `error`, if it is one.
pub(crate) fn service_error(error: &anyhow::Error) -> Option<&ServiceError> {
    error.downcast_ref()
}

impl Client {
    pub(crate) fn new(endpoint: &str, credentials: Credentials, region: String) -> anyhow::Result<Self> {
        let uri: Uri = endpoint.parse().with_context(|| format!("`{endpoint}` is not a URL"))?;
        match uri.scheme_str() {
            Some("http") if uri.host().is_some() => {}
            Some("https") => {
                return Err(Failure::new(format!(
                    "`{endpoint}` can not be used: hawker speaks plain HTTP to a node"
                ))
                .next("give the node's own address, such as http://127.0.0.1:4566")
                .into());
            }
            _ => {
                return Err(Failure::new(format!("`{endpoint}` is not the address of a node"))
                    .next("give it as http://host:port, by --endpoint or HAWKER_ENDPOINT")
                    .into());
            }
        }
        Ok(Self { endpoint: uri, credentials, region })
    }

    /// The node's address as it was given.
    pub(crate) fn endpoint(&self) -> String {
        self.endpoint.to_string().trim_end_matches('/').to_owned()
    }

    /// A signed request.
    pub(crate) async fn send(
        &self,
        service: &str,
        method: Method,
        path: &str,
        headers: &[(&'static str, &str)],
        body: impl Into<Bytes>,
    ) -> anyhow::Result<Answer> {
        let authority = self.endpoint.authority().context("the endpoint has a host")?;
        let uri: Uri = format!("http://{authority}{path}").parse().context("a path that can not be sent")?;
        let mut request = Request::builder().method(method).uri(&uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(body.into())?;
        sign(&mut request, &self.credentials, &self.region, service, Timestamp::now())?;
        let path = uri.path_and_query().context("the URI has a path")?.clone();
        *request.uri_mut() = Uri::from(path);
        let answer = self.exchange(request.map(Full::new)).await?;
        let (head, body) = answer.into_parts();
        if head.status.is_success() {
            return Ok(Answer { headers: head.headers, body });
        }
        Err(error_of(head.status, &head.headers, &body).into())
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> anyhow::Result<http::Response<Bytes>> {
        let host = self.endpoint.host().unwrap_or_default().trim_matches(['[', ']']);
        let port = self.endpoint.port_u16().unwrap_or(80);
        let stream = TcpStream::connect((host, port)).await.map_err(|error| {
            Failure::new(format!("no node answers at {}", self.endpoint()))
                .why(error.to_string())
                .next("start one with `hawker serve` or `hawker dev`, or name another with --endpoint")
        })?;
        stream.set_nodelay(true)?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(connection);
        let answer = sender.send_request(request).await.context("the node closed the connection");
        let collected = async {
            let (head, body) = answer?.into_parts();
            let body = body.collect().await.context("the answer broke off")?.to_bytes();
            anyhow::Ok(http::Response::from_parts(head, body))
        };
        let collected = collected.await;
        connection.abort();
        collected
    }

    /// An operation of a Query service.
    pub(crate) async fn query(
        &self,
        service: &str,
        action: &str,
        parameters: &[(String, String)],
    ) -> anyhow::Result<Element> {
        let version = match service {
            "cloudformation" => "2010-05-15",
            "sts" => "2011-06-15",
            _ => "2010-05-08",
        };
        let form = {
            let mut form = form_urlencoded::Serializer::new(String::new());
            form.append_pair("Action", action).append_pair("Version", version);
            form.extend_pairs(parameters);
            form.finish()
        };
        let headers = [("content-type", "application/x-www-form-urlencoded; charset=utf-8")];
        let answer = self.send(service, Method::POST, "/", &headers, form).await?;
        let root = Element::parse(&answer.body)?;
        Ok(root.child(&format!("{action}Result")).cloned().unwrap_or_default())
    }

    /// An operation of CloudWatch Logs.
    pub(crate) async fn logs(&self, operation: &str, body: &Json) -> anyhow::Result<Json> {
        let target = format!("Logs_20140328.{operation}");
        let headers = [("x-amz-target", target.as_str()), ("content-type", "application/x-amz-json-1.1")];
        let answer = self.send("logs", Method::POST, "/", &headers, body.to_string()).await?;
        Ok(serde_json::from_slice(&answer.body)?)
    }

    /// A page of the node's own.
    pub(crate) async fn native(&self, path: &str) -> anyhow::Result<Json> {
        let answer = self.send("hawker", Method::GET, path, &[], "").await?;
        Ok(serde_json::from_slice(&answer.body)?)
    }

    /// Every function: name and description as Lambda gives them.
    pub(crate) async fn functions(&self) -> anyhow::Result<Vec<Json>> {
        let mut functions = Vec::new();
        let mut path = "/2015-03-31/functions/".to_owned();
        loop {
            let answer = self.send("lambda", Method::GET, &path, &[], "").await?;
            let page: Json = serde_json::from_slice(&answer.body)?;
            functions.extend(page["Functions"].as_array().cloned().unwrap_or_default());
            match page["NextMarker"].as_str() {
                Some(marker) => path = format!("/2015-03-31/functions/?Marker={}", escape(marker)),
                None => return Ok(functions),
            }
        }
    }

    /// The function that `name` means: its name, or a logical id that one function's name holds.
    pub(crate) async fn function(&self, name: &str) -> anyhow::Result<String> {
        let functions = self.functions().await?;
        let names: Vec<&str> = functions.iter().filter_map(|f| f["FunctionName"].as_str()).collect();
        if names.contains(&name) {
            return Ok(name.to_owned());
        }
        let part = format!("-{name}-");
        let similar: Vec<_> = names.iter().filter(|n| n.contains(&part)).collect();
        match similar.as_slice() {
            [one] => Ok((**one).to_owned()),
            [] => Err(Failure::new(format!("there is no function `{name}`"))
                .next(match names.as_slice() {
                    [] => "deploy one with `hawker deploy`".to_owned(),
                    names => format!("there are: {}", names.join(", ")),
                })
                .into()),
            several => {
                let names: Vec<_> = several.iter().map(|n| n.to_string()).collect();
                let failure = Failure::new(format!("`{name}` could be any of {}", names.join(", ")));
                Err(failure.next("give the whole name").into())
            }
        }
    }

    /// The caller's account.
    pub(crate) async fn account(&self) -> anyhow::Result<String> {
        let identity = self.query("sts", "GetCallerIdentity", &[]).await?;
        Ok(identity.text("Account").unwrap_or_default().to_owned())
    }
}

/// One segment of a path or query, escaped.
pub(crate) fn escape(text: &str) -> String {
    const KEEP: &percent_encoding::AsciiSet =
        &percent_encoding::NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
    percent_encoding::utf8_percent_encode(text, KEEP).to_string()
}

fn error_of(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> ServiceError {
    let mut error = ServiceError { status, code: String::new(), message: String::new() };
    if let Ok(json) = serde_json::from_slice::<Json>(body) {
        let kind = headers.get("x-amzn-errortype").and_then(|v| v.to_str().ok()).or(json["__type"].as_str());
        let kind = kind.unwrap_or_default();
        error.code = kind.rsplit('#').next().unwrap_or(kind).split(':').next().unwrap_or_default().to_owned();
        let message = json["message"].as_str().or(json["Message"].as_str());
        error.message = message.unwrap_or_default().to_owned();
    } else if let Ok(root) = Element::parse(body) {
        let detail = root.child("Error").unwrap_or(&root);
        error.code = detail.text("Code").unwrap_or_default().to_owned();
        error.message = detail.text("Message").unwrap_or_default().to_owned();
    }
    if error.code.is_empty() {
        error.code = status.canonical_reason().unwrap_or("Error").to_owned();
    }
    error
}
