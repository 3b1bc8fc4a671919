//! A pipeline's supervisor: a loop that runs it as it is meant to be, one request at a time, and writes down what was
//! decided before it does it.

mod changes;
mod known;
mod rest;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidemill_checkpoint::SavepointName;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use super::components::Components;
use super::deploy::Deployed;
use super::logs::Logs;
use super::model::{Desired, HistoryEntry, ProbationSettings, State};
use super::operations::Ticket;
use super::record::Record;
use super::refusal::Refusal;
use super::{history, now_ms};
use changes::{Swapped, progress};
pub(super) use known::{look, newest};

use crate::replay::Shadow;
use crate::telemetry::Counters;
use crate::worker::{Checkpointing, Control, Ended, Job, JobError, Restarts};

const CHANGED_MEANWHILE: &str = "the pipeline was changed meanwhile; look at `status` and ask again";

/// How often it is looked whether a change has passed its trial.
const LOOK: Duration = Duration::from_millis(100);

/// What all pipelines of a host share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) components: Components,
    pub(super) logs: Logs,
    pub(super) data_plane: Handle,
}

/// What can be seen of a pipeline from outside.
pub(super) struct Face {
    pub(super) record: Record,
    pub(super) state: State,
    pub(super) since_ms: u64,
    pub(super) message: Option<String>,
    /// What runs or would run; none: it couldn't be put together.
    pub(super) deployed: Option<Arc<Deployed>>,
    /// Of the run at hand, or of the last one.
    pub(super) counters: Option<Arc<Counters>>,
}

/// What a supervisor is asked for.
pub(super) enum What {
    Pause,
    Resume,
    Stop { drain: bool, savepoint: Option<SavepointName> },
    Savepoint(SavepointName),
    Change(Box<Change>),
    TakeOver(Box<TakeOver>),
    Delete,
    ShutDown,
}

/// A change of the pipeline.
pub(super) struct Change {
    pub(super) deployed: Deployed,
    /// The operators to exchange while it runs; none: it begins again.
    pub(super) in_place: Option<Vec<usize>>,
    pub(super) probation: ProbationSettings,
    pub(super) kind: &'static str,
    /// In words.
    pub(super) what: String,
}

/// Another version takes over, with the state that a shadow has made.
pub(super) struct TakeOver {
    pub(super) shadow: Shadow,
    pub(super) deployed: Deployed,
    pub(super) kind: &'static str,
    pub(super) what: String,
}

pub(super) struct Request {
    pub(super) what: What,
    pub(super) by: String,
    pub(super) ticket: Ticket,
    /// Whether it is begun at all.
    pub(super) accepted: oneshot::Sender<Result<(), Refusal>>,
}

pub(super) struct Supervisor {
    pub(super) name: String,
    pub(super) folder: PathBuf,
    pub(super) shared: Shared,
    pub(super) face: Arc<Mutex<Face>>,
    pub(super) requests: mpsc::Receiver<Request>,
    pub(super) restarts: Option<Restarts>,
    /// A change by restart that is on trial in this run.
    pub(super) trying: Option<(Arc<Deployed>, Ticket)>,
    /// Somebody waits for it to run.
    pub(super) starting: Option<Ticket>,
}

/// What comes after a run that was asked to end.
enum After {
    Pause,
    Stop(Option<SavepointName>),
    Change(Box<Change>),
    TakeOver(Box<TakeOver>),
    ShutDown,
}

/// A run that is asked to end, by whom.
struct Ending {
    after: After,
    by: String,
    ticket: Ticket,
}

/// How a supervisor goes on.
enum Next {
    /// As the record says.
    On,
    /// It waits for requests, for so long at most.
    Rest(Option<Duration>),
    Gone,
}

