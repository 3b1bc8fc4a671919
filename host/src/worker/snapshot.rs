//! A task's part in checkpoints: at a barrier its operators begin a new epoch, which takes no time; what changed in the
//! old one is written out in slices between the batches that follow, and then the task says so.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use tidemill_checkpoint::SavepointName;
use tokio::sync::{mpsc, oneshot, watch};

use super::operator::Successor;
use super::swap::{Changeover, Swaps};
use super::{Barrier, JobError};
use crate::log::PartitionState;
use crate::sink::Outlet;
use crate::telemetry::Counters;

/// Rows that are written out between two signals: a slice takes a few milliseconds at most.
pub(super) const ROWS_PER_SLICE: usize = 256;

/// What the sources shall do, beside reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// Nothing.
    None,
    /// Stop where they stand. With checkpoints the coordinator says so instead, when the last one is done.
    Stop,
    /// Take their input as ended where they stand.
    Drain,
}

/// What the coordinator wants of the sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// Read on.
    Run,
    /// Send this barrier.
    Barrier(Barrier),
    /// The last checkpoint is committed: say that nothing more comes.
    Finish,
}

/// What the tasks tell the coordinator.
pub(super) enum Report {
    /// A task's part of a checkpoint is safe.
    Snapshot { task: usize, checkpoint: u64, part: TaskPart },
    /// A task can't take its part in a checkpoint.
    Declined { checkpoint: u64, reason: String },
    /// A source's task has nothing more to read.
    InputEnded,
    /// Somebody wants the pipeline to stop.
    Stop,
    /// Somebody wants a savepoint: the answer is the checkpoint that was kept, or why there is none.
    Savepoint { name: SavepointName, answer: oneshot::Sender<Result<u64, String>> },
    /// Other versions of operators are ready to take over.
    Swap(Box<Changeover>),
}

/// What a checkpoint holds of a task, beside the rows of its operators' state.
#[derive(Debug, Default)]
pub(super) struct TaskPart {
    /// The source and how far each of its partitions in this task was read.
    pub(super) source: Option<(usize, Vec<PartitionState>)>,
    pub(super) operators: Vec<OperatorPart>,
    /// Whether timers are due that haven't fired: the task goes on with them behind the barrier.
    pub(super) has_due: bool,
    /// What the task has counted since the run began.
    pub(super) counts: Vec<u64>,
}

/// How far time had come for a stateful operator's key groups.
#[derive(Debug)]
pub(super) struct OperatorPart {
    pub(super) operator: usize,
    pub(super) groups: Range<u32>,
    pub(super) watermark: i64,
    /// How many rows were in flight to it; none: the task had waited for all barriers.
    pub(super) in_flight: Option<u64>,
}

/// The checkpoints of a task.
pub(super) struct Snapshots {
    task: usize,
    /// Every way to a writer that the task has, once each.
    outlets: Vec<Outlet>,
    counters: Arc<Counters>,
    reports: mpsc::UnboundedSender<Report>,
    pub(super) commands: watch::Receiver<Command>,
    /// The last checkpoint whose files were taken, or that was given up.
    taken: watch::Receiver<u64>,
    /// The last barrier.
    barrier: u64,
    /// Said as soon as everything is written out, and what was in flight recorded.
    open: Option<TaskPart>,
    is_written: bool,
    is_recording: bool,
    swaps: Arc<Swaps>,
}

impl Snapshots {
    pub(super) fn new(
        task: usize,
        outlets: Vec<Outlet>,
        counters: Arc<Counters>,
        reports: mpsc::UnboundedSender<Report>,
        commands: watch::Receiver<Command>,
        taken: watch::Receiver<u64>,
        swaps: Arc<Swaps>,
    ) -> Self {
        Self {
            task,
            outlets,
            counters,
            reports,
            commands,
            taken,
            barrier: 0,
            open: None,
            is_written: true,
            is_recording: false,
            swaps,
        }
    }

    /// Whether operators of the task change versions at this barrier.
    pub(super) fn swaps_at(&self, barrier: Barrier) -> bool {
        self.swaps.is_due(self.task, barrier.checkpoint)
    }

    /// The version of an operator that takes over now.
    pub(super) fn successor(&self, operator: usize) -> Option<Successor> {
        self.swaps.take(self.task, operator)
    }

    /// The task has stood still for a swap since then.
    pub(super) fn paused(&self, begun: Instant) {
        self.swaps.paused(begun);
    }

    /// Opens a snapshot: the operators have been frozen, and what they and the source report is `part`. `is_recording`:
    /// what is in flight is to come.
    pub(super) async fn open(
        &mut self,
        barrier: Barrier,
        mut part: TaskPart,
        is_recording: bool,
    ) -> Result<(), JobError> {
        part.counts = self.counters.values();
        for outlet in &self.outlets {
            outlet.barrier(barrier.checkpoint).await?;
        }
        self.barrier = barrier.checkpoint;
        self.open = Some(part);
        (self.is_written, self.is_recording) = (false, is_recording);
        Ok(())
    }

    /// Whether something of the snapshot waits to be written out.
    pub(super) fn is_unwritten(&self) -> bool {
        self.open.is_some() && !self.is_written
    }

    /// Everything is written out.
    pub(super) fn written(&mut self) {
        self.is_written = true;
        self.close_if_done();
    }

    /// Everything that was in flight is recorded: so many rows.
    pub(super) fn recorded(&mut self, rows: u64) {
        if let Some(operator) = self.open.as_mut().and_then(|part| part.operators.first_mut()) {
            operator.in_flight = Some(rows);
        }
        self.is_recording = false;
        self.close_if_done();
    }

    /// The task can't take its part in the checkpoint. What it says of it nonetheless is ignored.
    pub(super) fn decline(&mut self, reason: String) {
        self.report(Report::Declined { checkpoint: self.barrier, reason });
        self.recorded(0);
    }

    fn close_if_done(&mut self) {
        if self.is_recording || !self.is_written {
            return;
        }
        if let Some(part) = self.open.take() {
            let report = Report::Snapshot { task: self.task, checkpoint: self.barrier, part };
            self.report(report);
        }
    }

    pub(super) fn input_ended(&self) {
        self.report(Report::InputEnded);
    }

    /// When it is gone the pipeline is coming down, and this task with it.
    fn report(&self, report: Report) {
        let _ = self.reports.send(report);
    }

    /// Waits until what changed since the barrier may be written into the storage: not before the files of the
    /// checkpoint before it are taken.
    pub(super) async fn may_spill(&mut self) -> Result<(), JobError> {
        let barrier = self.barrier;
        let taken = self.taken.wait_for(|taken| *taken >= barrier).await;
        taken.map(drop).map_err(|_| JobError::Disconnected)
    }
}
