//! A windowed aggregation: which group and slice each row belongs to, which rows are late, and which windows
//! are finished. The driver calls the operator in between: this module hands out accumulators and takes
//! them back.
//!
//! Late is decided row by row, against the watermark before the row, so the result doesn't depend on how
//! rows were cut into batches: a row is late when the last window that it is in had already been passed.
//!
//! The driver goes, for each batch: [`assign`](Aggregation::assign), [`load`](Aggregation::load),
//! [`accumulators`](Aggregation::accumulators), the operator, [`store`](Aggregation::store). For each window that a
//! watermark finishes: [`next_firing`](Aggregation::next_firing), shard by shard
//! [`next_shard`](Aggregation::next_shard) with its merges and results, [`fired`](Aggregation::fired). Barriers and
//! eviction come in between, never within.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use arrow_array::ArrayRef;

use crate::key::Keys;
use crate::rows::Codec;
use crate::storage::{Addresses, Storage, StorageError};
use crate::table::{Slot, Table, read};
use crate::watermark::WATERMARK_MIN;
use crate::window::{Slicing, Windows};
use sharing::Sharing;

mod firing;
mod sharing;
mod state;
#[cfg(test)]
mod tests;

pub use firing::{Firing, Merge};

/// The groups of one task of an aggregate operator, by slice of event time.
#[derive(Debug)]
pub struct Aggregation {
    slicing: Slicing,
    addresses: Addresses,
    /// The task's key groups.
    groups: Range<u32>,
    codec: Arc<Codec>,
    slices: BTreeMap<i64, Table>,
    /// What overlapping windows share.
    sharing: Option<Sharing>,
    /// So many firings do without sharing.
    unshared: usize,
    /// Windows that end before or at this have fired.
    watermark: i64,
    /// Slices that were done with while frozen rows of theirs were still to be drained.
    retired: Vec<Table>,
    /// Where the rows of slices stand that were done with in the present epoch, and in the frozen one.
    done: Vec<(Vec<u8>, Vec<u8>)>,
    done_frozen: Vec<(Vec<u8>, Vec<u8>)>,
    /// Whether something frozen may still be drained, and the slice to go on at.
    draining: bool,
    drain_next: i64,
    /// The slice to evict from next.
    hand: i64,
}

/// The rows of a batch to assign to groups.
#[derive(Debug)]
pub struct Rows<'a> {
    /// Their keys.
    pub keys: &'a Keys,
    /// Their event times; `None` where there are no windows of event time.
    pub times: Option<&'a [i64]>,
    /// The watermark before each, where one of them is behind it.
    pub watermarks: Option<&'a [i64]>,
}

/// What becomes of a run of rows.
#[derive(Debug)]
pub struct Assigned {
    /// The rows up to this one have been dealt with. If it isn't the last, the windows up to
    /// [`fire_first`](Self::fire_first) have to fire before the rest is assigned.
    pub until: usize,
    /// The watermark that stands between the rows before `until` and those after.
    pub fire_first: i64,
    /// Rows that come too late for every window that they are in.
    pub late: Vec<u32>,
    /// How many of the rows to fold come too late for some of their windows, though not for all.
    pub partly_late: u64,
    /// The rows to fold.
    pub fold: Fold,
}

/// Rows to fold into accumulators.
#[derive(Debug, Default)]
pub struct Fold {
    /// The rows, in order.
    pub rows: Vec<u32>,
    /// For each of them its group, from 0.
    pub group_of: Vec<u32>,
    /// The groups, in order: slots by slice.
    parts: Vec<Part>,
}

#[derive(Debug)]
struct Part {
    slice: i64,
    slots: Vec<Slot>,
}

impl Fold {
    /// The number of groups.
    pub fn groups(&self) -> usize {
        self.parts.iter().map(|p| p.slots.len()).sum()
    }
}

impl Aggregation {
    /// No groups yet. The codec's schema is that of the accumulators, and its initial row the accumulator of an empty
    /// group; `groups` are the key groups of the task.
    pub fn new(windows: Windows, addresses: Addresses, groups: Range<u32>, codec: Arc<Codec>) -> Self {
        Self {
            slicing: Slicing::new(windows),
            addresses,
            groups,
            codec,
            slices: BTreeMap::new(),
            sharing: None,
            unshared: 0,
            watermark: WATERMARK_MIN,
            retired: Vec::new(),
            done: Vec::new(),
            done_frozen: Vec::new(),
            draining: false,
            drain_next: i64::MIN,
            hand: i64::MIN,
        }
    }

