//! A table of state: key to row, for the key groups of one task and one slice. It is a write-back cache in front of a
//! [`Storage`]: rows are changed in memory, and handed out to be written when a checkpoint asks for them.
//!
//! # How it is used
//!
//! For each batch: [`begin`](Table::begin), [`number`](Table::number) the keys, [`load`](Table::load) what only the
//! storage knows, then [`gather`](Table::gather), [`store`](Table::store) and [`remove`](Table::remove) as often as
//! needed. Slots are valid until the next `begin`, [`evict`](Table::evict) or [`spill`](Table::spill).
//!
//! At a barrier: [`freeze`](Table::freeze), and between the batches that follow [`drain`](Table::drain) until it gives
//! `None`. Whoever gets [`Writes`](crate::storage::Writes) applies them to the storage before doing anything else with
//! the table: rows that were handed out count as stored.
//!
//! # Epochs
//!
//! Freezing begins a new epoch and touches no row: each row knows the epoch of its last change, and each shard lists
//! the rows that were changed. If a frozen row is changed before it was handed out, what it was is written down first.
//!
//! # Shards
//!
//! Rows lie in shards, each with the rows of a range of key groups, so that memory is given back in steps of some
//! milliseconds: a shard that grows past `SHARD_ROWS_MAX` is cut up, and to evict rows a shard is rebuilt without them.
//! A small table has one shard and pays nothing for this.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::ArrayRef;

use crate::accumulators::Accumulators;
use crate::key::{Keys, key_group};
use crate::rows::{Codec, RowError};
use crate::shard::Shard;
use crate::storage::{Addresses, Storage, StorageError, Write};

mod epochs;
mod memory;
mod stored;
#[cfg(test)]
mod tests;

pub(crate) use stored::StoredRow;

/// The rows beyond which a shard is cut up, unless it has a single key group. Moving as many takes about a
/// millisecond.
pub(crate) const SHARD_ROWS_MAX: usize = if cfg!(test) { 8 } else { 1 << 16 };

/// How many shards are made of one. With eight a row of a table of ten million is moved three times on the way there;
/// with two it would be nine times.
const SHARDS_OF_ONE: u32 = 8;

/// The rows of one task's key groups in one slice.
#[derive(Debug)]
pub struct Table {
    addresses: Addresses,
    slice: i64,
    groups: Range<u32>,
    codec: Arc<Codec>,
    /// Ascending by key group, without gaps.
    shards: Vec<Shard>,
    /// For each key group from the first its shard; empty as long as there is one.
    shard_of: Vec<u32>,
    /// A shard that has grown too large.
    crowded: Option<usize>,
    /// Slots whose rows only the storage knows.
    missing: Vec<Slot>,
    /// Numbers the batches, from 1.
    batch: u64,
    /// The present epoch, from 1.
    epoch: u32,
    /// Whether rows of earlier epochs are still to be handed out, and the shard that is next.
    draining: bool,
    drain_next: usize,
    /// What was frozen of rows that have been changed since.
    saved: Vec<Write>,
    saved_bytes: usize,
    /// Whether the storage may hold rows of the table.
    in_storage: bool,
    /// The shard to evict from next.
    hand: usize,
    /// What the shards were last counted to hold.
    bytes: usize,
}

/// Where a row is in a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    pub(crate) shard: u32,
    pub(crate) row: u32,
}

impl Table {
    /// A table without rows, of which the storage holds none either. The codec's initial row is that of a key which
    /// has none.
    pub fn new(addresses: Addresses, slice: i64, groups: Range<u32>, codec: Arc<Codec>) -> Self {
        let shard = Shard::new(groups.clone(), Accumulators::new(codec.schema()), true);
        Self {
            addresses,
            slice,
            groups,
            codec,
            bytes: 0,
            shards: vec![shard],
            shard_of: Vec::new(),
            crowded: None,
            missing: Vec::new(),
            batch: 0,
            epoch: 1,
            draining: false,
            drain_next: 0,
            saved: Vec::new(),
            saved_bytes: 0,
            in_storage: false,
            hand: 0,
        }
    }

