//! The collections of one task of an operator: for each key, entries sorted by their bytes, each with a value.
//!
//! Entries stay in the storage; a task holds only what changed. The changes since the last freeze lie over those
//! that are frozen and being drained, and these over the storage: what is read is the uppermost. In a collection with a
//! time to live a value stands behind the time of its last write, 8 bytes, big-endian.

mod changes;
mod expiry;
mod merged;
#[cfg(test)]
mod tests;

use std::ops::Range;

use crate::storage::{Addresses, Storage, StorageError, Writes};
use crate::ttl::{Times, Ttl};
use changes::Changes;
use expiry::Cursor;
use merged::Merged;

/// So many entries of a range are read from the storage at once at most.
const SCAN_CHUNK: usize = 256;

/// The collections of one task.
#[derive(Debug)]
pub struct Collections {
    addresses: Addresses,
    /// The key groups of the task.
    groups: Range<u32>,
    /// For each collection, by its number, how long its entries live.
    ttls: Vec<Option<Ttl>>,
    changes: Changes,
    cursor: Cursor,
}

/// A key in a collection, at a point of time.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The number of the collection.
    pub collection: u8,
    /// The key's hash.
    pub hash: u64,
    /// The key in its written form.
    pub key: &'a [u8],
    /// When it is looked at or written.
    pub times: Times,
}

/// Entries of a range.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Entries and values, ascending by entry.
    pub entries: Vec<(Vec<u8>, Vec<u8>)>,
    /// Whether these aren't all: the rest begins behind the last of them.
    pub more: bool,
}

/// How much of a range is wanted.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    /// So many entries at most.
    pub entries: usize,
    /// No further entry once entries and values have so many bytes.
    pub bytes: usize,
}

impl Collections {
    /// The collections of the operator with these addresses, for the keys in these key groups. There is one for
    /// each of `ttls`, numbered from 0. Nothing is read: what a storage has is found when it is asked for.
    ///
    /// # Panics
    /// When there are more than 256.
    pub fn new(addresses: Addresses, groups: Range<u32>, ttls: Vec<Option<Ttl>>) -> Self {
        assert!(ttls.len() <= 256, "{} collections, whose numbers are 8 bits", ttls.len());
        Self { addresses, groups, ttls, changes: Changes::default(), cursor: Cursor::default() }
    }

