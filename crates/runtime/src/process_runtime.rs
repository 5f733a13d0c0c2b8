//! The runtime itself: what a start takes, in which order.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use functions::{Runtime, StartError, StartRequest, Started};
use telemetry::LogEvent;
use types::SharedEnv;

use crate::api::{Exchange, error_payload};
use crate::cgroup::{Hierarchy, Limits};
use crate::code::{CodeCache, Package};
use crate::environment::{self, Places};
use crate::host::{End, Launcher, Sandbox};
use crate::instance::{ProcessInstance, exit_reason, serve_api, serve_platform};
use crate::interpreters::{Interpreters, Target};
use crate::logs::Logs;
use crate::python::PythonLibraries;
use crate::spec::{RUNTIME_API_PORT, Spec, Walls};
use crate::{Config, Error, Isolation, bootstrap};

/// The largest number of open files of a function (AWS Lambda developer guide, "Lambda quotas").
const OPEN_FILES: u64 = 1024;

/// The platform, as sandboxes reach it.
pub trait Platform: Send + Sync + std::fmt::Debug {
    /// Serves a connection that the function made to the platform's endpoint. Returns at once.
    fn serve(&self, stream: tokio::net::TcpStream, function_arn: Arc<str>);

    /// The endpoint's address on the host; sandboxes see the same port on their own loopback.
    fn address(&self) -> SocketAddr;
}

/// Runs functions as processes in sandboxes.
#[derive(Debug)]
pub struct ProcessRuntime {
    config: Config,
    platform: Arc<dyn Platform>,
    env: SharedEnv,
    launcher: Arc<Launcher>,
    interpreters: Interpreters,
    code: CodeCache,
    libraries: PythonLibraries,
    bootstraps: PathBuf,
}

impl ProcessRuntime {
    /// Looks at what the host has and tries the walls out. The error says what is missing and what to do.
    pub async fn open(
        config: Config,
        platform: Arc<dyn Platform>,
        env: SharedEnv,
    ) -> Result<Arc<Self>, Error> {
        let cache = std::path::absolute(&config.cache_dir).map_err(Error::cache(&config.cache_dir))?;
        let substitute = config.substitute_runtimes;
        let (max_unzipped_bytes, max_bytes) = (config.max_unzipped_bytes, config.max_code_cache_bytes);
        let provide_boto3 = config.provide_boto3;
        let opened = tokio::task::spawn_blocking(move || -> Result<_, Error> {
            std::fs::create_dir_all(&cache).map_err(Error::cache(&cache))?;
            let bootstraps = bootstrap::install(&cache).map_err(Error::cache(&cache))?;
            let code = CodeCache::open(cache.join("code"), max_unzipped_bytes, max_bytes)
                .map_err(Error::cache(&cache))?;
            let libraries = PythonLibraries::new(&cache, bootstraps.clone(), provide_boto3);
            Ok((bootstraps, code, libraries, Interpreters::find(substitute), Hierarchy::open()))
        })
        .await
        .map_err(|error| Error::Isolation(error.to_string()))??;
        let (bootstraps, code, libraries, interpreters, hierarchy) = opened;
        let hierarchy = match hierarchy {
            Ok(hierarchy) => Some(hierarchy),
            Err(reason) => {
                tracing::warn!(
                    reason,
                    "no control groups: functions are limited by looking at their memory every 50 ms, and have no \
                     share of CPU; run the node as root, or as a service with Delegate=yes"
                );
                None
            }
        };
        // The kernel's name for this binary stays right when the file is replaced by a newer one.
        let exe = config.sandbox_exe.clone().unwrap_or_else(|| PathBuf::from("/proc/self/exe"));
        let launcher = Launcher::new(exe, hierarchy, config.spare_sandboxes);
        let runtime =
            Arc::new(Self { config, platform, env, launcher, interpreters, code, libraries, bootstraps });
        runtime.try_walls().await?;
        runtime.launcher.refill();
        Ok(runtime)
    }

    /// Makes what functions of `runtime` need that takes long once (boto3 for Python), unless it is there. A
    /// start does so by itself; this is for showing progress.
    pub async fn prepare(&self, runtime: &str) -> Result<(), Error> {
        match self.interpreters.resolve(runtime).map_err(Error::Unsupported)? {
            Target::Python(python) => self.libraries.prepare(&python, &self.interpreters).await.map(drop),
            Target::Node(_) | Target::Provided => Ok(()),
        }
    }

