//! Joins with a table: a row of the left side meets the version of its key that was valid at its time.
//!
//! A row of the right side is a version, valid from its time to that of the next. A row of the left side waits until
//! the watermark is its time and the grace, so that versions which are late by no more than that have come; one that
//! comes after that doesn't wait. Versions of a key stand latest first, so that the one valid at a time is the
//! first from there on. Those with one time are ordered as they came: the last counts.
//!
//! When the watermark is a version's time and as long as versions are kept, those before it can no longer be asked for:
//! they go, and so does the version itself if it is one that removes the key. A row of either side that would be before
//! that is late. What was valid then is still known, however long ago it came.

use std::collections::BTreeMap;

use xxhash_rust::xxh3::xxh3_64;

use super::arrival::{Arrival, Batch, OfKey};
use super::buffers::{Buffers, ROWS, SCHEDULE, Shelf, damaged, sortable, stamp, time_of};
use super::layout::Layout;
use super::pairs::{Builder, Pairs};
use super::{Context, Kept, Kind, PAIRS_MAX, Side, is_past};
use crate::storage::{Storage, StorageError};
use crate::watermark::WATERMARK_MIN;

/// Versions of a key, by key.
pub(super) const VERSIONS: u8 = 1;
/// Versions that are taken into the hand at once. Usually all rows of a batch meet the same few.
const CHUNK: usize = if cfg!(test) { 2 } else { 64 };

#[derive(Debug)]
pub(super) struct Versioned {
    grace_ms: i64,
    versions_ms: i64,
    delete_when: Option<usize>,
}

/// A row of the left side that waits.
struct Waiting<'a> {
    time: i64,
    key: &'a [u8],
    written: &'a [u8],
}

impl Versioned {
    pub(super) fn new(grace_ms: i64, versions_ms: i64, delete_when: Option<usize>) -> Self {
        assert!(
            grace_ms >= 0 && versions_ms >= grace_ms,
            "{grace_ms} ms of grace, versions of {versions_ms} ms"
        );
        Self { grace_ms, versions_ms, delete_when }
    }

    pub(super) fn grace_ms(&self) -> i64 {
        self.grace_ms
    }

    pub(super) fn arrive(&self, batch: Batch<'_>, layout: &Layout, buffers: &mut Buffers) -> Arrival {
        let mut arrival = batch.arrival();
        match batch.side {
            Side::Left => self.look_or_wait(&batch, layout, buffers, &mut arrival),
            Side::Right => self.keep(&batch, layout, buffers, &mut arrival),
        }
        arrival
    }

    fn look_or_wait(&self, batch: &Batch<'_>, layout: &Layout, buffers: &mut Buffers, arrival: &mut Arrival) {
        let (writer, mut now) = (batch.writer(layout, None), Vec::new());
        for row in batch.rows() {
            let (time, watermark) = (batch.time(row), batch.watermark(row));
            let (until, due) = (time.saturating_add(self.versions_ms), time.saturating_add(self.grace_ms));
            if watermark != WATERMARK_MIN && until < watermark {
                arrival.late(row, watermark.saturating_sub(until));
            } else if is_past(due, watermark) {
                now.push(row);
            } else {
                let hash = batch.hash(row);
                let group = crate::key::key_group(hash);
                let waiting = Waiting { time, key: batch.key(row), written: &writer.write(row) };
                let entry = stamp(due, buffers.number(hash));
                buffers.add(&Shelf::of_group(ROWS, group), &entry, waiting.as_written());
                buffers.notice(group, due);
            }
        }
        arrival.look(batch, &writer, now.into_iter());
    }

