//! Removing what is no longer needed. Manifests go before what they name: a crash in between leaves files that nobody
//! needs, never a manifest that needs what is gone.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;

use crate::contents::{COMMITS, Contents, Name, SET_ASIDE, needed};
use crate::error::Error;
use crate::failpoint;
use crate::names::Digest;

/// As many as one request to an object store may name.
const REMOVED_AT_ONCE: usize = 1000;

/// What was removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// The checkpoints and savepoints.
    pub manifests: Vec<Name>,
    /// How many files.
    pub files_count: u64,
    /// How many bytes these had together.
    pub bytes: u64,
    /// Why no files were removed, if that has to wait.
    pub waiting: Option<String>,
}

/// Removes checkpoints older than the newest `count` that can be read, then what nothing needs any more.
pub(crate) fn retain(
    contents: &Contents,
    count: NonZeroUsize,
    in_flight: &BTreeSet<Digest>,
    may_go_on: &dyn Fn() -> Result<(), Error>,
) -> Result<Collected, Error> {
    let mut readable = Vec::new();
    let mut old = Vec::new();
    for listed in contents.list()?.into_iter().rev() {
        let Name::Checkpoint(name) = listed.name else { continue };
        // Those that can't be read and are not yet old stay, for the person who repairs them.
        if readable.len() >= count.get() {
            old.push(Name::Checkpoint(name));
        } else if listed.manifest.is_ok() {
            readable.push(name);
        }
    }
    old.reverse();
    contents.remove_manifests(&old)?;
    failpoint::at("retain.remove").map_err(Error::io("remove what older checkpoints needed"))?;
    if readable.len() >= count.get()
        && let Some(oldest) = readable.last()
    {
        remove_marks(contents, oldest.checkpoint)?;
    }
    let collected = files(contents, in_flight, may_go_on)?;
    Ok(Collected { manifests: old, ..collected })
}

/// Removes the marks of commits, and what was set aside, before a checkpoint. The newest mark stays in any case: it says
/// behind what nobody may go back.
fn remove_marks(contents: &Contents, before: u64) -> Result<(), Error> {
    let mut commits = contents.commits_begun()?;
    commits.pop();
    for commit in commits.into_iter().filter(|commit| *commit < before) {
        contents.backing.remove(&commit_path(commit))?;
    }
    for name in contents.names_in(SET_ASIDE)?.into_iter().filter(|name| name.checkpoint < before) {
        contents.backing.remove(&format!("{SET_ASIDE}/{}", name.file()))?;
    }
    contents.backing.sync()
}

/// Removes the files that no manifest needs and that aren't about to be named by one. As long as a manifest can't be
/// read, nobody knows what it needs, and none is removed. Before every few it is asked whether it may go on.
pub(crate) fn files(
    contents: &Contents,
    in_flight: &BTreeSet<Digest>,
    may_go_on: &dyn Fn() -> Result<(), Error>,
) -> Result<Collected, Error> {
    let (needed, unknown) = needed(contents)?;
    let mut collected = Collected::default();
    if let Some(unknown) = unknown {
        collected.waiting = Some(format!("files that aren't needed stay, since {unknown}"));
        return Ok(collected);
    }
    let mut removed = Vec::new();
    for (path, bytes) in contents.backing.list_settled("files")? {
        let digest = path.split_once('/').and_then(|(_, name)| name.parse::<Digest>().ok());
        let Some(digest) = digest else { continue };
        if needed.contains(&digest) || in_flight.contains(&digest) {
            continue;
        }
        removed.push(format!("files/{path}"));
        collected.files_count += 1;
        collected.bytes += bytes;
    }
    for paths in removed.chunks(REMOVED_AT_ONCE) {
        may_go_on()?;
        contents.backing.remove_all(paths)?;
    }
    Ok(collected)
}

pub(crate) fn commit_path(checkpoint: u64) -> String {
    format!("{COMMITS}/{checkpoint:010}")
}
