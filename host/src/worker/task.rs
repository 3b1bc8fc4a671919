//! A task: one copy of a stage. The loop below is all that a task does.

use std::pin::Pin;
use std::time::{Duration, Instant};

use tidemill_checkpoint::failpoint;
use tidemill_flow::batch::Batch;
use tidemill_flow::schema::Schema;
use tidemill_flow::watermark::{Combiner, Progress};
use tokio::sync::watch;

use super::aggregate::AggregateNode;
use super::inbox::Inbox;
use super::outlets::Edge;
use super::process::{ProcessNode, now_ms};
use super::snapshot::{Command, OperatorPart, ROWS_PER_SLICE, Snapshots, TaskPart};
use super::source::{Read, SourceHead};
use super::transform::TransformNode;
use super::{Barrier, Ended, JobError, Signal};
use crate::sink::{DeadLetters, Place};

/// How long a task goes on writing out a snapshot between two signals: about as long as it has a batch in its hands, so
/// that neither rows nor the checkpoint wait for the other.
const WRITE_TIME: Duration = Duration::from_millis(4);

/// How long a task waits until it may write what is too much for its memory into the storage.
const SPILL_WAIT: Duration = Duration::from_millis(10);

/// One copy of a stage.
pub(super) struct Task {
    pub(super) head: Head,
    pub(super) nodes: Vec<Node>,
    pub(super) stop: watch::Receiver<bool>,
    /// None: the pipeline has no checkpoints.
    pub(super) snapshots: Option<Snapshots>,
}

/// What begins a task.
pub(super) enum Head {
    Source(SourceHead, Vec<Edge>),
    Inbox(Inbox),
}

/// An operator in a task, with its edges.
pub(super) struct Node {
    pub(super) operator: Operator,
    pub(super) outputs: Vec<Edge>,
    pub(super) late: Late,
}

pub(super) enum Operator {
    Transform(Box<TransformNode>),
    Aggregate(Box<AggregateNode>),
    Process(Box<ProcessNode>),
}

/// Where late rows go.
pub(super) struct Late {
    /// Whoever reads them.
    pub(super) edges: Vec<Edge>,
    /// The file for those that nobody reads.
    pub(super) file: DeadLetters,
    pub(super) operator: String,
    pub(super) digest: String,
    pub(super) schema: Schema,
}

impl Task {
    /// Runs until its input ends, or the pipeline is stopped; says which.
    pub(super) async fn run(self) -> Result<Ended, JobError> {
        let Task { head, nodes, stop, snapshots } = self;
        let running = Running { nodes, snapshots, is_over: false };
        match head {
            Head::Source(head, edges) => running.run_source(head, edges, stop).await,
            Head::Inbox(inbox) => running.run_inbox(inbox).await.map(|()| Ended::Finished),
        }
    }
}

/// A task without its head.
struct Running {
    nodes: Vec<Node>,
    snapshots: Option<Snapshots>,
    /// The last barrier has passed.
    is_over: bool,
}

impl Running {
    async fn run_source(
        mut self,
        mut head: SourceHead,
        mut edges: Vec<Edge>,
        mut stop: watch::Receiver<bool>,
    ) -> Result<Ended, JobError> {
        let (mut at_end, mut held) = (false, false);
        let has_checkpoints = self.snapshots.is_some();
        // How far time had come when the checkpoint was taken that this run goes on from.
        if let Some(watermark) = head.watermark() {
            self.outputs(&mut edges).announce(&Signal::Watermark(watermark)).await?;
        }
        let ended = loop {
            // A source whose rows are all filtered out waits for nothing: others must have their turn all the same.
            tokio::task::consume_budget().await;
            let has_snapshot = self.has_snapshot();
            let read = tokio::select! {
                biased;
                command = command(self.snapshots.as_mut()) => match command? {
                    Command::Run => continue,
                    Command::Finish => break if at_end { Ended::Finished } else { Ended::Stopped },
                    Command::Barrier(barrier) => {
                        held |= barrier.last;
                        self.barrier(barrier, Some((&head, &edges))).await?;
                        continue;
                    }
                },
                () = stopped(&mut stop), if !has_checkpoints => break Ended::Stopped,
                read = head.read(), if !at_end && !held => read?,
                () = std::future::ready(()), if has_snapshot => {
                    self.write_slice()?;
                    continue;
                }
            };
            let Read::Rows(partition, rows) = read else {
                at_end = true;
                match &self.snapshots {
                    // The last checkpoint is still to come.
                    Some(snapshots) => snapshots.input_ended(),
                    None => break Ended::Finished,
                }
                continue;
            };
            let step = head.take(partition, rows).await?;
            let mut outputs = self.outputs(&mut edges);
            if let Some(batch) = step.batch {
                outputs.send(&batch).await?;
            }
            if let Some(watermark) = step.watermark {
                outputs.announce(&Signal::Watermark(watermark)).await?;
            }
            self.write_slice()?;
        };
        self.outputs(&mut edges).announce(&Signal::End).await?;
        Ok(ended)
    }

