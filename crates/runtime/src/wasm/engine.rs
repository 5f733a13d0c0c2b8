//! The engine that everything runs on: how code is compiled, and how memory is kept ready for instances.

use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig};

use super::WasmConfig;
use super::limits::{MAX_CORE_INSTANCES, MAX_MEMORIES, MAX_TABLE_ELEMENTS, MAX_TABLES};

/// The most that a linear memory can have: what 32 bits address.
const MAX_MEMORY_BYTES: usize = 4 << 30;
/// What the parts of a component may need of the host to be kept track of, in bytes.
const MAX_INSTANCE_BYTES: usize = 16 << 20;
/// How much of a stack stays in memory for the next one.
const STACK_RESIDENT_BYTES: usize = 32 << 10;
/// Frames that a log shows of a trap.
const BACKTRACE_FRAMES: usize = 32;

/// Makes the engine. It reserves address space, not memory.
pub(super) fn engine(config: &WasmConfig) -> wasmtime::Result<Engine> {
    let mut pool = PoolingAllocationConfig::new();
    let running = config.max_running.max(1);
    // A component of several parts takes more than one of each.
    pool.total_component_instances(running)
        .total_core_instances(running.saturating_mul(64))
        .total_memories(running + running / 2)
        .total_tables(running.saturating_mul(8))
        .total_stacks(running)
        .max_component_instance_size(MAX_INSTANCE_BYTES)
        .max_core_instance_size(MAX_INSTANCE_BYTES)
        .max_core_instances_per_component(MAX_CORE_INSTANCES as u32)
        .max_memories_per_component(MAX_MEMORIES as u32)
        .max_tables_per_component(MAX_TABLES as u32)
        .max_tables_per_module(16)
        .max_memories_per_module(MAX_MEMORIES as u32)
        .table_elements(MAX_TABLE_ELEMENTS)
        .max_memory_size(MAX_MEMORY_BYTES)
        .async_stack_keep_resident(STACK_RESIDENT_BYTES);
    if tells_dirty_pages() {
        let keep = config.keep_resident_kb << 10;
        pool.pagemap_scan(Enabled::Auto).linear_memory_keep_resident(keep).table_keep_resident(64 << 10);
    }
    let mut engine = Config::new();
    engine
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool))
        .memory_init_cow(true)
        .epoch_interruption(true)
        .cranelift_opt_level(OptLevel::Speed)
        .wasm_backtrace_max_frames(std::num::NonZero::new(BACKTRACE_FRAMES))
        // Only debuggers want it, and registering it takes time.
        .native_unwind_info(false);
    Engine::new(&engine)
}

/// Whether the kernel can tell which pages were written to (PAGEMAP_SCAN, Linux 6.7). Without it, keeping memory
/// resident means to overwrite all of what is kept.
fn tells_dirty_pages() -> bool {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers = release.split(['.', '-']).map_while(|number| number.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(6), Some(7))
}
