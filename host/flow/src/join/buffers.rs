//! Where the rows of a join wait: by key in order of time, and by time for when something is due.
//!
//! Everything is an entry of [`Collections`], of which a join has four: the rows of each side, by key or by key
//! group; a *schedule*, by key group, in order of time; and what has to be known of a key group to go on, its
//! *progress*. Times stand in entries as 8 bytes, big-endian, their sign bit flipped, so that they sort. Behind a time
//! stands a sequence number, so that no two rows have one entry, and none is ever written where another one was.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::collections::{Collections, Found, Limit, Place};
use crate::key::key_group;
use crate::storage::{Addresses, Storage, StorageError, Writes};
use crate::ttl::Times;
use crate::watermark::WATERMARK_MIN;

/// The rows of the left side, or of both, by key group and time.
pub(super) const ROWS: u8 = 0;
/// What is due when, by key group and time.
pub(super) const SCHEDULE: u8 = 2;
const PROGRESS: u8 = 3;
const COLLECTIONS: usize = 4;

/// So many bytes of rows are taken into the hand at once, about.
pub(super) const BYTES_MAX: usize = 8 << 20;

/// What a task keeps for a join.
#[derive(Debug)]
pub(super) struct Buffers {
    collections: Collections,
    groups: Range<u32>,
    /// The number of the last row.
    sequence: u64,
    /// For each key group when the first of its schedule is due, or earlier; `None`: it has none.
    first: Vec<Option<i64>>,
    /// For each key group what a storage has of its progress, and what it should have.
    progress: BTreeMap<u32, Progress>,
}

#[derive(Debug, Default)]
struct Progress {
    /// Not before the last number of a row in the group.
    sequence: u64,
    /// What a join has begun in the group and not come to the end of.
    begun: Option<Vec<u8>>,
    is_stored: bool,
}

/// Where entries stand: a collection, of a key or of a key group as a whole.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shelf<'a> {
    pub collection: u8,
    pub hash: u64,
    pub key: &'a [u8],
}

impl Shelf<'static> {
    /// What belongs to a key group.
    pub(super) fn of_group(collection: u8, group: u32) -> Self {
        // A group is the remainder of a hash, so it is the hash of a key in it.
        Self { collection, hash: group.into(), key: b"" }
    }
}

impl<'a> Shelf<'a> {
    fn place(&self) -> Place<'a> {
        let times = Times { event: 0, processing: 0 };
        Place { collection: self.collection, hash: self.hash, key: self.key, times }
    }
}

impl Buffers {
    pub(super) fn new(addresses: Addresses, groups: Range<u32>) -> Self {
        Self {
            collections: Collections::new(addresses, groups.clone(), vec![None; COLLECTIONS]),
            first: vec![None; groups.len()],
            groups,
            sequence: 0,
            progress: BTreeMap::new(),
        }
    }

    /// What a storage has for these key groups.
    pub(super) fn restore(
        addresses: Addresses,
        groups: Range<u32>,
        storage: &dyn Storage,
    ) -> Result<Self, StorageError> {
        let mut buffers = Self::new(addresses, groups.clone());
        buffers.first.fill(Some(WATERMARK_MIN));
        let wanted: Vec<_> =
            groups.clone().map(|g| (Shelf::of_group(PROGRESS, g).place(), b"".as_slice())).collect();
        for (group, stored) in groups.zip(buffers.collections.read(storage, &wanted)?) {
            let Some(stored) = stored else { continue };
            let progress = Progress::read(&stored).ok_or_else(|| {
                StorageError(format!(
                    "the progress of key group {group} of operator {} is damaged: {stored:02x?}; recover from an \
                     earlier checkpoint",
                    addresses.operator
                ))
            })?;
            buffers.sequence = buffers.sequence.max(progress.sequence);
            buffers.progress.insert(group, progress);
        }
        Ok(buffers)
    }

    pub(super) fn groups(&self) -> Range<u32> {
        self.groups.clone()
    }

    /// A number that no row in these groups has had.
    pub(super) fn number(&mut self, hash: u64) -> u64 {
        self.sequence += 1;
        let progress = self.progress.entry(key_group(hash)).or_default();
        (progress.sequence, progress.is_stored) = (self.sequence, false);
        self.sequence
    }

    /// Adds an entry, which has the number of a row in it.
    pub(super) fn add(&mut self, shelf: &Shelf<'_>, entry: &[u8], value: Vec<u8>) {
        self.collections.add(&shelf.place(), entry, value);
    }

    /// Sets the value of an entry that is there.
    pub(super) fn change(&mut self, shelf: &Shelf<'_>, entry: &[u8], value: &[u8]) {
        self.collections.write(&shelf.place(), entry, Some(value));
    }

    pub(super) fn remove(&mut self, shelf: &Shelf<'_>, entry: &[u8]) {
        self.collections.write(&shelf.place(), entry, None);
    }

    /// Entries from `first` up to, and without, `end`.
    pub(super) fn range(
        &self,
        shelf: &Shelf<'_>,
        (first, end): (&[u8], Option<&[u8]>),
        entries: usize,
        storage: &dyn Storage,
    ) -> Result<Found, StorageError> {
        let limit = Limit { entries, bytes: BYTES_MAX };
        self.collections.range(storage, &shelf.place(), first, end, limit)
    }

