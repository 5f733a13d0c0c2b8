//! A cold start: what it takes, in which order, and its limits (AWS Lambda developer guide, "Understanding the Lambda
//! execution environment lifecycle").

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use functions::{CodeFormat, Initialization, LogFormat, LogLevel, StartError, StartRequest, Started};
use telemetry::LogEvent;

use crate::api::{Exchange, Facts, Reason, error_payload};
use crate::code::ContainerImage;
use crate::ending::exit_reason_of;
use crate::host::{Helper, Joints, Sandbox};
use crate::instance::ProcessInstance;
use crate::interpreters::Target;
use crate::logs::{Logs, Rules};
use crate::plan::{Parts, Plan};
use crate::process_runtime::OPEN_FILES;
use crate::ready::{Filling, Standing};
use crate::servers::{serve_api, serve_platform};
use crate::spec::{RUNTIME_API_PORT, Spec};
use crate::telemetry_api::{About, InvokeStatus, Source, Telemetry, init_report_line};
use crate::{Isolation, ProcessRuntime};

/// How many external extensions there may be (AWS Lambda developer guide, "Lambda quotas").
const MAX_EXTENSIONS: usize = 10;

/// Where an instance is made.
enum Place {
    /// In a sandbox that stands ready.
    Ready(Standing),
    /// In one that this process makes.
    New(Helper),
}

/// How an attempt went.
enum Attempt {
    Ready(Box<ProcessInstance>, Vec<LogEvent>),
    Failed { payload: Bytes, reported: bool, out_of_memory: bool, logs: Vec<LogEvent> },
    TimedOut { logs: Vec<LogEvent>, out_of_memory: bool },
}

fn platform(error: impl std::fmt::Display) -> StartError {
    StartError::Platform(error.to_string())
}

impl ProcessRuntime {
    pub(crate) async fn start_instance(&self, request: &StartRequest) -> Result<Started, StartError> {
        let parts = self.gather(request).await?;
        // What was done once for all is not this start's time.
        let began = Instant::now();
        let result = self.start_within_limits(request, &parts, began).await;
        self.launcher.refill();
        self.ready.refill();
        result
    }

    /// One that is not ready in time is started once more, and has the function's own time then, as Lambda does with
    /// the first invocation.
    async fn start_within_limits(
        &self,
        request: &StartRequest,
        parts: &Parts,
        began: Instant,
    ) -> Result<Started, StartError> {
        let mut before = Vec::from_iter(self.substitution(&request.runtime, &parts.target));
        let (mut limit, mut again) = match request.initialization {
            Initialization::OnDemand => (self.config.init_timeout_ms, true),
            Initialization::ProvisionedConcurrency => (self.config.provisioned_init_timeout_ms, false),
        };
        let mut first = true;
        loop {
            let patience = Duration::from_millis(limit);
            let begun = Instant::now();
            let attempt = self.attempt(request, parts, patience, first).await?;
            first = false;
            let duration = began.elapsed();
            match attempt {
                Attempt::Ready(mut instance, logs) => {
                    instance.set_init(begun.elapsed());
                    before.extend(logs);
                    return Ok(Started { instance, init_duration: duration, logs: before });
                }
                Attempt::Failed { payload, reported, out_of_memory, logs } => {
                    before.extend(logs);
                    let logs = before;
                    return Err(StartError::Init { payload, reported, duration, out_of_memory, logs });
                }
                Attempt::TimedOut { logs, .. } if again => {
                    before.extend(logs);
                    before.extend(self.init_report(request, begun.elapsed()));
                    again = false;
                    limit = u64::try_from(request.timeout.as_millis()).unwrap_or(u64::MAX);
                }
                Attempt::TimedOut { logs, out_of_memory } => {
                    before.extend(logs);
                    let message = format!("Task timed out after {:.2} seconds", patience.as_secs_f64());
                    let payload = error_payload("Sandbox.Timedout", &message);
                    let (reported, logs) = (false, before);
                    return Err(StartError::Init { payload, reported, duration, out_of_memory, logs });
                }
            }
        }
    }

