//! A pipeline as it is run: every field found and typed, every operator in its stage, every edge routed.
//! A `Plan` that exists can be started: nothing in it is looked up or checked again.

use std::path::PathBuf;
use std::sync::Arc;

use tidemill_checkpoint::Place;
use tidemill_flow::join::Spec;
use tidemill_flow::schema::{Field, Schema};
use tidemill_flow::watermark::Strategy;
use tidemill_flow::window::Windows;
use tidemill_flow::windowing::Definition;
use tidemill_jetstream::{HeaderTemplate, StreamWanted, Template};

use crate::formats::{Demand, Format, TimestampUnit};
use crate::log::Feeds;
use crate::log::nexmark;
use crate::nats::Servers;
use crate::plugin::{Findings, Limits, Plugin};

pub use super::bounds::{Bound, Bounds};
pub use super::declaration::{Clock, Delivery, LogStart, Metadata, StateBackend, StreamStart};
pub use super::numbered::{checkpoint_of, numbered};

/// A pipeline that has been checked.
#[derive(Clone)]
pub struct Plan {
    /// The pipeline's name.
    pub name: String,
    /// How often a host has changed it; 0: no host does. Its checkpoints bear this.
    pub generation: u64,
    /// The folder of the pipeline file.
    pub base: PathBuf,
    /// Where rejected rows go. Where there are checkpoints each makes its own file; see [`numbered`].
    pub dead_letters: PathBuf,
    /// Where late rows go that no sink reads; one file for each checkpoint, as above.
    pub late: PathBuf,
    /// When and where checkpoints are made, if they are.
    pub checkpoints: Option<CheckpointPlan>,
    /// Where state stands while the pipeline runs.
    pub state: StatePlan,
    /// What happens when the pipeline fails.
    pub restart: RestartPlan,
    /// Operators whose state may be dropped where a checkpoint has state of them that the pipeline can't go on from. No
    /// file says so: somebody says yes to it when the pipeline is changed.
    pub drop_state: Vec<String>,
    /// With it every call of a guest is made again on a fresh instance, and what differs is found here. A file has no say
    /// in it.
    pub verify: Option<Findings>,
    /// The sources.
    pub sources: Vec<SourcePlan>,
    /// The operators.
    pub operators: Vec<OperatorPlan>,
    /// The sinks.
    pub sinks: Vec<SinkPlan>,
    /// The operators' stages, each after all those that feed it.
    pub stages: Vec<Stage>,
    /// Where reading ends, if that is before the input does.
    pub bounds: Option<Bounds>,
    /// How many rows a second the sources read together at most; none: as many as they can.
    pub rows_per_second_max: Option<u64>,
}

/// When and where checkpoints are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointPlan {
    /// Where the store is.
    pub path: Place,
    /// The folder for working copies, unless [`StatePlan::path`] says where.
    pub work: PathBuf,
    /// From the start of one to the start of the next, in milliseconds.
    pub interval_ms: u64,
    /// From the end of one to the start of the next at least, in milliseconds.
    pub min_pause_ms: u64,
    /// One that takes longer has failed, in milliseconds.
    pub timeout_ms: u64,
    /// How long a task waits for the barriers of its other channels, in milliseconds; none: until they have come.
    pub unaligned_after_ms: Option<u64>,
    /// How many may fail in a row; with one more the pipeline fails.
    pub tolerated_failures: u32,
    /// How many completed ones are kept, one at least.
    pub retain: usize,
}

/// Where state stands while the pipeline runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatePlan {
    /// What keeps it.
    pub backend: StateBackend,
    /// The memory that all of the pipeline's caches and buffers share, in bytes.
    pub memory_bytes: u64,
    /// The folder for the working copy; `None`: a temporary one, or none at all if all of it is in memory.
    pub path: Option<PathBuf>,
}

