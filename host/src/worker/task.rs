//! A task: one copy of a stage. The loop below is all that a task does.

use std::collections::BTreeMap;
use std::ops::Range;
use std::pin::Pin;
use std::time::{Duration, Instant};

use tidemill_checkpoint::failpoint;
use tidemill_flow::batch::Batch;
use tidemill_flow::checkpoint::alignment::Aligned;
use tidemill_flow::in_flight::InFlight;
use tidemill_flow::join::Side;
use tidemill_flow::schema::Schema;
use tidemill_flow::storage::Storage;
use tidemill_flow::watermark::{Combiner, WATERMARK_MIN};
use tokio::sync::watch;

use super::clock::ProcessingTime;
use super::in_flight::{IN_FLIGHT_BYTES_MAX, Recorder, Remains};
use super::inbox::{Ahead, Inbox, Taken};
use super::operator::Operator;
use super::outlets::Edge;
use super::snapshot::{Command, ROWS_PER_SLICE, Snapshots, TaskPart, Wish};
use super::source::{Read, SourceHead};
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
    pub(super) stop: watch::Receiver<Wish>,
    pub(super) clock: ProcessingTime,
    /// None: the pipeline has no checkpoints.
    pub(super) snapshots: Option<Snapshots>,
    /// None: it waits for all barriers.
    pub(super) recorder: Option<Recorder>,
    /// What was in flight to it at the checkpoint that the run goes on from.
    pub(super) remains: Option<Remains>,
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

/// Where late rows go.
pub(super) struct Late {
    /// Whoever reads them.
    pub(super) edges: Vec<Edge>,
    /// The file for those that nobody reads.
    pub(super) file: DeadLetters,
    pub(super) operator: String,
    pub(super) digest: String,
    pub(super) schema: Schema,
    pub(super) reason: &'static str,
}

/// Why rows are late.
pub(super) const LATE_FOR_WINDOWS: &str = "every window of the row had fired";
pub(super) const LATE_FOR_JOIN: &str = "the row came when it could no longer be joined";

impl Task {
    /// Runs until its input ends, or the pipeline is stopped; says which.
    pub(super) async fn run(self) -> Result<Ended, JobError> {
        let Task { head, nodes, stop, clock, snapshots, recorder, remains } = self;
        let mut running = Running { nodes, clock, snapshots, recorder, is_over: false };
        if let Some(remains) = remains {
            running.settle(remains).await?;
        }
        match head {
            Head::Source(head, edges) => running.run_source(head, edges, stop).await,
            Head::Inbox(inbox) => running.run_inbox(inbox).await.map(|()| Ended::Finished),
        }
    }
}

/// A task without its head.
struct Running {
    nodes: Vec<Node>,
    clock: ProcessingTime,
    snapshots: Option<Snapshots>,
    recorder: Option<Recorder>,
    /// The last barrier has passed.
    is_over: bool,
}