    async fn run_inbox(mut self, mut inbox: Inbox) -> Result<(), JobError> {
        let mut combiner = Combiner::new(inbox.channels());
        loop {
            let (has_snapshot, has_due) = (self.has_snapshot(), self.has_due());
            let wake = self.wait_for_timers();
            let next = tokio::select! {
                biased;
                next = inbox.next() => next,
                () = std::future::ready(()), if has_snapshot || has_due => {
                    self.work_on().await?;
                    tokio::task::yield_now().await;
                    continue;
                }
                () = wake => continue,
            };
            let Some((channel, signal)) = next else { return Err(JobError::Disconnected) };
            match signal {
                Signal::Batch(batch) => {
                    let batch = batch.held_back_to(combiner.watermark_of_others(channel));
                    self.deliver(Signal::Batch(batch)).await?;
                }
                Signal::Watermark(watermark) => match combiner.advance(channel, watermark) {
                    Some(Progress::Watermark(watermark)) => {
                        self.deliver(Signal::Watermark(watermark)).await?;
                    }
                    Some(Progress::Idle | Progress::Active) | None => {}
                },
                Signal::Barrier(barrier) => {
                    if let Some(checkpoint) = inbox.barrier(channel, barrier.checkpoint) {
                        self.barrier(Barrier { checkpoint, ..barrier }, None).await?;
                    }
                }
                Signal::Due => unreachable!("only within a task"),
                Signal::End => {
                    let (others, checkpoint) = inbox.ended(channel);
                    if let Some(checkpoint) = checkpoint {
                        self.barrier(Barrier { checkpoint, last: false }, None).await?;
                    }
                    if !others {
                        while self.has_event_due() {
                            self.deliver(Signal::Due).await?;
                        }
                        while self.has_snapshot() {
                            self.write_slice()?;
                        }
                        return self.deliver(Signal::End).await;
                    }
                }
            }
            self.work_on().await?;
            self.keep_to_memory().await?;
        }
    }

    /// Does a slice of what waits besides signals: timers that are due, and rows that a barrier froze.
    async fn work_on(&mut self) -> Result<(), JobError> {
        if self.has_due() {
            self.deliver(Signal::Due).await?;
        }
        let begun = Instant::now();
        while self.has_snapshot() && begun.elapsed() < WRITE_TIME {
            self.write_slice()?;
        }
        Ok(())
    }

    /// Only the first node has keys, and so timers.
    fn process(&mut self) -> Option<&mut ProcessNode> {
        match self.nodes.first_mut().map(|n| &mut n.operator) {
            Some(Operator::Process(process)) => Some(process),
            _ => None,
        }
    }

    /// Whether timers are due. What came of one behind the last barrier would be in no checkpoint.
    fn has_due(&mut self) -> bool {
        !self.is_over && self.process().is_some_and(ProcessNode::has_due)
    }

    fn has_event_due(&mut self) -> bool {
        self.process().is_some_and(ProcessNode::has_event_due)
    }

    /// Waits until a timer of processing time is due; for ever, if there is none.
    fn wait_for_timers(&mut self) -> impl Future<Output = ()> + use<> {
        let is_over = self.is_over;
        let next = self.process().and_then(ProcessNode::next_processing_ms).filter(|_| !is_over);
        async move {
            match next {
                Some(at) => {
                    let wait = u64::try_from(at.saturating_sub(now_ms())).unwrap_or(0);
                    tokio::time::sleep(Duration::from_millis(wait)).await;
                }
                None => std::future::pending().await,
            }
        }
    }