/// What happens when the pipeline fails. Where this isn't `None` there are checkpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartPlan {
    /// It ends.
    None,
    /// It begins again at the last checkpoint.
    FromCheckpoint {
        /// How many times in a row. A completed checkpoint ends the row.
        attempts: u32,
        /// How long it waits before the first, in milliseconds.
        delay_ms: u64,
        /// The delay doubles with each failure in a row up to this, in milliseconds; a delay that stays as it is, is
        /// its own maximum.
        max_delay_ms: u64,
    },
}

impl RestartPlan {
    /// How long to wait before beginning again, in milliseconds, when the pipeline has failed `failures` times in a row,
    /// from 1; `None`: it has failed for good.
    pub fn delay_ms(&self, failures: u32) -> Option<u64> {
        match *self {
            Self::FromCheckpoint { attempts, delay_ms, max_delay_ms } if failures <= attempts => {
                let doublings = failures.saturating_sub(1);
                let factor = 1_u64.checked_shl(doublings).unwrap_or(u64::MAX);
                Some(delay_ms.saturating_mul(factor).min(max_delay_ms))
            }
            Self::FromCheckpoint { .. } | Self::None => None,
        }
    }
}

/// A source, with the fields that somebody reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourcePlan {
    /// Its id.
    pub id: String,
    /// Where its rows come from.
    pub input: SourceInput,
    /// The fields of its batches.
    pub schema: Schema,
    /// How event time is told, if it is. Generated events know their own.
    pub event_time: Option<EventTimePlan>,
    /// After how long a silent partition doesn't hold back time any more, in milliseconds; `None`: it always does.
    pub idle_after_ms: Option<u64>,
    /// With which sources it keeps together.
    pub align: Option<AlignPlan>,
}

impl SourcePlan {
    /// How the partitions make their watermarks; none without event time.
    pub fn strategy(&self) -> Option<Strategy> {
        match (&self.input, self.event_time) {
            (SourceInput::Nexmark { options, .. }, _) => {
                Some(Strategy::Bounded(options.out_of_orderness_ms.cast_signed()))
            }
            // Whoever feeds it says how far time has come. Only rows that happen when they arrive have no other time.
            (SourceInput::Told { makes_watermarks: false, .. }, time) => {
                matches!(time, Some(EventTimePlan::Arrival)).then_some(Strategy::Arrival)
            }
            (_, Some(EventTimePlan::Field { out_of_orderness_ms, .. })) => {
                Some(Strategy::Bounded(out_of_orderness_ms))
            }
            (_, Some(EventTimePlan::Punctuated { .. })) => Some(Strategy::Punctuated),
            (_, Some(EventTimePlan::Arrival)) => Some(Strategy::Arrival),
            (_, None) => None,
        }
    }
}

/// Sources that keep together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlignPlan {
    /// The name of the group.
    pub group: String,
    /// How far a partition may be ahead of the group's last, in milliseconds of event time.
    pub max_drift_ms: i64,
}