    /// How far event time has come: windows that end before it have fired.
    pub fn watermark(&self) -> i64 {
        self.watermark
    }

    /// How many groups are in memory, over all slices.
    pub fn groups(&self) -> usize {
        self.slices.values().map(Table::len).sum()
    }

    /// Whether the windows have bounds of event time.
    pub fn has_bounds(&self) -> bool {
        !self.slicing.is_global()
    }

    /// Assigns the rows from `from` on to groups, up to one that some window must fire before.
    ///
    /// # Panics
    /// When the windows have bounds and the rows have no times: the plan refuses that.
    pub fn assign(&mut self, rows: &Rows<'_>, from: usize) -> Assigned {
        let count = rows.keys.hashes().len();
        let mut assigned = Assigned {
            until: count,
            fire_first: self.watermark,
            late: Vec::new(),
            partly_late: 0,
            fold: Fold::default(),
        };
        let fold = &mut assigned.fold;
        fold.rows.reserve(count - from);
        fold.group_of.reserve(count - from);
        // Which part each stretch of folded rows belongs to: a group's number is known once all parts are.
        let mut stretches: Vec<(usize, usize)> = Vec::new();
        let (slicing, passed) = (self.slicing, self.watermark);
        let mut row = from;
        while row < count {
            let slice = self.slice_of(rows, row);
            let run_end = (row + 1..count).find(|&r| !self.is_in(slice, rows, r)).unwrap_or(count);
            let last_end = slicing.last_end(slice);
            let first_end = slicing.next_window(slice, WATERMARK_MIN).map_or(last_end, |w| w.end);
            let folded_before = fold.rows.len();
            for r in row..run_end {
                let watermark = passed.max(rows.watermarks.map_or(WATERMARK_MIN, |w| w[r]));
                if last_end <= watermark.saturating_add(1) {
                    assigned.late.push(index(r));
                    continue;
                }
                if watermark > passed && must_fire_first(&slicing, slice, passed, watermark) {
                    (assigned.until, assigned.fire_first) = (r, watermark);
                    break;
                }
                assigned.partly_late += u64::from(first_end <= watermark.saturating_add(1));
                fold.rows.push(index(r));
            }
            if fold.rows.len() > folded_before {
                if self.sharing.as_ref().is_some_and(|s| s.has(slice)) {
                    self.stop_sharing();
                }
                let table = self.slices.entry(slice).or_insert_with(|| {
                    Table::new(self.addresses, slice, self.groups.clone(), self.codec.clone())
                });
                let part = part_of(&mut fold.parts, slice, table);
                let slots = &mut fold.parts[part].slots;
                let numbers =
                    fold.rows[folded_before..].iter().map(|&r| table.number(rows.keys, r as usize, slots));
                fold.group_of.extend(numbers);
                stretches.push((fold.rows.len(), part));
            }
            if assigned.until < count {
                break;
            }
            row = run_end;
        }
        fold.number_across_parts(&stretches);
        assigned
    }

    fn slice_of(&self, rows: &Rows<'_>, row: usize) -> i64 {
        match rows.times {
            Some(times) => self.slicing.slice_of(times[row]),
            None if self.slicing.is_global() => 0,
            None => panic!("windows of event time over rows without times"),
        }
    }

    /// Whether a row falls into a slice, without the division that finding its slice takes.
    fn is_in(&self, slice: i64, rows: &Rows<'_>, row: usize) -> bool {
        let within = |time: i64| slice <= time && time - slice < self.slicing.slice_ms();
        self.slicing.is_global() || rows.times.is_some_and(|times| within(times[row]))
    }