    /// Makes a sandbox with nothing in it.
    async fn try_walls(&self) -> Result<(), Error> {
        let attempt = async {
            let helper = self.launcher.helper().await.map_err(|error| error.to_string())?;
            let walls = self.walls(helper.host_id, Vec::new(), 1 << 20);
            let spec = Spec {
                walls,
                argv: Vec::new(),
                environment: Vec::new(),
                directory: "/".to_owned(),
                processes: self.config.max_processes,
                open_files: OPEN_FILES,
            };
            let (mut sandbox, _) = Sandbox::make(helper, &spec, self.limits(128, 0), None).await?;
            let end = sandbox.ended().await;
            match end {
                End { failure: Some(failure), .. } => Err(failure),
                End { code: Some(0), .. } => Ok(()),
                end => Err(exit_reason(&end).0),
            }
        };
        match tokio::time::timeout(Duration::from_secs(10), attempt).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(reason)) => Err(Error::Isolation(format!(
                "this host can not wall off functions ({reason}); run the node as root, or allow user namespaces \
                 (sysctl kernel.unprivileged_userns_clone=1, kernel.apparmor_restrict_unprivileged_userns=0, \
                 user.max_user_namespaces above 0), on Linux 5.12 or later; for development alone, isolation \
                 `none` runs functions as plain processes"
            ))),
            Err(_) => Err(Error::Isolation(
                "this host did not make a sandbox within 10 s; is the binary one that calls \
                 runtime::sandbox_main_if_asked() first in main()?"
                    .to_owned(),
            )),
        }
    }

    fn walls(&self, host_id: Option<u32>, binds: Vec<(PathBuf, String)>, tmp_bytes: u64) -> Walls {
        match self.config.isolation {
            Isolation::None => Walls::Plain,
            Isolation::Auto => {
                Walls::Namespaces { host_id, binds, tmp_bytes, platform_port: self.platform.address().port() }
            }
        }
    }

    fn limits(&self, memory_mb: u32, tmp_mb: u32) -> Limits {
        Limits {
            memory_mb,
            tmp_mb,
            overhead_mb: self.config.memory_overhead_mb,
            processes: self.config.max_processes,
        }
    }

    /// Where things are for the function, and what must be mounted for that.
    fn places(
        &self,
        target: &Target,
        code: &Path,
        site: Option<PathBuf>,
        api: SocketAddr,
    ) -> (Places, Vec<(PathBuf, String)>) {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        if self.config.isolation == Isolation::None {
            let places = Places {
                task: text(code),
                runtime: text(&self.bootstraps),
                site: site.as_deref().map(text),
                api,
                platform: self.platform.address(),
            };
            return (places, Vec::new());
        }
        let mut binds = vec![
            (code.to_owned(), "/var/task".to_owned()),
            (self.bootstraps.clone(), "/var/runtime".to_owned()),
        ];
        let inside_site = format!("/var/runtime/{}", bootstrap::SITE_PACKAGES);
        let places = Places {
            task: "/var/task".to_owned(),
            runtime: "/var/runtime".to_owned(),
            site: site.is_some().then(|| inside_site.clone()),
            api,
            platform: (Ipv4Addr::LOCALHOST, self.platform.address().port()).into(),
        };
        binds.extend(site.map(|site| (site, inside_site)));
        if let Target::Python(interpreter) | Target::Node(interpreter) = target {
            binds.extend(interpreter.prefix.clone().map(|prefix| (prefix, "/var/lang".to_owned())));
        }
        (places, binds)
    }

    /// What is executed.
    fn argv(&self, target: &Target, places: &Places, memory_mb: u32) -> Vec<String> {
        let program = |interpreter: &crate::interpreters::Interpreter| match self.config.isolation {
            Isolation::None => interpreter.program.to_string_lossy().into_owned(),
            Isolation::Auto => interpreter.inside(),
        };
        match target {
            Target::Python(python) => {
                vec![program(python), "-S".to_owned(), format!("{}/bootstrap.py", places.runtime)]
            }
            Target::Node(node) => vec![
                program(node),
                format!("--max-old-space-size={}", memory_mb * 9 / 10),
                format!("--max-semi-space-size={}", (memory_mb / 20).max(1)),
                format!("{}/index.cjs", places.runtime),
            ],
            Target::Provided => vec![format!("{}/bootstrap", places.task)],
        }
    }

    /// A line for the log if `target` is not quite what was asked for.
    fn substitution(&self, runtime: &str, target: &Target) -> Option<LogEvent> {
        let instead = match target {
            Target::Python(python) => format!("python3.{}", python.version),
            Target::Node(node) => format!("nodejs{}.x", node.version),
            Target::Provided => return None,
        };
        (instead != runtime).then(|| LogEvent {
            timestamp: self.env.now(),
            message: format!("[hawker] {runtime} is not on this host: {instead} stands in for it"),
        })
    }

    async fn site(&self, target: &Target) -> Option<PathBuf> {
        let Target::Python(python) = target else { return None };
        match self.libraries.prepare(python, &self.interpreters).await {
            Ok(site) => site,
            Err(error) => {
                // Functions that do not use it, or that bring it along, run all the same.
                tracing::warn!(%error, "a Python function starts without boto3");
                None
            }
        }
    }
}

#[async_trait]
impl Runtime for ProcessRuntime {
    fn check(&self, runtime: &str) -> Result<(), String> {
        self.interpreters.resolve(runtime).map(drop)
    }

