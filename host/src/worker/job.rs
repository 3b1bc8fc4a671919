//! A running pipeline: its tasks and writers are started, and waited for.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tidemill_checkpoint::{Kind, SavepointName};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tracing::Instrument;

use super::JobError;
use super::assembly::{Builder, Start, Wires, partition_names};
use super::coordinator::{self, Coordination};
use super::keeper::Keeper;
use super::recovery::Checkpointing;
use super::restored::Versions;
use super::snapshot::{Report, Wish};
use super::swap::{Changeover, Swap, Swapping, Swaps, seen};
use super::task::Head;
use crate::pipeline::plan::{Bounds, Plan};
use crate::sink::{Prepared, Writer};
use crate::telemetry::Counters;

/// A running pipeline.
pub struct Job {
    tasks: JoinSet<Result<Ended, JobError>>,
    writers: Vec<Writer>,
    counters: Arc<Counters>,
    stop: Stop,
    /// None without checkpoints.
    coordination: Option<JoinHandle<Result<(), JobError>>>,
    keeper: Option<Arc<Keeper>>,
    swaps: Arc<Swaps>,
    /// By operator, the schemas of its state, as it is now. Held for moments.
    versions: Arc<Mutex<BTreeMap<usize, Versions>>>,
}

/// How a pipeline ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Its input ended, and every window fired.
    Finished,
    /// It was stopped: windows that weren't finished have no result.
    Stopped,
}

/// Asks a pipeline to stop. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Stop {
    sources: Arc<watch::Sender<Wish>>,
    coordinator: Option<mpsc::WeakUnboundedSender<Report>>,
}

impl Stop {
    /// The sources read no further; what was read goes through to the sinks, and with checkpoints into a last one.
    pub fn stop(&self) {
        match &self.coordinator {
            None => drop(self.sources.send_replace(Wish::Stop)),
            Some(coordinator) => {
                // When it is gone the pipeline has stopped already.
                let _ = coordinator.upgrade().map(|c| c.send(Report::Stop));
            }
        }
    }
}

/// What can be asked of a pipeline while it runs. Cheap to clone.
#[derive(Clone)]
pub struct Control {
    stop: Stop,
    swaps: Arc<Swaps>,
    versions: Arc<Mutex<BTreeMap<usize, Versions>>>,
}

impl Control {
    /// As [`Stop::stop`].
    pub fn stop(&self) {
        self.stop.stop();
    }

    /// The sources take their input as ended where they stand: every window and timer fires, and the pipeline finishes.
    pub fn drain(&self) {
        self.stop.sources.send_replace(Wish::Drain);
    }

    /// Takes a checkpoint as soon as possible, and keeps it as a savepoint. Says which checkpoint that is.
    ///
    /// # Errors
    /// When the pipeline has no checkpoints, comes to its end before, or the savepoint can't be kept.
    pub async fn savepoint(&self, name: SavepointName) -> Result<u64, String> {
        let (answer, answered) = oneshot::channel();
        self.report(Report::Savepoint { name, answer })?;
        answered.await.map_err(|_| "the pipeline ended before the savepoint was complete".to_owned())?
    }

    /// Has other versions of operators take over at the next barrier, which is sent as soon as possible. How that goes on
    /// the answer tells, until the probation is passed; when the pipeline ends before, it closes. `before` is the plan
    /// that runs.
    ///
    /// # Errors
    /// When a new version refuses its settings or can't go on from the state, or the pipeline has no checkpoints or has
    /// ended.
    pub async fn swap(&self, swap: Swap, before: &Plan) -> Result<watch::Receiver<Swapping>, JobError> {
        let versions = self.versions().clone();
        let changeover = Changeover::prepare(swap, before, &versions).await?;
        let progress = changeover.progress.subscribe();
        self.versions().extend(changeover.versions.clone());
        self.report(Report::Swap(Box::new(changeover))).map_err(JobError::Recovery)?;
        Ok(progress)
    }

    /// The longest time that a task has stood still for a swap since this was asked last, in microseconds.
    pub fn take_pause_us(&self) -> u64 {
        self.swaps.take_pause_us()
    }

    fn report(&self, report: Report) -> Result<(), String> {
        let Some(coordinator) = &self.stop.coordinator else {
            return Err("the pipeline has no checkpoints; add a section [checkpoints]".to_owned());
        };
        let sent = coordinator.upgrade().and_then(|c| c.send(report).ok());
        sent.ok_or_else(|| "the pipeline has come to its end".to_owned())
    }

