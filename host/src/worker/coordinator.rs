//! The coordinator: drives the protocol of checkpoints. What is due the flow decides
//! ([`tidemill_flow::checkpoint::coordinator`]); here its decisions meet tasks, writers and the [`Keeper`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidemill_checkpoint::{Kind, SavepointName, failpoint};
use tidemill_flow::checkpoint::commit::StagedParts;
use tidemill_flow::checkpoint::coordinator::{Action, Coordinator, Event};
use tidemill_flow::probation::{Seen, judge};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use super::keeper::{Collected, KeepError, Keeper};
use super::snapshot::{Command, Report};
use super::swap::{Changeover, Swapping, Swaps, seen};
use super::{Barrier, JobError};
use crate::sink::{Part, Passed, WriteError};
use crate::telemetry::Counters;

/// Runs beside the tasks until the last checkpoint is committed, or the tasks are gone.
pub(super) struct Coordination {
    pub(super) protocol: Coordinator,
    pub(super) keeper: Arc<Keeper>,
    /// What had been counted when the run began.
    pub(super) before: Counters,
    /// What is being counted.
    pub(super) counters: Arc<Counters>,
    pub(super) reports: mpsc::UnboundedReceiver<Report>,
    pub(super) passed: mpsc::UnboundedReceiver<Result<Passed, WriteError>>,
    pub(super) commands: watch::Sender<Command>,
    pub(super) taken: watch::Sender<u64>,
    /// The tasks that read sources and haven't ended.
    pub(super) reading: usize,
    /// What the last checkpoint is when all that is to be read was read.
    pub(super) at_end: Kind,
    /// Tasks are participants from 0 on, writers from here on.
    pub(super) tasks: usize,
    pub(super) swaps: Arc<Swaps>,
    pub(super) state: State,
}

/// What has come together so far.
#[derive(Default)]
pub(super) struct State {
    /// Of the checkpoint that is open.
    collected: Collected,
    /// By writer: parts that are safe and not committed yet.
    pending: BTreeMap<usize, StagedParts<Part>>,
    input_ended: bool,
    /// By writer: rows and bytes in parts that were safe.
    safe: BTreeMap<usize, (u64, u64)>,
    /// Wanted from the next checkpoint on that is triggered.
    savepoints: Vec<Wanted>,
    /// Wanted of the checkpoint that is open.
    open_savepoints: Vec<Wanted>,
    swap: Option<Swap>,
    /// What operators had done when their present version began.
    baseline: BTreeMap<usize, Seen>,
}

impl State {
    /// `baseline`: what operators had done when the run began.
    pub(super) fn new(baseline: BTreeMap<usize, Seen>) -> Self {
        Self { baseline, ..Self::default() }
    }
}

/// A savepoint that somebody wants.
type Wanted = (SavepointName, oneshot::Sender<Result<u64, String>>);

/// A swap that is under way.
struct Swap {
    changeover: Box<Changeover>,
    /// The checkpoint behind whose barrier the new versions are, once it was triggered.
    from: Option<u64>,
    /// What the operators had done by then: under their old version, and in all.
    old: Vec<Seen>,
    before: Vec<Seen>,
}

/// Something that the keeper has done.
type Work = JoinHandle<Result<Event, JobError>>;

impl Coordination {
    /// # Errors
    /// When so many checkpoints have failed in a row that the pipeline gives up.
    pub(super) async fn run(mut self) -> Result<(), JobError> {
        let mut work: Option<Work> = None;
        let ended = self.drive(&mut work).await;
        // What was begun is brought to its end, so that the next start doesn't meet it half done.
        let Some(work) = work else { return ended };
        let done = work.await.unwrap_or_else(|e| std::panic::resume_unwind(e.into_panic()));
        ended.and(done.map(drop))
    }

    /// Until there is nothing more to do, or the tasks are gone; what is left in `work` is being done.
    async fn drive(&mut self, work: &mut Option<Work>) -> Result<(), JobError> {
        let begun = Instant::now();
        let mut events = vec![Event::Tick];
        loop {
            for event in std::mem::take(&mut events) {
                for action in self.protocol.on(event, ms_since(begun)) {
                    tracing::debug!(?action, "checkpoint");
                    match self.act(action) {
                        Ok(Some(started)) => *work = Some(started),
                        Ok(None) => {}
                        Err(Ended::Finished) => return Ok(()),
                        Err(Ended::GaveUp(reason)) => return Err(JobError::Checkpoint(reason)),
                        Err(Ended::Failed(error)) => return Err(error),
                    }
                }
            }
            let wake = self.protocol.wake_at_ms().map(|ms| begun + Duration::from_millis(ms));
            tokio::select! {
                report = self.reports.recv() => match report {
                    Some(report) => events.extend(self.reported(report)),
                    None => return Ok(()),
                },
                Some(passed) = self.passed.recv() => {
                    let passed = passed.map_err(JobError::Write)?;
                    events.push(self.has_passed(passed));
                }
                event = done(work) => {
                    *work = None;
                    let event = event?;
                    let committed = match event {
                        Event::Committed { checkpoint } => Some(checkpoint),
                        _ => None,
                    };
                    events.push(event);
                    if let Some(checkpoint) = committed {
                        self.committed(checkpoint, begun);
                    }
                }
                () = sleep_until(wake) => events.push(Event::Tick),
            }
        }
    }

