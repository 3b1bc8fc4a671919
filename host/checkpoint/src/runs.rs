//! The runs: each start takes the next number, above all before. Whoever doesn't hold the newest may not write.

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
        let content = Run { pipeline: pipeline.to_owned(), run, process: std::process::id() };
        // Strings and numbers always have a JSON form.
        let text = serde_json::to_string_pretty(&content).map_err(|e| Error::Invalid(e.to_string()))?;
        if backing.create(&path(run), &seal(text))? {
            forget_old(backing, &before)?;
            return Ok(run);
        }
    }
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
