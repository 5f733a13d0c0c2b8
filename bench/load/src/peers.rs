//! What the load is compared with, as small as it can be: a bare HTTP server, and a function that does nothing.

use std::net::SocketAddr;

use anyhow::Context;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

/// Answers everything with so many bytes, and forgets what it is sent: the most that any server on hyper can do.
pub(crate) async fn serve(address: SocketAddr, bytes: usize) -> anyhow::Result<()> {
    let listener = TcpListener::bind(address).await?;
    let hello: Bytes = b"hello".iter().copied().cycle().take(bytes).collect();
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let hello = hello.clone();
        tokio::spawn(async move {
            let answer = |request: Request<Incoming>| {
                let is_get = request.method() == Method::GET;
                let body = if is_get { hello.clone() } else { Bytes::new() };
                async move {
                    let mut sent = request.into_body();
                    while let Some(frame) = sent.frame().await {
                        frame?;
                    }
                    let mut response = Response::new(Full::new(body));
                    let value = HeaderValue::from_static("text/plain");
                    response.headers_mut().insert(header::CONTENT_TYPE, value);
                    Ok::<_, hyper::Error>(response)
                }
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
