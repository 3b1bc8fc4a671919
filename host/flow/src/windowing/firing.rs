//! Firing panes: those whose time has come, those that have enough rows, those that got late ones.

use arrow_array::ArrayRef;

use super::Windowing;
use super::definition::{Assigner, Mode, Timing, Trigger};
use super::kept::KeptRows;
use super::pane::{
    Notes, Purpose, notes_columns, read_notes, read_timer_name, row_hash, row_key, timer_name,
};
use super::stretch::taken;
use crate::aggregation::Rows;
use crate::key::Keys;
use crate::storage::{Storage, StorageError};
use crate::table::Slot;
use crate::timers::{Clock, Due};
use crate::window::Bounds;

/// Groups that are finished, to be handed to the operator. There may be none: then something was only cleaned up.
#[derive(Debug, Default)]
pub struct Firing {
    /// Their keys.
    pub keys: Keys,
    /// The bounds of their windows, where they have any.
    pub bounds: Vec<Option<Bounds>>,
    /// The number of this firing among those of its window, from 1.
    pub numbers: Vec<i64>,
    /// Where it stands among them.
    pub timings: Vec<Timing>,
    /// Their accumulators.
    pub accumulators: Vec<ArrayRef>,
    /// Their rows, where these are kept; then there are no accumulators.
    pub rows: KeptRows,
    /// How many windows took no more rows from here on, with rows that no firing will have.
    pub unfired: u64,
}

impl Firing {
    /// The number of groups.
    pub fn groups(&self) -> usize {
        self.timings.len()
    }
}

/// Why a pane is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// Its timer was due, and is no longer set.
    Due(Purpose, i64),
    /// It may have enough rows; whether its end had come before the last of them.
    Filled { is_over: bool },
    /// It has more rows after its end.
    Late,
}

impl Why {
    fn is_early(self) -> bool {
        matches!(self, Self::Due(Purpose::Early, _))
    }
}

/// Panes that wait to be looked at.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    keys: Keys,
    panes: Vec<(u64, i64, Why)>,
    next: usize,
}

impl Waiting {
    pub(super) fn push(&mut self, key: &[u8], hash: u64, start: i64, why: Why) {
        self.keys.push(key);
        self.panes.push((hash, start, why));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.panes.is_empty()
    }

    /// The next panes, at most `max`.
    fn take(&mut self, max: usize) -> Vec<Fired<'_>> {
        let range = self.next..self.panes.len().min(self.next + max);
        self.next = range.end;
        let of = |at: usize| {
            let (hash, start, why) = self.panes[at];
            Fired { key: self.keys.key(at), hash, start, why }
        };
        range.map(of).collect()
    }
}

/// A pane to look at.
#[derive(Clone, Copy, Debug)]
struct Fired<'a> {
    key: &'a [u8],
    hash: u64,
    start: i64,
    why: Why,
}

/// What becomes of a pane.
#[derive(Clone, Copy, Debug, Default)]
struct Outcome {
    fires: Option<Timing>,
    /// It takes no more rows.
    is_gone: bool,
}

impl Windowing {
    /// What has become due on either clock: at most `max` groups. There is more as long as something
    /// [is due](Self::is_due).
    ///
    /// # Errors
    /// When the storage can't be read, or what stands in it is no row.
    pub fn due(&mut self, max: usize, storage: &dyn Storage) -> Result<Firing, StorageError> {
        // Ends before early firings: those of a window that has ended are no longer wanted.
        let other = if self.definition.time == Clock::Event { Clock::Processing } else { Clock::Event };
        let clocks = [self.definition.time, other];
        let clock = clocks.into_iter().find(|&clock| self.has_due(clock)).unwrap_or(other);
        let due = self.timers.all_due(clock, self.time_of(clock), max);
        self.fire_due(&due, storage)
    }

    /// As [`due`](Self::due), but only of the keys of the rows from `from` on. `None`: nothing is due of these.
    ///
    /// # Errors
    /// When the storage can't be read, or what stands in it is no row.
    pub fn due_of(
        &mut self,
        rows: &Rows<'_>,
        from: usize,
        max: usize,
        storage: &dyn Storage,
    ) -> Result<Option<Firing>, StorageError> {
        let clock = self.definition.time;
        let keys = (from..rows.keys.hashes().len()).map(|row| (rows.keys.hashes()[row], rows.keys.key(row)));
        let due = self.timers.due_of(clock, self.time_of(clock), keys, max);
        if due.is_empty() { Ok(None) } else { self.fire_due(&due, storage).map(Some) }
    }

