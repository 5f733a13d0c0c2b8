//! Requests that functions send (wasi:http/outgoing-handler).
//!
//! Invariants: only hosts that the function's configuration names are reached, and the platform. The address that
//! was looked at is the one that is connected to. What is refused is in the function's log.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::uri::Scheme;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, Sleep, sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::task::AbortOnDropHandle;
use wasmtime_wasi_http::p2::bindings::http::types::ErrorCode;
use wasmtime_wasi_http::{DEFAULT_FORBIDDEN_HEADERS, Error, RequestOptions, WasiBody, WasiHttpHooks};

use super::destinations::{Verdict, is_of_the_node};
use super::function::Function;
use super::output::Output;

/// Requests that one instance may have under way.
const MAX_REQUESTS: usize = 64;
/// How long a connection may take if the function does not say.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// How many pieces of a body may wait to be read,
const BODY_PIECES: usize = 4;
/// and how large each may be.
const BODY_PIECE_BYTES: usize = 64 * 1024;

/// The work under way for the guest's handle of a response: it drives the connection.
type Driving = Box<dyn Future<Output = Result<(), Error>> + Send>;
type Sending = Box<dyn Future<Output = Result<(http::Response<WasiBody>, Driving), Error>> + Send>;

/// How one instance sends requests.
#[derive(Debug)]
pub(super) struct Outgoing {
    function: Arc<Function>,
    output: Arc<Output>,
    under_way: Arc<AtomicUsize>,
}

impl Outgoing {
    pub(super) fn new(function: Arc<Function>, output: Arc<Output>) -> Self {
        Self { function, output, under_way: Arc::default() }
    }
}

impl WasiHttpHooks for Outgoing {
    fn is_forbidden_header(&mut self, name: &http::HeaderName) -> bool {
        DEFAULT_FORBIDDEN_HEADERS.contains(name)
    }

    fn p2_outgoing_body_buffer_chunks(&mut self) -> usize {
        BODY_PIECES
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        BODY_PIECE_BYTES
    }

    // By default these are warnings in the node's log, which a function could fill.
    fn p2_error_from_hyper(&mut self, error: &hyper::Error) -> ErrorCode {
        if error.is_incomplete_message() {
            ErrorCode::HttpResponseIncomplete
        } else {
            ErrorCode::HttpProtocolError
        }
    }

    fn p2_error_from_connect(&mut self, _: &std::io::Error) -> ErrorCode {
        ErrorCode::ConnectionRefused
    }

    fn p2_error_from_tls(&mut self, _: &std::io::Error) -> ErrorCode {
        ErrorCode::TlsProtocolError
    }

    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Sending {
        let place = Place::take(&self.under_way);
        let (function, output) = (self.function.clone(), self.output.clone());
        Box::new(async move {
            let place = place.ok_or(Error::ConnectionLimitReached)?;
            send(&function, &output, request, options.unwrap_or_default(), place).await
        })
    }
}

/// One of the requests that may be under way.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(count: &Arc<AtomicUsize>) -> Option<Self> {
        let place = Self(count.clone());
        (count.fetch_add(1, Ordering::Relaxed) < MAX_REQUESTS).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn send(
    function: &Function,
    output: &Output,
    request: http::Request<WasiBody>,
    options: RequestOptions,
    place: Place,
) -> Result<(http::Response<WasiBody>, Driving), Error> {
    let uri = request.uri();
    let is_tls = match uri.scheme() {
        Some(scheme) if *scheme == Scheme::HTTPS => true,
        Some(_) | None => false,
    };
    let default_port = if is_tls { 443 } else { 80 };
    let host = uri.host().ok_or(Error::HttpRequestUriInvalid)?;
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let port = uri.port_u16().unwrap_or(default_port);

    let connect = async {
        if !is_tls && is_platform(function, &host, port) {
            return handshake(platform_connection(function).await.map_err(Error::Connect)?).await;
        }
        let stream = connect(function, output, &host, port, default_port).await?;
        if is_tls { handshake(encrypt(&host, stream).await?).await } else { handshake(stream).await }
    };
    let patience = options.connect_timeout.unwrap_or(CONNECT_TIMEOUT);
    let (mut sender, driver) = timeout(patience, connect).await.map_err(|_| Error::ConnectionTimeout)??;
    let answer = sender.send_request(without_host(request));
    let response = match options.first_byte_timeout {
        Some(patience) => timeout(patience, answer).await.map_err(|_| Error::ConnectionReadTimeout)??,
        None => answer.await?,
    };
    let between = options.between_bytes_timeout;
    let body = |body: Incoming| Paced { body, pause: between.map(|pause| (pause, Box::pin(sleep(pause)))) };
    let driving: Driving = Box::new(async move {
        let _ = driver.await;
        drop(place);
        Ok(())
    });
    Ok((response.map(|incoming| body(incoming).boxed_unsync()), driving))
}