    fn keep(&self, batch: &Batch<'_>, layout: &Layout, buffers: &mut Buffers, arrival: &mut Arrival) {
        let writer = batch.writer(layout, self.delete_when);
        for row in batch.rows() {
            let (time, watermark) = (batch.time(row), batch.watermark(row));
            let until = time.saturating_add(self.versions_ms);
            if is_past(until, watermark) {
                arrival.late(row, watermark.saturating_sub(until));
                continue;
            }
            let (hash, key) = (batch.hash(row), batch.key(row));
            let version = latest_first(stamp(time, buffers.number(hash)));
            buffers.add(&versions(hash, key), &version, writer.write(row));
            buffers.schedule(hash, until, &[key, &version].concat(), Vec::new());
        }
    }

    /// Rows that came so late that they needn't wait.
    pub(super) fn next_pairs(
        &self,
        kind: Kind,
        arrival: &mut Arrival,
        layout: &Layout,
        buffers: &Buffers,
        storage: &dyn Storage,
    ) -> Result<Option<Pairs>, StorageError> {
        let Arrival { keys, probe, .. } = arrival;
        let mut builder = Builder::default();
        while let Some(OfKey { hash, key, rows }) = keys.get_mut(probe.key) {
            let times: Vec<i64> = rows.iter().map(|row| row.time).collect();
            let found = valid(*hash, key, &times[probe.row..], buffers, storage)?;
            for version in found {
                let row = &mut rows[probe.row];
                if !add(kind, key, (row.time, &row.written), version, &mut builder) {
                    return builder.finish(layout);
                }
                probe.row += 1;
            }
            (probe.key, probe.row) = (probe.key + 1, 0);
        }
        builder.finish(layout)
    }

    /// Lets rows that have waited meet, in a key group; when there are none, versions go that nobody can ask for. Returns
    /// how much there was.
    pub(super) fn due(
        &self,
        context: &Context<'_>,
        buffers: &mut Buffers,
        builder: &mut Builder,
    ) -> Result<usize, StorageError> {
        let Context { kind, group, watermark, storage, .. } = *context;
        let found = buffers.due(ROWS, group, watermark, builder.room().clamp(1, PAIRS_MAX), storage)?;
        if found.entries.is_empty() {
            return self.forget(context, buffers);
        }
        let mut keys: BTreeMap<&[u8], Vec<(&[u8], Waiting<'_>)>> = BTreeMap::new();
        for (entry, written) in &found.entries {
            let waiting = Waiting::read(written).ok_or_else(|| damaged(entry))?;
            keys.entry(waiting.key).or_default().push((entry, waiting));
        }
        let mut done = 0;
        'keys: for (key, rows) in keys {
            let times: Vec<i64> = rows.iter().map(|(_, row)| row.time).collect();
            let valid = valid(xxh3_64(key), key, &times, buffers, storage)?;
            for ((entry, row), version) in rows.into_iter().zip(valid) {
                if !add(kind, key, (row.time, row.written), version, builder) {
                    break 'keys;
                }
                buffers.remove(&Shelf::of_group(ROWS, group), entry);
                done += 1;
            }
        }
        Ok(done.max(1))
    }

    /// Removes versions that nobody can ask for any more.
    fn forget(&self, context: &Context<'_>, buffers: &mut Buffers) -> Result<usize, StorageError> {
        let Context { group, watermark, storage, .. } = *context;
        let found = buffers.due(SCHEDULE, group, watermark, CHUNK, storage)?;
        if found.entries.is_empty() {
            buffers.settle(group, &[ROWS, SCHEDULE], storage)?;
            return Ok(0);
        }
        let (mut done, mut is_left) = (0, false);
        for (entry, _) in &found.entries {
            let (key, version) = entry
                .get(8..)
                .and_then(|rest| rest.split_at_checked(rest.len().checked_sub(16)?))
                .ok_or_else(|| damaged(entry))?;
            let of_key = versions(xxh3_64(key), key);
            let older = buffers.range(&of_key, (version, None), CHUNK, storage)?;
            for (at, (other, written)) in older.entries.iter().enumerate() {
                if at > 0 || other != version || is_deletion(written) {
                    buffers.remove(&of_key, other);
                }
            }
            done += older.entries.len().max(1);
            // The rest has its turn in the next call.
            if older.more {
                is_left = true;
                break;
            }
            buffers.remove(&Shelf::of_group(SCHEDULE, group), entry);
        }
        if !found.more && !is_left {
            buffers.settle(group, &[ROWS, SCHEDULE], storage)?;
        }
        Ok(done)
    }
}

