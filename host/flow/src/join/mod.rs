//! Joins of two inputs by key: which rows meet, when a row can meet no other any more, and what is kept until then.
//!
//! There are three. In a [`Window`](On::Window) join all rows of a key that are in one window meet, when the window
//! ends. In an [`Interval`](On::Interval) join rows meet whose times are as far apart as the interval says, as soon as
//! the second of them has come. In a [`Table`](On::Table) join a row of the left side meets the version of its key's
//! row on the right that was valid at its time.
//!
//! # How it is used
//!
//! For each batch of one side: [`arrive`](Join::arrive), then [`next_pairs`](Join::next_pairs) until it gives none; if
//! the batch wasn't taken to its end, time has to [`advance`](Join::advance) before the rest. For a watermark: `advance`,
//! then [`next_due`](Join::next_due) until it says that this was all; then time has come to
//! [`reached`](Join::reached) for whoever reads the results. Batches, barriers, eviction may come between two calls of
//! `next_due`.
//!
//! # Late
//!
//! A row is late when the watermark before it says that it can't be joined any more: its window has ended; as the row
//! of an interval join it wouldn't be kept any more; its table has forgotten what was valid at its time. A row that is
//! only behind the watermark is joined with what is there. This is decided row by row, so no result depends on how
//! rows were cut into batches.
//!
//! # Alone
//!
//! In a left or full join a row that has met none is told once, when none can come any more, with its own time (in a
//! window join that of the window). So that it isn't late for whoever reads it, time goes on behind the join only as far
//! as no such row can follow: [`reached`](Join::reached).

mod arrival;
mod buffers;
mod interval;
mod layout;
mod pairs;
mod shown;
mod table;
#[cfg(test)]
mod tests;
mod window;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use arrow_array::ArrayRef;

use crate::aggregation::Rows;
use crate::storage::{Addresses, Storage, StorageError, Writes};
use crate::watermark::{WATERMARK_MAX, WATERMARK_MIN};
use crate::window::Windows;
pub use arrival::{Arrival, Late};
use buffers::Buffers;
use interval::Interval;
pub use layout::{Layout, side_of};
use pairs::Builder;
pub use pairs::Pairs;
pub use shown::{Form, Kept};
use table::Versioned;
use window::Windowed;

/// Pairs that are given to the operator at once, at most: as many as a batch has rows.
pub const PAIRS_MAX: usize = if cfg!(test) { 8 } else { crate::batch::BATCH_ROWS_MAX };

/// Entries that are looked at in a call of [`Join::next_due`], about: some milliseconds.
const WORK_MAX: usize = if cfg!(test) { 5 } else { 4096 };

/// An input of a join.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// The first.
    Left,
    /// The second.
    Right,
}

impl Side {
    /// Both, in the order of their numbers.
    pub const BOTH: [Side; 2] = [Self::Left, Self::Right];

    /// The side that rows of this one meet.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Left => Self::Right,
            Self::Right => Self::Left,
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Left => "left",
            Self::Right => "right",
        })
    }
}

/// What becomes of rows that meet none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nothing.
    Inner,
    /// Those of the left side go on alone.
    Left,
    /// Those of both sides go on alone.
    Full,
}

impl Kind {
    /// Whether rows of a side go on alone.
    pub fn keeps(self, side: Side) -> bool {
        match self {
            Self::Inner => false,
            Self::Left => side == Side::Left,
            Self::Full => true,
        }
    }

    /// The name that pipeline files use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Inner => "inner",
            Self::Left => "left",
            Self::Full => "full",
        }
    }
}

/// Which rows of a key meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    /// Those in one window of event time.
    Window(Windows),
    /// Those whose time on the right is later than that on the left by so many milliseconds, in event time.
    Interval {
        /// At least.
        lower_ms: i64,
        /// At most.
        upper_ms: i64,
    },
    /// A row of the left side meets the version that was valid at its time. Rows of the right side are versions.
    Table {
        /// How long a row of the left side waits for versions that are behind the watermark, in milliseconds of
        /// event time.
        grace_ms: i64,
        /// How long a version is kept beyond its end, in milliseconds of event time; at least as long as rows wait.
        versions_ms: i64,
        /// The column of the right side, boolean, that says that a row removes its key.
        delete_when: Option<usize>,
    },
}

