//! Epochs of a table: what is changed, what is frozen, and how it is handed out.

use super::{Slot, Table};
use crate::rows::Codec;
use crate::shard::{EPOCH_MAX, Shard};
use crate::storage::{Addresses, Write, Writes};

/// The bytes of a slice of writes: with rows of any size, a slice is written in some milliseconds.
pub(super) const WRITES_BYTES_MAX: usize = 4 << 20;

impl Table {
    /// Begins a new epoch: what was changed up to here is frozen, to be [drained](Self::drain). Takes as long as
    /// swapping two lists for each shard, however many rows have changed.
    ///
    /// If rows of an epoch before are left, because its checkpoint was given up, they join this one as they are now.
    pub fn freeze(&mut self) {
        assert!(self.epoch < EPOCH_MAX, "epoch {} is the last", self.epoch);
        self.epoch += 1;
        // Whatever was saved has been changed since, so it is dirty and freezes as it is now.
        self.saved = Vec::new();
        self.saved_bytes = 0;
        self.draining = false;
        self.drain_next = 0;
        for shard in &mut self.shards {
            if shard.frozen.is_empty() {
                std::mem::swap(&mut shard.frozen, &mut shard.dirty);
            } else {
                shard.frozen.append(&mut shard.dirty);
            }
            self.draining |= !shard.frozen.is_empty();
        }
    }

    /// Whether frozen rows are still to be handed out.
    pub fn is_draining(&self) -> bool {
        self.draining
    }

    /// The next writes of the frozen rows: at most `rows_max`, and about 4 MiB. A slice may be empty; `None` says that
    /// there are no more.
    pub fn drain(&mut self, rows_max: usize) -> Option<Writes> {
        if !self.draining {
            return None;
        }
        let mut writes = Writes::default();
        let (mut left, mut bytes) = (rows_max.max(1), 0);
        while left > 0 && bytes < WRITES_BYTES_MAX {
            if let Some(write) = self.saved.pop() {
                left -= 1;
                bytes += write_bytes(&write);
                self.saved_bytes -= write_bytes(&write);
                writes.list.push(write);
                continue;
            }
            let Some(shard) = self.shards.get_mut(self.drain_next) else {
                self.draining = false;
                self.saved = Vec::new();
                break;
            };
            let Some(row) = shard.frozen.pop() else {
                self.drain_next += 1;
                continue;
            };
            left -= 1;
            let changed = shard.marks[row as usize].changed();
            if changed == 0 || changed == self.epoch {
                continue;
            }
            if let Some(write) = write_of(self.addresses, self.slice, &self.codec, shard, row) {
                bytes += write_bytes(&write);
                writes.list.push(write);
            }
            shard.hand_out(row);
        }
        self.in_storage |= !writes.list.is_empty();
        (self.draining || !writes.list.is_empty()).then_some(writes)
    }

    /// Notes that a row changes now, and saves what is frozen of it.
    #[inline]
    pub(super) fn change(&mut self, slot: Slot, present: bool) {
        let shard = &mut self.shards[slot.shard as usize];
        let changed = shard.marks[slot.row as usize].changed();
        if changed != self.epoch {
            if changed != 0 {
                self.save(slot);
            }
            let shard = &mut self.shards[slot.shard as usize];
            shard.marks[slot.row as usize].set_changed(self.epoch);
            shard.dirty.push(slot.row);
        }
        self.shards[slot.shard as usize].marks[slot.row as usize].set_present(present);
    }

    /// Writes down a frozen row that is about to change.
    fn save(&mut self, slot: Slot) {
        let shard = &mut self.shards[slot.shard as usize];
        if let Some(write) = write_of(self.addresses, self.slice, &self.codec, shard, slot.row) {
            // It may be given up and never be written, so a removal stays to be told.
            shard.marks[slot.row as usize].set_stored(true);
            self.saved_bytes += write_bytes(&write);
            self.saved.push(write);
        }
    }

    /// Writes down all that is frozen of a shard.
    pub(super) fn save_frozen(&mut self, shard: u32) {
        for row in std::mem::take(&mut self.shards[shard as usize].frozen) {
            let changed = self.shards[shard as usize].marks[row as usize].changed();
            if changed != 0 && changed != self.epoch {
                self.save(Slot { shard, row });
            }
        }
    }
}

/// What tells the storage of a row as it is, if it has to be told.
pub(super) fn write_of(
    addresses: Addresses,
    slice: i64,
    codec: &Codec,
    shard: &Shard,
    row: u32,
) -> Option<Write> {
    let mark = shard.marks[row as usize];
    let address = || addresses.row(slice, shard.hash(row), shard.key(row));
    if mark.is_present() {
        Some(Write::Put(address(), codec.encode_row(&shard.rows, row)))
    } else {
        mark.is_stored().then(|| Write::Delete(address()))
    }
}

pub(super) fn write_bytes(write: &Write) -> usize {
    let bytes = match write {
        Write::Put(address, value) => address.capacity() + value.capacity(),
        Write::Delete(address) => address.capacity(),
        Write::DeleteRange(from, end) => from.capacity() + end.capacity(),
    };
    size_of::<Write>() + bytes
}
