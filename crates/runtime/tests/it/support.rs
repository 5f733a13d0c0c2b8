//! What the tests share: a runtime over a temporary cache, functions zipped on the spot, a small platform.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use functions::{
    Code, CodeFetch, CodeFormat, Event, ImageConfig, Initialization, Instance, InvokeRequest, InvokeResult,
    LogFormat, Piece, RunError, Runtime, StartError, StartRequest, Started,
};
use runtime::{Config, Platform, ProcessRuntime};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use types::{RequestId, SystemEnv, TraceHeader};

/// Answers every request with the ARN of the function that sent it.
#[derive(Debug)]
pub(crate) struct WhoAmI(pub(crate) SocketAddr);

impl Platform for WhoAmI {
    fn serve(&self, mut stream: tokio::net::TcpStream, function_arn: Arc<str>) {
        tokio::spawn(async move {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let answer = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{function_arn}",
                function_arn.len()
            );
            let _ = stream.write_all(answer.as_bytes()).await;
        });
    }

    fn address(&self) -> SocketAddr {
        self.0
    }
}

/// Answers as every service does that knows nothing, with who calls in the message.
#[async_trait]
impl aws::Dispatch for WhoAmI {
    async fn call(
        &self,
        caller: &aws::Caller,
        _: &TraceHeader,
        service: &str,
        request: http::Request<bytes::Bytes>,
    ) -> Result<http::Response<bytes::Bytes>, aws::Error> {
        let operation = request.headers().get("x-amz-target").and_then(|target| target.to_str().ok());
        let message = format!("{:?} asks {service} for {}", caller.origin, operation.unwrap_or("nothing"));
        Err(aws::Error::new(types::ErrorKind::Throttled, "Busy", message))
    }
}

#[derive(Debug)]
struct Zip(Vec<u8>);

#[async_trait]
impl CodeFetch for Zip {
    async fn fetch(&self, path: &Path) -> std::io::Result<()> {
        tokio::fs::write(path, &self.0).await
    }
}

