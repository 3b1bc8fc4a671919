//! The manifest: what a checkpoint consists of. It is written as JSON because people read it too, when something is
//! wrong; names of fields are part of the format.
//!
//! What a manifest names is checked while it is read: a [`Manifest`] that exists has no path that leads out of
//! the folder where it is restored, and no number that contradicts another.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::names::{CheckpointName, Digest, FileName, PartPath, SavepointName};

/// The number of the format that this version writes. Others are refused; a change that old versions would
/// misread needs a new number.
pub const FORMAT: u32 = 1;

/// The number of the format of a checkpoint with rows in flight: older versions, which would forget them, refuse it.
pub const FORMAT_IN_FLIGHT: u32 = 2;

/// A checkpoint, complete: everything that is needed to go on from it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The format, [`FORMAT`] or [`FORMAT_IN_FLIGHT`].
    pub format: u32,
    /// The pipeline's name.
    pub pipeline: String,
    /// The checkpoint's number. Numbers rise, also from run to run.
    pub checkpoint: u64,
    /// The run that wrote it: each start of the pipeline is one.
    pub run: u64,
    /// Why it was made.
    pub kind: Kind,
    /// The name under which it is kept until a person deletes it; only in the manifests of savepoints.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub savepoint: Option<SavepointName>,
    /// When it was complete, in milliseconds since the Unix epoch.
    pub created_ms: i64,
    /// From the trigger until it was complete, in milliseconds.
    pub duration_ms: u64,
    /// How keys are hashed, as in `xxh3-64, seed 0`.
    pub key_hash: String,
    /// How many key groups there are.
    pub key_groups: u32,
    /// How far each source was read.
    pub sources: Vec<Source>,
    /// The operators whose state it holds, and what that state means.
    pub operators: Vec<Operator>,
    /// How often a host had changed the pipeline; 0: no host did.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub generation: u64,
    /// The SHA-256 of every operator's component, by its id; those without state are among them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub components: BTreeMap<String, Digest>,
    /// The files of the state.
    pub state: State,
    /// Output that was staged and is committed with this checkpoint.
    pub sinks: Vec<Sink>,
    /// What had been counted.
    #[serde(default)]
    pub counters: Counters,
    /// What a person should know of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// Why a checkpoint was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Time had come.
    Checkpoint,
    /// A person asked for it.
    Savepoint,
    /// The pipeline was stopped.
    Last,
    /// The input ended, and all of it was processed.
    Finished,
}

impl Kind {
    /// Its name in a manifest.
    pub fn name(self) -> &'static str {
        match self {
            Self::Checkpoint => "checkpoint",
            Self::Savepoint => "savepoint",
            Self::Last => "last",
            Self::Finished => "finished",
        }
    }
}

/// How far a source was read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Source {
    /// Its id in the pipeline.
    pub id: String,
    /// Its partitions.
    pub partitions: Vec<Partition>,
}

/// How far a partition of a source was read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Partition {
    /// Its name, unique in its source: a file's path, a partition's number.
    pub name: String,
    /// Where reading goes on.
    pub position: Position,
    /// How far event time had come, in milliseconds since the Unix epoch; none: not known yet.
    pub watermark: Option<i64>,
    /// It was read to its end.
    pub ended: bool,
}

/// Where reading goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "in", rename_all = "snake_case")]
pub enum Position {
    /// In a file.
    File {
        /// The first byte that wasn't read.
        byte: u64,
        /// The line that comes next, counted from 1.
        line: u64,
        /// What comes next is the rest of a record that was too long to be one.
        #[serde(default)]
        within_overlong: bool,
        /// How many bytes directly before it `tail_hash` covers.
        tail_bytes: u64,
        /// The hash of these, to notice that the file was changed; XXH3-64 in 16 hex digits.
        tail_hash: String,
    },
    /// Among generated records.
    Generated {
        /// The record that came out last; none: it begins with the first.
        last: Option<u64>,
    },
    /// In a log.
    Log {
        /// The log's identity, to notice that another stands in its place; 16 hex digits.
        log: String,
        /// The first offset that wasn't read.
        offset: u64,
        /// What the log says of the records before, to notice that they were changed; 16 hex digits.
        history: String,
    },
    /// In a stream of a server.
    Stream {
        /// The stream's identity, to notice that another stands in its place; 16 hex digits.
        stream: String,
        /// The last message that was read; 0: none.
        sequence: u64,
        /// A hash of the last messages, to notice that they were changed; 16 hex digits.
        history: String,
    },
}

