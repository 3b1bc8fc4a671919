//! What the host does for the coordinator, step by step: write a checkpoint, commit it, remove what isn't needed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use tidemill_flow::checkpoint::recovery::Name;
use tidemill_flow::storage::InMemory;

use crate::bugs::Bug;
use crate::context::{Context, intent_path, manifest_path};
use crate::disk::{Folder, Trouble};
use crate::manifest::{Manifest, files_in_use, files_of, names};
use crate::task::all_of;

/// Writes a checkpoint.
pub(crate) struct Persist {
    manifest: Manifest,
    files: BTreeMap<String, Vec<u8>>,
    todo: VecDeque<PersistStep>,
}

enum PersistStep {
    TakeFiles,
    WriteFile(String),
    SyncFile(String),
    WriteManifest(u8),
    SyncManifest(u8),
}

/// What came of a step.
pub(crate) enum Persisted {
    Going,
    /// Tasks may write to the storage again.
    FilesTaken,
    Durable,
    NotDurable,
}

impl Persist {
    pub(crate) fn new(manifest: Manifest) -> Self {
        Self { manifest, files: BTreeMap::new(), todo: VecDeque::from([PersistStep::TakeFiles]) }
    }

    pub(crate) fn checkpoint(&self) -> u64 {
        self.manifest.checkpoint
    }

    /// `known` are files that this process knows to be whole and durable.
    pub(crate) fn step(
        &mut self,
        storage: &InMemory,
        known: &mut BTreeSet<String>,
        cx: &mut Context,
    ) -> Result<Persisted, Trouble> {
        let run = self.manifest.run;
        let Some(step) = self.todo.pop_front() else { return Ok(Persisted::Durable) };
        if cx.fault(50) {
            return Ok(Persisted::NotDurable);
        }
        match step {
            PersistStep::TakeFiles => {
                self.take_files(storage, known, cx);
                return Ok(Persisted::FilesTaken);
            }
            PersistStep::WriteFile(name) => {
                let bytes = self.files[&name].clone();
                cx.disk.write(run, (Folder::Files, name), bytes)?;
            }
            PersistStep::SyncFile(name) => {
                if !cx.has(Bug::FilesUnsynced) {
                    cx.disk.sync(run, &(Folder::Files, name.clone()))?;
                }
                known.insert(name);
            }
            PersistStep::WriteManifest(copy) => {
                let (path, bytes) = (manifest_path(self.manifest.name(), copy), self.manifest.write());
                cx.written.insert(self.manifest.name(), self.manifest.files.clone());
                if cx.has(Bug::ManifestNotAtomic) {
                    cx.disk.write(run, path, bytes)?;
                } else {
                    cx.disk.write_atomically(run, path, bytes)?;
                }
            }
            PersistStep::SyncManifest(copy) => {
                if !cx.has(Bug::ManifestNotAtomic) {
                    cx.disk.sync(run, &manifest_path(self.manifest.name(), copy))?;
                }
            }
        }
        Ok(Persisted::Going)
    }

    /// Like hard links: what is written to the storage from now on doesn't change them.
    fn take_files(&mut self, storage: &InMemory, known: &BTreeSet<String>, cx: &mut Context) {
        self.files = files_of(&all_of(storage));
        self.manifest.files = self.files.keys().cloned().collect();
        for name in self.files.keys() {
            let believed =
                cx.has(Bug::FileBelieved) && cx.disk.read(&(Folder::Files, name.clone())).is_some();
            if believed || known.contains(name) {
                cx.counts.files_shared += 1;
                continue;
            }
            self.todo.extend([PersistStep::WriteFile(name.clone()), PersistStep::SyncFile(name.clone())]);
        }
        let copies = [0, 1].into_iter();
        self.todo.extend(copies.flat_map(|c| [PersistStep::WriteManifest(c), PersistStep::SyncManifest(c)]));
    }

    fn names(&self, file: &str) -> bool {
        self.files.contains_key(file)
    }
}

/// Commits a checkpoint: the intent, then every sink.
pub(crate) struct Commit {
    pub(crate) checkpoint: u64,
    intent: Intent,
    missing: BTreeSet<usize>,
}

enum Intent {
    Unwritten,
    Unsynced,
    Durable,
}