    fn act(&mut self, action: Action) -> Result<Option<Work>, Ended> {
        match action {
            Action::Trigger { checkpoint, last, asked: _ } => {
                let swap = self.begin_swap(checkpoint).map_err(Ended::Failed)?;
                self.state.open_savepoints.append(&mut self.state.savepoints);
                let kind = match (last, self.state.input_ended) {
                    (false, _) => Kind::Checkpoint,
                    (true, false) => Kind::Last,
                    (true, true) => self.at_end,
                };
                self.state.collected = Collected::new(checkpoint, kind);
                self.command(Command::Barrier(Barrier { checkpoint, last, swap }));
            }
            Action::Persist { checkpoint } => {
                let mut collected = std::mem::take(&mut self.state.collected);
                collected.parts = self.parts(checkpoint);
                let (keeper, counters) = (self.keeper.clone(), self.counters_before());
                let taken = self.taken.clone();
                return Ok(Some(tokio::task::spawn_blocking(move || {
                    let persisted =
                        keeper.persist(collected, counters, || _ = taken.send_replace(checkpoint));
                    taken.send_replace(checkpoint);
                    match persisted {
                        Ok(()) => Ok(Event::Durable { checkpoint }),
                        Err(KeepError::Failed(reason)) => Ok(Event::NotDurable { checkpoint, reason }),
                        Err(error @ KeepError::Superseded(_)) => Err(error.into()),
                    }
                })));
            }
            Action::Commit { checkpoint } => {
                let (keeper, parts) = (self.keeper.clone(), self.parts(checkpoint));
                return Ok(Some(tokio::task::spawn_blocking(move || {
                    // A checkpoint that is true and can't be committed is committed by the next start.
                    keeper.commit(checkpoint, &parts)?;
                    Ok(Event::Committed { checkpoint })
                })));
            }
            Action::Abort { checkpoint, reason } => {
                tracing::warn!("checkpoint {checkpoint} was given up: {reason}");
                // What was wanted of it the next one gives.
                self.state.savepoints.append(&mut self.state.open_savepoints);
                self.taken.send_replace(checkpoint);
            }
            Action::GiveUp { reason } => return Err(Ended::GaveUp(reason)),
            Action::Finished => {
                self.command(Command::Finish);
                return Err(Ended::Finished);
            }
        }
        Ok(None)
    }

    fn reported(&mut self, report: Report) -> Option<Event> {
        match report {
            Report::Snapshot { task, checkpoint, part } => {
                self.state.collected.add(checkpoint, part);
                Some(Event::Acknowledged { checkpoint, participant: number(task) })
            }
            Report::Declined { checkpoint, reason } => Some(Event::Declined { checkpoint, reason }),
            Report::InputEnded => {
                self.reading -= 1;
                self.state.input_ended = self.reading == 0;
                self.state.input_ended.then_some(Event::InputEnded)
            }
            Report::Stop => Some(Event::Stop),
            Report::Savepoint { name, answer } => {
                self.state.savepoints.push((name, answer));
                Some(Event::Asked)
            }
            Report::Swap(changeover) => {
                let (old, before) = (Vec::new(), Vec::new());
                // There is one at a time; whoever asks for another learns that it won't be.
                if self.state.swap.is_some() {
                    return None;
                }
                self.state.swap = Some(Swap { changeover, from: None, old, before });
                Some(Event::Asked)
            }
        }
    }

    /// Before a checkpoint is triggered: a swap that waits begins with it, and it ends the probation of one that has begun.
    /// Says whether operators change versions at its barrier.
    fn begin_swap(&mut self, checkpoint: u64) -> Result<bool, JobError> {
        let Some(swap) = &mut self.state.swap else { return Ok(false) };
        let operators = &swap.changeover.operators;
        let now = seen(&self.counters, operators);
        if swap.from.is_none() {
            failpoint::at("swap.begin").map_err(|e| JobError::Checkpoint(e.to_string()))?;
            let baseline = |at: &usize| self.state.baseline.get(at).copied().unwrap_or_default();
            swap.old = now.iter().zip(operators).map(|(now, at)| now.since(baseline(at))).collect();
            swap.before = now;
            swap.from = Some(checkpoint);
            swap.changeover.progress.send_replace(Swapping::Changing(checkpoint));
            self.swaps.begin(checkpoint, &mut swap.changeover);
            return Ok(true);
        }
        for (((old, before), now), &at) in swap.old.iter().zip(&swap.before).zip(now).zip(operators) {
            if let Err(why) = judge(*old, now.since(*before), swap.changeover.limits) {
                let id = &swap.changeover.plan.operators[at].id;
                return Err(JobError::Probation(format!(
                    "the new version of `{id}` has failed its probation: {why}"
                )));
            }
        }
        // What this checkpoint holds, the new versions have made.
        self.keeper.swapped(&swap.changeover.plan, &swap.changeover.versions);
        Ok(false)
    }

