//! A cold start: what it takes, in which order, and its limits (AWS Lambda developer guide, "Understanding the Lambda
//! execution environment lifecycle").

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use functions::{CodeFormat, Initialization, LogFormat, LogLevel, StartError, StartRequest, Started};
use telemetry::LogEvent;

use crate::api::{Exchange, Facts, Reason, error_payload};
use crate::code::{ContainerImage, Package};
use crate::ending::exit_reason_of;
use crate::environment::{self, Places};
use crate::host::{Helper, Joints, Sandbox};
use crate::instance::ProcessInstance;
use crate::interpreters::{Interpreter, Target};
use crate::logs::{Logs, Rules};
use crate::process_runtime::{Mounts, OPEN_FILES};
use crate::servers::{serve_api, serve_platform};
use crate::spec::{RUNTIME_API_PORT, Spec};
use crate::telemetry_api::{About, InvokeStatus, Source, Telemetry, init_report_line};
use crate::{Isolation, ProcessRuntime, bootstrap};

/// How many external extensions there may be (AWS Lambda developer guide, "Lambda quotas").
const MAX_EXTENSIONS: usize = 10;

/// What a function is made of, all of it there.
struct Parts {
    target: Target,
    code: Package,
    layers: Vec<Package>,
    image: Option<ContainerImage>,
    /// boto3 for Python, the bootstrap's classes for Java.
    extra: Option<PathBuf>,
    /// The names of its external extensions.
    extensions: Vec<String>,
}