    /// What is more than the memory that the operators may use goes into the storage; between a barrier and the taking
    /// of the checkpoint's files it has to wait.
    async fn keep_to_memory(&mut self) -> Result<(), JobError> {
        for at in 0..self.nodes.len() {
            if !self.nodes[at].operator.is_crowded() {
                continue;
            }
            while self.has_snapshot() {
                self.write_slice()?;
            }
            if let Some(snapshots) = &mut self.snapshots {
                // Whoever feeds this task may have a snapshot of its own to write out first, and can't while it waits for
                // us. So take another signal and look again; it is a little more than the memory until then.
                match tokio::time::timeout(SPILL_WAIT, snapshots.may_spill()).await {
                    Ok(may_spill) => may_spill?,
                    Err(_) => return Ok(()),
                }
            }
            self.nodes[at].operator.spill()?;
        }
        Ok(())
    }

    fn outputs<'a>(&'a mut self, edges: &'a mut [Edge]) -> Outputs<'a> {
        Outputs { edges, later: &mut self.nodes, first: 0, late: None }
    }

    async fn deliver(&mut self, signal: Signal) -> Result<(), JobError> {
        deliver(&mut self.nodes, 0, 0, signal).await
    }

    fn has_snapshot(&self) -> bool {
        self.snapshots.as_ref().is_some_and(Snapshots::is_open)
    }

    /// Everything up to here belongs to the checkpoint: the operators begin a new epoch, and the barrier goes on. Nothing
    /// is in the task's hands but what its operators keep, as each signal is dealt with to its end before the next.
    async fn barrier(
        &mut self,
        barrier: Barrier,
        source: Option<(&SourceHead, &Vec<Edge>)>,
    ) -> Result<(), JobError> {
        // Of the last checkpoint nothing may be left to do.
        while barrier.last && self.has_event_due() {
            self.deliver(Signal::Due).await?;
        }
        self.is_over |= barrier.last;
        let Some(snapshots) = &mut self.snapshots else { return Ok(()) };
        let place = if source.is_some() { "barrier.source" } else { "barrier.task" };
        failpoint::at(place).map_err(interrupted)?;
        let source_state = source.map(|(head, _)| head.state()).transpose()?;
        let mut part = TaskPart { source: source_state, ..TaskPart::default() };
        for node in &mut self.nodes {
            part.operators.extend(node.operator.freeze());
        }
        snapshots.open(barrier, part).await?;
        if let Some((_, edges)) = source {
            send_barrier(edges, barrier).await?;
        }
        for node in &self.nodes {
            send_barrier(&node.outputs, barrier).await?;
            send_barrier(&node.late.edges, barrier).await?;
        }
        self.write_slice()
    }

    /// Writes out a slice of what a barrier froze.
    fn write_slice(&mut self) -> Result<(), JobError> {
        let Some(snapshots) = self.snapshots.as_mut().filter(|s| s.is_open()) else { return Ok(()) };
        for node in &mut self.nodes {
            failpoint::at("snapshot.slice").map_err(interrupted)?;
            if !node.operator.write_slice(ROWS_PER_SLICE)? {
                return Ok(());
            }
        }
        failpoint::at("snapshot.done").map_err(interrupted)?;
        snapshots.close();
        Ok(())
    }
}

/// A failpoint's error.
fn interrupted(error: std::io::Error) -> JobError {
    JobError::Checkpoint(error.to_string())
}

/// Sends a barrier to the tasks behind edges. In the task itself it has been dealt with, and writers get theirs apart.
async fn send_barrier(edges: &[Edge], barrier: Barrier) -> Result<(), JobError> {
    for edge in edges {
        edge.announce(&Signal::Barrier(barrier)).await?;
    }
    Ok(())
}

/// What the coordinator wants next; never, without checkpoints.
async fn command(snapshots: Option<&mut Snapshots>) -> Result<Command, JobError> {
    let Some(snapshots) = snapshots else { return std::future::pending().await };
    snapshots.commands.changed().await.map_err(|_| JobError::Disconnected)?;
    Ok(*snapshots.commands.borrow_and_update())
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // Who could stop it and is gone will never do so.
    if stop.wait_for(|stop| *stop).await.is_err() {
        std::future::pending().await
    }
}

impl Operator {
    /// Begins a new epoch.
    fn freeze(&mut self) -> Option<OperatorPart> {
        match self {
            Self::Transform(_) => None,
            Self::Aggregate(aggregate) => Some(aggregate.freeze()),
            Self::Process(process) => Some(process.freeze()),
        }
    }

    /// Writes out up to `rows_max` rows of the epoch that was frozen; says whether that was all.
    fn write_slice(&mut self, rows_max: usize) -> Result<bool, JobError> {
        match self {
            Self::Transform(_) => Ok(true),
            Self::Aggregate(aggregate) => aggregate.write_slice(rows_max),
            Self::Process(process) => process.write_slice(rows_max),
        }
    }

