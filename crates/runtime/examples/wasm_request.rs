//! What a request to a WebAssembly component costs: `cargo run --release -p runtime --example wasm_request [app.wasm]`.
//!
//! Everything between the seam and the component is in it (store, instance, request, answer, log), HTTP on a wire is
//! not. For the hand-made component that the tests have, or a given one, it prints the median and the worst of one in
//! a hundred of: a request with a fresh instance, with one that is used again, and a start with compiled code on disk,
//! before and after its HMAC was checked; and how many requests per second all processors do.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use functions::{
    Code, CodeFetch, CodeFormat, Event, ImageConfig, Initialization, Instance, InvokeRequest, LogFormat,
    Piece, ResponseHead, Runtime, StartRequest,
};
use runtime::{Config, Platform, WasmRuntime};
use sha2::Digest;
use types::{RequestId, SystemEnv, TraceHeader};

#[allow(dead_code, clippy::unwrap_used, reason = "they are the tests'")]
#[path = "../tests/it/guests.rs"]
mod guests;

const REQUESTS: usize = 20_000;
const STARTS: usize = 200;

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[derive(Debug)]
struct Nobody;

impl Platform for Nobody {
    fn serve(&self, _: tokio::net::TcpStream, _: Arc<str>) {}

    fn address(&self) -> std::net::SocketAddr {
        ([127, 0, 0, 1], 4566).into()
    }
}

