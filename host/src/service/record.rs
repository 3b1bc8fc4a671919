//! What a pipeline shall be, on the disk: one file, replaced as a whole, so that whoever reads it after a crash finds what
//! was decided before or after, and nothing between.
//!
//! A change is on *trial* until a checkpoint is complete that was made under it. Which version a pipeline goes on with
//! after a crash is therefore written in one place only, the manifest of its newest checkpoint: it bears the number of
//! its generation.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::model::{Desired, Specification};
use super::refusal::Refusal;

/// The version of what is written.
const FORMAT: u32 = 1;
const NAME: &str = "pipeline.json";
/// Generations whose state is kept to return to. Each keeps files that newer checkpoints may not need any more.
pub(super) const PREVIOUS_MAX: usize = 5;

/// What a pipeline shall be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    format: u32,
    pub(super) desired: Desired,
    pub(super) generation: u64,
    pub(super) specification: Specification,
    /// A change that isn't certain yet.
    #[serde(default)]
    pub(super) trial: Option<Trial>,
    /// What it was before, the oldest first.
    #[serde(default)]
    pub(super) previous: Vec<Previous>,
    /// The highest generation that was ever tried.
    pub(super) last_generation: u64,
    /// The number of the last replay.
    #[serde(default)]
    pub(super) last_replay: u64,
}

/// A change that isn't certain yet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Trial {
    pub(super) generation: u64,
    pub(super) specification: Specification,
    /// `swap`, `apply`, `promote` or `rollback`.
    pub(super) kind: String,
    pub(super) by: String,
    /// In words, for the history.
    pub(super) what: String,
    /// The savepoint with the state that the version before leaves behind, once it is there.
    pub(super) savepoint: String,
}

/// A generation of the past.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Previous {
    pub(super) generation: u64,
    pub(super) specification: Specification,
    /// Its state when it was replaced.
    pub(super) savepoint: String,
}

impl Record {
    /// Of a pipeline that is new.
    pub(super) fn new(specification: Specification) -> Self {
        Self {
            format: FORMAT,
            desired: Desired::Running,
            generation: 1,
            specification,
            trial: None,
            previous: Vec::new(),
            last_generation: 1,
            last_replay: 0,
        }
    }

    /// A change is to be tried.
    pub(super) fn try_out(&mut self, trial: Trial) {
        self.last_generation = self.last_generation.max(trial.generation);
        self.trial = Some(trial);
    }

    /// The trial has succeeded. Returns generations that are forgotten for it.
    pub(super) fn pass(&mut self, has_savepoint: bool) -> Vec<Previous> {
        let Some(trial) = self.trial.take() else { return Vec::new() };
        let specification = std::mem::replace(&mut self.specification, trial.specification);
        if has_savepoint {
            let (generation, savepoint) = (self.generation, trial.savepoint);
            self.previous.push(Previous { generation, specification, savepoint });
        }
        self.generation = trial.generation;
        let surplus = self.previous.len().saturating_sub(PREVIOUS_MAX);
        self.previous.drain(..surplus).collect()
    }

    /// Reads what is in the folder of a pipeline.
    ///
    /// # Errors
    /// When it can't be read, or isn't what this version writes.
    pub(super) fn load(folder: &Path) -> Result<Self, Refusal> {
        let path = folder.join(NAME);
        let failed = |why: &dyn std::fmt::Display| Refusal::failed(format!("{}: {why}", path.display()));
        let text = fs::read(&path).map_err(|e| failed(&format!("cannot read it: {e}")))?;
        let record: Self = serde_json::from_slice(&text).map_err(|e| failed(&e))?;
        match record.format {
            FORMAT => Ok(record),
            format => Err(failed(&format!("it has format {format}; this version reads format {FORMAT}"))),
        }
    }

    /// Writes it, durably.
    ///
    /// # Errors
    /// When it can't be written; then the one before is there still.
    pub(super) fn store(&self, folder: &Path) -> Result<(), Refusal> {
        let path = folder.join(NAME);
        let text = serde_json::to_vec_pretty(self).map_err(io::Error::other);
        let written = text.and_then(|text| replace(&path, &text));
        written.map_err(|e| Refusal::failed(format!("cannot write {}: {e}", path.display())))
    }
}

/// Replaces a file as a whole, durably.
pub(super) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = File::create(&beside)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn specification(text: &str) -> Specification {
        let (file, base) = ("p.toml".to_owned(), "/".into());
        let components = std::collections::BTreeMap::default();
        Specification { file, text: text.to_owned(), base, components, parallelism: None }
    }

    fn trial(generation: u64) -> Trial {
        Trial {
            generation,
            specification: specification(&generation.to_string()),
            kind: "swap".to_owned(),
            by: String::new(),
            what: String::new(),
            savepoint: format!("before-{generation}"),
        }
    }

    #[test]
    fn generations_that_are_passed_can_be_returned_to_and_the_oldest_are_forgotten() {
        let mut record = Record::new(specification("1"));
        let mut forgotten = Vec::new();
        for generation in 2..=8 {
            record.try_out(trial(generation));
            forgotten.extend(record.pass(true).into_iter().map(|p| p.savepoint));
        }
        assert_eq!((record.generation, record.last_generation), (8, 8));
        assert_eq!(record.specification.text, "8");
        let kept: Vec<u64> = record.previous.iter().map(|p| p.generation).collect();
        assert_eq!(kept, [3, 4, 5, 6, 7]);
        assert_eq!(forgotten, ["before-2", "before-3"]);
    }

    #[test]
    fn what_was_stored_is_loaded_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let mut record = Record::new(specification("1"));
        record.trial = Some(trial(2));
        record.store(folder.path()).unwrap();
        assert_eq!(Record::load(folder.path()).unwrap(), record);
        let path = folder.path().join(NAME);
        let newer = fs::read_to_string(&path).unwrap().replace("\"format\": 1", "\"format\": 2");
        fs::write(&path, newer).unwrap();
        let error = Record::load(folder.path()).unwrap_err();
        assert!(error.message.contains("this version reads format 1"), "{error}");
    }
}
