//! What a store holds, for whoever looks: nothing here needs the right to run the pipeline. A person may keep and delete
//! checkpoints while it runs.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::backing::Backing;
use crate::collect::{self, Collected};
use crate::copies::{Copies, encode};
use crate::error::{Error, Problem};
use crate::files::path_of;
use crate::local::link_or_copy;
use crate::manifest::{FileEntry, Manifest};
use crate::names::{CheckpointName, Digest, SavepointName, Selector};
use crate::verify::{self, Progress, Report};

/// The folders with the two copies of the manifests of checkpoints.
pub(crate) const CHECKPOINTS: [&str; 2] = ["checkpoints", "checkpoints-copy"];
/// The same of savepoints.
pub(crate) const SAVEPOINTS: [&str; 2] = ["savepoints", "savepoints-copy"];
/// The marks of commits that were begun.
pub(crate) const COMMITS: &str = "commits";
/// Manifests that a start passed over.
pub(crate) const SET_ASIDE: &str = "set-aside";
/// Held by whoever removes manifests or files, or relies on them without owning the store.
pub(crate) const EDIT_LOCK: &str = "LOCK-edit";
/// Held by the process that runs the pipeline.
pub(crate) const RUN_LOCK: &str = "LOCK";

/// What a store holds.
#[derive(Clone, Debug)]
pub struct Contents {
    pub(crate) backing: Arc<dyn Backing>,
    pub(crate) pipeline: String,
    downloads: Option<PathBuf>,
}

/// A manifest in a store.
#[derive(Debug)]
pub struct Listed {
    /// Its name.
    pub name: Name,
    /// It, or why it can't be believed.
    pub manifest: Result<Manifest, Error>,
    /// One of its copies is broken or missing; the other one is good.
    pub warning: Option<String>,
}

/// The name of a manifest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Name {
    /// A checkpoint.
    Checkpoint(CheckpointName),
    /// A savepoint.
    Savepoint(SavepointName),
}

impl Contents {
    pub(crate) fn new(backing: Arc<dyn Backing>, pipeline: String) -> Self {
        Self { backing, pipeline, downloads: None }
    }

    /// From now on [`Contents::verify`] leaves what it reads of a store that isn't on a local disk in this folder, so
    /// that [`Contents::restore`] needn't read it again. What is in the folder is removed.
    ///
    /// # Errors
    /// When the folder can't be emptied.
    pub fn download_to(&mut self, folder: PathBuf) -> Result<(), Error> {
        remove_folder(&folder)?;
        self.downloads = Some(folder);
        Ok(())
    }

    /// The pipeline whose store it is.
    pub fn pipeline(&self) -> &str {
        &self.pipeline
    }

    /// All checkpoints, the oldest first, then all savepoints by name; also those that can't be believed.
    ///
    /// # Errors
    /// When the store can't be read.
    pub fn list(&self) -> Result<Vec<Listed>, Error> {
        // One that was removed meanwhile isn't listed.
        self.names()?.iter().filter_map(|name| self.look_at(name).transpose()).collect()
    }

    /// One manifest as [`Contents::list`] has it; none, if there is none.
    ///
    /// # Errors
    /// When the store can't be read.
    pub fn look_at(&self, name: &Name) -> Result<Option<Listed>, Error> {
        let name = name.clone();
        Ok(match self.read_copies(&name)? {
            Copies::Missing => None,
            Copies::Good { manifest, warning, .. } => {
                let warning =
                    warning.map(|warning| format!("{warning}; the next start makes it anew from the other"));
                Some(Listed { name, manifest: Ok(*manifest), warning })
            }
            Copies::Broken(error) => Some(Listed { name, manifest: Err(error), warning: None }),
        })
    }

    /// The checkpoints of whose output a commit was begun, ascending. That of the newest of these is never removed.
    ///
    /// # Errors
    /// When the store can't be read.
    pub fn commits_begun(&self) -> Result<Vec<u64>, Error> {
        let marks = self.backing.list(COMMITS)?;
        let mut commits: Vec<u64> = marks.iter().filter_map(|(name, _)| name.parse().ok()).collect();
        commits.sort_unstable();
        Ok(commits)
    }

    /// Every number of a checkpoint that was used, as far as the store remembers; ascending. A new checkpoint's number
    /// lies above them.
    ///
    /// # Errors
    /// When the store can't be read.
    pub fn numbers_seen(&self) -> Result<Vec<u64>, Error> {
        let mut numbers: BTreeSet<u64> = self.commits_begun()?.into_iter().collect();
        numbers.extend(self.checkpoint_names()?.iter().map(|name| name.checkpoint));
        numbers.extend(self.names_in(SET_ASIDE)?.iter().map(|name| name.checkpoint));
        for listed in self.list()? {
            numbers.extend(listed.manifest.ok().map(|manifest| manifest.checkpoint));
        }
        Ok(numbers.into_iter().collect())
    }

