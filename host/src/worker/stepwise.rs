//! A pipeline that goes step by step: its sources are told what to read, its clock stands still until it is set, its sinks
//! are memory. Tasks, queues, shuffles, barriers and state are those of every pipeline.
//!
//! Between two steps a barrier goes through: when it has come from every task and writer, all that was told before it has
//! had its effect. As nothing follows it, what is in the storage then is the state of a checkpoint.

use std::sync::Arc;

use tidemill_checkpoint::{Kind, Manifest};
use tidemill_flow::storage::InMemory;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::assembly::{Builder, Start, Wires, partition_names};
use super::clock::ProcessingTime;
use super::job::FirstFailure;
use super::keeper::{Collected, Facts, WriterFacts};
use super::recovery::Destinations;
use super::restored::Restored;
use super::snapshot::{Command, Report, Wish};
use super::state::State;
use super::{Barrier, Ended, JobError};
use crate::log::Told;
use crate::pipeline::plan::{Plan, SourceInput};
use crate::sink::{Captured, Destination, Memory, Passed, WriteError, Writer};
use crate::telemetry::Counters;

/// A pipeline that goes step by step, on the runtime on which it was started.
///
/// Its tasks end when it is dropped.
pub struct Stepwise {
    plan: Arc<Plan>,
    tasks: JoinSet<Result<Ended, JobError>>,
    failure: FirstFailure,
    /// How many tasks and writers answer a barrier.
    participants: usize,
    writers: Vec<Writer>,
    wires: Wires,
    passed: mpsc::UnboundedReceiver<Result<Passed, WriteError>>,
    storage: Arc<InMemory>,
    facts: Facts,
    counters: Arc<Counters>,
    sinks: Vec<Memory>,
    dead_letters: Memory,
    late: Memory,
    checkpoint: u64,
    /// What came together at the last barrier.
    manifest: Option<Manifest>,
    /// While it is here nobody is told to stop.
    _stop: watch::Sender<Wish>,
}

/// A pipeline as it was between two steps. Cheap to clone.
#[derive(Clone)]
pub struct Saved {
    manifest: Arc<Manifest>,
    storage: Arc<InMemory>,
}

/// What has come out of a pipeline.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// The rows of each sink, in the order of the plan.
    pub sinks: Vec<Vec<Captured>>,
    /// Rows that were rejected, as lines of JSON.
    pub dead_letters: Vec<Captured>,
    /// Rows that were late and that no sink reads, as lines of JSON.
    pub late: Vec<Captured>,
}

impl Stepwise {
    /// Starts a pipeline whose sources are [told](SourceInput::Told) and whose clock is this; from what was saved of the
    /// same pipeline, if that is given, perhaps with another parallelism.
    ///
    /// # Errors
    /// When an operator refuses its settings, or what was saved is of another pipeline.
    pub async fn start(
        plan: Arc<Plan>,
        clock: ProcessingTime,
        saved: Option<&Saved>,
    ) -> Result<Self, JobError> {
        let manifest = saved.map(|saved| Manifest::clone(&saved.manifest));
        let checkpoint = manifest.as_ref().map_or(0, |m| m.checkpoint);
        let restored = Restored::new(&plan, manifest).map_err(JobError::Recovery)?;
        let storage = Arc::new(saved.map(|saved| InMemory::clone(&saved.storage)).unwrap_or_default());
        restored.drop_state(&*storage)?;
        let sinks: Vec<Memory> = plan.sinks.iter().map(|_| Memory::default()).collect();
        let (dead_letters, late) = (Memory::default(), Memory::default());
        let destinations = Destinations {
            sinks: sinks.iter().cloned().map(Destination::Memory).collect(),
            dead_letters: Destination::Memory(dead_letters.clone()),
            late: Destination::Memory(late.clone()),
        };
        let counters = Arc::new(Counters::new(plan.sources.len(), plan.operators.len(), plan.sinks.len()));
        let (wires, (stop, stopped)) = (Wires::new(), watch::channel(Wish::None));
        let begins = Start {
            restored: Some(&restored),
            state: State::in_memory(storage.clone()),
            destinations,
            after: checkpoint,
            clock,
        };
        let mut builder = Builder::new(&plan, counters.clone(), partition_names(&plan), begins, Some(&wires));
        let mut tasks = Vec::new();
        for at in 0..plan.stages.len() {
            tasks.extend(builder.stage(at, &stopped).await?);
        }
        let prepared = std::mem::take(&mut builder.writers);
        // Only the tasks hold ways to the writers from here on: the last one to end closes them.
        drop(builder);
        let (told, passed) = mpsc::unbounded_channel();
        let start = |(number, w): (usize, crate::sink::Prepared)| w.start(number, &counters, told.clone());
        let writers = prepared.into_iter().enumerate().map(start).collect::<Result<Vec<_>, _>>();
        let writers = writers.map_err(JobError::Write)?;
        let names =
            plan.sinks.iter().map(|s| s.id.clone()).chain(["dead letters", "late"].map(str::to_owned));
        let facts = Facts::new(&plan, &restored, names.map(WriterFacts::unspoken).collect());
        let participants = tasks.len() + writers.len();
        let mut running = JoinSet::new();
        for task in tasks {
            running.spawn(task.run());
        }
        Ok(Self {
            plan,
            tasks: running,
            failure: FirstFailure(None),
            participants,
            writers,
            wires,
            passed,
            storage,
            facts,
            counters,
            sinks,
            dead_letters,
            late,
            checkpoint,
            manifest: None,
            _stop: stop,
        })
    }

