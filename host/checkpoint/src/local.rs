//! A store in a local folder. Files appear by a rename or a link of what was synced before; folders are synced, so
//! that a name outlives a power failure too.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::backing::{Backing, Guard, Put};
use crate::error::Error;
use crate::files::hash;
use crate::names::{Digest, shown};

/// A local folder.
#[derive(Debug)]
pub(crate) struct Local {
    root: PathBuf,
    /// Folders whose entries changed since they were synced, and the first failure to sync. Held for moments: syncing
    /// happens outside.
    changed: Mutex<Changed>,
    temporary: AtomicU64,
}

#[derive(Debug, Default)]
struct Changed {
    folders: BTreeSet<PathBuf>,
    failure: Option<String>,
}

impl Local {
    pub(crate) fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), changed: Mutex::default(), temporary: AtomicU64::new(0) }
    }

    /// Makes the folders that are missing, durably.
    pub(crate) fn make_folders(&self, folders: &[&str]) -> Result<(), Error> {
        self.make_folder(&self.root)?;
        folders.iter().try_for_each(|folder| self.make_folder(&self.root.join(folder)))?;
        self.sync()?;
        // What a run before this one has put there may never have been synced, if it was killed: the first sync of this
        // one is for that too.
        let mut changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        changed.folders.extend(folders.iter().map(|folder| self.root.join(folder)));
        Ok(())
    }

    fn make_folder(&self, folder: &Path) -> Result<(), Error> {
        let missing: Vec<&Path> = folder.ancestors().take_while(|f| !f.exists()).collect();
        for folder in missing.into_iter().rev().filter(|f| !f.as_os_str().is_empty()) {
            match fs::create_dir(folder) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                    return Err(Error::io(format!("make the folder {}", folder.display()))(error));
                }
                _ => self.change(folder),
            }
        }
        Ok(())
    }

    /// The entry of this path in its folder changed.
    fn change(&self, path: &Path) {
        let folder = match path.parent() {
            Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
            Some(parent) => parent,
            None => return,
        };
        self.changed.lock().unwrap_or_else(PoisonError::into_inner).folders.insert(folder.to_owned());
    }

    /// After a sync has failed the system may have forgotten what it couldn't write, and report success from then on.
    fn distrust(&self, error: Error) -> Error {
        let mut changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        changed.failure.get_or_insert_with(|| error.to_string());
        error
    }

    fn check_trusted(&self) -> Result<(), Error> {
        let changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        match &changed.failure {
            Some(first) => Err(Error::Distrusted { store: self.describe(), first: first.clone() }),
            None => Ok(()),
        }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    fn temporary(&self) -> PathBuf {
        let number = self.temporary.fetch_add(1, Ordering::Relaxed);
        // In a container every process may have the same id, and one that died may have left something.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_nanos());
        self.root.join("tmp").join(format!("{}-{now}-{number}", std::process::id()))
    }

    /// Writes a file under a temporary name. One that couldn't be synced is gone, and can be written again.
    fn write_temporary(&self, write: impl FnOnce(&mut File) -> io::Result<()>) -> Result<Temporary, Error> {
        let temporary = Temporary(self.temporary());
        let written =
            OpenOptions::new().write(true).create_new(true).open(&temporary.0).and_then(|mut file| {
                write(&mut file)?;
                file.sync_all()
            });
        written.map_err(Error::io(format!("write {}", temporary.0.display())))?;
        Ok(temporary)
    }

    fn write_content(&self, content: &[u8]) -> Result<Temporary, Error> {
        self.write_temporary(|file| file.write_all(content))
    }

    fn rename(&self, from: Temporary, to: &Path) -> Result<(), Error> {
        fs::rename(&from.0, to).map_err(Error::io(format!(
            "rename {} to {}",
            from.0.display(),
            to.display()
        )))?;
        // Nothing is left that its drop could remove.
        self.change(to);
        Ok(())
    }

    /// Links to a file that is never changed; false if the file system can't.
    fn link(&self, source: &Path, to: &Path) -> Result<bool, Error> {
        let temporary = Temporary(self.temporary());
        match fs::hard_link(source, &temporary.0) {
            Ok(()) => self.rename(temporary, to).map(|()| true),
            Err(error) if cannot_link(&error) => Ok(false),
            Err(error) => {
                Err(Error::io(format!("link {} to {}", source.display(), temporary.0.display()))(error))
            }
        }
    }
}

