//! What overlapping windows share, so that the work for a window doesn't grow with the number of its slices: of a window
//! of sixty slices fifty-nine were in the window before.
//!
//! This is aggregation with two stacks (Tangwongsan, Hirzel, Schneider and Wu, "General incremental sliding-window
//! aggregation", VLDB 2015, where it is the base case; the idea is older). For each slice in *front* there is the
//! merge of it with all behind it in front; the slices after these are merged one by one into the *back*. A window is the
//! merge of the first that it has in front with the back. When it has nothing in front any more, the front is built anew
//! from the slices, backwards. So a slice is merged three times, however many windows it is in, and nothing has to be
//! subtracted.
//!
//! All of it follows from the slices: it is no part of a checkpoint, and is given up where it isn't worth its memory or
//! a row comes for a slice that is merged already.

use std::collections::BTreeMap;

use super::Aggregation;
use super::firing::{Firing, Source};
use crate::shard::Shard;

/// Windows of fewer slices are merged from these each time.
const SLICES_MIN: usize = 3;

/// Slices that are merged already.
#[derive(Debug)]
pub(super) struct Sharing {
    /// Of each slice before `middle` the merge of it and those after it, up to `middle`.
    front: BTreeMap<i64, Shard>,
    middle: i64,
    /// The merge of the slices from `middle` up to `end`; none as long as there are none.
    back: Option<Shard>,
    end: i64,
}

/// What becomes of the groups at hand when nothing is left to merge into them.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    /// They are the merge from this slice on.
    Front(i64),
    /// They are the back, with this slice.
    Back(i64),
    /// They are the window's.
    Window,
}

impl Sharing {
    /// Whether a slice is merged already.
    pub(super) fn has(&self, slice: i64) -> bool {
        slice < self.end
    }

    pub(super) fn bytes(&self) -> usize {
        self.front.values().chain(&self.back).map(Shard::bytes).sum()
    }
}

impl Aggregation {
    /// The steps that put a window together from what is shared, last first; `None` where it isn't.
    pub(super) fn shared_steps(&mut self, firing: &Firing) -> Option<Vec<Step>> {
        if self.slicing.slices() < SLICES_MIN {
            return None;
        }
        if self.unshared > 0 {
            self.unshared -= 1;
            return None;
        }
        let (start, end) = (firing.bounds.start, firing.bounds.end);
        let known = self.sharing.as_ref().filter(|s| start < s.middle).map(|s| s.end);
        let new = || firing.slices.iter().copied().filter(|&slice| known.is_none_or(|known| slice >= known));
        if !new().all(|slice| self.slices[&slice].is_complete()) {
            self.sharing = None;
            return None;
        }
        let mut steps = vec![Step::Window];
        match known {
            Some(_) => {
                steps.extend(new().map(Step::Back));
                steps[1..].reverse();
            }
            None => {
                self.sharing = Some(Sharing { front: BTreeMap::new(), middle: end, back: None, end });
                steps.extend(new().map(Step::Front));
            }
        }
        if let Some(sharing) = &mut self.sharing {
            sharing.front = sharing.front.split_off(&start);
            sharing.end = end;
        }
        Some(steps)
    }

    /// Keeps what came of a step, and begins the next; `false`: there is none, and the window's groups are at hand.
    pub(super) fn next_step(&mut self, firing: &mut Firing) -> bool {
        let Some(next) = firing.steps.pop() else { return false };
        let sharing = self.sharing.as_mut().expect("steps are of what is shared");
        let range = self.groups.start..self.groups.start;
        let empty =
            || Shard::new(range.clone(), crate::accumulators::Accumulators::new(self.codec.schema()), true);
        let done = std::mem::replace(&mut firing.groups, empty());
        match firing.step {
            Some(Step::Front(slice)) => drop(sharing.front.insert(slice, done)),
            Some(Step::Back(_)) => sharing.back = Some(done),
            Some(Step::Window) | None => {}
        }
        match next {
            Step::Front(slice) => {
                firing.groups = self.slices[&slice].copy_whole();
                // Backwards: what comes after this slice was the step before.
                firing.rest.extend(sharing.front.keys().next().map(|&after| Source::Front(after)));
            }
            Step::Back(slice) => {
                firing.groups = sharing.back.take().unwrap_or_else(empty);
                let shards = 0..self.slices[&slice].shards();
                firing.rest.extend(shards.map(|shard| Source::Held { slice, shard }));
            }
            Step::Window => {
                // No later window begins with it, unless one begins before it too.
                let next_start = firing.bounds.start.saturating_add(self.slicing.slide_ms());
                let first = sharing.front.first_entry();
                let first = first.map(|f| if *f.key() < next_start { f.remove() } else { f.get().clone() });
                firing.groups = first.unwrap_or_else(empty);
                firing.rest.extend(sharing.back.is_some().then_some(Source::Back));
            }
        }
        firing.step = Some(next);
        true
    }

    pub(super) fn shared(&self, source: &Source) -> &Shard {
        let sharing = self.sharing.as_ref().expect("it is being merged");
        match source {
            Source::Front(slice) => &sharing.front[slice],
            Source::Back => sharing.back.as_ref().expect("it is being merged"),
            Source::Held { .. } | Source::Stored(_) => unreachable!("these aren't shared"),
        }
    }

    /// Gives up what is shared, for as many windows as one has slices: whatever the reason, it may soon be there again.
    /// Says whether there was any.
    pub(super) fn stop_sharing(&mut self) -> bool {
        let shared = self.sharing.take().is_some();
        if shared {
            self.unshared = self.slicing.slices();
        }
        shared
    }
}
