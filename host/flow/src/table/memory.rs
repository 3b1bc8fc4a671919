//! How a table stays within memory: shards are cut up as they grow, and rows are evicted shard by shard.

use super::epochs::{WRITES_BYTES_MAX, write_bytes, write_of};
use super::{SHARDS_OF_ONE, Slot, Table};
use crate::accumulators::DROPPED;
use crate::key::key_group;
use crate::storage::Writes;

/// A shard is rebuilt when at least one in so many of its rows goes: otherwise the work isn't worth it.
const WORTHWHILE: usize = 8;

impl Table {
    /// About how many bytes of memory the table takes: keys, index and rows, with what is allocated ahead of need.
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + self.bytes + self.saved_bytes + self.shard_of.capacity() * size_of::<u32>()
    }

    /// Takes a step, of some milliseconds at most, towards `bytes_max`: drops rows that the storage has too from one
    /// shard, those first that weren't used since it was looked at before. Returns whether rows were dropped; when not,
    /// the table is within `bytes_max`, or nothing can be dropped.
    pub fn evict(&mut self, bytes_max: usize) -> bool {
        self.step(bytes_max, false).is_some()
    }

    /// As [`evict`](Self::evict), but drops changed rows as well: they come back as writes. `None`: nothing was dropped.
    ///
    /// Only for when no checkpoint is open, from the barrier until its files are taken: what is written here is of the
    /// present epoch.
    ///
    /// # Panics
    /// While frozen rows are still to be drained.
    pub fn spill(&mut self, bytes_max: usize) -> Option<Writes> {
        assert!(
            !self.is_draining(),
            "rows of the present epoch may not be written while frozen ones are left"
        );
        self.step(bytes_max, true)
    }

    fn step(&mut self, bytes_max: usize, spill: bool) -> Option<Writes> {
        // The first time around only rows are dropped that weren't used for some time, the second time any.
        (0..2 * self.shards.len()).find_map(|_| {
            if self.bytes() <= bytes_max {
                return None;
            }
            self.evict_next(spill)
        })
    }

    /// The number of shards.
    pub(crate) fn shards(&self) -> usize {
        self.shards.len()
    }

    /// Whether the next shard to evict from is the first.
    pub(crate) fn is_evicted_once_around(&self) -> bool {
        self.hand == 0
    }

    /// Evicts from the next shard. `None`: it isn't worth it.
    pub(crate) fn evict_next(&mut self, spill: bool) -> Option<Writes> {
        assert!(self.missing.is_empty(), "rows are evicted between batches");
        let at = self.hand;
        self.hand = (at + 1) % self.shards.len();
        let shard = &mut self.shards[at];
        // At the first look: what wasn't used in the later half of all batches.
        let since = match std::mem::replace(&mut shard.visited, self.batch) {
            0 => self.batch / 2,
            visited => visited,
        };
        let least = shard.len().div_ceil(WORTHWHILE).max(1);
        if !spill && shard.len().saturating_sub(shard.dirty.len() + shard.frozen.len()) < least {
            return None;
        }
        let goes = |mark: &crate::shard::Mark| mark.batch <= since && (spill || mark.changed() == 0);
        let mut part_of = vec![0; shard.len()];
        let (mut dropped, mut writes, mut bytes) = (0, Writes::default(), 0);
        if shard.marks.iter().filter(|mark| goes(mark)).count() < least {
            return None;
        }
        for (row, part) in (0u32..).zip(&mut part_of) {
            let mark = shard.marks[row as usize];
            if !goes(&mark) || (mark.changed() != 0 && bytes >= WRITES_BYTES_MAX) {
                continue;
            }
            if mark.changed() != 0
                && let Some(write) = write_of(self.addresses, self.slice, &self.codec, shard, row)
            {
                bytes += write_bytes(&write);
                writes.list.push(write);
            }
            shard.complete &= !mark.is_present();
            (*part, dropped) = (DROPPED, dropped + 1);
        }
        debug_assert!(dropped > 0, "{least} rows were to go");
        self.in_storage |= !writes.list.is_empty();
        let groups = shard.groups.clone();
        self.replace(at, vec![groups], &part_of, false);
        Some(writes)
    }

    /// Cuts a shard up by key group.
    pub(super) fn cut_up(&mut self, at: usize) {
        let shard = &self.shards[at];
        let (start, count) = (shard.groups.start, shard.groups.end - shard.groups.start);
        let parts = SHARDS_OF_ONE.min(count);
        let first = |part: u32| start + (part * count).div_ceil(parts);
        let groups = (0..parts).map(|part| first(part)..first(part + 1)).collect();
        let part_of: Vec<u32> = (0u32..)
            .take(shard.len())
            .map(|slot| (key_group(shard.hash(slot)) - start) * parts / count)
            .collect();
        self.replace(at, groups, &part_of, true);
        self.shard_of =
            (0u32..).zip(&self.shards).flat_map(|(at, s)| s.groups.clone().map(move |_| at)).collect();
        // Shards behind this one have moved on, so whoever goes through them, draining or evicting, skips none.
    }

    /// Puts parts of a shard in its place.
    fn replace(&mut self, at: usize, groups: Vec<std::ops::Range<u32>>, part_of: &[u32], to_grow: bool) {
        let shard = self.shards.remove(at);
        let counted_bytes = shard.counted_bytes;
        let parts = shard.partition(groups, part_of, self.epoch, to_grow);
        let count = parts.len();
        self.shards.splice(at..at, parts);
        self.bytes -= counted_bytes;
        (at..at + count).for_each(|at| self.recount_shard(at));
    }

    /// Counts the bytes of these slots' shards.
    pub(super) fn recount(&mut self, slots: &[Slot]) {
        self.touched(slots).for_each(|at| self.recount_shard(at));
    }

    pub(super) fn recount_shard(&mut self, at: usize) {
        let shard = &mut self.shards[at];
        let bytes = shard.bytes();
        self.bytes = self.bytes + bytes - std::mem::replace(&mut shard.counted_bytes, bytes);
    }
}