    /// Keeps to its share of the memory; says whether it can't without writing into the storage.
    fn is_crowded(&mut self) -> bool {
        match self {
            Self::Transform(_) => false,
            Self::Aggregate(aggregate) => !aggregate.evict(),
            Self::Process(process) => !process.evict(),
        }
    }

    fn spill(&mut self) -> Result<(), JobError> {
        match self {
            Self::Transform(_) => Ok(()),
            Self::Aggregate(aggregate) => aggregate.spill(),
            Self::Process(process) => process.spill(),
        }
    }
}

type Delivery<'a> = Pin<Box<dyn Future<Output = Result<(), JobError>> + Send + 'a>>;

/// Gives node `at` a signal, and what comes of it to those behind it, all the way, before anything else: so that
/// no more than one batch of each node is held at a time. `nodes` are those from number `first` on; a node's
/// readers in its own task come after it.
fn deliver(nodes: &mut [Node], first: usize, at: usize, signal: Signal) -> Delivery<'_> {
    Box::pin(async move {
        let (node, later) = nodes[at - first..].split_first_mut().expect("an edge leads to a node");
        let Node { operator, outputs, late } = node;
        let mut out = Outputs { edges: outputs, later, first: at + 1, late: Some(late) };
        match (operator, signal) {
            (Operator::Transform(transform), Signal::Batch(batch)) => {
                transform.process(batch, &mut out).await
            }
            (Operator::Aggregate(aggregate), Signal::Batch(batch)) => {
                aggregate.process(batch, &mut out).await
            }
            (Operator::Aggregate(aggregate), signal @ Signal::Watermark(watermark)) => {
                aggregate.advance(watermark, &mut out).await?;
                out.announce(&signal).await
            }
            (Operator::Aggregate(aggregate), Signal::End) => {
                aggregate.stop();
                out.announce(&Signal::End).await
            }
            (Operator::Process(process), Signal::Batch(batch)) => process.process(batch, &mut out).await,
            (Operator::Process(process), Signal::Watermark(watermark)) => {
                match process.advance(watermark, &mut out).await? {
                    Some(watermark) => out.announce(&Signal::Watermark(watermark)).await,
                    None => Ok(()),
                }
            }
            (Operator::Process(process), Signal::Due) => match process.go_on(&mut out).await? {
                Some(watermark) => out.announce(&Signal::Watermark(watermark)).await,
                None => Ok(()),
            },
            (_, signal @ (Signal::Watermark(_) | Signal::End)) => out.announce(&signal).await,
            (_, Signal::Due) => unreachable!("only process operators have timers"),
            (_, Signal::Barrier(_)) => unreachable!("a barrier is for the whole task"),
        }
    })
}

/// The ways out of an operator, while it works.
pub(super) struct Outputs<'a> {
    edges: &'a mut [Edge],
    /// The nodes of the task from number `first` on.
    later: &'a mut [Node],
    first: usize,
    late: Option<&'a mut Late>,
}

impl Outputs<'_> {
    /// Sends rows along every edge.
    pub(super) async fn send(&mut self, batch: &Batch) -> Result<(), JobError> {
        for edge in self.edges.iter_mut() {
            if let Some((node, batch)) = edge.send(batch).await? {
                deliver(self.later, self.first, node, Signal::Batch(batch)).await?;
            }
        }
        Ok(())
    }

    /// Sends late rows to whoever reads them, or to the file for late rows.
    pub(super) async fn send_late(&mut self, batch: Batch) -> Result<(), JobError> {
        let late = self.late.as_mut().expect("only operators have late rows");
        for edge in &mut late.edges {
            let to_node = edge.send(&batch).await?;
            assert!(to_node.is_none(), "late rows are read by sinks only");
        }
        if !late.edges.is_empty() {
            return Ok(());
        }
        let by = Place::Operator { id: &late.operator, digest: &late.digest };
        let reasons = vec!["every window of the row had fired"; batch.rows()];
        Ok(late.file.write_rows(by, &reasons, &batch, &late.schema).await?)
    }

    async fn announce(&mut self, signal: &Signal) -> Result<(), JobError> {
        for edge in self.edges.iter() {
            if let Some(node) = edge.announce(signal).await? {
                deliver(self.later, self.first, node, signal.clone()).await?;
            }
        }
        Ok(())
    }
}
