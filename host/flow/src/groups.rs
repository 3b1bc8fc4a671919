//! The groups of one slice: a hash table from key to accumulator, in columns.

use hashbrown::HashTable;

use crate::accumulators::Accumulators;
use crate::key::Keys;

/// The keys that occurred in a slice, each with its accumulator. Slots are numbered from 0 in the order in
/// which the keys first occurred.
#[derive(Clone, Debug)]
pub struct Groups {
    table: HashTable<u32>,
    hashes: Vec<u64>,
    key_bytes: Vec<u8>,
    key_ends: Vec<usize>,
    /// Whether a row was folded into the group: one whose rows were all rejected has no result.
    occupied: Vec<bool>,
    /// For each slot the batch that used it last, and its number in that batch.
    marks: Vec<(u64, u32)>,
    pub(crate) accumulators: Accumulators,
}

impl Groups {
    pub(crate) fn new(accumulators: Accumulators) -> Self {
        Self {
            table: HashTable::new(),
            hashes: Vec::new(),
            key_bytes: Vec::new(),
            key_ends: Vec::new(),
            occupied: Vec::new(),
            marks: Vec::new(),
            accumulators,
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

    /// The slots that have a result, in order.
    pub fn occupied(&self) -> Vec<u32> {
        (0u32..).zip(&self.occupied).filter(|(_, occupied)| **occupied).map(|(slot, _)| slot).collect()
    }

    /// The slot of a row's key, made if it is new.
    fn slot_of_row(&mut self, keys: &Keys, row: usize) -> u32 {
        self.slot_or_insert(keys.hashes()[row], keys.key(row))
    }

    fn slot_or_insert(&mut self, hash: u64, key: &[u8]) -> u32 {
        let Self { table, hashes, key_bytes, key_ends, .. } = self;
        let entry = table.entry(
            hash,
            |&slot| hashes[slot as usize] == hash && key_at(key_bytes, key_ends, slot) == key,
            |&slot| hashes[slot as usize],
        );
        match entry {
            hashbrown::hash_table::Entry::Occupied(found) => *found.get(),
            hashbrown::hash_table::Entry::Vacant(free) => {
                let slot =
                    u32::try_from(hashes.len()).expect("a slice of one task holds fewer than 2^32 keys");
                free.insert(slot);
                hashes.push(hash);
                key_bytes.extend_from_slice(key);
                key_ends.push(key_bytes.len());
                self.occupied.push(false);
                self.marks.push((0, 0));
                slot
            }
        }
    }

    /// The number of the row's group among the groups that `batch` has used so far, which are `slots`.
    pub(crate) fn number(&mut self, keys: &Keys, row: usize, batch: u64, slots: &mut Vec<u32>) -> u32 {
        let slot = self.slot_of_row(keys, row);
        let mark = &mut self.marks[slot as usize];
        if mark.0 != batch {
            *mark = (batch, u32::try_from(slots.len()).expect("fewer groups than rows"));
            slots.push(slot);
        }
        mark.1
    }

    pub(crate) fn occupy(&mut self, slots: impl IntoIterator<Item = u32>) {
        slots.into_iter().for_each(|slot| self.occupied[slot as usize] = true);
    }

    /// Pairs each occupied group of `other` with the group of the same key here. Groups that are new here are
    /// taken over with their accumulators; the rest come back as (slots here, slots there), to be merged.
    pub(crate) fn pair(&mut self, other: &Groups) -> (Vec<u32>, Vec<u32>) {
        let (mut here, mut there, mut new) = (Vec::new(), Vec::new(), Vec::new());
        for theirs in other.occupied() {
            let before = self.len();
            let ours = self.slot_or_insert(other.hashes[theirs as usize], other.key(theirs));
            if self.len() > before {
                new.push(theirs);
            } else if self.occupied[ours as usize] {
                here.push(ours);
                there.push(theirs);
            } else {
                // Vacant here: take theirs over as it stands.
                self.accumulators.scatter(&[ours], &other.accumulators.gather(&[theirs]));
                self.occupied[ours as usize] = true;
            }
        }
        let first = u32::try_from(self.len() - new.len()).expect("slots are 32 bits");
        let all: Vec<u32> = (0..u32::try_from(new.len()).expect("slots are 32 bits")).collect();
        self.accumulators.append(&other.accumulators.gather(&new), &all);
        self.occupy(all.iter().map(|n| first + n));
        (here, there)
    }
}

fn key_at<'a>(bytes: &'a [u8], ends: &[usize], slot: u32) -> &'a [u8] {
    let slot = slot as usize;
    let start = if slot == 0 { 0 } else { ends[slot - 1] };
    &bytes[start..ends[slot]]
}
