//! The runtime itself: what a start takes.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use aws::Dispatch;
use functions::{Code, Runtime, StartError, StartRequest, Started};
use tokio::sync::Semaphore;
use types::SharedEnv;

use super::compiled::CompiledCode;
use super::components::Components;
use super::function::Function;
use super::instance::WasmInstance;
use super::ticker::Ticker;
use super::{engine, host};
use crate::code::{CodeCache, MaxUnpacked};
use crate::process_runtime::Platform;
use crate::{Config, Error};

/// The name of the runtime.
const NAME: &str = "wasm";

/// Runs functions that are WebAssembly components.
#[derive(Debug)]
pub struct WasmRuntime {
    config: Config,
    platform: Arc<dyn Platform>,
    services: Arc<dyn Dispatch>,
    env: SharedEnv,
    /// Made when the first function needs it.
    machine: tokio::sync::OnceCell<Machine>,
}

/// What runs components.
#[derive(Debug)]
struct Machine {
    components: Components,
    shared: Arc<Shared>,
}

/// What all instances share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) platform: Arc<dyn Platform>,
    pub(super) services: Arc<dyn Dispatch>,
    pub(super) env: SharedEnv,
    pub(super) ticker: Ticker,
    /// A permit for each request that may run.
    pub(super) running: Arc<Semaphore>,
    pub(super) max_log_bytes: usize,
    pub(super) outgoing_to_node: bool,
}

impl WasmRuntime {
    /// A runtime that keeps compiled code under `config.cache_dir`. `services` carries out what functions ask for by
    /// interfaces of their own (wasi:keyvalue), with the rights of their roles. It takes neither memory nor time until a function
    /// needs it.
    pub fn new(
        config: Config,
        platform: Arc<dyn Platform>,
        services: Arc<dyn Dispatch>,
        env: SharedEnv,
    ) -> Self {
        Self { config, platform, services, env, machine: tokio::sync::OnceCell::new() }
    }

    async fn machine(&self) -> Result<&Machine, StartError> {
        let make = async {
            let (config, env) = (self.config.clone(), self.env.clone());
            let (platform, services) = (self.platform.clone(), self.services.clone());
            tokio::task::spawn_blocking(move || Machine::new(&config, platform, services, env))
                .await
                .map_err(|error| StartError::Platform(error.to_string()))?
        };
        self.machine.get_or_try_init(|| make).await
    }
}

impl Machine {
    /// Blocks.
    fn new(
        config: &Config,
        platform: Arc<dyn Platform>,
        services: Arc<dyn Dispatch>,
        env: SharedEnv,
    ) -> Result<Self, StartError> {
        let platform_error = |error: wasmtime::Error| {
            StartError::Platform(format!("making the WebAssembly engine: {error:#}"))
        };
        let cache_error = |path: &Path| {
            let path = path.to_owned();
            move |error| StartError::Platform(Error::Cache { path, source: error }.to_string())
        };
        let engine = engine::engine(&config.wasm).map_err(platform_error)?;
        let linker = host::linker(&engine).map_err(platform_error)?;
        let cache = std::path::absolute(&config.cache_dir).map_err(cache_error(&config.cache_dir))?;
        let directory = cache.join("wasm");
        let key_file = config.wasm.key_file.clone().unwrap_or_else(|| cache.join("wasm.key"));
        let packages = CodeCache::open(
            cache.join("wasm-packages"),
            MaxUnpacked { zip: config.max_unzipped_bytes, image: 0 },
            config.max_code_cache_bytes,
        )
        .map_err(cache_error(&cache))?;
        let compiled = CompiledCode::open(directory.clone(), &key_file, &engine, &config.wasm, &env)
            .map_err(cache_error(&directory))?;
        let ticker = Ticker::start(&engine)
            .map_err(|error| StartError::Platform(format!("starting the engine's clock: {error}")))?;
        let shared = Arc::new(Shared {
            platform,
            services,
            env,
            ticker,
            running: Arc::new(Semaphore::new(config.wasm.max_running.max(1) as usize)),
            max_log_bytes: config.max_log_bytes,
            outgoing_to_node: config.wasm.outgoing_to_node,
        });
        let components = Components::new(engine, linker, packages, compiled, config.wasm.max_idle_components);
        Ok(Self { components, shared })
    }
}

#[async_trait]
impl Runtime for WasmRuntime {
    fn check(&self, runtime: &str) -> Result<(), String> {
        if runtime == NAME { Ok(()) } else { Err(format!("{runtime} is not WebAssembly")) }
    }

    fn takes_http(&self, runtime: &str) -> bool {
        runtime == NAME
    }

    fn is_being_set_up(&self, _runtime: &str, handler: &str, code_sha256: &str) -> bool {
        self.machine.get().is_some_and(|machine| machine.components.is_loading(code_sha256, handler))
    }

    async fn prepare(&self, runtime: &str, handler: &str, code: &Code) -> Result<(), StartError> {
        self.check(runtime).map_err(StartError::Unsupported)?;
        self.machine().await?.components.get(code, handler).await.map(drop)
    }

    async fn start(&self, request: StartRequest) -> Result<Started, StartError> {
        self.check(&request.runtime).map_err(StartError::Unsupported)?;
        if !request.layers.is_empty() {
            return Err(StartError::Code(
                "functions with the runtime `wasm` have no layers; put what the component reads into its package"
                    .to_owned(),
            ));
        }
        let machine = self.machine().await?;
        let component = machine.components.get(&request.code, &request.handler).await?;
        // What was done once for all is not this start's time.
        let began = Instant::now();
        let needed_mb = component.initial_memory_bytes.div_ceil(1 << 20);
        if needed_mb > u64::from(request.memory_mb) {
            return Err(StartError::Code(format!(
                "the component begins with {needed_mb} MB of memory, and the function has {} MB; give it more",
                request.memory_mb
            )));
        }
        let function = Function::new(machine.shared.clone(), component, &request)?;
        let instance = Box::new(WasmInstance::new(Arc::new(function)));
        Ok(Started { instance, init_duration: began.elapsed(), logs: Vec::new() })
    }
}
