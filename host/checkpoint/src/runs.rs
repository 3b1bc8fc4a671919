//! The runs: each start takes the next number, above all before. Whoever doesn't hold the newest may not write.
//!
//! **Zombies.** A process that was thought dead may still write a manifest: it has looked for a newer run, found none,
//! and the newer one begins before the manifest is there. So a run, once it has its number, looks which checkpoints
//! there are, and notes the largest number in its own file before it does anything else. A manifest of an older run with
//! a larger number came later: it is never restored, and set aside.
//!
//! Nor was any of its output committed. A commit is begun only after the manifest is there *and then* no newer run
//! was found. If such a check succeeds, the manifest was there before the newer run's file, so the newer run has seen it,
//! and it is no zombie's. This needs what local file systems and S3 promise: what was written is in the next listing.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

use serde::{Deserialize, Serialize};

use crate::backing::Backing;
use crate::error::Error;
use crate::sealed::{seal, unseal};

const FOLDER: &str = "runs";
/// A page of text.
const RUN_BYTES_MAX: u64 = 4096;
/// So many are kept, for people who ask when and how often it was started. The newest is the fence; none is needed else.
const KEPT_COUNT: usize = 16;

/// What a run's file says. Its number is in its name: that the name exists is the fence, whatever is in it.
#[derive(Serialize, Deserialize)]
struct Run {
    pipeline: String,
    run: u64,
    process: u32,
    /// Two processes with the same number in two containers are told apart by this.
    #[serde(default)]
    nonce: String,
    /// The largest number of a checkpoint that there was when the run began; none: there was none, or it hasn't looked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    found: Option<u64>,
    /// Whether it has looked.
    #[serde(default)]
    has_looked: bool,
}

/// The numbers of the runs that are known, ascending.
pub(crate) fn list(backing: &dyn Backing) -> Result<Vec<u64>, Error> {
    let files = backing.list(FOLDER)?;
    let mut runs: Vec<u64> = files.iter().filter_map(|(name, _)| of_file(name)).collect();
    runs.sort_unstable();
    Ok(runs)
}

/// Begins a run above all before it, and above `floor`.
pub(crate) fn begin(backing: &dyn Backing, pipeline: &str, floor: u64) -> Result<u64, Error> {
    let mut run = floor;
    loop {
        let before = list(backing)?;
        run = before.last().copied().unwrap_or(0).max(run).checked_add(1).ok_or_else(|| Error::Broken {
            file: format!("{}/{FOLDER}", backing.describe()),
            why: "the numbers of runs are used up".to_owned(),
        })?;
        let nonce = format!("{:016x}{:016x}", chance(), chance());
        let process = std::process::id();
        let content =
            Run { pipeline: pipeline.to_owned(), run, process, nonce, found: None, has_looked: false };
        if backing.create(&path(run), &content.sealed()?)? {
            forget_old(backing, &before)?;
            return Ok(run);
        }
    }
}

/// Notes which checkpoints there were when the run began.
pub(crate) fn note_found(backing: &dyn Backing, run: u64, found: Option<u64>) -> Result<(), Error> {
    // It isn't there any more if a person has removed it; then the fence says so.
    let Some(content) = read(backing, run)? else { return Ok(()) };
    backing.replace(&path(run), &Run { found, has_looked: true, ..content }.sealed()?)
}

/// What older runs have found when they began: their numbers, and the largest number of a checkpoint that there was. A
/// run whose file can't be read says nothing, as does one that died before it looked.
pub(crate) fn found(backing: &dyn Backing) -> Result<Vec<(u64, Option<u64>)>, Error> {
    let mut all = Vec::new();
    for run in list(backing)? {
        match read(backing, run) {
            Ok(Some(content)) if content.has_looked => all.push((run, content.found)),
            Ok(_) | Err(Error::Broken { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(all)
}

impl Run {
    fn sealed(&self) -> Result<Vec<u8>, Error> {
        // Strings and numbers always have a JSON form.
        serde_json::to_string_pretty(self).map(seal).map_err(|e| Error::Invalid(e.to_string()))
    }
}

/// The standard library's keys for hashing are random.
pub(crate) fn chance() -> u64 {
    RandomState::new().build_hasher().finish()
}

fn forget_old(backing: &dyn Backing, before: &[u64]) -> Result<(), Error> {
    for old in before.iter().rev().skip(KEPT_COUNT - 1) {
        backing.remove(&path(*old))?;
    }
    backing.sync()
}

/// Whose store it is, as the newest run says that can be read. None if no run has begun.
pub(crate) fn pipeline(backing: &dyn Backing) -> Result<Option<String>, Error> {
    let mut broken = None;
    for run in list(backing)?.into_iter().rev() {
        match read(backing, run) {
            Ok(Some(run)) => return Ok(Some(run.pipeline)),
            Ok(None) => {}
            Err(error) => drop(broken.get_or_insert(error)),
        }
    }
    broken.map_or(Ok(None), Err)
}

fn read(backing: &dyn Backing, run: u64) -> Result<Option<Run>, Error> {
    let Some(content) = backing.read(&path(run), RUN_BYTES_MAX)? else { return Ok(None) };
    let parsed = unseal(&content).and_then(|text| serde_json::from_str(text).map_err(|e| e.to_string()));
    parsed
        .map(Some)
        .map_err(|why| Error::Broken { file: format!("{}/{}", backing.describe(), path(run)), why })
}

fn path(run: u64) -> String {
    format!("{FOLDER}/{run:010}")
}

fn of_file(name: &str) -> Option<u64> {
    let run = name.parse().ok()?;
    (format!("{run:010}") == name).then_some(run)
}