/// A zip of files, all of them executable.
pub(crate) fn zip(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default().unix_permissions(0o755);
    for (name, contents) in files {
        writer.start_file(*name, options).unwrap();
        writer.write_all(contents).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

pub(crate) fn code(zip: Vec<u8>) -> Code {
    let sha256 = hex::encode(Sha256::digest(&zip));
    Code { sha256, format: CodeFormat::Zip, fetch: Arc::new(Zip(zip)) }
}

pub(crate) struct House {
    pub(crate) runtime: Arc<ProcessRuntime>,
    pub(crate) cache: tempfile::TempDir,
    /// Whether every start is to find a sandbox that stands ready.
    stands_ready: bool,
}

pub(crate) fn config(cache: &Path) -> Config {
    Config {
        cache_dir: cache.join("cache"),
        provide_boto3: false,
        substitute_runtimes: true,
        spare_sandboxes: 0,
        ready_sandboxes: 0,
        sandbox_exe: Some(env!("CARGO_BIN_EXE_runtime-test-helper").into()),
        ..Config::default()
    }
}

impl House {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let cache = tempfile::tempdir().unwrap();
        let mut config = config(cache.path());
        change(&mut config);
        let platform = Arc::new(WhoAmI(([127, 0, 0, 1], 4566).into()));
        let runtime = ProcessRuntime::open(config, platform, SystemEnv::new()).await.unwrap();
        Self { runtime, cache, stands_ready: false }
    }

    /// One in which every Python function of [`request`]'s shape starts in a sandbox that stood ready.
    pub(crate) async fn standing_ready() -> Self {
        let mut house = Self::with(|config| config.ready_sandboxes = 1).await;
        house.python("def handler(event, context): pass").await.stop().await;
        house.stands_ready = true;
        house
    }

    /// Both: what holds for one sandbox has to hold for the other.
    pub(crate) async fn both() -> [Self; 2] {
        [Self::new().await, Self::standing_ready().await]
    }

    /// Waits until sandboxes stand ready; how many were used by then.
    pub(crate) async fn stands(&self, wanted: usize) -> u64 {
        let patience = std::time::Instant::now();
        loop {
            let figures = self.runtime.ready();
            if figures.standing == wanted {
                return figures.used;
            }
            assert!(patience.elapsed() < Duration::from_secs(60), "{figures:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Starts a function of one file.
    pub(crate) async fn start(&self, runtime: &str, file: &str, text: &str) -> Result<Started, StartError> {
        self.runtime.start(request(runtime, "app.handler", &[(file, text.as_bytes())])).await
    }

    pub(crate) async fn python(&self, text: &str) -> Box<dyn Instance> {
        if !self.stands_ready {
            return self.start("python3.11", "app.py", text).await.unwrap().instance;
        }
        let used = self.stands(1).await;
        let started = self.start("python3.11", "app.py", text).await.unwrap();
        assert_eq!(self.runtime.ready().used, used + 1);
        started.instance
    }

    /// A function written for the shell: whatever `script` does is its init.
    pub(crate) async fn shell(&self, script: &str) -> Result<Started, StartError> {
        self.start("provided.al2023", "bootstrap", &format!("#!/bin/sh\n{script}\n")).await
    }
}

pub(crate) fn request(runtime: &str, handler: &str, files: &[(&str, &[u8])]) -> StartRequest {
    StartRequest {
        account: types::AccountId::DEFAULT,
        region: types::Region::default(),
        function_arn: "arn:aws:lambda:us-east-1:000000000000:function:f".into(),
        function_name: "f".into(),
        version: "$LATEST".into(),
        runtime: runtime.into(),
        handler: handler.into(),
        code: code(zip(files)),
        layers: Vec::new(),
        image: ImageConfig::default(),
        environment: BTreeMap::from([("COLOUR".to_owned(), "grün".to_owned())]),
        memory_mb: 256,
        ephemeral_storage_mb: 64,
        timeout: Duration::from_secs(60),
        credentials: aws::TemporaryCredentials {
            access_key_id: "ASIAEXAMPLE".into(),
            secret_access_key: "secret".into(),
            session_token: "token".into(),
            expires_at: types::Timestamp::now(),
            principal: types::Principal::Root { account: types::AccountId::DEFAULT },
        },
        log_group: "/aws/lambda/f".into(),
        log_stream: "2026/01/01/[$LATEST]0".into(),
        log_format: LogFormat::Text,
        initialization: Initialization::OnDemand,
    }
}

pub(crate) fn event(payload: &str, timeout: Duration) -> InvokeRequest {
    let env = SystemEnv::new();
    InvokeRequest {
        request_id: RequestId::new(&*env),
        event: Event::Json(payload.to_owned().into()),
        stream: None,
        deadline: env.now() + timeout,
        timeout,
        invoked_function_arn: "arn:aws:lambda:us-east-1:000000000000:function:f:live".into(),
        trace: TraceHeader::new(&*env),
        client_context: None,
    }
}

pub(crate) async fn try_invoke(
    instance: &mut Box<dyn Instance>,
    payload: &str,
) -> Result<InvokeResult, RunError> {
    instance.invoke(event(payload, Duration::from_secs(60))).await
}

pub(crate) async fn invoke(instance: &mut Box<dyn Instance>, payload: &str) -> InvokeResult {
    try_invoke(instance, payload).await.unwrap()
}

/// Invokes and reads the answer, which must not be an error.
pub(crate) async fn ask(instance: &mut Box<dyn Instance>, payload: &str) -> serde_json::Value {
    let result = invoke(instance, payload).await;
    assert_eq!(result.function_error, None, "{:?}", result.payload);
    serde_json::from_slice(&result.payload).unwrap()
}

/// Invokes with a stream; the result, and the pieces that came.
pub(crate) async fn stream(
    instance: &mut Box<dyn Instance>,
    request: InvokeRequest,
) -> (Result<InvokeResult, RunError>, Vec<Piece>) {
    let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
    let request = InvokeRequest { stream: Some(sender), ..request };
    let read = async {
        let mut pieces = Vec::new();
        while let Some(piece) = receiver.recv().await {
            pieces.push(piece);
        }
        pieces
    };
    tokio::join!(instance.invoke(request), read)
}

/// A layer of files.
pub(crate) fn layer(files: &[(&str, &[u8])]) -> Code {
    code(zip(files))
}

/// A program for `provided` in Python, with `call(method, path, body, headers)` for the APIs of Lambda.
pub(crate) fn program(text: &str) -> String {
    format!(
        "#!/usr/bin/python3
import http.client, json, os, sys, time
def call(method, path, body=None, headers={{}}):
    line = http.client.HTTPConnection(os.environ['AWS_LAMBDA_RUNTIME_API'])
    line.request(method, path, body, headers, encode_chunked='Transfer-Encoding' in headers)
    answer = line.getresponse()
    return answer.status, {{k.lower(): v for k, v in answer.getheaders()}}, answer.read()
def next_event():
    status, headers, body = call('GET', '/2018-06-01/runtime/invocation/next')
    assert status == 200, body
    return headers['lambda-runtime-aws-request-id'], json.loads(body)
def answer(id, value):
    assert call('POST', f'/2018-06-01/runtime/invocation/{{id}}/response', json.dumps(value))[0] == 202
{text}
"
    )
}

pub(crate) fn lines(logs: &[telemetry::LogEvent]) -> Vec<&str> {
    logs.iter().map(|event| event.message.as_str()).collect()
}
