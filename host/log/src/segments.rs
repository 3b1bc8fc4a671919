//! The files of a partition: segments, each named by the offset of its first record.

use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::error::{Result, io_error};
use crate::files::sync_folder;

const SUFFIX: &str = ".segment";
/// No log gets there; so sums of offsets from files don't overflow.
pub(crate) const OFFSET_MAX: u64 = 1 << 62;

/// A segment's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    /// The offset of its first record, or of the one that it would have.
    pub(crate) first: u64,
    pub(crate) bytes: u64,
}

/// The folder of a partition.
pub(crate) fn partition_folder(log: &Path, partition: u32) -> PathBuf {
    log.join(format!("partition-{partition}"))
}

/// The file of a segment; the names sort as the offsets do.
pub(crate) fn segment_path(folder: &Path, first: u64) -> PathBuf {
    folder.join(format!("{first:020}{SUFFIX}"))
}

/// The segments of a partition by offset. Other files are none of ours.
pub(crate) fn list(folder: &Path) -> Result<Vec<Segment>> {
    let mut segments = Vec::new();
    for entry in fs::read_dir(folder).map_err(io_error("read", folder))? {
        let entry = entry.map_err(io_error("read", folder))?;
        let name = entry.file_name();
        let Some(first) = name.to_str().and_then(first_offset) else { continue };
        match entry.metadata() {
            Ok(about) => segments.push(Segment { first, bytes: about.len() }),
            // Trimmed meanwhile.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(io_error("read", &entry.path())(error)),
        }
    }
    segments.sort_by_key(|s| s.first);
    Ok(segments)
}

fn first_offset(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SUFFIX)?;
    let is_number = digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit());
    digits.parse().ok().filter(|&first| is_number && first <= OFFSET_MAX)
}

/// Makes the segment that begins with an offset, lastingly.
pub(crate) fn create(folder: &Path, first: u64) -> Result<File> {
    let path = segment_path(folder, first);
    let file =
        OpenOptions::new().write(true).create_new(true).open(&path).map_err(io_error("create", &path))?;
    if let Err(error) = sync_folder(folder) {
        // It would stand in the way of the next attempt.
        let _ = fs::remove_file(&path);
        return Err(error);
    }
    Ok(file)
}

/// Removes a segment; whoever is reading it reads it to its end.
pub(crate) fn remove(folder: &Path, first: u64) -> Result<()> {
    let path = segment_path(folder, first);
    fs::remove_file(&path).map_err(io_error("remove", &path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_listed_by_offset_and_other_files_are_not() {
        let folder = tempfile::tempdir().unwrap();
        for first in [100, 9, OFFSET_MAX] {
            create(folder.path(), first).unwrap();
        }
        for other in ["1.segment", "notes", "09999999999999999999.segment", "0000000000000000000x.segment"] {
            fs::write(folder.path().join(other), "x").unwrap();
        }
        let firsts: Vec<u64> = list(folder.path()).unwrap().iter().map(|s| s.first).collect();
        assert_eq!(firsts, [9, 100, OFFSET_MAX]);
        assert!(create(folder.path(), 9).is_err(), "never overwritten");
        remove(folder.path(), 9).unwrap();
        assert_eq!(list(folder.path()).unwrap().len(), 2);
    }
}
