//! Connections: accepted, served, drained.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws::Origin;
use http::header::{HOST, HeaderMap, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::gateway::{Gateway, State};
use crate::io::{Activity, Guarded};

/// What a connection may buffer beyond what headers may have; their sum is the most that is read from a socket at once, unless
/// it is crowded (see `io`). Larger reads are not faster.
const BUFFER_BYTES: usize = 16 * 1024;

/// What may wait in the kernel to be sent, beyond what is on its way: of a client that does not read, it would keep megabytes,
/// and when thousands do that, it has no memory left for the others.
const UNSENT_BYTES: u32 = 256 * 1024;

/// How long accepting rests after it failed for want of file descriptors.
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// What the requests of one connection share.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) origin: Origin,
    pub(crate) activity: Arc<Activity>,
    local: Option<SocketAddr>,
    /// The last `Host`, and the endpoint made of it: clients say the same one again and again.
    endpoint: Mutex<Option<(HeaderValue, Arc<str>)>>,
}

impl Connection {
    /// Scheme and authority by which the client reached us.
    pub(crate) fn endpoint(&self, headers: &HeaderMap) -> Arc<str> {
        let Some(host) = headers.get(HOST) else {
            return self
                .local
                .map_or_else(|| "http://localhost".into(), |addr| format!("http://{addr}").into());
        };
        let mut last = self.endpoint.lock().expect("no holder of this lock panics");
        match &*last {
            Some((known, endpoint)) if known == host => endpoint.clone(),
            _ => {
                let text = host.to_str().unwrap_or("localhost");
                let endpoint: Arc<str> = format!("http://{text}").into();
                *last = Some((host.clone(), endpoint.clone()));
                endpoint
            }
        }
    }
}

impl Gateway {
    /// Serves a listener until `shutdown`, then lets running requests finish, up to the configured time.
    pub async fn run(self: Arc<Self>, listener: TcpListener, shutdown: CancellationToken) {
        if let (Ok(address), Some(domain)) = (listener.local_addr(), self.config.domains.first()) {
            // The first listener's, if there are several.
            let _ = self.endpoint.set(format!("http://{domain}:{}", address.port()).into());
        }
        let slots = Arc::new(Semaphore::new(self.config.max_connections.clamp(1, Semaphore::MAX_PERMITS)));
        let connections = TaskTracker::new();
        let deadline = CancellationToken::new();
        while let Some((stream, peer, slot)) = self.accept(&listener, &slots, &shutdown).await {
            let (gateway, shutdown, deadline) = (self.clone(), shutdown.clone(), deadline.clone());
            connections.spawn(async move {
                let _slot = slot;
                let origin = Origin::Network(peer.ip());
                tokio::select! {
                    () = gateway.serve(stream, origin, shutdown) => {}
                    () = deadline.cancelled() => {}
                }
            });
        }
        self.set_state(State::Stopping);
        self.stopping.cancel();
        drop(listener);
        connections.close();
        self.detached.close();
        let drained = async {
            connections.wait().await;
            self.detached.wait().await;
        };
        tokio::select! {
            () = drained => {}
            () = self.env.sleep(self.config.shutdown()) => {
                tracing::warn!(connections = connections.len(), "requests were still running at the deadline");
                deadline.cancel();
                connections.wait().await;
            }
        }
    }

    /// Serves a connection that comes out of a function's sandbox, until its peer closes it. Such connections
    /// outlive the listener, so that functions that are still running can finish.
    pub async fn serve_connection(self: Arc<Self>, stream: TcpStream, origin: Origin) {
        let Origin::Function(function) = &origin else {
            return self.serve(stream, origin, CancellationToken::new()).await;
        };
        let Some(_counted) = Counted::new(&self, function) else { return };
        self.clone().serve(stream, origin, CancellationToken::new()).await;
    }

    /// The next connection, once there is room for it; `None` at shutdown.
    async fn accept(
        &self,
        listener: &TcpListener,
        slots: &Arc<Semaphore>,
        shutdown: &CancellationToken,
    ) -> Option<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
        let next = async {
            let slot = slots.clone().acquire_owned().await.expect("this semaphore is never closed");
            loop {
                match listener.accept().await {
                    Ok((stream, peer)) => return (stream, peer, slot),
                    Err(error) => {
                        tracing::warn!(%error, "a connection could not be accepted");
                        self.env.sleep(ACCEPT_REST).await;
                    }
                }
            }
        };
        tokio::select! {
            biased;
            () = shutdown.cancelled() => None,
            accepted = next => Some(accepted),
        }
    }

    async fn serve(self: Arc<Self>, stream: TcpStream, origin: Origin, stop: CancellationToken) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY could not be set");
        }
        if let Err(error) = SockRef::from(&stream).set_tcp_notsent_lowat(UNSENT_BYTES) {
            tracing::debug!(%error, "TCP_NOTSENT_LOWAT could not be set");
        }
        let activity = Activity::new();
        let connection = Arc::new(Connection {
            origin,
            activity: activity.clone(),
            local: stream.local_addr().ok(),
            endpoint: Mutex::new(None),
        });
        let io = TokioIo::new(Guarded::new(stream, &self.crowd, activity, &self.env, &self.config));
        let max_header_bytes = self.config.max_header_bytes;
        let service = service_fn(move |request| {
            let (gateway, connection) = (self.clone(), connection.clone());
            // Boxed, so that an idle connection does not keep room for the largest request.
            Box::pin(async move { Ok::<_, Infallible>(gateway.answer(&connection, request).await) })
        });
        let mut builder = http1::Builder::new();
        // Timed by `Guarded`, which tells an idle connection from a slow request.
        builder
            .header_read_timeout(None)
            .max_header_size(max_header_bytes)
            .max_buf_size(max_header_bytes + BUFFER_BYTES);
        let mut serving = pin!(builder.serve_connection(io, service).with_upgrades());
        let mut stopped = pin!(stop.cancelled_owned());
        let mut stopping = false;
        let result = loop {
            tokio::select! {
                result = serving.as_mut() => break result,
                () = stopped.as_mut(), if !stopping => {
                    stopping = true;
                    serving.as_mut().graceful_shutdown();
                }
            }
        };
        if let Err(error) = result {
            tracing::debug!(%error, "a connection ended early");
        }
    }
}

/// One of a function's connections.
struct Counted<'a> {
    gateway: &'a Gateway,
    function: String,
}

impl<'a> Counted<'a> {
    fn new(gateway: &'a Gateway, function: &str) -> Option<Self> {
        let mut functions = gateway.functions.lock().expect("no holder of this lock panics");
        let connections = functions.entry(function.to_owned()).or_default();
        if connections.open >= gateway.config.max_connections_per_function {
            // Said once until all are closed: a function must not fill the node's log.
            if !std::mem::replace(&mut connections.refused, true) {
                tracing::warn!(function, "connections are refused: the function has too many open");
            }
            return None;
        }
        connections.open += 1;
        Some(Self { gateway, function: function.to_owned() })
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        let mut functions = self.gateway.functions.lock().expect("no holder of this lock panics");
        if let Some(connections) = functions.get_mut(&self.function) {
            connections.open -= 1;
            if connections.open == 0 {
                functions.remove(&self.function);
            }
        }
    }
}