    /// A table whose rows may all stand in the storage; nothing is read yet.
    pub fn restored(addresses: Addresses, slice: i64, groups: Range<u32>, codec: Arc<Codec>) -> Self {
        let mut table = Self::new(addresses, slice, groups, codec);
        table.shards[0].complete = false;
        table.in_storage = true;
        table
    }

    /// The number of slots in memory.
    pub fn len(&self) -> usize {
        self.shards.iter().map(Shard::len).sum()
    }

    /// Whether nothing is in memory.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether every row is in memory, so that no key has to be looked up in the storage.
    pub fn is_complete(&self) -> bool {
        self.shards.iter().all(|s| s.complete)
    }

    /// Begins a batch. Slots of earlier ones are no longer valid.
    ///
    /// # Panics
    /// When rows of the batch before were never loaded.
    pub fn begin(&mut self) {
        assert!(self.missing.is_empty(), "{} rows of a batch were never loaded", self.missing.len());
        self.batch += 1;
        if let Some(crowded) = self.crowded.take() {
            self.cut_up(crowded);
        }
    }

    /// The number of a row's key among the keys that the batch has used so far, whose slots are `slots`.
    #[inline]
    pub fn number(&mut self, keys: &Keys, row: usize, slots: &mut Vec<Slot>) -> u32 {
        self.number_of(keys.hashes()[row], keys.key(row), slots)
    }

    /// As [`number`](Self::number), of a key whose hash may be any as long as it is always the same one.
    #[inline]
    pub(crate) fn number_of(&mut self, hash: u64, key: &[u8], slots: &mut Vec<Slot>) -> u32 {
        let at = self.shard_of(hash);
        let shard = &mut self.shards[at as usize];
        let before = shard.len();
        let slot = shard.slot(hash, key);
        let mark = &mut shard.marks[slot as usize];
        if mark.batch != self.batch {
            (mark.batch, mark.number) =
                (self.batch, u32::try_from(slots.len()).expect("fewer groups than rows"));
            let number = mark.number;
            let slot = Slot { shard: at, row: slot };
            slots.push(slot);
            if shard.len() > before && !shard.complete {
                self.missing.push(slot);
            }
            return number;
        }
        mark.number
    }

    /// Makes rows for new keys among these slots, the batch's, and reads from the storage, at once, those that only it
    /// may know. A key that has no row gets the initial one, which isn't stored.
    ///
    /// # Errors
    /// When the storage can't be read, or what stands in it is no row.
    pub fn load(&mut self, slots: &[Slot], storage: &dyn Storage) -> Result<(), StorageError> {
        self.make_room(slots);
        if self.missing.is_empty() {
            return Ok(());
        }
        let mut addresses = Vec::with_capacity(self.missing.len());
        self.addresses_missing(&mut addresses);
        let mut values = read(storage, &addresses)?.into_iter();
        self.fill(&mut values)
    }

    /// The rows at these slots, as columns of the schema.
    ///
    /// # Panics
    /// When the slots weren't loaded.
    pub fn gather(&self, slots: &[Slot]) -> Vec<ArrayRef> {
        assert!(self.missing.is_empty(), "{} rows of the batch weren't loaded", self.missing.len());
        let parts: Vec<&Accumulators> = self.shards.iter().map(|s| &s.rows).collect();
        Accumulators::gather_across(&parts, slots)
    }

    /// Whether the key of a slot has a row.
    pub fn is_present(&self, slot: Slot) -> bool {
        self.shards[slot.shard as usize].marks[slot.row as usize].is_present()
    }

    /// The written key of a slot.
    pub fn key(&self, slot: Slot) -> &[u8] {
        self.shards[slot.shard as usize].key(slot.row)
    }

    /// Replaces the rows at these slots, each of them named once, by those of `columns`.
    ///
    /// # Panics
    /// When the columns aren't of the schema's types or there isn't a row for each slot, or when the slots weren't
    /// loaded.
    pub fn store(&mut self, slots: &[Slot], columns: &[ArrayRef]) {
        slots.iter().for_each(|&slot| self.change(slot, true));
        self.scatter(slots, columns);
        self.recount(slots);
    }

    /// Removes the rows at these slots, if they have any. Their keys have the initial row again.
    pub fn remove(&mut self, slots: &[Slot]) {
        let present: Vec<Slot> = slots.iter().copied().filter(|&slot| self.is_present(slot)).collect();
        present.iter().for_each(|&slot| self.change(slot, false));
        self.reset(&present);
        self.recount(&present);
    }