/// An operator with state, and what its state means.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Operator {
    /// Its id in the pipeline.
    pub id: String,
    /// The number by which its state is filed; it never changes while the pipeline has state.
    pub number: u16,
    /// The SHA-256 of its component.
    pub component: Digest,
    /// The component's world.
    pub world: String,
    /// The fields of its key, in order.
    pub key: Vec<Field>,
    /// Its windows, as people write them; none: it has no windows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub windows: Option<String>,
    /// How many tasks ran it.
    pub parallelism: u32,
    /// The schemas in which rows of its state may be written.
    pub state: Vec<StateSchema>,
    /// Its collections.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub collections: Vec<Collection>,
    /// How far event time had come at each of its key groups.
    pub watermarks: Vec<WatermarkRange>,
    /// What was in flight to it; none: its tasks had waited for all barriers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_flight: Option<InFlight>,
}

/// Rows that an operator's tasks had not processed yet; they are filed with its state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InFlight {
    /// How many there are; perhaps none, though barriers weren't waited for.
    pub rows: u64,
    /// Their fields, in order.
    pub fields: Vec<Field>,
}

/// A field: its name and type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// Its type's name.
    pub r#type: String,
    /// It may have no value.
    #[serde(default)]
    pub nullable: bool,
}

/// A schema in which rows of state may be written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateSchema {
    /// The byte with which such rows begin.
    pub version: u8,
    /// The fields, in order.
    pub fields: Vec<Field>,
}

/// Entries that an operator keeps for each key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collection {
    /// The number by which it is filed.
    pub number: u8,
    /// Its name.
    pub name: String,
    /// The type of its entries.
    pub entry: String,
    /// The type of their values.
    pub value: String,
    /// The clock by which its entries expire, if they do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_by: Option<String>,
}

/// How far event time had come at some key groups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatermarkRange {
    /// The first key group.
    pub first: u32,
    /// The key group behind the last.
    pub end: u32,
    /// The watermark, in milliseconds since the Unix epoch.
    pub watermark: i64,
}

/// The files of the state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// What reads them, as in `rocksdb`.
    pub backend: String,
    /// All of them.
    pub files: Vec<FileEntry>,
}

/// A file of the state. Its content stands in the store under its digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Its name where it is restored.
    pub name: FileName,
    /// The SHA-256 of its content.
    pub sha256: Digest,
    /// Its size.
    pub bytes: u64,
    /// It is never changed where it is used; so whoever restores it may link to the store's.
    pub immutable: bool,
}

/// Output of a sink that is committed with the checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sink {
    /// Its id in the pipeline.
    pub id: String,
    /// The folder that the paths of its parts begin in, or another place that it writes to.
    pub destination: String,
    /// What was staged and not committed yet.
    pub parts: Vec<Part>,
    /// Of a log that shows rows at once: where those are that come again behind the checkpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeatable: Option<Repeatable>,
}

/// Where in a log the rows are that come again when a pipeline goes on from the checkpoint, so that they are copies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repeatable {
    /// The log's identity, to notice that another stands in its place; 16 hex digits.
    pub log: String,
    /// By the numbers of its partitions.
    pub partitions: Vec<Offsets>,
}

/// Offsets of records in a partition of a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offsets {
    /// Ranges before `from`, ascending: the first offset and the one behind the last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub before: Vec<(u64, u64)>,
    /// All from here on.
    pub from: u64,
}

/// A staged file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Its path until it is committed.
    pub staged: PartPath,
    /// What a commit makes of it.
    #[serde(flatten)]
    pub becomes: Becomes,
    /// Its size; of a transaction that of its rows.
    pub bytes: u64,
    /// Its rows.
    pub rows: u64,
    /// The SHA-256 of its content, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Digest>,
}

/// What a commit makes of a staged file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Becomes {
    /// A file of another name.
    File {
        /// Its path from then on.
        committed: PartPath,
    },
    /// Messages of a stream. Stands before the next one, which it would be taken for.
    Messages {
        /// The stream.
        stream: String,
        /// Its number among the epochs of the sink; numbers rise.
        epoch: u64,
    },
    /// A transaction of the log in the sink's folder.
    Transaction {
        /// Its number among those of the sink; numbers rise.
        epoch: u64,
    },
}

impl std::fmt::Display for Becomes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File { committed } => write!(f, "{committed}"),
            Self::Messages { stream, epoch } => write!(f, "epoch {epoch} of the stream {stream}"),
            Self::Transaction { epoch } => write!(f, "transaction {epoch}"),
        }
    }
}

/// Numbers by their names, as in `rows_in`.
pub type Counts = BTreeMap<String, u64>;

/// What had been counted, by the ids of the pipeline. Checkpoints carry it on, so that numbers don't begin anew.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// By source: rows, malformed.
    #[serde(default)]
    pub sources: BTreeMap<String, Counts>,
    /// By operator: rows in and out, rejected, late.
    #[serde(default)]
    pub operators: BTreeMap<String, Counts>,
    /// By sink: rows, bytes.
    #[serde(default)]
    pub sinks: BTreeMap<String, Counts>,
}

