//! A part of a table: the rows of a range of key groups, found by key, in columns.
//!
//! What a row's state may be, told by its mark:
//!
//! * *present* or not: a slot whose key has no row holds the initial values;
//! * *changed* in an epoch and not handed out since: the present one (dirty), or one before it (frozen). Neither: clean,
//!   which means that the storage says the same;
//! * *stored*: the storage may hold a row of the key, so that a removal must be told to it.

use std::ops::Range;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use crate::accumulators::{Accumulators, DROPPED};
use crate::key::key_group;

/// The keys of a range of key groups, each with its row. Slots are numbered from 0 in the order in which the keys
/// first occurred.
#[derive(Clone, Debug)]
pub struct Shard {
    pub(crate) groups: Range<u32>,
    index: HashTable<u32>,
    hashes: Vec<u64>,
    key_bytes: Vec<u8>,
    key_ends: Vec<usize>,
    pub(crate) marks: Vec<Mark>,
    pub(crate) rows: Accumulators,
    /// Whether a key that isn't here has no row: nothing of this shard stands in the storage alone.
    pub(crate) complete: bool,
    /// Rows changed in the present epoch, each once.
    pub(crate) dirty: Vec<u32>,
    /// Rows changed in epochs before, and not handed out. A row that was changed since is still listed, though what
    /// was frozen of it has been saved: whoever takes a row from here looks at its mark.
    pub(crate) frozen: Vec<u32>,
    /// The batch in which rows were last looked through for some to drop.
    pub(crate) visited: u64,
    /// What was last counted of it, in bytes.
    pub(crate) counted_bytes: usize,
}

/// What is known of a slot.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Mark {
    /// The batch that used it last, and its number in that batch.
    pub(crate) batch: u64,
    pub(crate) number: u32,
    state: u32,
}

const PRESENT: u32 = 1;
const STORED: u32 = 2;
const EPOCH_SHIFT: u32 = 2;

/// The last epoch that a mark can name. With a checkpoint each second it comes after 34 years.
pub(crate) const EPOCH_MAX: u32 = u32::MAX >> EPOCH_SHIFT;

impl Mark {
    pub(crate) fn is_present(self) -> bool {
        self.state & PRESENT != 0
    }

    pub(crate) fn set_present(&mut self, present: bool) {
        self.state = (self.state & !PRESENT) | u32::from(present);
    }

    pub(crate) fn is_stored(self) -> bool {
        self.state & STORED != 0
    }

    pub(crate) fn set_stored(&mut self, stored: bool) {
        self.state = (self.state & !STORED) | (u32::from(stored) * STORED);
    }

    /// The epoch of the change that wasn't handed out yet; 0: the row is clean.
    pub(crate) fn changed(self) -> u32 {
        self.state >> EPOCH_SHIFT
    }

    pub(crate) fn set_changed(&mut self, epoch: u32) {
        self.state = (self.state & (PRESENT | STORED)) | (epoch << EPOCH_SHIFT);
    }
}

impl Shard {
    pub(crate) fn new(groups: Range<u32>, rows: Accumulators, complete: bool) -> Self {
        Self {
            groups,
            index: HashTable::new(),
            hashes: Vec::new(),
            key_bytes: Vec::new(),
            key_ends: Vec::new(),
            marks: Vec::new(),
            rows,
            complete,
            dirty: Vec::new(),
            frozen: Vec::new(),
            visited: 0,
            counted_bytes: 0,
        }
    }

    /// The number of slots.
    pub fn len(&self) -> usize {
        self.hashes.len()
    }

