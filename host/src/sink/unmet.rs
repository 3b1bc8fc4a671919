//! Rows that a log has had since a checkpoint, and that come again when a pipeline goes on from it: each is met once, and
//! then known as a copy.
//!
//! An id may stand there several times: then as many copies are met as there are, so that rows which share an id by
//! chance, or because an operator did the same thing twice, are neither lost nor doubled.

use std::ops::Range;

use tidemill_log::{Log, LogError};

/// So many ids are looked for at most: with 20 bytes each about 1.3 GiB.
pub(super) const IDS_MAX: usize = 1 << 26;

/// How much is read of a log at once.
const BATCH_RECORDS: usize = 16_384;
const BATCH_BYTES: usize = 4 << 20;

/// A record's id is this byte and the 16 bytes of the row's id, the highest first. No text begins so, which the ids of
/// other writers mostly are.
const ROW_ID: u8 = 1;

/// The id of a row as its record has it.
pub(super) type RecordId = [u8; 17];

/// Writes a row's id.
pub(super) fn record_id(id: i128) -> RecordId {
    let mut bytes = [ROW_ID; 17];
    bytes[1..].copy_from_slice(&id.to_be_bytes());
    bytes
}

/// The row's id that a record has; none: it has none, or that of another kind of writer.
pub fn row_id(id: &[u8]) -> Option<i128> {
    let (&first, id) = id.split_first()?;
    let id = id.try_into().ok().filter(|_| first == ROW_ID)?;
    Some(i128::from_be_bytes(id))
}

/// Where in each partition of a log the records are that come again when a pipeline goes on from a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repeatable {
    /// The log's identity.
    pub log: u64,
    /// By number.
    pub partitions: Vec<Offsets>,
}

/// Offsets of a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offsets {
    /// Some before `from`, ascending.
    pub before: Vec<Range<u64>>,
    /// All from here on.
    pub from: u64,
}

/// Rows that may come again.
#[derive(Debug, Default)]
pub(super) struct Unmet {
    /// In the order of their places.
    ids: Vec<i128>,
    runs: Vec<Run>,
    /// The indices of the ids, ordered by id, then by place. With it an id takes 20 bytes and a bit; a hash map would
    /// take three times that.
    order: Vec<u32>,
    /// By index, a bit for each.
    met: Vec<u64>,
    left: usize,
}

/// Ids of records that follow each other.
#[derive(Clone, Copy, Debug)]
struct Run {
    /// The index of the first.
    index: usize,
    partition: u32,
    offset: u64,
}

impl Unmet {
    /// Reads the ids of the records at these offsets; `None`: of all that the log has.
    ///
    /// # Errors
    /// When the log can't be read, or there are more than [`IDS_MAX`].
    pub(super) fn read(log: &Log, repeatable: Option<&Repeatable>) -> Result<Self, String> {
        let mut unmet = Self::default();
        for partition in 0..log.partitions() {
            let offsets = repeatable.and_then(|r| r.partitions.get(partition as usize));
            let all = Offsets::default();
            let Offsets { before, from } = offsets.unwrap_or(&all);
            for range in before.iter().cloned().chain(std::iter::once(*from..u64::MAX)) {
                unmet.read_range(log, partition, range).map_err(|e| e.to_string())?;
                if unmet.ids.len() > IDS_MAX {
                    return Err(format!(
                        "the log has more than {IDS_MAX} rows that may come again, too many to look for; give the sink \
                         another path, or run it once with delivery = \"at-least-once\", which writes them again"
                    ));
                }
            }
        }
        unmet.index();
        Ok(unmet)
    }

    fn read_range(&mut self, log: &Log, partition: u32, range: Range<u64>) -> Result<(), LogError> {
        // What was trimmed since is in nobody's way.
        let start = range.start.max(log.first_offset(partition)?);
        if start >= range.end {
            return Ok(());
        }
        let mut reader = match log.reader(partition, start) {
            // A loss of power has taken what wasn't synced yet.
            Err(LogError::BeyondEnd { .. }) => return Ok(()),
            opened => opened?,
        };
        loop {
            let batch = reader.read(BATCH_RECORDS, BATCH_BYTES)?;
            if batch.is_empty() {
                return Ok(());
            }
            for (offset, record) in batch.records() {
                if offset >= range.end || self.ids.len() > IDS_MAX {
                    return Ok(());
                }
                if let Some(id) = record.id.and_then(row_id) {
                    self.push(partition, offset, id);
                }
            }
        }
    }

