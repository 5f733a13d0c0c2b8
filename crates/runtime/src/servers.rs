//! The servers of a sandbox's listeners: each ends with its instance.

use std::net::TcpListener;
use std::sync::Arc;

use tokio_util::task::AbortOnDropHandle;

use crate::api::Exchange;
use crate::process_runtime::Platform;

/// How many connections to the Runtime API an instance may have at one time: each takes memory of the node.
const MAX_CONNECTIONS: usize = 128;

/// Serves the Runtime API on a listener.
pub(crate) fn serve_api(
    listener: TcpListener,
    exchange: Arc<Exchange>,
) -> std::io::Result<AbortOnDropHandle<()>> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    Ok(AbortOnDropHandle::new(tokio::spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        loop {
            let Ok((stream, _)) = listener.accept().await else { return };
            while connections.try_join_next().is_some() {}
            while connections.len() >= MAX_CONNECTIONS {
                connections.join_next().await;
            }
            connections.spawn(exchange.clone().serve(stream));
        }
    })))
}

/// Hands connections to the platform's endpoint over to the platform.
pub(crate) fn serve_platform(
    listener: TcpListener,
    platform: Arc<dyn Platform>,
    function_arn: Arc<str>,
) -> std::io::Result<AbortOnDropHandle<()>> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    Ok(AbortOnDropHandle::new(tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _ = stream.set_nodelay(true);
            platform.serve(stream, function_arn.clone());
        }
    })))
}
