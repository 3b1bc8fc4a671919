//! Sources that keep together: what the tasks of a group know of each other.

use std::collections::BTreeMap;

use tidemill_flow::watermark::Drift;
use tokio::sync::watch;

use crate::pipeline::plan::{AlignPlan, Plan};

/// The groups of a pipeline, by name, with how many of their tasks have joined.
pub(super) struct Groups(BTreeMap<String, (usize, watch::Sender<Drift>)>);

/// A task's place in its group.
pub(super) struct Membership {
    /// How far all of them have come. The only lock that tasks share, and inside the channel: it is held for the minimum
    /// over a few hundred numbers, once a batch; who waits for others is woken when the minimum has changed.
    group: watch::Sender<Drift>,
    changes: watch::Receiver<Drift>,
    member: usize,
    max_ms: i64,
    reported: Option<i64>,
}

impl Groups {
    /// The groups of a plan, in which nobody has come anywhere: each source that has a task in it counts from the start.
    pub(super) fn new(plan: &Plan) -> Self {
        let mut members: BTreeMap<String, usize> = BTreeMap::new();
        for stage in &plan.stages {
            if let Some(align) = stage.source().and_then(|s| plan.sources[s].align.as_ref()) {
                *members.entry(align.group.clone()).or_default() += stage.tasks;
            }
        }
        let group = |(name, members)| (name, (0, watch::Sender::new(Drift::new(members))));
        Self(members.into_iter().map(group).collect())
    }

    /// A place for one more task.
    ///
    /// # Panics
    /// When more tasks join than the plan has.
    pub(super) fn join(&mut self, align: &AlignPlan) -> Membership {
        let (joined, group) = self.0.get_mut(&align.group).expect("each group of the plan");
        let member = *joined;
        *joined += 1;
        Membership {
            group: group.clone(),
            changes: group.subscribe(),
            member,
            max_ms: align.max_drift_ms,
            reported: None,
        }
    }
}

impl Membership {
    /// The task has come to `watermark`.
    pub(super) fn report(&mut self, watermark: i64) {
        if self.reported.replace(watermark) != Some(watermark) {
            self.group.send_if_modified(|group| group.report(self.member, watermark));
        }
    }

    /// Whether a partition that has come to `watermark` is read on. What changes behind this answer ends the next wait for
    /// [`Self::changed`].
    pub(super) fn lets_read(&mut self, watermark: i64) -> bool {
        self.changes.borrow_and_update().lets_read(watermark, self.max_ms)
    }

    /// Waits until the group's minimum is another one.
    pub(super) async fn changed(&mut self) {
        self.changes.changed().await.expect("the task itself keeps the other end");
    }
}