impl Running {
    async fn run_source(
        mut self,
        mut head: SourceHead,
        mut edges: Vec<Edge>,
        mut stop: watch::Receiver<Wish>,
    ) -> Result<Ended, JobError> {
        let (mut at_end, mut held, mut has_drained) = (false, false, false);
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
                    Command::Finish => break how_ended(at_end, &head),
                    Command::Barrier(barrier) => {
                        held |= barrier.last;
                        self.barrier(barrier, Some((&mut head, &edges)), None).await?;
                        continue;
                    }
                },
                wish = wished(&mut stop), if !at_end && !has_drained => match wish {
                    Wish::None => continue,
                    Wish::Stop if has_checkpoints => continue,
                    Wish::Stop => break Ended::Stopped,
                    Wish::Drain => {
                        has_drained = true;
                        Read::Time(head.end())
                    }
                },
                read = head.read(), if !at_end && !held => read?,
                () = std::future::ready(()), if has_snapshot => {
                    self.write_slice()?;
                    continue;
                }
            };
            let signals = match read {
                Read::Rows(partition, rows) => head.take(partition, rows).await?,
                Read::Time(signals) => signals,
                Read::End => {
                    at_end = true;
                    match &self.snapshots {
                        // The last checkpoint is still to come.
                        Some(snapshots) => snapshots.input_ended(),
                        None => break how_ended(at_end, &head),
                    }
                    continue;
                }
            };
            let mut outputs = self.outputs(&mut edges);
            for signal in signals {
                outputs.pass_on(signal).await?;
            }
            self.write_slice()?;
        };
        self.outputs(&mut edges).announce(&Signal::End).await?;
        Ok(ended)
    }

    async fn run_inbox(mut self, mut inbox: Inbox) -> Result<(), JobError> {
        let mut combiner = Combiner::new(inbox.channels());
        loop {
            if let Some(barrier) = inbox.overtake() {
                self.barrier(barrier, None, Some((&combiner, inbox.channels()))).await?;
            }
            self.record_ahead(&mut inbox)?;
            let (has_snapshot, has_due) = (self.has_snapshot(), self.has_due());
            let (wake, patience) = (self.wait_for_timers(), sleep_until(inbox.patience_ends()));
            let next = tokio::select! {
                biased;
                next = inbox.next() => next,
                () = std::future::ready(()), if has_snapshot || has_due => {
                    self.work_on().await?;
                    tokio::task::yield_now().await;
                    continue;
                }
                () = wake => continue,
                () = patience => continue,
            };
            let Some(Taken { channel, signal, was_ahead }) = next else { return Err(JobError::Disconnected) };
            match signal {
                Signal::Batch(batch) => {
                    if inbox.is_in_flight(channel) && !was_ahead {
                        self.record(&mut inbox, channel, &batch)?;
                    }
                    let batch = batch.held_back_to(combiner.watermark_of_others(channel));
                    let second = inbox.input(channel) == 1;
                    self.deliver(if second { Signal::Second(batch) } else { Signal::Batch(batch) }).await?;
                }
                Signal::Watermark(watermark) => {
                    for progress in combiner.advance(channel, watermark) {
                        self.deliver(progress.into()).await?;
                    }
                }
                Signal::Idle => {
                    for progress in combiner.idle(channel) {
                        self.deliver(progress.into()).await?;
                    }
                }
                Signal::Active => {
                    for progress in combiner.wake(channel) {
                        self.deliver(progress.into()).await?;
                    }
                }
                Signal::Barrier(barrier) => {
                    let aligned = inbox.barrier(channel, barrier);
                    self.aligned(aligned, barrier.last).await?;
                }
                Signal::Due | Signal::Second(_) => unreachable!("only within a task"),
                Signal::End => {
                    let (others, aligned) = inbox.ended(channel);
                    self.aligned(aligned, false).await?;
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

    /// Processes what was in flight when the checkpoint was taken. The watermarks that came with it aren't known any more:
    /// those who feed this task announce theirs afterwards, which are no less.
    async fn settle(&mut self, remains: Remains) -> Result<(), JobError> {
        let Remains { rows, storage, groups, ranges } = remains;
        if ranges.len() > 1 {
            let watermark = self.settle_apart(&rows, &*storage, ranges).await?;
            self.nodes[0].operator.reopen(groups.clone(), watermark)?;
        } else {
            self.process_all(rows.read(&*storage, groups.clone())?).await?;
        }
        Ok(storage.write(rows.remove(groups))?)
    }

    /// The key groups come from several tasks. Time hadn't come equally far in all of them, as none had waited for all
    /// barriers: windows have fired in one that haven't in another. So each range goes through what was in flight to it by
    /// itself. Then all of them may go to where any of them is: on every channel that watermark came before the barrier.
    /// Says where that is.
    async fn settle_apart(
        &mut self,
        rows: &InFlight,
        storage: &dyn Storage,
        mut ranges: Vec<(Range<u32>, i64)>,
    ) -> Result<i64, JobError> {
        for (range, watermark) in &mut ranges {
            self.nodes[0].operator.reopen(range.clone(), *watermark)?;
            self.process_all(rows.read(storage, range.clone())?).await?;
            *watermark = self.nodes[0].operator.put_down()?.unwrap_or(*watermark);
        }
        let watermark = ranges.iter().map(|(_, watermark)| *watermark).max().unwrap_or(WATERMARK_MIN);
        for (range, behind) in ranges.into_iter().filter(|(_, reached)| *reached < watermark) {
            self.nodes[0].operator.reopen(range, behind)?;
            catch_up(&mut self.nodes, watermark).await?;
            self.nodes[0].operator.put_down()?;
        }
        Ok(watermark)
    }

    async fn process_all(&mut self, batches: Vec<Batch>) -> Result<(), JobError> {
        for batch in batches {
            self.deliver(Signal::Batch(batch)).await?;
            self.keep_to_memory().await?;
        }
        Ok(())
    }

    /// What follows from a barrier or an end.
    async fn aligned(&mut self, aligned: Aligned, last: bool) -> Result<(), JobError> {
        match aligned {
            Aligned::Snapshot(checkpoint) => {
                self.barrier(Barrier { checkpoint, last, swap: false }, None, None).await
            }
            Aligned::Recorded(_) => {
                self.recorded();
                Ok(())
            }
            Aligned::GaveUp { snapshot, .. } => {
                self.recorded();
                match snapshot {
                    Some(checkpoint) => {
                        self.barrier(Barrier { checkpoint, last, swap: false }, None, None).await
                    }
                    None => Ok(()),
                }
            }
            Aligned::Waiting | Aligned::Nothing => Ok(()),
        }
    }

    /// Records what is in flight and stands in the queues.
    fn record_ahead(&mut self, inbox: &mut Inbox) -> Result<(), JobError> {
        let Ahead { in_flight, aligned } = inbox.read_ahead();
        for (channel, batch) in in_flight {
            self.record(inbox, channel, &batch)?;
        }
        if let Aligned::Recorded(_) = aligned {
            self.recorded();
        }
        Ok(())
    }

    fn record(&mut self, inbox: &mut Inbox, channel: usize, batch: &Batch) -> Result<(), JobError> {
        let Some(recorder) = &mut self.recorder else { return Ok(()) };
        if !recorder.record(channel, batch)? {
            inbox.give_up();
            let _ = recorder.end();
            if let Some(snapshots) = &mut self.snapshots {
                snapshots.decline(format!("more than {IN_FLIGHT_BYTES_MAX} bytes are in flight to a task"));
            }
        }
        Ok(())
    }

    /// The recording has ended, if there was one.
    fn recorded(&mut self) {
        let rows = self.recorder.as_mut().and_then(Recorder::end);
        if let (Some(rows), Some(snapshots)) = (rows, &mut self.snapshots) {
            snapshots.recorded(rows);
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

    /// Only the first node has keys, and so timers, or rows that wait.
    fn keyed(&mut self) -> Option<&mut Operator> {
        self.nodes.first_mut().map(|n| &mut n.operator)
    }

    /// Whether timers are due. What came of one behind the last barrier would be in no checkpoint.
    fn has_due(&mut self) -> bool {
        !self.is_over && self.keyed().is_some_and(Operator::has_due)
    }

    fn has_event_due(&mut self) -> bool {
        self.keyed().is_some_and(Operator::has_event_due)
    }

    /// Waits until a timer of processing time is due; for ever, if there is none.
    fn wait_for_timers(&mut self) -> impl Future<Output = ()> + use<> {
        let (is_over, clock) = (self.is_over, self.clock.clone());
        let next = self.keyed().and_then(Operator::next_processing_ms).filter(|_| !is_over);
        async move {
            match next {
                Some(at_ms) => clock.sleep_until_ms(at_ms).await,
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
        self.snapshots.as_ref().is_some_and(Snapshots::is_unwritten)
    }

    /// Everything up to here belongs to the checkpoint: the operators begin a new epoch, and the barrier goes on. Nothing
    /// is in the task's hands but what its operators keep, as each signal is dealt with to its end before the next.
    /// `overtaken`: barriers are still to come over some of so many channels, with this time; what comes before them is to
    /// be recorded.
    async fn barrier(
        &mut self,
        barrier: Barrier,
        mut source: Option<(&mut SourceHead, &Vec<Edge>)>,
        overtaken: Option<(&Combiner, usize)>,
    ) -> Result<(), JobError> {
        let swaps = self.snapshots.as_ref().is_some_and(|s| s.swaps_at(barrier));
        let begun = Instant::now();
        // Of the last checkpoint nothing may be left to do, nor of what a version of an operator began.
        while (barrier.last || swaps) && self.has_event_due() {
            self.deliver(Signal::Due).await?;
        }
        self.is_over |= barrier.last;
        let has_due = self.has_due();
        let Some(snapshots) = &mut self.snapshots else { return Ok(()) };
        let place = if source.is_some() { "barrier.source" } else { "barrier.task" };
        failpoint::at(place).map_err(interrupted)?;
        let source_state = source.as_mut().map(|(head, _)| head.state()).transpose()?;
        let mut part = TaskPart { source: source_state, has_due, ..TaskPart::default() };
        for node in &mut self.nodes {
            part.operators.extend(node.operator.freeze());
        }
        let watermarks = part.operators.iter().map(|o| (o.operator, o.watermark)).collect();
        if let Some(recorder) = &mut self.recorder {
            recorder.clear()?;
            if let Some((time, channels)) = overtaken {
                recorder.begin(time, channels);
            }
        }
        snapshots.open(barrier, part, overtaken.is_some()).await?;
        if let Some((_, edges)) = source {
            send_barrier(edges, barrier).await?;
        }
        for node in &self.nodes {
            send_barrier(&node.outputs, barrier).await?;
            send_barrier(&node.late.edges, barrier).await?;
        }
        if swaps {
            self.swap(&watermarks).await?;
            self.snapshots.iter().for_each(|s| s.paused(begun));
        }
        self.write_slice()
    }

    /// Other versions of operators take over. Everything up to here stands in the storage then, as they may keep it in
    /// another way; `watermarks`: by operator, how far time has come.
    async fn swap(&mut self, watermarks: &BTreeMap<usize, i64>) -> Result<(), JobError> {
        while self.has_snapshot() {
            self.write_slice()?;
        }
        for at in 0..self.nodes.len() {
            let number = self.nodes[at].operator.number();
            let Some(successor) = self.snapshots.as_ref().and_then(|s| s.successor(number)) else { continue };
            failpoint::at("swap.task").map_err(interrupted)?;
            let Node { operator, outputs, late } = self.nodes.remove(at);
            let watermark = watermarks.get(&number).copied();
            let late = Late { digest: successor.plan.plugin.digest().to_owned(), ..late };
            let operator = operator.succeeded(successor, watermark, self.clock.clone()).await?;
            self.nodes.insert(at, Node { operator, outputs, late });
        }
        Ok(())
    }

    /// Writes out a slice of what a barrier froze.
    fn write_slice(&mut self) -> Result<(), JobError> {
        let Some(snapshots) = self.snapshots.as_mut().filter(|s| s.is_unwritten()) else { return Ok(()) };
        for node in &mut self.nodes {
            failpoint::at("snapshot.slice").map_err(interrupted)?;
            if !node.operator.write_slice(ROWS_PER_SLICE)? {
                return Ok(());
            }
        }
        failpoint::at("snapshot.done").map_err(interrupted)?;
        snapshots.written();
        Ok(())
    }
}

/// A source that was read only as far as it was to be has more.
fn how_ended(at_end: bool, head: &SourceHead) -> Ended {
    if at_end && !head.is_cut() { Ended::Finished } else { Ended::Stopped }
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

/// What somebody wishes of the sources next.
async fn wished(stop: &mut watch::Receiver<Wish>) -> Wish {
    // Who could wish something and is gone will never do so.
    if stop.changed().await.is_err() {
        std::future::pending().await
    }
    *stop.borrow_and_update()
}

/// Never, without a time.
async fn sleep_until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time.into()).await,
        None => std::future::pending().await,
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
            (Operator::Windowed(windowed), Signal::Batch(batch)) => windowed.process(batch, &mut out).await,
            (Operator::Windowed(windowed), Signal::Watermark(watermark)) => {
                windowed.advance(watermark, &mut out).await
            }
            (Operator::Windowed(windowed), Signal::Due) => windowed.go_on(&mut out).await,
            (Operator::Windowed(windowed), signal @ (Signal::Idle | Signal::Active)) => {
                match windowed.behind_watermark(signal) {
                    Some(signal) => out.announce(&signal).await,
                    None => Ok(()),
                }
            }
            (Operator::Windowed(windowed), Signal::End) => {
                windowed.stop();
                out.announce(&Signal::End).await
            }
            (Operator::Process(process), Signal::Batch(batch)) => process.process(batch, &mut out).await,
            (Operator::Process(process), Signal::Watermark(watermark)) => {
                process.advance(watermark, &mut out).await
            }
            (Operator::Process(process), Signal::Due) => process.go_on(&mut out).await,
            (Operator::Process(process), signal @ (Signal::Idle | Signal::Active)) => {
                match process.behind_watermark(signal) {
                    Some(signal) => out.announce(&signal).await,
                    None => Ok(()),
                }
            }
            (Operator::Join(join), Signal::Batch(batch)) => join.process(Side::Left, batch, &mut out).await,
            (Operator::Join(join), Signal::Second(batch)) => join.process(Side::Right, batch, &mut out).await,
            (Operator::Join(join), Signal::Watermark(watermark)) => join.advance(watermark, &mut out).await,
            (Operator::Join(join), Signal::Due) => join.go_on(&mut out).await,
            (Operator::Join(join), signal @ (Signal::Idle | Signal::Active)) => {
                match join.behind_watermark(signal) {
                    Some(signal) => out.announce(&signal).await,
                    None => Ok(()),
                }
            }
            (_, signal @ (Signal::Watermark(_) | Signal::Idle | Signal::Active | Signal::End)) => {
                out.announce(&signal).await
            }
            (_, Signal::Due) => unreachable!("only operators with keys have timers, or rows that wait"),
            (_, Signal::Second(_)) => unreachable!("only joins have a second input"),
            (_, Signal::Barrier(_)) => unreachable!("a barrier is for the whole task"),
        }
    })
}

/// Brings the first node's time to a watermark that those behind it aren't told of.
async fn catch_up(nodes: &mut [Node], watermark: i64) -> Result<(), JobError> {
    let Some((node, later)) = nodes.split_first_mut() else { return Ok(()) };
    let Node { operator, outputs, late } = node;
    let mut out = Outputs { edges: outputs, later, first: 1, late: Some(late) };
    match operator {
        Operator::Aggregate(aggregate) => aggregate.advance(watermark, &mut out).await,
        Operator::Process(process) => process.catch_up(watermark, &mut out).await,
        Operator::Transform(_) | Operator::Windowed(_) | Operator::Join(_) => {
            unreachable!("nothing is in flight to it")
        }
    }
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
        let reasons = vec![late.reason; batch.rows()];
        Ok(late.file.write_rows(by, &reasons, &batch, &late.schema).await?)
    }

    /// Sends rows along every edge, or tells the tasks behind them of time.
    async fn pass_on(&mut self, signal: Signal) -> Result<(), JobError> {
        match signal {
            Signal::Batch(batch) => self.send(&batch).await,
            signal => self.announce(&signal).await,
        }
    }

    pub(super) async fn announce(&mut self, signal: &Signal) -> Result<(), JobError> {
        for edge in self.edges.iter() {
            if let Some(node) = edge.announce(signal).await? {
                deliver(self.later, self.first, node, signal.clone()).await?;
            }
        }
        Ok(())
    }
}
