//! Which panes the rows of a batch belong to, and which are late. Sessions have a file of their own.

use super::definition::{Assigner, Trigger};
use super::pane::{Purpose, read_notes, row_hash, row_key, timer_name};
use super::stretch::{Group, Stretch};
use super::{Windowing, definition::Definition};
use crate::aggregation::Rows;
use crate::batch::BATCH_ROWS_MAX;
use crate::storage::{Storage, StorageError};
use crate::table::Slot;
use crate::timers::Clock;
use crate::watermark::WATERMARK_MIN;
use crate::window::Bounds;

/// Where windows fire after so many rows, so many rows are looked at in one go: the counts of all their panes are read
/// first, and a firing in between makes that in vain.
const COUNTED_ROWS: usize = 512;

/// What becomes of a run of rows.
#[derive(Debug)]
pub struct Assigned {
    /// The rows up to this one have been dealt with. If it isn't the last, what they
    /// [filled](Windowing::filled) has to fire, then time has come to [`fire_first`](Self::fire_first), and then what
    /// is [due](Windowing::due_of) has to fire before the rest is assigned.
    pub until: usize,
    /// The watermark that stands between the rows before `until` and those after.
    pub fire_first: i64,
    /// Rows that come too late for every window that they are in.
    pub late: Vec<LateRow>,
    /// How many of the others come too late for some of their windows.
    pub partly_late: u64,
    /// The rows to fold.
    pub stretch: Stretch,
}

/// A row that comes too late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LateRow {
    /// The row.
    pub row: u32,
    /// By how much, in milliseconds, the watermark had passed the last instant of its last window.
    pub late_by_ms: i64,
}

impl Assigned {
    pub(super) fn new(until: usize, fire_first: i64) -> Self {
        Self { until, fire_first, late: Vec::new(), partly_late: 0, stretch: Stretch::default() }
    }

    pub(super) fn add_late(&mut self, row: usize, end: i64, definition: &Definition, clock: i64) {
        let late_by_ms = clock.saturating_sub(definition.instant(end));
        self.late.push(LateRow { row: index(row), late_by_ms });
    }

    /// The rest waits for firings: those at the watermark that the clock shows, if the windows go by that.
    pub(super) fn stop_before(&mut self, row: usize, clock: i64, definition: &Definition) {
        self.until = row;
        if definition.time == Clock::Event {
            self.fire_first = clock;
        }
    }
}

/// A pane that rows of a batch are in, at its number in the table's batch.
#[derive(Clone, Debug)]
struct Known {
    /// Its timer; none: there is no such pane yet.
    timer: Option<i64>,
    new: u64,
    group: Option<u32>,
}

impl Windowing {
    /// Assigns the rows from `from` on to panes, up to one that some firing must precede, and makes their
    /// accumulators ready.
    ///
    /// # Errors
    /// When the storage can't be read, or what stands in it is no row.
    ///
    /// # Panics
    /// When the windows are of event time and the rows have none: the plan refuses that.
    pub fn assign(
        &mut self,
        rows: &Rows<'_>,
        from: usize,
        storage: &dyn Storage,
    ) -> Result<Assigned, StorageError> {
        assert!(self.filled.is_empty(), "what is filled fires before the next rows come");
        let count = rows.keys.hashes().len();
        let limit = self.definition.rows_limit();
        let horizon = limit.map_or(count, |_| count.min(from + COUNTED_ROWS));
        self.panes.begin();
        match self.definition.assigner {
            Assigner::Session { gap_ms } => self.assign_to_sessions(rows, from..horizon, gap_ms, storage),
            _ => self.assign_to_fixed(rows, from..horizon, storage),
        }
    }

