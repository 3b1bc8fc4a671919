//! Rows themselves, for operators that want all rows of a window at once: one copy of each, however many windows it is
//! in, in the order of their times. It goes with the last window that it is in.
//!
//! A row is an entry of its key's collection 0: its time in 8 bytes, big-endian with the sign bit flipped, and a number
//! that tells it from others of this time, in 8 bytes. The number is how many rows the last of its windows had had.

use std::ops::Range;

use arrow_array::{Array, ArrayRef, new_null_array};

use super::Windowing;
use super::definition::Assigner;
use super::pane::{Purpose, notes_columns, read_notes, read_timer_name};
use super::stretch::Stretch;
use crate::collections::{Collections, Limit, Place};
use crate::key::Keys;
use crate::storage::{Addresses, Storage, StorageError};
use crate::ttl::Times;
use crate::window::Bounds;

const COLLECTION: u8 = 0;

/// All of it: whoever wants a window's rows wants them at once.
const NO_LIMIT: Limit = Limit { entries: usize::MAX, bytes: usize::MAX };

/// Rows of windows.
#[derive(Debug, Default)]
pub struct KeptRows {
    /// Their columns.
    pub columns: Vec<ArrayRef>,
    /// For each row its group.
    pub group_of: Vec<u32>,
}

/// The rows that are kept.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) entries: Collections,
}

impl Kept {
    pub(super) fn new(addresses: Addresses, groups: Range<u32>) -> Self {
        Self { entries: Collections::new(addresses, groups, vec![None]) }
    }
}

/// Nothing expires.
const WHENEVER: Times = Times { event: 0, processing: 0 };

fn place(hash: u64, key: &[u8]) -> Place<'_> {
    Place { collection: COLLECTION, hash, key, times: WHENEVER }
}

fn entry(time: i64, number: u64) -> [u8; 16] {
    let mut entry = [0; 16];
    entry[..8].copy_from_slice(&first_entry(time));
    entry[8..].copy_from_slice(&number.to_be_bytes());
    entry
}

fn first_entry(time: i64) -> [u8; 8] {
    (time.cast_unsigned() ^ (1 << 63)).to_be_bytes()
}

impl Windowing {
    /// Keeps the rows of a stretch: `columns` are those of the batch that it was [assigned](Self::assign) of. Takes the
    /// place of the operator's call and of [`store`](Self::store) where rows are kept instead of accumulators.
    ///
    /// # Panics
    /// When the windows keep accumulators, or the columns aren't of the fields.
    pub fn keep(&mut self, stretch: &Stretch, columns: &[ArrayRef]) {
        let own = self.layout.own();
        assert_eq!(columns.len(), own, "rows have as many columns as there are fields");
        let slots = stretch.slots();
        let mut numbers: Vec<u64> = read_notes(&self.panes.gather(&slots)[own..], slots.len())
            .iter()
            .map(|n| n.numbered.unsigned_abs())
            .collect();
        let length = columns.first().map_or(0, |c| c.len());
        let mut whole = columns.to_vec();
        whole.extend(no_notes(length.max(1)));
        let codec = self.layout.codec().clone();
        let kept = self.kept.as_mut().expect("these windows keep accumulators");
        for (at, (&row, &group)) in stretch.rows.iter().zip(&stretch.group_of).enumerate() {
            let group = group as usize;
            let number = numbers[group];
            numbers[group] += 1;
            // The windows of a row ascend, so that the last of them comes last.
            if stretch.rows.get(at + 1) != Some(&row) {
                let (hash, key) = stretch.key_of(group);
                let value = codec.encode(&whole, row as usize);
                kept.entries.write(&place(hash, key), &entry(stretch.filed[at], number), Some(&value));
            }
        }
        let empty = columns.iter().map(|c| new_null_array(c.data_type(), slots.len())).collect::<Vec<_>>();
        self.store(stretch, &empty, &[]);
    }

    /// Between which entries the rows of a window stand.
    fn range_of(&self, bounds: &Bounds) -> (Vec<u8>, Option<Vec<u8>>) {
        match self.definition.assigner {
            Assigner::Count { .. } | Assigner::Global => (Vec::new(), None),
            _ => (first_entry(bounds.start).to_vec(), Some(first_entry(bounds.end).to_vec())),
        }
    }

    /// The rows of windows, each with its key and bounds.
    pub(super) fn kept_rows(
        &self,
        keys: &Keys,
        windows: &[Bounds],
        storage: &dyn Storage,
    ) -> Result<KeptRows, StorageError> {
        let Some(kept) = &self.kept else { return Ok(KeptRows::default()) };
        let (mut values, mut group_of) = (Vec::new(), Vec::new());
        for (group, window) in windows.iter().enumerate() {
            let (first, end) = self.range_of(window);
            let place = place(keys.hashes()[group], keys.key(group));
            let found = kept.entries.range(storage, &place, &first, end.as_deref(), NO_LIMIT)?;
            group_of.resize(group_of.len() + found.entries.len(), super::assign::index(group));
            values.extend(found.entries.into_iter().map(|(_, value)| value));
        }
        let rows: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
        let columns = self.layout.codec().decode(&rows).map_err(|error| {
            StorageError(format!(
                "a row that is kept for a window is damaged: {error}; recover from an earlier checkpoint"
            ))
        });
        let mut columns = columns?;
        columns.truncate(self.layout.own());
        Ok(KeptRows { columns, group_of })
    }

    /// Removes the rows of a window that are in no other one which is still open. Windows needn't go in their order: one
    /// that ends behind its lateness goes at once, where an earlier one waits for its turn.
    pub(super) fn drop_rows(
        &mut self,
        hash: u64,
        key: &[u8],
        window: &Bounds,
        storage: &dyn Storage,
    ) -> Result<(), StorageError> {
        let rest = if self.definition.assigner.overlaps() {
            self.uncovered(hash, key, window)
        } else {
            vec![*window]
        };
        let ranges: Vec<_> = rest.iter().map(|bounds| self.range_of(bounds)).collect();
        let Some(kept) = &mut self.kept else { return Ok(()) };
        let place = place(hash, key);
        for (first, end) in ranges {
            let found = kept.entries.range(storage, &place, &first, end.as_deref(), NO_LIMIT)?;
            found.entries.iter().for_each(|(entry, _)| kept.entries.write(&place, entry, None));
        }
        Ok(())
    }

    /// The parts of a window that no other open window of the key has.
    fn uncovered(&self, hash: u64, key: &[u8], window: &Bounds) -> Vec<Bounds> {
        let timers = self.timers.of_key(self.definition.time, hash, key);
        let open = timers.filter_map(|(name, at)| {
            let (purpose, start) = read_timer_name(name).filter(|(purpose, _)| *purpose != Purpose::Early)?;
            Some(Bounds { start, end: self.end_by((purpose, at)) })
        });
        let overlaps =
            |other: &Bounds| other != window && other.start < window.end && window.start < other.end;
        let mut open: Vec<Bounds> = open.filter(overlaps).collect();
        open.sort_unstable();
        let (mut rest, mut from) = (Vec::new(), window.start);
        for other in open {
            if from < other.start {
                rest.push(Bounds { start: from, end: other.start });
            }
            from = from.max(other.end);
        }
        if from < window.end {
            rest.push(Bounds { start: from, end: window.end });
        }
        rest
    }
}

fn no_notes(rows: usize) -> Vec<ArrayRef> {
    let notes = notes_columns(&[super::pane::Notes::NONE]);
    notes.iter().map(|column| new_null_array(column.data_type(), rows)).collect()
}
