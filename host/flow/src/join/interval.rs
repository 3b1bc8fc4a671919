//! Interval joins: rows meet whose times are as far apart as an interval says.
//!
//! A row is kept by key, in order of time, as long as rows of the other side may come that it meets: one of the left
//! side at `t` until `t + upper`, one of the right until `t − lower`, neither less than until `t`. Then it goes, alone if
//! it has met none and its side is kept. That is how Flink's `IntervalJoinOperator` cleans up; but a row that is
//! only behind the watermark is joined with those that are still kept, and late is one that wouldn't be.

use xxhash_rust::xxh3::xxh3_64;

use super::arrival::{Arrival, Arrived, Batch, OfKey};
use super::buffers::{Buffers, SCHEDULE, Shelf, damaged, sortable, stamp, time_of};
use super::layout::Layout;
use super::pairs::{Builder, Pairs, Put};
use super::{Context, Kind, Side, is_past};
use crate::storage::{Storage, StorageError};

/// Rows of the other side that are taken into the hand at once.
const CHUNK: usize = if cfg!(test) { 3 } else { 1024 };
/// Rows that are read at once to go alone.
const ALONE_CHUNK: usize = if cfg!(test) { 2 } else { 256 };

#[derive(Debug)]
pub(super) struct Interval {
    lower_ms: i64,
    upper_ms: i64,
}

/// How far the search for the partners of a batch has come: so that it goes on when the operator has dealt with some.
#[derive(Debug, Default)]
pub(super) struct Probe {
    /// Pairs that are put together, by number.
    pub(super) call: u64,
    /// The key that is searched.
    pub(super) key: usize,
    /// For a table join the row of it.
    pub(super) row: usize,
    /// The rows of the other side that are at hand, and where those behind them begin, if there are more.
    chunk: Option<(Vec<Kept>, Option<Vec<u8>>)>,
    /// The next of them, and the next row of the batch to look at for it.
    next: usize,
    inner: Option<usize>,
}

/// A row of the other side.
#[derive(Debug)]
struct Kept {
    entry: Vec<u8>,
    time: i64,
    written: Vec<u8>,
    is_met: bool,
    put: Option<(u64, Put)>,
}

impl Interval {
    pub(super) fn new(lower_ms: i64, upper_ms: i64) -> Self {
        Self { lower_ms, upper_ms }
    }

    /// How long rows that may go alone are kept beyond their time.
    pub(super) fn kept_ms(&self, kind: Kind) -> i64 {
        let sides = Side::BOTH.into_iter().filter(|&side| kind.keeps(side));
        sides.map(|side| self.beyond_ms(side)).max().unwrap_or(0)
    }

    /// How long rows of a side are kept beyond their time.
    fn beyond_ms(&self, side: Side) -> i64 {
        match side {
            Side::Left => self.upper_ms.max(0),
            Side::Right => self.lower_ms.saturating_neg().max(0),
        }
    }

    fn kept_until(&self, side: Side, time: i64) -> i64 {
        time.saturating_add(self.beyond_ms(side))
    }

    /// The times of rows on the other side that one of this side meets, both included.
    fn partners(&self, side: Side, time: i64) -> (i64, i64) {
        match side {
            Side::Left => (time.saturating_add(self.lower_ms), time.saturating_add(self.upper_ms)),
            Side::Right => (time.saturating_sub(self.upper_ms), time.saturating_sub(self.lower_ms)),
        }
    }

    /// Whether rows of a side and of the other one meet that have these times.
    fn meet(&self, side: Side, time: i64, other: i64) -> bool {
        let (left, right) = if side == Side::Left { (time, other) } else { (other, time) };
        let apart = i128::from(right) - i128::from(left);
        (i128::from(self.lower_ms)..=i128::from(self.upper_ms)).contains(&apart)
    }

    pub(super) fn arrive(&self, batch: Batch<'_>, layout: &Layout) -> Arrival {
        let mut arrival = batch.arrival();
        let mut taken = Vec::with_capacity(batch.rows().len());
        for row in batch.rows() {
            let (until, watermark) = (self.kept_until(batch.side, batch.time(row)), batch.watermark(row));
            if is_past(until, watermark) {
                arrival.late(row, watermark.saturating_sub(until));
            } else {
                taken.push(row);
            }
        }
        arrival.look(&batch, &batch.writer(layout, None), taken.into_iter());
        arrival
    }