/// Where a source's rows come from. Each entry of a list is a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceInput {
    /// Files.
    Files {
        /// The files, sorted.
        paths: Vec<PathBuf>,
        /// How to decode them.
        format: Format,
        /// The fields to decode, in the order of the schema.
        demands: Vec<Demand>,
    },
    /// The standard input.
    Stdin {
        /// How to decode it.
        format: Format,
        /// The fields to decode, in the order of the schema.
        demands: Vec<Demand>,
    },
    /// Generated events.
    Nexmark {
        /// What is generated.
        options: nexmark::Options,
        /// Whether events come no faster than their times pass.
        paced: bool,
    },
    /// An embedded log.
    Log {
        /// Its folder.
        path: PathBuf,
        /// How many partitions it has.
        partitions: usize,
        /// How to decode its records.
        format: Format,
        /// The fields to decode, in the order of the schema.
        demands: Vec<Demand>,
        /// Where to start when there is no checkpoint.
        from: LogStart,
        /// Whether to end where each partition ended when the run began.
        until_end: bool,
    },
    /// Streams of a NATS server.
    JetStream {
        /// The servers.
        servers: Arc<Servers>,
        /// The streams.
        streams: Vec<String>,
        /// How to decode their messages.
        format: Format,
        /// The fields to decode, in the order of the schema, without those of `metadata`.
        demands: Vec<Demand>,
        /// Columns of the schema that have what is known of a message beside its payload, ascending.
        metadata: Vec<(usize, Metadata)>,
        /// Where to start when there is no checkpoint.
        from: StreamStart,
        /// Whether to end where each stream ended when the run began.
        until_end: bool,
        /// Whether to go on where messages are missing.
        allow_gaps: bool,
    },
    /// What somebody tells it: records as lines of JSON, and how far time has come.
    Told {
        /// The ways to its partitions.
        feeds: Arc<Feeds>,
        /// The fields to decode, in the order of the schema.
        demands: Vec<Demand>,
        /// Whether rows tell how far time has come, as they do elsewhere; if not, only who feeds it does.
        makes_watermarks: bool,
    },
}

impl SourceInput {
    /// How many partitions the source has.
    pub fn partitions(&self) -> usize {
        match self {
            Self::Files { paths, .. } => paths.len(),
            Self::Stdin { .. } => 1,
            Self::Nexmark { options, .. } => options.partitions as usize,
            Self::Log { partitions, .. } => *partitions,
            Self::JetStream { streams, .. } => streams.len(),
            Self::Told { feeds, .. } => feeds.partitions(),
        }
    }
}

/// How a row's event time is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventTimePlan {
    /// By a field.
    Field {
        /// The column with it.
        column: usize,
        /// How much rows may be out of order, in milliseconds.
        out_of_orderness_ms: i64,
    },
    /// By a field; and by another one how far time has come.
    Punctuated {
        /// The column with the time.
        column: usize,
        /// The column that says up to when all rows have come.
        watermark: usize,
    },
    /// By the clock, when it is read.
    Arrival,
}

/// An operator, with the columns that it is given and those that go on from it.
#[derive(Clone)]
pub struct OperatorPlan {
    /// Its id.
    pub id: String,
    /// The component.
    pub plugin: Plugin,
    /// Its settings.
    pub settings: Vec<(String, String)>,
    /// Its limits.
    pub limits: Limits,
    /// The fields of the batches that arrive.
    pub input: Schema,
    /// The columns that the operator reads, in the order in which it described them.
    pub reads: Vec<Read>,
    /// Arriving columns that the operator reads as not nullable but that may lack a value.
    pub reject_nulls: Vec<usize>,
    /// What it does with a batch.
    pub kind: OperatorKind,
    /// The columns that go on from here: those that somebody reads.
    pub emits: Vec<(Field, Origin)>,
}

impl OperatorPlan {
    /// The fields of the batches that arrive at an input.
    pub fn input_schema(&self, input: usize) -> &Schema {
        match &self.kind {
            OperatorKind::Join(join) if input == 1 => &join.right.schema,
            _ => &self.input,
        }
    }

    /// The first input.
    pub fn first_input(&self) -> InputPlan {
        InputPlan {
            schema: self.input.clone(),
            reads: self.reads.clone(),
            reject_nulls: self.reject_nulls.clone(),
        }
    }

    /// The fields of the batches that go on from here.
    pub fn output(&self) -> Schema {
        Schema::new(self.emits.iter().map(|(f, _)| f.clone()).collect()).expect("names are unique")
    }
}

/// A column that an operator reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// A field.
    Column(usize),
    /// The rows' event time.
    Time,
}

