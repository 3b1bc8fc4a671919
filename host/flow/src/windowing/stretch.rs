//! A stretch of rows on its way into the accumulators of their panes: sessions that became one are merged, rows are
//! folded, and what that makes ready to fire is noted.

use arrow_array::{ArrayRef, UInt32Array};

use super::definition::{Mode, Trigger};
use super::pane::{Notes, Purpose, notes_columns, read_notes, timer_name};
use super::{Windowing, firing::Why};
use crate::key::Keys;
use crate::table::Slot;
use crate::timers::Clock;

/// Rows to fold into the accumulators of panes.
#[derive(Debug, Default)]
pub struct Stretch {
    /// The rows, in order; one that is in several windows is there several times.
    pub rows: Vec<u32>,
    /// For each of them its group, from 0.
    pub group_of: Vec<u32>,
    /// Rows and the numbers under which they were assigned, until the groups are known.
    pub(super) row_numbers: Vec<(u32, u32)>,
    pub(super) groups: Vec<Group>,
    keys: Keys,
    /// What is to be merged into which group: in each round a group is there once.
    rounds: Vec<Vec<(u32, Slot)>>,
    /// The rounds that are done, and what of the next one.
    round: usize,
    within_round: usize,
    /// The times by which `rows` are filed.
    pub(super) filed: Vec<i64>,
    /// The event times of `rows`, where a window's bounds are made of them.
    times: Option<Vec<i64>>,
}

/// A pane that rows are folded into.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group {
    pub(super) slot: Slot,
    /// Of the key.
    pub(super) hash: u64,
    pub(super) start: i64,
    /// The window's end had come before the rows.
    pub(super) is_over: bool,
}

/// Accumulators to merge, pair by pair.
#[derive(Debug)]
pub struct Merge {
    groups: Vec<u32>,
    notes: Vec<Notes>,
    /// Those of the sessions that began earlier.
    pub left: Vec<ArrayRef>,
    /// Those of the later ones.
    pub right: Vec<ArrayRef>,
}

impl Merge {
    /// The number of pairs.
    pub fn groups(&self) -> usize {
        self.groups.len()
    }
}

impl Stretch {
    /// The number of groups.
    pub fn groups(&self) -> usize {
        self.groups.len()
    }

    pub(super) fn add_group(&mut self, key: &[u8], group: Group) {
        self.keys.push(key);
        self.groups.push(group);
    }

    /// Has the row at a slot merged into a group.
    pub(super) fn join(&mut self, round: usize, group: u32, slot: Slot) {
        if self.rounds.len() == round {
            self.rounds.push(Vec::new());
        }
        self.rounds[round].push((group, slot));
    }

    /// The groups are known: to which belongs what was assigned under a number?
    pub(super) fn settle(&mut self, group_of: impl Fn(u32) -> Option<u32>) {
        let assigned = std::mem::take(&mut self.row_numbers);
        self.rows = assigned.iter().map(|(row, _)| *row).collect();
        self.group_of = assigned
            .iter()
            .map(|(_, number)| group_of(*number).expect("what has rows has a group"))
            .collect();
    }

    pub(super) fn slots(&self) -> Vec<Slot> {
        self.groups.iter().map(|group| group.slot).collect()
    }

    /// The hash and the bytes of a group's key.
    pub(super) fn key_of(&self, group: usize) -> (u64, &[u8]) {
        (self.groups[group].hash, self.keys.key(group))
    }

    pub(super) fn note_times(&mut self, times: Option<&[i64]>) {
        self.times = times.map(|times| self.rows.iter().map(|&row| times[row as usize]).collect());
    }
}

impl Windowing {
    /// The next accumulators to merge, at most `max` pairs. Comes after [`assign`](Self::assign).
    pub fn next_merge(&mut self, stretch: &mut Stretch, max: usize) -> Option<Merge> {
        while let Some(round) = stretch.rounds.get(stretch.round) {
            let rest = &round[stretch.within_round..];
            if rest.is_empty() {
                (stretch.round, stretch.within_round) = (stretch.round + 1, 0);
                continue;
            }
            let pairs: Vec<(u32, Slot)> = rest[..rest.len().min(max)].to_vec();
            stretch.within_round += pairs.len();
            if let Some(merge) = self.merge_pairs(stretch, &pairs) {
                return Some(merge);
            }
        }
        None
    }

