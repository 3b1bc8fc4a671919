//! Changes of a pipeline: what is tried, how it passes, and the way back.
//!
//! Whatever is tried is written down first. Whether it has passed is told by the newest checkpoint alone, which bears the
//! number of the generation that made it: so it makes no difference when the host ends in between.

use std::sync::Arc;
use std::time::Duration;

use tidemill_checkpoint::{SavepointName, Store, failpoint};
use tidemill_flow::probation::Limits;
use tokio::sync::watch;

use super::super::replays::catch_up;
use super::{Change, Deployed, Next, Supervisor, TakeOver, Ticket};
use crate::service::model::{Desired, State};
use crate::service::record::{Record, Trial};
use crate::worker::{Control, Swap, Swapping};

impl Supervisor {
    pub(super) async fn begin_swap(
        &mut self,
        change: Change,
        by: String,
        deployed: &Arc<Deployed>,
        control: &Control,
        ticket: Ticket,
    ) -> Option<Swapped> {
        let Change { deployed: after, in_place, probation, kind, what } = change;
        let trial = self.trial(&after, kind, &by, &what);
        let keep = trial.savepoint.parse().expect("made of letters and a number");
        let changed = self.change_record(|record| record.try_out(trial));
        if let Err(refusal) = changed {
            ticket.failed(refusal);
            return None;
        }
        let limits =
            Limits { rejected_share_max: probation.rejected_share_max, slowdown_max: probation.slowdown_max };
        control.take_pause_us();
        let swap = Swap {
            plan: after.plan.clone(),
            operators: in_place.unwrap_or_default(),
            probation: Duration::from_millis(probation.for_ms),
            limits,
            keep,
        };
        match control.swap(swap, &deployed.plan).await {
            Ok(progress) => Some(Swapped { progress, ticket, deployed: Arc::new(after) }),
            Err(error) => {
                let _ = self.settle_trial(&error.to_string());
                ticket.failed(error);
                None
            }
        }
    }

    /// A swap has come further.
    pub(super) fn swapping(&mut self, progress: Swapping, control: &Control, swap: &mut Option<Swapped>) {
        let Some(swapped) = swap else { return };
        match progress {
            Swapping::Waiting => {}
            Swapping::Changing(checkpoint) => {
                self.becomes(State::Probation, None);
                swapped.ticket.says(format!("the barrier of checkpoint {checkpoint} is on its way"));
            }
            Swapping::Probation(checkpoint) => {
                swapped.ticket.says(format!("on probation since checkpoint {checkpoint}"));
            }
            Swapping::Passed(checkpoint) => {
                let Some(Swapped { deployed, ticket, .. }) = swap.take() else { return };
                let pause_ms = control.take_pause_us() as f64 / 1_000.0;
                let told = format!(
                    "passed its probation with checkpoint {checkpoint}; no task stood still for more than {pause_ms:.1} ms"
                );
                self.face().deployed = Some(deployed);
                self.pass_trial(&told);
                self.becomes(State::Running, None);
                ticket.done(format!("generation {}: {told}", self.face().record.generation));
            }
        }
    }

    /// The pipeline has ended for a change, which is tried from now on.
    pub(super) fn begin_trial(&mut self, change: Change, by: String, ticket: Ticket) -> Next {
        let Change { deployed, kind, what, .. } = change;
        let trial = self.trial(&deployed, kind, &by, &what);
        let has_checkpoints = deployed.plan.checkpoints.is_some();
        let was_running = self.face().record.desired == Desired::Running;
        if has_checkpoints && let Ok(Some(_)) = self.newest() {
            let name = trial.savepoint.parse().expect("made of letters and a number");
            if let Err(why) = self.keep_newest(&name) {
                ticket.failed(format!("the state before can't be kept: {why}"));
                return self.on_or_rest();
            }
        }
        if let Err(refusal) = self.change_record(|record| record.try_out(trial)) {
            ticket.failed(refusal);
            return self.on_or_rest();
        }
        self.restarts = None;
        if has_checkpoints && was_running {
            ticket.says("starting as the change wants it");
            self.trying = Some((Arc::new(deployed), ticket));
            return Next::On;
        }
        // Nothing would tell whether it works: it is what a person wants.
        self.face().deployed = Some(Arc::new(deployed));
        self.pass_trial("it counts from the next start on");
        ticket.done(format!("generation {}", self.face().record.generation));
        self.on_or_rest()
    }

    /// The change by restart that is on trial has passed.
    pub(super) fn passed(&mut self, why: &str) {
        let Some((deployed, ticket)) = self.trying.take() else { return };
        self.face().deployed = Some(deployed);
        self.pass_trial(why);
        ticket.done(format!("generation {}: {why}", self.face().record.generation));
    }

    /// Lets another version take over: the pipeline has stopped, and the shadow goes on to where that was.
    pub(super) async fn take_over(&mut self, take_over: TakeOver, by: String, ticket: Ticket) {
        let kind = take_over.kind;
        match self.try_take_over(take_over, &by, &ticket).await {
            Ok(()) if self.face().record.desired == Desired::Running => {
                ticket.says("it has taken over, and starts");
                self.restarts = None;
                self.starting = Some(ticket);
            }
            Ok(()) => ticket.done(format!("generation {} has taken over", self.face().record.generation)),
            Err(why) => {
                let _ = self.settle_trial(&why);
                self.tell(&by, &format!("{kind} failed"), &why);
                ticket.failed(why);
            }
        }
    }

