//! The store as the process has it that runs the pipeline: the one that may write.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use crate::backing::{Backing, Guard, Put};
use crate::collect::{self, Collected, commit_path};
use crate::contents::{
    CHECKPOINTS, COMMITS, Contents, EDIT_LOCK, Listed, Name, RUN_LOCK, SAVEPOINTS, SET_ASIDE,
};
use crate::copies::{Copies, MANIFEST_BYTES_MAX, encode};
use crate::error::Error;
use crate::failpoint;
use crate::files::{Identity, Known, path_of};
use crate::local::Local;
use crate::manifest::{FileEntry, Manifest};
use crate::names::{CheckpointName, Digest, FileName, shown};
use crate::place::Place;
use crate::runs;

/// The store of a pipeline, held by the process that runs it. What can be done with a store without running its pipeline
/// is in [`Contents`], to which it leads.
///
/// A checkpoint's way: each file of the state is taken in by [`Store::put_file`]; [`Store::write_manifest`] makes the
/// checkpoint true; before any of its output is committed, [`Store::begin_commit`]; then [`Store::retain`].
#[derive(Debug)]
pub struct Store {
    contents: Contents,
    run: u64,
    /// The largest number of a checkpoint that was used when this run began.
    last_number: Option<u64>,
    /// What each run has found when it began, up to this one.
    found: Vec<(u64, Option<u64>)>,
    warnings: Vec<String>,
    /// What was put and that no manifest names yet. Held for moments.
    in_flight: Mutex<BTreeSet<Digest>>,
    /// Held shared while a file is put, and alone while files are collected: nothing is removed between being
    /// found in the store and being in flight.
    collecting: RwLock<()>,
    /// Held for moments.
    known: Mutex<Known>,
    /// Released when the process ends, however it ends.
    _lock: Guard,
}

impl Store {
    /// Opens the store in a folder or object store, makes one if nothing is there, and begins a new run. Copies of
    /// manifests that are broken or missing are made anew from the good ones, see [`Store::warnings`].
    ///
    /// # Errors
    /// When another process holds it, it belongs to another pipeline, the place holds something else, or the
    /// file system or service fails.
    pub fn open(place: impl Into<Place>, pipeline: &str) -> Result<Self, Error> {
        let place = match place.into() {
            Place::Folder(folder) => return Self::open_at(Arc::new(make_local(&folder)?), pipeline),
            place => place,
        };
        #[cfg(feature = "object")]
        {
            let objects = crate::object::Objects::at(&place, true)?;
            objects.check_conditions()?;
            Self::open_at(Arc::new(objects), pipeline)
        }
        #[cfg(not(feature = "object"))]
        Err(without_objects(&place))
    }

    pub(crate) fn open_at(backing: Arc<dyn Backing>, pipeline: &str) -> Result<Self, Error> {
        let lock = backing.lock(RUN_LOCK, false)?;
        let found = runs::pipeline(&*backing)?;
        if let Some(found) = found.filter(|found| found != pipeline) {
            let found = shown(&found);
            return Err(Error::OtherPipeline {
                store: backing.describe(),
                found,
                expected: pipeline.to_owned(),
            });
        }
        let contents = Contents::new(backing, pipeline.to_owned());
        // Should the runs be lost, the manifests still say which numbers were used.
        let mut names = contents.checkpoint_names()?;
        names.extend(contents.names_in(SET_ASIDE)?);
        let floor = names.iter().map(|name| name.run).max().unwrap_or(0);
        let run = runs::begin(&*contents.backing, pipeline, floor)?;
        // Only now, when an older run may not write any more, and before anything else: see `runs`.
        let last_number = contents.numbers_seen()?.last().copied();
        runs::note_found(&*contents.backing, run, last_number)?;
        let found = runs::found(&*contents.backing)?;
        let mut store = Self {
            contents,
            run,
            last_number,
            found,
            warnings: Vec::new(),
            in_flight: Mutex::default(),
            collecting: RwLock::default(),
            known: Mutex::default(),
            _lock: lock,
        };
        let edit = store.backing.lock(EDIT_LOCK, true)?;
        store.backing.clean()?;
        store.set_zombies_aside()?;
        store.warnings = heal(&store)?;
        drop(edit);
        Ok(store)
    }