    pub(super) fn next_pairs(
        &self,
        kind: Kind,
        arrival: &mut Arrival,
        layout: &Layout,
        buffers: &mut Buffers,
        storage: &dyn Storage,
    ) -> Result<Option<Pairs>, StorageError> {
        let Arrival { side, keys, probe, .. } = arrival;
        let (side, mut builder) = (*side, Builder::default());
        probe.call += 1;
        while let Some(of_key) = keys.get_mut(probe.key) {
            let mut chunk = match probe.chunk.take() {
                Some(chunk) => chunk,
                None => self.search(side, of_key, None, buffers, storage)?,
            };
            let is_through = self.pair(side, of_key, &mut chunk.0, probe, &mut builder);
            if !is_through {
                probe.chunk = Some(chunk);
                break;
            }
            if kind.keeps(side.other()) {
                note_met(side.other(), of_key, &chunk.0, buffers)?;
            }
            (probe.next, probe.inner) = (0, None);
            match chunk.1 {
                Some(from) => probe.chunk = Some(self.search(side, of_key, Some(from), buffers, storage)?),
                None => {
                    self.keep(side, of_key, buffers);
                    probe.key += 1;
                }
            }
        }
        builder.finish(layout)
    }

    /// The rows that some row of a key may meet: a range of times.
    fn search(
        &self,
        side: Side,
        of_key: &OfKey,
        from: Option<Vec<u8>>,
        buffers: &Buffers,
        storage: &dyn Storage,
    ) -> Result<(Vec<Kept>, Option<Vec<u8>>), StorageError> {
        let time = |row: Option<&Arrived>| row.map_or(0, |row| row.time);
        let (first, _) = self.partners(side, time(of_key.rows.first()));
        let (_, last) = self.partners(side, time(of_key.rows.last()));
        let from = from.unwrap_or_else(|| sortable(first).to_vec());
        let behind = last.checked_add(1).map(sortable);
        let shelf = shelf(side.other(), of_key.hash, &of_key.key);
        let end = behind.as_ref().map(<[u8; 8]>::as_slice);
        let found = buffers.range(&shelf, (&from, end), CHUNK, storage)?;
        let next = found.entries.last().filter(|_| found.more).map(|(last, _)| [last, &[0][..]].concat());
        let kept = found.entries.into_iter().map(|(entry, written)| {
            Ok(Kept { time: time_of(&entry)?, entry, written, is_met: false, put: None })
        });
        Ok((kept.collect::<Result<_, StorageError>>()?, next))
    }

    /// Puts together the pairs of a key's rows and those at hand; says whether that was all, or the pairs are full.
    fn pair(
        &self,
        side: Side,
        of_key: &mut OfKey,
        chunk: &mut [Kept],
        probe: &mut Probe,
        builder: &mut Builder,
    ) -> bool {
        let call = probe.call;
        for kept in chunk.iter_mut().skip(probe.next) {
            let (first, _) = self.partners(side.other(), kept.time);
            let until = self.kept_until(side.other(), kept.time);
            let start = probe.inner.take();
            let start = start.unwrap_or_else(|| of_key.rows.partition_point(|row| row.time < first));
            for at in start..of_key.rows.len() {
                let row = &mut of_key.rows[at];
                if !self.meet(side, row.time, kept.time) {
                    break;
                }
                // It may stand there still, but was gone before the row came.
                if is_past(until, row.watermark) {
                    continue;
                }
                if builder.is_full() {
                    probe.inner = Some(at);
                    return false;
                }
                let own = put_once(&mut row.put, call, || builder.put(side, row.written.clone(), row.time));
                let other = put_once(&mut kept.put, call, || {
                    builder.put(side.other(), kept.written.clone(), kept.time)
                });
                (row.is_matched, kept.is_met) = (true, true);
                let mut sides = [Some(own), Some(other)];
                if side == Side::Right {
                    sides.reverse();
                }
                builder.pair(&of_key.key, sides, row.time.max(kept.time));
            }
            probe.next += 1;
        }
        true
    }

