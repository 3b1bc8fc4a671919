//! The edges of a task: where its rows go, and how they are shared out among the tasks of another stage.

use arrow_schema::SchemaRef;
use tidemill_flow::batch::Batch;
use tidemill_flow::key::{Keys, key_group, owner};
use tidemill_flow::schema::Schema;
use tokio::sync::mpsc;

use super::{JobError, Signal};
use crate::pipeline::plan::Routing;
use crate::sink::{DeadLetters, Lines, Outlet, Place};

/// An edge to a reader.
pub(super) struct Edge {
    columns: Vec<usize>,
    schema: SchemaRef,
    /// Whether the reader wants the rows' ids.
    ids: bool,
    to: To,
}

/// Where rows go that a sink can't take.
pub(super) struct Refusals {
    /// The sink.
    pub(super) id: String,
    pub(super) schema: Schema,
    pub(super) dead_letters: DeadLetters,
}

/// The way to a sink.
pub(super) struct ToSink {
    pub(super) lines: Lines,
    pub(super) outlet: Outlet,
    pub(super) refusals: Refusals,
}

pub(super) enum To {
    /// A later node of this task.
    Node(usize),
    Sink(Box<ToSink>),
    Tasks {
        routing: Routing,
        tasks: Vec<mpsc::Sender<Signal>>,
        /// For rebalancing: whose turn it is.
        turn: usize,
    },
}

impl Edge {
    pub(super) fn new(columns: Vec<usize>, schema: SchemaRef, ids: bool, to: To) -> Self {
        Self { columns, schema, ids, to }
    }

    /// Sends a batch along; gives it back, with the node, if its reader is in this task.
    pub(super) async fn send(&mut self, batch: &Batch) -> Result<Option<(usize, Batch)>, JobError> {
        if batch.rows() == 0 {
            return Ok(None);
        }
        let mut batch = batch.project(&self.columns, &self.schema);
        assert!(batch.ids.is_some() || !self.ids, "rows without the ids that their reader wants");
        batch.ids = batch.ids.filter(|_| self.ids);
        match &mut self.to {
            To::Node(node) => return Ok(Some((*node, batch))),
            To::Sink(sink) => {
                let ToSink { lines, outlet, refusals } = &mut **sink;
                let mut block = lines.block(&batch);
                let refused = std::mem::take(&mut block.refused);
                if block.rows > 0 {
                    outlet.write(block).await?;
                }
                if !refused.is_empty() {
                    refusals.write(&refused, &batch).await?;
                }
            }
            To::Tasks { routing: Routing::Rebalance, tasks, turn } => {
                *turn = (*turn + 1) % tasks.len();
                send(&tasks[*turn], Signal::Batch(batch)).await?;
            }
            To::Tasks { routing: Routing::Hash(key), tasks, .. } => {
                for (task, part) in shared_out(batch, key, tasks.len()) {
                    send(&tasks[task], Signal::Batch(part)).await?;
                }
            }
        }
        Ok(None)
    }

    /// Tells the tasks behind the edge how far time has come, or that nothing more comes.
    pub(super) async fn announce(&self, signal: &Signal) -> Result<Option<usize>, JobError> {
        match &self.to {
            To::Node(node) => return Ok(Some(*node)),
            To::Sink(_) => {}
            To::Tasks { tasks, .. } => {
                for task in tasks {
                    send(task, signal.clone()).await?;
                }
            }
        }
        Ok(None)
    }
}

impl Refusals {
    async fn write(&self, refused: &[(u32, String)], batch: &Batch) -> Result<(), JobError> {
        let (rows, reasons): (Vec<u32>, Vec<&str>) =
            refused.iter().map(|(row, why)| (*row, why.as_str())).unzip();
        let by = Place::Sink(&self.id);
        Ok(self.dead_letters.write_rows(by, &reasons, &batch.take(&rows), &self.schema).await?)
    }
}

async fn send(task: &mpsc::Sender<Signal>, signal: Signal) -> Result<(), JobError> {
    task.send(signal).await.map_err(|_| JobError::Disconnected)
}

/// The rows of a batch by the task that owns their key group, each part in the order of the batch.
fn shared_out(batch: Batch, key: &[usize], tasks: usize) -> Vec<(usize, Batch)> {
    if tasks == 1 {
        return vec![(0, batch)];
    }
    let columns: Vec<_> = key.iter().map(|&c| batch.columns.column(c)).collect();
    let keys = Keys::of(&columns, batch.rows());
    let parallelism = u32::try_from(tasks).expect("at most 720 tasks");
    let mut parts: Vec<Vec<u32>> = vec![Vec::with_capacity(batch.rows() / tasks + 1); tasks];
    for (row, &hash) in (0u32..).zip(keys.hashes()) {
        parts[owner(key_group(hash), parallelism) as usize].push(row);
    }
    let part = |(task, rows): (usize, Vec<u32>)| {
        let whole = rows.len() == batch.rows();
        (!rows.is_empty()).then(|| (task, if whole { batch.clone() } else { batch.take(&rows) }))
    };
    parts.into_iter().enumerate().filter_map(part).collect()
}
