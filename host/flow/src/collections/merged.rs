//! A range as it is: what the storage has, with the changes over it.

use std::iter::Peekable;
use std::vec;

use super::changes::{Changes, ChangesOf};
use crate::storage::{Storage, StorageError};

/// An address and what stands there.
type Stored = (Vec<u8>, Vec<u8>);

/// Goes through a range. The storage is read a chunk at a time.
pub(super) struct Merged<'a> {
    storage: &'a dyn Storage,
    changes: Peekable<ChangesOf<'a>>,
    chunk: Peekable<vec::IntoIter<Stored>>,
    /// Where the storage's next chunk begins; `None` when it has no more.
    from: Option<Vec<u8>>,
    end: Vec<u8>,
    chunk_length: usize,
}

impl<'a> Merged<'a> {
    pub(super) fn new(
        storage: &'a dyn Storage,
        changes: &'a Changes,
        from: Vec<u8>,
        end: Vec<u8>,
        chunk_length: usize,
    ) -> Self {
        let changes = changes.range(&from, &end).peekable();
        Self {
            storage,
            changes,
            chunk: Vec::new().into_iter().peekable(),
            from: Some(from),
            end,
            chunk_length,
        }
    }

    /// The next address, and what stands there.
    pub(super) fn next(&mut self) -> Result<Option<Stored>, StorageError> {
        loop {
            self.fill()?;
            let (Some((changed, _)), stored) = (self.changes.peek(), self.chunk.peek()) else {
                return Ok(self.chunk.next());
            };
            match stored {
                Some((stored, _)) if stored.as_slice() < *changed => return Ok(self.chunk.next()),
                Some((stored, _)) if stored == changed => drop(self.chunk.next()),
                _ => {}
            }
            if let Some((address, Some(value))) = self.changes.next() {
                return Ok(Some((address.to_vec(), value.to_vec())));
            }
        }
    }

    /// Reads the storage's next chunk if the one before is used up.
    fn fill(&mut self) -> Result<(), StorageError> {
        let Some(from) = self.from.take_if(|_| self.chunk.peek().is_none()) else { return Ok(()) };
        let chunk = self.storage.scan(&from, &self.end, self.chunk_length)?;
        if chunk.len() >= self.chunk_length {
            self.from = chunk.last().map(|(last, _)| [last.as_slice(), &[0]].concat());
        }
        self.chunk = chunk.into_iter().peekable();
        Ok(())
    }
}