impl Commit {
    pub(crate) fn new(checkpoint: u64, sinks: usize, cx: &Context) -> Self {
        let intent = if cx.has(Bug::NoIntent) { Intent::Durable } else { Intent::Unwritten };
        Self { checkpoint, intent, missing: (0..sinks).collect() }
    }

    /// Returns the sinks to be told, those that haven't answered: a notice may be lost.
    pub(crate) fn step(&mut self, run: u64, cx: &mut Context) -> Result<Vec<usize>, Trouble> {
        let path = intent_path(self.checkpoint);
        match self.intent {
            Intent::Unwritten => {
                cx.disk.write_atomically(run, path, Vec::new())?;
                self.intent = Intent::Unsynced;
            }
            Intent::Unsynced => {
                cx.disk.sync(run, &path)?;
                self.intent = Intent::Durable;
            }
            Intent::Durable => return Ok(self.missing.iter().copied().collect()),
        }
        Ok(Vec::new())
    }

    /// A sink has published. Returns whether all have.
    pub(crate) fn published(&mut self, checkpoint: u64, sink: usize) -> bool {
        if checkpoint == self.checkpoint {
            self.missing.remove(&sink);
        }
        self.missing.is_empty()
    }
}

/// Removes what no kept checkpoint needs.
pub(crate) struct Collector {
    kept_max: usize,
    /// Committed by this run, or restored by it; ascending.
    committed: Vec<Name>,
    active: bool,
}

impl Collector {
    pub(crate) fn new(restored: Option<Name>, kept_max: usize) -> Self {
        Self { kept_max, committed: restored.into_iter().collect(), active: false }
    }

    pub(crate) fn committed(&mut self, name: Name) {
        self.committed.push(name);
        self.active = true;
    }

    /// Removes one thing: a manifest, then a file, then a mark.
    pub(crate) fn step(
        &mut self,
        run: u64,
        writing: Option<&Persist>,
        known: &mut BTreeSet<String>,
        cx: &mut Context,
    ) -> Result<(), Trouble> {
        let Some(oldest_kept) = self.committed.len().checked_sub(self.kept_max).map(|at| self.committed[at])
        else {
            return Ok(());
        };
        if !self.active {
            return Ok(());
        }
        let all = names(&cx.disk);
        if let Some(&(old, copy)) = all.iter().find(|(name, _)| name.checkpoint < oldest_kept.checkpoint) {
            return cx.disk.remove(run, &manifest_path(old, copy));
        }
        let unreadable = if cx.fault(10) {
            all.get(cx.random.index(all.len().max(1))).map(|(name, _)| *name)
        } else {
            None
        };
        let in_use = files_in_use(&cx.disk, unreadable, cx.has(Bug::CollectedBlindly));
        let is_unused = |file: &&str| match &in_use {
            _ if cx.has(Bug::CollectedTooEarly) => !self.newest_names(file, cx),
            Some(in_use) => !in_use.contains(*file) && !writing.is_some_and(|w| w.names(file)),
            None => false,
        };
        let unused = cx.disk.list(Folder::Files).find(is_unused).map(str::to_string);
        if let Some(file) = unused {
            check_unneeded(&file, cx);
            cx.counts.files_removed += 1;
            known.remove(&file);
            return cx.disk.remove(run, &(Folder::Files, file));
        }
        let mut intents: Vec<String> = cx.disk.list(Folder::Intents).map(str::to_string).collect();
        intents.pop();
        match intents.pop() {
            Some(intent) => cx.disk.remove(run, &(Folder::Intents, intent))?,
            None => self.active = false,
        }
        Ok(())
    }

    fn newest_names(&self, file: &str, cx: &Context) -> bool {
        let newest = self.committed.last().and_then(|name| cx.written.get(name));
        newest.is_none_or(|files| files.iter().any(|f| f == file))
    }
}

/// The judge's word, not the collector's: no manifest on the disk names the file.
fn check_unneeded(file: &str, cx: &mut Context) {
    let read = |(name, copy)| cx.disk.read(&manifest_path(name, copy)).and_then(Manifest::read);
    let needs = names(&cx.disk).into_iter().filter_map(read).find(|m| m.files.iter().any(|f| f == file));
    if let Some(manifest) = needs {
        let name = manifest.name();
        cx.disk.violation = Some(format!("file {file} is removed though {name:?} needs it"));
    }
}