    fn assign_to_fixed(
        &mut self,
        rows: &Rows<'_>,
        range: std::ops::Range<usize>,
        storage: &dyn Storage,
    ) -> Result<Assigned, StorageError> {
        let (from, limit) = (range.start, self.definition.rows_limit());
        let mut assigned = Assigned::new(range.end, self.watermark);
        let (mut windows, mut open, mut buffer) = (Vec::new(), Vec::new(), Vec::new());
        let mut slots: Vec<Slot> = Vec::new();
        let mut known: Vec<Known> = Vec::new();
        if limit.is_some() {
            for row in range.clone() {
                self.definition.assigner.windows(self.time_of_row(rows, row), &mut windows);
                for window in &windows {
                    self.look_at(rows, row, window, &mut slots, &mut known, &mut buffer);
                }
            }
            self.panes.load(&slots, storage)?;
            let notes = read_notes(&self.panes.gather(&slots)[self.layout.own()..], slots.len());
            known.iter_mut().zip(notes).for_each(|(k, n)| k.new = n.new.unsigned_abs());
        }
        'rows: for row in range {
            let clock = self.clock_before(rows, row);
            self.definition.assigner.windows(self.time_of_row(rows, row), &mut windows);
            open.clear();
            open.extend(windows.iter().copied().filter(|w| self.definition.cleanup(w.end) > clock));
            if open.is_empty() {
                let end = windows.last().map_or(i64::MAX, |w| w.end);
                assigned.add_late(row, end, &self.definition, clock);
                continue;
            }
            let passed = windows.iter().filter(|w| self.definition.cleanup(w.end) <= clock);
            if self.layout.keeps_rows() && self.has_timer_due(rows, row, passed, clock) {
                // They would find the row among theirs.
                assigned.stop_before(row, clock, &self.definition);
                break;
            }
            let first = assigned.stretch.row_numbers.len();
            if first > 0 && first + open.len() > BATCH_ROWS_MAX {
                assigned.until = row;
                break;
            }
            for window in &open {
                let number = self.look_at(rows, row, window, &mut slots, &mut known, &mut buffer);
                let pane = &known[number as usize];
                let is_full = row > from
                    && self.fires_by_rows(window.end, clock)
                    && limit.is_some_and(|l| pane.new >= l);
                if is_full || pane.timer.is_some_and(|at| at <= clock) {
                    assigned.stretch.row_numbers.truncate(first);
                    assigned.stop_before(row, clock, &self.definition);
                    break 'rows;
                }
                assigned.stretch.row_numbers.push((index(row), number));
            }
            assigned.partly_late += u64::from(open.len() < windows.len());
            for (at, window) in open.iter().enumerate() {
                let (_, number) = assigned.stretch.row_numbers[first + at];
                let pane = &mut known[number as usize];
                pane.new += 1;
                if let Some(group) = pane.group {
                    let is_over = self.definition.instant(window.end) <= clock;
                    assigned.stretch.groups[group as usize].is_over = is_over;
                } else {
                    pane.group = Some(index(assigned.stretch.groups.len()));
                    let group = self.begin_group(rows, row, *window, slots[number as usize], clock);
                    assigned.stretch.add_group(rows.keys.key(row), group);
                    if known[number as usize].timer.is_none() {
                        known[number as usize].timer = Some(self.set_window_timer(rows, row, window, clock));
                    }
                }
            }
        }
        self.panes.load(&slots, storage)?;
        assigned.stretch.settle(|number| known[number as usize].group);
        self.note_times(rows, &mut assigned.stretch);
        Ok(assigned)
    }

    /// Whether one of these windows of a row's key is still to fire or to be cleaned up.
    fn has_timer_due<'a>(
        &self,
        rows: &Rows<'_>,
        row: usize,
        mut windows: impl Iterator<Item = &'a Bounds>,
        clock: i64,
    ) -> bool {
        let (hash, key) = (rows.keys.hashes()[row], rows.keys.key(row));
        windows.any(|w| self.window_timer(hash, key, w.start).is_some_and(|(_, at)| at <= clock))
    }

    /// The number of a pane in the table's batch.
    fn look_at(
        &mut self,
        rows: &Rows<'_>,
        row: usize,
        window: &Bounds,
        slots: &mut Vec<Slot>,
        known: &mut Vec<Known>,
        buffer: &mut Vec<u8>,
    ) -> u32 {
        let (hash, key) = (rows.keys.hashes()[row], rows.keys.key(row));
        let row_hash = row_hash(hash, window.start);
        let number = self.panes.number_of(row_hash, row_key(key, window.start, buffer), slots);
        if number as usize == known.len() {
            let timer = self.window_timer(hash, key, window.start).map(|(_, at)| at);
            known.push(Known { timer, new: 0, group: None });
        }
        number
    }

    /// The timer of a pane that says when its window ends, or is to be cleaned up.
    pub(super) fn window_timer(&self, hash: u64, key: &[u8], start: i64) -> Option<(Purpose, i64)> {
        [Purpose::Complete, Purpose::CleanUp].into_iter().find_map(|purpose| {
            let at = self.timers.get(self.definition.time, hash, key, &timer_name(purpose, start))?;
            Some((purpose, at))
        })
    }

    fn set_window_timer(&mut self, rows: &Rows<'_>, row: usize, window: &Bounds, clock: i64) -> i64 {
        let (purpose, at) = self.next_of_window(window.end, clock);
        let (hash, key) = (rows.keys.hashes()[row], rows.keys.key(row));
        self.timers.set(self.definition.time, hash, key, &timer_name(purpose, window.start), at);
        at
    }

    /// What comes next for a window with this end.
    pub(super) fn next_of_window(&self, end: i64, clock: i64) -> (Purpose, i64) {
        let instant = self.definition.instant(end);
        let fires_at_end = matches!(self.definition.trigger, Trigger::Completion { .. });
        if fires_at_end && instant > clock {
            (Purpose::Complete, instant)
        } else {
            (Purpose::CleanUp, self.definition.cleanup(end))
        }
    }

    fn begin_group(&self, rows: &Rows<'_>, row: usize, window: Bounds, slot: Slot, clock: i64) -> Group {
        let is_over = self.definition.instant(window.end) <= clock;
        Group { slot, hash: rows.keys.hashes()[row], start: window.start, is_over }
    }

    /// Whether a window with this end fires for its number of rows.
    pub(super) fn fires_by_rows(&self, end: i64, clock: i64) -> bool {
        matches!(self.definition.trigger, Trigger::Rows(_)) || self.definition.instant(end) > clock
    }

    /// Notes what the times of a stretch's rows are needed for.
    pub(super) fn note_times(&self, rows: &Rows<'_>, stretch: &mut Stretch) {
        if self.definition.is_count() {
            stretch.note_times(rows.times);
        }
        if self.layout.keeps_rows() {
            stretch.filed = stretch.rows.iter().map(|&row| self.time_of_row(rows, row as usize)).collect();
        }
    }

    /// The time by which a row is filed.
    pub(super) fn time_of_row(&self, rows: &Rows<'_>, row: usize) -> i64 {
        match (self.definition.time, &self.definition.assigner, rows.times) {
            (Clock::Processing, ..) => self.now,
            (Clock::Event, _, Some(times)) => times[row],
            (Clock::Event, Assigner::Count { .. } | Assigner::Global, None) => 0,
            (Clock::Event, _, None) => panic!("windows of event time over rows without times"),
        }
    }

    /// How far the clock of the windows had come before a row.
    pub(super) fn clock_before(&self, rows: &Rows<'_>, row: usize) -> i64 {
        match self.definition.time {
            Clock::Event => self.watermark.max(rows.watermarks.map_or(WATERMARK_MIN, |w| w[row])),
            Clock::Processing => self.now,
        }
    }
}

pub(super) fn index(row: usize) -> u32 {
    u32::try_from(row).expect("a batch has fewer than 2^32 rows in windows")
}
