//! What the host and whoever talks to it say to each other: the words of the HTTP API, which the command line speaks too.
//! Times are milliseconds since the Unix epoch.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What a pipeline shall be, and the components that it shall be made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Specification {
    /// The name of the pipeline file, for messages.
    pub file: String,
    /// Its text.
    pub text: String,
    /// The folder that relative paths in it begin in; absolute.
    pub base: PathBuf,
    /// The SHA-256 of each operator's component, by operator id; all are in the host's store.
    pub components: BTreeMap<String, String>,
    /// Tasks per stage where the file doesn't say; none: the number of cores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parallelism: Option<usize>,
}

/// Asks to deploy a pipeline, or to change it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Apply {
    /// What it shall be.
    pub specification: Specification,
    /// The hash of the plan that was looked at: if what is there has changed since, nothing is done. None: whatever the
    /// plan is.
    #[serde(default)]
    pub plan: Option<String>,
    /// Operators whose state may be dropped, if the plan says that it is.
    #[serde(default)]
    pub drop_state: Vec<String>,
    /// How a version that is swapped in is watched.
    #[serde(default)]
    pub probation: ProbationSettings,
    /// Who asks, for the history.
    #[serde(default)]
    pub by: String,
}

/// Asks to exchange the components of operators while the pipeline runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Swap {
    /// The SHA-256 of the new component, by operator id.
    pub components: BTreeMap<String, String>,
    /// How the new versions are watched.
    #[serde(default)]
    pub probation: ProbationSettings,
    /// Who asks, for the history.
    #[serde(default)]
    pub by: String,
}

/// How a version that is swapped in is watched. While it is on probation nothing that it made is shown by sinks that
/// deliver exactly once.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProbationSettings {
    /// For how long, in milliseconds; it ends with the first checkpoint after that.
    pub for_ms: u64,
    /// The share of its rows, of 1, that it may reject.
    pub rejected_share_max: f64,
    /// How many times as long as the version before it may take for a row.
    pub slowdown_max: f64,
}

impl Default for ProbationSettings {
    fn default() -> Self {
        // Rows are rejected one in a hundred where data is bad, and not one in twenty. A version that does more may be
        // slower, but not by an order of magnitude.
        Self { for_ms: 0, rejected_share_max: 0.05, slowdown_max: 10.0 }
    }
}

/// What a pipeline is meant to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Desired {
    /// Run, also after a restart of the host.
    Running,
    /// Wait, with a checkpoint to go on from.
    Paused,
    /// Nothing: a person has stopped it.
    Stopped,
}

/// What a pipeline does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It is being put together, or restores its state.
    Starting,
    /// It runs.
    Running,
    /// It runs, with a version on probation.
    Probation,
    /// It has failed, and begins again after a delay.
    Restarting,
    /// It comes to an end.
    Stopping,
    /// It waits.
    Paused,
    /// It was stopped.
    Stopped,
    /// Its input has ended, and all of it was processed.
    Finished,
    /// It has failed for good.
    Failed,
}

impl State {
    /// As people say it.
    pub fn words(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Probation => "on probation",
            Self::Restarting => "restarting",
            Self::Stopping => "stopping",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
            Self::Finished => "finished",
            Self::Failed => "failed",
        }
    }
}

/// A pipeline in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Its name.
    pub name: String,
    /// What it does.
    pub state: State,
    /// What it is meant to do.
    pub desired: Desired,
    /// How often it has been changed: 1 is what was deployed first.
    pub generation: u64,
    /// Since when it is in this state.
    pub since_ms: u64,
    /// Rows that its sources have read, over all of its runs.
    pub rows_read: u64,
}

/// A pipeline from near.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// As in a list.
    #[serde(flatten)]
    pub summary: Summary,
    /// Why it is in its state, where that isn't what was wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The last checkpoint that is complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<u64>,
    /// What was counted, by source.
    pub sources: BTreeMap<String, BTreeMap<String, u64>>,
    /// The operators.
    pub operators: BTreeMap<String, OperatorStatus>,
    /// What was counted, by sink.
    pub sinks: BTreeMap<String, BTreeMap<String, u64>>,
    /// What is being done with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<Operation>,
}

/// An operator of a pipeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorStatus {
    /// The SHA-256 of its component.
    pub component: String,
    /// What the component calls itself.
    pub name: String,
    /// Its version, by its own word.
    pub version: String,
    /// What was counted.
    pub counts: BTreeMap<String, u64>,
}

/// A component in the host's store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComponentInfo {
    /// The SHA-256 of its file.
    pub digest: String,
    /// The size of its file, in bytes.
    pub bytes: u64,
    /// The world that it implements, as in `aggregate-operator`.
    pub world: String,
    /// What it calls itself.
    pub name: String,
    /// Its version, by its own word.
    pub version: String,
    /// The interfaces that it imports.
    pub imports: Vec<String>,
    /// Each time it was uploaded, the first first.
    pub uploads: Vec<Upload>,
}

/// An upload of a component.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upload {
    /// When.
    pub at_ms: u64,
    /// By whom, by their own word.
    pub by: String,
    /// From which file.
    pub file: String,
}