#[async_trait::async_trait]
impl aws::Dispatch for Nobody {
    async fn call(
        &self,
        _: &aws::Caller,
        _: &TraceHeader,
        service: &str,
        _: http::Request<bytes::Bytes>,
    ) -> Result<http::Response<bytes::Bytes>, aws::Error> {
        Err(aws::Error::internal(&service))
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

fn function(component: &[u8], environment: &[(&str, &str)]) -> Result<StartRequest, Failure> {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    writer.start_file("app.wasm", zip::write::SimpleFileOptions::default())?;
    writer.write_all(component)?;
    let zip = writer.finish()?.into_inner();
    let named = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Ok(StartRequest {
        account: types::AccountId::DEFAULT,
        region: types::Region::default(),
        function_arn: "arn:aws:lambda:us-east-1:000000000000:function:f".into(),
        function_name: "f".into(),
        version: "$LATEST".into(),
        runtime: "wasm".into(),
        handler: "app.wasm".into(),
        code: Code {
            sha256: hex::encode(sha2::Sha256::digest(&zip)),
            format: CodeFormat::Zip,
            fetch: Arc::new(Zip(zip)),
        },
        layers: Vec::new(),
        image: ImageConfig::default(),
        environment: BTreeMap::from_iter(named),
        memory_mb: 512,
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
        log_stream: "stream".into(),
        log_format: LogFormat::Text,
        initialization: Initialization::OnDemand,
    })
}

fn http(body: &'static [u8]) -> Result<InvokeRequest, Failure> {
    let env = SystemEnv::new();
    let request = http::Request::post("http://f.example.com/hello?a=b")
        .header("host", "f.example.com")
        .header("user-agent", "bench")
        .header("accept", "*/*")
        .body(body.into())?;
    Ok(InvokeRequest {
        request_id: RequestId::new(&*env),
        event: Event::Http(Box::new(request)),
        stream: None,
        deadline: env.now() + Duration::from_secs(30),
        timeout: Duration::from_secs(30),
        invoked_function_arn: "arn:aws:lambda:us-east-1:000000000000:function:f".into(),
        trace: TraceHeader::new(&*env),
        client_context: None,
    })
}

/// One request, its answer read as a stream.
async fn ask(instance: &mut Box<dyn Instance>, mut request: InvokeRequest) -> Result<usize, Failure> {
    let (sender, mut pieces) = tokio::sync::mpsc::channel(16);
    request.stream = Some(sender);
    let read = async {
        let mut size = 0;
        while let Some(piece) = pieces.recv().await {
            match piece {
                Piece::Head(ResponseHead::Http(head)) if head.status.is_success() => {}
                Piece::Head(head) => return Err(format!("{head:?}")),
                Piece::Body(body) => size += body.len(),
            }
        }
        Ok(size)
    };
    let (result, size) = tokio::join!(instance.invoke(request), read);
    match result?.function_error {
        Some(error) => Err(error.into()),
        None => Ok(size?),
    }
}

fn show(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |part: usize| times[times.len() * part / 100].as_secs_f64() * 1e6;
    println!("{what:<44} p50 {:9.1} us   p99 {:9.1} us", at(50), at(99));
}

async fn requests(
    what: &str,
    runtime: &WasmRuntime,
    function: StartRequest,
    body: &'static [u8],
) -> Result<(), Failure> {
    let mut instance = runtime.start(function).await?.instance;
    let mut times = Vec::with_capacity(REQUESTS);
    let count = if body.len() > 1000 { REQUESTS / 100 } else { REQUESTS };
    for _ in 0..count {
        let request = http(body)?;
        let began = Instant::now();
        ask(&mut instance, request).await?;
        times.push(began.elapsed());
    }
    show(what, times);
    Ok(())
}

async fn starts(component: &[u8], config: &Config, other: &[u8]) -> Result<(), Failure> {
    let (mut unchecked, mut checked) = (Vec::new(), Vec::new());
    for _ in 0..STARTS / 10 {
        let runtime = WasmRuntime::new(config.clone(), Arc::new(Nobody), Arc::new(Nobody), SystemEnv::new());
        // So that the engine is there.
        runtime.start(function(other, &[])?).await?;
        for round in 0..10 {
            let request = function(component, &[])?;
            let began = Instant::now();
            let mut instance = runtime.start(request).await?.instance;
            ask(&mut instance, http(b"")?).await?;
            let all = began.elapsed();
            drop(instance);
            // Makes room, and with it the first one goes.
            runtime.start(function(other, &[])?).await?;
            if round == 0 { unchecked.push(all) } else { checked.push(all) }
        }
    }
    show("start and request, HMAC checked first", unchecked);
    show("start and request, HMAC checked before", checked);
    Ok(())
}

fn main() -> Result<(), Failure> {
    let given = std::env::args_os().nth(1).map(std::fs::read).transpose()?;
    let component = given.clone().unwrap_or_else(|| guests::says(200, "hello"));
    let cache = tempfile::tempdir()?;
    let config = Config { cache_dir: cache.path().to_owned(), ..Config::default() };
    let single = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    single.block_on(async {
        let runtime = WasmRuntime::new(config.clone(), Arc::new(Nobody), Arc::new(Nobody), SystemEnv::new());
        let began = Instant::now();
        runtime.start(function(&component, &[])?).await?;
        println!("compiling {} kB took {:.2} s", component.len() >> 10, began.elapsed().as_secs_f64());
        requests("a fresh instance", &runtime, function(&component, &[])?, b"").await?;
        let reuse = [("HAWKER_INSTANCE_REUSE", "true")];
        requests("an instance that is used again", &runtime, function(&component, &reuse)?, b"").await?;
        if given.is_none() {
            static MEGABYTE: [u8; 1 << 20] = [b'x'; 1 << 20];
            requests(
                "a fresh instance that echoes 1 MiB",
                &runtime,
                function(&guests::echo(), &[])?,
                &MEGABYTE,
            )
            .await?;
        }
        let mut config = config.clone();
        config.wasm.max_idle_components = 0;
        starts(&component, &config, &guests::says(200, "another")).await
    })?;

    let all = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let threads = std::thread::available_parallelism()?.get();
    for (what, reuse) in [("fresh instances", "false"), ("instances used again", "true")] {
        let function = function(&component, &[("HAWKER_INSTANCE_REUSE", reuse)])?;
        let runtime =
            Arc::new(WasmRuntime::new(config.clone(), Arc::new(Nobody), Arc::new(Nobody), SystemEnv::new()));
        let began = Instant::now();
        let count = all.block_on(async {
            let workers = (0..threads * 4).map(|_| {
                let (runtime, function) = (runtime.clone(), function.clone());
                tokio::spawn(async move {
                    let mut instance = runtime.start(function).await?.instance;
                    let mut count = 0;
                    while began.elapsed() < Duration::from_secs(3) {
                        ask(&mut instance, http(b"")?).await?;
                        count += 1;
                    }
                    Ok::<usize, Failure>(count)
                })
            });
            let mut total = 0;
            for worker in workers.collect::<Vec<_>>() {
                total += worker.await??;
            }
            Ok::<usize, Failure>(total)
        })?;
        let rate = count as f64 / began.elapsed().as_secs_f64();
        println!("{what:<30} {rate:9.0} requests per second on {threads} processors");
    }
    Ok(())
}
