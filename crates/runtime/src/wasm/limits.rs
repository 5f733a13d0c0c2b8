//! What an instance may take of the host: linear memory up to the function's, tables and instances within reason.

use wasmtime::ResourceLimiter;

/// The largest table of functions. CPython and what comes with it needs about 15,000.
pub(super) const MAX_TABLE_ELEMENTS: usize = 100_000;
/// Core instances of one component: as many shared libraries as a Python component with large packages has.
pub(super) const MAX_CORE_INSTANCES: usize = 500;
/// Tables of one component.
pub(super) const MAX_TABLES: usize = 100;
/// Linear memories of one component: one for each component that it was composed of.
pub(super) const MAX_MEMORIES: usize = 16;

/// The account of one instance.
#[derive(Debug)]
pub(super) struct Limits {
    max_bytes: usize,
    used_bytes: usize,
    peak_bytes: usize,
    refused: bool,
}

impl Limits {
    pub(super) fn new(memory_mb: u32) -> Self {
        let max_bytes = usize::try_from(memory_mb).unwrap_or(usize::MAX).saturating_mul(1 << 20);
        Self { max_bytes, used_bytes: 0, peak_bytes: 0, refused: false }
    }

    /// The most linear memory that it had, in bytes.
    pub(super) fn peak_bytes(&self) -> u64 {
        self.peak_bytes as u64
    }

    /// True if it asked for more than it may have.
    pub(super) fn refused(&self) -> bool {
        self.refused
    }

    /// Begins a request on an instance that is used again.
    pub(super) fn again(&mut self) {
        self.refused = false;
    }
}

impl ResourceLimiter for Limits {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let total = (self.used_bytes - current).saturating_add(desired);
        if total > self.max_bytes {
            self.refused = true;
            return Ok(false);
        }
        self.used_bytes = total;
        self.peak_bytes = self.peak_bytes.max(total);
        Ok(true)
    }

    fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        Ok(desired <= MAX_TABLE_ELEMENTS)
    }

    fn instances(&self) -> usize {
        MAX_CORE_INSTANCES
    }

    fn tables(&self) -> usize {
        MAX_TABLES
    }

    fn memories(&self) -> usize {
        MAX_MEMORIES
    }
}
