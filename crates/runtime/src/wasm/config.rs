//! What can be configured about WebAssembly.

use std::path::PathBuf;

use serde::Deserialize;

/// Settings of the WebAssembly runtime.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WasmConfig {
    /// How many requests may run at the same time on this node; more wait for their turn. Each reserves 4 GiB of
    /// address space per linear memory, and takes the memory that it really uses.
    pub max_running: u32,
    /// How many kilobytes of an instance's memory are overwritten, rather than given back to the system, to make
    /// room for the next one: more makes requests of large components faster, and an idle node larger.
    pub keep_resident_kb: usize,
    /// How many components are kept loaded although nobody uses them.
    pub max_idle_components: usize,
    /// How much room compiled code may take on the disk, in bytes: what was not used for longest is removed.
    pub max_compiled_bytes: u64,
    /// How many components are compiled at the same time. Each compilation uses all processors, at the lowest
    /// priority.
    pub max_compilations: usize,
    /// Let functions that name them in `HAWKER_OUTGOING_HOSTS` reach loopback and link-local addresses: the other
    /// services of this host, and the metadata service of a cloud's virtual machine.
    pub outgoing_to_node: bool,
    /// The file with the key by which this node knows code that it compiled itself; made if it is not there.
    /// `server` sets it to `<data>/wasm.key`.
    #[serde(skip)]
    pub key_file: Option<PathBuf>,
}

impl Default for WasmConfig {
    fn default() -> Self {
        Self {
            max_running: 1000,
            keep_resident_kb: 256,
            max_idle_components: 64,
            max_compiled_bytes: 2 * 1024 * 1024 * 1024,
            max_compilations: 2,
            outgoing_to_node: false,
            key_file: None,
        }
    }
}
