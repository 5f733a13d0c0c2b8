//! A load generator that signs: sends one kind of request over so many connections for so long, and prints the rate
//! and the latencies as JSON. `bench/run` uses it on Hawker and on its peers alike.
//!
//! `{i}` in the path or the body becomes a number of its own for each request. Any answer but 2xx ends the
//! run with an error: a fast refusal is not a result. With `--list` it lists a bucket instead (`list`). It is also
//! what it compares with (`peers`): a bare server, and as a function's `bootstrap`, a function that does nothing.

mod list;
mod peers;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use aws::sigv4::{Credentials, PayloadHash, sign_parts};
use bytes::Bytes;
use clap::Parser;
use http_body::Body as _;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use sha2::{Digest, Sha256};
use types::Timestamp;

/// Sends requests and measures them.
#[derive(Debug, Parser)]
struct Options {
    /// Where to.
    #[arg(long)]
    address: SocketAddr,
    /// Be a bare server there instead.
    #[arg(long)]
    serve: bool,
    /// Its answer to GET has that many bytes.
    #[arg(long, default_value_t = 5)]
    serve_bytes: usize,
    /// List the bucket that the path names to its end, once.
    #[arg(long)]
    list: bool,
    /// HTTP method.
    #[arg(long, default_value = "POST")]
    method: http::Method,
    /// Path and query.
    #[arg(long, default_value = "/")]
    path: String,
    /// Headers, `Name: value`.
    #[arg(long)]
    header: Vec<String>,
    /// The body's text.
    #[arg(long, default_value = "", conflicts_with = "body_bytes")]
    body: String,
    /// A body of that many bytes instead.
    #[arg(long)]
    body_bytes: Option<usize>,
    /// Sign for this service; the keys come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.
    #[arg(long)]
    sign: Option<String>,
    /// The region to sign for.
    #[arg(long, default_value = "us-east-1")]
    region: String,
    /// How many connections, each with one request at a time.
    #[arg(long, default_value_t = 1)]
    connections: usize,
    /// How long.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// How long before that without measuring.
    #[arg(long, default_value_t = 1.0)]
    warm_up: f64,
    /// Where `{i}` begins.
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// `{i}` starts again after this many.
    #[arg(long, default_value_t = u64::MAX)]
    distinct: u64,
}

struct Load {
    options: Options,
    headers: http::HeaderMap,
    body: Bytes,
    /// The body's SHA-256, unless each request has a body of its own.
    hash: Option<PayloadHash>,
    credentials: Option<(String, Credentials)>,
    next: AtomicU64,
}

impl Load {
    fn new(options: Options) -> anyhow::Result<Self> {
        let mut headers = http::HeaderMap::new();
        headers.insert(http::header::HOST, options.address.to_string().parse()?);
        for header in &options.header {
            let (name, value) = header.split_once(':').context("a header is `Name: value`")?;
            headers.insert(http::HeaderName::try_from(name.trim())?, value.trim().parse()?);
        }
        let body: Bytes = match options.body_bytes {
            Some(len) => (0..len).map(|i| (i * 31 % 251) as u8).collect::<Vec<_>>().into(),
            None => options.body.clone().into(),
        };
        // hyper says of no body how long it is, and S3 wants to know of what is put.
        if body.is_empty() && options.method == http::Method::PUT {
            headers.insert(http::header::CONTENT_LENGTH, 0.into());
        }
        let credentials = match &options.sign {
            Some(service) => {
                let key = |name: &str| std::env::var(name).with_context(|| format!("{name} is not set"));
                let (id, secret) = (key("AWS_ACCESS_KEY_ID")?, key("AWS_SECRET_ACCESS_KEY")?);
                let credentials =
                    Credentials { access_key_id: id, secret_access_key: secret, session_token: None };
                Some((service.clone(), credentials))
            }
            None => None,
        };
        let next = AtomicU64::new(options.first);
        // Once: what a client's own hashing costs is not what is measured.
        let hash = (!options.body.contains("{i}")).then(|| payload_hash(&body));
        Ok(Self { options, headers, body, hash, credentials, next })
    }

    fn request(&self) -> anyhow::Result<http::Request<Full<Bytes>>> {
        self.request_to(&self.options.path)
    }

