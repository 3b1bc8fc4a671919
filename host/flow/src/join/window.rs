//! Window joins: all rows of a key that are in one window meet when the window ends.
//!
//! A row is kept once for each window that it is in, by key group under the window's last millisecond, then key, side
//! and time: so that a window that ends is read in one go, key after key. What has met is removed, and a window that
//! is half through needs no more to go on than what is left of it. Only of a key whose pairs are too many for one call
//! it is noted how far they have come: some rows of the left side at a time meet those of the right, one stretch after
//! another (a block nested loop), and are removed behind the last of these.

use super::arrival::{Arrival, Batch};
use super::buffers::{Buffers, ROWS, Shelf, damaged, sortable, stamp, time_of};
use super::layout::Layout;
use super::pairs::{Builder, Put};
use super::{Context, Kept, Side};
use crate::storage::{StorageError, Stored};
use crate::watermark::WATERMARK_MIN;
use crate::window::{Bounds, Windows};

/// Entries of a window that are taken into the hand at once.
const CHUNK: usize = if cfg!(test) { 7 } else { 4096 };
/// Rows of the left side that meet a stretch of the right at once: as many as of the right then, about.
const BLOCK: usize = if cfg!(test) { 2 } else { 64 };

#[derive(Debug)]
pub(super) struct Windowed {
    size_ms: i64,
    slide_ms: i64,
    offset_ms: i64,
}

/// Rows of a key in a window, each with where it stands behind the key.
type Run<'a> = [(&'a [u8], &'a (Vec<u8>, Vec<u8>))];

impl Windowed {
    pub(super) fn new(windows: Windows) -> Self {
        let (size_ms, slide_ms, offset_ms) = match windows {
            Windows::Global => panic!("a join in the global window"),
            Windows::Tumbling { size_ms, offset_ms } => (size_ms, size_ms, offset_ms),
            Windows::Hopping { size_ms, slide_ms, offset_ms } => (size_ms, slide_ms, offset_ms),
        };
        assert!(0 < slide_ms && slide_ms <= size_ms, "windows of {size_ms} ms every {slide_ms} ms");
        Self { size_ms, slide_ms, offset_ms }
    }

    pub(super) fn arrive(&self, batch: Batch<'_>, layout: &Layout, buffers: &mut Buffers) -> Arrival {
        let (mut arrival, writer) = (batch.arrival(), batch.writer(layout, None));
        for row in batch.rows() {
            let (time, watermark) = (batch.time(row), batch.watermark(row));
            let is_open = |last: i64| watermark == WATERMARK_MIN || last > watermark;
            let mut last = self.last_of(time);
            if !is_open(last) {
                arrival.late(row, watermark.saturating_sub(last));
                continue;
            }
            let (hash, key) = (batch.hash(row), batch.key(row));
            let (written, number) = (writer.write(row), buffers.number(hash));
            let group = crate::key::key_group(hash);
            let shelf = Shelf::of_group(ROWS, group);
            while is_open(last) && last >= time {
                let entry = [&prefix(last, key)[..], &[batch.side as u8], &stamp(time, number)].concat();
                buffers.add(&shelf, &entry, written.clone());
                buffers.notice(group, last);
                last -= self.slide_ms;
            }
            arrival.partly_late += u64::from(last >= time);
        }
        arrival
    }

    /// The last millisecond of the last window that a time is in.
    fn last_of(&self, time: i64) -> i64 {
        let start = time - (time - self.offset_ms).rem_euclid(self.slide_ms);
        start + (self.size_ms - 1)
    }

    /// Lets rows meet of windows that have ended, in a key group. Returns how much there was.
    pub(super) fn fire(
        &self,
        context: &Context<'_>,
        buffers: &mut Buffers,
        builder: &mut Builder,
    ) -> Result<usize, StorageError> {
        let Context { group, watermark, storage, .. } = *context;
        if let Some(begun) = buffers.begun(group) {
            let begun = Begun::read(begun)?;
            return self.go_on(context, begun, buffers, builder);
        }
        let found = buffers.due(ROWS, group, watermark, CHUNK, storage)?;
        if found.entries.is_empty() {
            buffers.settle(group, &[ROWS], storage)?;
            return Ok(0);
        }
        let entries: Vec<(&[u8], &Stored)> =
            found.entries.iter().map(|e| Ok((prefix_of(&e.0)?, e))).collect::<Result<_, _>>()?;
        let mut done = 0;
        for run in entries.chunk_by(|one, next| one.0 == next.0) {
            let Some((prefix, _)) = run.first() else { continue };
            let is_whole = done + run.len() < entries.len() || !found.more;
            if is_whole && self.meet(context, prefix, run, builder)? {
                let shelf = Shelf::of_group(ROWS, group);
                run.iter().for_each(|(_, (entry, _))| buffers.remove(&shelf, entry));
                done += run.len();
            } else if done > 0 {
                return Ok(done);
            } else {
                let begun = Begun { prefix: prefix.to_vec(), is_met: false, after: Vec::new() };
                return self.go_on(context, begun, buffers, builder);
            }
        }
        if !found.more {
            buffers.settle(group, &[ROWS], storage)?;
        }
        Ok(done)
    }