    /// Merges what needs no operator, and returns the rest.
    fn merge_pairs(&mut self, stretch: &Stretch, pairs: &[(u32, Slot)]) -> Option<Merge> {
        let mut groups = Vec::new();
        let (mut into, mut from) = (Vec::new(), Vec::new());
        for &(group, source) in pairs.iter().filter(|(_, source)| self.panes.is_present(*source)) {
            groups.push(group);
            into.push(stretch.groups[group as usize].slot);
            from.push(source);
        }
        let (mut left, mut right) = (self.panes.gather(&into), self.panes.gather(&from));
        let own = self.layout.own();
        let notes_left = read_notes(&left.split_off(own), into.len());
        let notes_right = read_notes(&right.split_off(own), from.len());
        // A pane that isn't there, or that its last firing has emptied, has nothing to be merged.
        // Kept rows are where they are, whichever pane has them.
        let discards = self.definition.mode == Mode::Discarding;
        let keeps_rows = self.layout.keeps_rows();
        let is_empty =
            |slot: &Slot, notes: &Notes| !self.panes.is_present(*slot) || (discards && notes.new == 0);
        let (mut of_left, mut of_right, mut both) = (Vec::new(), Vec::new(), Vec::new());
        for at in 0..groups.len() {
            let number = super::assign::index(at);
            if is_empty(&into[at], &notes_left[at]) {
                of_right.push(number);
            } else if keeps_rows || is_empty(&from[at], &notes_right[at]) {
                of_left.push(number);
            } else {
                both.push(number);
            }
        }
        let notes = |at: u32| notes_left[at as usize].and(&notes_right[at as usize]);
        for (which, columns) in [(&of_left, &left), (&of_right, &right)] {
            self.replace(which, &into, columns, &which.iter().map(|&at| notes(at)).collect::<Vec<_>>());
        }
        self.panes.remove(&from);
        let merge = Merge {
            groups: both.iter().map(|&at| groups[at as usize]).collect(),
            notes: both.iter().map(|&at| notes(at)).collect(),
            left: taken(&left, &both),
            right: taken(&right, &both),
        };
        (merge.groups() > 0).then_some(merge)
    }

    /// Puts some of these rows, with new notes, at the slots of the same numbers.
    fn replace(&mut self, which: &[u32], slots: &[Slot], columns: &[ArrayRef], notes: &[Notes]) {
        if which.is_empty() {
            return;
        }
        let slots: Vec<Slot> = which.iter().map(|&at| slots[at as usize]).collect();
        let mut columns = taken(columns, which);
        columns.extend(notes_columns(notes));
        self.panes.store(&slots, &columns);
    }

    /// Takes back merged accumulators.
    ///
    /// # Panics
    /// When there isn't one for each pair: the plugin has checked it.
    pub fn merged(&mut self, stretch: &Stretch, merge: &Merge, accumulators: &[ArrayRef]) {
        let slots: Vec<Slot> = merge.groups.iter().map(|&g| stretch.groups[g as usize].slot).collect();
        let mut columns = accumulators.to_vec();
        columns.extend(notes_columns(&merge.notes));
        self.panes.store(&slots, &columns);
    }

    /// The accumulators of a stretch's groups, in the order of their numbers.
    pub fn accumulators(&self, stretch: &Stretch) -> Vec<ArrayRef> {
        let mut columns = self.panes.gather(&stretch.slots());
        columns.truncate(self.layout.own());
        columns
    }

    /// Takes back the accumulators of a stretch. `rejected` are rows of it, by their place in it, that the operator
    /// couldn't use, ascending: a pane that has no other rows has no result, and what was returned for it is forgotten.
    ///
    /// # Panics
    /// When there isn't one accumulator for each group: the plugin has checked it.
    pub fn store(&mut self, stretch: &Stretch, accumulators: &[ArrayRef], rejected: &[u32]) {
        let slots = stretch.slots();
        let notes = self.panes.gather(&slots).split_off(self.layout.own());
        let mut notes = read_notes(&notes, slots.len());
        let mut used = vec![false; slots.len()];
        for (at, &group) in (0u32..).zip(&stretch.group_of) {
            if rejected.binary_search(&at).is_ok() {
                continue;
            }
            let (note, group) = (&mut notes[group as usize], group as usize);
            used[group] = true;
            note.new = note.new.saturating_add(1);
            note.numbered = note.numbered.saturating_add(1);
            if let Some(times) = &stretch.times {
                let time = times[at as usize];
                (note.first, note.last) = (note.first.min(time), note.last.max(time));
            }
        }
        let columns: Vec<ArrayRef> = accumulators.iter().cloned().chain(notes_columns(&notes)).collect();
        assert!(columns.iter().all(|c| c.len() == slots.len()), "an accumulator for each group");
        self.panes.store_used(&slots, &columns, &used);
        for (at, group) in stretch.groups.iter().enumerate() {
            if self.panes.is_present(group.slot) {
                self.note_ready(stretch.keys.key(at), group, &notes[at]);
            }
        }
    }

    /// Notes what is to fire for the rows that a pane has now.
    fn note_ready(&mut self, key: &[u8], group: &Group, notes: &Notes) {
        let limit = self.definition.rows_limit();
        let has_enough = limit.is_some_and(|limit| notes.new.unsigned_abs() >= limit);
        match self.definition.trigger {
            _ if has_enough && (!group.is_over || matches!(self.definition.trigger, Trigger::Rows(_))) => {
                self.filled.push(key, group.hash, group.start, Why::Filled { is_over: group.is_over });
            }
            Trigger::Completion { .. } if group.is_over => {
                self.late.push(key, group.hash, group.start, Why::Late);
            }
            Trigger::Completion { early_interval_ms: Some(interval_ms), .. } if notes.new > 0 => {
                let name = timer_name(Purpose::Early, group.start);
                if self.timers.get(Clock::Processing, group.hash, key, &name).is_none() {
                    let at = self.now.saturating_add(interval_ms);
                    self.timers.set(Clock::Processing, group.hash, key, &name, at);
                }
            }
            Trigger::Completion { .. } | Trigger::Rows(_) => {}
        }
    }
}

/// These rows of columns.
pub(super) fn taken(columns: &[ArrayRef], which: &[u32]) -> Vec<ArrayRef> {
    let which = UInt32Array::from(which.to_vec());
    columns.iter().map(|column| crate::batch::take(column, &which)).collect()
}