    /// Keeps the rows of a key, which have met what there is to meet.
    fn keep(&self, side: Side, of_key: &mut OfKey, buffers: &mut Buffers) {
        let shelf = shelf(side, of_key.hash, &of_key.key);
        for row in &mut of_key.rows {
            let mut written = std::mem::take(&mut row.written);
            if row.is_matched {
                set_matched(&mut written);
            }
            let stamp = stamp(row.time, buffers.number(of_key.hash));
            let what = [&[side as u8], of_key.key.as_slice(), &stamp].concat();
            buffers.add(&shelf, &stamp, written);
            buffers.schedule(of_key.hash, self.kept_until(side, row.time), &what, Vec::new());
        }
    }

    /// Lets go of rows of a key group that are kept no longer. Returns how much there was.
    pub(super) fn expire(
        &self,
        context: &Context<'_>,
        buffers: &mut Buffers,
        builder: &mut Builder,
    ) -> Result<usize, StorageError> {
        let Context { kind, group, watermark, storage, .. } = *context;
        let found = buffers.due(SCHEDULE, group, watermark, builder.room().max(1), storage)?;
        if found.entries.is_empty() {
            buffers.settle(group, &[SCHEDULE], storage)?;
            return Ok(0);
        }
        let mut done = 0;
        for some in found.entries.chunks(ALONE_CHUNK) {
            if builder.is_full() {
                break;
            }
            let gone: Vec<Gone<'_>> =
                some.iter().map(|(entry, _)| Gone::read(entry)).collect::<Result<_, _>>()?;
            let alone: Vec<&Gone<'_>> = gone.iter().filter(|gone| kind.keeps(gone.side)).collect();
            let wanted: Vec<_> = alone.iter().map(|gone| (gone.shelf(), gone.stamp)).collect();
            let rows = if wanted.is_empty() { Vec::new() } else { buffers.read(&wanted, storage)? };
            for (gone, written) in alone.iter().zip(rows) {
                let written = written.ok_or_else(|| damaged(gone.stamp))?;
                if written.last() != Some(&1) {
                    let time = time_of(gone.stamp)?;
                    builder.alone(gone.key, gone.side, (written, time), time);
                }
            }
            for (gone, (entry, _)) in gone.iter().zip(some) {
                buffers.remove(&gone.shelf(), gone.stamp);
                buffers.remove(&Shelf::of_group(SCHEDULE, group), entry);
            }
            done += some.len();
        }
        if done == found.entries.len() && !found.more {
            buffers.settle(group, &[SCHEDULE], storage)?;
        }
        Ok(done)
    }
}

/// A row that is kept no longer, as it is scheduled: behind the time its side, its key, and where it stands.
struct Gone<'a> {
    side: Side,
    key: &'a [u8],
    stamp: &'a [u8],
}

impl<'a> Gone<'a> {
    fn read(entry: &'a [u8]) -> Result<Self, StorageError> {
        let parts = || {
            let (side, rest) = entry.get(8..)?.split_first()?;
            let (key, stamp) = rest.split_at_checked(rest.len().checked_sub(16)?)?;
            let side = Side::BOTH.into_iter().find(|known| *known as u8 == *side)?;
            Some(Self { side, key, stamp })
        };
        parts().ok_or_else(|| damaged(entry))
    }

    fn shelf(&self) -> Shelf<'a> {
        shelf(self.side, xxh3_64(self.key), self.key)
    }
}

fn shelf(side: Side, hash: u64, key: &[u8]) -> Shelf<'_> {
    Shelf { collection: side as u8, hash, key }
}

fn put_once(put: &mut Option<(u64, Put)>, call: u64, new: impl FnOnce() -> Put) -> Put {
    match *put {
        Some((in_call, put)) if in_call == call => put,
        _ => put.insert((call, new())).1,
    }
}

/// Notes of rows that they have met one, if they hadn't yet.
fn note_met(side: Side, of_key: &OfKey, chunk: &[Kept], buffers: &mut Buffers) -> Result<(), StorageError> {
    let shelf = shelf(side, of_key.hash, &of_key.key);
    for kept in chunk.iter().filter(|kept| kept.is_met && kept.written.last() != Some(&1)) {
        let mut written = kept.written.clone();
        set_matched(&mut written);
        buffers.change(&shelf, &kept.entry, &written);
    }
    Ok(())
}

/// What is noted of a row last is a boolean that is always there: its last byte.
fn set_matched(written: &mut [u8]) {
    if let Some(last) = written.last_mut() {
        *last = 1;
    }
}
