//! The cold start.

use std::sync::Arc;
use std::time::Duration;

use telemetry::{LogEvent, LogLines};
use types::{AccountId, ErrorKind};

use super::function::Deployed;
use super::lines::{self, InitStart};
use super::machine::Grant;
use super::pool::{InitFailure, Live, Pool, StartFailure};
use crate::code::FetchBlob;
use crate::service::Inner;
use crate::tables::{CodeRef, FunctionRow, ImageRow, LoggingRow};
use crate::{
    Code, CodeFormat, Error, ImageConfig, Initialization, LogFormat, LogLevel, StartError, StartRequest,
};

/// How long an instance's credentials hold (AWS: a role session of one hour, where the role allows it).
const SESSION: Duration = Duration::from_secs(3600);

/// An instance with less would be replaced as soon as it is made.
const LEAST: Duration = Duration::from_secs(1);

/// Tells the pool of a failure if the start ends without having told it anything.
struct Untold<'a> {
    inner: &'a Arc<Inner>,
    pool: &'a Arc<Pool>,
    armed: bool,
}

impl Drop for Untold<'_> {
    fn drop(&mut self) {
        if self.armed {
            let failure = StartFailure::Other(Error::Platform("The start was interrupted.".into()));
            self.pool.start_failed(self.inner, failure);
        }
    }
}

impl Inner {
    /// Makes an instance of `deployed` and gives it to its pool.
    pub(crate) async fn start(
        self: Arc<Self>,
        pool: Arc<Pool>,
        deployed: Arc<Deployed>,
        initialization: Initialization,
        grant: Grant,
    ) {
        let mut untold = Untold { inner: &self, pool: &pool, armed: true };
        let outcome = self.make(&deployed, initialization, grant).await;
        untold.armed = false;
        match outcome {
            Ok(live) => pool.started(&self, live),
            Err(failure) => pool.start_failed(&self, failure),
        }
    }

    async fn make(
        &self,
        deployed: &Arc<Deployed>,
        initialization: Initialization,
        grant: Grant,
    ) -> Result<Live, StartFailure> {
        let other = StartFailure::Other;
        let (account, row) = (deployed.account, &deployed.row);
        let assumed = self.roles.assume(account, &row.role, &row.name, "lambda.amazonaws.com", SESSION).await;
        let credentials = assumed.map_err(|error| {
            tracing::warn!(function = %deployed.arn, role = %row.role, %error, "a role could not be assumed");
            other(match error.kind {
                ErrorKind::Unavailable | ErrorKind::Internal | ErrorKind::Throttled | ErrorKind::Timeout => {
                    Error::Platform(error.message)
                }
                ErrorKind::Invalid
                | ErrorKind::NotFound
                | ErrorKind::Conflict
                | ErrorKind::PreconditionFailed
                | ErrorKind::Unauthenticated
                | ErrorKind::Denied
                | ErrorKind::TooLarge
                | ErrorKind::Unsupported => Error::RoleNotAssumable,
            })
        })?;
        let began = self.env.now();
        // An invocation that begins at the last moment must still end with valid credentials.
        let valid = Duration::try_from(credentials.expires_at.duration_since(began)).unwrap_or_default();
        if valid < LEAST {
            let message = "The credentials of the role end before they could be used.".to_owned();
            return Err(other(Error::Platform(message)));
        }
        let reserve = Duration::from_secs(u64::from(row.timeout_s)).min(valid / 2);
        let retire_at = self.env.monotonic() + valid - reserve;
        let mut instance = [0; 16];
        self.env.fill(&mut instance);
        let log_stream = lines::stream(began, deployed.version, instance);
        let log_format = log_format(&row.logging);
        let request = StartRequest {
            account,
            region: self.region.clone(),
            function_arn: deployed.arn.as_ref().to_owned(),
            function_name: row.name.clone(),
            version: deployed.version.to_string(),
            runtime: row.runtime.clone(),
            handler: row.handler.clone(),
            code: self.code(account, &row.code, package_format(row)),
            layers: row.layers.iter().map(|layer| self.code(account, &layer.code, CodeFormat::Zip)).collect(),
            image: image_config(row.image.as_ref()),
            environment: row.environment.clone(),
            memory_mb: row.memory_mb,
            ephemeral_storage_mb: row.ephemeral_storage_mb,
            timeout: Duration::from_secs(u64::from(row.timeout_s)),
            credentials,
            log_group: row.log_group.clone(),
            log_stream: log_stream.clone(),
            log_format,
            initialization,
        };
        let started = self.runtime.start(request).await;
        let init_start = InitStart {
            function: &row.name,
            version: deployed.version,
            runtime: &row.runtime,
            region: self.region.as_str(),
            initialization,
        };
        let at = |timestamp: types::Timestamp, message: Option<String>| {
            message.map(|message| LogEvent { timestamp, message })
        };
        let mut events = Vec::from_iter(at(began, init_start.line(log_format, began)));
        let result = match started {
            Ok(started) => {
                events.extend(started.logs);
                Ok(Live {
                    instance: started.instance,
                    deployed: deployed.clone(),
                    log_stream: log_stream.clone(),
                    init: Some(started.init_duration),
                    retire_at,
                    idle_since: Duration::ZERO,
                    grant,
                })
            }
            Err(StartError::Init { payload, reported, duration, out_of_memory, logs }) => {
                events.extend(logs);
                let error_type = error_type(&payload, out_of_memory);
                let now = self.env.now();
                events.extend(at(now, lines::init_report(log_format, now, duration, &error_type)));
                Err(StartFailure::Init(Box::new(InitFailure {
                    deployed: deployed.clone(),
                    log_stream: log_stream.clone(),
                    payload,
                    reported,
                    duration,
                    out_of_memory,
                    events: lines::last(&events).to_vec(),
                })))
            }
            Err(StartError::Unsupported(message)) => Err(other(Error::Runtime(message))),
            Err(StartError::Code(message)) => Err(other(Error::Code(message))),
            Err(StartError::Platform(message)) => {
                tracing::error!(function = %deployed.arn, %message, "an instance could not be made");
                Err(other(Error::Platform(message)))
            }
        };
        let group = row.log_group.clone();
        if !events.is_empty() {
            self.telemetry.log(LogLines { account, group, stream: log_stream, events }).await;
        }
        result
    }

