//! Taking the files of a checkpoint from a database that goes on.

use std::error::Error;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use rocksdb::DB;
use rocksdb::checkpoint::Checkpoint;

use crate::folder::{is_immutable, is_state};

/// A file of a frozen folder.
///
/// While one database is open, a table keeps its name from freeze to freeze, so what a later freeze has under the same name
/// needn't be read again. Beyond that a name means nothing: databases restored from one checkpoint go
/// on counting from the same number, each with other content. What a file is, its content says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrozenFile {
    /// Its name, without the folder. A database is restored with the files under their names.
    pub name: String,
    /// Where it is.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// Whether later freezes can have it too: it is a table. The others, two, are small and different every time.
    pub immutable: bool,
}

/// Makes a folder with the files as they are now; all of it is on the disk.
pub(crate) fn link(db: &DB, folder: &Path) -> Result<Vec<FrozenFile>, Box<dyn Error>> {
    let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Some(parent) = parent {
        fs::create_dir_all(parent)?;
    }
    // It makes the folder under another name, links and copies, syncs what isn't yet, and renames.
    Checkpoint::new(db)?.create_checkpoint(folder)?;
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().into_string().map_err(|name| format!("{name:?} is no name"))?;
        if is_state(&name) {
            let bytes = entry.metadata()?.len();
            files.push(FrozenFile { path: entry.path(), bytes, immutable: is_immutable(&name), name });
        } else {
            // The options, which whoever opens brings along, and the log, which is empty.
            fs::remove_file(entry.path())?;
        }
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    // What was removed may come back after a crash, it is in no list. The folder itself must not vanish.
    parent.map(|parent| File::open(parent)?.sync_all()).transpose()?;
    Ok(files)
}
