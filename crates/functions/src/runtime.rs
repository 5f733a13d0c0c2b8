//! The seam behind which code runs.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws::TemporaryCredentials;
use bytes::Bytes;
use telemetry::LogEvent;
use tokio::sync::mpsc;
use types::{AccountId, Region, RequestId, Timestamp, TraceHeader};

/// Fetches a deployment package into a new file at the given path.
#[async_trait]
pub trait CodeFetch: Send + Sync + fmt::Debug {
    /// Writes the zip to `path`, which does not exist yet.
    async fn fetch(&self, path: &Path) -> std::io::Result<()>;
}

/// A deployment package, or a layer.
#[derive(Debug, Clone)]
pub struct Code {
    /// SHA-256 of the file, 64 hex digits: the runtime unpacks each once.
    pub sha256: String,
    /// What kind of file it is.
    pub format: CodeFormat,
    /// Where to get it if it was not unpacked before.
    pub fetch: Arc<dyn CodeFetch>,
}

/// What a package is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CodeFormat {
    /// A zip of files.
    Zip,
    /// A container image: a tar of an OCI image layout, or what `docker save` writes.
    Image,
}

/// What a function overrides of its container image. What is empty is as the image says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageConfig {
    /// The program, with its first arguments.
    pub entry_point: Vec<String>,
    /// Its further arguments.
    pub command: Vec<String>,
    /// Where it starts.
    pub working_directory: Option<String>,
}

/// How a function writes its log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Lines as they come.
    Text,
    /// JSON objects, of which only those of the given level and above are kept.
    Json {
        /// The least level of the function's own lines.
        application: LogLevel,
        /// The least level of the platform's lines.
        system: LogLevel,
    },
}

/// How much a line matters, by Lambda's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "they are named by what they are")]
pub enum LogLevel {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
    Fatal,
}

impl LogLevel {
    /// The name in the API and in `AWS_LAMBDA_LOG_LEVEL`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trace => "TRACE",
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Warn => "WARN",
            Self::Error => "ERROR",
            Self::Fatal => "FATAL",
        }
    }
}

/// Why an instance is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Initialization {
    /// For a request that waits.
    OnDemand,
    /// To be ready before one comes.
    ProvisionedConcurrency,
}

impl Initialization {
    /// As `AWS_LAMBDA_INITIALIZATION_TYPE` says it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OnDemand => "on-demand",
            Self::ProvisionedConcurrency => "provisioned-concurrency",
        }
    }
}

/// Everything needed to make an instance of a function.
#[derive(Debug, Clone)]
pub struct StartRequest {
    /// Whose.
    pub account: AccountId,
    /// The node's region.
    pub region: Region,
    /// The function's unqualified ARN.
    pub function_arn: String,
    /// Its name.
    pub function_name: String,
    /// `$LATEST` or a number.
    pub version: String,
    /// Such as `python3.12`, `nodejs20.x`, `provided.al2023`.
    pub runtime: String,
    /// Such as `app.handler`.
    pub handler: String,
    /// The code.
    pub code: Code,
    /// Layers, merged into /opt in this order: later ones win.
    pub layers: Vec<Code>,
    /// What is overridden of a container image.
    pub image: ImageConfig,
    /// The user's environment variables. Names that begin with `HAWKER_` set what the platform offers beyond
    /// Lambda.
    pub environment: BTreeMap<String, String>,
    /// Memory limit in MB (2^20 bytes); CPU follows it.
    pub memory_mb: u32,
    /// Size of /tmp in MB.
    pub ephemeral_storage_mb: u32,
    /// Time limit of one invocation.
    pub timeout: Duration,
    /// What the instance may do.
    pub credentials: TemporaryCredentials,
    /// Where its logs go: for `AWS_LAMBDA_LOG_GROUP_NAME`.
    pub log_group: String,
    /// For `AWS_LAMBDA_LOG_STREAM_NAME`.
    pub log_stream: String,
    /// How it logs.
    pub log_format: LogFormat,
    /// Why it is made.
    pub initialization: Initialization,
}

/// What a function is woken with.
#[derive(Debug, Clone)]
pub enum Event {
    /// JSON, as `Invoke` takes it.
    Json(Bytes),
    /// An HTTP request, for runtimes that take one as it is ([`Runtime::takes_http`]).
    Http(Box<http::Request<Bytes>>),
}

impl Event {
    /// The JSON, or the body of the HTTP request.
    pub fn payload(&self) -> &Bytes {
        match self {
            Self::Json(payload) => payload,
            Self::Http(request) => request.body(),
        }
    }
}

/// Where an answer goes while it is written, for a caller that wants it so. The sender is bounded: a function
/// that writes faster than its caller reads waits.
pub type ResponseStream = mpsc::Sender<Piece>;

/// A piece of a streamed answer: the head comes once, before everything else.
#[derive(Debug)]
pub enum Piece {
    /// How the answer begins.
    Head(ResponseHead),
    /// A part of its body.
    Body(Bytes),
}

/// How a streamed answer begins.
#[derive(Debug)]
pub enum ResponseHead {
    /// The answer of a function that speaks the Runtime API.
    Runtime {
        /// The `Content-Type` that the function gave.
        content_type: Option<String>,
        /// Whether the function streams, or answered with one whole.
        streaming: bool,
    },
    /// An HTTP answer, to an HTTP event.
    Http(Box<http::response::Parts>),
}