    /// Has the runtime do in the background what the first start of `row` would wait for.
    pub(crate) fn prepare(self: &Arc<Self>, account: AccountId, row: &FunctionRow) {
        let code = self.code(account, &row.code, package_format(row));
        let (inner, runtime, handler, name) =
            (self.clone(), row.runtime.clone(), row.handler.clone(), row.name.clone());
        tokio::spawn(async move {
            // The first invocation hears of it too.
            if let Err(error) = inner.runtime.prepare(&runtime, &handler, &code).await {
                tracing::warn!(function = name, %error, "a package could not be prepared");
            }
        });
    }

    fn code(&self, account: AccountId, code: &CodeRef, format: CodeFormat) -> Code {
        let (blobs, store) = (self.blobs.clone(), self.store.clone());
        let fetch = FetchBlob { blobs, store, account, code: code.clone() };
        Code { sha256: code.sha256.clone(), format, fetch: Arc::new(fetch) }
    }
}

fn package_format(row: &FunctionRow) -> CodeFormat {
    if row.image.is_some() { CodeFormat::Image } else { CodeFormat::Zip }
}

fn image_config(image: Option<&ImageRow>) -> ImageConfig {
    image.map_or_else(ImageConfig::default, |image| ImageConfig {
        entry_point: image.entry_point.clone(),
        command: image.command.clone(),
        working_directory: image.working_directory.clone(),
    })
}

/// How a function logs.
pub(crate) fn log_format(row: &LoggingRow) -> LogFormat {
    let level = |name: &Option<String>| match name.as_deref() {
        Some("TRACE") => LogLevel::Trace,
        Some("DEBUG") => LogLevel::Debug,
        Some("WARN") => LogLevel::Warn,
        Some("ERROR") => LogLevel::Error,
        Some("FATAL") => LogLevel::Fatal,
        // What is stored was checked; `INFO` is the default.
        Some(_) | None => LogLevel::Info,
    };
    if row.json {
        LogFormat::Json { application: level(&row.application_level), system: level(&row.system_level) }
    } else {
        LogFormat::Text
    }
}

/// The `errorType` of an error object.
pub(crate) fn error_type(payload: &[u8], out_of_memory: bool) -> String {
    #[derive(serde::Deserialize)]
    struct ErrorObject {
        #[serde(rename = "errorType")]
        error_type: Option<String>,
    }
    if out_of_memory {
        return "Runtime.OutOfMemory".to_owned();
    }
    let object: Option<ErrorObject> = serde_json::from_slice(payload).ok();
    object.and_then(|object| object.error_type).unwrap_or_else(|| "Runtime.Unknown".to_owned())
}
