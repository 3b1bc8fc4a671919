//! What only the folder of a log can tell.

use std::path::{Path, PathBuf};

use super::Checker;
use crate::pipeline::declaration::Spanned;

impl Checker<'_> {
    /// How many partitions a source's log has.
    pub(super) fn log_partitions(&self, declared: &Spanned<PathBuf>, folder: &Path) -> Option<usize> {
        match partitions(folder) {
            Ok(count) => Some(count),
            Err(reason) => {
                self.problems.report(declared, reason);
                None
            }
        }
    }
}

/// How many partitions the log in a folder has, if there is one that can be read.
pub(super) fn existing_partitions(folder: &Path) -> Option<u32> {
    tidemill_log::Log::open(folder).ok().map(|log| log.partitions())
}

/// How many partitions the log in a folder has, one at least.
fn partitions(folder: &Path) -> Result<usize, String> {
    match tidemill_log::Log::open(folder) {
        Ok(log) => Ok(log.partitions() as usize),
        Err(error) => Err(error.to_string()),
    }
}
