//! What can be configured about sandboxes.

use std::path::PathBuf;

use serde::Deserialize;

/// How functions are walled off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// Namespaces, seccomp, Landlock and control groups; the node refuses to start where they do not work.
    #[default]
    Auto,
    /// Plain child processes with resource limits. For development only: a function can read and reach
    /// whatever the user that runs the node can.
    None,
}

/// Settings of the process runtime.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where unpacked code, interpreters' libraries and bootstraps are kept; can be deleted while no node
    /// runs. `server` sets it to `<data>/cache`.
    pub cache_dir: PathBuf,
    /// How functions are walled off.
    pub isolation: Isolation,
    /// Run `python3.12` on the nearest Python that is there (and `nodejs20.x` on the nearest Node) if that
    /// very version is not installed. A note in the log of each start says so.
    pub substitute_runtimes: bool,
    /// Give Python functions boto3, as Lambda does, installed once with pip.
    pub provide_boto3: bool,
    /// How many helper processes stand ready in their control groups, so that a start need not wait for one.
    pub spare_sandboxes: usize,
    /// How many sandboxes stand ready at most for each interpreter that was used lately, booted and without a function,
    /// so that a start need not wait for that; 0 for none. Node.js counts once for each memory size.
    pub ready_sandboxes: usize,
    /// How many there are at most for all interpreters together.
    pub max_ready_sandboxes: usize,
    /// After how many seconds without a start they are given back.
    pub ready_idle_seconds: u64,
    /// How long a function may take to get ready, in milliseconds; one that takes longer is started again, and has
    /// its own timeout then.
    pub init_timeout_ms: u64,
    /// How long one may take that is made ready before a request comes, in milliseconds.
    pub provisioned_init_timeout_ms: u64,
    /// How large a package and its layers may be once unpacked, in bytes.
    pub max_unzipped_bytes: u64,
    /// How large a container image may be once unpacked, in bytes.
    pub max_image_bytes: u64,
    /// How much room unpacked code may take on the disk, in bytes: what was not used for longest is removed and
    /// unpacked again when it is needed. What runs is never removed, so it may be more for a while.
    pub max_code_cache_bytes: u64,
    /// How many bytes of log an invocation may write; what is over is dropped, and the log says so.
    pub max_log_bytes: usize,
    /// How many processes and threads a sandbox may have.
    pub max_processes: u64,
    /// Memory that a sandbox gets beside the function's own, for the kernel's and the helper's share, in MB.
    pub memory_overhead_mb: u32,
    /// Functions that are WebAssembly components.
    pub wasm: crate::WasmConfig,
    /// The binary that becomes a sandbox's helper if it is not the running one: for tests.
    #[serde(skip)]
    pub sandbox_exe: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            cache_dir: PathBuf::from("hawker-cache"),
            isolation: Isolation::Auto,
            substitute_runtimes: false,
            provide_boto3: true,
            spare_sandboxes: 2,
            ready_sandboxes: 2,
            max_ready_sandboxes: 8,
            ready_idle_seconds: 300,
            init_timeout_ms: 10_000,
            provisioned_init_timeout_ms: 15 * 60 * 1000,
            max_unzipped_bytes: 250 * 1024 * 1024,
            max_image_bytes: 10 * 1024 * 1024 * 1024,
            max_code_cache_bytes: 2 * 1024 * 1024 * 1024,
            max_log_bytes: 4 * 1024 * 1024,
            max_processes: 1024,
            memory_overhead_mb: 8,
            wasm: crate::WasmConfig::default(),
            sandbox_exe: None,
        }
    }
}
