//! The machine that a node runs on.

/// Its architecture, as AWS calls it.
pub fn architecture() -> &'static str {
    if cfg!(target_arch = "aarch64") { "arm64" } else { "x86_64" }
}