    async fn start(&self, request: StartRequest) -> Result<Started, StartError> {
        let target = self.interpreters.resolve(&request.runtime).map_err(StartError::Unsupported)?;
        let (code, site) = tokio::join!(self.code.get(&request.code), self.site(&target));
        let code = code?;
        // What was done once for all is not this start's time.
        let began = Instant::now();
        let helper = self.launcher.helper().await.map_err(|error| StartError::Platform(error.to_string()))?;
        let result = self.start_in(helper, &request, &target, &code, site, began).await;
        self.launcher.refill();
        result
    }
}

impl ProcessRuntime {
    async fn start_in(
        &self,
        mut helper: crate::host::Helper,
        request: &StartRequest,
        target: &Target,
        code: &Package,
        site: Option<PathBuf>,
        began: Instant,
    ) -> Result<Started, StartError> {
        let platform_error = |error: std::io::Error| StartError::Platform(error.to_string());
        // Without walls the Runtime API is on the host's loopback.
        let plain_api = match self.config.isolation {
            Isolation::None => Some(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(platform_error)?),
            Isolation::Auto => None,
        };
        let api = match &plain_api {
            Some(listener) => listener.local_addr().map_err(platform_error)?,
            None => (Ipv4Addr::LOCALHOST, RUNTIME_API_PORT).into(),
        };
        let (places, binds) = self.places(target, code, site, api);
        let spec = Spec {
            walls: self.walls(helper.host_id, binds, u64::from(request.ephemeral_storage_mb) << 20),
            argv: self.argv(target, &places, request.memory_mb),
            environment: environment::of(request, target, &places),
            directory: places.task.clone(),
            processes: self.config.max_processes,
            open_files: OPEN_FILES,
        };
        let pipe = helper.logs.try_clone().map_err(platform_error)?;
        let logs =
            Logs::collect(pipe, self.config.max_log_bytes, self.env.clone()).map_err(platform_error)?;
        // The pipe has one reader.
        helper.logs = std::fs::File::open("/dev/null").map_err(platform_error)?.into();
        let limits = self.limits(request.memory_mb, request.ephemeral_storage_mb);
        let (sandbox, listeners) =
            Sandbox::make(helper, &spec, limits, Some(code.clone())).await.map_err(StartError::Platform)?;
        let exchange = Exchange::new();
        let mut servers = Vec::with_capacity(2);
        let mut listeners = listeners.into_iter();
        if let Some(listener) = plain_api.or_else(|| listeners.next()) {
            servers.push(serve_api(listener, exchange.clone()).map_err(platform_error)?);
        }
        if let Some(listener) = listeners.next() {
            let arn = Arc::from(request.function_arn.as_str());
            servers.push(serve_platform(listener, self.platform.clone(), arn).map_err(platform_error)?);
        }
        let mut instance = ProcessInstance { sandbox, exchange, logs, _servers: servers };

        enum What {
            Ready,
            Ended(End),
            TimedOut,
        }
        let init_timeout = Duration::from_millis(self.config.init_timeout_ms);
        let patience = request.timeout.max(init_timeout);
        let now = tokio::time::Instant::now();
        // Nobody has more CPU than is due by never getting ready.
        let mut has_more_cpu = true;
        let what = loop {
            tokio::select! {
                biased;
                () = instance.exchange.ready() => break What::Ready,
                end = instance.sandbox.ended() => break What::Ended(end),
                () = tokio::time::sleep_until(now + patience) => break What::TimedOut,
                () = tokio::time::sleep_until(now + init_timeout), if has_more_cpu => {
                    instance.sandbox.share_cpu();
                    has_more_cpu = false;
                }
            }
        };
        let mut before = Vec::from_iter(self.substitution(&request.runtime, target));
        let mut fail = |payload: Bytes, out_of_memory: bool, logs: Vec<LogEvent>| {
            before.extend(logs);
            let logs = std::mem::take(&mut before);
            Err(StartError::Init { payload, duration: began.elapsed(), out_of_memory, logs })
        };
        match what {
            What::Ready => {
                let init_duration = began.elapsed();
                if has_more_cpu {
                    instance.sandbox.share_cpu();
                }
                instance.sandbox.set_busy(false);
                before.extend(instance.logs.take());
                Ok(Started { instance: Box::new(instance), init_duration, logs: before })
            }
            What::Ended(end) => {
                let payload = match (instance.exchange.init_error(), &end.failure) {
                    (Some(payload), _) => payload,
                    (None, Some(failure)) => return Err(StartError::Platform(failure.clone())),
                    (None, None) => {
                        let (message, kind) = exit_reason(&end);
                        error_payload(kind, &format!("Error: {message}"))
                    }
                };
                fail(payload, end.out_of_memory, instance.logs.take())
            }
            What::TimedOut => {
                let end = instance.sandbox.stop().await;
                let message = format!("Task timed out after {:.2} seconds", patience.as_secs_f64());
                let payload = error_payload("Sandbox.Timedout", &message);
                fail(payload, end.out_of_memory, instance.logs.take())
            }
        }
    }
}
