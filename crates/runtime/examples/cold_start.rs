//! How long functions take to start and to answer: `cargo run --release -p runtime --example cold_start`.
//!
//! For each kind of function it prints the median, and the worst of ten in a hundred, of a cold start (from
//! the beginning of the start to the first request for an event, code and libraries being there), of the
//! first event, and of an event to a warm instance.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use functions::{
    Code, CodeFetch, CodeFormat, Event, ImageConfig, Initialization, InvokeRequest, LogFormat, Runtime,
    StartRequest,
};
use runtime::{Config, Platform, ProcessRuntime};
use sha2::Digest;
use types::{RequestId, SystemEnv, TraceHeader};

const STARTS: usize = 30;
const EVENTS: usize = 200;

#[derive(Debug)]
struct Nobody;

impl Platform for Nobody {
    fn serve(&self, _: tokio::net::TcpStream, _: Arc<str>) {}

    fn address(&self) -> std::net::SocketAddr {
        ([127, 0, 0, 1], 4566).into()
    }
}

#[derive(Debug)]
struct Zip(Vec<u8>);

#[async_trait::async_trait]
impl CodeFetch for Zip {
    async fn fetch(&self, path: &Path) -> std::io::Result<()> {
        tokio::fs::write(path, &self.0).await
    }
}

fn request(runtime: &str, file: &str, contents: &[u8]) -> StartRequest {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default().unix_permissions(0o755);
    writer.start_file(file, options).expect("a zip in memory");
    writer.write_all(contents).expect("a zip in memory");
    let zip = writer.finish().expect("a zip in memory").into_inner();
    StartRequest {
        account: types::AccountId::DEFAULT,
        region: types::Region::default(),
        function_arn: "arn:aws:lambda:us-east-1:000000000000:function:f".into(),
        function_name: "f".into(),
        version: "$LATEST".into(),
        runtime: runtime.into(),
        handler: "app.handler".into(),
        code: Code {
            sha256: hex::encode(sha2::Sha256::digest(&zip)),
            format: CodeFormat::Zip,
            fetch: Arc::new(Zip(zip)),
        },
        layers: Vec::new(),
        image: ImageConfig::default(),
        environment: BTreeMap::new(),
        memory_mb: 1769,
        ephemeral_storage_mb: 512,
        timeout: Duration::from_secs(30),
        credentials: aws::TemporaryCredentials {
            access_key_id: "ASIAEXAMPLE".into(),
            secret_access_key: "secret".into(),
            session_token: "token".into(),
            expires_at: types::Timestamp::now(),
            principal: types::Principal::Root { account: types::AccountId::DEFAULT },
        },
        log_group: "/aws/lambda/f".into(),
        log_stream: "s".into(),
        log_format: LogFormat::Text,
        initialization: Initialization::OnDemand,
    }
}

fn event() -> InvokeRequest {
    let env = SystemEnv::new();
    InvokeRequest {
        request_id: RequestId::new(&*env),
        event: Event::Json("{}".into()),
        stream: None,
        deadline: env.now() + Duration::from_secs(30),
        timeout: Duration::from_secs(30),
        invoked_function_arn: "arn:aws:lambda:us-east-1:000000000000:function:f".into(),
        trace: TraceHeader::new(&*env),
        client_context: None,
    }
}

fn show(name: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |share: usize| times[times.len() * share / 100].as_secs_f64() * 1000.0;
    println!("  {name:<12} p50 {:8.3} ms   p90 {:8.3} ms", at(50), at(90));
}

#[tokio::main]
async fn measure() -> Result<(), Box<dyn std::error::Error>> {
    let cache = tempfile::tempdir()?;
    let config = Config { cache_dir: cache.path().join("cache"), provide_boto3: false, ..Config::default() };
    let runtime = ProcessRuntime::open(config, Arc::new(Nobody), SystemEnv::new()).await?;
    let python = b"def handler(event, context): return event\n";
    let node = b"exports.handler = async (event) => event;";
    let mut functions = Vec::new();
    for minor in 8..20 {
        let name = format!("python3.{minor}");
        if runtime.check(&name).is_ok() {
            functions.push(request(&name, "app.py", python));
        }
    }
    // What small functions of some size do: much to load, little CPU. Any Python will do.
    let python = functions.last().map(|request| request.runtime.clone());
    for memory_mb in [128, 512] {
        let text = b"import asyncio, ctypes, email.mime.text, http.client, logging, sqlite3, ssl, unittest, xml.dom\n\
            def handler(event, context): return event\n";
        let heavy = python.iter().map(|python| request(python, "app.py", text));
        functions.extend(heavy.map(|request| StartRequest { memory_mb, ..request }));
    }
    for major in 14..40 {
        let name = format!("nodejs{major}.x");
        if runtime.check(&name).is_ok() {
            functions.push(request(&name, "app.cjs", node));
        }
    }
    // A program for `provided`, such as a statically linked one: its path is the first argument.
    if let Some(program) = std::env::args_os().nth(1) {
        functions.push(request("provided.al2023", "bootstrap", &std::fs::read(program)?));
    }
    for request in functions {
        println!("{} with {} MB", request.runtime, request.memory_mb);
        let (mut starts, mut firsts, mut warm) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..=STARTS {
            let started = runtime.start(request.clone()).await?;
            let mut instance = started.instance;
            let begun = Instant::now();
            instance.invoke(event()).await?;
            let first = begun.elapsed();
            for _ in 0..EVENTS / STARTS {
                let begun = Instant::now();
                instance.invoke(event()).await?;
                warm.push(begun.elapsed());
            }
            instance.stop().await;
            // The first one unpacks and compiles.
            if round > 0 {
                starts.push(started.init_duration);
                firsts.push(first);
            }
            // Starts far enough apart for spares to be ready.
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        show("cold start", starts);
        show("first event", firsts);
        show("warm event", warm);
    }
    Ok(())
}

fn main() {
    runtime::sandbox_main_if_asked();
    if let Err(error) = measure() {
        eprintln!("{error}");
        std::process::exit(1);
    }
}