    fn versions(&self) -> std::sync::MutexGuard<'_, BTreeMap<usize, Versions>> {
        self.versions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Job {
    /// Starts a plan's tasks on a runtime for the data plane; with checkpoints, where `checkpointing` says.
    ///
    /// # Errors
    /// When an output can't be made, an input's format doesn't suit or isn't what the checkpoint says, or an operator
    /// refuses its settings.
    pub async fn start(
        plan: &Plan,
        data_plane: &Handle,
        checkpointing: Option<Checkpointing>,
    ) -> Result<Job, JobError> {
        let counters = Arc::new(Counters::new(plan.sources.len(), plan.operators.len(), plan.sinks.len()));
        let (stop, stopped) = watch::channel(Wish::None);
        let partitions: Arc<[String]> = partition_names(plan);
        let before = Counters::new(plan.sources.len(), plan.operators.len(), plan.sinks.len());
        let keeper = checkpointing.as_ref().map(|c| {
            c.restored.count(plan, &before);
            c.keeper().clone()
        });
        counters.add_values(&before.values());
        let wires = checkpointing.is_some().then(Wires::new);
        let begins = Start::of(plan, checkpointing.as_ref())?;
        let mut builder = Builder::new(plan, counters.clone(), partitions, begins, wires.as_ref());
        let mut tasks = Vec::new();
        for at in 0..plan.stages.len() {
            tasks.extend(builder.stage(at, &stopped).await?);
        }
        let prepared = std::mem::take(&mut builder.writers);
        // Only the tasks hold ways to the writers from here on: the last one to end closes them.
        drop(builder);
        prepared.iter().try_for_each(Prepared::check).map_err(JobError::Write)?;
        // Every operator has accepted its settings, every output can be written: now they may be overwritten.
        let (passed, has_passed) = mpsc::unbounded_channel();
        let start = |(number, w): (usize, Prepared)| w.start(number, &counters, passed.clone());
        let writers = prepared.into_iter().enumerate().map(start).collect::<Result<Vec<_>, _>>();
        let writers = writers.map_err(JobError::Write)?;
        // By it lines of the log are told apart that pipelines beside each other say.
        let span = tracing::info_span!("pipeline", pipeline = plan.name);
        let mut job = Job {
            tasks: JoinSet::new(),
            writers,
            counters,
            stop: Stop { sources: Arc::new(stop), coordinator: None },
            coordination: None,
            keeper,
            swaps: Arc::default(),
            versions: Arc::default(),
        };
        if let Some((checkpointing, wires)) = checkpointing.zip(wires) {
            job.stop.coordinator = Some(wires.reports.downgrade());
            job.swaps = wires.swaps.clone();
            job.versions = Arc::new(Mutex::new(checkpointing.restored.all_versions(plan)));
            let operators: Vec<usize> = (0..plan.operators.len()).collect();
            let baseline = operators.iter().copied().zip(seen(&job.counters, &operators)).collect();
            let reading = tasks.iter().filter(|t| matches!(t.head, Head::Source(..))).count();
            let (protocol, keeper) = checkpointing.begin(tasks.len() + job.writers.len());
            let coordination = Coordination {
                protocol,
                keeper,
                before,
                counters: job.counters.clone(),
                reports: wires.reported,
                passed: has_passed,
                commands: wires.commands,
                taken: wires.taken,
                reading,
                at_end: if plan.bounds.as_ref().is_none_or(Bounds::are_the_end) {
                    Kind::Finished
                } else {
                    Kind::Last
                },
                tasks: tasks.len(),
                swaps: wires.swaps,
                state: coordinator::State::new(baseline),
            };
            job.coordination = Some(tokio::spawn(coordination.run().instrument(span.clone())));
        }
        for task in tasks {
            job.tasks.spawn_on(task.run().instrument(span.clone()), data_plane);
        }
        Ok(job)
    }

    /// What is being counted.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// Tells how many checkpoints it has completed, also when it has ended.
    pub fn completed(&self) -> impl Fn() -> u64 + use<> {
        let keeper = self.keeper.clone();
        move || keeper.as_ref().map_or(0, |k| k.committed.get())
    }

    /// A handle to stop it.
    pub fn stop_handle(&self) -> Stop {
        self.stop.clone()
    }

    /// What can be asked of it.
    pub fn control(&self) -> Control {
        Control { stop: self.stop.clone(), swaps: self.swaps.clone(), versions: self.versions.clone() }
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// The first thing that failed; everything else was then stopped.
    ///
    /// # Panics
    /// When a task panicked.
    pub async fn wait(mut self) -> Result<Ended, JobError> {
        let mut failure = FirstFailure(None);
        let mut how = Ended::Finished;
        let mut coordination = self.coordination.take();
        loop {
            let ended = tokio::select! {
                ended = self.tasks.join_next() => ended,
                ended = coordinated(&mut coordination) => {
                    coordination = None;
                    if let Err(error) = ended {
                        failure.add(error);
                        self.tasks.abort_all();
                    }
                    continue;
                }
            };
            match ended {
                None => break,
                Some(Ok(Ok(Ended::Finished))) => {}
                Some(Ok(Ok(Ended::Stopped))) => how = Ended::Stopped,
                Some(Ok(Err(error))) => {
                    self.tasks.abort_all();
                    failure.add(error);
                }
                Some(Err(error)) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                Some(Err(_aborted)) => {}
            }
        }
        // Without tasks it brings what it has begun to its end, and leaves.
        if coordination.is_some()
            && let Err(error) = coordinated(&mut coordination).await
        {
            failure.add(error);
        }
        for writer in self.writers {
            let written = tokio::task::spawn_blocking(|| writer.finish()).await;
            if let Err(error) = written.unwrap_or_else(|e| std::panic::resume_unwind(e.into_panic())) {
                failure.add(JobError::Write(error));
            }
        }
        failure.0.map_or(Ok(how), Err)
    }
}

/// The first failure that isn't the echo of another one.
pub(super) struct FirstFailure(pub(super) Option<JobError>);

impl FirstFailure {
    pub(super) fn add(&mut self, error: JobError) {
        if self.0.as_ref().is_none_or(|f| matches!(f, JobError::Disconnected)) {
            self.0 = Some(error);
        }
    }
}

/// How the coordinator has ended; never, if there is none.
async fn coordinated(coordination: &mut Option<JoinHandle<Result<(), JobError>>>) -> Result<(), JobError> {
    match coordination {
        Some(running) => running.await.unwrap_or_else(|e| std::panic::resume_unwind(e.into_panic())),
        None => std::future::pending().await,
    }
}