    fn push(&mut self, partition: u32, offset: u64, id: i128) {
        let index = self.ids.len();
        let follows =
            |run: &Run| run.partition == partition && run.offset + (index - run.index) as u64 == offset;
        if !self.runs.last().is_some_and(follows) {
            self.runs.push(Run { index, partition, offset });
        }
        self.ids.push(id);
    }

    fn index(&mut self) {
        let count = u32::try_from(self.ids.len()).expect("IDS_MAX at most");
        let mut order: Vec<u32> = (0..count).collect();
        order.sort_unstable_by_key(|&index| (self.ids[index as usize], index));
        self.order = order;
        self.met = vec![0; self.ids.len().div_ceil(64)];
        self.left = self.ids.len();
    }

    /// How many rows haven't come again.
    pub(super) fn left(&self) -> usize {
        self.left
    }

    /// A row with this id has come. If it is a copy of one that is there and that hadn't come again, gives the place of
    /// that: partition and offset.
    pub(super) fn meet(&mut self, id: i128) -> Option<(u32, u64)> {
        if self.left == 0 {
            return None;
        }
        let first = self.order.partition_point(|&index| self.ids[index as usize] < id);
        let same = self.order[first..].iter().take_while(|&&index| self.ids[index as usize] == id);
        let index = same.map(|&index| index as usize).find(|&index| !self.is_met(index))?;
        let run = self.runs[self.runs.partition_point(|run| run.index <= index) - 1];
        self.met[index / 64] |= 1 << (index % 64);
        self.left -= 1;
        if self.left == 0 {
            *self = Self::default();
        }
        Some((run.partition, run.offset + (index - run.index) as u64))
    }

    fn is_met(&self, index: usize) -> bool {
        self.met[index / 64] & (1 << (index % 64)) != 0
    }

    /// Calls with the place of each row that hasn't come again: partition and offset, ascending.
    pub(super) fn each(&self, mut call: impl FnMut(u32, u64)) {
        let ends = self.runs.iter().skip(1).map(|run| run.index).chain([self.ids.len()]);
        for (run, end) in self.runs.iter().zip(ends) {
            for index in (run.index..end).filter(|&index| !self.is_met(index)) {
                call(run.partition, run.offset + (index - run.index) as u64);
            }
        }
    }

    /// Gives back the memory of what was met, when that is most.
    pub(super) fn shrink(&mut self) {
        if self.left * 2 > self.ids.len() {
            return;
        }
        let mut rest = Self::default();
        let mut unmet = (0..self.ids.len()).filter(|&index| !self.is_met(index)).map(|index| self.ids[index]);
        self.each(|partition, offset| rest.push(partition, offset, unmet.next().expect("as many as places")));
        rest.index();
        *self = rest;
    }

    /// Looks for nothing any more; says how many rows hadn't come again.
    pub(super) fn give_up(&mut self) -> usize {
        std::mem::take(self).left
    }
}

