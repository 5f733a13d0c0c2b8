//! The runtime itself: what a node's functions share.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use functions::{Code, Runtime, StartError, StartRequest, Started};
use types::SharedEnv;

use crate::cgroup::{Hierarchy, Limits};
use crate::code::{CodeCache, MaxUnpacked};
use crate::ending::exit_reason;
use crate::host::{End, Launcher, Sandbox};
use crate::interpreters::{Interpreters, Target};
use crate::java::JavaBootstrap;
use crate::python::PythonLibraries;
use crate::ready::{Ready, ReadySandboxes};
use crate::spec::{Namespaces, Spec, Walls};
use crate::{Config, Error, Isolation, bootstrap};

/// The largest number of open files of a function (AWS Lambda developer guide, "Lambda quotas").
pub(crate) const OPEN_FILES: u64 = 1024;

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
    pub(crate) config: Config,
    pub(crate) platform: Arc<dyn Platform>,
    pub(crate) env: SharedEnv,
    pub(crate) launcher: Arc<Launcher>,
    pub(crate) ready: Arc<Ready>,
    pub(crate) interpreters: Interpreters,
    pub(crate) code: CodeCache,
    pub(crate) libraries: PythonLibraries,
    pub(crate) java: JavaBootstrap,
    pub(crate) bootstraps: PathBuf,
    /// Whether layers can be mounted together; elsewhere they are put together in the cache.
    pub(crate) mounts_layers: bool,
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
        let max_unpacked = MaxUnpacked { zip: config.max_unzipped_bytes, image: config.max_image_bytes };
        let max_bytes = config.max_code_cache_bytes;
        let provide_boto3 = config.provide_boto3;
        let opened = tokio::task::spawn_blocking(move || -> Result<_, Error> {
            std::fs::create_dir_all(&cache).map_err(Error::cache(&cache))?;
            let bootstraps = bootstrap::install(&cache).map_err(Error::cache(&cache))?;
            let code =
                CodeCache::open(cache.join("code"), max_unpacked, max_bytes).map_err(Error::cache(&cache))?;
            let libraries = PythonLibraries::new(&cache, bootstraps.clone(), provide_boto3);
            let java = JavaBootstrap::new(&cache);
            Ok((bootstraps, code, libraries, java, Interpreters::find(substitute), Hierarchy::open()))
        })
        .await
        .map_err(|error| Error::Isolation(error.to_string()))??;
        let (bootstraps, code, libraries, java, interpreters, hierarchy) = opened;
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
        let ready = Ready::new(&config, platform.address().port(), launcher.clone());
        let mut runtime = Self {
            config,
            platform,
            env,
            launcher,
            ready,
            interpreters,
            code,
            libraries,
            java,
            bootstraps,
            mounts_layers: false,
        };
        runtime.mounts_layers = runtime.try_walls().await?;
        runtime.launcher.refill();
        Ok(Arc::new(runtime))
    }

    /// Makes what functions of `runtime` need that takes long once (boto3 for Python), unless it is there. A
    /// start does so by itself; this is for showing progress.
    pub async fn prepare(&self, runtime: &str) -> Result<(), Error> {
        match self.interpreters.resolve(runtime).map_err(Error::Unsupported)? {
            Target::Python(python) => self.libraries.prepare(&python, &self.interpreters).await.map(drop),
            Target::Java(java) => self.java.prepare(&java).await.map(drop),
            Target::Node(_) | Target::Ruby(_) | Target::Provided | Target::Image => Ok(()),
        }
    }

    /// The sandboxes that stand ready for functions that are yet to come.
    pub fn ready(&self) -> ReadySandboxes {
        self.ready.figures()
    }

    /// Makes a sandbox with nothing in it; whether layers can be mounted together.
    async fn try_walls(&self) -> Result<bool, Error> {
        if self.config.isolation == Isolation::None {
            return self.try_with(Vec::new()).await.map(|()| false);
        }
        // Any two directories will do.
        let layers = [bootstrap::SITE_PACKAGES, "__pycache__"].map(|name| self.bootstraps.join(name));
        match self.try_with(layers.into()).await {
            Ok(()) => Ok(true),
            Err(error) => {
                // It is the walls, or the layers only.
                self.try_with(Vec::new()).await?;
                tracing::info!(%error, "layers are put together in the cache");
                Ok(false)
            }
        }
    }

    async fn try_with(&self, layers: Vec<PathBuf>) -> Result<(), Error> {
        let attempt = async {
            let helper = self.launcher.helper().await.map_err(|error| error.to_string())?;
            let parts = Mounts { layers, tmp_bytes: 1 << 20, ..Mounts::default() };
            let spec = Spec {
                walls: self.walls(helper.host_id, parts),
                argv: Vec::new(),
                wrapped: false,
                environment: Vec::new(),
                directory: "/".to_owned(),
                extensions: Vec::new(),
                stands_ready: false,
                processes: self.config.max_processes,
                open_files: OPEN_FILES,
            };
            let (sandbox, _) = Sandbox::make(helper, &spec, self.limits(128, 0), Vec::new()).await?;
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

    pub(crate) fn walls(&self, host_id: Option<u32>, mounts: Mounts) -> Walls {
        let Mounts { root, binds, layers, tmp_bytes } = mounts;
        match self.config.isolation {
            Isolation::None => Walls::Plain,
            Isolation::Auto => {
                let platform_port = self.platform.address().port();
                Walls::Namespaces(Namespaces { host_id, root, binds, layers, tmp_bytes, platform_port })
            }
        }
    }

    pub(crate) fn limits(&self, memory_mb: u32, tmp_mb: u32) -> Limits {
        Limits {
            memory_mb,
            tmp_mb,
            overhead_mb: self.config.memory_overhead_mb,
            processes: self.config.max_processes,
        }
    }
}

/// What a sandbox's file system is made of.
#[derive(Debug, Default)]
pub(crate) struct Mounts {
    pub(crate) root: Option<PathBuf>,
    pub(crate) binds: Vec<(PathBuf, String)>,
    pub(crate) layers: Vec<PathBuf>,
    pub(crate) tmp_bytes: u64,
}

#[async_trait]
impl Runtime for ProcessRuntime {
    fn check(&self, runtime: &str) -> Result<(), String> {
        self.interpreters.resolve(runtime).map(drop)
    }

    fn is_being_set_up(&self, runtime: &str, _handler: &str, _code_sha256: &str) -> bool {
        match self.interpreters.resolve(runtime) {
            Ok(Target::Python(python)) => self.libraries.is_under_way(&python),
            Ok(Target::Java(_) | Target::Node(_) | Target::Ruby(_) | Target::Provided | Target::Image)
            | Err(_) => false,
        }
    }

    /// The package itself is unpacked by the first start: most of what is deployed is not called soon.
    async fn prepare(&self, runtime: &str, _handler: &str, _code: &Code) -> Result<(), StartError> {
        if let Ok(target) = self.interpreters.resolve(runtime) {
            self.extra(&target).await?;
        }
        Ok(())
    }

    async fn start(&self, request: StartRequest) -> Result<Started, StartError> {
        self.start_instance(&request).await
    }
}