    fn fire_due(&mut self, due: &Due, storage: &dyn Storage) -> Result<Firing, StorageError> {
        let mut fired = Vec::with_capacity(due.len());
        for (at, (name, &time)) in due.names.iter().zip(&due.at).enumerate() {
            let pane = name.and_then(read_timer_name);
            let Some((purpose, start)) = pane else {
                return Err(StorageError(format!(
                    "{name:?} is no timer of a window; restore from another checkpoint"
                )));
            };
            let key = due.keys.key(at);
            fired.push(Fired { key, hash: due.keys.hashes()[at], start, why: Why::Due(purpose, time) });
        }
        self.fire(&fired, storage)
    }

    /// What has enough rows now: at most `max` groups. `None`: there is no more.
    ///
    /// # Errors
    /// When the storage can't be read, or what stands in it is no row.
    pub fn filled(&mut self, max: usize, storage: &dyn Storage) -> Result<Option<Firing>, StorageError> {
        let mut waiting = std::mem::take(&mut self.filled);
        let firing = self.fire_waiting(&mut waiting, max, storage)?;
        self.filled = waiting;
        Ok(firing)
    }

    /// Windows that have got rows after their end: at most `max` groups. `None`: there is no more.
    ///
    /// # Errors
    /// When the storage can't be read, or what stands in it is no row.
    pub fn late(&mut self, max: usize, storage: &dyn Storage) -> Result<Option<Firing>, StorageError> {
        let mut waiting = std::mem::take(&mut self.late);
        let firing = self.fire_waiting(&mut waiting, max, storage)?;
        self.late = waiting;
        Ok(firing)
    }

    fn fire_waiting(
        &mut self,
        waiting: &mut Waiting,
        max: usize,
        storage: &dyn Storage,
    ) -> Result<Option<Firing>, StorageError> {
        let fired = waiting.take(max.max(1));
        if fired.is_empty() {
            *waiting = Waiting::default();
            return Ok(None);
        }
        self.fire(&fired, storage).map(Some)
    }