    /// All pairs of a key in a window, if there is room for them.
    fn meet(
        &self,
        context: &Context<'_>,
        prefix: &[u8],
        run: &Run<'_>,
        builder: &mut Builder,
    ) -> Result<bool, StorageError> {
        let is_right = |entry: &[u8]| entry.get(prefix.len()) == Some(&(Side::Right as u8));
        let (left, right) = run.split_at(run.partition_point(|(_, (entry, _))| !is_right(entry)));
        let bytes = |side: &Run<'_>| side.iter().map(|(_, (_, row))| row.len()).sum::<usize>();
        let (window, key) = self.window(prefix)?;
        if let Some((side, alone)) = alone(left, right) {
            if !context.kind.keeps(side) {
                return Ok(true);
            }
            if alone.len() > builder.room() || !builder.has_room_for_bytes(bytes(alone)) {
                return Ok(false);
            }
            for (_, (entry, row)) in alone {
                builder.alone(key, side, (row.clone(), row_time(entry)?), window.end - 1);
                builder.in_window(window);
            }
            return Ok(true);
        }
        let all = bytes(left).saturating_mul(right.len()) + bytes(right).saturating_mul(left.len());
        if left.len().saturating_mul(right.len()) > builder.room() || !builder.has_room_for_bytes(all) {
            return Ok(false);
        }
        let lefts = put(Side::Left, left.iter().map(|(_, e)| *e), builder)?;
        for (_, (entry, row)) in right {
            let right = builder.put(Side::Right, row.clone(), row_time(entry)?);
            for &left in &lefts {
                builder.pair(key, [Some(left), Some(right)], window.end - 1);
                builder.in_window(window);
            }
        }
        Ok(true)
    }

    /// Some pairs of a key that has many in a window.
    fn go_on(
        &self,
        context: &Context<'_>,
        mut begun: Begun,
        buffers: &mut Buffers,
        builder: &mut Builder,
    ) -> Result<usize, StorageError> {
        if builder.len() > 0 {
            // The rows of the left side at a time are always as many, and need the room of a whole call.
            builder.close();
            return Ok(1);
        }
        let Context { kind, group, storage, .. } = *context;
        let shelf = Shelf::of_group(ROWS, group);
        let (window, key) = self.window(&begun.prefix)?;
        let [from, middle, end] = [0, 1, 2].map(|side: u8| [&begun.prefix[..], &[side]].concat());
        let left = buffers.range(&shelf, (&from, Some(&middle)), BLOCK, storage)?;
        let after = if begun.after.is_empty() { middle.clone() } else { [&begun.after[..], &[0]].concat() };
        let room = (builder.room() / left.entries.len().max(1)).max(1);
        let right = buffers.range(&shelf, (&after, Some(&end)), room, storage)?;
        let is_right_over = right.entries.is_empty();
        // With the last row of the left side the right one has met all, or has been alone from the beginning.
        if left.entries.is_empty() || (is_right_over && !begun.is_met) {
            let (side, rows) = if left.entries.is_empty() {
                (Side::Right, right.entries)
            } else {
                (Side::Left, left.entries)
            };
            if rows.is_empty() {
                buffers.set_begun(group, None);
                return Ok(1);
            }
            let mut done = 0;
            for (entry, row) in rows {
                if kind.keeps(side) && !begun.is_met {
                    if builder.is_full() {
                        break;
                    }
                    builder.alone(key, side, (row, row_time(&entry)?), window.end - 1);
                    builder.in_window(window);
                }
                buffers.remove(&shelf, &entry);
                done += 1;
            }
            begun.after.clear();
            buffers.set_begun(group, Some(begun.written()));
            return Ok(done);
        }
        begun.is_met = true;
        let lefts = put(Side::Left, left.entries.iter(), builder)?;
        let mut done = 0;
        for (entry, row) in right.entries {
            if builder.is_full() && done > 0 {
                break;
            }
            let right = builder.put(Side::Right, row, row_time(&entry)?);
            for &left in &lefts {
                builder.pair(key, [Some(left), Some(right)], window.end - 1);
                builder.in_window(window);
            }
            (begun.after, done) = (entry, done + lefts.len());
        }
        if is_right_over {
            // These of the left have met all.
            left.entries.iter().for_each(|(entry, _)| buffers.remove(&shelf, entry));
            begun.after.clear();
        }
        buffers.set_begun(group, Some(begun.written()));
        Ok(done.max(1))
    }

