//! What of an aggregation is kept: freezing and draining it for checkpoints, evicting it from memory, finding it again.

use super::Aggregation;
use super::sharing::Sharing;
use crate::key::KEY_GROUPS;
use crate::storage::{Storage, StorageError, Write, Writes};
use crate::table::Table;

impl Aggregation {
    /// Begins a new epoch at a barrier: all that has changed is frozen, to be [drained](Self::drain). No row is touched.
    ///
    /// If something of an epoch before is left, because its checkpoint was given up, it joins this one as it is now.
    pub fn freeze(&mut self) {
        // Left of a checkpoint that was given up. These slices are done with now, so nothing of them is kept.
        self.retired.clear();
        self.done_frozen.append(&mut self.done);
        self.slices.values_mut().for_each(Table::freeze);
        (self.draining, self.drain_next) = (true, i64::MIN);
    }

    /// The next writes of what is frozen: at most `rows_max`, and about 4 MiB. A slice of writes may be empty; `None`
    /// says that there are no more. The driver applies them before it does anything else with the aggregation.
    pub fn drain(&mut self, rows_max: usize) -> Option<Writes> {
        if !self.done_frozen.is_empty() {
            let at = self.done_frozen.len().saturating_sub(rows_max.max(1));
            let ranges = self.done_frozen.drain(at..);
            return Some(Writes { list: ranges.map(|(from, end)| Write::DeleteRange(from, end)).collect() });
        }
        while let Some(table) = self.retired.last_mut() {
            if let Some(writes) = table.drain(rows_max) {
                return Some(writes);
            }
            self.retired.pop();
        }
        while let Some((&slice, table)) = self.slices.range_mut(self.drain_next..).next() {
            self.drain_next = slice;
            if let Some(writes) = table.drain(rows_max) {
                return Some(writes);
            }
            let Some(next) = slice.checked_add(1) else { break };
            self.drain_next = next;
        }
        self.draining = false;
        None
    }

    /// About how many bytes of memory the groups take.
    pub fn bytes(&self) -> usize {
        let shared = self.sharing.as_ref().map_or(0, Sharing::bytes);
        shared + self.slices.values().chain(&self.retired).map(Table::bytes).sum::<usize>()
    }

    /// Takes a step, of some milliseconds at most, towards `bytes_max`: drops groups that the storage has too, roughly
    /// those first that weren't used for longest. Returns whether groups were dropped; when not, the aggregation is
    /// within `bytes_max`, or nothing can be dropped. Comes between batches.
    pub fn evict(&mut self, bytes_max: usize) -> bool {
        self.step(bytes_max, false).is_some()
    }

    /// As [`evict`](Self::evict), but drops changed groups as well: they come back as writes, which the driver applies
    /// before it does anything else with the aggregation. `None`: nothing was dropped.
    ///
    /// Only for when no checkpoint is open, from the barrier until its files are taken: what is written here is of the
    /// present epoch.
    ///
    /// # Panics
    /// When what is frozen wasn't drained to the end.
    pub fn spill(&mut self, bytes_max: usize) -> Option<Writes> {
        assert!(!self.draining, "groups of the present epoch may not be written while frozen ones are left");
        self.step(bytes_max, true)
    }

    fn step(&mut self, bytes_max: usize, spill: bool) -> Option<Writes> {
        if self.bytes() <= bytes_max {
            return None;
        }
        if self.stop_sharing() {
            return Some(Writes::default());
        }
        // The first time around only groups are dropped that weren't used for some time, the second time any.
        let steps = 2 * self.slices.values().map(Table::shards).sum::<usize>();
        (0..steps).find_map(|_| {
            let slice = self.slices.range(self.hand..).next().or_else(|| self.slices.first_key_value());
            let slice = *slice?.0;
            let table = self.slices.get_mut(&slice)?;
            let writes = table.evict_next(spill);
            self.hand = if table.is_evicted_once_around() { slice.saturating_add(1) } else { slice };
            writes
        })
    }

    /// Takes up where a checkpoint left off, event time at `watermark`: finds the slices of the task's key groups in
    /// the storage. No group is read.
    ///
    /// # Errors
    /// When the storage can't be read, or holds slices that aren't of these windows.
    pub fn restore(&mut self, storage: &dyn Storage, watermark: i64) -> Result<(), StorageError> {
        assert!(self.slices.is_empty(), "an aggregation is restored before it is used");
        self.watermark = watermark;
        let mut from = self.addresses.rows_of_group(i64::MIN, self.groups.start);
        let end = self.addresses.rows_of_group(i64::MAX, KEY_GROUPS);
        while let Some((address, _)) = storage.scan(&from, &end, 1)?.pop() {
            let (slice, group, _) = self.addresses.read_row(&address)?;
            if group < self.groups.start {
                from = self.addresses.rows_of_group(slice, self.groups.start);
                continue;
            }
            if group < self.groups.end {
                self.restore_slice(slice)?;
            }
            let Some(next) = slice.checked_add(1) else { break };
            from = self.addresses.rows_of_group(next, self.groups.start);
        }
        Ok(())
    }

    fn restore_slice(&mut self, slice: i64) -> Result<(), StorageError> {
        if self.slicing.slice_of(slice) != slice {
            return Err(StorageError(format!(
                "the state of operator {} has groups from time {slice} on, where none of its windows begins or ends: \
                 it was written with other windows; restore those, or start without state",
                self.addresses.operator
            )));
        }
        let table = Table::restored(self.addresses, slice, self.groups.clone(), self.codec.clone());
        if self.slicing.last_end(slice) <= self.watermark.saturating_add(1) {
            self.retire(slice, table);
        } else {
            self.slices.insert(slice, table);
        }
        Ok(())
    }

    /// Lets go of a slice that is done with. What is frozen of it is still to be drained, and with the next epoch its
    /// rows go from the storage: not before, because the frozen epoch is of a time when they counted.
    pub(super) fn retire(&mut self, slice: i64, table: Table) {
        if table.may_be_stored() {
            let range = [self.groups.start, self.groups.end].map(|g| self.addresses.rows_of_group(slice, g));
            let [from, end] = range;
            self.done.push((from, end));
        }
        if table.is_draining() {
            self.retired.push(table);
        }
    }
}
