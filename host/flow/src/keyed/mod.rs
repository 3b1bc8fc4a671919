//! The state of an operator that keeps something for each key: value slots, collections and timers, for the key groups
//! of one task.
//!
//! # How it is used
//!
//! For a batch: [`begin`](KeyedState::begin) numbers the keys of its first rows, and has their values; meanwhile the
//! operator may read and write collections; then [`store`](KeyedState::store) and [`set_timer`](KeyedState::set_timer)
//! take what it returned. Before, [`due_of`](KeyedState::due_of) has the timers that the batch's keys have to fire
//! first. When time has come further: [`advance`](KeyedState::advance), then [`due`](KeyedState::due) until it
//! returns none. For timers, [`begin_firing`](KeyedState::begin_firing) takes the place of `begin`.
//!
//! # Time to live
//!
//! A value slot is absent once its key wasn't used for a while. Uses are rows, and timers. What counts is a row's own
//! time, so nothing depends on how rows were cut into batches: `begin` stops before a row for which something would
//! become absent that another row of the batch still sees. Only a row behind the watermark counts as of the
//! watermark: what was over by then may have been removed. An entry of a collection lives on from its last write, whose
//! time is that of the key's latest row in the batch; `begin` sees to it that no two rows of a key in a batch are
//! further apart than anything lives.

mod cleanup;
mod entries;
mod layout;
mod numbered;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::Arc;

use arrow_array::{ArrayRef, UInt32Array};

use crate::batch::take;
use crate::collections::Collections;
use crate::key::Keys;
use crate::storage::{Addresses, Storage, StorageError, Writes};
use crate::table::{Slot, Table};
use crate::timers::{Clock, Due, Timers};
use crate::ttl::Times;
use crate::watermark::WATERMARK_MIN;
pub use layout::{Layout, ValueSlot};
pub use numbered::Numbered;

/// The keyed state of one task.
#[derive(Debug)]
pub struct KeyedState {
    layout: Arc<Layout>,
    addresses: Addresses,
    groups: Range<u32>,
    table: Table,
    collections: Collections,
    timers: Timers,
    watermark: i64,
    /// Event time that is worked off: the watermark, or the next timer if that is due earlier.
    reached: i64,
    /// Processing time.
    now: i64,
    cleanup: cleanup::Cursor,
}

/// Timers to fire, and what time it is for them.
#[derive(Debug)]
pub struct Firing {
    /// The timers, no two of the same key.
    pub due: Due,
    /// Their clock.
    pub clock: Clock,
    /// The event time that was worked off before.
    reached: i64,
}

impl KeyedState {
    /// No state, of the operator with these addresses, for the keys in these key groups.
    pub fn new(layout: Arc<Layout>, addresses: Addresses, groups: Range<u32>) -> Self {
        let table = Table::new(addresses, 0, groups.clone(), layout.codec.clone());
        Self {
            table,
            collections: Collections::new(addresses, groups.clone(), layout.collections.clone()),
            timers: Timers::new(addresses),
            layout,
            addresses,
            groups,
            watermark: WATERMARK_MIN,
            reached: WATERMARK_MIN,
            now: WATERMARK_MIN,
            cleanup: cleanup::Cursor::default(),
        }
    }

    /// The state that a storage has. Timers are read; rows and entries as they are needed. Timers that have become due
    /// meanwhile are due, values whose time is over are absent.
    ///
    /// # Errors
    /// When the storage can't be read, or what stands there are no timers.
    pub fn restore(
        layout: Arc<Layout>,
        addresses: Addresses,
        groups: Range<u32>,
        storage: &dyn Storage,
    ) -> Result<Self, StorageError> {
        let timers = Timers::restore(addresses, storage, groups.clone())?;
        let mut state = Self::new(layout, addresses, groups.clone());
        state.timers = timers;
        // Without a slot there is no row to look for.
        if state.layout.slots() > 0 {
            state.table = Table::restored(addresses, 0, groups, state.layout.codec.clone());
        }
        Ok(state)
    }

    /// Time has come so far: the watermark, and processing time. Neither goes back.
    pub fn advance(&mut self, watermark: i64, now: i64) {
        self.watermark = self.watermark.max(watermark);
        self.now = self.now.max(now);
        self.settle();
    }

    /// How far event time has come.
    pub fn watermark(&self) -> i64 {
        self.watermark
    }

    /// Timers that are due see their keys as of their own time, so until they have fired, that is how far time has
    /// come.
    fn settle(&mut self) {
        let next = self.timers.next(Clock::Event).unwrap_or(i64::MAX);
        self.reached = self.reached.max(self.watermark.min(next));
    }

    fn times(&self) -> Times {
        Times { event: self.reached, processing: self.now }
    }

    /// Takes back the values of numbered keys: for each value slot a column with a row for each key, or `None` if
    /// nothing of it changed. A key without a value is no longer kept. Called also when nothing changed: with it the keys
    /// count as used.
    ///
    /// # Panics
    /// When a column isn't of its slot's type or hasn't a row for each key: the plugin has checked it.
    pub fn store(&mut self, numbered: &Numbered, changed: Vec<Option<ArrayRef>>) {
        assert_eq!(changed.len(), self.layout.slots(), "as many columns as value slots");
        if self.layout.is_everlasting() && changed.iter().all(Option::is_none) {
            return;
        }
        let kept = changed.into_iter().zip(&numbered.values);
        let mut columns: Vec<ArrayRef> = kept.map(|(new, old)| new.unwrap_or_else(|| old.clone())).collect();
        columns.extend(numbered.used.iter().cloned());
        self.layout.touch(&mut columns, &numbered.uses);
        self.replace(&numbered.slots, &columns);
    }