/// Brings a file to a path where nothing is yet. If it is never changed there, a link will do.
pub(crate) fn link_or_copy(from: &Path, to: &Path, immutable: bool) -> Result<(), Error> {
    let failed = || Error::io(format!("copy {} to {}", from.display(), to.display()));
    if immutable {
        match fs::hard_link(from, to) {
            Err(error) if cannot_link(&error) => {}
            other => return other.map_err(failed()),
        }
    }
    let mut source = open_regular(from)?;
    let mut copy = OpenOptions::new().write(true).create_new(true).open(to).map_err(failed())?;
    io::copy(&mut source, &mut copy).map_err(failed())?;
    Ok(())
}

/// Across file systems, where links are unknown or forbidden, or when there are too many.
fn cannot_link(error: &io::Error) -> bool {
    use ErrorKind::{CrossesDevices, PermissionDenied, TooManyLinks, Unsupported};
    matches!(error.kind(), CrossesDevices | PermissionDenied | TooManyLinks | Unsupported)
}

/// A file under a temporary name; whatever becomes of it, that name doesn't stay.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // Renamed, never made, or left for `clean`.
        let _ = fs::remove_file(&self.0);
    }
}

impl Backing for Local {
    fn describe(&self) -> String {
        self.root.display().to_string()
    }

    fn list(&self, folder: &str) -> Result<Vec<(String, u64)>, Error> {
        let mut files = Vec::new();
        list(&self.path(folder), "", &mut files)?;
        Ok(files)
    }

    fn read(&self, path: &str, bytes_max: u64) -> Result<Option<Vec<u8>>, Error> {
        let Some(file) = self.stream(path)? else { return Ok(None) };
        let mut content = Vec::new();
        file.take(bytes_max.saturating_add(1))
            .read_to_end(&mut content)
            .map_err(Error::io(format!("read {}", self.path(path).display())))?;
        Ok(Some(content))
    }

    fn stream(&self, path: &str) -> Result<Option<Box<dyn Read + Send>>, Error> {
        let path = self.path(path);
        match File::open(&path) {
            Ok(file) => Ok(Some(Box::new(file))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io(format!("open {}", path.display()))(error)),
        }
    }

    fn create(&self, path: &str, content: &[u8]) -> Result<bool, Error> {
        self.check_trusted()?;
        let path = self.path(path);
        let temporary = self.write_content(content)?;
        // Unlike a rename, a link never replaces what is there.
        match fs::hard_link(&temporary.0, &path) {
            Ok(()) => self.change(&path),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(false),
            Err(error) if cannot_link(&error) => {
                // Whoever creates holds a lock, so nobody else does between these two steps.
                if path.exists() {
                    return Ok(false);
                }
                self.rename(temporary, &path)?;
            }
            Err(error) => return Err(Error::io(format!("make {}", path.display()))(error)),
        }
        self.sync().map(|()| true)
    }

    fn replace(&self, path: &str, content: &[u8]) -> Result<(), Error> {
        self.check_trusted()?;
        let temporary = self.write_content(content)?;
        self.rename(temporary, &self.path(path))?;
        self.sync()
    }

