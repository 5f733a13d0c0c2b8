//! Functions: what is deployed, and the one path by which everything runs.
//!
//! The map: [`Functions`] is the service; `wire` reads Lambda's requests and `ops` carries them out over the
//! rows of `tables`; `code` keeps deployment packages; `registry` and `pull` get them from registries of container images; `invoke` admits, places, runs and records every
//! invocation; `url` answers at the URLs of functions; [`Runtime`] is the seam behind which code runs (implemented
//! by the `runtime` crate). `source` says which streams and queues wake which functions, and `filter` for which records; `queue` is how queues are reached. `extras` is what functions get here beyond Lambda.
//!
//! Invariants: every invocation, from any trigger, is admitted, placed, run and recorded in one place; a
//! function without traffic costs rows and nothing else.

mod code;
mod config;
mod error;
mod extras;
mod filter;
mod invoke;
mod name;
mod ops;
mod permission;
mod pull;
mod queue;
mod registry;
mod runtime;
mod service;
mod source;
mod tables;
mod url;
mod wire;

pub use config::Config;
pub use error::{Error, Throttle};
pub use filter::Filter;
pub use invoke::{Invocation, Outcome};
pub use name::{FunctionName, LATEST, Version, function_arn};
pub use queue::{is_queue, queue_request};
pub use registry::{RegistryHost, RegistryHostError};
pub use runtime::{
    Code, CodeFetch, CodeFormat, Event, ImageConfig, Initialization, Instance, InvokeRequest, InvokeResult,
    LogFormat, LogLevel, Piece, ResponseHead, ResponseStream, RunError, Runtime, StartError, StartRequest,
    Started,
};
pub use service::{AsyncSettings, Functions};
pub use source::{SourceMapping, SourcePosition, SourceWindow};
pub use url::FunctionUrls;