/// Closes the smallest gaps between ranges, which ascend, until there are so many at most. What then is in them too does
/// no harm: it is looked for and doesn't come.
pub(super) fn joined(ranges: Vec<Range<u64>>, ranges_max: usize) -> Vec<Range<u64>> {
    let gap = |pair: &[Range<u64>]| pair[1].start - pair[0].end;
    let mut gaps: Vec<(u64, usize)> =
        ranges.windows(2).enumerate().map(|(at, pair)| (gap(pair), at + 1)).collect();
    gaps.sort_unstable();
    let too_many = ranges.len().saturating_sub(ranges_max);
    let mut closed = vec![false; ranges.len()];
    gaps.iter()
        .enumerate()
        .take_while(|(number, (gap, _))| *number < too_many || *gap == 0)
        .for_each(|(_, (_, at))| closed[*at] = true);
    let mut joined: Vec<Range<u64>> = Vec::new();
    for (range, closed) in ranges.into_iter().zip(closed) {
        match joined.last_mut() {
            Some(last) if closed => last.end = range.end,
            _ => joined.push(range),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use tidemill_log::{Options, Record, Writer};

    use super::*;

    fn of(ids: &[(u32, u64, i128)]) -> Unmet {
        let mut unmet = Unmet::default();
        ids.iter().for_each(|&(partition, offset, id)| unmet.push(partition, offset, id));
        unmet.index();
        unmet
    }

    fn places(unmet: &Unmet) -> Vec<(u32, u64)> {
        let mut places = Vec::new();
        unmet.each(|partition, offset| places.push((partition, offset)));
        places
    }

    #[test]
    fn as_many_copies_are_met_as_there_are() {
        let mut unmet = of(&[(0, 5, 7), (0, 6, -7), (0, 8, 7), (1, 0, 9)]);
        assert_eq!(unmet.meet(8), None);
        assert_eq!(unmet.meet(7), Some((0, 5)));
        assert_eq!(places(&unmet), [(0, 6), (0, 8), (1, 0)]);
        assert_eq!([unmet.meet(7), unmet.meet(7)], [Some((0, 8)), None]);
        assert_eq!(unmet.meet(-7), Some((0, 6)));
        assert_eq!(places(&unmet), [(1, 0)]);
        unmet.shrink();
        assert_eq!((unmet.ids.len(), places(&unmet)), (1, vec![(1, 0)]));
        assert_eq!([unmet.meet(9), unmet.meet(9)], [Some((1, 0)), None]);
        assert_eq!(unmet.left(), 0);
        assert!(unmet.ids.capacity() == 0, "nothing is left, and takes no memory");
    }

    #[test]
    fn the_smallest_gaps_are_closed() {
        let check = |ranges: &[Range<u64>], ranges_max, expected: &[Range<u64>]| {
            assert_eq!(joined(ranges.to_vec(), ranges_max), expected);
        };
        check(&[], 2, &[]);
        check(&[0..1, 1..3, 5..6], 5, &[0..3, 5..6]);
        check(&[0..1, 4..5, 6..7, 20..21], 2, &[0..7, 20..21]);
        check(&[0..1, 4..5, 6..7, 20..21], 3, &[0..1, 4..7, 20..21]);
    }

    #[test]
    fn ids_are_read_where_they_may_come_again() {
        let folder = tempfile::tempdir().unwrap();
        let options = Options { partitions: 2, ..Options::default() };
        let writer = Writer::create(&folder.path().join("log"), &options).unwrap();
        let append = |partition, ids: &[Option<i128>]| {
            let ids: Vec<_> = ids.iter().map(|id| id.map(record_id)).collect();
            let record = |id| Record { id, value: b"v", ..Record::default() };
            let records: Vec<_> =
                ids.iter().map(|id| record(id.as_ref().map(<[u8; 17]>::as_slice))).collect();
            writer.append_all(partition, &records).unwrap();
        };
        append(0, &[Some(1), Some(2), Some(3), None, Some(4), Some(5)]);
        append(1, &[Some(6), Some(6)]);
        writer.append(1, &[Record { id: Some(b"seventeen letters"), ..Record::default() }]).unwrap();
        let read = |partitions: &[(&[Range<u64>], u64)]| {
            let offsets =
                |(before, from): &(&[Range<u64>], u64)| Offsets { before: before.to_vec(), from: *from };
            let partitions = partitions.iter().map(offsets).collect();
            places(&Unmet::read(writer.log(), Some(&Repeatable { log: 0, partitions })).unwrap())
        };
        assert_eq!(read(&[(&[], 4), (&[], 9)]), [(0, 4), (0, 5)]);
        assert_eq!(read(&[(&[0..1, 2..4], 5), (&[], 1)]), [(0, 0), (0, 2), (0, 5), (1, 1)]);
        let all = Unmet::read(writer.log(), None).unwrap();
        assert_eq!(all.left(), 7, "a record without an id of ours is none that may come again");
    }
}