    pub(super) fn read(
        &self,
        wanted: &[(Shelf<'_>, &[u8])],
        storage: &dyn Storage,
    ) -> Result<Vec<Option<Vec<u8>>>, StorageError> {
        let wanted: Vec<_> = wanted.iter().map(|(shelf, entry)| (shelf.place(), *entry)).collect();
        self.collections.read(storage, &wanted)
    }

    /// Puts something into the schedule of a key's group, to be due at a time.
    pub(super) fn schedule(&mut self, hash: u64, at: i64, what: &[u8], value: Vec<u8>) {
        let group = key_group(hash);
        let entry = [&sortable(at)[..], what].concat();
        self.add(&Shelf::of_group(SCHEDULE, group), &entry, value);
        self.notice(group, at);
    }

    /// Something of a group will be due at a time.
    pub(super) fn notice(&mut self, group: u32, at: i64) {
        let first = &mut self.first[(group - self.groups.start) as usize];
        *first = Some(first.map_or(at, |first| first.min(at)));
    }

    /// A key group from `from` on that has something due up to a time, perhaps.
    pub(super) fn group_due(&self, from: u32, until: i64) -> Option<u32> {
        let skipped = (from - self.groups.start) as usize;
        let groups = self.groups.clone().zip(&self.first).skip(skipped);
        groups.filter(|(_, first)| first.is_some_and(|first| first <= until)).map(|(group, _)| group).next()
    }

    /// Entries of a group that begin with a time up to `until`, earliest first: some of them.
    pub(super) fn due(
        &self,
        collection: u8,
        group: u32,
        until: i64,
        entries: usize,
        storage: &dyn Storage,
    ) -> Result<Found, StorageError> {
        let behind = until.checked_add(1).map(sortable);
        let end = behind.as_ref().map(<[u8; 8]>::as_slice);
        self.range(&Shelf::of_group(collection, group), (b"", end), entries, storage)
    }

    /// Nothing is due in a group: looks up when the next is, in collections whose entries begin with that time.
    pub(super) fn settle(
        &mut self,
        group: u32,
        collections: &[u8],
        storage: &dyn Storage,
    ) -> Result<(), StorageError> {
        let mut first = None;
        for &collection in collections {
            let found = self.range(&Shelf::of_group(collection, group), (b"", None), 1, storage)?;
            let at = found.entries.first().map(|(entry, _)| time_of(entry)).transpose()?;
            first = [first, at].into_iter().flatten().min();
        }
        self.first[(group - self.groups.start) as usize] = first;
        Ok(())
    }

    /// What is begun in a group.
    pub(super) fn begun(&self, group: u32) -> Option<&[u8]> {
        self.progress.get(&group)?.begun.as_deref()
    }

    pub(super) fn set_begun(&mut self, group: u32, begun: Option<Vec<u8>>) {
        let progress = self.progress.entry(group).or_default();
        if progress.begun != begun {
            (progress.begun, progress.is_stored) = (begun, false);
        }
    }

    fn note_progress(&mut self) {
        for (&group, progress) in self.progress.iter_mut().filter(|(_, p)| !p.is_stored) {
            progress.is_stored = true;
            let place = Shelf::of_group(PROGRESS, group).place();
            self.collections.write(&place, b"", Some(&progress.written()));
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.collections.bytes()
    }

    pub(super) fn freeze(&mut self) {
        self.note_progress();
        self.collections.freeze();
    }

    pub(super) fn drain(&mut self, max: usize) -> Option<Writes> {
        self.collections.drain(max)
    }

    pub(super) fn spill(&mut self, bytes_max: usize) -> Option<Writes> {
        self.collections.spill(bytes_max)
    }
}

impl Progress {
    fn written(&self) -> Vec<u8> {
        let mut written = self.sequence.to_be_bytes().to_vec();
        if let Some(begun) = &self.begun {
            written.push(1);
            written.extend_from_slice(begun);
        }
        written
    }

    fn read(stored: &[u8]) -> Option<Self> {
        let (sequence, rest) = stored.split_first_chunk::<8>()?;
        let begun = match rest {
            [] => None,
            [1, begun @ ..] => Some(begun.to_vec()),
            _ => return None,
        };
        Some(Self { sequence: u64::from_be_bytes(*sequence), begun, is_stored: true })
    }
}

/// A time as bytes that sort as times do.
pub(super) fn sortable(time: i64) -> [u8; 8] {
    (time.cast_unsigned() ^ (1 << 63)).to_be_bytes()
}

/// The time at the beginning of an entry.
pub(super) fn time_of(entry: &[u8]) -> Result<i64, StorageError> {
    let bytes = entry.first_chunk().ok_or_else(|| damaged(entry))?;
    Ok((u64::from_be_bytes(*bytes) ^ (1 << 63)).cast_signed())
}

/// A time and a number, as an entry.
pub(super) fn stamp(time: i64, number: u64) -> [u8; 16] {
    let mut entry = [0; 16];
    entry[..8].copy_from_slice(&sortable(time));
    entry[8..].copy_from_slice(&number.to_be_bytes());
    entry
}

pub(super) fn damaged(entry: &[u8]) -> StorageError {
    StorageError(format!(
        "an entry of a join's state is damaged: {entry:02x?}; recover from an earlier checkpoint"
    ))
}
