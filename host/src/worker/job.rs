//! A running pipeline: its tasks and writers are started, and waited for.

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};

use super::JobError;
use super::assembly::{Builder, Start, Wires, partition_names};
use super::coordinator::{self, Coordination};
use super::keeper::Keeper;
use super::recovery::Checkpointing;
use super::snapshot::Report;
use super::task::Head;
use crate::pipeline::plan::Plan;
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
    sources: Arc<watch::Sender<bool>>,
    coordinator: Option<mpsc::WeakUnboundedSender<Report>>,
}

impl Stop {
    /// The sources read no further; what was read goes through to the sinks, and with checkpoints into a last one.
    pub fn stop(&self) {
        match &self.coordinator {
            None => drop(self.sources.send_replace(true)),
            Some(coordinator) => {
                // When it is gone the pipeline has stopped already.
                let _ = coordinator.upgrade().map(|c| c.send(Report::Stop));
            }
        }
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
        let (stop, stopped) = watch::channel(false);
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
        let mut job = Job {
            tasks: JoinSet::new(),
            writers,
            counters,
            stop: Stop { sources: Arc::new(stop), coordinator: None },
            coordination: None,
            keeper,
        };
        if let Some((checkpointing, wires)) = checkpointing.zip(wires) {
            job.stop.coordinator = Some(wires.reports.downgrade());
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
                tasks: tasks.len(),
                state: coordinator::State::default(),
            };
            job.coordination = Some(tokio::spawn(coordination.run()));
        }
        for task in tasks {
            job.tasks.spawn_on(task.run(), data_plane);
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
