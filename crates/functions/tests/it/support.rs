//! A node's part around functions: rows in memory, packages on disk, a runtime that runs closures.
//!
//! The runtime is the seam's double, for what functions does around it; real sandboxes have tests of their own.

// Each of the two test binaries that share this uses a part of it.
#![allow(dead_code)]

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use aws::{Api, Caller, Dispatch, RequestContext, RoleSource, TemporaryCredentials};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use blobs::Blobs;
use bytes::Bytes;
use functions::{
    Config, FunctionName, Functions, Instance, Invocation, InvokeRequest, InvokeResult, RunError, Runtime,
    StartError, StartRequest, Started,
};
use serde_json::{Value, json};
use store::{Engine, MemoryEngine, Store};
use telemetry::{LogEvent, Telemetry};
use tokio_util::sync::CancellationToken;
use types::{
    AccountId, ErrorKind, Principal, Region, RequestId, SharedEnv, SystemEnv, Timestamp, TraceHeader,
};

pub(crate) type Answer = Result<Value, RunError>;
pub(crate) type Handler =
    Arc<dyn Fn(InvokeRequest, usize) -> Pin<Box<dyn Future<Output = Answer> + Send>> + Send + Sync>;

/// A handler from an async closure of the request and the instance's number.
pub(crate) fn handler<F, R>(f: F) -> Handler
where
    F: Fn(InvokeRequest, usize) -> R + Send + Sync + 'static,
    R: Future<Output = Answer> + Send + 'static,
{
    Arc::new(move |request, instance| Box::pin(f(request, instance)))
}

/// Runs closures by the name of the function's handler.
#[derive(Default)]
pub(crate) struct Closures {
    handlers: Mutex<HashMap<String, Handler>>,
    pub(crate) started: AtomicUsize,
    pub(crate) stopped: Arc<AtomicUsize>,
    pub(crate) live: Arc<AtomicUsize>,
    pub(crate) most_live: AtomicUsize,
    /// Starts fail with this while it is set.
    pub(crate) init_error: Mutex<Option<Value>>,
    /// What is said about libraries that are installed.
    pub(crate) being_set_up: AtomicBool,
    /// Starts wait while this is set.
    pub(crate) hold_starts: AtomicBool,
    pub(crate) release_starts: tokio::sync::Notify,
    pub(crate) requests: Mutex<Vec<StartRequest>>,
}

impl fmt::Debug for Closures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Closures")
    }
}

impl Closures {
    pub(crate) fn set(&self, name: &str, handler: Handler) {
        self.handlers.lock().unwrap().insert(name.to_owned(), handler);
    }
}

#[async_trait]
impl Runtime for Closures {
    fn check(&self, runtime: &str) -> Result<(), String> {
        if runtime == "closure1.0" { Ok(()) } else { Err(format!("Runtime {runtime} is not installed.")) }
    }

    fn is_being_set_up(&self, _: &str, _: &str, _: &str) -> bool {
        self.being_set_up.load(Ordering::SeqCst)
    }

    async fn start(&self, request: StartRequest) -> Result<Started, StartError> {
        while self.hold_starts.load(Ordering::SeqCst) {
            let released = self.release_starts.notified();
            if self.hold_starts.load(Ordering::SeqCst) {
                released.await;
            }
        }
        // As a runtime would: the package has to be there.
        let scratch = tempfile::tempdir().unwrap();
        let zip = scratch.path().join("code.zip");
        request.code.fetch.fetch(&zip).await.map_err(|e| StartError::Platform(e.to_string()))?;
        let number = self.started.fetch_add(1, Ordering::SeqCst);
        if let Some(error) = self.init_error.lock().unwrap().clone() {
            let payload = Bytes::from(error.to_string());
            let duration = Duration::from_millis(5);
            let reported = error.get("reported").is_none();
            let logs = vec![LogEvent { timestamp: Timestamp::UNIX_EPOCH, message: "loading".into() }];
            return Err(StartError::Init { payload, reported, duration, out_of_memory: false, logs });
        }
        let handler = self.handlers.lock().unwrap().get(&request.handler).cloned();
        let handler = handler.ok_or_else(|| StartError::Code("no such handler".into()))?;
        self.requests.lock().unwrap().push(request);
        let live = self.live.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_live.fetch_max(live, Ordering::SeqCst);
        let instance = Closure { number, handler, live: self.live.clone(), stopped: self.stopped.clone() };
        Ok(Started {
            instance: Box::new(instance),
            init_duration: Duration::from_millis(7),
            logs: Vec::new(),
        })
    }
}

