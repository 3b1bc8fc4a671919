//! What outlives a process: files, with what a loss of power may do to those that aren't durable yet, and the fence
//! that keeps older runs from writing.

use std::collections::{BTreeMap, BTreeSet};

use crate::bugs::Bug;
use crate::random::Random;

/// The folders.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Folder {
    /// Immutable files of the state, named by content.
    Files,
    /// `checkpoint-run-copy`.
    Manifests,
    /// An empty file for each checkpoint whose commit was begun.
    Intents,
    Staged,
    Published,
}

pub(crate) type Path = (Folder, String);

#[derive(Clone, Debug)]
struct File {
    bytes: Vec<u8>,
    /// What a loss of power leaves of it.
    safety: Safety,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Safety {
    /// Written, not synced: nothing, a part, zeros, or all.
    Content,
    /// Synced, then renamed from here without a sync of the folder: at the old place, or here. Without an old place
    /// it is a temporary file's name, and the file is gone or here.
    Entry(Option<Path>),
    Durable,
}

/// Why an operation on the disk failed; the process ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// A newer run has begun.
    Fenced,
    /// A file isn't there.
    Missing(Path),
}

#[derive(Debug, Default)]
pub(crate) struct Disk {
    files: BTreeMap<Path, File>,
    fence: u64,
    no_fence: bool,
    /// Files in which a byte was flipped.
    pub(crate) rotten: BTreeSet<Path>,
    /// What was durably published: may never change or go.
    committed: BTreeMap<String, Vec<u8>>,
    /// What must never happen and did.
    pub(crate) violation: Option<String>,
}

impl Disk {
    pub(crate) fn new(bug: Option<Bug>) -> Self {
        Self { no_fence: bug == Some(Bug::NoFence), ..Self::default() }
    }

    /// Draws a run number above all others. From now on what older runs do fails.
    pub(crate) fn claim_run(&mut self) -> u64 {
        self.fence += 1;
        self.fence
    }

    pub(crate) fn check_fence(&self, run: u64) -> Result<(), Trouble> {
        if run < self.fence && !self.no_fence { Err(Trouble::Fenced) } else { Ok(()) }
    }

    /// Appends to a file, or begins it. Not durable.
    pub(crate) fn append(&mut self, run: u64, path: Path, bytes: &[u8]) -> Result<(), Trouble> {
        self.check_fence(run)?;
        let file =
            self.files.entry(path).or_insert_with(|| File { bytes: Vec::new(), safety: Safety::Content });
        file.bytes.extend_from_slice(bytes);
        file.safety = Safety::Content;
        Ok(())
    }

    /// Writes a file from its beginning, in place. Not durable.
    pub(crate) fn write(&mut self, run: u64, path: Path, bytes: Vec<u8>) -> Result<(), Trouble> {
        self.check_fence(run)?;
        self.rotten.remove(&path);
        self.files.insert(path, File { bytes, safety: Safety::Content });
        Ok(())
    }

    /// Writes and syncs a temporary file and renames it: all of it is there, or nothing. Durable with [`Self::sync`].
    pub(crate) fn write_atomically(&mut self, run: u64, path: Path, bytes: Vec<u8>) -> Result<(), Trouble> {
        self.check_fence(run)?;
        self.rotten.remove(&path);
        self.files.insert(path, File { bytes, safety: Safety::Entry(None) });
        Ok(())
    }

    /// Syncs a file and its entry.
    pub(crate) fn sync(&mut self, run: u64, path: &Path) -> Result<(), Trouble> {
        self.check_fence(run)?;
        let file = self.files.get_mut(path).ok_or_else(|| Trouble::Missing(path.clone()))?;
        file.safety = Safety::Durable;
        Ok(())
    }

    pub(crate) fn remove(&mut self, run: u64, path: &Path) -> Result<(), Trouble> {
        self.check_fence(run)?;
        if path.0 == Folder::Published {
            self.violation = Some(format!("the published part {} is removed", path.1));
        }
        self.rotten.remove(path);
        self.files.remove(path);
        Ok(())
    }

    /// Renames a staged part; nothing, if that was done before. Durable with [`Self::sync_published`].
    pub(crate) fn publish(&mut self, run: u64, part: &str) -> Result<(), Trouble> {
        self.check_fence(run)?;
        let (from, to) = ((Folder::Staged, part.to_string()), (Folder::Published, part.to_string()));
        let Some(file) = self.files.remove(&from) else {
            return if self.files.contains_key(&to) { Ok(()) } else { Err(Trouble::Missing(from)) };
        };
        let at_risk = if file.safety == Safety::Durable { Safety::Entry(Some(from)) } else { file.safety };
        self.files.insert(to, File { bytes: file.bytes, safety: at_risk });
        Ok(())
    }

    pub(crate) fn sync_published(&mut self, run: u64) -> Result<(), Trouble> {
        self.check_fence(run)?;
        for ((folder, name), file) in &mut self.files {
            if *folder == Folder::Published && file.safety != Safety::Content {
                file.safety = Safety::Durable;
                let known = self.committed.entry(name.clone()).or_insert_with(|| file.bytes.clone());
                if *known != file.bytes {
                    self.violation = Some(format!("the published part {name} has changed"));
                }
            }
        }
        Ok(())
    }

    pub(crate) fn read(&self, path: &Path) -> Option<&[u8]> {
        self.files.get(path).map(|f| f.bytes.as_slice())
    }

    pub(crate) fn list(&self, folder: Folder) -> impl Iterator<Item = &str> {
        let begin = (folder, String::new());
        self.files
            .range(begin..)
            .map(|(path, _)| path)
            .take_while(move |p| p.0 == folder)
            .map(|p| p.1.as_str())
    }

    /// The machine loses its power: whatever isn't durable is at risk.
    pub(crate) fn lose_power(&mut self, random: &mut Random) {
        for path in self.files.keys().cloned().collect::<Vec<_>>() {
            let Some(mut file) = self.files.remove(&path) else { continue };
            let to = match (&file.safety, random.below(4)) {
                (Safety::Content, 0) => continue,
                (Safety::Content, 1) => {
                    file.bytes.truncate(random.index(file.bytes.len() + 1));
                    path
                }
                (Safety::Content, 2) => {
                    file.bytes.fill(0);
                    path
                }
                (Safety::Entry(None), 0 | 1) => continue,
                (Safety::Entry(Some(old)), 0 | 1) => old.clone(),
                (Safety::Content | Safety::Entry(_) | Safety::Durable, _) => path,
            };
            // What was found after the restart stays.
            file.safety = Safety::Durable;
            self.files.insert(to, file);
        }
    }

    /// Flips a byte in a file of the state or in a manifest. None if there is none.
    pub(crate) fn rot(&mut self, random: &mut Random) -> Option<Path> {
        let end = (Folder::Intents, String::new());
        let candidates: Vec<Path> = self.files.range(..end).map(|(p, _)| p.clone()).collect();
        let path = candidates.get(random.index(candidates.len().max(1)))?.clone();
        let bytes = &mut self.files.get_mut(&path)?.bytes;
        if bytes.is_empty() {
            return None;
        }
        let at = random.index(bytes.len());
        bytes[at] ^= random.between(1, 255) as u8;
        self.rotten.insert(path.clone());
        Some(path)
    }

    /// Whether all that was durably published is still there, as it was.
    pub(crate) fn check_committed(&self) -> Result<(), String> {
        for (name, bytes) in &self.committed {
            if self.read(&(Folder::Published, name.clone())) != Some(bytes) {
                return Err(format!("the published part {name} has changed or is gone"));
            }
        }
        Ok(())
    }
}
