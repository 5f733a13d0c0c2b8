//! Functions: what is deployed, and the one path by which everything runs.
//!
//! The map: [`Runtime`] is the seam behind which code runs (implemented by the `runtime` crate).
//!
//! Invariant: every invocation, from any trigger, is admitted, placed, run and recorded here.

mod runtime;

pub use runtime::{
    Code, CodeFetch, Instance, InvokeRequest, InvokeResult, RunError, Runtime, StartError, StartRequest,
    Started,
};