    fn remove(&self, path: &str) -> Result<(), Error> {
        self.check_trusted()?;
        let path = self.path(path);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(Error::io(format!("remove {}", path.display()))(error))
            }
            _ => {
                self.change(&path);
                Ok(())
            }
        }
    }

    fn put(&self, put: &Put<'_>, path: &dyn Fn(Digest) -> String) -> Result<(Digest, u64), Error> {
        self.check_trusted()?;
        let mut source = open_regular(put.source)?;
        let failed = || Error::io(format!("read {}", put.source.display()));
        if put.immutable {
            let (digest, bytes) = hash(&mut source, |_| Ok(())).map_err(failed())?;
            let to = self.path(&path(digest));
            if same_file(put.source, &to) {
                return Ok((digest, bytes));
            }
            source
                .sync_all()
                .map_err(Error::io(format!("sync {}", put.source.display())))
                .map_err(|e| self.distrust(e))?;
            to.parent().map_or(Ok(()), |folder| self.make_folder(folder))?;
            if self.link(put.source, &to)? {
                return Ok((digest, bytes));
            }
            source = open_regular(put.source)?;
        }
        let mut copied = None;
        let temporary = self.write_temporary(|file| {
            copied = Some(hash(&mut source, |block| file.write_all(block))?);
            Ok(())
        })?;
        let (digest, bytes) = copied.ok_or_else(|| failed()(ErrorKind::UnexpectedEof.into()))?;
        let to = self.path(&path(digest));
        to.parent().map_or(Ok(()), |folder| self.make_folder(folder))?;
        self.rename(temporary, &to)?;
        Ok((digest, bytes))
    }

    fn has(&self, path: &str, bytes: u64) -> Result<bool, Error> {
        let path = self.path(path);
        match fs::metadata(&path) {
            Ok(metadata) => Ok(metadata.is_file() && metadata.len() == bytes),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Error::io(format!("look at {}", path.display()))(error)),
        }
    }

    fn local(&self, path: &str) -> Option<PathBuf> {
        Some(self.path(path))
    }

    fn sync(&self) -> Result<(), Error> {
        self.check_trusted()?;
        let folders = {
            let mut changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut changed.folders)
        };
        for folder in folders {
            let synced = File::open(&folder).and_then(|folder| folder.sync_all());
            let failed = Error::io(format!("sync the folder {}", folder.display()));
            synced.map_err(failed).map_err(|error| self.distrust(error))?;
        }
        Ok(())
    }

    fn lock(&self, name: &str, wait: bool) -> Result<Guard, Error> {
        let path = self.path(name);
        let failed = || Error::io(format!("lock {}", path.display()));
        let mut options = OpenOptions::new();
        let mut file =
            options.read(true).write(true).create(true).truncate(false).open(&path).map_err(failed())?;
        if wait {
            file.lock().map_err(failed())?;
        } else {
            match file.try_lock() {
                Err(TryLockError::WouldBlock) => {
                    return Err(Error::InUse { store: self.describe(), holder: holder(&mut file) });
                }
                Err(TryLockError::Error(error)) => return Err(failed()(error)),
                Ok(()) => {}
            }
        }
        // For whoever comes in vain; that it can't be said hurts nobody.
        let _ = file.set_len(0).and_then(|()| writeln!(file, "process {}", std::process::id()));
        Ok(Box::new(file))
    }

    fn clean(&self) -> Result<(), Error> {
        for (name, _) in self.list("tmp")? {
            self.remove(&format!("tmp/{name}"))?;
        }
        Ok(())
    }
}

fn list(path: &Path, within: &str, files: &mut Vec<(String, u64)>) -> Result<(), Error> {
    let failed = || Error::io(format!("read the folder {}", path.display()));
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        other => other.map_err(failed())?,
    };
    for entry in entries {
        let entry = entry.map_err(failed())?;
        // A name that isn't text is none of ours.
        let Ok(name) = entry.file_name().into_string() else { continue };
        match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => list(&entry.path(), &format!("{within}{name}/"), files)?,
            Ok(metadata) if metadata.is_file() => files.push((format!("{within}{name}"), metadata.len())),
            Ok(_) => {}
            // Removed meanwhile.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(failed()(error)),
        }
    }
    Ok(())
}

fn holder(file: &mut File) -> String {
    let mut holder = String::new();
    match file.take(64).read_to_string(&mut holder) {
        Ok(_) if holder.starts_with("process ") => shown(holder.trim()),
        _ => "another process".to_owned(),
    }
}

fn open_regular(path: &Path) -> Result<File, Error> {
    let failed = || Error::io(format!("open {}", path.display()));
    let file = File::open(path).map_err(failed())?;
    if !file.metadata().map_err(failed())?.is_file() {
        return Err(failed()(io::Error::other("it isn't a file")));
    }
    Ok(file)
}

#[cfg(unix)]
fn same_file(one: &Path, other: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let identity = |path| fs::metadata(path).map(|m| (m.dev(), m.ino()));
    matches!((identity(one), identity(other)), (Ok(one), Ok(other)) if one == other)
}

#[cfg(not(unix))]
fn same_file(_: &Path, _: &Path) -> bool {
    false
}