    /// Whether no key has occurred.
    pub fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }

    /// The written key of a slot.
    pub fn key(&self, slot: u32) -> &[u8] {
        key_at(&self.key_bytes, &self.key_ends, slot)
    }

    /// The slots whose keys have a row, in order.
    pub fn occupied(&self) -> Vec<u32> {
        (0u32..).zip(&self.marks).filter(|(_, mark)| mark.is_present()).map(|(slot, _)| slot).collect()
    }

    /// The slots of key groups of a range whose keys have a row, in order.
    pub(crate) fn occupied_in(&self, groups: &Range<u32>) -> Vec<u32> {
        let mut slots = self.occupied();
        if groups.start > self.groups.start || groups.end < self.groups.end {
            slots.retain(|&slot| groups.contains(&key_group(self.hash(slot))));
        }
        slots
    }

    pub(crate) fn hash(&self, slot: u32) -> u64 {
        self.hashes[slot as usize]
    }

    /// The slot of a key, if it has one.
    pub(crate) fn find(&self, hash: u64, key: &[u8]) -> Option<u32> {
        self.index.find(hash, |&slot| self.hash(slot) == hash && self.key(slot) == key).copied()
    }

    /// The slot of a key, made if it is new. The rows of new slots are for the caller to add.
    #[inline]
    pub(crate) fn slot(&mut self, hash: u64, key: &[u8]) -> u32 {
        let Self { index, hashes, key_bytes, key_ends, .. } = self;
        let entry = index.entry(
            hash,
            |&slot| hashes[slot as usize] == hash && key_at(key_bytes, key_ends, slot) == key,
            |&slot| hashes[slot as usize],
        );
        match entry {
            Entry::Occupied(found) => *found.get(),
            Entry::Vacant(free) => {
                let slot =
                    u32::try_from(hashes.len()).expect("a shard of one task holds fewer than 2^32 keys");
                free.insert(slot);
                hashes.push(hash);
                key_bytes.extend_from_slice(key);
                key_ends.push(key_bytes.len());
                self.marks.push(Mark::default());
                slot
            }
        }
    }

    /// Notes that a row was handed out as it is.
    pub(crate) fn hand_out(&mut self, slot: u32) {
        let mark = &mut self.marks[slot as usize];
        mark.set_changed(0);
        mark.set_stored(mark.is_present());
    }

    /// About how many bytes of memory it takes.
    pub(crate) fn bytes(&self) -> usize {
        size_of::<Self>()
            + self.index.allocation_size()
            + self.hashes.capacity() * size_of::<u64>()
            + self.key_bytes.capacity()
            + self.key_ends.capacity() * size_of::<usize>()
            + self.marks.capacity() * size_of::<Mark>()
            + (self.dirty.capacity() + self.frozen.capacity()) * size_of::<u32>()
            + self.rows.bytes()
    }

    /// Deals the slots out to parts: slot i goes to part `part_of[i]`, or is forgotten if that is [`DROPPED`].
    /// `groups` are the key groups of the parts, `epoch` is the present one. Parts have room for what they get, or
    /// for twice that if they are to grow.
    pub(crate) fn partition(
        self,
        groups: Vec<Range<u32>>,
        part_of: &[u32],
        epoch: u32,
        to_grow: bool,
    ) -> Vec<Shard> {
        let mut sizes = vec![(0, 0); groups.len()];
        let slots = || (0u32..).zip(part_of).filter(|(_, part)| **part != DROPPED);
        for (slot, &part) in slots() {
            let (rows, key_bytes) = &mut sizes[part as usize];
            *rows += 1;
            *key_bytes += self.key(slot).len();
        }
        let rows: Vec<usize> = sizes.iter().map(|(rows, _)| *rows).collect();
        let room = 1 + usize::from(to_grow);
        sizes
            .iter_mut()
            .for_each(|(rows, key_bytes)| (*rows, *key_bytes) = (*rows * room, *key_bytes * room));
        let rooms: Vec<usize> = sizes.iter().map(|(rows, _)| *rows).collect();
        let parts = groups.into_iter().zip(self.rows.partition(part_of, &rows, &rooms)).zip(&sizes);
        let mut parts: Vec<Shard> = parts
            .map(|((groups, values), &(rows, key_bytes))| Shard {
                groups,
                index: HashTable::with_capacity(rows),
                hashes: Vec::with_capacity(rows),
                key_bytes: Vec::with_capacity(key_bytes),
                key_ends: Vec::with_capacity(rows),
                marks: Vec::with_capacity(rows),
                rows: values,
                complete: self.complete,
                dirty: Vec::new(),
                frozen: Vec::new(),
                visited: self.visited,
                counted_bytes: 0,
            })
            .collect();
        for (slot, &part) in slots() {
            let (hash, mark) = (self.hashes[slot as usize], self.marks[slot as usize]);
            let key = key_at(&self.key_bytes, &self.key_ends, slot);
            parts[part as usize].adopt(hash, key, mark, epoch);
        }
        parts
    }

    /// Adds a slot of another shard, whose row has been added.
    fn adopt(&mut self, hash: u64, key: &[u8], mark: Mark, epoch: u32) {
        let slot = u32::try_from(self.hashes.len()).expect("no more than there were");
        self.hashes.push(hash);
        self.key_bytes.extend_from_slice(key);
        self.key_ends.push(self.key_bytes.len());
        self.marks.push(mark);
        let Self { index, hashes, .. } = self;
        index.insert_unique(hash, slot, |&slot| hashes[slot as usize]);
        match mark.changed() {
            0 => {}
            changed if changed == epoch => self.dirty.push(slot),
            _ => self.frozen.push(slot),
        }
    }

    /// Pairs the given slots of `other` with the slots of the same keys here. Rows whose keys have none here are
    /// taken over; the rest come back as (slots here, slots there), to be merged.
    pub(crate) fn pair(&mut self, other: &Shard, slots: Vec<u32>) -> (Vec<u32>, Vec<u32>) {
        let (mut here, mut there, mut new) = (Vec::new(), Vec::new(), Vec::new());
        // Usually no slot is vacant; to see that once spares a look at each mark, in the order of their hashes.
        let is_full = self.marks.iter().all(|mark| mark.is_present());
        for theirs in slots {
            let before = self.len();
            let ours = self.slot(other.hash(theirs), other.key(theirs));
            if self.len() > before {
                new.push(theirs);
                self.marks[ours as usize].set_present(true);
            } else if is_full || self.marks[ours as usize].is_present() {
                here.push(ours);
                there.push(theirs);
            } else {
                // Vacant here: take theirs over as it stands.
                self.rows.scatter(&[ours], &other.rows.gather(&[theirs]));
                self.marks[ours as usize].set_present(true);
            }
        }
        let all: Vec<u32> = (0u32..).take(new.len()).collect();
        self.rows.append(&other.rows.gather(&new), &all);
        (here, there)
    }
}

fn key_at<'a>(bytes: &'a [u8], ends: &[usize], slot: u32) -> &'a [u8] {
    let slot = slot as usize;
    let start = if slot == 0 { 0 } else { ends[slot - 1] };
    &bytes[start..ends[slot]]
}