struct Closure {
    number: usize,
    handler: Handler,
    live: Arc<AtomicUsize>,
    stopped: Arc<AtomicUsize>,
}

impl fmt::Debug for Closure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Closure")
    }
}

impl Drop for Closure {
    fn drop(&mut self) {
        self.live.fetch_sub(1, Ordering::SeqCst);
        self.stopped.fetch_add(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl Instance for Closure {
    async fn invoke(&mut self, request: InvokeRequest) -> Result<InvokeResult, RunError> {
        let answer = (self.handler)(request, self.number).await?;
        let failed = answer.get("errorMessage").is_some();
        let logs = vec![LogEvent { timestamp: Timestamp::now(), message: "a line of its own".into() }];
        Ok(InvokeResult {
            payload: Bytes::from(answer.to_string()),
            function_error: failed.then(|| "Unhandled".to_owned()),
            duration: Duration::from_micros(1500),
            max_memory_bytes: 40 << 20,
            logs,
        })
    }

    fn is_alive(&mut self) -> bool {
        true
    }

    async fn stop(self: Box<Self>) {}
}

/// Lets any role but `missing` be assumed.
#[derive(Debug)]
pub(crate) struct Roles {
    pub(crate) valid_s: AtomicUsize,
}

#[async_trait]
impl RoleSource for Roles {
    async fn is_there(&self, arn: &str) -> Result<Option<bool>, aws::Error> {
        Ok(arn.contains(":000000000000:").then(|| !arn.ends_with("/missing")))
    }

    async fn assume(
        &self,
        account: AccountId,
        role_arn: &str,
        session_name: &str,
        _service: &str,
        _duration: Duration,
    ) -> Result<TemporaryCredentials, aws::Error> {
        if role_arn.ends_with("/missing") {
            return Err(aws::Error::new(ErrorKind::Invalid, "ValidationError", "no such role"));
        }
        let valid = i64::try_from(self.valid_s.load(Ordering::SeqCst)).unwrap();
        Ok(TemporaryCredentials {
            access_key_id: "ASIATEST".into(),
            secret_access_key: "secret".into(),
            session_token: "token".into(),
            expires_at: Timestamp::now() + jiff_seconds(valid),
            principal: Principal::AssumedRole {
                account,
                role: role_arn.rsplit('/').next().unwrap().to_owned(),
                id: "AROATEST".into(),
                session: session_name.to_owned(),
            },
        })
    }
}

fn jiff_seconds(seconds: i64) -> Duration {
    Duration::from_secs(seconds.try_into().unwrap())
}

/// Sends `lambda` to the functions under test and keeps objects in a map.
#[derive(Debug, Default)]
pub(crate) struct Wires {
    pub(crate) functions: std::sync::OnceLock<std::sync::Weak<Functions>>,
    pub(crate) objects: Mutex<HashMap<String, Bytes>>,
    /// Answer to the next puts, while it is set.
    pub(crate) refuse_puts: Mutex<Option<aws::Error>>,
    pub(crate) callers: Mutex<Vec<String>>,
    /// The records of the one stream that there is; an iterator is the place of the next one.
    pub(crate) stream: Mutex<Vec<Value>>,
}

#[async_trait]
impl Dispatch for Wires {
    async fn call(
        &self,
        caller: &Caller,
        trace: &TraceHeader,
        service: &str,
        request: http::Request<Bytes>,
    ) -> Result<http::Response<Bytes>, aws::Error> {
        self.callers.lock().unwrap().push(caller.principal.arn());
        if service == "lambda" {
            let functions = self.functions.get().and_then(std::sync::Weak::upgrade).unwrap();
            let (head, body) = request.into_parts();
            let context = context(caller.clone(), trace.clone());
            let request = aws::Request { head, body: aws::body::full(body), context };
            let (parts, body) = functions.parse(request).await?.handle().await?.into_parts();
            return Ok(http::Response::from_parts(parts, aws::body::collect(body, 64 << 20).await?));
        }
        if service == "dynamodb" {
            return Ok(http::Response::new(self.streams(&request)));
        }
        let path = request.uri().path().to_owned();
        if request.method() == http::Method::PUT {
            if let Some(error) = self.refuse_puts.lock().unwrap().clone() {
                return Err(error);
            }
            self.objects.lock().unwrap().insert(path, request.into_body());
            return Ok(http::Response::new(Bytes::new()));
        }
        let object = self.objects.lock().unwrap().get(&path).cloned();
        object.map(http::Response::new).ok_or_else(|| {
            aws::Error::new(ErrorKind::NotFound, "NoSuchKey", "The specified key does not exist.")
        })
    }
}

impl Wires {
    fn streams(&self, request: &http::Request<Bytes>) -> Bytes {
        let input: Value = serde_json::from_slice(request.body()).unwrap();
        let operation = request.headers()["x-amz-target"].to_str().unwrap().rsplit('.').next().unwrap();
        let records = self.stream.lock().unwrap();
        let place = |text: &Value| text.as_str().unwrap().parse::<usize>().unwrap();
        let answer = match operation {
            "DescribeStream" => json!({ "StreamDescription": { "Shards": [{ "ShardId": "shard" }] } }),
            "GetShardIterator" => {
                let at = match input["ShardIteratorType"].as_str().unwrap() {
                    "TRIM_HORIZON" => 0,
                    "LATEST" => records.len(),
                    _ => place(&input["SequenceNumber"]) + 1,
                };
                json!({ "ShardIterator": at.to_string() })
            }
            _ => {
                let from = place(&input["ShardIterator"]);
                let most = usize::try_from(input["Limit"].as_u64().unwrap()).unwrap();
                let some: Vec<_> = records.iter().skip(from).take(most).cloned().collect();
                json!({ "NextShardIterator": (from + some.len()).to_string(), "Records": some })
            }
        };
        answer.to_string().into()
    }
}

fn context(caller: Caller, trace: TraceHeader) -> RequestContext {
    RequestContext {
        caller,
        request_id: RequestId::new(&*SystemEnv::new()),
        trace,
        region: Region::default(),
        received_at: Timestamp::now(),
        endpoint: "http://127.0.0.1:4566".into(),
    }
}

/// The part of a node.
pub(crate) struct Node {
    pub(crate) env: SharedEnv,
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) blobs: Arc<dyn Blobs>,
    pub(crate) store: Store,
    pub(crate) runtime: Arc<Closures>,
    pub(crate) roles: Arc<Roles>,
    pub(crate) wires: Arc<Wires>,
    pub(crate) telemetry: Telemetry,
    pub(crate) functions: Arc<Functions>,
    pub(crate) shutdown: CancellationToken,
    pub(crate) tasks: Mutex<Vec<tokio::task::JoinHandle<()>>>,
    folder: Option<tempfile::TempDir>,
}

impl Node {
    pub(crate) async fn start(config: Config) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let blobs = blobs::FsBlobs::open(folder.path()).unwrap();
        let mut node = Self::over(MemoryEngine::new(), Arc::default(), blobs, config);
        node.folder = Some(folder);
        node
    }

    /// A node over what another one has left.
    pub(crate) fn over(
        engine: Arc<dyn Engine>,
        runtime: Arc<Closures>,
        blobs: Arc<dyn Blobs>,
        config: Config,
    ) -> Self {
        let env = SystemEnv::new();
        let store = Store::new(engine.clone());
        let (telemetry, recorder) = Telemetry::new(store.clone(), env.clone(), telemetry::Config::default());
        let roles = Arc::new(Roles { valid_s: AtomicUsize::new(3600) });
        let wires = Arc::new(Wires::default());
        let functions = Functions::new(
            config,
            store.clone(),
            blobs.clone(),
            env.clone(),
            runtime.clone(),
            roles.clone(),
            wires.clone(),
            telemetry.clone(),
            Region::default(),
        );
        wires.functions.set(Arc::downgrade(&functions)).unwrap();
        let shutdown = CancellationToken::new();
        let tasks = vec![
            tokio::spawn(recorder.run(CancellationToken::new())),
            tokio::spawn(functions.clone().run(shutdown.clone())),
        ];
        let tasks = Mutex::new(tasks);
        Self {
            env,
            engine,
            blobs,
            store,
            runtime,
            roles,
            wires,
            telemetry,
            functions,
            shutdown,
            tasks,
            folder: None,
        }
    }

    /// A node over what this one has left, which ends as in a crash.
    pub(crate) fn restart(mut self) -> Self {
        self.kill();
        let folder = self.folder.take().unwrap();
        let (engine, blobs) = (self.engine.clone(), self.blobs.clone());
        let mut node = Self::over(engine, self.runtime.clone(), blobs, Config::default());
        node.folder = Some(folder);
        node
    }

    /// One request of the API.
    pub(crate) async fn api(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<(http::response::Parts, Bytes), aws::Error> {
        let mut request = http::Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        let caller = Caller::platform(AccountId::DEFAULT);
        let context = context(caller, TraceHeader::new(&*self.env));
        let request = aws::Request { head, body: aws::body::full(body.into()), context };
        let operation = self.functions.parse(request).await?;
        assert!(!operation.access().is_empty(), "{} needs no right", operation.name());
        let (parts, body) = operation.handle().await?.into_parts();
        Ok((parts, aws::body::collect(body, 64 << 20).await?))
    }

    /// The same, of JSON.
    pub(crate) async fn json(&self, method: &str, path: &str, body: Value) -> Result<Value, aws::Error> {
        let text = if body.is_null() { String::new() } else { body.to_string() };
        let (_, body) = self.api(method, path, &[], text).await?;
        Ok(if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).unwrap() })
    }

