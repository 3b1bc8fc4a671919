//! Compiling without running: what a process does that has no other task, so that a component which takes too much is
//! stopped without the host.

use std::path::Path;

use super::cache::Cache;
use super::engine::compiling;
use super::failure::LoadError;
use super::load::{digest, recognize};

/// Checks a component against the contract and compiles it into the folder `cache`, where
/// [`Runtime::load`](super::Runtime::load) finds it. Nothing of it is run.
///
/// # Errors
/// When it isn't a component, implements no world of the contract, imports more than its world gives, or can't be compiled
/// or kept.
pub fn compile(cache: &Path, bytes: &[u8]) -> Result<(), LoadError> {
    recognize(bytes)?;
    let engine = compiling()?;
    Cache::new(cache, &engine)?.compile(&engine, &digest(bytes), bytes)
}
