//! The folder of a database: emptied before use, filled with the files of a checkpoint.

use std::fmt::Display;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rocksdb::{DB, Options};
use tidemill_flow::storage::StorageError;

/// A file of a checkpoint, from which a database is restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoredFile {
    /// The name under which [`Database::freeze`](crate::Database::freeze) gave it out.
    pub name: String,
    /// Where its content is now, whatever it is called there.
    pub path: PathBuf,
}

/// Whether a file is never changed again once it is there. RocksDB opens tables for writing only when it makes
/// them, and only under numbers above those of all files that it found in the folder; afterwards it reads and unlinks.
/// All other files it may append to.
pub(crate) fn is_immutable(name: &str) -> bool {
    name.ends_with(".sst")
}

/// Whether a file of this name is part of the state: a table, or one of the two that say which tables count.
pub(crate) fn is_state(name: &str) -> bool {
    let number = name.strip_suffix(".sst").or_else(|| name.strip_prefix("MANIFEST-"));
    name == "CURRENT" || number.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

/// Makes an empty folder of this, which holds at most a database that nobody uses.
pub(crate) fn empty(folder: &Path) -> Result<(), StorageError> {
    remove(folder)?;
    fs::create_dir_all(folder).map_err(|error| cannot_empty(folder, &error))
}

/// Removes a folder that holds at most a database that nobody uses, if it is there.
pub(crate) fn remove(folder: &Path) -> Result<(), StorageError> {
    if folder.symlink_metadata().is_err() {
        return Ok(());
    }
    // RocksDB deletes files of its own by their names, and none while another process has the database open.
    DB::destroy(&Options::default(), folder).map_err(|error| cannot_empty(folder, &error))?;
    match fs::read_dir(folder).map(|mut entries| entries.next().transpose()) {
        Ok(Ok(Some(entry))) => {
            Err(cannot_empty(folder, &format!("{:?} in it is no file of a database", entry.file_name())))
        }
        Ok(Ok(None)) => fs::remove_dir(folder).map_err(|error| cannot_empty(folder, &error)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Ok(Err(error)) | Err(error) => Err(cannot_empty(folder, &error)),
    }
}

fn cannot_empty(folder: &Path, error: &dyn Display) -> StorageError {
    StorageError(format!(
        "cannot empty the state folder {}: {error}; name a folder that is used for nothing else",
        folder.display()
    ))
}

/// Puts the files of a checkpoint into an empty folder.
pub(crate) fn fill(folder: &Path, files: &[RestoredFile]) -> Result<(), StorageError> {
    for file in files {
        place(folder, file).map_err(|error| {
            StorageError(format!(
                "cannot put {} of a checkpoint into the state folder {} as {:?}: {error}; if it is missing or \
                 damaged, this checkpoint can't be restored",
                file.path.display(),
                folder.display(),
                file.name,
            ))
        })?;
    }
    Ok(())
}

fn place(folder: &Path, file: &RestoredFile) -> io::Result<()> {
    // Names come from a manifest: none may lead out of the folder or stand for the lock.
    if !is_state(&file.name) {
        return Err(io::Error::other("a frozen folder has no file of this name"));
    }
    let to = folder.join(&file.name);
    // A link shares its bytes with the checkpoint, so nothing but tables may be linked.
    if is_immutable(&file.name) && fs::hard_link(&file.path, &to).is_ok() {
        return Ok(());
    }
    // Links across file systems, too many of them, none at all: whatever was wrong, a copy does as well or tells why.
    // It needn't reach the disk: after a crash the folder is filled anew.
    let mut from = fs::File::open(&file.path)?;
    let mut to = fs::File::create_new(&to)?;
    io::copy(&mut from, &mut to).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_a_frozen_folder() {
        for name in ["000012.sst", "12345678.sst", "CURRENT", "MANIFEST-000001"] {
            assert!(is_state(name), "{name}");
        }
        for name in [
            "",
            ".",
            "..",
            ".sst",
            "a.sst",
            "../1.sst",
            "/1.sst",
            "LOCK",
            "MANIFEST-",
            "MANIFEST-1/../2",
            "000004.log",
        ] {
            assert!(!is_state(name), "{name}");
        }
    }

    #[test]
    fn a_folder_with_other_things_in_it_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let letter = folder.path().join("letter.txt");
        fs::write(&letter, "dear").unwrap();
        let error = empty(folder.path()).unwrap_err().to_string();
        assert!(error.contains("letter.txt") && error.contains("used for nothing else"), "{error}");
        assert!(letter.exists());
        assert!(empty(&letter).is_err() && letter.exists());
    }
}
