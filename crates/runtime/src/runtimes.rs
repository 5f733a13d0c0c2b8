//! All runtimes of a node behind one: which one runs a function is in the function's own runtime.

use std::sync::Arc;

use async_trait::async_trait;
use functions::{Code, Runtime, StartError, StartRequest, Started};

use crate::{ProcessRuntime, WasmRuntime};

/// Processes and WebAssembly.
#[derive(Debug)]
pub struct Runtimes {
    processes: Arc<ProcessRuntime>,
    wasm: Arc<WasmRuntime>,
}

impl Runtimes {
    /// Both.
    pub fn new(processes: Arc<ProcessRuntime>, wasm: Arc<WasmRuntime>) -> Self {
        Self { processes, wasm }
    }

    fn of(&self, runtime: &str) -> &dyn Runtime {
        if runtime == "wasm" { &*self.wasm } else { &*self.processes }
    }
}

#[async_trait]
impl Runtime for Runtimes {
    fn check(&self, runtime: &str) -> Result<(), String> {
        self.of(runtime).check(runtime)
    }

    fn takes_http(&self, runtime: &str) -> bool {
        self.of(runtime).takes_http(runtime)
    }

    fn is_being_set_up(&self, runtime: &str, handler: &str, code_sha256: &str) -> bool {
        self.of(runtime).is_being_set_up(runtime, handler, code_sha256)
    }

    async fn prepare(&self, runtime: &str, handler: &str, code: &Code) -> Result<(), StartError> {
        self.of(runtime).prepare(runtime, handler, code).await
    }

    async fn start(&self, request: StartRequest) -> Result<Started, StartError> {
        let runtime = self.of(&request.runtime);
        runtime.start(request).await
    }
}
