//! What the load is compared with, as small as it can be: a bare HTTP server, and a function that does nothing.

use std::convert::Infallible;
use std::net::SocketAddr;

use anyhow::Context;
use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

/// Answers everything with `hello`: the most that any server on hyper can do.
pub(crate) async fn serve(address: SocketAddr) -> anyhow::Result<()> {
    let listener = TcpListener::bind(address).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(async move {
            let answer = |_: Request<Incoming>| async {
                let mut response = Response::new(Full::new(Bytes::from_static(b"hello")));
                let value = HeaderValue::from_static("text/plain");
                response.headers_mut().insert(header::CONTENT_TYPE, value);
                Ok::<_, Infallible>(response)
            };
            let service = hyper::service::service_fn(answer);
            // A client that goes away is no failure.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

/// A function's `bootstrap`: asks the Lambda Runtime API for events and answers each with a text.
pub(crate) async fn function(api: &str) -> anyhow::Result<()> {
    let stream = TcpStream::connect(api).await?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    loop {
        let next = Request::get("/2018-06-01/runtime/invocation/next").header(header::HOST, api);
        let event = sender.send_request(next.body(Full::new(Bytes::new()))?).await?;
        let id = event.headers().get("lambda-runtime-aws-request-id").context("an event has an id")?.clone();
        event.into_body().collect().await?;
        let path = format!("/2018-06-01/runtime/invocation/{}/response", id.to_str()?);
        let answer = Request::post(path)
            .header(header::HOST, api)
            .body(Full::new(Bytes::from_static(b"\"hello\"")))?;
        sender.send_request(answer).await?.into_body().collect().await?;
    }
}