    /// What the store in a place holds, for tools. Nothing is locked or changed.
    ///
    /// # Errors
    /// When the place holds no store, or can't be read.
    pub fn look(place: impl Into<Place>) -> Result<Contents, Error> {
        let (backing, why): (Arc<dyn Backing>, _) = match place.into() {
            Place::Folder(folder) if !folder.is_dir() => {
                (Arc::new(Local::new(&folder)), "there is no such folder")
            }
            Place::Folder(folder) => (Arc::new(Local::new(&folder)), "no run of a pipeline has begun there"),
            #[cfg(feature = "object")]
            place => {
                (Arc::new(crate::object::Objects::at(&place, false)?), "no run of a pipeline has begun there")
            }
            #[cfg(not(feature = "object"))]
            place => return Err(without_objects(&place)),
        };
        Self::look_at_place(backing, why)
    }

    pub(crate) fn look_at_place(backing: Arc<dyn Backing>, why: &str) -> Result<Contents, Error> {
        let not_a_store = || Error::NotAStore { store: backing.describe(), why: why.to_owned() };
        let pipeline = runs::pipeline(&*backing)?.ok_or_else(not_a_store)?;
        Ok(Contents::new(backing, pipeline))
    }

    /// As [`Contents::download_to`].
    ///
    /// # Errors
    /// See there.
    pub fn download_to(&mut self, folder: PathBuf) -> Result<(), Error> {
        self.contents.download_to(folder)
    }

    /// As [`Contents::list`], without what zombies have written since this run began: that is nobody's.
    ///
    /// # Errors
    /// See there.
    pub fn list(&self) -> Result<Vec<Listed>, Error> {
        let mut listed = self.contents.list()?;
        listed.retain(|listed| !matches!(&listed.name, Name::Checkpoint(name) if self.is_zombie(name)));
        Ok(listed)
    }

    /// The number of this run: above those of all runs before it.
    pub fn run(&self) -> u64 {
        self.run
    }

    /// What was found broken and repaired when the store was opened.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Takes in a file of the state and says how a manifest names it. If it is `immutable`, never changed by anybody
    /// under any of its names, it is linked where the file system can do that, and not read again
    /// when it comes again. It is durable when the manifest is.
    ///
    /// # Errors
    /// When it can't be read or taken in. The checkpoint can't be completed then; another can be tried.
    pub fn put_file(&self, path: &Path, immutable: bool) -> Result<FileEntry, Error> {
        let text = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let name: FileName = text.parse().map_err(|e| Error::Invalid(format!("{}: {e}", path.display())))?;
        let _shared = self.collecting.read().unwrap_or_else(PoisonError::into_inner);
        let identity = immutable.then(|| Identity::of(path)).flatten();
        let known = identity.as_ref().and_then(|identity| self.known().get(identity).cloned());
        if let Some(entry) = known
            && self.backing.has(&path_of(entry.sha256), entry.bytes)?
        {
            self.in_flight().insert(entry.sha256);
            return Ok(entry);
        }
        let (sha256, bytes) = self.backing.put(&Put { source: path, immutable }, &path_of)?;
        self.in_flight().insert(sha256);
        let entry = FileEntry { name, sha256, bytes, immutable };
        if let Some(identity) = identity {
            self.known().remember(identity, entry.clone());
        }
        Ok(entry)
    }