    /// The manifest that a person means.
    ///
    /// # Errors
    /// When there is none, or the store can't be read.
    pub fn find(&self, which: &Selector) -> Result<Name, Error> {
        let means = |name: &Name| match (name, which) {
            (Name::Checkpoint(name), Selector::Checkpoint(number)) => name.checkpoint == *number,
            (Name::Savepoint(name), Selector::Savepoint(wanted)) => name == wanted,
            _ => false,
        };
        self.names()?.into_iter().rfind(means).ok_or_else(|| self.missing(which))
    }

    /// The manifest of a checkpoint or savepoint. One good copy is enough.
    ///
    /// # Errors
    /// When there is none, no copy can be believed, or a newer version wrote it.
    pub fn read(&self, which: &Selector) -> Result<Manifest, Error> {
        match self.read_copies(&self.find(which)?)? {
            Copies::Missing => Err(self.missing(which)),
            Copies::Good { manifest, .. } => Ok(*manifest),
            Copies::Broken(error) => Err(error),
        }
    }

    /// Reads and hashes all files that a manifest names, and tells how far it has come.
    ///
    /// # Errors
    /// All that is wrong, file by file.
    pub fn verify(
        &self,
        manifest: &Manifest,
        progress: &(dyn Fn(Progress) + Sync),
    ) -> Result<Report, Vec<Problem>> {
        verify::verify(&*self.backing, &manifest.state.files, self.downloads.as_deref(), progress)
    }

    /// Brings the files of the state into a folder that is empty or not there yet; by links where a file is never
    /// changed and the file system allows it. What is on a local disk isn't checked, see [`Contents::verify`]; what
    /// is read from elsewhere is, and is what [`Contents::verify`] has left here, if it was asked to.
    ///
    /// # Errors
    /// When the folder has something in it, or a file is missing or can't be copied. Whatever is in the folder then is
    /// of no use.
    pub fn restore(&self, manifest: &Manifest, folder: &Path) -> Result<(), Error> {
        let failed = || Error::io(format!("restore into {}", folder.display()));
        fs::create_dir_all(folder).map_err(failed())?;
        if fs::read_dir(folder).map_err(failed())?.next().is_some() {
            return Err(failed()(std::io::Error::other("it isn't empty")));
        }
        let files = &manifest.state.files;
        if files.iter().all(|file| self.backing.local(&path_of(file.sha256)).is_some()) {
            for file in files {
                let from = self.backing.local(&path_of(file.sha256)).unwrap_or_default();
                self.restore_file(file, &from, folder)?;
            }
            return Ok(());
        }
        let downloads = self.downloads.clone().unwrap_or_else(|| folder.join("downloads"));
        let is_there = |file: &&FileEntry| {
            fs::metadata(downloads.join(file.sha256.to_string())).is_ok_and(|found| found.len() == file.bytes)
        };
        let missing: Vec<FileEntry> = files.iter().filter(|file| !is_there(file)).cloned().collect();
        verify::verify(&*self.backing, &missing, Some(&downloads), &|_| ()).map_err(|problems| {
            let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
            Error::io(format!("restore {}", manifest.name()))(std::io::Error::other(told.join("; ")))
        })?;
        for file in files {
            self.restore_file(file, &downloads.join(file.sha256.to_string()), folder)?;
        }
        remove_folder(&downloads)
    }

    fn restore_file(&self, file: &FileEntry, from: &Path, folder: &Path) -> Result<(), Error> {
        let to = folder.join(file.name.as_str());
        link_or_copy(from, &to, file.immutable)?;
        let restored =
            fs::symlink_metadata(&to).map_err(Error::io(format!("restore into {}", folder.display())))?;
        let why = match restored.len() {
            _ if !restored.is_file() => "it isn't a file".to_owned(),
            bytes if bytes != file.bytes => format!("it has {bytes} bytes instead of {}", file.bytes),
            _ => return Ok(()),
        };
        Err(Error::Broken { file: self.location(file), why })
    }

    /// Where the content of a file stands, for people.
    pub fn location(&self, file: &FileEntry) -> String {
        self.shown(&path_of(file.sha256))
    }

    /// Keeps a checkpoint as a savepoint: until a person deletes it.
    ///
    /// # Errors
    /// When there is no such checkpoint, it can't be believed, or the name is taken.
    pub fn keep(&self, checkpoint: u64, name: &SavepointName) -> Result<(), Error> {
        let _edit = self.backing.lock(EDIT_LOCK, true)?;
        let of = self.find(&Selector::Checkpoint(checkpoint))?;
        let mut manifest = self.read(&Selector::Checkpoint(checkpoint))?;
        manifest.savepoint = Some(name.clone());
        let sealed = encode(&manifest)?;
        let name = Name::Savepoint(name.clone());
        let exists =
            || Error::Exists { store: self.backing.describe(), what: "a savepoint of this name".to_owned() };
        if !matches!(self.read_copies(&name)?, Copies::Missing) {
            return Err(exists());
        }
        let [first, copy] = name.paths();
        if !self.backing.create(&first, &sealed)? {
            return Err(exists());
        }
        self.backing.replace(&copy, &sealed)?;
        if self.backing.locks() || self.look_at(&of)?.is_some() {
            return Ok(());
        }
        // Whoever removes manifests looks only then what is needed. The checkpoint's is still there, so that look is to
        // come and finds the savepoint; or it is gone, as here, and so may the files be.
        self.remove_manifests(std::slice::from_ref(&name))?;
        Err(self.missing(&Selector::Checkpoint(checkpoint)))
    }