/// What is joined, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spec {
    /// What becomes of rows that meet none.
    pub kind: Kind,
    /// Which rows meet.
    pub on: On,
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.kind.name();
        match &self.on {
            On::Window(windows) => write!(f, "{kind} window join: {windows}"),
            On::Interval { lower_ms, upper_ms } => {
                write!(f, "{kind} interval join: from {lower_ms} ms to {upper_ms} ms")
            }
            On::Table { grace_ms, versions_ms, .. } => {
                write!(f, "{kind} table join: {grace_ms} ms of grace, versions of {versions_ms} ms")
            }
        }
    }
}

/// One task's part of a join.
#[derive(Debug)]
pub struct Join {
    layout: Arc<Layout>,
    kind: Kind,
    on: Machine,
    buffers: Buffers,
    watermark: i64,
}

#[derive(Debug)]
enum Machine {
    Window(Windowed),
    Interval(Interval),
    Table(Versioned),
}

/// What a call of [`Join::next_due`] has come to.
#[derive(Debug)]
pub enum Due {
    /// Pairs for the operator; there may be more.
    Pairs(Box<Pairs>),
    /// Some work, without pairs; there may be more.
    Worked,
    /// Nothing is due any more.
    Nothing,
}

impl Join {
    /// Nothing kept yet, for the keys in these key groups.
    ///
    /// # Panics
    /// When the windows are global, a full join is one with a table, or a duration is negative: the check refuses
    /// that.
    pub fn new(spec: Spec, layout: Arc<Layout>, addresses: Addresses, groups: Range<u32>) -> Self {
        Self::over(spec, layout, Buffers::new(addresses, groups))
    }

    /// What a storage has for these key groups, at a watermark. Rows are read as they are needed.
    ///
    /// # Errors
    /// When the storage can't be read, or what stands there is damaged.
    pub fn restore(
        spec: Spec,
        layout: Arc<Layout>,
        addresses: Addresses,
        groups: Range<u32>,
        storage: &dyn Storage,
        watermark: i64,
    ) -> Result<Self, StorageError> {
        let mut join = Self::over(spec, layout, Buffers::restore(addresses, groups, storage)?);
        join.watermark = watermark;
        Ok(join)
    }

    fn over(spec: Spec, layout: Arc<Layout>, buffers: Buffers) -> Self {
        let on = match spec.on {
            On::Window(windows) => Machine::Window(Windowed::new(windows)),
            On::Interval { lower_ms, upper_ms } => Machine::Interval(Interval::new(lower_ms, upper_ms)),
            On::Table { grace_ms, versions_ms, delete_when } => {
                assert!(spec.kind != Kind::Full, "a full join with a table");
                Machine::Table(Versioned::new(grace_ms, versions_ms, delete_when))
            }
        };
        Self { layout, kind: spec.kind, on, buffers, watermark: WATERMARK_MIN }
    }

    /// How far event time has come.
    pub fn watermark(&self) -> i64 {
        self.watermark
    }

    /// Takes in the rows of a side from `from` on, up to one before which time has to advance. `columns` are the
    /// side's fields.
    ///
    /// # Panics
    /// When the rows have no times: the plan refuses that.
    pub fn arrive(&mut self, side: Side, rows: &Rows<'_>, columns: &[ArrayRef], from: usize) -> Arrival {
        let mut batch = arrival::Batch::new(side, rows, columns, from, self.watermark);
        match self.on {
            // Which rows see each other is a matter of their own times and watermarks.
            Machine::Interval(_) => {}
            // What is due hasn't seen a version that comes now.
            Machine::Table(_) if side == Side::Right && self.has_due() => batch.wait(),
            Machine::Table(_) | Machine::Window(_) => batch.cut(|watermark| self.is_due_by(watermark)),
        }
        match &mut self.on {
            Machine::Window(windowed) => windowed.arrive(batch, &self.layout, &mut self.buffers),
            Machine::Interval(interval) => interval.arrive(batch, &self.layout),
            Machine::Table(table) => table.arrive(batch, &self.layout, &mut self.buffers),
        }
    }

