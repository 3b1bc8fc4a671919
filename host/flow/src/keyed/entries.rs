//! The collections of numbered keys, as an operator asks for them during a call.

use super::{KeyedState, Numbered};
use crate::collections::{Found, Limit, Place};
use crate::storage::{Storage, StorageError};
use crate::timers::Clock;
use crate::ttl::Times;

impl KeyedState {
    /// The values of entries, each given as collection, number of the key, and entry.
    ///
    /// # Errors
    /// When the storage can't be read, or what stands there is no value.
    ///
    /// # Panics
    /// When there is no such collection or key: the plugin has checked it.
    pub fn read_entries(
        &self,
        numbered: &Numbered,
        wanted: &[(u8, u32, &[u8])],
        storage: &dyn Storage,
    ) -> Result<Vec<Option<Vec<u8>>>, StorageError> {
        let place = |&(collection, key, entry)| (self.place(numbered, collection, key), entry);
        self.collections.read(storage, &wanted.iter().map(place).collect::<Vec<_>>())
    }

    /// Sets the value of an entry of a numbered key, or removes it.
    ///
    /// # Panics
    /// When there is no such collection or key: the plugin has checked it.
    pub fn write_entry(
        &mut self,
        numbered: &Numbered,
        collection: u8,
        key: u32,
        entry: &[u8],
        value: Option<&[u8]>,
    ) {
        let place = self.place(numbered, collection, key);
        self.collections.write(&place, entry, value);
    }

    /// The entries of a numbered key from `first` up to, and without, `end`, or up to its last.
    ///
    /// # Errors
    /// When the storage can't be read, or what stands there is no value.
    ///
    /// # Panics
    /// When there is no such collection or key: the plugin has checked it.
    pub fn range(
        &self,
        numbered: &Numbered,
        (collection, key): (u8, u32),
        (first, end): (&[u8], Option<&[u8]>),
        limit: Limit,
        storage: &dyn Storage,
    ) -> Result<Found, StorageError> {
        self.collections.range(storage, &self.place(numbered, collection, key), first, end, limit)
    }

    fn place<'a>(&self, numbered: &'a Numbered, collection: u8, key: u32) -> Place<'a> {
        let key = key as usize;
        let (first, last) = (numbered.uses.first[key], numbered.uses.last[key]);
        let event = last[Clock::Event as usize].unwrap_or(first.event);
        Place {
            collection,
            hash: numbered.keys.hashes()[key],
            key: numbered.keys.key(key),
            times: Times { event, processing: first.processing },
        }
    }
}