    /// Deploys a function that runs `handler`.
    pub(crate) async fn deploy(&self, name: &str, handler: Handler) {
        self.deploy_with(name, handler, json!({})).await.unwrap();
    }

    pub(crate) async fn deploy_with(
        &self,
        name: &str,
        handler: Handler,
        extra: Value,
    ) -> Result<Value, aws::Error> {
        self.runtime.set(name, handler);
        let mut input = creation(name);
        input.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        self.json("POST", "/2015-03-31/functions", input).await
    }

    /// An invocation as events or a URL would make it.
    pub(crate) fn invocation(&self, name: &str, payload: Value) -> Invocation {
        Invocation {
            account: AccountId::DEFAULT,
            function: FunctionName { name: name.to_owned(), qualifier: None },
            request_id: RequestId::new(&*self.env),
            event: functions::Event::Json(Bytes::from(payload.to_string())),
            stream: None,
            idempotency_key: None,
            fingerprint: None,
            client_context: None,
            trace: TraceHeader::new(&*self.env),
            attempt: 0,
            redeliverable: false,
            queue_timeout: None,
            log_tail: false,
        }
    }

    pub(crate) async fn invoke(&self, name: &str, payload: Value) -> Result<Value, functions::Error> {
        let outcome = self.functions.invoke(self.invocation(name, payload)).await?;
        Ok(serde_json::from_slice(&outcome.payload).unwrap())
    }

    /// Stops what runs in the background at once, as a crash would.
    pub(crate) fn kill(&self) {
        for task in self.tasks.lock().unwrap().drain(..) {
            task.abort();
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

pub(crate) fn creation(name: &str) -> Value {
    json!({
        "FunctionName": name,
        "Runtime": "closure1.0",
        "Role": "arn:aws:iam::000000000000:role/thumb",
        "Handler": name,
        "Code": { "ZipFile": STANDARD.encode(zip("print('hello')")) },
    })
}

/// A package of one file.
pub(crate) fn zip(content: &str) -> Vec<u8> {
    zip_of("app.py", content)
}

/// A zip with one file of that name.
pub(crate) fn zip_of(name: &str, content: &str) -> Vec<u8> {
    use std::io::Write as _;
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    writer.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
    writer.write_all(content.as_bytes()).unwrap();
    writer.finish().unwrap().into_inner()
}

/// Waits until `holds`; a test that waits in vain is ended by its runner.
pub(crate) async fn until(mut holds: impl FnMut() -> bool) {
    while !holds() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
