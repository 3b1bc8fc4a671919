//! Which keys some rows or timers have, what is kept for them, and how many rows may go together.

use arrow_array::ArrayRef;
use hashbrown::HashTable;

use super::layout::Uses;
use super::{Firing, KeyedState};
use crate::aggregation::Rows;
use crate::key::Keys;
use crate::storage::{Storage, StorageError};
use crate::table::Slot;
use crate::timers::Clock;
use crate::ttl::Times;
use crate::watermark::WATERMARK_MIN;

/// The keys of some rows or timers, numbered from 0 in the order in which they first occur, with their values.
#[derive(Debug)]
pub struct Numbered {
    /// The rows up to this one are numbered; the rest has to wait for the next call.
    pub until: usize,
    /// For each of them the number of its key.
    pub key_of: Vec<u32>,
    /// For each value slot a column with a row for each key.
    pub values: Vec<ArrayRef>,
    /// The keys, each at its number.
    pub keys: Keys,
    pub(super) slots: Vec<Slot>,
    /// When the keys were last used.
    pub(super) used: Vec<ArrayRef>,
    pub(super) uses: Uses,
}

impl KeyedState {
    /// Numbers the keys of the rows from `from` on, up to one that has to wait until those before it are stored.
    ///
    /// # Errors
    /// When the storage can't be read, or what stands there is no row.
    pub fn begin(
        &mut self,
        rows: &Rows<'_>,
        from: usize,
        storage: &dyn Storage,
    ) -> Result<Numbered, StorageError> {
        self.settle();
        let until = self.cut(rows, from);
        let (mut key_of, mut slots, mut keys) =
            (Vec::with_capacity(until - from), Vec::new(), Keys::default());
        let mut uses = Uses::default();
        self.table.begin();
        for row in from..until {
            let number = self.table.number(rows.keys, row, &mut slots);
            key_of.push(number);
            let event = rows.times.map(|_| self.event_time(rows, row));
            if number as usize == uses.first.len() {
                keys.push(rows.keys.key(row));
                uses.first.push(Times { event: event.unwrap_or(self.reached), processing: self.now });
                uses.last.push([event, Some(self.now)]);
            }
            let last = &mut uses.last[number as usize][Clock::Event as usize];
            *last = event.max(*last);
        }
        self.look_up(until, key_of, keys, slots, uses, storage)
    }

    /// Numbers the keys of timers: each has the number of its timer.
    ///
    /// # Errors
    /// When the storage can't be read, or what stands there is no row.
    pub fn begin_firing(&mut self, firing: &Firing, storage: &dyn Storage) -> Result<Numbered, StorageError> {
        let (mut slots, mut keys, mut uses) = (Vec::new(), Keys::default(), Uses::default());
        self.table.begin();
        let mut key_of = Vec::with_capacity(firing.due.len());
        for (timer, &at) in firing.due.at.iter().enumerate() {
            key_of.push(self.table.number(&firing.due.keys, timer, &mut slots));
            keys.push(firing.due.keys.key(timer));
            // A timer of processing time says nothing about event time.
            let event = (firing.clock == Clock::Event).then_some(at.max(firing.reached));
            uses.first.push(Times { event: event.unwrap_or(firing.reached), processing: self.now });
            uses.last.push([event, Some(self.now)]);
        }
        assert_eq!(slots.len(), key_of.len(), "the timers of a firing are of different keys");
        self.look_up(firing.due.len(), key_of, keys, slots, uses, storage)
    }

    fn look_up(
        &mut self,
        until: usize,
        key_of: Vec<u32>,
        keys: Keys,
        slots: Vec<Slot>,
        uses: Uses,
        storage: &dyn Storage,
    ) -> Result<Numbered, StorageError> {
        self.table.load(&slots, storage)?;
        let mut values = self.table.gather(&slots);
        self.layout.expire(&mut values, |row| uses.first[row]);
        let used = values.split_off(self.layout.slots());
        Ok(Numbered { until, key_of, values, keys, slots, used, uses })
    }

    /// The time of a row, for what may be absent.
    fn event_time(&self, rows: &Rows<'_>, row: usize) -> i64 {
        let watermark = rows.watermarks.map_or(WATERMARK_MIN, |w| w[row]).max(self.reached);
        rows.times.map_or(watermark, |times| watermark.max(times[row]))
    }

    /// Up to which row the rows from `from` on may go together: no two of a key are so far apart that something lives
    /// shorter.
    fn cut(&self, rows: &Rows<'_>, from: usize) -> usize {
        let count = rows.keys.hashes().len();
        let Some(shortest) = self.layout.shortest_event_ttl().filter(|_| rows.times.is_some()) else {
            return count;
        };
        let times = || (from..count).map(|row| self.event_time(rows, row));
        let (first, last) = (times().min().unwrap_or(0), times().max().unwrap_or(0));
        if last.saturating_sub(first) < shortest {
            return count;
        }
        let mut latest: HashTable<(usize, i64)> = HashTable::new();
        for (row, time) in (from..count).zip(times()) {
            let hash = rows.keys.hashes()[row];
            let same = |(other, _): &(usize, i64)| rows.keys.key(*other) == rows.keys.key(row);
            let latest = latest.entry(hash, same, |(row, _)| rows.keys.hashes()[*row]).or_insert((row, time));
            let latest = &mut latest.into_mut().1;
            if time >= latest.saturating_add(shortest) {
                return row;
            }
            *latest = time.max(*latest);
        }
        count
    }
}