    /// The shard of a key.
    #[inline]
    fn shard_of(&self, hash: u64) -> u32 {
        if self.shard_of.is_empty() {
            return 0;
        }
        self.shard_of[(key_group(hash) - self.groups.start) as usize]
    }

    /// Gives new slots the initial row.
    pub(crate) fn make_room(&mut self, slots: &[Slot]) {
        for at in self.touched(slots) {
            let shard = &mut self.shards[at];
            let new = shard.len() - shard.rows.rows();
            if new > 0 {
                shard.rows.extend(new, self.codec.initial());
                if shard.len() > SHARD_ROWS_MAX && shard.groups.len() > 1 {
                    self.crowded = Some(at);
                }
            }
        }
    }

    /// Adds where the rows stand that only the storage knows.
    pub(crate) fn addresses_missing(&self, addresses: &mut Vec<Vec<u8>>) {
        addresses.extend(self.missing.iter().map(|slot| {
            let shard = &self.shards[slot.shard as usize];
            self.addresses.row(self.slice, shard.hash(slot.row), shard.key(slot.row))
        }));
    }

    /// Takes what stands at the missing addresses, in their order.
    pub(crate) fn fill(
        &mut self,
        values: &mut impl Iterator<Item = Option<Vec<u8>>>,
    ) -> Result<(), StorageError> {
        for slot in std::mem::take(&mut self.missing) {
            let Some(value) = values.next().expect("as many values as addresses") else { continue };
            let shard = &mut self.shards[slot.shard as usize];
            if let Err(error) = self.codec.decode_at(&value, &mut shard.rows, slot.row) {
                let address = self.addresses.row(self.slice, shard.hash(slot.row), shard.key(slot.row));
                return Err(damaged(&address, &error));
            }
            let mark = &mut shard.marks[slot.row as usize];
            mark.set_present(true);
            mark.set_stored(true);
        }
        Ok(())
    }

    /// As [`store`](Self::store), but a row that isn't `used` begins no row of its key: it counts only where there is
    /// one already.
    pub(crate) fn store_used(&mut self, slots: &[Slot], columns: &[ArrayRef], used: &[bool]) {
        let mut vacant = Vec::new();
        for (&slot, &used) in slots.iter().zip(used) {
            if used || self.is_present(slot) {
                self.change(slot, true);
            } else {
                vacant.push(slot);
            }
        }
        self.scatter(slots, columns);
        self.reset(&vacant);
        self.recount(slots);
    }

    fn scatter(&mut self, slots: &[Slot], columns: &[ArrayRef]) {
        let mut parts: Vec<&mut Accumulators> = self.shards.iter_mut().map(|s| &mut s.rows).collect();
        Accumulators::scatter_across(&mut parts, slots, columns);
    }

    /// Sets rows to the initial one.
    fn reset(&mut self, slots: &[Slot]) {
        for slot in slots {
            self.shards[slot.shard as usize].rows.scatter(&[slot.row], self.codec.initial());
        }
    }

    /// The shards of these slots: each once if there are more slots than shards.
    fn touched(&self, slots: &[Slot]) -> impl Iterator<Item = usize> + use<> {
        let some = slots.len() < self.shards.len();
        let named: Vec<usize> =
            if some { slots.iter().map(|s| s.shard as usize).collect() } else { Vec::new() };
        let all = if some { 0..0 } else { 0..self.shards.len() };
        named.into_iter().chain(all)
    }
}

/// Reads from a storage, which is held to its promise of one value for each address.
pub(crate) fn read(
    storage: &dyn Storage,
    addresses: &[Vec<u8>],
) -> Result<Vec<Option<Vec<u8>>>, StorageError> {
    let values = storage.read(addresses)?;
    assert_eq!(values.len(), addresses.len(), "a storage answers for each address");
    Ok(values)
}

pub(crate) fn damaged(address: &[u8], error: &RowError) -> StorageError {
    StorageError(format!(
        "the row of state at {address:02x?} is damaged: {error}; recover from an earlier checkpoint"
    ))
}
