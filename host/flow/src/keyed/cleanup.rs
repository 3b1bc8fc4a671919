//! Removing values whose time is over: round after round through the storage's rows, some at a time.
//!
//! They were absent before, so nobody can tell when it happens. Rows that have never been written are looked at
//! once they have.

use arrow_array::{Array, ArrayRef, UInt32Array};

use super::KeyedState;
use crate::batch::take;
use crate::key::Keys;
use crate::storage::{Storage, StorageError};

/// How far a round has come.
#[derive(Debug, Default)]
pub(super) enum Cursor {
    /// The next row to look at stands here or behind it.
    Rows(Vec<u8>),
    /// The entries of collections are next.
    Entries,
    /// A round begins.
    #[default]
    Begin,
}

impl KeyedState {
    /// Removes values and entries whose time is over, looking at about `max`, from where it stopped before. Returns
    /// whether it hasn't come to the end; after the end it begins again.
    ///
    /// # Errors
    /// When the storage can't be read, or what stands there is damaged.
    pub fn expire(&mut self, storage: &dyn Storage, max: usize) -> Result<bool, StorageError> {
        self.settle();
        let from = match std::mem::take(&mut self.cleanup) {
            Cursor::Begin if self.layout.is_everlasting() => None,
            Cursor::Begin => Some(self.addresses.rows_of_group(0, self.groups.start)),
            Cursor::Rows(from) => Some(from),
            Cursor::Entries => None,
        };
        if let Some(from) = from {
            self.cleanup = self.expire_rows(&from, storage, max)?.map_or(Cursor::Entries, Cursor::Rows);
            return Ok(true);
        }
        let more = self.collections.expire(storage, self.times(), max)?;
        self.cleanup = if more { Cursor::Entries } else { Cursor::Begin };
        Ok(more)
    }

    /// Looks at `max` rows of the storage. Returns where to go on, if there are more.
    fn expire_rows(
        &mut self,
        from: &[u8],
        storage: &dyn Storage,
        max: usize,
    ) -> Result<Option<Vec<u8>>, StorageError> {
        let end = self.addresses.rows_of_group(0, self.groups.end);
        let max = max.max(1);
        let stored = storage.scan(from, &end, max)?;
        let rows: Vec<&[u8]> = stored.iter().map(|(_, row)| row.as_slice()).collect();
        let columns = self.layout.codec.decode(&rows).map_err(|error| {
            StorageError(format!(
                "one of the {} rows of state from {from:02x?} on is damaged: {error}; recover from an earlier checkpoint",
                rows.len()
            ))
        })?;
        let mut keys = Keys::default();
        for row in self.over(&columns).1 {
            keys.push(self.addresses.read_row(&stored[row as usize].0)?.2);
        }
        self.expire_keys(&keys, storage)?;
        let last = stored.into_iter().nth(max - 1);
        Ok(last.map(|(address, _)| [address, vec![0]].concat()))
    }

    /// Removes what is over of these keys, which may have been used since they were stored.
    fn expire_keys(&mut self, keys: &Keys, storage: &dyn Storage) -> Result<(), StorageError> {
        let mut slots = Vec::new();
        self.table.begin();
        for row in 0..keys.hashes().len() {
            self.table.number(keys, row, &mut slots);
        }
        self.table.load(&slots, storage)?;
        let (columns, over) = self.over(&self.table.gather(&slots));
        if over.is_empty() {
            return Ok(());
        }
        let slots: Vec<_> = over.iter().map(|&row| slots[row as usize]).collect();
        let over = UInt32Array::from(over);
        let columns: Vec<ArrayRef> = columns.iter().map(|column| take(column, &over)).collect();
        self.replace(&slots, &columns);
        Ok(())
    }

    /// These rows without the values whose time is over, and which of them had some.
    fn over(&self, columns: &[ArrayRef]) -> (Vec<ArrayRef>, Vec<u32>) {
        let (now, mut left) = (self.times(), columns.to_vec());
        if !self.layout.expire(&mut left, |_| now) {
            return (left, Vec::new());
        }
        let rows = left.first().map_or(0, |column| column.len());
        let less = |row: usize| columns.iter().zip(&left).any(|(c, l)| c.is_valid(row) && l.is_null(row));
        let over = (0u32..).zip(0..rows).filter(|(_, row)| less(*row)).map(|(number, _)| number).collect();
        (left, over)
    }
}
