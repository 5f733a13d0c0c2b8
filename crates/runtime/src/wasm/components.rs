//! Loaded components: each is linked once and shared by all instances of all functions that have the same code.
//!
//! A component that nobody uses stays loaded while there are not too many of them; the one that was not used for
//! longest goes first.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use functions::{Code, CodeFormat, StartError};
use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::Linker;
use wasmtime_wasi::filesystem::WasiFilesystemCtx;
use wasmtime_wasi::{FsPerms, WasiCtx};
use wasmtime_wasi_http::p2::bindings::ProxyPre;

use super::compiled::CompiledCode;
use super::host::{Host, TASK_ROOT};
use super::package;
use crate::code::{CodeCache, Package};
use crate::single_flight::SingleFlight;

/// A page of linear memory.
const WASM_PAGE_BYTES: u64 = 64 * 1024;

/// A component, ready to be instantiated.
pub(super) struct Loaded {
    pub(super) proxy: ProxyPre<Host>,
    /// Its package, as an instance sees it.
    pub(super) files: WasiFilesystemCtx,
    /// What its largest memory has from the beginning, in bytes.
    pub(super) initial_memory_bytes: u64,
    _package: Package,
}

impl std::fmt::Debug for Loaded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loaded").finish_non_exhaustive()
    }
}

/// The components of a node.
pub(super) struct Components {
    engine: Engine,
    linker: Linker<Host>,
    packages: CodeCache,
    compiled: CompiledCode,
    flights: SingleFlight,
    max_idle: usize,
    shelf: Mutex<Shelf>,
}

#[derive(Default)]
struct Shelf {
    components: HashMap<String, Kept>,
    /// How often one was taken.
    takings: u64,
}

struct Kept {
    component: Arc<Loaded>,
    /// Which of the takings was its last.
    taken: u64,
}

impl std::fmt::Debug for Components {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Components").finish_non_exhaustive()
    }
}

impl Components {
    pub(super) fn new(
        engine: Engine,
        linker: Linker<Host>,
        packages: CodeCache,
        compiled: CompiledCode,
        max_idle: usize,
    ) -> Self {
        let (flights, shelf) = (SingleFlight::default(), Mutex::default());
        Self { engine, linker, packages, compiled, flights, max_idle, shelf }
    }

    /// The component that `handler` names in the package `code`.
    pub(super) async fn get(&self, code: &Code, handler: &str) -> Result<Arc<Loaded>, StartError> {
        let name = name(&code.sha256, handler);
        if let Some(component) = self.take(&name) {
            return Ok(component);
        }
        let _alone = self.flights.enter(&name).await;
        if let Some(component) = self.take(&name) {
            return Ok(component);
        }
        let component = Arc::new(self.load(&name, code, handler).await?);
        self.put(name, component.clone());
        Ok(component)
    }

    /// True while somebody loads the component, which compiles it if it was not compiled yet.
    pub(super) fn is_loading(&self, code_sha256: &str, handler: &str) -> bool {
        self.flights.is_under_way(&name(code_sha256, handler))
    }

    async fn load(&self, name: &str, code: &Code, handler: &str) -> Result<Loaded, StartError> {
        match code.format {
            CodeFormat::Zip => {}
            CodeFormat::Image => {
                return Err(StartError::Code(
                    "functions with the runtime `wasm` are packages of type Zip, not container images"
                        .to_owned(),
                ));
            }
        }
        let package = self.packages.get(code).await?;
        let (directory, named) = (package.clone(), handler.to_owned());
        let found = tokio::task::spawn_blocking(move || {
            let mut files = WasiCtx::builder();
            let root: &std::path::Path = &directory;
            files.preopened_dir(root, TASK_ROOT, FsPerms::ReadOnly)?;
            Ok((package::component(&directory, &named), files.build().filesystem().clone()))
        });
        let (source, files) = found.await.map_err(|error| StartError::Platform(error.to_string()))?.map_err(
            |error: wasmtime::Error| StartError::Platform(format!("opening the package: {error:#}")),
        )?;
        let component = self.compiled.get(&self.engine, name, source?).await?;
        let initial_memory_bytes = component
            .resources_required()
            .and_then(|required| required.max_initial_memory_size)
            .map(|pages| pages.saturating_mul(WASM_PAGE_BYTES))
            .unwrap_or_default();
        let linked = self.linker.instantiate_pre(&component).map_err(|error| {
            StartError::Code(format!("the component wants what functions do not have here: {error:#}"))
        })?;
        let proxy = ProxyPre::new(linked).map_err(|error| {
            StartError::Code(format!(
                "the component does not export wasi:http/incoming-handler@0.2: {error:#}"
            ))
        })?;
        Ok(Loaded { proxy, files, initial_memory_bytes, _package: package })
    }

    fn take(&self, name: &str) -> Option<Arc<Loaded>> {
        let mut shelf = self.shelf.lock().unwrap_or_else(PoisonError::into_inner);
        shelf.takings += 1;
        let taken = shelf.takings;
        let kept = shelf.components.get_mut(name)?;
        kept.taken = taken;
        Some(kept.component.clone())
    }

    fn put(&self, name: String, component: Arc<Loaded>) {
        let mut shelf = self.shelf.lock().unwrap_or_else(PoisonError::into_inner);
        shelf.takings += 1;
        let taken = shelf.takings;
        shelf.components.insert(name, Kept { component, taken });
        let idle = shelf.components.iter().filter(|(_, kept)| Arc::strong_count(&kept.component) == 1);
        let mut idle: Vec<_> = idle.map(|(name, kept)| (kept.taken, name.clone())).collect();
        idle.sort_unstable();
        let too_many = idle.len().saturating_sub(self.max_idle);
        for (_, name) in idle.into_iter().take(too_many) {
            shelf.components.remove(&name);
        }
    }
}

/// By what a component is known: its package, and which file of it.
fn name(code_sha256: &str, handler: &str) -> String {
    let mut hasher = Sha256::new();
    hasher.update(code_sha256.to_ascii_lowercase());
    hasher.update([0]);
    hasher.update(handler);
    hex::encode(&hasher.finalize()[..16])
}