/// How a pipeline is stopped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stop {
    /// The input is taken as ended where it stands: time goes to its end, so that windows and timers fire.
    #[serde(default)]
    pub drain: bool,
    /// The last checkpoint is kept under this name.
    #[serde(default)]
    pub savepoint: Option<String>,
    /// Who asks, for the history.
    #[serde(default)]
    pub by: String,
}

/// Asks for a savepoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Savepoint {
    /// Its name; none: one is made of the time.
    #[serde(default)]
    pub name: Option<String>,
    /// Who asks, for the history.
    #[serde(default)]
    pub by: String,
}

/// Who asks for something that needs no more words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// Who, for the history.
    #[serde(default)]
    pub by: String,
}

/// Asks for a replay.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplayOrder {
    /// Where it begins: `beginning`, `sequence:N`, `time:2026-11-20T00:00:00Z`, `checkpoint:N` or `savepoint:NAME`.
    pub from: String,
    /// Where it ends: `checkpoint:N` or `savepoint:NAME`; none: the newest checkpoint of the live pipeline.
    #[serde(default)]
    pub to: Option<String>,
    /// Other components for operators: the SHA-256 by operator id.
    #[serde(default)]
    pub components: BTreeMap<String, String>,
    /// How many rows a second its sources read together at most; none: as many as they can.
    #[serde(default)]
    pub rows_per_second_max: Option<u64>,
    /// Every call of an operator is made again on a fresh instance, and the answers compared.
    #[serde(default)]
    pub verify: bool,
    /// Who asks, for the history.
    #[serde(default)]
    pub by: String,
}

/// Asks that a replay's version takes over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Promote {
    /// The replay, as in `replay-3`.
    pub replay: String,
    /// Who asks, for the history.
    #[serde(default)]
    pub by: String,
}

/// A replay in a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReplaySummary {
    /// Its id, as in `replay-3`.
    pub id: String,
    /// What was asked for.
    pub order: ReplayOrder,
    /// When.
    pub at_ms: u64,
    /// How it stands: `running`, `done`, `failed` or `promoted`.
    pub state: String,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// Something that takes its time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// By which it is asked for again.
    pub id: u64,
    /// The pipeline.
    pub pipeline: String,
    /// What is done: `apply`, `swap`, ….
    pub kind: String,
    /// How it stands.
    pub state: OperationState,
    /// What it is at, or what came of it, for people.
    pub message: String,
    /// When it began.
    pub begun_ms: u64,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_ms: Option<u64>,
}

/// How something stands that takes its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OperationState {
    /// It goes on.
    Running,
    /// It is done.
    Done,
    /// It failed; what was there before is there still.
    Failed,
}

/// An entry of a pipeline's history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// When.
    pub at_ms: u64,
    /// Who wanted it; empty: the host itself.
    #[serde(default)]
    pub by: String,
    /// What happened, as in `swapped`.
    pub event: String,
    /// The generation that it left behind.
    pub generation: u64,
    /// More, for people: which versions, and why.
    pub message: String,
}

/// A line of a pipeline's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// Its number; numbers rise.
    pub number: u64,
    /// When.
    pub at_ms: u64,
    /// `error`, `warn`, `info` or `debug`.
    pub level: String,
    /// The operator that says it; none: the host does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator: Option<String>,
    /// What it says.
    pub message: String,
}

/// A savepoint or checkpoint that a pipeline can go on from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavepointInfo {
    /// Its name; of a checkpoint its number.
    pub name: String,
    /// The checkpoint's number.
    pub checkpoint: u64,
    /// When it was taken.
    pub created_ms: u64,
    /// The bytes of its state.
    pub state_bytes: u64,
}

/// What a change would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Names this plan: an `apply` with it does this or nothing.
    pub hash: String,
    /// The pipeline.
    pub pipeline: String,
    /// How it is done.
    pub how: How,
    /// Why it can't be done in place, where it could have been.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub restart_because: Vec<String>,
    /// What changes beside operators, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<String>,
    /// What happens to each operator that changes.
    pub operators: Vec<OperatorChange>,
    /// Operators whose state is dropped: each needs to be named in [`Apply::drop_state`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drops: Vec<String>,
    /// Why it can't be done at all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refusals: Vec<String>,
}

/// How a change is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    /// There is nothing to do.
    Nothing,
    /// The pipeline is new.
    Create,
    /// At a barrier, while it runs.
    InPlace,
    /// It is stopped with a checkpoint, and begins again from it.
    Restart,
}

/// What a change does to an operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorChange {
    /// Its id.
    pub id: String,
    /// `added`, `removed` or `changed`.
    pub change: String,
    /// The component before, and after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub component: Option<(String, String)>,
    /// The names and versions of these, by their own word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<(String, String)>,
    /// What happens to its state.
    pub state: StateChange,
    /// Differences in inputs, output, imports, settings and limits, in words.
    pub differences: Vec<String>,
}

/// What happens to the state of an operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum StateChange {
    /// It has none.
    None,
    /// It begins without any.
    New,
    /// It stays as it is.
    Kept,
    /// It is read field by field.
    Evolved {
        /// What differs, in words, as in `new field n: integer`.
        fields: Vec<String>,
    },
    /// The new version's migration makes its own of it.
    Migrated {
        /// From and to, as people write schemas.
        fields: Vec<String>,
    },
    /// It is lost.
    Dropped,
}