impl Supervisor {
    /// Until the pipeline is deleted, or the host shuts down.
    pub(super) async fn run(mut self) {
        let desired = self.face().record.desired;
        let mut next = match desired {
            Desired::Running => Next::On,
            Desired::Paused => self.waits(State::Paused).await,
            Desired::Stopped => self.waits(State::Stopped).await,
        };
        loop {
            next = match next {
                Next::On => self.live().await,
                Next::Rest(time) => self.rest(time).await,
                Next::Gone => return,
            }
        }
    }

    /// It was at rest when the host ended: it is put together all the same, so that it can be looked at and replayed.
    async fn waits(&mut self, state: State) -> Next {
        let refused = self.deployed().await.err();
        self.rests(state, refused.map(|refusal| refusal.message))
    }

    /// One run, from its start to its end.
    async fn live(&mut self) -> Next {
        self.becomes(State::Starting, None);
        let deployed = match self.what_runs().await {
            Ok(deployed) => deployed,
            Err(why) => return self.has_failed(why, true),
        };
        let plan = deployed.plan.clone();
        self.restarts.get_or_insert_with(|| Restarts::new(plan.restart));
        let opening = tokio::task::spawn_blocking({
            let plan = plan.clone();
            move || Checkpointing::open(&plan, None)
        });
        let job = match opening.await.unwrap_or_else(|e| std::panic::resume_unwind(e.into_panic())) {
            Ok(checkpointing) => {
                if let Some(finished) = checkpointing.as_ref().filter(|c| c.has_finished()) {
                    self.face().counters = Some(finished.counters(&plan));
                    if let Some(ticket) = self.starting.take() {
                        ticket.done("it has finished; there is nothing left to do");
                    }
                    return self.rests(State::Finished, finished.told());
                }
                let warnings = checkpointing.iter().flat_map(|c| c.warnings());
                warnings.for_each(|warning| self.says("warn", warning));
                self.says(
                    "info",
                    &checkpointing.as_ref().and_then(Checkpointing::told).unwrap_or("beginning".into()),
                );
                Job::start(&plan, &self.shared.data_plane, checkpointing).await
            }
            Err(error) => Err(error),
        };
        let job = match job {
            Ok(job) => job,
            Err(error) => return self.has_failed(format!("it can't be started: {error}"), true),
        };
        self.face().counters = Some(job.counters().clone());
        let (control, completed) = (job.control(), job.completed());
        self.becomes(State::Running, None);
        if let Some(ticket) = self.starting.take() {
            ticket.done(format!("generation {}: it runs", self.face().record.generation));
        }
        let mut job = std::pin::pin!(job.wait());
        let mut ending: Option<Ending> = None;
        let mut swap: Option<Swapped> = None;
        let ended = loop {
            tokio::select! {
                ended = &mut job => break ended,
                request = self.requests.recv() => match request {
                    Some(request) if ending.is_some() || (swap.is_some() && changes(&request.what)) => {
                        refuse(request, "another change is under way; wait for it, or look at `status`");
                    }
                    Some(request) => self.asked(request, &deployed, &control, &mut ending, &mut swap).await,
                    None => {
                        control.stop();
                        return self.left(job.await);
                    }
                },
                progress = progress(&mut swap) => self.swapping(progress, &control, &mut swap),
                () = tokio::time::sleep(LOOK), if self.trying.is_some() => {
                    if completed() > 0 {
                        self.passed("the first checkpoint under it is complete");
                    }
                }
            }
        };
        if let Some(restarts) = &mut self.restarts {
            restarts.completed(completed());
        }
        // With it the store of the checkpoints is let go, which others may open from here on.
        drop(completed);
        match ended {
            Ok(how) => self.ended(how, ending, swap).await,
            Err(error) => self.failed(error, ending, swap),
        }
    }