    /// The line of the platform for an init that took too long.
    fn init_report(&self, request: &StartRequest, duration: Duration) -> Option<LogEvent> {
        let timestamp = self.env.now();
        let message = match request.log_format {
            LogFormat::Text => format!(
                "INIT_REPORT Init Duration: {:.2} ms\tPhase: init\tStatus: timeout",
                duration.as_secs_f64() * 1000.0
            ),
            // It is a line of this level.
            LogFormat::Json { system, .. } if system > LogLevel::Info => return None,
            LogFormat::Json { .. } => {
                init_report_line(timestamp, request.initialization, InvokeStatus::Timeout, duration)
            }
        };
        Some(LogEvent { timestamp, message })
    }

    async fn gather(&self, request: &StartRequest) -> Result<Parts, StartError> {
        let target = match request.code.format {
            CodeFormat::Zip => {
                self.interpreters.resolve(&request.runtime).map_err(StartError::Unsupported)?
            }
            CodeFormat::Image if self.config.isolation == Isolation::None => {
                return Err(StartError::Unsupported(
                    "container images need isolation: `isolation = \"none\"` runs zip packages only"
                        .to_owned(),
                ));
            }
            CodeFormat::Image => Target::Image,
        };
        let (code, extra) = tokio::join!(self.code.get(&request.code), self.extra(&target));
        let (code, extra) = (code?, extra?);
        let mut layers = match &request.layers[..] {
            [] => Vec::new(),
            layers => self.code.layers(&code, layers).await?,
        };
        if !layers.is_empty() && !self.mounts_layers {
            layers = vec![self.code.merged(&layers).await?];
        }
        let image = match target {
            Target::Image => Some(ContainerImage::of(&code)?),
            Target::Python(_) | Target::Node(_) | Target::Java(_) | Target::Ruby(_) | Target::Provided => {
                None
            }
        };
        if let Some(image) = &image
            && image.argv(&request.image).0.is_empty()
        {
            return Err(StartError::Code(
                "the container image has neither an entry point nor a command; give it one, or the function an \
                 ImageConfig"
                    .to_owned(),
            ));
        }
        let extensions = match &image {
            Some(_) => extensions(&[ContainerImage::root(&code).join("opt")])?,
            None => extensions(&layers.iter().map(|layer| layer.to_path_buf()).collect::<Vec<_>>())?,
        };
        Ok(Parts { target, code, layers, image, extra, extensions })
    }

    /// What functions of a language are given, made once.
    pub(crate) async fn extra(&self, target: &Target) -> Result<Option<PathBuf>, StartError> {
        match target {
            Target::Python(python) => match self.libraries.prepare(python, &self.interpreters).await {
                Ok(site) => Ok(site),
                Err(error) => {
                    // Functions that do not use it, or that bring it along, run all the same.
                    tracing::warn!(%error, "a Python function starts without boto3");
                    Ok(None)
                }
            },
            Target::Java(java) => match self.java.prepare(java).await {
                Ok(classes) => Ok(Some(classes)),
                Err(error) => Err(StartError::Unsupported(error.to_string())),
            },
            Target::Node(_) | Target::Ruby(_) | Target::Provided | Target::Image => Ok(None),
        }
    }