    /// Writes a manifest, both copies; with that the checkpoint is true and durable, and so are its files.
    ///
    /// # Errors
    /// When a newer run has begun, the number was used, a file that it names isn't in the store, or something can't be
    /// written. It may be there nevertheless, after an error of the file system: then it is whole.
    pub fn write_manifest(&self, manifest: &Manifest) -> Result<CheckpointName, Error> {
        let name = manifest.name();
        let sealed = encode(manifest)?;
        if manifest.run != self.run || manifest.pipeline != self.pipeline || manifest.savepoint.is_some() {
            let (pipeline, run) = (&self.pipeline, self.run);
            return Err(Error::Invalid(format!("{name} isn't one of pipeline `{pipeline}`, run {run}")));
        }
        self.check_fence()?;
        self.set_zombies_aside()?;
        let used = self.checkpoint_names()?.last().map(|used| used.checkpoint).max(self.last_number);
        if let Some(used) = used.filter(|used| *used >= name.checkpoint) {
            return Err(Error::Exists { store: self.backing.describe(), what: format!("checkpoint {used}") });
        }
        let files: Vec<_> = manifest.state.files.iter().map(|f| (path_of(f.sha256), f.bytes)).collect();
        if let Some(missing) = self.backing.first_missing(&files)? {
            let file = self.location(&manifest.state.files[missing]);
            return Err(Error::Broken { file, why: format!("{name} needs it, and it isn't there") });
        }
        self.backing.sync()?;
        let [first, copy] = Name::Checkpoint(name).paths();
        if !self.backing.create(&first, &sealed)? {
            return Err(Error::Exists { store: self.backing.describe(), what: name.to_string() });
        }
        let failed = || Error::io(format!("write the manifest of {name}"));
        failpoint::at("manifest.written").map_err(failed())?;
        self.backing.replace(&copy, &sealed)?;
        failpoint::at("manifest.copy").map_err(failed())?;
        let mut in_flight = self.in_flight();
        for file in &manifest.state.files {
            in_flight.remove(&file.sha256);
        }
        drop(in_flight);
        self.known().keep(&manifest.state.files);
        Ok(name)
    }

    /// Gives up what was put for a checkpoint that won't be completed.
    pub fn abandon(&self) {
        self.in_flight().clear();
    }

    /// Notes durably, before any of it is done, that the commit of a checkpoint's output begins: nobody may go back
    /// behind that checkpoint any more.
    ///
    /// # Errors
    /// When a newer run has begun, or it can't be written.
    pub fn begin_commit(&self, checkpoint: u64) -> Result<(), Error> {
        self.check_fence()?;
        let note = format!("run {} began to commit the output of checkpoint {checkpoint}\n", self.run);
        self.backing.create(&commit_path(checkpoint), note.as_bytes()).map(drop)
    }

    /// Sets a manifest aside that a start passed over, so that it is never restored, whatever becomes of its files.
    ///
    /// # Errors
    /// When a newer run has begun, or a file can't be moved.
    pub fn set_aside(&self, name: CheckpointName) -> Result<(), Error> {
        self.check_fence()?;
        let _edit = self.backing.lock(EDIT_LOCK, true)?;
        self.move_aside(name)
    }

    /// What zombies have written is nothing to this run, and newer than its own it must not seem.
    fn set_zombies_aside(&self) -> Result<(), Error> {
        for name in self.checkpoint_names()?.into_iter().filter(|name| self.is_zombie(name)) {
            self.move_aside(name)?;
        }
        Ok(())
    }

    /// Whether a manifest was written by a process that was thought dead, when a newer run had begun: see `runs`.
    fn is_zombie(&self, name: &CheckpointName) -> bool {
        self.found.iter().any(|(run, found)| *run > name.run && Some(name.checkpoint) > *found)
    }

    fn move_aside(&self, name: CheckpointName) -> Result<(), Error> {
        for path in Name::Checkpoint(name).paths() {
            // As it is, broken or not: it is evidence. If it can't even be read, it still has to go.
            if let Ok(Some(content)) = self.backing.read(&path, MANIFEST_BYTES_MAX) {
                self.backing.replace(&format!("{SET_ASIDE}/{}", name.file()), &content)?;
                break;
            }
        }
        self.remove_manifests(&[Name::Checkpoint(name)])
    }