/// What an operator does with a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OperatorKind {
    /// Each row by itself.
    Transform,
    /// By key and window.
    Aggregate {
        /// The key's columns.
        key: Vec<usize>,
        /// The windows.
        windows: Windows,
    },
    /// The rows of two inputs that meet.
    Join(Box<JoinPlan>),
    /// By key and window, where windows are of another kind, take late rows or fire more than once.
    Windowed {
        /// The key's columns.
        key: Vec<usize>,
        /// The windows.
        definition: Definition,
        /// Whether rows have an event time.
        has_times: bool,
    },
    /// Rows in order and timers, with the state of their key.
    Process {
        /// The key's columns, one at least.
        key: Vec<usize>,
        /// The slots whose values expire.
        ttl: Vec<TtlPlan>,
    },
}

impl Plan {
    /// The name under which checkpoints know a partition: of a file its path from the pipeline file's folder on, so that
    /// it is the same from wherever the pipeline is started, and when its folder is moved.
    pub fn partition_id(&self, source: usize, index: usize) -> String {
        match &self.sources[source].input {
            SourceInput::Files { paths, .. } => {
                let path = &paths[index];
                path.strip_prefix(&self.base).unwrap_or(path).display().to_string()
            }
            // Other events under the same numbers would be others.
            SourceInput::Nexmark { options, .. } => format!(
                "partition {index} of {}, seed {}, {} events/s, {} ms out of order",
                options.partitions, options.seed, options.events_per_second, options.out_of_orderness_ms
            ),
            SourceInput::JetStream { streams, .. } => format!("stream {}", streams[index]),
            SourceInput::Stdin { .. } | SourceInput::Log { .. } | SourceInput::Told { .. } => {
                format!("partition {index}")
            }
        }
    }
}

impl OperatorKind {
    /// The columns by which rows are shared out: those that are equal in them go to one task, so that without columns
    /// there is only one. `None`: any task may get any row.
    pub fn key(&self) -> Option<&[usize]> {
        match self {
            Self::Transform => None,
            Self::Aggregate { key, .. } | Self::Windowed { key, .. } | Self::Process { key, .. } => Some(key),
            Self::Join(join) => Some(&join.left_key),
        }
    }

    /// The same for an input: the second one of a join has columns of its own.
    pub fn key_of(&self, input: usize) -> Option<&[usize]> {
        match self {
            Self::Join(join) if input == 1 => Some(&join.right_key),
            _ => self.key(),
        }
    }
}

/// What a join does with its two inputs; the first of them is the operator's own [`input`](OperatorPlan::input).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinPlan {
    /// Which rows meet, and what becomes of the others.
    pub spec: Spec,
    /// The key's columns on the left.
    pub left_key: Vec<usize>,
    /// The key's columns on the right, of the same types.
    pub right_key: Vec<usize>,
    /// The second input.
    pub right: InputPlan,
}

/// What arrives at an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputPlan {
    /// The fields of the batches that arrive.
    pub schema: Schema,
    /// The columns that the operator reads, in the order in which it described them.
    pub reads: Vec<Read>,
    /// Arriving columns that the operator reads as not nullable but that may lack a value.
    pub reject_nulls: Vec<usize>,
}

/// How long the values of a slot are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TtlPlan {
    /// The value or collection, by its name in the component's description.
    pub slot: String,
    /// How long, in milliseconds.
    pub after_ms: i64,
    /// By which clock; where it is event time, rows have one.
    pub clock: Clock,
}

/// Where a column that goes on comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The operator returned it.
    Returned(usize),
    /// It passes through.
    Input(usize),
    /// It is part of the row's or the group's key: which one of the key's columns.
    Key(usize),
    /// It is the start of the group's window.
    WindowStart,
    /// It is the end of the group's window.
    WindowEnd,
    /// It is the number of the firing among those of the group's window.
    WindowFiring,
    /// It says where the firing stands among them.
    WindowTiming,
}

/// A sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkPlan {
    /// Its id.
    pub id: String,
    /// Where its rows go.
    pub output: SinkOutput,
    /// How often a row arrives when the pipeline begins again at a checkpoint.
    pub delivery: Delivery,
    /// How rows are written.
    pub format: Format,
    /// How timestamps are written.
    pub timestamps: TimestampUnit,
    /// The fields that are written, in this order.
    pub schema: Schema,
}