    /// Sets the rows at these slots, or removes them where no value is left.
    fn replace(&mut self, slots: &[Slot], columns: &[ArrayRef]) {
        let occupied = self.layout.occupied(columns, slots.len());
        if occupied.iter().all(|occupied| *occupied) {
            self.table.store(slots, columns);
            return;
        }
        let numbers: UInt32Array = (0u32..).zip(&occupied).filter(|(_, o)| **o).map(|(n, _)| n).collect();
        let columns: Vec<ArrayRef> = columns.iter().map(|column| take(column, &numbers)).collect();
        let of =
            |wanted: bool| slots.iter().zip(&occupied).filter(move |(_, o)| **o == wanted).map(|(s, _)| *s);
        if !numbers.is_empty() {
            self.table.store(&of(true).collect::<Vec<_>>(), &columns);
        }
        self.table.remove(&of(false).collect::<Vec<_>>());
    }

    /// Sets a timer of a numbered key, or cancels it with `None`. One whose time has come is due.
    ///
    /// # Panics
    /// When there is no such key: the plugin has checked it.
    pub fn set_timer(&mut self, numbered: &Numbered, key: u32, clock: Clock, name: &str, at: Option<i64>) {
        let (hash, key) = (numbered.keys.hashes()[key as usize], numbered.keys.key(key as usize));
        match at {
            Some(at) => self.timers.set(clock, hash, key, name, at),
            None => self.timers.cancel(clock, hash, key, name),
        }
    }

    /// When the next timer of a clock is due.
    pub fn next_timer(&self, clock: Clock) -> Option<i64> {
        self.timers.next(clock)
    }

    /// Takes the next timers that are due by now, at most `max`. They have to be fired before more is taken.
    pub fn due(&mut self, clock: Clock, max: usize) -> Firing {
        self.settle();
        let due = self.timers.due(clock, self.time_of(clock), max);
        Firing { due, clock, reached: self.reached }
    }

    /// Takes the first due timer of each key that has a row from `from` on, at most `max`. Call it until it returns
    /// none before the rows begin, if a firing isn't through.
    pub fn due_of(&mut self, clock: Clock, keys: &Keys, from: usize, max: usize) -> Firing {
        self.settle();
        let rows = (from..keys.hashes().len()).map(|row| (keys.hashes()[row], keys.key(row)));
        let due = self.timers.due_of(clock, self.time_of(clock), rows, max);
        Firing { due, clock, reached: self.reached }
    }

    fn time_of(&self, clock: Clock) -> i64 {
        match clock {
            Clock::Event => self.watermark,
            Clock::Processing => self.now,
        }
    }

    /// About how many bytes of memory the state takes.
    pub fn bytes(&self) -> usize {
        self.table.bytes() + self.collections.bytes() + self.timers.bytes()
    }

    /// The number of timers that are set.
    pub fn timers(&self) -> usize {
        self.timers.len()
    }

    /// Takes a step, of some milliseconds at most, towards `bytes_max`: drops values that the storage has too.
    /// Returns whether it dropped any. Numbered keys are no longer valid.
    pub fn evict(&mut self, bytes_max: usize) -> bool {
        let others = self.collections.bytes() + self.timers.bytes();
        self.table.evict(bytes_max.saturating_sub(others))
    }

    /// Takes a step, of some milliseconds at most, towards `bytes_max`: drops values and changes, and returns those that
    /// have to be written first. `None`: there is nothing to drop. Numbered keys are no longer valid. Only for
    /// when no checkpoint is open, from the barrier until its files are taken.
    ///
    /// # Panics
    /// While something frozen is still to be drained.
    pub fn spill(&mut self, bytes_max: usize) -> Option<Writes> {
        let (table, collections) = (self.table.bytes(), self.collections.bytes());
        let room = bytes_max.saturating_sub(self.timers.bytes());
        // The larger one first; changes to collections can go altogether.
        if collections > table
            && let Some(writes) = self.collections.spill(room.saturating_sub(table))
        {
            return Some(writes);
        }
        let writes = self.table.spill(room.saturating_sub(collections));
        writes.or_else(|| self.collections.spill(room.saturating_sub(self.table.bytes())))
    }

    /// Freezes the state as it is, for a checkpoint; [`drain`](Self::drain) then says what has to be written for it.
    /// What wasn't drained of the freeze before belongs to this one.
    pub fn freeze(&mut self) {
        self.table.freeze();
        self.collections.freeze();
        self.timers.freeze();
    }

    /// The next writes that the storage needs to have the state as it was frozen: about `max`, and about 4 MiB. They
    /// have to be applied before anything else is read. A slice may be empty; `None` says that there are no more.
    pub fn drain(&mut self, max: usize) -> Option<Writes> {
        let writes = self.table.drain(max).or_else(|| self.collections.drain(max));
        writes.or_else(|| self.timers.drain(max))
    }
}
