//! Which timers the storage doesn't know as they are.
//!
//! Time is cut into epochs, one to each freeze. A timer's slot has the epoch in which it was last changed, and each
//! epoch has a list of slots, so a freeze takes one list for the next. A frozen timer that is changed before it
//! was drained is saved first as it was.

use super::index::Index;
use crate::storage::{Addresses, Writes};

#[derive(Debug)]
pub(super) struct Changes {
    /// The epoch that goes on, from 1.
    epoch: u32,
    /// The slots of the timers that were changed in it. What became vacant since is skipped when it is drained.
    changed: Vec<u32>,
    /// Those of the epochs before it that weren't drained; a slot may occur twice, and may have changed since.
    frozen: Vec<u32>,
    /// Frozen timers that have changed since: their addresses, and what they were set to.
    saved: Vec<(Vec<u8>, Option<i64>)>,
}

impl Default for Changes {
    fn default() -> Self {
        Self { epoch: 1, changed: Vec::new(), frozen: Vec::new(), saved: Vec::new() }
    }
}

impl Changes {
    /// A timer is new in its slot.
    pub(super) fn add(&mut self, index: &mut Index, slot: u32) {
        let timer = index.get_mut(slot);
        if timer.changed_in != self.epoch {
            timer.changed_in = self.epoch;
            self.changed.push(slot);
        }
    }

    /// A timer, set to `at` until now, is about to change.
    pub(super) fn touch(&mut self, index: &mut Index, addresses: &Addresses, slot: u32, at: Option<i64>) {
        let timer = index.get_mut(slot);
        if timer.changed_in == self.epoch {
            return;
        }
        if timer.changed_in != 0 {
            if at.is_some() || timer.stored {
                self.saved.push((address(index, addresses, slot), at));
            }
            index.get_mut(slot).stored |= at.is_some();
        }
        self.add(index, slot);
    }

    /// A timer is no longer set. If the storage can't have it, it was never there: timers that come and go between
    /// two checkpoints leave no trace.
    pub(super) fn forget(&mut self, index: &mut Index, slot: u32) {
        if !index.get(slot).stored {
            index.remove(slot);
        }
    }

    pub(super) fn freeze(&mut self) {
        self.epoch = self.epoch.checked_add(1).expect("fewer than 2^32 checkpoints");
        // What was saved was changed in the epoch that is frozen now.
        self.saved = Vec::new();
        if self.frozen.is_empty() {
            std::mem::swap(&mut self.frozen, &mut self.changed);
        } else {
            self.frozen.append(&mut self.changed);
        }
    }

    pub(super) fn drain(
        &mut self,
        index: &mut Index,
        addresses: &Addresses,
        at: impl Fn(&Index, u32) -> Option<i64>,
        max: usize,
    ) -> Option<Writes> {
        let mut writes = Writes::default();
        let looked_at = max.min(self.saved.len() + self.frozen.len());
        for _ in 0..looked_at {
            if let Some((address, at)) = self.saved.pop() {
                writes.set(address, at.map(|at| at.to_be_bytes().to_vec()));
                continue;
            }
            let slot = self.frozen.pop().expect("counted");
            let timer = index.get_mut(slot);
            if timer.changed_in == self.epoch || timer.changed_in == 0 {
                continue;
            }
            timer.changed_in = 0;
            if timer.vacant {
                continue;
            }
            let at = at(index, slot);
            if at.is_some() || index.get(slot).stored {
                writes.set(address(index, addresses, slot), at.map(|at| at.to_be_bytes().to_vec()));
            }
            index.get_mut(slot).stored = at.is_some();
            if at.is_none() {
                index.remove(slot);
            }
        }
        (looked_at > 0).then_some(writes)
    }

    pub(super) fn bytes(&self) -> usize {
        let saved: usize = self.saved.iter().map(|(a, _)| a.capacity()).sum();
        (self.changed.capacity() + self.frozen.capacity()) * size_of::<u32>()
            + self.saved.capacity() * size_of::<(Vec<u8>, Option<i64>)>()
            + saved
    }
}

fn address(index: &Index, addresses: &Addresses, slot: u32) -> Vec<u8> {
    let timer = index.get(slot);
    let hash = xxhash_rust::xxh3::xxh3_64(timer.key());
    addresses.timer(timer.clock.number(), hash, timer.key(), timer.name().as_bytes())
}