impl Manifest {
    /// The checkpoint's name.
    pub fn name(&self) -> CheckpointName {
        CheckpointName { checkpoint: self.checkpoint, run: self.run }
    }

    /// How many bytes the files of its state have together.
    pub fn state_bytes(&self) -> u64 {
        self.state.files.iter().fold(0, |sum, file| sum.saturating_add(file.bytes))
    }

    /// Whether a task took its snapshot without waiting for all of its barriers.
    pub fn is_unaligned(&self) -> bool {
        self.operators.iter().any(|o| o.in_flight.is_some())
    }

    /// How many rows were in flight.
    pub fn rows_in_flight(&self) -> u64 {
        let rows = self.operators.iter().filter_map(|o| o.in_flight.as_ref()).map(|i| i.rows);
        rows.fold(0, u64::saturating_add)
    }

    /// What types can't say: that numbers and names agree with each other. Asked before writing and after reading.
    pub(crate) fn check(&self) -> Result<(), String> {
        let expected = if self.is_unaligned() { FORMAT_IN_FLIGHT } else { FORMAT };
        if self.format != expected {
            return Err(format!("format {} instead of {expected}", self.format));
        }
        unique("source", self.sources.iter().map(|s| &s.id))?;
        for source in &self.sources {
            unique("partition", source.partitions.iter().map(|p| &p.name))?;
            source.partitions.iter().try_for_each(Partition::check)?;
        }
        unique("operator", self.operators.iter().map(|o| &o.id))?;
        unique("operator number", self.operators.iter().map(|o| o.number))?;
        self.operators.iter().try_for_each(|o| o.check(self.key_groups))?;
        unique("file", self.state.files.iter().map(|f| &f.name))?;
        unique("sink", self.sinks.iter().map(|s| &s.id))?;
        for sink in &self.sinks {
            unique("staged part", sink.parts.iter().map(|p| &p.staged))?;
            unique("committed part", sink.parts.iter().map(|p| p.becomes.to_string()))?;
            let checked = sink.repeatable.iter().try_for_each(Repeatable::check);
            checked.map_err(|why| format!("sink `{}`: {why}", sink.id))?;
        }
        Ok(())
    }
}

impl Partition {
    fn check(&self) -> Result<(), String> {
        let hex = |what: &str, hash: &str| {
            check_hex(what, hash).map_err(|why| format!("partition `{}`: {why}", self.name))
        };
        match &self.position {
            Position::File { byte, tail_bytes, .. } if tail_bytes > byte => {
                Err(format!("partition `{}`: {tail_bytes} bytes before byte {byte}", self.name))
            }
            Position::File { tail_hash, .. } => hex("tail's hash", tail_hash),
            Position::Log { log, history, .. } => {
                hex("log's identity", log).and_then(|()| hex("history's hash", history))
            }
            Position::Stream { stream, history, .. } => {
                hex("stream's identity", stream).and_then(|()| hex("history's hash", history))
            }
            Position::Generated { .. } => Ok(()),
        }
    }
}

impl Repeatable {
    fn check(&self) -> Result<(), String> {
        check_hex("log's identity", &self.log)?;
        for (partition, Offsets { before, from }) in self.partitions.iter().enumerate() {
            let mut behind = 0;
            for &(first, end) in before {
                if first < behind || end <= first || end > *from {
                    return Err(format!(
                        "partition {partition}: offsets {first} to {end} behind {behind}, up to {from}"
                    ));
                }
                behind = end;
            }
        }
        Ok(())
    }
}

fn check_hex(what: &str, hash: &str) -> Result<(), String> {
    if hash.len() == 16 && hash.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return Ok(());
    }
    Err(format!("the {what} isn't 16 hex digits"))
}

impl Operator {
    fn check(&self, key_groups: u32) -> Result<(), String> {
        unique("version of state", self.state.iter().map(|s| s.version))?;
        unique("collection", self.collections.iter().map(|c| c.number))?;
        let mut after = 0;
        for range in &self.watermarks {
            if range.first < after || range.end <= range.first || range.end > key_groups {
                let WatermarkRange { first, end, .. } = range;
                return Err(format!(
                    "operator `{}`: key groups {first} to {end} among {key_groups}, behind {after}",
                    self.id
                ));
            }
            after = range.end;
        }
        Ok(())
    }
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

fn unique<T: Ord + std::fmt::Display>(what: &str, all: impl Iterator<Item = T>) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    for one in all {
        if seen.contains(&one) {
            return Err(format!("{what} {one} stands there twice"));
        }
        seen.insert(one);
    }
    Ok(())
}
