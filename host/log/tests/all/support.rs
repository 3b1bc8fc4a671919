//! Folders for tests, and copies of them, which are what a crash leaves.

use std::fs;
use std::path::{Path, PathBuf};

use tidemill_log::{Log, Result};

/// A folder in memory where there is such a thing: these tests sync thousands of times.
pub(crate) fn folder() -> (tempfile::TempDir, PathBuf) {
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    let folder = folder.unwrap();
    let log = folder.path().join("log");
    (folder, log)
}

/// Copies a folder over another, as a crash at this moment would leave it.
pub(crate) fn copy(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// The files of a folder, with those in folders in it.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(self::files(&path));
        } else {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// The values of all records of a partition.
pub(crate) fn values(log: &Log, partition: u32) -> Result<Vec<Vec<u8>>> {
    let first = log.first_offset(partition)?;
    let records = log.read(partition, first, usize::MAX, usize::MAX)?;
    assert!(records.iter().zip(first..).all(|(r, offset)| r.offset == offset), "offsets are consecutive");
    Ok(records.into_iter().map(|r| r.value).collect())
}
