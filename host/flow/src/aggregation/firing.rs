//! Firing: a window is put together from its slices, a stretch of key groups at a time, so that it may be larger than
//! memory; or from what windows share of them, see [`sharing`](super::sharing).

use std::ops::Range;

use arrow_array::ArrayRef;

use super::Aggregation;
use super::sharing::Step;
use crate::accumulators::Accumulators;
use crate::shard::Shard;
use crate::storage::{Storage, StorageError};
use crate::table::{SHARD_ROWS_MAX, StoredRow, Table};
use crate::window::Bounds;

/// The rows that are read at least of each slice at a time, however many slices a window has.
const SLICE_ROWS_MIN: usize = if cfg!(test) { 1 } else { 1024 };

/// A window that is being put together from its slices.
#[derive(Debug)]
pub struct Firing {
    /// The window.
    pub bounds: Bounds,
    /// The groups at hand, of the slices so far.
    pub groups: Shard,
    /// Their key groups.
    pub(super) range: Range<u32>,
    /// The slices of the window, ascending.
    pub(super) slices: Vec<i64>,
    /// What is still to be merged, last first.
    pub(super) rest: Vec<Source>,
    /// What is done with the groups at hand when nothing is left to merge into them; none where windows share nothing.
    pub(super) step: Option<Step>,
    /// What is to do then, last first.
    pub(super) steps: Vec<Step>,
    /// What is being merged, and the pairs of slots that are left of it: here, and there.
    source: Option<Source>,
    here: Vec<u32>,
    there: Vec<u32>,
}

/// Groups of a slice.
#[derive(Debug)]
pub(super) enum Source {
    /// A shard in memory.
    Held { slice: i64, shard: usize },
    /// Read from the storage.
    Stored(Box<Shard>),
    /// Merged before, from this slice on.
    Front(i64),
    /// Merged before, behind all that is in front.
    Back,
}

/// Groups that stand in two slices of a window.
#[derive(Debug)]
pub struct Merge {
    slots: Vec<u32>,
    /// Their accumulators in the earlier slices.
    pub left: Vec<ArrayRef>,
    /// Their accumulators in this slice, row for row.
    pub right: Vec<ArrayRef>,
}

impl Merge {
    /// The number of groups.
    pub fn groups(&self) -> usize {
        self.slots.len()
    }
}

impl Aggregation {
    /// The next window that a watermark finishes, in the order of their ends. When there is none left, event time
    /// has come to `watermark`.
    pub fn next_firing(&mut self, watermark: i64) -> Option<Firing> {
        let due = |&slice: &i64| {
            let window = self.slicing.next_window(slice, self.watermark)?;
            (window.end.saturating_sub(i64::from(self.has_bounds())) <= watermark).then_some(window)
        };
        // The earliest slice is in the earliest window: any window before it would contain it too.
        let Some(bounds) = self.slices.keys().next().and_then(due) else {
            self.watermark = self.watermark.max(watermark);
            return None;
        };
        let start = self.groups.start;
        Some(Firing {
            bounds,
            groups: Shard::new(start..start, Accumulators::new(self.codec.schema()), true),
            range: start..start,
            slices: self.slices.range(bounds.start..bounds.end).map(|(s, _)| *s).collect(),
            rest: Vec::new(),
            step: None,
            steps: Vec::new(),
            source: None,
            here: Vec::new(),
            there: Vec::new(),
        })
    }

    /// Goes on to the next of the window's groups, which are then in [`Firing::groups`], to be
    /// [merged](Self::next_merge) and finished. `false`: there are no more, and the window is
    /// [`fired`](Self::fired).
    ///
    /// # Errors
    /// When the storage can't be read, or what stands in it is no row.
    pub fn next_shard(&mut self, firing: &mut Firing, storage: &dyn Storage) -> Result<bool, StorageError> {
        if firing.range.end >= self.groups.end {
            return Ok(false);
        }
        let is_first = firing.range.end == self.groups.start;
        if let Some(steps) = is_first.then(|| self.shared_steps(firing)).flatten() {
            (firing.steps, firing.range) = (steps, self.groups.clone());
            return Ok(true);
        }
        let (range, mut stored) = self.stored(firing, storage)?;
        firing.range = range;
        firing.rest.clear();
        firing.source = None;
        for (&slice, stored) in firing.slices.iter().zip(&mut stored).skip(1).rev() {
            let table = &self.slices[&slice];
            let stored = table.not_in_memory(std::mem::take(stored));
            if !stored.is_empty() {
                let mut shard = table.empty_shard(firing.range.clone());
                table.add_stored(&mut shard, &stored)?;
                firing.rest.push(Source::Stored(Box::new(shard)));
            }
            let held = table.shards_in(&firing.range).map(|shard| Source::Held { slice, shard });
            firing.rest.extend(held);
        }
        let (Some(&first), Some(stored)) = (firing.slices.first(), stored.first_mut()) else {
            panic!("a window that fires has a slice");
        };
        firing.groups = self.first_groups(first, firing, std::mem::take(stored))?;
        Ok(true)
    }

