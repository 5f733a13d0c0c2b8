//! Where functions run, walled off from the host and from each other: as processes in sandboxes, or as WebAssembly.
//!
//! The map: [`ProcessRuntime`] implements the seam [`functions::Runtime`]. A start (`start`) takes the code, its layers
//! or its container image (`code`, unpacked once), the interpreter (`interpreters`), a helper process
//! (`host::launcher`), tells it what to build (`spec`), serves the Lambda Runtime API and the Extensions API to it
//! (`api`) and watches it (`host::supervisor`). Where it can, a start takes a sandbox in which an interpreter waits
//! (`ready`) and gives it what is the function's (`plan`). What subscribers inside are told is `telemetry_api`, over connections
//! through `door`. The other side of the sockets, inside the sandbox, is `child`. Memory and CPU limits are `cgroup`
//! and `memory`: files in /tmp are in the host's memory beside that of the function, up to the size of its /tmp.
//!
//! [`WasmRuntime`] implements it for components (`wasm`), and [`Runtimes`] picks one of the two.
//!
//! Invariants: a sandbox sees its code, its interpreter, its /tmp and the platform's endpoint, nothing else
//! of the host; when its time is over or the node dies, nothing of it is left. This crate is the only one
//! with unsafe code, all of it in `child::sys` and `wasm::compiled`. It does not know queues, concurrency
//! or billing.
#![allow(unsafe_code)]

mod api;
mod bootstrap;
mod cgroup;
mod child;
mod code;
mod config;
mod door;
mod ending;
mod environment;
mod error;
mod host;
mod instance;
mod interpreters;
mod java;
mod logs;
mod memory;
mod plan;
mod process_runtime;
mod python;
mod ready;
mod runtimes;
mod servers;
mod single_flight;
mod spec;
mod start;
mod telemetry_api;
mod wasm;

pub use child::sandbox_main_if_asked;
pub use config::{Config, Isolation};
pub use error::Error;
pub use interpreters::python_for;
pub use process_runtime::{Platform, ProcessRuntime};
pub use ready::ReadySandboxes;
pub use runtimes::Runtimes;
pub use wasm::{WasmConfig, WasmRuntime};