    /// The next pairs that come of rows that have arrived.
    ///
    /// # Errors
    /// When the storage can't be read, or what stands there is damaged.
    pub fn next_pairs(
        &mut self,
        arrival: &mut Arrival,
        storage: &dyn Storage,
    ) -> Result<Option<Pairs>, StorageError> {
        let buffers = &mut self.buffers;
        match &self.on {
            Machine::Window(_) => Ok(None),
            Machine::Interval(interval) => {
                interval.next_pairs(self.kind, arrival, &self.layout, buffers, storage)
            }
            Machine::Table(table) => table.next_pairs(self.kind, arrival, &self.layout, buffers, storage),
        }
    }

    /// Event time has come to a watermark.
    pub fn advance(&mut self, watermark: i64) {
        self.watermark = self.watermark.max(watermark);
    }

    /// Does some of what is due by now: a few milliseconds of work, and [`PAIRS_MAX`] pairs at most.
    ///
    /// # Errors
    /// When the storage can't be read, or what stands there is damaged.
    pub fn next_due(&mut self, storage: &dyn Storage) -> Result<Due, StorageError> {
        if !self.has_due() {
            return Ok(Due::Nothing);
        }
        let (layout, buffers) = (&self.layout, &mut self.buffers);
        let (mut builder, mut work, mut from) = (Builder::default(), 0, buffers.groups().start);
        while !builder.is_full() && work < WORK_MAX {
            let Some(group) = buffers.group_due(from, self.watermark) else { break };
            let context = Context { kind: self.kind, group, watermark: self.watermark, storage };
            let done = match &self.on {
                Machine::Window(windowed) => windowed.fire(&context, buffers, &mut builder)?,
                Machine::Interval(interval) => interval.expire(&context, buffers, &mut builder)?,
                Machine::Table(table) => table.due(&context, buffers, &mut builder)?,
            };
            work += done;
            if done == 0 {
                from = group + 1;
            }
        }
        match builder.finish(layout)? {
            Some(pairs) => Ok(Due::Pairs(Box::new(pairs))),
            None if work > 0 => Ok(Due::Worked),
            None => Ok(Due::Nothing),
        }
    }

    /// Whether something is due, perhaps.
    pub fn has_due(&self) -> bool {
        self.watermark > WATERMARK_MIN && self.is_due_by(self.watermark)
    }

    fn is_due_by(&self, watermark: i64) -> bool {
        self.buffers.group_due(self.buffers.groups().start, watermark).is_some()
    }

    /// How far time has come for whoever reads the results, when nothing is due any more: no pair that follows is
    /// behind it, except of a row that was.
    pub fn reached(&self) -> i64 {
        if matches!(self.watermark, WATERMARK_MIN | WATERMARK_MAX) {
            return self.watermark;
        }
        let behind_ms = match &self.on {
            Machine::Window(_) => 0,
            Machine::Interval(interval) => interval.kept_ms(self.kind),
            Machine::Table(table) => table.grace_ms(),
        };
        self.watermark.saturating_sub(behind_ms)
    }

    /// About how many bytes of memory it takes.
    pub fn bytes(&self) -> usize {
        self.buffers.bytes()
    }

    /// Takes a step, of some milliseconds at most, towards `bytes_max`: drops rows, and returns those that have to be
    /// written first. `None`: there is nothing to drop. Only for when no checkpoint is open, from the barrier until its
    /// files are taken.
    ///
    /// # Panics
    /// While something frozen is still to be drained.
    pub fn spill(&mut self, bytes_max: usize) -> Option<Writes> {
        self.buffers.spill(bytes_max)
    }

    /// Freezes what is kept as it is, for a checkpoint; [`drain`](Self::drain) then says what has to be written for it.
    pub fn freeze(&mut self) {
        self.buffers.freeze();
    }

    /// The next writes that the storage needs to have the state as it was frozen: at most `max`, and about 4 MiB. They
    /// have to be applied before anything else is read. `None` says that there are no more.
    pub fn drain(&mut self, max: usize) -> Option<Writes> {
        self.buffers.drain(max)
    }
}

/// A key group in which something is due.
struct Context<'a> {
    kind: Kind,
    group: u32,
    watermark: i64,
    storage: &'a dyn Storage,
}

/// Whether what was kept until a time is past at a watermark.
fn is_past(until: i64, watermark: i64) -> bool {
    watermark != WATERMARK_MIN && until <= watermark
}