    /// Deals with a request while a run goes on.
    async fn asked(
        &mut self,
        request: Request,
        deployed: &Arc<Deployed>,
        control: &Control,
        ending: &mut Option<Ending>,
        swap: &mut Option<Swapped>,
    ) {
        let Request { what, by, ticket, accepted } = request;
        let after = match what {
            What::Resume => return refuse_with(accepted, ticket, "it runs already"),
            What::Delete => return refuse_with(accepted, ticket, "it runs; stop it first"),
            What::Savepoint(_) if deployed.plan.checkpoints.is_none() => {
                let why = "it has no checkpoints; add a section [checkpoints] to its file";
                return refuse_with(accepted, ticket, why);
            }
            What::Savepoint(name) => {
                accept(accepted);
                self.savepoint(control.clone(), name, by, ticket);
                return;
            }
            What::Change(change) if self.is_stale(&change.deployed) => {
                return refuse_with(accepted, ticket, CHANGED_MEANWHILE);
            }
            What::TakeOver(take_over) if self.is_stale(&take_over.deployed) => {
                return refuse_with(accepted, ticket, CHANGED_MEANWHILE);
            }
            What::Change(_) | What::TakeOver(_) if self.trying.is_some() => {
                return refuse_with(accepted, ticket, "the last change is still on trial");
            }
            What::Change(change) if change.in_place.is_some() => {
                accept(accepted);
                *swap = self.begin_swap(*change, by, deployed, control, ticket).await;
                return;
            }
            What::Stop { drain: true, savepoint } => {
                accept(accepted);
                control.drain();
                ticket.says("draining: windows and timers fire");
                *ending = Some(Ending { after: After::Stop(savepoint), by, ticket });
                self.becomes(State::Stopping, None);
                return;
            }
            What::Stop { drain: false, savepoint } => After::Stop(savepoint),
            What::Pause => After::Pause,
            What::Change(change) => After::Change(change),
            What::TakeOver(take_over) => After::TakeOver(take_over),
            What::ShutDown => After::ShutDown,
        };
        accept(accepted);
        control.stop();
        ticket.says("stopping with a checkpoint");
        *ending = Some(Ending { after, by, ticket });
        self.becomes(State::Stopping, None);
    }

    fn savepoint(&self, control: Control, name: SavepointName, by: String, ticket: Ticket) {
        let (folder, generation) = (self.folder.clone(), self.face().record.generation);
        tokio::spawn(async move {
            match control.savepoint(name.clone()).await {
                Ok(checkpoint) => {
                    let message = format!("checkpoint {checkpoint} is kept as `{}`", name.as_str());
                    let event = "savepoint".to_owned();
                    let entry =
                        HistoryEntry { at_ms: now_ms(), by, event, generation, message: message.clone() };
                    history::append(&folder, &entry);
                    ticket.done(message);
                }
                Err(why) => ticket.failed(why),
            }
        });
    }

    /// A run has ended as it should.
    async fn ended(&mut self, how: Ended, ending: Option<Ending>, swap: Option<Swapped>) -> Next {
        let _ = self.settle_trial("the pipeline ended before it had passed");
        if let Some(swap) = swap {
            swap.tell(&self.face().record);
        }
        let Some(Ending { after, by, ticket }) = ending else {
            return match how {
                Ended::Finished => self.rests(State::Finished, None),
                Ended::Stopped => self.rests(State::Stopped, Some("it was stopped".to_owned())),
            };
        };
        match after {
            After::Pause => self.rests_as_wished(Desired::Paused, State::Paused, &by, ticket, None),
            After::Stop(savepoint) => {
                let state = if how == Ended::Finished { State::Finished } else { State::Stopped };
                self.rests_as_wished(Desired::Stopped, state, &by, ticket, savepoint)
            }
            After::Change(change) => self.begin_trial(*change, by, ticket),
            After::TakeOver(take_over) => {
                self.take_over(*take_over, by, ticket).await;
                Next::On
            }
            After::ShutDown => {
                ticket.done("stopped");
                Next::Gone
            }
        }
    }

