//! Output in files, one for each checkpoint. The file with a checkpoint's number has what came behind the barrier before
//! it; so has one with the number of a checkpoint that was given up.

use std::fs::{self, File};
use std::io::BufReader;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use super::super::facts::Written;
use super::super::row::Records;
use super::super::{ReplayError, at_file};
use super::Each;
use crate::pipeline::plan::checkpoint_of;

/// Hands out the rows of the files of these checkpoints.
pub(in crate::replay) fn rows_of_files(
    pattern: &Path,
    written: &Written,
    checkpoints: &RangeInclusive<u64>,
    each: Each<'_>,
) -> Result<(), ReplayError> {
    for (checkpoint, path) in files(pattern, checkpoints)? {
        let file = File::open(&path).map_err(at_file("read", &path))?;
        let mut records = Records::new(BufReader::new(file), written);
        while let Some(row) = records.next().map_err(at_file("read", &path))? {
            each(checkpoint, &row)?;
        }
    }
    Ok(())
}

/// The files of these checkpoints, in their order.
fn files(pattern: &Path, checkpoints: &RangeInclusive<u64>) -> Result<Vec<(u64, PathBuf)>, ReplayError> {
    let folder = pattern.parent().filter(|f| !f.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(at_file("read", folder))?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(at_file("read", folder))?;
        let checkpoint = checkpoint_of(pattern, &entry.file_name()).filter(|n| checkpoints.contains(n));
        found.extend(checkpoint.map(|checkpoint| (checkpoint, entry.path())));
    }
    found.sort();
    Ok(found)
}