fn is_platform(function: &Function, host: &str, port: u16) -> bool {
    let address = function.shared.platform.address();
    // What functions are told is the loopback address, also if the node listens on others.
    let told: IpAddr = function.platform_host;
    port == address.port() && host.parse::<IpAddr>().is_ok_and(|ip| ip == told || ip == address.ip())
}

/// A connection whose other end the platform serves: it knows which function calls.
async fn platform_connection(function: &Function) -> std::io::Result<TcpStream> {
    let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await?;
    let ours = TcpStream::connect(listener.local_addr()?).await?;
    let local = ours.local_addr()?;
    loop {
        let (theirs, peer) = listener.accept().await?;
        // Somebody else on this host might have been faster.
        if peer == local {
            ours.set_nodelay(true)?;
            theirs.set_nodelay(true)?;
            function.shared.platform.serve(theirs, function.arn.clone());
            return Ok(ours);
        }
    }
}

async fn connect(
    function: &Function,
    output: &Output,
    host: &str,
    port: u16,
    default_port: u16,
) -> Result<TcpStream, Error> {
    let verdict = function.destinations.judge(host, port, default_port);
    if verdict == Verdict::Denied {
        output.say(format!(
            "[hawker] a request to {host}:{port} was refused; name the host in {} to allow it",
            super::destinations::VARIABLE
        ));
        return Err(Error::HttpRequestDenied);
    }
    let addresses: Vec<SocketAddr> = match host.parse::<IpAddr>() {
        Ok(address) => vec![(address, port).into()],
        Err(_) => {
            let found = tokio::net::lookup_host((host, port))
                .await
                .map_err(|error| Error::DnsError { rcode: Some(error.to_string()), info_code: None })?;
            found.collect()
        }
    };
    let mut failure = Error::DestinationNotFound;
    for address in addresses {
        if is_of_the_node(address.ip()) && !(verdict == Verdict::Named && function.shared.outgoing_to_node) {
            output.say(format!(
                "[hawker] a request to {host}:{port} was refused: {} is this node's own, or its link's; functions \
                 reach such addresses only if they name them, and the node's setting \
                 `runtime.wasm.outgoing_to_node` lets them",
                address.ip()
            ));
            failure = Error::HttpRequestDenied;
            continue;
        }
        match TcpStream::connect(address).await {
            Ok(stream) => {
                stream.set_nodelay(true).map_err(Error::Connect)?;
                return Ok(stream);
            }
            Err(error) => failure = Error::Connect(error),
        }
    }
    Err(failure)
}

async fn encrypt(host: &str, stream: TcpStream) -> Result<TlsStream<TcpStream>, Error> {
    let name = match host.parse::<IpAddr>() {
        Ok(address) => ServerName::from(address),
        Err(_) => ServerName::try_from(host.to_owned()).map_err(|_| Error::HttpRequestUriInvalid)?,
    };
    let connector = TlsConnector::from(tls());
    connector.connect(name, stream).await.map_err(Error::Tls)
}

/// To speak HTTP/1.1.
fn tls() -> Arc<rustls::ClientConfig> {
    static TLS: OnceLock<Arc<rustls::ClientConfig>> = OnceLock::new();
    let load = || {
        let mut config = tls::client();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Arc::new(config)
    };
    TLS.get_or_init(load).clone()
}

/// Begins to speak HTTP. The task drives the connection.
async fn handshake<S>(stream: S) -> Result<(SendRequest<WasiBody>, AbortOnDropHandle<()>), Error>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let driver = AbortOnDropHandle::new(tokio::spawn(async move {
        // The response's body says what is wrong with a connection.
        let _ = connection.await;
    }));
    Ok((sender, driver))
}

/// The request as it is on the wire: its host is in the header of that name.
fn without_host(mut request: http::Request<WasiBody>) -> http::Request<WasiBody> {
    let path = request.uri().path_and_query().cloned();
    *request.uri_mut() = path.map_or_else(|| http::Uri::from_static("/"), http::Uri::from);
    request
}

/// A body that ends with an error if its next piece takes too long.
struct Paced {
    body: Incoming,
    pause: Option<(Duration, Pin<Box<Sleep>>)>,
}

impl Body for Paced {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Ready(frame) => {
                if let Some((pause, sleeping)) = &mut self.pause {
                    sleeping.as_mut().reset(Instant::now() + *pause);
                }
                Poll::Ready(frame.map(|frame| frame.map_err(Error::from)))
            }
            Poll::Pending => match &mut self.pause {
                None => Poll::Pending,
                Some((_, sleeping)) => {
                    ready!(sleeping.as_mut().poll(context));
                    Poll::Ready(Some(Err(Error::ConnectionReadTimeout)))
                }
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