    /// The next stretch of key groups that fits memory, and what is stored of them of each slice.
    fn stored(
        &self,
        firing: &Firing,
        storage: &dyn Storage,
    ) -> Result<(Range<u32>, Vec<Vec<StoredRow>>), StorageError> {
        let start = firing.range.end;
        let tables = || firing.slices.iter().map(|slice| &self.slices[slice]);
        let shard_end = |table: &Table| table.groups_around(start).end;
        let mut end = tables().map(shard_end).min().expect("a window that fires has a slice");
        let rows_max = (SHARD_ROWS_MAX / firing.slices.len()).max(SLICE_ROWS_MIN);
        let mut stored = Vec::with_capacity(firing.slices.len());
        for table in tables() {
            let (rows, until) = table.stored(start..end, rows_max, storage)?;
            end = until;
            stored.push(rows);
        }
        // A later slice may have come less far. What is cut off is read again with the next stretch.
        for rows in &mut stored {
            rows.truncate(rows.partition_point(|row| row.group() < end));
        }
        Ok((start..end, stored))
    }

    /// The groups at hand of the first slice. If no later window has it they are taken from the table as they are.
    fn first_groups(
        &mut self,
        slice: i64,
        firing: &Firing,
        stored: Vec<StoredRow>,
    ) -> Result<Shard, StorageError> {
        let is_last = self.slicing.last_end(slice) == firing.bounds.end;
        let table = self.slices.get_mut(&slice).expect("a window's slice is held");
        let stored = table.not_in_memory(stored);
        let mut groups = if is_last && table.groups_around(firing.range.start) == firing.range {
            table.take(&firing.range)
        } else {
            table.copy(&firing.range)
        };
        table.add_stored(&mut groups, &stored)?;
        Ok(groups)
    }

    /// The next groups to merge into a window, `groups_max` at most: those that stand in a slice and in an earlier
    /// one.
    pub fn next_merge(&mut self, firing: &mut Firing, groups_max: usize) -> Option<Merge> {
        while firing.here.is_empty() {
            let Some(source) = firing.rest.pop() else {
                if self.next_step(firing) {
                    continue;
                }
                return None;
            };
            let other = self.shard_of(&source);
            (firing.here, firing.there) = firing.groups.pair(other, other.occupied_in(&firing.range));
            firing.source = Some(source);
        }
        let at = firing.here.len().saturating_sub(groups_max);
        let (slots, theirs) = (firing.here.split_off(at), firing.there.split_off(at));
        let left = firing.groups.rows.gather(&slots);
        let other = self.shard_of(firing.source.as_ref().expect("what the pairs are of"));
        let right = other.rows.gather(&theirs);
        Some(Merge { slots, left, right })
    }

    fn shard_of<'a>(&'a self, source: &'a Source) -> &'a Shard {
        match source {
            Source::Held { slice, shard } => self.slices[slice].shard(*shard),
            Source::Stored(shard) => shard,
            Source::Front(_) | Source::Back => self.shared(source),
        }
    }

    /// Marks a window as fired, and forgets the slices that no later window has.
    pub fn fired(&mut self, bounds: Bounds) {
        self.watermark = if self.has_bounds() { bounds.end - 1 } else { i64::MAX };
        while let Some(first) = self.slices.first_entry() {
            if self.slicing.last_end(*first.key()) > bounds.end {
                break;
            }
            let (slice, table) = first.remove_entry();
            self.retire(slice, table);
        }
    }
}

impl Firing {
    /// Takes back merged accumulators.
    ///
    /// # Panics
    /// When there isn't one for each group: the plugin has checked it.
    pub fn merged(&mut self, merge: &Merge, accumulators: &[ArrayRef]) {
        self.groups.rows.scatter(&merge.slots, accumulators);
    }

    /// The accumulators of some groups.
    pub fn accumulators(&self, slots: &[u32]) -> Vec<ArrayRef> {
        self.groups.rows.gather(slots)
    }
}