    /// The window and the key of rows that stand behind this.
    fn window<'a>(&self, prefix: &'a [u8]) -> Result<(Bounds, &'a [u8]), StorageError> {
        let last = time_of(prefix)?;
        let key = prefix.get(12..).ok_or_else(|| damaged(prefix))?;
        Ok((Bounds { start: last - (self.size_ms - 1), end: last.saturating_add(1) }, key))
    }
}

/// Adds rows that pairs are made of.
fn put<'a>(
    side: Side,
    rows: impl Iterator<Item = &'a (Vec<u8>, Vec<u8>)>,
    builder: &mut Builder,
) -> Result<Vec<Put>, StorageError> {
    rows.map(|(entry, row)| Ok(builder.put(side, row.clone(), row_time(entry)?))).collect()
}

/// The time of a row, which stands before its number at the end.
fn row_time(entry: &[u8]) -> Result<i64, StorageError> {
    let at = entry.len().checked_sub(16).ok_or_else(|| damaged(entry))?;
    time_of(entry.get(at..).unwrap_or_default())
}

/// A row in a window, for people.
pub(super) fn kept<'a>(entry: &'a [u8], row: &'a [u8]) -> Result<Kept<'a>, StorageError> {
    let (prefix, time) = (prefix_of(entry)?, row_time(entry)?);
    let side = Side::BOTH.into_iter().find(|side| entry.get(prefix.len()) == Some(&(*side as u8)));
    let (side, key) = side.zip(prefix.get(12..)).ok_or_else(|| damaged(entry))?;
    Ok(Kept { side, key, time, window_last: Some(time_of(prefix)?), row })
}

/// The rows that are alone: those of a side if the other has none.
fn alone<'a, 'b>(left: &'b Run<'a>, right: &'b Run<'a>) -> Option<(Side, &'b Run<'a>)> {
    match (left.is_empty(), right.is_empty()) {
        (false, false) => None,
        (true, _) => Some((Side::Right, right)),
        (false, true) => Some((Side::Left, left)),
    }
}

/// How far the pairs of a key in a window have come.
struct Begun {
    /// What the rows' entries begin with.
    prefix: Vec<u8>,
    /// Whether there were rows on both sides.
    is_met: bool,
    /// The row of the right side that the first rows of the left have met last; empty: none yet.
    after: Vec<u8>,
}

impl Begun {
    /// Whether both sides have met in one byte, the length of the beginning in four, the beginning, the last row.
    fn written(&self) -> Vec<u8> {
        let length = u32::try_from(self.prefix.len()).expect("a key fits 4 GiB").to_be_bytes();
        [&[u8::from(self.is_met)], &length[..], &self.prefix, &self.after].concat()
    }

    fn read(written: &[u8]) -> Result<Self, StorageError> {
        let parts = || {
            let (&is_met, rest) = written.split_first()?;
            let (length, rest) = rest.split_first_chunk::<4>()?;
            let (prefix, after) =
                rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
            Some(Self { prefix: prefix.to_vec(), is_met: is_met == 1, after: after.to_vec() })
        };
        parts().ok_or_else(|| damaged(written))
    }
}

/// What the entries of a key in a window begin with: the window's last millisecond, the length of the key in four
/// bytes, the key.
fn prefix(last: i64, key: &[u8]) -> Vec<u8> {
    let length = u32::try_from(key.len()).expect("a key fits 4 GiB").to_be_bytes();
    [&sortable(last)[..], &length, key].concat()
}

fn prefix_of(entry: &[u8]) -> Result<&[u8], StorageError> {
    let parts = || {
        let length = entry.get(8..12)?.first_chunk::<4>()?;
        entry.get(..12 + usize::try_from(u32::from_be_bytes(*length)).ok()?)
    };
    parts().ok_or_else(|| damaged(entry))
}
