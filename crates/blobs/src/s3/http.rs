//! How requests reach the bucket: HTTP/1.1 over pooled connections, with TLS where the endpoint says so.
//!
//! Invariant: nothing waits for ever. A connection, an answer's head and each piece of its body have their time; a
//! body as a whole has not, since the one who reads it may be slow.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Mutex;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::HeaderValue;
use http::header::USER_AGENT;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector as Tcp;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use object_store::ClientOptions;
use object_store::client::{
    ClientConfigKey, HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody,
    HttpResponse, HttpResponseBody, HttpService,
};
use tokio::time::{Instant, Sleep, sleep, timeout};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// An answer's head, and between two pieces of its body.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// What a connection reads ahead of the one it reads for.
const READ_BUFFER_BYTES: usize = 128 << 10;

/// Makes clients. They trust the certificates that this host trusts.
#[derive(Debug)]
pub(super) struct Connector;

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let mut tcp = Tcp::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        // The service that knows a machine's own credentials is near, or not there at all.
        let near = options.get_config_value(&ClientConfigKey::ConnectTimeout);
        let near = near.is_some_and(|timeout| timeout == "1 second" || timeout == "1s");
        tcp.set_connect_timeout(Some(if near { Duration::from_secs(1) } else { CONNECT_TIMEOUT }));
        let https =
            HttpsConnectorBuilder::new().with_tls_config(tls::client()).https_or_http().enable_http1();
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .http1_max_buf_size(READ_BUFFER_BYTES)
            .build(https.wrap_connector(tcp));
        Ok(HttpClient::new(Service { client }))
    }
}

#[derive(Debug)]
struct Service {
    client: Client<HttpsConnector<Tcp>, HttpRequestBody>,
}

#[async_trait]
impl HttpService for Service {
    async fn call(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        const AGENT: HeaderValue = HeaderValue::from_static(concat!("hawker/", env!("CARGO_PKG_VERSION")));
        request.headers_mut().entry(USER_AGENT).or_insert(AGENT);
        let size = request.body().size_hint().exact().unwrap_or_default();
        // A slow link gets the time that a large part takes on it.
        let patience = ANSWER_TIMEOUT + Duration::from_millis(size / 64);
        let answer = timeout(patience, self.client.request(request))
            .await
            .map_err(|error| HttpError::new(HttpErrorKind::Timeout, error))?
            .map_err(|error| HttpError::new(kind(&error), error))?;
        Ok(answer.map(|body| HttpResponseBody::new(Paced::new(body))))
    }
}

/// What is known of whether a request that failed was carried out.
fn kind(error: &hyper_util::client::legacy::Error) -> HttpErrorKind {
    if error.is_connect() {
        return HttpErrorKind::Connect;
    }
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(cause) = cause.downcast_ref::<hyper::Error>()
            && (cause.is_closed() || cause.is_incomplete_message() || cause.is_body_write_aborted())
        {
            return HttpErrorKind::Request;
        }
        if cause.downcast_ref::<io::Error>().is_some() {
            return HttpErrorKind::Interrupted;
        }
        source = cause.source();
    }
    HttpErrorKind::Unknown
}

/// A body that ends with an error if its next piece takes too long.
struct Paced {
    body: Incoming,
    /// Runs while a piece is waited for. Behind a lock that nobody contends for: bodies have to be shareable.
    waiting: Mutex<Option<Pin<Box<Sleep>>>>,
}

impl Paced {
    fn new(body: Incoming) -> Self {
        Self { body, waiting: Mutex::new(None) }
    }
}

impl Body for Paced {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let this = &mut *self;
        let waiting = this.waiting.get_mut().expect("no holder of this lock panics");
        match Pin::new(&mut this.body).poll_frame(context) {
            Poll::Ready(frame) => {
                *waiting = None;
                Poll::Ready(
                    frame.map(|frame| {
                        frame.map_err(|error| HttpError::new(HttpErrorKind::Interrupted, error))
                    }),
                )
            }
            Poll::Pending => {
                let waiting = waiting.get_or_insert_with(|| Box::pin(sleep(ANSWER_TIMEOUT)));
                if waiting.deadline() > Instant::now() && waiting.as_mut().poll(context).is_pending() {
                    return Poll::Pending;
                }
                let late = io::Error::new(io::ErrorKind::TimedOut, "an answer stopped half way");
                Poll::Ready(Some(Err(HttpError::new(HttpErrorKind::Timeout, late))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