    /// The output of a checkpoint is published.
    fn committed(&mut self, checkpoint: u64, begun: Instant) {
        self.state.pending.values_mut().for_each(|parts| parts.committed(checkpoint));
        for (name, answer) in std::mem::take(&mut self.state.open_savepoints) {
            // Whoever wanted it may have gone.
            let _ = answer.send(self.keeper.keep_as(checkpoint, &name).map(|()| checkpoint));
        }
        let Some(swap) = &mut self.state.swap else { return };
        match swap.from {
            Some(from) if from < checkpoint => {
                let (progress, before) = (swap.changeover.progress.clone(), std::mem::take(&mut swap.before));
                self.state.baseline.extend(swap.changeover.operators.iter().copied().zip(before));
                self.state.swap = None;
                progress.send_replace(Swapping::Passed(checkpoint));
            }
            Some(_) => {
                // Without it there is no way back to the old versions' own state, later; now there is.
                if let Err(error) = self.keeper.keep_as(checkpoint, &swap.changeover.keep) {
                    tracing::warn!("the state before the swap can't be kept: {error}");
                }
                swap.changeover.progress.send_replace(Swapping::Probation(checkpoint));
                let until = begun.elapsed() + swap.changeover.probation;
                self.protocol.hold(u64::try_from(until.as_millis()).unwrap_or(u64::MAX));
            }
            None => {}
        }
    }

    fn has_passed(&mut self, passed: Passed) -> Event {
        let Passed { writer, checkpoint, parts, repeatable } = passed;
        self.state.collected.add_repeatable(checkpoint, writer, repeatable);
        let safe = self.state.safe.entry(writer).or_default();
        parts.iter().for_each(|part| *safe = (safe.0 + part.rows(), safe.1 + part.bytes()));
        let pending = self.state.pending.entry(writer).or_default();
        parts.into_iter().for_each(|part| pending.stage(part));
        pending.close(checkpoint);
        Event::Acknowledged { checkpoint, participant: number(self.tasks + writer) }
    }

    /// What was counted before the run, and what its sinks have written up to the barrier. Where they write at once that
    /// isn't known exactly, as rows behind it may be among the others.
    fn counters_before(&self) -> Counters {
        let Counters { sources, operators, sinks } = &*self.counters;
        let counters = Counters::new(sources.len(), operators.len(), sinks.len());
        counters.add_values(&self.before.values());
        for (at, sink) in counters.sinks.iter().enumerate() {
            match self.state.safe.get(&at).filter(|(rows, _)| *rows > 0) {
                Some((rows, bytes)) => {
                    sink.rows.add(*rows);
                    sink.bytes.add(*bytes);
                }
                None if self.keeper.has_parts(at) => {}
                None => {
                    sink.rows.add(sinks[at].rows.get().saturating_sub(sink.rows.get()));
                    sink.bytes.add(sinks[at].bytes.get().saturating_sub(sink.bytes.get()));
                }
            }
        }
        counters
    }

    /// The parts that appear with a checkpoint, by writer.
    fn parts(&self, checkpoint: u64) -> BTreeMap<usize, Vec<Part>> {
        self.state.pending.iter().map(|(writer, parts)| (*writer, parts.due(checkpoint))).collect()
    }

    fn command(&self, command: Command) {
        self.commands.send_replace(command);
    }
}

enum Ended {
    Finished,
    GaveUp(String),
    Failed(JobError),
}

fn number(participant: usize) -> u32 {
    u32::try_from(participant).expect("few tasks and writers")
}

fn ms_since(begun: Instant) -> u64 {
    u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// What the keeper has done; never, while it does nothing.
async fn done(work: &mut Option<Work>) -> Result<Event, JobError> {
    match work {
        Some(work) => work.await.unwrap_or_else(|e| std::panic::resume_unwind(e.into_panic())),
        None => std::future::pending().await,
    }
}

async fn sleep_until(wake: Option<Instant>) {
    match wake {
        Some(wake) => tokio::time::sleep_until(wake.into()).await,
        None => std::future::pending().await,
    }
}
