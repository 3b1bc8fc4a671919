//! Pairs as they are put together for the operator: some thousand at most, in columns.

use arrow_array::{ArrayRef, UInt32Array};
use arrow_buffer::{BooleanBuffer, ScalarBuffer};

use super::layout::Layout;
use super::{PAIRS_MAX, Side};
use crate::batch::take;
use crate::key::Keys;
use crate::storage::StorageError;
use crate::window::Bounds;

/// The bytes of the rows of both sides in a call, about: below what columns hold, and little beside the memory of a
/// machine.
const PAIR_BYTES_MAX: usize = 32 << 20;

/// Rows that have met, or of which it is certain that they never will.
#[derive(Debug)]
pub struct Pairs {
    /// The fields of each side, a row for each pair.
    pub sides: [Vec<ArrayRef>; 2],
    /// Where a pair lacks a side, whose columns have no values there; `None`: none does.
    pub absent: [Option<BooleanBuffer>; 2],
    /// The times of each side's rows; where a side is absent, of no meaning.
    pub row_times: [ScalarBuffer<i64>; 2],
    /// The keys of the pairs.
    pub keys: Keys,
    /// The time of each: the later one of its rows', or of the only one. For a window join the last millisecond of the window.
    pub times: ScalarBuffer<i64>,
    /// The window of each, for a window join.
    pub windows: Vec<Bounds>,
}

impl Pairs {
    /// How many there are; never none.
    pub fn rows(&self) -> usize {
        self.times.len()
    }
}

/// A row that was put in, by its number on its side.
pub(super) type Put = u32;

#[derive(Debug, Default)]
pub(super) struct Builder {
    /// The rows of each side, written.
    rows: [Vec<Vec<u8>>; 2],
    row_times: [Vec<i64>; 2],
    pairs: [Vec<Option<Put>>; 2],
    keys: Keys,
    times: Vec<i64>,
    windows: Vec<Bounds>,
    bytes: usize,
    is_closed: bool,
}

impl Builder {
    /// How many pairs there are.
    pub(super) fn len(&self) -> usize {
        self.times.len()
    }

    /// How many more rows there is room for.
    pub(super) fn room(&self) -> usize {
        PAIRS_MAX.saturating_sub(self.len())
    }

    /// Whether rows of so many bytes may be added.
    pub(super) fn has_room_for_bytes(&self, bytes: usize) -> bool {
        self.bytes.saturating_add(bytes) <= PAIR_BYTES_MAX
    }

    /// Adds nothing more.
    pub(super) fn close(&mut self) {
        self.is_closed = true;
    }

    /// Whether the operator should have what there is before more is added.
    pub(super) fn is_full(&self) -> bool {
        self.is_closed || self.len() >= PAIRS_MAX || self.bytes >= PAIR_BYTES_MAX
    }

    /// A row that pairs may be made of.
    pub(super) fn put(&mut self, side: Side, row: Vec<u8>, time: i64) -> Put {
        self.row_times[side as usize].push(time);
        let rows = &mut self.rows[side as usize];
        rows.push(row);
        Put::try_from(rows.len() - 1).expect("a few thousand rows")
    }

    /// A pair of these rows, at a time.
    pub(super) fn pair(&mut self, key: &[u8], sides: [Option<Put>; 2], time: i64) {
        for (side, row) in sides.into_iter().enumerate() {
            self.bytes += row.map_or(0, |row| self.rows[side][row as usize].len());
            self.pairs[side].push(row);
        }
        self.keys.push(key);
        self.times.push(time);
    }

    /// A row of a side by itself, which has a time of its own.
    pub(super) fn alone(&mut self, key: &[u8], side: Side, row: (Vec<u8>, i64), time: i64) {
        let row = self.put(side, row.0, row.1);
        let mut sides = [None; 2];
        sides[side as usize] = Some(row);
        self.pair(key, sides, time);
    }

    /// The last pair belongs to a window.
    pub(super) fn in_window(&mut self, window: Bounds) {
        self.windows.push(window);
    }

    /// The pairs, if there are any.
    pub(super) fn finish(self, layout: &Layout) -> Result<Option<Pairs>, StorageError> {
        let Self { rows, row_times, pairs, keys, times, windows, .. } = self;
        if times.is_empty() {
            return Ok(None);
        }
        let mut sides = [Vec::new(), Vec::new()];
        let mut absent = [None, None];
        for side in Side::BOTH {
            let at = side as usize;
            sides[at] = columns(layout, side, &rows[at], &pairs[at])?;
            if pairs[at].iter().any(Option::is_none) {
                absent[at] = Some(pairs[at].iter().map(Option::is_none).collect());
            }
        }
        let row_times = Side::BOTH.map(|side| {
            let times = &row_times[side as usize];
            pairs[side as usize].iter().map(|row| row.map_or(0, |row| times[row as usize])).collect()
        });
        Ok(Some(Pairs { sides, absent, row_times, keys, times: times.into(), windows }))
    }
}

/// The own fields of the rows of a side, a row for each pair.
fn columns(
    layout: &Layout,
    side: Side,
    rows: &[Vec<u8>],
    pairs: &[Option<Put>],
) -> Result<Vec<ArrayRef>, StorageError> {
    let rows: Vec<&[u8]> = rows.iter().map(Vec::as_slice).collect();
    let mut columns = decode(layout, side, &rows)?;
    columns.truncate(layout.fields(side));
    let which = UInt32Array::from(pairs.to_vec());
    Ok(columns.iter().map(|column| take(column, &which)).collect())
}

/// Rows with what is noted of them.
pub(super) fn decode(layout: &Layout, side: Side, rows: &[&[u8]]) -> Result<Vec<ArrayRef>, StorageError> {
    layout.codecs[side as usize].decode(rows).map_err(|error| {
        StorageError(format!(
            "a row of the {side} side of a join is damaged: {error}; recover from an earlier checkpoint"
        ))
    })
}
