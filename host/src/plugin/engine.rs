//! The wasmtime engine: one for the process, with every setting that the sandbox rests on.

use std::path::Path;
use std::time::Duration;

use wasmtime::component::HasSelf;
use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use super::bindings::process::ProcessOperator;
use super::cache::Cache;
use super::failure::LoadError;
use super::guest::Guest;

/// How often running guests are looked at. A guest that runs longer without returning yields its thread.
pub(super) const TICK: Duration = Duration::from_millis(5);

/// The most memory that one guest may have, whatever its pipeline asks for.
pub(super) const MEMORY_MAX_BYTES: usize = 4 << 30;
/// Instances at once: tasks times operators. A component of one core module takes three core instances,
/// one memory and two tables; a reservation costs address space, not memory.
pub const INSTANCES_MAX: u32 = 1000;

/// The compiler of components, and what compiled components share. Cheap to clone.
#[derive(Clone)]
pub struct Runtime {
    pub(super) engine: Engine,
    pub(super) linker: wasmtime::component::Linker<Guest>,
    pub(super) cache: Cache,
}

impl Runtime {
    /// A runtime that keeps compiled components in the folder `cache`, which it makes.
    ///
    /// # Errors
    /// When the folder can't be made, or the machine lacks the address space for the instances.
    pub fn new(cache: &Path) -> Result<Self, LoadError> {
        let mut config = code_settings();
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool()));
        let engine = engine(&config)?;
        let mut linker = wasmtime::component::Linker::new(&engine);
        // Its imports are those of the other worlds too, and more.
        ProcessOperator::add_to_linker::<_, HasSelf<Guest>>(&mut linker, |guest| guest)
            .map_err(|e| LoadError::new(format!("cannot set up wasmtime: {e:#}")))?;
        let cache = Cache::new(cache, &engine)?;
        tick(&engine);
        Ok(Self { engine, linker, cache })
    }

    /// Whether the component with this digest needn't be compiled to be loaded.
    pub fn has_compiled(&self, digest: &str) -> bool {
        self.cache.has(digest)
    }
}

/// An engine that only compiles, for the same code as a [`Runtime`]'s: without the pool, which reserves terabytes of
/// address space, and without a thread that interrupts guests.
pub(super) fn compiling() -> Result<Engine, LoadError> {
    engine(&code_settings())
}

fn engine(config: &Config) -> Result<Engine, LoadError> {
    Engine::new(config).map_err(|e| LoadError::new(format!("cannot set up wasmtime: {e:#}")))
}

/// All that compiled code depends on.
fn code_settings() -> Config {
    let mut config = Config::new();
    config
        // Operators of this contract are plain functions. Without the machinery for concurrent ones a call
        // costs a third.
        .concurrency_support(false)
        // A guest that doesn't return is interrupted. Part of every compiled artifact.
        .epoch_interruption(true)
        // Replaying the same input gives the same bytes. Of not-a-numbers there are many, and which one a
        // processor makes is its own affair: the host writes them all alike when it takes columns over. The
        // compiler could do so after each operation, but that made a loop of floats four times as slow.
        .wasm_relaxed_simd(false)
        // Nothing that operators need; each is surface.
        .wasm_memory64(false)
        .wasm_tail_call(false)
        // Multi-memory stays on: components with adapter modules inside make the compiler panic without it.
        .max_wasm_stack(512 << 10)
        .async_stack_size(2 << 20)
        .wasm_backtrace_max_frames(std::num::NonZeroUsize::new(20));
    config
}

/// Where instances are; code doesn't depend on it.
fn pool() -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(INSTANCES_MAX)
        .total_core_instances(3 * INSTANCES_MAX)
        .total_memories(INSTANCES_MAX)
        .total_tables(2 * INSTANCES_MAX)
        .total_stacks(INSTANCES_MAX)
        .max_memory_size(MEMORY_MAX_BYTES);
    pool
}

/// Advances the engine's epoch until the engine is gone. A thread of its own: on the executor it would wait
/// behind the very guests that it is there to interrupt.
fn tick(engine: &Engine) {
    let weak = engine.weak();
    let ticker = move || {
        while let Some(engine) = weak.upgrade() {
            engine.increment_epoch();
            drop(engine);
            std::thread::sleep(TICK);
        }
    };
    std::thread::Builder::new().name("tidemill-epoch".into()).spawn(ticker).expect("a thread can be started");
}