/// One invocation, as an instance gets it.
#[derive(Debug, Clone)]
pub struct InvokeRequest {
    /// The request's id.
    pub request_id: RequestId,
    /// What happened.
    pub event: Event,
    /// Where the answer goes while it is written; without it, the answer comes as a whole with the result.
    pub stream: Option<ResponseStream>,
    /// By when it must have answered.
    pub deadline: Timestamp,
    /// The same, as what is left of the time.
    pub timeout: Duration,
    /// The ARN by which it was invoked, with qualifier if there was one.
    pub invoked_function_arn: String,
    /// The trace it belongs to.
    pub trace: TraceHeader,
    /// The client context, JSON, if there was one.
    pub client_context: Option<String>,
}

/// What an instance answered.
#[derive(Debug, Clone)]
pub struct InvokeResult {
    /// The answer, or the error object (`errorMessage`, `errorType`, `stackTrace`), JSON. Empty if the answer was
    /// streamed and ended well.
    pub payload: Bytes,
    /// `Unhandled` or `Handled` if the function reported an error, be it in the middle of a stream.
    pub function_error: Option<String>,
    /// From the moment the event was handed out to the answer.
    pub duration: Duration,
    /// The most memory the instance has used so far, in bytes.
    pub max_memory_bytes: u64,
    /// What it wrote to stdout and stderr since the last invocation, a line each.
    pub logs: Vec<LogEvent>,
}

/// Why an instance did not answer. The instance is gone.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Over its time: killed.
    #[error("the function did not answer within its timeout")]
    Timeout {
        /// What it wrote.
        logs: Vec<LogEvent>,
        /// The most memory it used, in bytes.
        max_memory_bytes: u64,
    },
    /// Its process ended.
    #[error("{message}")]
    Exited {
        /// As Lambda words it: `Runtime exited with error: exit status 1`, `... signal: killed`.
        message: String,
        /// `Runtime.ExitError`, or `Runtime.OutOfMemory`-like type as Lambda names it.
        error_type: String,
        /// True if the memory limit killed it.
        out_of_memory: bool,
        /// How long it ran.
        duration: Duration,
        /// What it wrote.
        logs: Vec<LogEvent>,
        /// The most memory it used, in bytes.
        max_memory_bytes: u64,
    },
    /// Its process ended before it asked for the event, which any other instance can run.
    #[error("the runtime ended before it asked for the event: {error}")]
    NotTaken {
        /// The event.
        request: Box<InvokeRequest>,
        /// How the process ended.
        error: Box<RunError>,
    },
}

/// Why an instance did not get ready.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The code failed while it was loaded: the error object it reported, or one made for it.
    #[error("the function failed to initialise")]
    Init {
        /// JSON error object, as the function reported it, or as the platform words it.
        payload: Bytes,
        /// Whether the function reported it; else it ended, or was ended, without a word.
        reported: bool,
        /// How long init took.
        duration: Duration,
        /// True if the memory limit killed it.
        out_of_memory: bool,
        /// What it wrote.
        logs: Vec<LogEvent>,
    },
    /// This host can not run that runtime; the message says what to do.
    #[error("{0}")]
    Unsupported(String),
    /// The package can not be unpacked or has no such handler; the message says why.
    #[error("{0}")]
    Code(String),
    /// The platform failed to make an environment.
    #[error("the sandbox could not be made: {0}")]
    Platform(String),
}

/// Where code runs.
#[async_trait]
pub trait Runtime: Send + Sync + fmt::Debug {
    /// Whether `runtime` (such as `python3.12`) can run here; the error says what is missing and how to get it.
    fn check(&self, runtime: &str) -> Result<(), String>;

    /// Whether functions of `runtime` take HTTP requests as they are, and answer with HTTP.
    fn takes_http(&self, _runtime: &str) -> bool {
        false
    }

    /// Does what every start of `code` would otherwise wait for: unpacks it, compiles it. Called once it is deployed,
    /// before it counts as active; a start does the same if that did not happen.
    async fn prepare(&self, _runtime: &str, _handler: &str, _code: &Code) -> Result<(), StartError> {
        Ok(())
    }

    /// True while what a start waits for is made for the first time: the libraries of its runtime installed, its code
    /// compiled. That can take longer than requests wait otherwise, so they wait for it.
    fn is_being_set_up(&self, _runtime: &str, _handler: &str, _code_sha256: &str) -> bool {
        false
    }

    /// Makes an instance and waits until it asks for its first event. Dropping the future tears it down.
    async fn start(&self, request: StartRequest) -> Result<Started, StartError>;
}

/// A ready instance.
#[derive(Debug)]
pub struct Started {
    /// The instance.
    pub instance: Box<dyn Instance>,
    /// From the beginning of the start to ready.
    pub init_duration: Duration,
    /// What it wrote while it was loaded.
    pub logs: Vec<LogEvent>,
}

/// One environment with one function's code in it, for one event at a time.
#[async_trait]
pub trait Instance: Send + Sync + fmt::Debug {
    /// Runs one event. After an error the instance is gone.
    async fn invoke(&mut self, request: InvokeRequest) -> Result<InvokeResult, RunError>;

    /// True if something of it still works on the event that it has answered: its extensions.
    fn is_settling(&self) -> bool {
        false
    }

    /// Waits until nothing does, at most until the deadline of that event; how long that took since the answer.
    async fn settle(&mut self) -> Result<Duration, RunError> {
        Ok(Duration::ZERO)
    }

    /// True while its process lives.
    fn is_alive(&mut self) -> bool;

    /// Ends it and waits until nothing of it is left. Dropping does the same in the background.
    async fn stop(self: Box<Self>);
}