    /// Makes the accumulators of a fold's groups ready: new ones get the initial accumulator, and those that only the
    /// storage knows are read, in one go. Comes after [`assign`](Self::assign) and before everything else.
    ///
    /// # Errors
    /// When the storage can't be read, or what stands in it is no row.
    pub fn load(&mut self, fold: &Fold, storage: &dyn Storage) -> Result<(), StorageError> {
        let mut addresses = Vec::new();
        for part in &fold.parts {
            let table = self.slices.get_mut(&part.slice).expect("a part's slice is held");
            table.make_room(&part.slots);
            table.addresses_missing(&mut addresses);
        }
        if addresses.is_empty() {
            return Ok(());
        }
        let mut values = read(storage, &addresses)?.into_iter();
        for part in &fold.parts {
            self.slices.get_mut(&part.slice).expect("a part's slice is held").fill(&mut values)?;
        }
        Ok(())
    }

    /// The accumulators of a fold's groups, in the order of their numbers.
    ///
    /// # Panics
    /// When the fold has no groups, so that there is nothing to call the operator for; or when it wasn't loaded.
    pub fn accumulators(&self, fold: &Fold) -> Vec<ArrayRef> {
        let gather = |p: &Part| self.slices[&p.slice].gather(&p.slots);
        if let [part] = &*fold.parts {
            return gather(part);
        }
        let parts: Vec<Vec<ArrayRef>> = fold.parts.iter().map(gather).collect();
        let columns = 0..self.codec.schema().len();
        columns.map(|c| concatenate(parts.iter().map(|columns| &columns[c]))).collect()
    }

    /// Takes back the accumulators of a fold. `rejected` are rows of the fold, by their place in it, that the
    /// operator couldn't use, ascending: a group that has no other rows stays without result, and what the operator
    /// returned for it is forgotten.
    ///
    /// # Panics
    /// When there isn't one accumulator for each group: the plugin has checked it.
    pub fn store(&mut self, fold: &Fold, accumulators: &[ArrayRef], rejected: &[u32]) {
        let mut used = vec![false; if rejected.is_empty() { 0 } else { fold.groups() }];
        if !rejected.is_empty() {
            let kept = (0u32..).zip(&fold.group_of).filter(|(at, _)| rejected.binary_search(at).is_err());
            kept.for_each(|(_, &group)| used[group as usize] = true);
        }
        let mut offset = 0;
        for part in &fold.parts {
            let table = self.slices.get_mut(&part.slice).expect("a part's slice is held");
            let length = part.slots.len();
            let columns: Vec<ArrayRef> = accumulators.iter().map(|c| c.slice(offset, length)).collect();
            if rejected.is_empty() {
                table.store(&part.slots, &columns);
            } else {
                table.store_used(&part.slots, &columns, &used[offset..offset + length]);
            }
            offset += length;
        }
    }
}

impl Fold {
    /// Turns numbers within a part into numbers over all parts.
    fn number_across_parts(&mut self, stretches: &[(usize, usize)]) {
        if self.parts.len() < 2 {
            return;
        }
        let mut bases = vec![0u32; self.parts.len()];
        for part in 1..bases.len() {
            bases[part] = bases[part - 1] + index(self.parts[part - 1].slots.len());
        }
        let mut start = 0;
        for &(end, part) in stretches {
            self.group_of[start..end].iter_mut().for_each(|group| *group += bases[part]);
            start = end;
        }
    }
}

/// Whether a window with the slice in it ends before the watermark and hasn't fired, where windows up to `passed` have:
/// it mustn't see the row, though a later window with the same slice must.
fn must_fire_first(slicing: &Slicing, slice: i64, passed: i64, watermark: i64) -> bool {
    slicing.overlaps() && slicing.next_window(slice, passed).is_some_and(|w| w.end - 1 <= watermark)
}

/// The part with a slice's groups; a new one begins the table's batch.
fn part_of(parts: &mut Vec<Part>, slice: i64, table: &mut Table) -> usize {
    parts.iter().position(|p| p.slice == slice).unwrap_or_else(|| {
        table.begin();
        parts.push(Part { slice, slots: Vec::new() });
        parts.len() - 1
    })
}

fn index(row: usize) -> u32 {
    u32::try_from(row).expect("a batch has fewer than 2^32 rows")
}

fn concatenate<'a>(parts: impl Iterator<Item = &'a ArrayRef>) -> ArrayRef {
    let parts: Vec<&dyn arrow_array::Array> = parts.map(AsRef::as_ref).collect();
    arrow_select::concat::concat(&parts).unwrap_or_else(|error| panic!("parts of one column: {error}"))
}