    /// Looks at panes, and fires those that are to fire.
    fn fire(&mut self, fired: &[Fired<'_>], storage: &dyn Storage) -> Result<Firing, StorageError> {
        let (mut slots, mut firsts, mut buffer) = (Vec::new(), Vec::<Fired<'_>>::new(), Vec::new());
        self.panes.begin();
        for pane in fired {
            let key = row_key(pane.key, pane.start, &mut buffer);
            let number = self.panes.number_of(row_hash(pane.hash, pane.start), key, &mut slots);
            // One that is there twice is looked at once, for its end rather than for an early firing.
            match firsts.get_mut(number as usize) {
                Some(first) if first.why.is_early() => *first = *pane,
                Some(_) => {}
                None => firsts.push(*pane),
            }
        }
        self.panes.load(&slots, storage)?;
        let mut columns = self.panes.gather(&slots);
        let notes = read_notes(&columns.split_off(self.layout.own()), slots.len());
        let mut firing = Firing::default();
        let (mut emitted, mut changed, mut gone) = (Vec::new(), Vec::new(), Vec::new());
        // Of those that fire, and of those whose rows go, the window as it is filed.
        let (mut windows, mut done) = (Vec::new(), Vec::new());
        for (at, pane) in firsts.iter().enumerate() {
            let present = self.panes.is_present(slots[at]).then_some(notes[at]);
            let timer = self.window_timer(pane.hash, pane.key, pane.start);
            let outcome = self.outcome(pane, timer, present.as_ref());
            if let (Some(timing), Some(notes)) = (outcome.fires, present) {
                emitted.push(super::assign::index(at));
                firing.keys.push(pane.key);
                windows.push(self.window(pane, timer));
                firing.bounds.push(self.bounds(pane, timer, &notes));
                firing.numbers.push(notes.firings.saturating_add(1));
                firing.timings.push(timing);
                self.cancel_early(pane);
            }
            if outcome.is_gone || (outcome.fires.is_some() && self.definition.mode == Mode::Discarding) {
                done.push((pane.hash, pane.key, self.window(pane, timer)));
            }
            if outcome.is_gone {
                let unfired = outcome.fires.is_none() && present.is_some_and(|notes| notes.new > 0);
                firing.unfired += u64::from(unfired);
                gone.push(slots[at]);
                self.forget_timers(pane);
            } else if outcome.fires.is_some() {
                changed.push(super::assign::index(at));
            }
        }
        if self.layout.keeps_rows() {
            firing.rows = self.kept_rows(&firing.keys, &windows, storage)?;
            for (hash, key, window) in done {
                self.drop_rows(hash, key, &window, storage)?;
            }
        } else {
            firing.accumulators = taken(&columns, &emitted);
        }
        self.note_fired(&changed, &slots, &columns, &notes);
        self.panes.remove(&gone);
        Ok(firing)
    }

    /// What becomes of a pane; `timer` is the one of its end that is set, `notes` are those of its row, if it has one.
    fn outcome(&mut self, pane: &Fired<'_>, timer: Option<(Purpose, i64)>, notes: Option<&Notes>) -> Outcome {
        let clock = self.time_of(self.definition.time);
        let new = notes.map_or(0, |notes| notes.new);
        let accumulates = self.definition.mode == Mode::Accumulating;
        match pane.why {
            Why::Due(Purpose::Complete, at) => {
                let fires = notes.is_some_and(|_| accumulates || new > 0).then_some(Timing::OnTime);
                let cleanup = self.definition.cleanup(self.definition.end_at(at));
                let is_gone = notes.is_none() || cleanup <= clock;
                if !is_gone {
                    let name = timer_name(Purpose::CleanUp, pane.start);
                    self.timers.set(self.definition.time, pane.hash, pane.key, &name, cleanup);
                    self.cancel_early(pane);
                }
                Outcome { fires, is_gone }
            }
            Why::Due(Purpose::CleanUp, _) => {
                let is_left = new > 0 && matches!(self.definition.trigger, Trigger::Completion { .. });
                Outcome { fires: is_left.then_some(Timing::Late), is_gone: true }
            }
            Why::Due(Purpose::Early, _) => {
                // A window that has ended meanwhile fires for that.
                let is_open = matches!(timer, Some((Purpose::Complete, at)) if at > clock);
                Outcome { fires: (is_open && new > 0).then_some(Timing::Early), is_gone: false }
            }
            Why::Filled { is_over } => {
                let is_full = self.definition.rows_limit().is_some_and(|limit| new.unsigned_abs() >= limit);
                if self.definition.is_count() {
                    return Outcome { fires: is_full.then_some(Timing::OnTime), is_gone: is_full };
                }
                let timing = if is_over { Timing::Late } else { Timing::Early };
                Outcome { fires: is_full.then_some(timing), is_gone: false }
            }
            Why::Late => {
                // A session may have been extended since, so that its end is still to come.
                let is_over = matches!(timer, Some((Purpose::CleanUp, _)));
                Outcome { fires: (is_over && new > 0).then_some(Timing::Late), is_gone: false }
            }
        }
    }

    /// The bounds that results have.
    fn bounds(&self, pane: &Fired<'_>, timer: Option<(Purpose, i64)>, notes: &Notes) -> Option<Bounds> {
        match self.definition.assigner {
            Assigner::Global => None,
            Assigner::Count { .. } => {
                (notes.first <= notes.last).then(|| Bounds { start: notes.first, end: notes.last + 1 })
            }
            _ => Some(self.window(pane, timer)),
        }
    }

    /// The bounds by which a pane is filed; `timer` is the one of its end that is set.
    fn window(&self, pane: &Fired<'_>, timer: Option<(Purpose, i64)>) -> Bounds {
        let end = match (pane.why, timer) {
            (Why::Due(purpose @ (Purpose::Complete | Purpose::CleanUp), at), _) => self.end_by((purpose, at)),
            (_, Some(timer)) => self.end_by(timer),
            (_, None) => pane.start,
        };
        Bounds { start: pane.start, end }
    }

    /// The end of a window by its timer.
    pub(super) fn end_by(&self, (purpose, at): (Purpose, i64)) -> i64 {
        match purpose {
            Purpose::CleanUp => self.definition.end_of_cleanup(at),
            Purpose::Complete | Purpose::Early => self.definition.end_at(at),
        }
    }

    /// Panes that have fired and stay have one firing more, no new rows, and an empty accumulator if they discard it.
    fn note_fired(&mut self, changed: &[u32], slots: &[Slot], columns: &[ArrayRef], notes: &[Notes]) {
        if changed.is_empty() {
            return;
        }
        let slots: Vec<Slot> = changed.iter().map(|&at| slots[at as usize]).collect();
        let fired = |&at: &u32| {
            let notes = notes[at as usize];
            Notes { firings: notes.firings.saturating_add(1), new: 0, ..notes }
        };
        let mut columns = match self.definition.mode {
            Mode::Accumulating => taken(columns, changed),
            Mode::Discarding => self.layout.initial(changed.len()),
        };
        columns.extend(notes_columns(&changed.iter().map(fired).collect::<Vec<_>>()));
        self.panes.store(&slots, &columns);
    }

    fn forget_timers(&mut self, pane: &Fired<'_>) {
        for purpose in [Purpose::Complete, Purpose::CleanUp] {
            self.timers.cancel(self.definition.time, pane.hash, pane.key, &timer_name(purpose, pane.start));
        }
        self.cancel_early(pane);
    }

    fn cancel_early(&mut self, pane: &Fired<'_>) {
        self.timers.cancel(Clock::Processing, pane.hash, pane.key, &timer_name(Purpose::Early, pane.start));
    }
}