    /// The values of these entries, in this order.
    ///
    /// # Errors
    /// When the storage can't be read, or what stands there is no value.
    ///
    /// # Panics
    /// When there is no such collection: whoever takes the number from a guest checks it.
    pub fn read(
        &self,
        storage: &dyn Storage,
        wanted: &[(Place<'_>, &[u8])],
    ) -> Result<Vec<Option<Vec<u8>>>, StorageError> {
        let mut values: Vec<Option<Vec<u8>>> = vec![None; wanted.len()];
        let (mut unknown, mut addresses) = (Vec::new(), Vec::new());
        for (at, (place, entry)) in wanted.iter().enumerate() {
            let address = self.address(place, entry);
            match self.changes.get(&address) {
                Some(change) => {
                    let value = change.map(|stored| self.live(place, &address, stored)).transpose()?;
                    values[at] = value.flatten().map(<[u8]>::to_vec);
                }
                None => {
                    unknown.push(at);
                    addresses.push(address);
                }
            }
        }
        if unknown.is_empty() {
            return Ok(values);
        }
        let read = storage.read(&addresses)?;
        for ((at, address), stored) in unknown.into_iter().zip(&addresses).zip(read) {
            let Some(mut stored) = stored else { continue };
            let place = &wanted[at].0;
            if let Some(live) = self.live(place, address, &stored)? {
                let header = stored.len() - live.len();
                values[at] = Some(stored.split_off(header));
            }
        }
        Ok(values)
    }

    /// Sets the value of an entry, or removes it.
    ///
    /// # Panics
    /// When there is no such collection.
    pub fn write(&mut self, place: &Place<'_>, entry: &[u8], value: Option<&[u8]>) {
        let address = self.address(place, entry);
        let stored = value.map(|value| match self.ttl(place.collection) {
            Some(ttl) => [&place.times.on(ttl.clock).to_be_bytes(), value].concat(),
            None => value.to_vec(),
        });
        self.changes.set(address, stored);
    }

    /// Sets the value of an entry that has never been there before: if it is removed again before the next
    /// [`freeze`](Self::freeze), nothing is left of it that has to be written.
    ///
    /// # Panics
    /// When there is no such collection, its entries expire, or the entry is there.
    pub fn add(&mut self, place: &Place<'_>, entry: &[u8], value: Vec<u8>) {
        assert!(self.ttl(place.collection).is_none(), "an entry without the time of its write");
        self.changes.add(self.address(place, entry), value);
    }

    /// The entries of a key from `first` up to, and without, `end`, or up to its last.
    ///
    /// # Errors
    /// When the storage can't be read, or what stands there is no value.
    ///
    /// # Panics
    /// When there is no such collection.
    pub fn range(
        &self,
        storage: &dyn Storage,
        place: &Place<'_>,
        first: &[u8],
        end: Option<&[u8]>,
        limit: Limit,
    ) -> Result<Found, StorageError> {
        let mut found = Found::default();
        let own = self.address(place, b"");
        let end = end.map_or_else(|| behind_all(&own), |end| self.address(place, end));
        let from = self.address(place, first);
        if from >= end {
            return Ok(found);
        }
        let chunk_length = limit.entries.saturating_add(1).min(SCAN_CHUNK);
        let mut merged = Merged::new(storage, &self.changes, from, end, chunk_length);
        let mut bytes = 0;
        while let Some((mut address, stored)) = merged.next()? {
            let Some(value) = self.live(place, &address, &stored)? else { continue };
            if found.entries.len() >= limit.entries || bytes >= limit.bytes {
                found.more = true;
                break;
            }
            let entry = address.split_off(own.len());
            bytes += entry.len() + value.len();
            found.entries.push((entry, value.to_vec()));
        }
        Ok(found)
    }

    /// Removes entries whose time to live is over, looking at `max` at most, from where it stopped before. `now` is
    /// where the clocks stand: nothing may be read at an earlier time afterwards. Returns whether it hasn't come
    /// to the end; after the end it begins again.
    ///
    /// # Errors
    /// When the storage can't be read, or what stands there is no value.
    pub fn expire(&mut self, storage: &dyn Storage, now: Times, max: usize) -> Result<bool, StorageError> {
        self.cursor.expire(storage, &self.addresses, &self.groups, &self.ttls, &mut self.changes, now, max)
    }

    /// About how many bytes of memory the changes take.
    pub fn bytes(&self) -> usize {
        self.changes.bytes()
    }

    /// Freezes the collections as they are, for a checkpoint or to make room; [`drain`](Self::drain) then says what
    /// has to be written for it. What wasn't drained of the freeze before belongs to this one.
    pub fn freeze(&mut self) {
        self.changes.freeze();
    }

    /// Whether frozen changes are still to be handed out.
    pub fn is_draining(&self) -> bool {
        self.changes.is_draining()
    }

    /// The next changes that have to be written so that the storage has the collections as they were frozen, at
    /// most `max` and about 4 MiB: before anything else is read, for they are no longer held. `None` when there are
    /// none left.
    pub fn drain(&mut self, max: usize) -> Option<Writes> {
        self.changes.drain(max)
    }

    /// Changes to write, about 4 MiB at most, if those that are held take more than `bytes_max`: to make room, while
    /// no checkpoint is open.
    ///
    /// # Panics
    /// While frozen changes are still to be drained.
    pub fn spill(&mut self, bytes_max: usize) -> Option<Writes> {
        assert!(
            !self.is_draining(),
            "changes since the freeze may not be written while frozen ones are left"
        );
        if self.bytes() <= bytes_max {
            return None;
        }
        self.changes.spill()
    }

    fn address(&self, place: &Place<'_>, entry: &[u8]) -> Vec<u8> {
        self.addresses.entry(place.collection, place.hash, place.key, entry)
    }

    fn ttl(&self, collection: u8) -> Option<Ttl> {
        self.ttls[usize::from(collection)]
    }

    /// The value in what is stored, unless its time to live is over.
    fn live<'a>(
        &self,
        place: &Place<'_>,
        address: &[u8],
        stored: &'a [u8],
    ) -> Result<Option<&'a [u8]>, StorageError> {
        let Some(ttl) = self.ttl(place.collection) else { return Ok(Some(stored)) };
        let (written, value) = split_time(&self.addresses, address, stored)?;
        Ok((!ttl.is_over(written, place.times.on(ttl.clock))).then_some(value))
    }
}

/// The time at which a value was written, and the value.
fn split_time<'a>(
    addresses: &Addresses,
    address: &[u8],
    stored: &'a [u8],
) -> Result<(i64, &'a [u8]), StorageError> {
    let (time, value) = stored.split_first_chunk().ok_or_else(|| {
        StorageError(format!(
            "the entry at {address:02x?} of operator {} has {} bytes where the time of its last write stands in 8;              restore from another checkpoint",
            addresses.operator,
            stored.len()
        ))
    })?;
    Ok((i64::from_be_bytes(*time), value))
}

/// The first address behind all that begin with this one.
fn behind_all(address: &[u8]) -> Vec<u8> {
    let mut end = address.to_vec();
    while end.last() == Some(&u8::MAX) {
        end.pop();
    }
    // The byte after the operator's number says what an address is for, and isn't 255.
    *end.last_mut().expect("an address isn't all 255") += 1;
    end
}