    async fn attempt(
        &self,
        request: &StartRequest,
        parts: &Parts,
        patience: Duration,
        first: bool,
    ) -> Result<Attempt, StartError> {
        // Without walls the Runtime API is on the host's loopback.
        let plain_api = match self.config.isolation {
            Isolation::None => Some(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(platform)?),
            Isolation::Auto => None,
        };
        let api = match &plain_api {
            Some(listener) => listener.local_addr().map_err(platform)?,
            None => (Ipv4Addr::LOCALHOST, RUNTIME_API_PORT).into(),
        };
        let plan = self.plan(request, parts, api);
        let place = match self.standing_for(request, parts, &plan).await {
            Some(standing) => Place::Ready(standing),
            None => Place::New(self.launcher.helper().await.map_err(platform)?),
        };
        let stood_ready = matches!(place, Place::Ready(_));
        let began = tokio::time::Instant::now();
        let made = self.make(place, plan, plain_api, request, parts).await;
        let mut instance = match made {
            Ok(instance) => Box::new(instance),
            Err(StartError::Platform(reason)) if stood_ready => {
                self.ready.distrust(&reason);
                return Box::pin(self.attempt(request, parts, patience, first)).await;
            }
            Err(error) => return Err(error),
        };
        instance.telemetry.init_start();
        // Under the function's own time it has its own share of CPU too.
        let mut has_more_cpu = first;
        if !has_more_cpu {
            instance.sandbox.share_cpu();
        }
        enum What {
            Ready,
            Fault(String, &'static str),
            Ended,
            TimedOut,
        }
        let loading_until = began + Duration::from_millis(self.config.init_timeout_ms);
        let exchange = instance.exchange.clone();
        let what = {
            let (telemetry, door) = (instance.telemetry.clone(), instance.door.clone());
            let waits_for_extensions = !parts.extensions.is_empty();
            let load = async {
                if waits_for_extensions {
                    exchange.extensions_registered().await;
                    if let Err(error) = door.start().await {
                        tracing::warn!(%error, "a function could not be started after its extensions");
                    }
                }
                exchange.booted().await;
                telemetry.init_runtime_done(InvokeStatus::Success);
                exchange.ready().await;
            };
            tokio::pin!(load);
            loop {
                tokio::select! {
                    biased;
                    () = &mut load => break What::Ready,
                    fault = exchange.fault() => break What::Fault(fault.message, fault.kind),
                    () = instance.sandbox.broken() => break What::Ended,
                    () = tokio::time::sleep_until(began + patience) => break What::TimedOut,
                    // Nobody has more CPU than is due by never getting ready.
                    () = tokio::time::sleep_until(loading_until), if has_more_cpu => {
                        instance.sandbox.share_cpu();
                        has_more_cpu = false;
                    }
                }
            }
        };
        Ok(match what {
            What::Ready => {
                if has_more_cpu {
                    instance.sandbox.share_cpu();
                }
                instance.sandbox.set_busy(false);
                instance.telemetry.init_report(InvokeStatus::Success, began.elapsed());
                instance.exchange.close_registration();
                let logs = instance.logs.take();
                Attempt::Ready(instance, logs)
            }
            What::Fault(message, kind) => {
                instance.end(Reason::Failure).await;
                let payload = error_payload(kind, &message);
                let logs = instance.logs.take();
                Attempt::Failed { payload, reported: false, out_of_memory: false, logs }
            }
            What::Ended => {
                let end = instance.end(Reason::Failure).await;
                let (payload, reported) = match (instance.exchange.init_error(), &end.failure) {
                    (Some(payload), _) => (payload, true),
                    // It could not be filled: nothing of the function has run.
                    (None, Some(failure)) if stood_ready => {
                        self.ready.distrust(failure);
                        return Box::pin(self.attempt(request, parts, patience, first)).await;
                    }
                    (None, Some(failure)) => return Err(StartError::Platform(failure.clone())),
                    (None, None) => {
                        let (message, kind) = exit_reason_of(&end, &parts.extensions);
                        (error_payload(kind, &message), false)
                    }
                };
                let (out_of_memory, logs) = (end.out_of_memory, instance.logs.take());
                Attempt::Failed { payload, reported, out_of_memory, logs }
            }
            What::TimedOut => {
                let end = instance.end(Reason::Timeout).await;
                Attempt::TimedOut { logs: instance.logs.take(), out_of_memory: end.out_of_memory }
            }
        })
    }

    /// Makes the sandbox and what serves it, in one that stands ready if it can.
    async fn make(
        &self,
        place: Place,
        plan: Plan,
        plain_api: Option<TcpListener>,
        request: &StartRequest,
        parts: &Parts,
    ) -> Result<ProcessInstance, StartError> {
        let limits = self.limits(request.memory_mb, request.ephemeral_storage_mb);
        let in_use = std::iter::once(&parts.code).chain(&parts.layers).cloned().collect();
        let handler = plan.handler.clone();
        let made = match place {
            Place::Ready(standing) => {
                let filling = Filling { limits, in_use, tmp_bytes: plan.mounts.tmp_bytes };
                standing.fill(filling, plan.environment).await
            }
            Place::New(mut helper) => {
                let spec = Spec {
                    walls: self.walls(helper.host_id, plan.mounts),
                    argv: plan.argv,
                    wrapped: plan.wrapped,
                    environment: plan.environment,
                    directory: plan.directory,
                    extensions: plan.extensions,
                    stands_ready: false,
                    processes: self.config.max_processes,
                    open_files: OPEN_FILES,
                };
                let pipe = helper.take_logs().map_err(platform)?;
                Sandbox::make(helper, &spec, limits, in_use)
                    .await
                    .map(|(sandbox, joints)| (sandbox, joints, pipe))
            }
        };
        let (sandbox, joints, pipe) = made.map_err(StartError::Platform)?;
        let Joints { listeners, door, extension_logs } = joints;
        let about = About {
            function_name: request.function_name.clone(),
            version: request.version.clone(),
            runtime: request.runtime.clone(),
            region: request.region.as_str().to_owned(),
            memory_mb: request.memory_mb,
            initialization: request.initialization,
            log_format: request.log_format,
        };
        let telemetry = Telemetry::new(about, door.clone(), self.env.clone());
        let mut pipes = vec![(Source::Function, pipe)];
        if !parts.extensions.is_empty() {
            rustix::io::ioctl_fionbio(&extension_logs, true).map_err(platform)?;
            pipes.push((Source::Extension, extension_logs));
        }
        let rules = Rules {
            limit_bytes: self.config.max_log_bytes,
            least: match request.log_format {
                LogFormat::Json { application, .. } => Some(application),
                LogFormat::Text => None,
            },
        };
        let logs = Logs::collect(pipes, rules, telemetry.clone(), self.env.clone()).map_err(platform)?;
        let facts = Facts {
            account: request.account.to_string(),
            function_name: request.function_name.clone(),
            version: request.version.clone(),
            handler,
        };
        let exchange = Exchange::new(facts, &parts.extensions, telemetry.clone());
        let mut servers = Vec::with_capacity(2);
        let mut listeners = listeners.into_iter();
        if let Some(listener) = plain_api.or_else(|| listeners.next()) {
            servers.push(serve_api(listener, exchange.clone()).map_err(platform)?);
        }
        if let Some(listener) = listeners.next() {
            let arn = Arc::from(request.function_arn.as_str());
            servers.push(serve_platform(listener, self.platform.clone(), arn).map_err(platform)?);
        }
        Ok(ProcessInstance::new(sandbox, exchange, logs, telemetry, door, parts.extensions.clone(), servers))
    }

    /// A line for the log if `target` is not quite what was asked for.
    fn substitution(&self, runtime: &str, target: &Target) -> Option<LogEvent> {
        let instead = target.runtime()?;
        (instead != runtime).then(|| LogEvent {
            timestamp: self.env.now(),
            message: format!("[hawker] {runtime} is not on this host: {instead} stands in for it"),
        })
    }
}

/// The external extensions: the executable files of `extensions/` in what is shown as /opt.
fn extensions(directories: &[PathBuf]) -> Result<Vec<String>, StartError> {
    let mut names = std::collections::BTreeSet::new();
    for directory in directories {
        for entry in fs::read_dir(directory.join("extensions")).into_iter().flatten().flatten() {
            // A link is looked up inside of the sandbox, if at all.
            let executable = entry
                .metadata()
                .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0);
            match entry.file_name().into_string() {
                Ok(name) if executable => {
                    names.insert(name);
                }
                Ok(_) | Err(_) => {}
            }
        }
    }
    if names.len() > MAX_EXTENSIONS {
        return Err(StartError::Code(format!(
            "the function has {} extensions, the limit is {MAX_EXTENSIONS}",
            names.len()
        )));
    }
    Ok(names.into_iter().collect())
}
