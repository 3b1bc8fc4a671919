//! A pipeline as it is run: every field found and typed, every operator in its stage, every edge routed.
//! A `Plan` that exists can be started: nothing in it is looked up or checked again.

use std::path::PathBuf;

use tidemill_flow::schema::{Field, Schema};
use tidemill_flow::window::Windows;

use crate::formats::{Demand, Format, TimestampUnit};
use crate::log::nexmark;
use crate::plugin::{Limits, Plugin};

/// A pipeline that has been checked.
pub struct Plan {
    /// The pipeline's name.
    pub name: String,
    /// Where rejected rows go.
    pub dead_letters: PathBuf,
    /// Where late rows go that no sink reads.
    pub late: PathBuf,
    /// The sources.
    pub sources: Vec<SourcePlan>,
    /// The operators.
    pub operators: Vec<OperatorPlan>,
    /// The sinks.
    pub sinks: Vec<SinkPlan>,
    /// The operators' stages, each after all those that feed it.
    pub stages: Vec<Stage>,
}

/// A source, with the fields that somebody reads.
#[derive(Debug)]
pub struct SourcePlan {
    /// Its id.
    pub id: String,
    /// Where its rows come from.
    pub input: SourceInput,
    /// The fields of its batches.
    pub schema: Schema,
    /// How event time is told, if it is.
    pub event_time: Option<EventTimePlan>,
}

impl SourcePlan {
    /// How much the rows of a partition may be out of order, in milliseconds; none without event time. Generated
    /// events know their own.
    pub fn out_of_orderness_ms(&self) -> Option<i64> {
        match &self.input {
            SourceInput::Nexmark { options, .. } => Some(options.out_of_orderness_ms.cast_signed()),
            SourceInput::Files { .. } | SourceInput::Stdin { .. } => {
                self.event_time.map(|t| t.out_of_orderness_ms)
            }
        }
    }
}

/// Where a source's rows come from. Each entry of a list is a partition.
#[derive(Debug)]
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
}

impl SourceInput {
    /// How many partitions the source has.
    pub fn partitions(&self) -> usize {
        match self {
            Self::Files { paths, .. } => paths.len(),
            Self::Stdin { .. } => 1,
            Self::Nexmark { options, .. } => options.partitions as usize,
        }
    }
}

/// How a row's event time is told.
#[derive(Clone, Copy, Debug)]
pub struct EventTimePlan {
    /// The column with it.
    pub column: usize,
    /// How much rows may be out of order, in milliseconds.
    pub out_of_orderness_ms: i64,
}

/// An operator, with the columns that it is given and those that go on from it.
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
#[derive(Clone, Debug)]
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
}

/// Where a column that goes on comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The operator returned it.
    Returned(usize),
    /// It passes through.
    Input(usize),
    /// It is part of the group's key.
    Key(usize),
    /// It is the start of the group's window.
    WindowStart,
    /// It is the end of the group's window.
    WindowEnd,
}

/// A sink.
#[derive(Debug)]
pub struct SinkPlan {
    /// Its id.
    pub id: String,
    /// The file; `None` is the standard output.
    pub path: Option<PathBuf>,
    /// How rows are written.
    pub format: Format,
    /// How timestamps are written.
    pub timestamps: TimestampUnit,
    /// The fields that are written, in this order.
    pub schema: Schema,
}

/// Operators that run in one task, without a queue between them.
#[derive(Debug)]
pub struct Stage {
    /// How many tasks run it.
    pub tasks: usize,
    /// What begins it.
    pub head: Head,
    /// Its operators, each after the one that feeds it.
    pub nodes: Vec<Node>,
}

impl Stage {
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
#[derive(Debug)]
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
#[derive(Debug)]
pub struct Node {
    /// Its number in the plan.
    pub operator: usize,
    /// Who reads it.
    pub outputs: Vec<Edge>,
    /// Who reads its late rows; nobody: they go to the file for late rows.
    pub late: Vec<Edge>,
}

/// The way from an operator or a source to one that reads it.
#[derive(Debug)]
pub struct Edge {
    /// The columns that the reader is given, by their number at the writer.
    pub columns: Vec<usize>,
    /// Their fields.
    pub schema: Schema,
    /// Who reads.
    pub target: Target,
}

impl Edge {
    /// The stage that the edge leads to, if it leaves its own.
    pub fn stage(&self) -> Option<usize> {
        match self.target {
            Target::Stage { stage, .. } => Some(stage),
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