/// Adds a row with the version that was valid, or alone, or not at all; unless there is no room for it.
fn add(
    kind: Kind,
    key: &[u8],
    (time, written): (i64, &[u8]),
    version: Option<(Vec<u8>, i64)>,
    builder: &mut Builder,
) -> bool {
    if version.is_none() && !kind.keeps(Side::Left) {
        return true;
    }
    if builder.is_full() {
        return false;
    }
    let left = builder.put(Side::Left, written.to_vec(), time);
    let right = version.map(|(version, since)| builder.put(Side::Right, version, since));
    builder.pair(key, [Some(left), right], time);
    true
}

/// A version as it is written, and since when it is valid.
type Version = (Vec<u8>, i64);

/// For each of these times the version of a key that was valid, and since when, if one was.
fn valid(
    hash: u64,
    key: &[u8],
    times: &[i64],
    buffers: &Buffers,
    storage: &dyn Storage,
) -> Result<Vec<Option<Version>>, StorageError> {
    let mut order: Vec<usize> = (0..times.len()).collect();
    order.sort_by_key(|&at| std::cmp::Reverse(times[at]));
    let mut valid = vec![None; times.len()];
    let Some(&latest) = order.first() else { return Ok(valid) };
    // Whatever is not after the latest time, latest first.
    let mut from = latest_first(stamp(times[latest], u64::MAX)).to_vec();
    let mut order = order.into_iter().peekable();
    loop {
        let found = buffers.range(&versions(hash, key), (&from, None), CHUNK, storage)?;
        for (entry, written) in &found.entries {
            let since = version_time(entry)?;
            while let Some(at) = order.next_if(|&at| times[at] >= since) {
                valid[at] = (!is_deletion(written)).then(|| (written.clone(), since));
            }
        }
        match found.entries.last() {
            Some((last, _)) if found.more && order.peek().is_some() => from = [last, &[0][..]].concat(),
            _ => return Ok(valid),
        }
    }
}

impl<'a> Waiting<'a> {
    /// The time, the length of the key in four bytes, the key, the row.
    fn as_written(&self) -> Vec<u8> {
        let length = u32::try_from(self.key.len()).expect("a key fits 4 GiB").to_be_bytes();
        [&sortable(self.time)[..], &length, self.key, self.written].concat()
    }

    fn read(written: &'a [u8]) -> Option<Self> {
        let time = time_of(written).ok()?;
        let (length, rest) = written.get(8..)?.split_first_chunk::<4>()?;
        let (key, written) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
        Some(Self { time, key, written })
    }
}

/// A row that waits, for people.
pub(super) fn waiting(written: &[u8]) -> Result<Kept<'_>, StorageError> {
    let Waiting { time, key, written: row } = Waiting::read(written).ok_or_else(|| damaged(written))?;
    Ok(Kept { side: Side::Left, key, time, window_last: None, row })
}

fn versions(hash: u64, key: &[u8]) -> Shelf<'_> {
    Shelf { collection: VERSIONS, hash, key }
}

/// A stamp the other way round: later ones stand before earlier ones.
fn latest_first(stamp: [u8; 16]) -> [u8; 16] {
    stamp.map(|byte| !byte)
}

pub(super) fn version_time(entry: &[u8]) -> Result<i64, StorageError> {
    let stamp: [u8; 16] = entry.try_into().map_err(|_| damaged(entry))?;
    time_of(&latest_first(stamp))
}

/// Of a row of the right side two booleans are noted last, each in a byte: whether it removes its key is the first.
fn is_deletion(written: &[u8]) -> bool {
    written.len().checked_sub(2).and_then(|at| written.get(at)) == Some(&1)
}