/// How an attempt went.
enum Attempt {
    Ready(Box<ProcessInstance>, Vec<LogEvent>),
    Failed { payload: Bytes, out_of_memory: bool, logs: Vec<LogEvent> },
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
                Attempt::Failed { payload, out_of_memory, logs } => {
                    before.extend(logs);
                    return Err(StartError::Init { payload, duration, out_of_memory, logs: before });
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
                    return Err(StartError::Init { payload, duration, out_of_memory, logs: before });
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
        let helper = self.launcher.helper().await.map_err(platform)?;
        let began = tokio::time::Instant::now();
        let mut instance = Box::new(self.make(helper, request, parts).await?);
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
        let failed = |instance: &ProcessInstance, payload: Bytes, out_of_memory: bool| Attempt::Failed {
            payload,
            out_of_memory,
            logs: instance.logs.take(),
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
                failed(&instance, error_payload(kind, &message), false)
            }
            What::Ended => {
                let end = instance.end(Reason::Failure).await;
                let payload = match (instance.exchange.init_error(), &end.failure) {
                    (Some(payload), _) => payload,
                    (None, Some(failure)) => return Err(StartError::Platform(failure.clone())),
                    (None, None) => {
                        let (message, kind) = exit_reason_of(&end, &parts.extensions);
                        error_payload(kind, &format!("Error: {message}"))
                    }
                };
                failed(&instance, payload, end.out_of_memory)
            }
            What::TimedOut => {
                let end = instance.end(Reason::Timeout).await;
                Attempt::TimedOut { logs: instance.logs.take(), out_of_memory: end.out_of_memory }
            }
        })
    }

    /// Makes the sandbox and what serves it.
    async fn make(
        &self,
        mut helper: Helper,
        request: &StartRequest,
        parts: &Parts,
    ) -> Result<ProcessInstance, StartError> {
        // Without walls the Runtime API is on the host's loopback.
        let plain_api = match self.config.isolation {
            Isolation::None => Some(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(platform)?),
            Isolation::Auto => None,
        };
        let api = match &plain_api {
            Some(listener) => listener.local_addr().map_err(platform)?,
            None => (Ipv4Addr::LOCALHOST, RUNTIME_API_PORT).into(),
        };
        let (places, mounts) = self.places(request, parts, api);
        let (argv, wrapped, handler) = self.argv(request, parts, &places);
        let mut environment = environment::of(request, &parts.target, &places, parts.image.as_ref());
        if parts.image.is_some() {
            environment.push(("_HANDLER".to_owned(), handler.clone()));
        }
        let directory = match &parts.image {
            Some(image) => image.working_directory(&request.image),
            None => places.task.clone(),
        };
        let extensions =
            parts.extensions.iter().map(|name| format!("{}/extensions/{name}", places.opt)).collect();
        let spec = Spec {
            walls: self.walls(helper.host_id, mounts),
            argv,
            wrapped,
            environment,
            directory,
            extensions,
            processes: self.config.max_processes,
            open_files: OPEN_FILES,
        };
        let pipe = helper.logs.try_clone().map_err(platform)?;
        // The pipe has one reader.
        helper.logs = std::fs::File::open("/dev/null").map_err(platform)?.into();
        let limits = self.limits(request.memory_mb, request.ephemeral_storage_mb);
        let in_use = std::iter::once(&parts.code).chain(&parts.layers).cloned().collect();
        let (sandbox, joints) =
            Sandbox::make(helper, &spec, limits, in_use).await.map_err(StartError::Platform)?;
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

    /// Where things are for the function, and what must be mounted for that.
    fn places(&self, request: &StartRequest, parts: &Parts, api: SocketAddr) -> (Places, Mounts) {
        let Parts { target, code, layers, extra, .. } = parts;
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let site = match target {
            Target::Python(_) => extra.as_deref(),
            Target::Node(_) | Target::Java(_) | Target::Ruby(_) | Target::Provided | Target::Image => None,
        };
        if self.config.isolation == Isolation::None {
            let places = Places {
                task: text(code),
                runtime: text(&self.bootstraps),
                // They are in one directory here.
                opt: layers.first().map_or_else(|| "/opt".to_owned(), |layer| text(layer)),
                site: site.map(text),
                api,
                platform: self.platform.address(),
            };
            return (places, Mounts::default());
        }
        let inside_site = format!("/var/runtime/{}", bootstrap::SITE_PACKAGES);
        let places = Places {
            task: "/var/task".to_owned(),
            runtime: "/var/runtime".to_owned(),
            opt: "/opt".to_owned(),
            site: site.map(|_| inside_site.clone()),
            api,
            platform: (Ipv4Addr::LOCALHOST, self.platform.address().port()).into(),
        };
        let mut mounts = Mounts {
            tmp_bytes: u64::from(request.ephemeral_storage_mb) << 20,
            layers: layers.iter().map(|layer| layer.to_path_buf()).collect(),
            ..Mounts::default()
        };
        if parts.image.is_some() {
            mounts.root = Some(ContainerImage::root(code));
            return (places, mounts);
        }
        mounts.binds = vec![
            (code.to_path_buf(), "/var/task".to_owned()),
            (self.bootstraps.clone(), "/var/runtime".to_owned()),
        ];
        mounts.binds.extend(site.map(|site| (site.to_owned(), inside_site)));
        if let Target::Java(java) = target {
            mounts.binds.extend(extra.clone().map(|classes| (classes, crate::java::INSIDE.to_owned())));
            mounts.binds.extend(crate::java::configuration(java).map(|path| (path.clone(), text(&path))));
        }
        if let Some(interpreter) = target.interpreter() {
            mounts.binds.extend(interpreter.prefix.clone().map(|prefix| (prefix, "/var/lang".to_owned())));
        }
        (places, mounts)
    }

    /// What is executed, whether the user's wrapper comes first, and the handler.
    fn argv(&self, request: &StartRequest, parts: &Parts, places: &Places) -> (Vec<String>, bool, String) {
        let program = |interpreter: &Interpreter| match self.config.isolation {
            Isolation::None => interpreter.program.to_string_lossy().into_owned(),
            Isolation::Auto => interpreter.inside(),
        };
        let Places { runtime, task, .. } = places;
        let memory_mb = request.memory_mb;
        let mut handler = request.handler.clone();
        let mut argv = match &parts.target {
            Target::Python(python) => {
                vec![program(python), "-S".to_owned(), format!("{runtime}/bootstrap.py")]
            }
            Target::Node(node) => vec![
                program(node),
                format!("--max-old-space-size={}", memory_mb * 9 / 10),
                format!("--max-semi-space-size={}", (memory_mb / 20).max(1)),
                format!("{runtime}/index.cjs"),
            ],
            Target::Java(java) => {
                let classes = match (self.config.isolation, &parts.extra) {
                    (Isolation::None, Some(classes)) => classes.to_string_lossy().into_owned(),
                    (Isolation::None, None) | (Isolation::Auto, _) => crate::java::INSIDE.to_owned(),
                };
                crate::java::argv(program(java), &classes, places, &parts.code, request)
            }
            Target::Ruby(ruby) => {
                vec![program(ruby), "--disable-did_you_mean".to_owned(), format!("{runtime}/bootstrap.rb")]
            }
            Target::Provided => return (vec![format!("{task}/bootstrap")], false, handler),
            Target::Image => {
                let image = parts.image.as_ref();
                let (argv, command) = image.map(|image| image.argv(&request.image)).unwrap_or_default();
                handler = command.unwrap_or(handler);
                return (argv, false, handler);
            }
        };
        let wrapper = request.environment.get("AWS_LAMBDA_EXEC_WRAPPER").filter(|path| !path.is_empty());
        if let Some(wrapper) = wrapper {
            argv.insert(0, wrapper.clone());
        }
        (argv, wrapper.is_some(), handler)
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
