//! Hot swaps: other versions of operators take over at a barrier, while sources read on.
//!
//! Rows before the barrier go through the old version, rows behind it through the new one, which finds the state where
//! the old one has left it. The instances of the new version are made and opened before that; at the barrier a task
//! only exchanges them. Where the new version keeps its state in another way, what the barrier has frozen is written
//! out first, and read under the new schema from then on.
//!
//! The checkpoint of the barrier is still one of the old version, and the next one is the first of the new: until then
//! the new version is on *probation*, and nothing that it made has been shown by sinks that deliver exactly once. So a
//! run that fails meanwhile goes on from the barrier with the old version, as if the new one had never been.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tidemill_checkpoint::SavepointName;
use tidemill_flow::probation::{Limits, Seen};
use tokio::sync::watch;

use super::JobError;
use super::operator::{Guest, Successor};
use super::restored::{Versions, has_state, state_schema, versions_after};
use crate::pipeline::plan::{OperatorPlan, Plan};
use crate::telemetry::Counters;

/// Asks for a swap.
pub struct Swap {
    /// The plan with the new versions; it differs from the one that runs in nothing but what concerns these operators
    /// alone.
    pub plan: Arc<Plan>,
    /// The numbers of the operators.
    pub operators: Vec<usize>,
    /// For how long the probation lasts at least; it ends with the first checkpoint after that.
    pub probation: Duration,
    /// What the new versions may not exceed.
    pub limits: Limits,
    /// The checkpoint of the barrier, which is the last of the old versions, is kept under this name.
    pub keep: SavepointName,
}

/// How a swap stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swapping {
    /// It waits for its barrier.
    Waiting,
    /// The barrier of this checkpoint is on its way.
    Changing(u64),
    /// The checkpoint of the barrier is complete, and the new versions are on probation.
    Probation(u64),
    /// They have passed it: a later checkpoint, this one, is complete.
    Passed(u64),
}

/// A swap as its tasks and the coordinator see it.
pub(super) struct Changeover {
    pub(super) plan: Arc<Plan>,
    pub(super) operators: Vec<usize>,
    pub(super) probation: Duration,
    pub(super) limits: Limits,
    pub(super) keep: SavepointName,
    /// By operator, the schemas of the new version's state.
    pub(super) versions: BTreeMap<usize, Versions>,
    pub(super) progress: watch::Sender<Swapping>,
    ready: BTreeMap<(usize, usize), Successor>,
}

impl Changeover {
    /// Makes an instance of each new version for each task that has the operator. `versions` are the schemas of the state
    /// until now, `before` is the plan that runs.
    ///
    /// # Errors
    /// When a new version refuses its settings, fails, or can't go on from the state.
    pub(super) async fn prepare(
        swap: Swap,
        before: &Plan,
        versions: &BTreeMap<usize, Versions>,
    ) -> Result<Self, JobError> {
        let mut after = BTreeMap::new();
        let mut ready = BTreeMap::new();
        let mut task = 0;
        for stage in &swap.plan.stages {
            for _ in 0..stage.tasks {
                for node in stage.nodes.iter().filter(|n| swap.operators.contains(&n.operator)) {
                    let at = node.operator;
                    let plan = Arc::new(swap.plan.operators[at].clone());
                    let successor =
                        successor(plan, &before.operators[at], versions.get(&at)).await.inspect(|s| {
                            after.insert(at, s.versions.clone());
                        })?;
                    ready.insert((task, at), successor);
                }
                task += 1;
            }
        }
        let Swap { plan, operators, probation, limits, keep } = swap;
        let progress = watch::Sender::new(Swapping::Waiting);
        Ok(Self { plan, operators, probation, limits, keep, versions: after, progress, ready })
    }
}

async fn successor(
    plan: Arc<OperatorPlan>,
    before: &OperatorPlan,
    versions: Option<&Versions>,
) -> Result<Successor, JobError> {
    let failed = |failure| JobError::Operator {
        id: plan.id.clone(),
        digest: plan.plugin.digest().to_owned(),
        failure,
        at: None,
    };
    let mut guest = Guest::start(&plan).await.map_err(failed)?;
    let initial = match &mut guest {
        Guest::Aggregate(guest) => guest.initial().await.map_err(failed)?,
        _ => Vec::new(),
    };
    let anew = || Versions { current: (0, state_schema(before)), older: Vec::new(), migrated: Vec::new() };
    let known = versions.cloned().unwrap_or_else(anew);
    let versions = match has_state(&plan) {
        true => versions_after(&plan, &known).map_err(JobError::Recovery)?,
        false => known.clone(),
    };
    if !versions.migrated.is_empty() {
        return Err(JobError::Recovery(format!(
            "the state of `{}` has to be migrated, which needs a restart",
            plan.id
        )));
    }
    let (new, old) = (plan.plugin.description(), before.plugin.description());
    let same_layout = versions.current == known.current && new.collections == old.collections;
    Ok(Successor { guest, plan, versions, same_layout, initial })
}

/// Where tasks find the new versions of their operators.
#[derive(Default)]
pub(super) struct Swaps {
    /// Held for moments.
    due: Mutex<Option<Due>>,
    /// The longest time that a task stood still for a swap, in microseconds.
    pause_us_max: AtomicU64,
}

struct Due {
    /// From this checkpoint's barrier on.
    checkpoint: u64,
    ready: BTreeMap<(usize, usize), Successor>,
}

impl Swaps {
    /// From this checkpoint's barrier on the new versions take over. A barrier may be given up, and tasks that haven't seen
    /// it change with the next one.
    pub(super) fn begin(&self, checkpoint: u64, changeover: &mut Changeover) {
        *self.due() = Some(Due { checkpoint, ready: std::mem::take(&mut changeover.ready) });
    }

    /// Whether a task changes versions at this barrier.
    pub(super) fn is_due(&self, task: usize, checkpoint: u64) -> bool {
        let due = self.due();
        let due = due.as_ref().filter(|due| due.checkpoint <= checkpoint);
        due.is_some_and(|due| due.ready.range((task, 0)..=(task, usize::MAX)).next().is_some())
    }

    /// The new version of an operator in a task.
    pub(super) fn take(&self, task: usize, operator: usize) -> Option<Successor> {
        self.due().as_mut()?.ready.remove(&(task, operator))
    }

    /// A task has stood still for a swap since `begun`.
    pub(super) fn paused(&self, begun: Instant) {
        let us = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.pause_us_max.fetch_max(us, Ordering::Relaxed);
    }

    /// The longest time that a task has stood still since this was asked last.
    pub(super) fn take_pause_us(&self) -> u64 {
        self.pause_us_max.swap(0, Ordering::Relaxed)
    }

    fn due(&self) -> MutexGuard<'_, Option<Due>> {
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What operators have done, to be compared later.
pub(super) fn seen(counters: &Counters, operators: &[usize]) -> Vec<Seen> {
    let of = |&at: &usize| {
        let c = &counters.operators[at];
        Seen { rows: c.rows_in.get(), rejected: c.rejected.get(), busy_ns: c.busy_ns.get() }
    };
    operators.iter().map(of).collect()
}