/// Where a sink's rows go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SinkOutput {
    /// A file; with exactly-once delivery one for each checkpoint, see [`numbered`].
    File(PathBuf),
    /// The standard output.
    Stdout,
    /// An embedded log.
    Log {
        /// Its folder.
        path: PathBuf,
        /// How many partitions it is created with.
        partitions: u32,
        /// The columns whose hash decides on a row's partition; none: any will do.
        key: Vec<usize>,
    },
    /// A stream of a NATS server.
    JetStream(Box<StreamOutput>),
    /// Memory, where somebody looks at them.
    Memory,
}

/// A stream that rows go to, as messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamOutput {
    /// The servers.
    pub servers: Arc<Servers>,
    /// The stream.
    pub stream: String,
    /// The messages' subjects, and the columns whose values stand in them.
    pub subject: (Template, Vec<usize>),
    /// The messages' headers, with columns as above.
    pub headers: Vec<(HeaderTemplate, Vec<usize>)>,
    /// How the stream is made if there is none; none: it must be there.
    pub create: Option<StreamWanted>,
}

/// Operators that run in one task, without a queue between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// How many tasks run it.
    pub tasks: usize,
    /// What begins it.
    pub head: Head,
    /// Its operators, each after the one that feeds it.
    pub nodes: Vec<Node>,
}

impl Stage {
    /// The source that it begins with, if it does.
    pub fn source(&self) -> Option<usize> {
        match self.head {
            Head::Source { source, .. } => Some(source),
            Head::Inbox => None,
        }
    }

    /// Every edge out of the stage's head and nodes: of each node first those of its late rows.
    pub fn edges(&self) -> impl Iterator<Item = &Edge> {
        let head = match &self.head {
            Head::Source { outputs, .. } => outputs.as_slice(),
            Head::Inbox => &[],
        };
        head.iter().chain(self.nodes.iter().flat_map(|n| n.late.iter().chain(&n.outputs)))
    }
}

/// What begins a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Head {
    /// A source, and where its rows go.
    Source {
        /// Its number in the plan.
        source: usize,
        /// Who reads it.
        outputs: Vec<Edge>,
    },
    /// Queues from other stages; rows go to the first node.
    Inbox,
}

/// An operator in a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its number in the plan.
    pub operator: usize,
    /// Who reads it.
    pub outputs: Vec<Edge>,
    /// Who reads its late rows; nobody: they go to the file for late rows.
    pub late: Vec<Edge>,
}

/// The way from an operator or a source to one that reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edge {
    /// The columns that the reader is given, by their number at the writer.
    pub columns: Vec<usize>,
    /// Their fields.
    pub schema: Schema,
    /// Who reads.
    pub target: Target,
    /// Whether rows go along with their ids, because a sink that is reached this way recognizes copies by them.
    pub ids: bool,
}

impl Edge {
    /// The stage, and the input of it, that the edge leads to, if it leaves its own.
    pub fn stage(&self) -> Option<(usize, usize)> {
        match self.target {
            Target::Stage { stage, input, .. } => Some((stage, input)),
            Target::Node(_) | Target::Sink(_) => None,
        }
    }
}

/// Who reads an edge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A later node of the same stage.
    Node(usize),
    /// A sink.
    Sink(usize),
    /// Another stage, through queues.
    Stage {
        /// Its number in the plan.
        stage: usize,
        /// Which of its inputs: 1 for the second one of a join.
        input: usize,
        /// Which of its tasks gets a row.
        routing: Routing,
    },
}

/// Which task gets a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Routing {
    /// The one that owns the key group of these columns.
    Hash(Vec<usize>),
    /// Each in turn, a batch at a time.
    Rebalance,
}
