//! Reading a table as a whole, in memory or not: by stretches of key groups, each small enough for memory.

use std::ops::Range;

use xxhash_rust::xxh3::xxh3_64;

use super::{Table, damaged};
use crate::key::key_group;
use crate::rows::RowError;
use crate::shard::Shard;
use crate::storage::{Storage, StorageError};

/// How many rows are asked of the storage at a time.
const SCAN_ROWS: usize = if cfg!(test) { 3 } else { 4096 };

/// A row as it stands in the storage.
#[derive(Debug)]
pub(crate) struct StoredRow {
    address: Vec<u8>,
    hash: u64,
    /// Where the key begins in the address.
    key_start: usize,
    value: Vec<u8>,
}

impl StoredRow {
    pub(crate) fn group(&self) -> u32 {
        key_group(self.hash)
    }

    fn key(&self) -> &[u8] {
        &self.address[self.key_start..]
    }
}

impl Table {
    /// The key groups of the shard that has this one.
    pub(crate) fn groups_around(&self, group: u32) -> Range<u32> {
        self.shards[self.shard_with(group) as usize].groups.clone()
    }

    fn shard_with(&self, group: u32) -> u32 {
        if self.shard_of.is_empty() { 0 } else { self.shard_of[(group - self.groups.start) as usize] }
    }

    /// The shards with key groups of a range.
    pub(crate) fn shards_in(&self, groups: &Range<u32>) -> Range<usize> {
        self.shard_with(groups.start) as usize..self.shard_with(groups.end - 1) as usize + 1
    }

    pub(crate) fn shard(&self, at: usize) -> &Shard {
        &self.shards[at]
    }

    /// The stored rows from the start of a range of key groups on: all of them, or as many whole key groups as have
    /// `rows_max` rows, but at least one. The second value is the key group up to which they go. Nothing is read if
    /// everything is in memory.
    pub(crate) fn stored(
        &self,
        groups: Range<u32>,
        rows_max: usize,
        storage: &dyn Storage,
    ) -> Result<(Vec<StoredRow>, u32), StorageError> {
        let mut rows = Vec::new();
        if self.shards_in(&groups).all(|at| self.shards[at].complete) {
            return Ok((rows, groups.end));
        }
        let mut until = groups.end;
        let mut from = self.addresses.rows_of_group(self.slice, groups.start);
        loop {
            let end = self.addresses.rows_of_group(self.slice, until);
            let read = storage.scan(&from, &end, SCAN_ROWS)?;
            let is_last = read.len() < SCAN_ROWS;
            if let Some((address, _)) = read.last() {
                from.clone_from(address);
                from.push(0);
            }
            for (address, value) in read {
                rows.push(self.stored_row(address, value)?);
            }
            if is_last {
                return Ok((rows, until));
            }
            let last = rows.last().map_or(groups.start, StoredRow::group);
            if rows.len() < rows_max {
                continue;
            }
            if last > groups.start {
                rows.truncate(rows.partition_point(|row| row.group() < last));
                return Ok((rows, last));
            }
            until = last + 1;
        }
    }

    fn stored_row(&self, address: Vec<u8>, value: Vec<u8>) -> Result<StoredRow, StorageError> {
        let (_, group, key) = self.addresses.read_row(&address)?;
        let (hash, key_start) = (xxh3_64(key), address.len() - key.len());
        if key_group(hash) != group {
            return Err(StorageError(format!(
                "the address {address:02x?} of a row of state is damaged: its key is of group {}; recover from an \
                 earlier checkpoint",
                key_group(hash)
            )));
        }
        Ok(StoredRow { address, hash, key_start, value })
    }

    /// Those of the stored rows that memory knows nothing of.
    pub(crate) fn not_in_memory(&self, rows: Vec<StoredRow>) -> Vec<StoredRow> {
        let is_unknown = |row: &StoredRow| {
            self.shards[self.shard_of(row.hash) as usize].find(row.hash, row.key()).is_none()
        };
        rows.into_iter().filter(is_unknown).collect()
    }

    /// Adds stored rows to a shard that doesn't have their keys.
    pub(crate) fn add_stored(&self, to: &mut Shard, rows: &[StoredRow]) -> Result<(), StorageError> {
        for row in rows {
            let slot = to.slot(row.hash, row.key());
            let error = |error: RowError| damaged(&row.address, &error);
            self.codec.decode_onto(&row.value, &mut to.rows).map_err(error)?;
            to.marks[slot as usize].set_present(true);
        }
        Ok(())
    }

    /// A shard without rows, for rows of this table.
    pub(crate) fn empty_shard(&self, groups: Range<u32>) -> Shard {
        Shard::new(groups, crate::accumulators::Accumulators::new(self.codec.schema()), true)
    }

    /// A copy of the rows in memory of a range of key groups, which are of one shard.
    pub(crate) fn copy(&self, groups: &Range<u32>) -> Shard {
        let shard = self.shard(self.shard_with(groups.start) as usize);
        if shard.groups == *groups {
            return shard.clone();
        }
        let mut copy = self.empty_shard(groups.clone());
        copy.pair(shard, shard.occupied_in(groups));
        copy
    }

    /// A copy of all rows in memory, as one shard.
    pub(crate) fn copy_whole(&self) -> Shard {
        let mut copy = self.empty_shard(self.groups.clone());
        for shard in &self.shards {
            copy.pair(shard, shard.occupied());
        }
        copy
    }

    /// Takes the shard of just these key groups out of the table, which is done with: what is frozen of it is saved.
    pub(crate) fn take(&mut self, groups: &Range<u32>) -> Shard {
        let number = self.shard_with(groups.start);
        let at = number as usize;
        assert_eq!(self.shards[at].groups, *groups, "a shard is taken whole");
        self.save_frozen(number);
        let empty = self.empty_shard(groups.clone());
        self.bytes -= self.shards[at].counted_bytes;
        std::mem::replace(&mut self.shards[at], empty)
    }

    /// Whether rows of the table may stand in the storage, or will once what is frozen is written.
    pub(crate) fn may_be_stored(&self) -> bool {
        self.in_storage || self.is_draining()
    }
}