    /// Deletes a checkpoint or savepoint, also one that can't be believed, and the files that nothing else needs; if
    /// the pipeline is running, it removes these with one of its next checkpoints.
    ///
    /// # Errors
    /// When there is none, or it is the newest checkpoint: to go on from an older one would write output again.
    pub fn delete(&self, which: &Selector) -> Result<Collected, Error> {
        let _edit = self.backing.lock(EDIT_LOCK, true)?;
        let name = self.find(which)?;
        if let Name::Checkpoint(name) = name
            && self.checkpoint_names()?.last() == Some(&name)
        {
            return Err(Error::Newest { store: self.backing.describe(), name });
        }
        self.remove_manifests(std::slice::from_ref(&name))?;
        let mut collected = match self.backing.lock(RUN_LOCK, false) {
            Ok(_) if !self.backing.locks() => Collected {
                waiting: Some("the pipeline removes the files with one of its checkpoints".to_owned()),
                ..Collected::default()
            },
            Ok(_run) => collect::files(self, &BTreeSet::new(), &|| Ok(()))?,
            Err(Error::InUse { holder, .. }) => Collected {
                waiting: Some(format!("{holder} runs the pipeline and removes the files later")),
                ..Collected::default()
            },
            Err(error) => return Err(error),
        };
        collected.manifests.push(name);
        Ok(collected)
    }

    /// All checkpoints, ascending by number and then by run.
    pub(crate) fn checkpoint_names(&self) -> Result<Vec<CheckpointName>, Error> {
        let mut names = BTreeSet::new();
        for folder in CHECKPOINTS {
            names.extend(self.names_in(folder)?);
        }
        Ok(names.into_iter().collect())
    }

    pub(crate) fn names_in(&self, folder: &str) -> Result<BTreeSet<CheckpointName>, Error> {
        Ok(self.backing.list(folder)?.iter().filter_map(|(file, _)| CheckpointName::of_file(file)).collect())
    }

    /// All manifests.
    pub(crate) fn names(&self) -> Result<Vec<Name>, Error> {
        let mut savepoints = BTreeSet::new();
        for folder in SAVEPOINTS {
            let files = self.backing.list(folder)?;
            let names = files.iter().filter_map(|(file, _)| file.strip_suffix(".json")?.parse().ok());
            savepoints.extend(names.map(Name::Savepoint));
        }
        let checkpoints = self.checkpoint_names()?.into_iter().map(Name::Checkpoint);
        Ok(checkpoints.chain(savepoints).collect())
    }

    /// Removes manifests, both copies of each, durably. Nothing that they name may be removed before.
    pub(crate) fn remove_manifests(&self, names: &[Name]) -> Result<(), Error> {
        for path in names.iter().flat_map(Name::paths) {
            self.backing.remove(&path)?;
        }
        self.backing.sync()
    }

    fn missing(&self, which: &Selector) -> Error {
        Error::Missing { store: self.backing.describe(), what: which.clone() }
    }

    pub(crate) fn shown(&self, path: &str) -> String {
        format!("{}/{path}", self.backing.describe())
    }
}

impl Name {
    pub(crate) fn paths(&self) -> [String; 2] {
        match self {
            Self::Checkpoint(name) => CHECKPOINTS.map(|folder| format!("{folder}/{}", name.file())),
            Self::Savepoint(name) => SAVEPOINTS.map(|folder| format!("{folder}/{name}.json")),
        }
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Checkpoint(name) => name.fmt(f),
            Self::Savepoint(name) => write!(f, "savepoint {name}"),
        }
    }
}

fn remove_folder(folder: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io(format!("empty the folder {}", folder.display()))(error))
        }
        _ => Ok(()),
    }
}

/// The digests that manifests need; with the first that can't be read, in whose stead nobody knows what is needed.
pub(crate) fn needed(contents: &Contents) -> Result<(BTreeSet<Digest>, Option<Error>), Error> {
    let mut digests = BTreeSet::new();
    let mut unknown = None;
    for listed in contents.list()? {
        match listed.manifest {
            Ok(manifest) => digests.extend(manifest.state.files.iter().map(|file| file.sha256)),
            Err(error) => drop(unknown.get_or_insert(error)),
        }
    }
    Ok((digests, unknown))
}
