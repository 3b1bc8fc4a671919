//! Windows in full: sessions, count windows, days of a time zone, windows of processing time, allowed lateness, and
//! firings before and after a window's end. What needs less goes the shorter way of
//! [`Aggregation`](crate::aggregation::Aggregation), which knows nothing of this.
//!
//! A window of a key is a *pane*: a row in a table with the window's accumulator, and a timer that says when the window
//! ends. Timers are in memory, so which sessions a key has is seen without reading anything. All else follows from
//! these two, and both are in every checkpoint.
//!
//! # How it is used
//!
//! When time has come further: [`advance`](Windowing::advance), then [`due`](Windowing::due) as long as something
//! [is due](Windowing::is_due). For a batch, from its first row on:
//!
//! 1. [`due_of`](Windowing::due_of) until it returns none: what the batch's keys have to fire first;
//! 2. [`assign`](Windowing::assign); [`next_merge`](Windowing::next_merge) until there is none: sessions that have
//!    become one; [`accumulators`](Windowing::accumulators), the operator, [`store`](Windowing::store);
//! 3. [`filled`](Windowing::filled) until it returns none: windows that have enough rows;
//! 4. if rows are left, `advance` to what the assignment said, and again from 1.
//!
//! Behind the last row [`late`](Windowing::late) until it returns none: windows that had fired and have more rows now.
//! Barriers and eviction come between batches and between calls of `due`.
//!
//! # Rows instead of accumulators
//!
//! For an operator that wants all rows of a window at once, [`keep`](Windowing::keep) takes the place of what the operator
//! does in step 2, and a firing has the rows. There is one copy of a row, however many windows it is in.
//!
//! # What is late
//!
//! It is decided row by row against the watermark before the row, and for each of its windows: one that ends at `e`
//! takes rows until the watermark comes to `e - 1` and the allowed lateness. For a session the one counts that the row
//! would be part of.

mod assign;
mod calendar;
mod definition;
mod firing;
mod kept;
mod pane;
mod sessions;
mod stretch;
#[cfg(test)]
mod tests;

use std::ops::Range;

use crate::storage::{Addresses, Storage, StorageError, Writes};
use crate::table::Table;
use crate::timers::{Clock, Timers};
use crate::watermark::{WATERMARK_MAX, WATERMARK_MIN};
pub use assign::{Assigned, LateRow};
pub use calendar::{Days, Zone};
pub use definition::{Assigner, Definition, Mode, Timing, Trigger};
pub use firing::Firing;
use firing::Waiting;
use kept::Kept;
pub use kept::KeptRows;
pub use pane::{Layout, is_pane, read_row_key, told_timer};
pub use stretch::{Merge, Stretch};

/// The windows of one task.
#[derive(Debug)]
pub struct Windowing {
    definition: Definition,
    layout: Layout,
    panes: Table,
    timers: Timers,
    /// The rows, where these are kept instead of accumulators.
    kept: Option<Kept>,
    watermark: i64,
    now: i64,
    /// Panes that have enough rows for a firing, and those that had fired at their end and have new rows. Both are
    /// empty between batches.
    filled: Waiting,
    late: Waiting,
}

impl Windowing {
    /// No windows, for the keys in these key groups.
    ///
    /// # Panics
    /// When the definition doesn't [check](Definition::check), or, where rows are kept, doesn't
    /// [check for that](Definition::check_rows).
    pub fn new(definition: Definition, addresses: Addresses, groups: Range<u32>, layout: Layout) -> Self {
        let checked = if layout.keeps_rows() { definition.check_rows() } else { definition.check() };
        if let Err(error) = checked {
            panic!("{definition:?}: {error}");
        }
        Self {
            kept: layout.keeps_rows().then(|| Kept::new(addresses, groups.clone())),
            panes: Table::new(addresses, 0, groups, layout.codec().clone()),
            timers: Timers::new(addresses),
            definition,
            layout,
            watermark: WATERMARK_MIN,
            now: WATERMARK_MIN,
            filled: Waiting::default(),
            late: Waiting::default(),
        }
    }