    pub(super) async fn try_take_over(
        &mut self,
        take_over: TakeOver,
        by: &str,
        ticket: &Ticket,
    ) -> Result<(), String> {
        let TakeOver { mut shadow, deployed, kind, what } = take_over;
        let newest = self.newest()?.ok_or("it has no checkpoint yet")?;
        ticket.says(format!("going on to checkpoint {}, where the pipeline has stopped", newest.checkpoint));
        catch_up(&mut shadow, &deployed, &newest, &self.shared).await?;
        let trial = self.trial(&deployed, kind, by, &what);
        let name: SavepointName = trial.savepoint.parse().expect("made of letters and a number");
        self.keep_newest(&name)?;
        self.change_record(|record| record.try_out(trial)).map_err(|r| r.message)?;
        failpoint::at("takeover.begin").map_err(|e| e.to_string())?;
        let plan = deployed.plan.clone();
        let checkpoints = plan.checkpoints.clone().ok_or("it has no checkpoints")?;
        let taken = tokio::task::spawn_blocking(move || {
            let store = Store::open(checkpoints.path, &plan.name).map_err(|e| e.to_string())?;
            let taken = shadow.take_over(&store, &newest, &plan).map_err(|e| e.to_string())?;
            // Its state is the pipeline's now.
            if let Err(error) = shadow.remove() {
                tracing::warn!("{error}");
            }
            Ok::<_, String>(taken)
        });
        let name = taken.await.map_err(|e| e.to_string())??;
        self.face().deployed = Some(Arc::new(deployed));
        self.pass_trial(&format!("it has taken over with checkpoint {}", name.checkpoint));
        Ok(())
    }

    /// Whether a change was made for what the pipeline isn't any more.
    pub(super) fn is_stale(&self, deployed: &Deployed) -> bool {
        deployed.plan.generation != self.face().record.last_generation + 1
    }

    pub(super) fn trial(&self, deployed: &Deployed, kind: &str, by: &str, what: &str) -> Trial {
        let generation = self.face().record.generation;
        Trial {
            generation: deployed.plan.generation,
            specification: deployed.specification.clone(),
            kind: kind.to_owned(),
            by: by.to_owned(),
            what: what.to_owned(),
            savepoint: format!("generation-{generation}-before-{}", deployed.plan.generation),
        }
    }

    /// A trial is over, and the newest checkpoint tells how; `why` it is, if it has failed.
    ///
    /// # Errors
    /// When that can't be read: then it is settled before the next start.
    pub(super) fn settle_trial(&mut self, why: &str) -> Result<(), String> {
        let Some(trial) = self.face().record.trial.clone() else { return Ok(()) };
        let newest = self.newest().map_err(|error| {
            let told = format!("it can't be told which version made the newest checkpoint: {error}");
            self.says("error", &told);
            told
        })?;
        if newest.is_some_and(|m| m.generation >= trial.generation) {
            let why = "a checkpoint under it is complete";
            match self.trying {
                Some(_) => self.passed(why),
                None => {
                    self.face().deployed = None;
                    self.pass_trial(why);
                }
            }
            return Ok(());
        }
        if let Some((_, ticket)) = self.trying.take() {
            ticket.failed(format!("went back to generation {}: {why}", self.face().record.generation));
        }
        self.restarts = None;
        if let Err(refusal) = self.change_record(|record| record.trial = None) {
            self.says("error", &refusal.message);
        }
        // What it has left behind is what the newest checkpoint has too, if it has left anything.
        let _ = self.forget_savepoint(&trial.savepoint);
        self.tell("", &format!("{} failed", trial.kind), &format!("{}; went back: {why}", trial.what));
        Ok(())
    }

    /// The trial has passed: what was tried is what the pipeline is.
    pub(super) fn pass_trial(&mut self, why: &str) {
        let Some(trial) = self.face().record.trial.clone() else { return };
        let mut forgotten = Vec::new();
        let changed = self.change_record(|record| {
            forgotten = record.pass(true);
        });
        if let Err(refusal) = changed {
            self.says("error", &refusal.message);
        }
        for previous in forgotten {
            if let Err(error) = self.forget_savepoint(&previous.savepoint) {
                self.says("warn", &format!("the savepoint {} stays: {error}", previous.savepoint));
            }
        }
        self.tell(&trial.by, &trial.kind, &format!("{}; {why}", trial.what));
    }
}

/// A swap that is under way.
pub(super) struct Swapped {
    progress: watch::Receiver<Swapping>,
    ticket: Ticket,
    deployed: Arc<Deployed>,
}

impl Swapped {
    /// The run is over, and the record says how it stands.
    pub(super) fn tell(self, record: &Record) {
        let Self { ticket, deployed, .. } = self;
        if record.generation == deployed.plan.generation {
            ticket.done(format!("generation {}: the pipeline ended under it", record.generation));
        } else {
            ticket.failed(format!("went back to generation {}; `history` says why", record.generation));
        }
    }
}

/// How a swap goes on; never, if there is none.
pub(super) async fn progress(swap: &mut Option<Swapped>) -> Swapping {
    let Some(swap) = swap else { return std::future::pending().await };
    match swap.progress.changed().await {
        Ok(()) => *swap.progress.borrow_and_update(),
        // The run comes to its end, which says more.
        Err(_) => std::future::pending().await,
    }
}
