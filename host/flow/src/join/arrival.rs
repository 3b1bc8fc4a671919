//! A batch as it arrives at a join: which of its rows are taken, and those that look for others, by key.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, BooleanArray};
use hashbrown::HashTable;

use super::Side;
use super::interval::Probe;
use super::layout::Layout;
use super::pairs::Put;
use crate::aggregation::Rows;
use crate::watermark::WATERMARK_MIN;

/// A row that can't be joined any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Late {
    /// The row, in its batch.
    pub row: u32,
    /// By how much it is late, in milliseconds of event time.
    pub by_ms: i64,
}

/// What became of the rows of a batch.
#[derive(Debug)]
pub struct Arrival {
    /// The rows up to this one are taken in. If it isn't the last, time has to advance to
    /// [`advance_to`](Self::advance_to) before the rest.
    pub until: usize,
    /// The watermark that stands between the rows before `until` and those after.
    pub advance_to: i64,
    /// Rows that can't be joined any more.
    pub late: Vec<Late>,
    /// How many of the others come too late for some of their windows, though not for all.
    pub partly_late: u64,
    pub(super) side: Side,
    /// Rows that look for others, by key.
    pub(super) keys: Vec<OfKey>,
    pub(super) probe: Probe,
}

/// Rows of a key, in order of time.
#[derive(Debug)]
pub(super) struct OfKey {
    pub hash: u64,
    pub key: Vec<u8>,
    pub rows: Vec<Arrived>,
}

#[derive(Debug)]
pub(super) struct Arrived {
    pub time: i64,
    /// The watermark before the row.
    pub watermark: i64,
    pub written: Vec<u8>,
    pub is_matched: bool,
    /// Its number among the pairs that are put together, and which pairs those are.
    pub put: Option<(u64, Put)>,
}

/// A batch of one side, from a row on.
pub(super) struct Batch<'a> {
    pub side: Side,
    rows: &'a Rows<'a>,
    columns: &'a [ArrayRef],
    from: usize,
    until: usize,
    passed: i64,
    advance_to: i64,
}

impl<'a> Batch<'a> {
    pub(super) fn new(
        side: Side,
        rows: &'a Rows<'a>,
        columns: &'a [ArrayRef],
        from: usize,
        passed: i64,
    ) -> Self {
        Self { side, rows, columns, from, until: rows.keys.hashes().len(), passed, advance_to: passed }
    }

    /// Takes no row before what is due is done.
    pub(super) fn wait(&mut self) {
        self.until = self.from;
    }

    /// Takes no rows behind a watermark for which something is due.
    pub(super) fn cut(&mut self, is_due: impl Fn(i64) -> bool) {
        let Some(watermarks) = self.rows.watermarks else { return };
        let mut checked = self.passed;
        for (row, &watermark) in watermarks.iter().enumerate().skip(self.from) {
            if watermark <= checked {
                continue;
            }
            checked = watermark;
            if is_due(watermark) {
                (self.until, self.advance_to) = (row, watermark);
                return;
            }
        }
    }

    pub(super) fn rows(&self) -> std::ops::Range<usize> {
        self.from..self.until
    }

    pub(super) fn time(&self, row: usize) -> i64 {
        self.rows.times.expect("the plan joins rows with times only")[row]
    }

    /// The watermark before a row.
    pub(super) fn watermark(&self, row: usize) -> i64 {
        self.passed.max(self.rows.watermarks.map_or(WATERMARK_MIN, |w| w[row]))
    }

    pub(super) fn hash(&self, row: usize) -> u64 {
        self.rows.keys.hashes()[row]
    }

    pub(super) fn key(&self, row: usize) -> &'a [u8] {
        self.rows.keys.key(row)
    }

    /// What writes the batch's rows. `deletes` is the column that says that a row removes its key.
    pub(super) fn writer(&self, layout: &'a Layout, deletes: Option<usize>) -> Writer<'a> {
        let count = self.rows.keys.hashes().len();
        let none = || BooleanArray::from(vec![false; count]);
        let deleted = deletes.map_or_else(none, |at| {
            let said = self.columns[at].as_boolean();
            (0..count).map(|row| Some(said.is_valid(row) && said.value(row))).collect()
        });
        let notes: [ArrayRef; 2] = [Arc::new(none()), Arc::new(deleted)];
        Writer { layout, side: self.side, columns: layout.with_notes(self.side, self.columns, notes) }
    }

    /// Nothing has been done with the rows yet.
    pub(super) fn arrival(&self) -> Arrival {
        Arrival {
            until: self.until,
            advance_to: self.advance_to,
            late: Vec::new(),
            partly_late: 0,
            side: self.side,
            keys: Vec::new(),
            probe: Probe::default(),
        }
    }
}

/// Writes rows as they are kept.
pub(super) struct Writer<'a> {
    layout: &'a Layout,
    side: Side,
    columns: Vec<ArrayRef>,
}

impl Writer<'_> {
    pub(super) fn write(&self, row: usize) -> Vec<u8> {
        self.layout.codecs[self.side as usize].encode(&self.columns, row)
    }
}

impl Arrival {
    pub(super) fn late(&mut self, row: usize, by_ms: i64) {
        self.late.push(Late { row: u32::try_from(row).expect("rows of a batch"), by_ms });
    }

    /// Rows that look for others, put together by key: the keys in the order in which they first occur, the rows of each
    /// in order of time.
    pub(super) fn look(&mut self, batch: &Batch<'_>, writer: &Writer<'_>, rows: impl Iterator<Item = usize>) {
        let mut numbers: HashTable<usize> = HashTable::new();
        for row in rows {
            let (hash, key) = (batch.hash(row), batch.key(row));
            let keys = &mut self.keys;
            let same = |&at: &usize| keys[at].key == key;
            let at = match numbers.find(hash, same) {
                Some(&at) => at,
                None => {
                    keys.push(OfKey { hash, key: key.to_vec(), rows: Vec::new() });
                    numbers.insert_unique(hash, keys.len() - 1, |&at| keys[at].hash);
                    keys.len() - 1
                }
            };
            self.keys[at].rows.push(Arrived {
                time: batch.time(row),
                watermark: batch.watermark(row),
                written: writer.write(row),
                is_matched: false,
                put: None,
            });
        }
        self.keys.iter_mut().for_each(|of_key| of_key.rows.sort_by_key(|row| row.time));
    }
}