    /// The windows that a storage has, event time at `watermark`. Timers are read; rows as they are needed. What has
    /// become due meanwhile is due.
    ///
    /// # Errors
    /// When the storage can't be read, or what stands there are no timers.
    pub fn restore(
        definition: Definition,
        addresses: Addresses,
        groups: Range<u32>,
        layout: Layout,
        storage: &dyn Storage,
        watermark: i64,
    ) -> Result<Self, StorageError> {
        let timers = Timers::restore(addresses, storage, groups.clone())?;
        let panes = Table::restored(addresses, 0, groups.clone(), layout.codec().clone());
        Ok(Self { panes, timers, watermark, ..Self::new(definition, addresses, groups, layout) })
    }

    /// Time has come so far: the watermark, and processing time. Neither goes back.
    pub fn advance(&mut self, watermark: i64, now: i64) {
        self.watermark = self.watermark.max(watermark);
        self.now = self.now.max(now);
    }

    /// How far event time has come.
    pub fn watermark(&self) -> i64 {
        self.watermark
    }

    /// What the windows are.
    pub fn definition(&self) -> &Definition {
        &self.definition
    }

    /// Whether a window is to be fired or cleaned up now.
    pub fn is_due(&self) -> bool {
        Clock::ALL.into_iter().any(|clock| self.has_due(clock))
    }

    /// Whether one is that a watermark made due, so that the watermark has to wait for it.
    pub fn is_window_due(&self) -> bool {
        self.has_due(self.definition.time)
    }

    fn has_due(&self, clock: Clock) -> bool {
        self.timers.next(clock).is_some_and(|at| at <= self.time_of(clock))
    }

    /// When something of processing time is due next.
    pub fn next_processing(&self) -> Option<i64> {
        self.timers.next(Clock::Processing)
    }

    /// How far a clock has come. With the input windows of processing time end too.
    fn time_of(&self, clock: Clock) -> i64 {
        match clock {
            Clock::Event => self.watermark,
            Clock::Processing if self.definition.time == clock && self.watermark == WATERMARK_MAX => i64::MAX,
            Clock::Processing => self.now,
        }
    }

    /// How many windows of keys are open, or are kept for late rows.
    pub fn open(&self) -> usize {
        self.timers.count(self.definition.time)
    }

    /// About how many bytes of memory they take.
    pub fn bytes(&self) -> usize {
        self.panes.bytes() + self.timers.bytes() + self.kept_bytes()
    }

    fn kept_bytes(&self) -> usize {
        self.kept.as_ref().map_or(0, |kept| kept.entries.bytes())
    }

    /// Takes a step, of some milliseconds at most, towards `bytes_max`: drops rows that the storage has too. Returns
    /// whether it dropped any.
    pub fn evict(&mut self, bytes_max: usize) -> bool {
        self.panes.evict(bytes_max.saturating_sub(self.timers.bytes() + self.kept_bytes()))
    }

    /// Takes a step, of some milliseconds at most, towards `bytes_max`: drops rows, and returns those that have to be
    /// written first. `None`: there is nothing to drop. Only for when no checkpoint is open, from the barrier until
    /// its files are taken.
    ///
    /// # Panics
    /// While something frozen is still to be drained.
    pub fn spill(&mut self, bytes_max: usize) -> Option<Writes> {
        let room = bytes_max.saturating_sub(self.timers.bytes());
        // Rows that are kept can go altogether.
        let panes = self.panes.bytes();
        let spilled = self.kept.as_mut().and_then(|kept| kept.entries.spill(room.saturating_sub(panes)));
        spilled.or_else(|| self.panes.spill(room.saturating_sub(self.kept_bytes())))
    }

    /// Freezes the windows as they are, for a checkpoint; [`drain`](Self::drain) then says what has to be written for
    /// it. What wasn't drained of the freeze before belongs to this one.
    ///
    /// # Panics
    /// Within a batch.
    pub fn freeze(&mut self) {
        assert!(self.filled.is_empty() && self.late.is_empty(), "a barrier comes between batches");
        self.panes.freeze();
        self.timers.freeze();
        if let Some(kept) = &mut self.kept {
            kept.entries.freeze();
        }
    }

    /// The next writes that the storage needs to have the windows as they were frozen: about `max`, and about 4 MiB.
    /// They have to be applied before anything else is read. A slice may be empty; `None` says that there are no more.
    pub fn drain(&mut self, max: usize) -> Option<Writes> {
        let writes = self.panes.drain(max).or_else(|| self.timers.drain(max));
        writes.or_else(|| self.kept.as_mut()?.entries.drain(max))
    }
}
