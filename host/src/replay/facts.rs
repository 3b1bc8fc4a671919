//! What is kept of a shadow beside its checkpoints and output, in `shadow.json` in its folder.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};
use tidemill_checkpoint::{Counters, Kind, Manifest, Partition, Position, Source};

use super::report::Version;
use super::{ReplayError, at_file};
use crate::formats::Format;
use crate::pipeline::plan::SinkPlan;

/// The version of the file.
const FORMAT: u32 = 1;
const NAME: &str = "shadow.json";
/// Far more than a pipeline with ten thousand partitions needs.
const BYTES_MAX: u64 = 64 << 20;

/// What is known of a shadow.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Facts {
    format: u32,
    pub(super) pipeline: String,
    /// As a person has written it.
    pub(super) origin: String,
    /// The checkpoint of the live pipeline that it began at; none: it began without state.
    pub(super) begins: Option<Mark>,
    /// Where it began without state and not at the beginning: rows of this event time or later are all behind its
    /// beginning, in milliseconds.
    pub(super) complete_from_ms: Option<i64>,
    /// The checkpoint of the live pipeline up to which it has come.
    pub(super) reached: Option<Mark>,
    /// What it had counted itself when it came there.
    pub(super) counters: Counters,
    /// By operator.
    pub(super) components: BTreeMap<String, Version>,
    /// By sink: how its rows are written.
    pub(super) sinks: BTreeMap<String, Written>,
    pub(super) duration_ms: u64,
    /// What was found while it ran.
    pub(super) findings: Vec<String>,
}

/// What is known of a checkpoint of the live pipeline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Mark {
    pub(super) checkpoint: u64,
    pub(super) kind: Kind,
    pub(super) sources: Vec<Source>,
    pub(super) counters: Counters,
    /// Rows were in flight at its barrier.
    pub(super) in_flight: bool,
}

impl Mark {
    pub(super) fn of(manifest: &Manifest) -> Self {
        Self {
            checkpoint: manifest.checkpoint,
            kind: manifest.kind,
            sources: manifest.sources.clone(),
            counters: manifest.counters.clone(),
            in_flight: manifest.operators.iter().any(|o| o.in_flight.as_ref().is_some_and(|i| i.rows > 0)),
        }
    }
}

/// How the rows of a sink are written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Written {
    pub(super) how: Writing,
    /// In their order.
    pub(super) fields: Vec<String>,
}

/// How a row is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Writing {
    /// As an object of JSON.
    Json,
    /// As a record of CSV, perhaps behind a header.
    Csv { delimiter: u8, header: bool },
    /// As a line.
    Text,
}

impl Written {
    pub(super) fn of(sink: &SinkPlan) -> Self {
        let how = match &sink.format {
            Format::JsonLines => Writing::Json,
            Format::Csv(options) => Writing::Csv { delimiter: options.delimiter, header: options.header },
            Format::Text => Writing::Text,
        };
        Self { how, fields: sink.schema.fields().iter().map(|f| f.name.clone()).collect() }
    }

    /// What the names of its files end with.
    pub(super) fn extension(&self) -> &'static str {
        match self.how {
            Writing::Json => "jsonl",
            Writing::Csv { .. } => "csv",
            Writing::Text => "txt",
        }
    }
}

impl Facts {
    pub(super) fn new(pipeline: &str, origin: String, begins: Option<Mark>) -> Self {
        Self {
            format: FORMAT,
            pipeline: pipeline.to_owned(),
            origin,
            begins,
            complete_from_ms: None,
            reached: None,
            counters: Counters::default(),
            components: BTreeMap::new(),
            sinks: BTreeMap::new(),
            duration_ms: 0,
            findings: Vec::new(),
        }
    }

    pub(super) fn read(folder: &Path) -> Result<Self, ReplayError> {
        let path = folder.join(NAME);
        let length = fs::metadata(&path).map_err(at_file("read", &path))?.len();
        let refuse = |why: String| {
            ReplayError::Failed(format!(
                "{} can't be believed: {why}; remove the folder and replay again",
                path.display()
            ))
        };
        if length > BYTES_MAX {
            return Err(refuse(format!("it has {length} bytes")));
        }
        let text = fs::read(&path).map_err(at_file("read", &path))?;
        let facts: Self = serde_json::from_slice(&text).map_err(|e| refuse(e.to_string()))?;
        if facts.format != FORMAT {
            return Err(refuse(format!("it has format {}, and this version knows {FORMAT}", facts.format)));
        }
        Ok(facts)
    }

    /// Writes them, so that they are there as before or as they are now.
    pub(super) fn write(&self, folder: &Path) -> Result<(), ReplayError> {
        let (path, new) = (folder.join(NAME), folder.join("shadow.json.new"));
        let text = serde_json::to_vec_pretty(self).expect("numbers, texts and lists are JSON");
        let write = || {
            let mut file = File::create(&new)?;
            file.write_all(&text)?;
            file.sync_all()?;
            fs::rename(&new, &path)?;
            File::open(folder)?.sync_all()
        };
        write().map_err(at_file("write", &path))
    }
}

/// Whether two checkpoints have read their sources equally far; why not, if they haven't. Partitions that only the first
/// one knows don't count: nothing was read of them.
pub(super) fn check_same_places(found: &[Source], expected: &[Source]) -> Result<(), String> {
    for source in expected {
        let partitions = found.iter().find(|s| s.id == source.id).map_or(&[][..], |s| &s.partitions);
        for partition in &source.partitions {
            let Some(other) = partitions.iter().find(|p| p.name == partition.name) else {
                return Err(format!("of source `{}`, {} wasn't read", source.id, partition.name));
            };
            if !is_same_place(&other.position, &partition.position) || other.ended != partition.ended {
                let at = |p: &Partition| {
                    let end = if p.ended { ", its end" } else { "" };
                    format!("{}{end}", told(&p.position))
                };
                return Err(format!(
                    "of source `{}`, {} was read up to {}, and not to {}",
                    source.id,
                    partition.name,
                    at(other),
                    at(partition)
                ));
            }
        }
    }
    Ok(())
}

/// Of a log that was trimmed, or where a replay began in the middle of a stream, nobody knows what was before.
const UNKNOWN: &str = "0000000000000000";

fn is_same_place(one: &Position, other: &Position) -> bool {
    let is_same_history = |one: &str, other: &str| one == other || one == UNKNOWN || other == UNKNOWN;
    match (one, other) {
        (
            Position::Log { log, offset, history },
            Position::Log { log: other, offset: other_offset, history: other_history },
        ) => log == other && offset == other_offset && is_same_history(history, other_history),
        (
            Position::Stream { stream, sequence, history },
            Position::Stream { stream: other, sequence: other_sequence, history: other_history },
        ) => stream == other && sequence == other_sequence && is_same_history(history, other_history),
        (one, other) => one == other,
    }
}

fn told(position: &Position) -> String {
    match position {
        Position::File { byte, .. } => format!("byte {byte}"),
        Position::Generated { last: Some(last) } => format!("event {last}"),
        Position::Generated { last: None } => "its beginning".to_owned(),
        Position::Log { offset, .. } => format!("offset {offset}"),
        Position::Stream { sequence, .. } => format!("message {sequence}"),
    }
}
