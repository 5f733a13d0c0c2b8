//! WebAssembly: functions that are WASI 0.2 components which export wasi:http/incoming-handler.
//!
//! The map: [`WasmRuntime`] implements the seam. A start finds the component in its `package`, compiles it or takes
//! what was `compiled` before, links it (`components`), and reads what the `function` may do. An `instance` turns
//! each `event` into an HTTP request and runs it in a store of its own (`host`, with `limits`, `output` and
//! `outgoing` requests to certain `destinations`), on the node's one `engine`, whose `ticker` lets nobody keep a
//! thread. What it may import beside WASI 0.2 is in `bindings`: its `config_store`,
//! `keyvalue` over tables and `blobstore` over buckets.
//!
//! Invariants: each request gets a fresh instance unless its function says otherwise; what an instance makes the host
//! remember is bounded; a function without requests under way costs what is on disk.

mod bindings;
mod blobstore;
mod compiled;
mod components;
mod config;
mod config_store;
mod destinations;
mod engine;
mod event;
mod function;
mod host;
mod instance;
mod keyvalue;
mod limits;
mod outgoing;
mod output;
mod package;
mod runtime;
mod ticker;

pub use config::WasmConfig;
pub use runtime::WasmRuntime;