    /// Tells a partition of a source something, and waits until it has read that.
    ///
    /// # Errors
    /// When a task has failed meanwhile.
    ///
    /// # Panics
    /// When the source isn't one that is told, or has no such partition.
    pub async fn tell(&mut self, source: usize, partition: usize, told: Told) -> Result<(), JobError> {
        let SourceInput::Told { feeds, .. } = &self.plan.sources[source].input else {
            panic!("source {source} isn't told what it reads")
        };
        let feeds = feeds.clone();
        tokio::select! {
            () = feeds.tell(partition, told) => Ok(()),
            failure = failed(&mut self.tasks, &mut self.failure) => Err(failure),
        }
    }

    /// Waits until everything told so far has had its effect, also on timers that are due, and returns what came out since
    /// the last time. With `last` nothing may be told any more: event time has come to its end.
    ///
    /// # Errors
    /// When a task or writer has failed.
    pub async fn settle(&mut self, last: bool) -> Result<Output, JobError> {
        // What came of a timer may set others that are due.
        while self.barrier(last).await? {}
        Ok(Output {
            sinks: self.sinks.iter().map(Memory::take).collect(),
            dead_letters: self.dead_letters.take(),
            late: self.late.take(),
        })
    }

    /// The pipeline as it was when [`settle`](Self::settle) returned last; none before. Nothing may have been told since.
    pub fn saved(&self) -> Option<Saved> {
        let manifest = self.manifest.clone()?;
        Some(Saved { manifest: Arc::new(manifest), storage: Arc::new(InMemory::clone(&self.storage)) })
    }

    /// Lets the tasks end, after a last [`settle`](Self::settle).
    ///
    /// # Errors
    /// When one has failed.
    ///
    /// # Panics
    /// When a task or writer panicked.
    pub async fn finish(mut self) -> Result<(), JobError> {
        self.wires.commands.send_replace(Command::Finish);
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap_or_else(|e| std::panic::resume_unwind(e.into_panic()))?;
        }
        for writer in self.writers.drain(..) {
            writer.finish().map_err(JobError::Write)?;
        }
        Ok(())
    }

    /// Sends a barrier through. Says whether it met a task that has more to do behind it.
    async fn barrier(&mut self, last: bool) -> Result<bool, JobError> {
        self.checkpoint += 1;
        let checkpoint = self.checkpoint;
        let mut collected = Collected::new(checkpoint, if last { Kind::Finished } else { Kind::Checkpoint });
        self.wires.commands.send_replace(Command::Barrier(Barrier { checkpoint, last, swap: false }));
        let (mut missing, mut has_due) = (self.participants, false);
        while missing > 0 {
            tokio::select! {
                Some(report) = self.wires.reported.recv() => match report {
                    Report::Snapshot { part, .. } => {
                        has_due |= part.has_due;
                        collected.add(checkpoint, part);
                        missing -= 1;
                    }
                    Report::Declined { .. } => unreachable!("a script waits for all barriers"),
                    Report::InputEnded | Report::Stop => {}
                    Report::Savepoint { .. } | Report::Swap(_) => unreachable!("a script asks for neither"),
                },
                Some(passed) = self.passed.recv() => {
                    passed.map_err(JobError::Write)?;
                    missing -= 1;
                }
                failure = failed(&mut self.tasks, &mut self.failure) => return Err(failure),
            }
        }
        self.wires.taken.send_replace(checkpoint);
        let counters =
            Counters::new(self.plan.sources.len(), self.plan.operators.len(), self.plan.sinks.len());
        counters.add_values(&self.counters.values());
        let manifest = self.facts.manifest(&self.plan.name, collected, Vec::new(), &counters, 0);
        self.manifest = Some(manifest.map_err(JobError::Recovery)?);
        Ok(has_due)
    }
}

/// Waits for the failure of a task; for ever, while there is none. Nothing is lost when this is dropped while it waits.
async fn failed(tasks: &mut JoinSet<Result<Ended, JobError>>, failure: &mut FirstFailure) -> JobError {
    while let Some(ended) = tasks.join_next().await {
        match ended {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                tasks.abort_all();
                failure.add(error);
            }
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_aborted) => {}
        }
    }
    match failure.0.take() {
        Some(failure) => failure,
        None => std::future::pending().await,
    }
}