    /// Brings the files of a checkpoint's state into a folder, as [`Contents::restore`] does. Those that are linked are
    /// not read again when they are put.
    ///
    /// # Errors
    /// See there.
    pub fn restore(&self, manifest: &Manifest, folder: &Path) -> Result<(), Error> {
        self.contents.restore(manifest, folder)?;
        let mut known = self.known();
        for file in manifest.state.files.iter().filter(|file| file.immutable) {
            if let Some(identity) = Identity::of(&folder.join(file.name.as_str())) {
                known.remember(identity, file.clone());
            }
        }
        Ok(())
    }

    /// Keeps the newest `count` checkpoints that can be read, what is newer than these, and all savepoints; removes the
    /// others, and then the files that nothing needs.
    ///
    /// # Errors
    /// When a newer run has begun, or something can't be read or removed. What is kept is whole in any case.
    pub fn retain(&self, count: NonZeroUsize) -> Result<Collected, Error> {
        self.check_fence()?;
        let _edit = self.backing.lock(EDIT_LOCK, true)?;
        self.set_zombies_aside()?;
        let _alone = self.collecting.write().unwrap_or_else(PoisonError::into_inner);
        let in_flight = self.in_flight().clone();
        collect::retain(&self.contents, count, &in_flight, &|| self.check_fence())
    }

    /// Whether this is still the newest run.
    ///
    /// # Errors
    /// When it isn't, or that can't be found out.
    pub fn check_fence(&self) -> Result<(), Error> {
        match runs::list(&*self.backing)?.last() {
            Some(&newest) if newest != self.run => {
                Err(Error::Fenced { store: self.backing.describe(), run: self.run, newest })
            }
            None => Err(Error::NotAStore {
                store: self.backing.describe(),
                why: "its runs were removed while this one works".to_owned(),
            }),
            Some(_) => Ok(()),
        }
    }

    fn in_flight(&self) -> MutexGuard<'_, BTreeSet<Digest>> {
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Deref for Store {
    type Target = Contents;

    fn deref(&self) -> &Contents {
        &self.contents
    }
}

/// The store's folder, which is made if it isn't there.
fn make_local(folder: &Path) -> Result<Local, Error> {
    let local = Local::new(folder);
    check_folder(&local, folder)?;
    let [checkpoints, checkpoints_copy] = CHECKPOINTS;
    let [savepoints, savepoints_copy] = SAVEPOINTS;
    local.make_folders(&[
        "tmp",
        "runs",
        "files",
        checkpoints,
        checkpoints_copy,
        savepoints,
        savepoints_copy,
        COMMITS,
        SET_ASIDE,
    ])?;
    Ok(local)
}

#[cfg(not(feature = "object"))]
fn without_objects(place: &Place) -> Error {
    Error::Invalid(format!("{place} can't be used: this tidemill was built without object stores"))
}

/// A folder with other things in it is nobody's store: removing what no checkpoint needs would be removing these.
fn check_folder(local: &Local, folder: &Path) -> Result<(), Error> {
    let is_store = folder.join(RUN_LOCK).exists() || folder.join("runs").exists();
    let Ok(mut entries) = folder.read_dir() else { return Ok(()) };
    if is_store || entries.next().is_none() {
        return Ok(());
    }
    let why = "the folder has other files in it; choose one that is empty or isn't there yet";
    Err(Error::NotAStore { store: local.describe(), why: why.to_owned() })
}

/// Makes copies of manifests anew that are broken or missing, and says which.
fn heal(contents: &Contents) -> Result<Vec<String>, Error> {
    let mut warnings = Vec::new();
    for name in contents.names()? {
        let Copies::Good { sealed, warning, heal: Some(path), .. } = contents.read_copies(&name)? else {
            continue;
        };
        contents.backing.replace(&path, &sealed)?;
        warnings.extend(
            warning.map(|warning| format!("{name}: {warning}; it was made anew from the other copy")),
        );
    }
    Ok(warnings)
}