    fn request_to(&self, path: &str) -> anyhow::Result<http::Request<Full<Bytes>>> {
        let i = self.next.fetch_add(1, Ordering::Relaxed) % self.options.distinct;
        let fill = |text: &str| text.replace("{i}", &i.to_string());
        let body = if self.options.body.contains("{i}") {
            fill(&self.options.body).into()
        } else {
            self.body.clone()
        };
        let hash = self.hash.unwrap_or_else(|| payload_hash(&body));
        let mut request =
            http::Request::builder().method(self.options.method.clone()).uri(fill(path)).body(body)?;
        *request.headers_mut() = self.headers.clone();
        if let Some((service, credentials)) = &self.credentials {
            let (method, uri) = (request.method().clone(), request.uri().clone());
            let (headers, region) = (request.headers_mut(), &self.options.region);
            sign_parts(&method, &uri, headers, hash, credentials, region, service, Timestamp::now())?;
        }
        Ok(request.map(Full::new))
    }

    async fn connect(&self) -> anyhow::Result<SendRequest<Full<Bytes>>> {
        let stream = tokio::net::TcpStream::connect(self.options.address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(sender)
    }

    /// One connection's work: the latencies of what was begun after `from` and ended before `to`.
    async fn run(self: Arc<Self>, from: Instant, to: Instant) -> anyhow::Result<Vec<u32>> {
        let mut latencies_us = Vec::new();
        let mut sender = self.connect().await?;
        loop {
            if sender.ready().await.is_err() {
                sender = self.connect().await?;
            }
            let request = self.request()?;
            let begun = Instant::now();
            let answer = sender.send_request(request).await?;
            let status = answer.status();
            if !status.is_success() {
                let body = answer.into_body().collect().await?.to_bytes();
                bail!("{status}: {}", String::from_utf8_lossy(&body));
            }
            let length = answer.body().size_hint().exact();
            let received = drain(answer.into_body()).await?;
            ensure!(length.is_none_or(|length| length == received), "an answer was cut short");
            let ended = Instant::now();
            if ended > to {
                return Ok(latencies_us);
            }
            if begun >= from {
                latencies_us.push(u32::try_from((ended - begun).as_micros()).unwrap_or(u32::MAX));
            }
        }
    }
}

fn payload_hash(body: &[u8]) -> PayloadHash {
    PayloadHash::Sha256(Sha256::digest(body).into())
}

/// Reads an answer and keeps nothing of it.
async fn drain(mut body: Incoming) -> anyhow::Result<u64> {
    let mut received = 0;
    while let Some(frame) = body.frame().await {
        received += frame?.data_ref().map_or(0, |data| data.len() as u64);
    }
    Ok(received)
}

fn main() -> anyhow::Result<()> {
    let one = || tokio::runtime::Builder::new_current_thread().enable_all().build();
    if let Ok(api) = std::env::var("AWS_LAMBDA_RUNTIME_API") {
        return one()?.block_on(peers::function(&api));
    }
    let options = Options::parse();
    if options.serve {
        // As many threads as a server has.
        return tokio::runtime::Runtime::new()?.block_on(peers::serve(options.address, options.serve_bytes));
    }
    one()?.block_on(measure(options))
}

async fn measure(options: Options) -> anyhow::Result<()> {
    let load = Arc::new(Load::new(options)?);
    if load.options.list {
        let list::Listed { keys, took, mut pages_us } = list::list(&load).await?;
        let pages = pages_us.len();
        pages_us.sort_unstable();
        let at = |q: f64| pages_us[((pages - 1) as f64 * q) as usize];
        let rate = (keys as f64 / took.as_secs_f64()).round();
        let (p50, p99) = (at(0.5), at(0.99));
        let json = serde_json::json!({ "requests": pages, "per_second": rate, "p50_us": p50, "p99_us": p99, "keys": keys });
        println!("{json}");
        return Ok(());
    }
    let from = Instant::now() + Duration::from_secs_f64(load.options.warm_up);
    let to = from + Duration::from_secs_f64(load.options.seconds);
    let tasks: Vec<_> =
        (0..load.options.connections).map(|_| tokio::spawn(load.clone().run(from, to))).collect();
    let mut latencies_us = Vec::new();
    for task in tasks {
        latencies_us.extend(task.await??);
    }
    ensure!(!latencies_us.is_empty(), "nothing was answered in time");
    latencies_us.sort_unstable();
    let at = |q: f64| latencies_us[((latencies_us.len() - 1) as f64 * q) as usize];
    println!(
        "{}",
        serde_json::json!({
            "requests": latencies_us.len(),
            "per_second": (latencies_us.len() as f64 / load.options.seconds * 100.0).round() / 100.0,
            "p50_us": at(0.5),
            "p90_us": at(0.9),
            "p99_us": at(0.99),
            "max_us": at(1.0),
        })
    );
    Ok(())
}