    /// A run has failed.
    fn failed(&mut self, error: JobError, ending: Option<Ending>, swap: Option<Swapped>) -> Next {
        let error = error.to_string();
        self.says("error", &error);
        let was_on_trial = swap.is_some() || self.trying.is_some();
        let _ = self.settle_trial(&error);
        if let Some(swap) = swap {
            swap.tell(&self.face().record);
        }
        let Some(Ending { after, by, ticket }) = ending else {
            // It isn't the version before that has failed.
            return if was_on_trial { Next::On } else { self.has_failed(error, false) };
        };
        let told = format!("it failed while it was being stopped: {error}");
        match after {
            After::ShutDown => {
                ticket.failed(told);
                Next::Gone
            }
            After::Pause | After::Stop(_) => {
                let (desired, state) = match after {
                    After::Pause => (Desired::Paused, State::Paused),
                    _ => (Desired::Stopped, State::Stopped),
                };
                self.wants(desired, &by, &told);
                ticket.failed(format!("{told}; it goes on from the checkpoint before when it is resumed"));
                self.rests(state, Some(told))
            }
            After::Change(_) | After::TakeOver(_) => {
                ticket.failed(told);
                Next::On
            }
        }
    }

    /// What runs has failed, or couldn't be started: it begins again, or not.
    fn has_failed(&mut self, error: String, at_start: bool) -> Next {
        if at_start {
            self.says("error", &error);
            if let Some(ticket) = self.starting.take() {
                ticket.failed(&error);
            }
            if self.trying.is_some() {
                let _ = self.settle_trial(&error);
                return Next::On;
            }
        }
        match self.restarts.as_mut().and_then(Restarts::delay) {
            Some(delay) => {
                let message = format!("{error}\nstarting again in {delay:?}");
                self.rests(State::Restarting, Some(message));
                Next::Rest(Some(delay))
            }
            None => self.rests(State::Failed, Some(error)),
        }
    }

    /// The host is gone; what was asked of the run doesn't matter any more.
    fn left(&mut self, ended: Result<Ended, JobError>) -> Next {
        if let Err(error) = ended {
            self.says("error", &error.to_string());
        }
        Next::Gone
    }

    /// What is to run: the change on trial, if there is one.
    async fn what_runs(&mut self) -> Result<Arc<Deployed>, String> {
        if let Some((deployed, _)) = &self.trying {
            return Ok(deployed.clone());
        }
        let deployed = self.deployed().await.map_err(|r| r.message)?;
        if self.face().record.trial.is_none() {
            return Ok(deployed);
        }
        // The host has ended meanwhile, or the checkpoints could not be read.
        self.settle_trial("the host ended before it had passed")?;
        self.deployed().await.map_err(|r| r.message)
    }

    async fn deployed(&mut self) -> Result<Arc<Deployed>, Refusal> {
        let (known, specification, generation) = {
            let face = self.face();
            (face.deployed.clone(), face.record.specification.clone(), face.record.generation)
        };
        if let Some(deployed) =
            known.filter(|d| d.specification == specification && d.plan.generation == generation)
        {
            return Ok(deployed);
        }
        let deployed = Deployed::of(&specification, generation, &[], &self.shared.components).await?;
        let deployed = Arc::new(deployed);
        self.face().deployed = Some(deployed.clone());
        Ok(deployed)
    }
}

/// Whether it changes what runs.
fn changes(what: &What) -> bool {
    matches!(what, What::Change(_) | What::TakeOver(_))
}

fn accept(accepted: oneshot::Sender<Result<(), Refusal>>) {
    // Whoever asked may have gone; it is done all the same.
    let _ = accepted.send(Ok(()));
}

fn refuse(request: Request, why: &str) {
    refuse_with(request.accepted, request.ticket, why);
}

fn refuse_with(accepted: oneshot::Sender<Result<(), Refusal>>, ticket: Ticket, why: &str) {
    ticket.failed(why);
    let _ = accepted.send(Err(Refusal::conflict(why)));
}
