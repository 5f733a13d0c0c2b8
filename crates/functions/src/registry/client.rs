//! How requests reach registries: HTTP/1.1, with TLS but where the operator says otherwise.
//!
//! Invariants: a request goes to a registry that the operator names, or, when such a one sends it on, by TLS to a host
//! with a public address; the address that was looked at is the one that is connected to. Credentials stay with the
//! host that they are for. Nothing waits for ever, and no body is read into memory beyond a limit.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::OnceLock;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, LOCATION, USER_AGENT};
use http::{HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::timeout;
use tower_service::Service;

use super::PullError;
use super::hosts::{RegistryHost, is_public, literal};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// For an answer's head, and between two pieces of its body.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
const MOST_REDIRECTS: usize = 5;

type Https = Client<HttpsConnector<HttpConnector<Resolver>>, Empty<Bytes>>;

/// The clients: for the hosts that the operator names, and for those that they send to.
#[derive(Debug)]
pub(super) struct Http {
    hosts: Vec<RegistryHost>,
    /// Made at the first request: reading the host's certificates takes a while.
    clients: OnceLock<(Https, Https)>,
}

impl Http {
    pub(super) fn new(hosts: Vec<RegistryHost>) -> Self {
        Self { hosts, clients: OnceLock::new() }
    }

    pub(super) fn hosts(&self) -> &[RegistryHost] {
        &self.hosts
    }

    /// The client that may send there.
    fn client_for(&self, uri: &Uri) -> Result<&Https, PullError> {
        let host = uri.host().unwrap_or_default();
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            Some(_) | None => {
                return Err(PullError::Refused(format!("{uri} is not a URL of http or https.")));
            }
        };
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let (named, others) = self.clients.get_or_init(|| (client(false), client(true)));
        if self.hosts.iter().any(|rule| rule.is_at(tls, host, port)) {
            return Ok(named);
        }
        if tls && literal(host).is_none_or(is_public) {
            return Ok(others);
        }
        let own = if tls { String::new() } else { "http://".to_owned() };
        Err(PullError::Refused(format!(
            "The registry sends to {host}:{port}, where this node does not go; its operator allows it with \
             `hawker serve --registry {own}{host}:{port}`."
        )))
    }

    /// Gets what is there, or where it has gone.
    pub(super) async fn get(
        &self,
        uri: &Uri,
        accept: Option<&'static str>,
        authorization: Option<HeaderValue>,
    ) -> Result<Response<Incoming>, PullError> {
        const AGENT: HeaderValue = HeaderValue::from_static(concat!("hawker/", env!("CARGO_PKG_VERSION")));
        let (mut uri, mut authorization) = (uri.clone(), authorization);
        for _ in 0..=MOST_REDIRECTS {
            let client = self.client_for(&uri)?;
            let mut request = Request::get(&uri).header(USER_AGENT, AGENT);
            if let Some(accept) = accept {
                request = request.header(ACCEPT, accept);
            }
            if let Some(authorization) = &authorization {
                request = request.header(AUTHORIZATION, authorization);
            }
            let request = request.body(Empty::new()).map_err(|error| unreachable(&uri, &error))?;
            let answer = timeout(ANSWER_TIMEOUT, client.request(request)).await;
            let answer = answer
                .map_err(|_| unreachable(&uri, &"it does not answer"))?
                .map_err(|error| unreachable(&uri, &Chain(&error)))?;
            let moved = match answer.status() {
                StatusCode::MOVED_PERMANENTLY
                | StatusCode::FOUND
                | StatusCode::SEE_OTHER
                | StatusCode::TEMPORARY_REDIRECT
                | StatusCode::PERMANENT_REDIRECT => answer.headers().get(LOCATION),
                _ => return Ok(answer),
            };
            let next = moved.and_then(|to| resolve(&uri, to.to_str().ok()?));
            let next = next.ok_or_else(|| unreachable(&uri, &"it sends on to nowhere"))?;
            if (next.scheme(), next.authority()) != (uri.scheme(), uri.authority()) {
                authorization = None;
            }
            uri = next;
        }
        Err(unreachable(&uri, &"it sends on again and again"))
    }
}

fn unreachable(uri: &Uri, why: &dyn std::fmt::Display) -> PullError {
    // What follows the path may hold a signature.
    let (host, path) = (uri.authority().map(http::uri::Authority::as_str).unwrap_or_default(), uri.path());
    PullError::Unreachable(format!("The registry does not answer as it should: {host}{path}: {why}."))
}

/// An error with its causes.
struct Chain<'a>(&'a dyn std::error::Error);

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(cause) = source {
            write!(f, ": {cause}")?;
            source = cause.source();
        }
        Ok(())
    }
}

/// Where a `Location` leads, seen from `base`.
fn resolve(base: &Uri, location: &str) -> Option<Uri> {
    if location.starts_with('/') && !location.starts_with("//") {
        let path = location.split('#').next()?.parse().ok()?;
        let mut parts = base.clone().into_parts();
        parts.path_and_query = Some(path);
        return Uri::from_parts(parts).ok();
    }
    let uri: Uri = location.split('#').next()?.parse().ok()?;
    (uri.scheme().is_some() && uri.authority().is_some_and(|host| !host.as_str().contains('@')))
        .then_some(uri)
}

/// The next piece of a body; `None` at its end.
pub(super) async fn piece(body: &mut Incoming) -> Result<Option<Bytes>, PullError> {
    let failed =
        |why: String| PullError::Unreachable(format!("The registry's answer ended too early: {why}."));
    loop {
        match timeout(ANSWER_TIMEOUT, body.frame()).await {
            Err(_) => return Err(failed("it stopped half way".into())),
            Ok(None) => return Ok(None),
            Ok(Some(Err(error))) => return Err(failed(Chain(&error).to_string())),
            Ok(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) => return Ok(Some(data)),
                Err(_trailers) => {}
            },
        }
    }
}

/// A whole body, of at most `limit` bytes.
pub(super) async fn whole(mut body: Incoming, limit: u64) -> Result<Vec<u8>, PullError> {
    let mut whole = Vec::new();
    while let Some(piece) = piece(&mut body).await? {
        if (whole.len() + piece.len()) as u64 > limit {
            return Err(PullError::Invalid(format!("The registry's answer is larger than {limit} bytes.")));
        }
        whole.extend_from_slice(&piece);
    }
    Ok(whole)
}

fn client(public_only: bool) -> Https {
    let mut tcp = HttpConnector::new_with_resolver(Resolver { public_only });
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
    let https = HttpsConnectorBuilder::new().with_tls_config(tls::client()).https_or_http().enable_http1();
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_TIMEOUT)
        .build(https.wrap_connector(tcp))
}

/// Looks names up; for hosts that the operator does not name, public addresses are all there is.
#[derive(Debug, Clone)]
struct Resolver {
    public_only: bool,
}

type Found = std::vec::IntoIter<SocketAddr>;

impl Service<Name> for Resolver {
    type Response = Found;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Found>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let public_only = self.public_only;
        Box::pin(async move {
            let all: Vec<_> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let found: Vec<_> =
                all.into_iter().filter(|address| !public_only || is_public(address.ip())).collect();
            if found.is_empty() {
                return Err(io::Error::other(format!(
                    "{} has no public address; if it may be asked, name it with --registry",
                    name.as_str()
                )));
            }
            Ok(found.into_iter())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_are_resolved() {
        let base: Uri = "https://a.example:5000/v2/x?y".parse().unwrap();
        let to = |location| resolve(&base, location).map(|uri| uri.to_string());
        assert_eq!(to("/blobs/1?sig=2#x").as_deref(), Some("https://a.example:5000/blobs/1?sig=2"));
        assert_eq!(to("https://b.example/x").as_deref(), Some("https://b.example/x"));
        for location in ["//b.example/x", "relative", "", "https://user:secret@b.example/", "javascript:1"] {
            assert_eq!(to(location), None, "{location}");
        }
    }

    #[test]
    fn a_registry_sends_the_node_nowhere_else() {
        let http = Http::new(vec!["localhost:5000".parse().unwrap(), "http://10.0.0.7".parse().unwrap()]);
        for uri in
            ["http://localhost:5000/v2/", "http://10.0.0.7/x", "https://cdn.example/x", "https://1.1.1.1/"]
        {
            assert!(http.client_for(&uri.parse().unwrap()).is_ok(), "{uri}");
        }
        for uri in [
            "http://localhost:5001/",
            "https://127.0.0.1/",
            "http://169.254.169.254/latest/meta-data",
            "https://169.254.169.254/",
            "https://[::ffff:127.0.0.1]/",
            "https://[fd00:ec2::254]/",
            "https://10.0.0.7/",
            "http://cdn.example/x",
            "ftp://cdn.example/x",
            "/x",
        ] {
            assert!(matches!(http.client_for(&uri.parse().unwrap()), Err(PullError::Refused(_))), "{uri}");
        }
    }

    #[tokio::test]
    async fn a_name_of_this_machine_is_not_public() {
        let name = || "localhost".parse::<Name>().unwrap();
        assert!(Resolver { public_only: true }.call(name()).await.is_err());
        assert!(Resolver { public_only: false }.call(name()).await.is_ok());
    }
}
