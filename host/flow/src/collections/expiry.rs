//! Removing what has outlived its time: round after round through the storage, some entries at a time.
//!
//! An order by time of expiry would find them without looking at the others, but every write of an entry would
//! have to be filed in it as well. What has been removed was absent before, so nobody can tell when it happens.

use std::ops::Range;

use super::changes::Changes;
use super::split_time;
use crate::storage::{Addresses, Storage, StorageError};
use crate::ttl::{Times, Ttl};

/// How far a round has come.
#[derive(Debug, Default)]
pub(super) struct Cursor {
    collection: usize,
    /// Where it goes on in the collection; `None` for its beginning.
    from: Option<Vec<u8>>,
}

impl Cursor {
    #[expect(clippy::too_many_arguments, reason = "these are the collections, of which the cursor is a part")]
    pub(super) fn expire(
        &mut self,
        storage: &dyn Storage,
        addresses: &Addresses,
        groups: &Range<u32>,
        ttls: &[Option<Ttl>],
        changes: &mut Changes,
        now: Times,
        max: usize,
    ) -> Result<bool, StorageError> {
        let mut left = max;
        while left > 0 {
            let Some(ttl) = ttls.get(self.collection) else {
                *self = Self::default();
                return Ok(false);
            };
            let Some(ttl) = ttl else {
                self.collection += 1;
                continue;
            };
            let collection = u8::try_from(self.collection).expect("at most 256 collections");
            let begin = || addresses.entries_of_group(collection, groups.start);
            let end = addresses.entries_of_group(collection, groups.end);
            let chunk = storage.scan(&self.from.take().unwrap_or_else(begin), &end, left)?;
            if chunk.len() < left {
                self.collection += 1;
            } else {
                self.from = chunk.last().map(|(last, _)| [last.as_slice(), &[0]].concat());
            }
            left -= chunk.len();
            for (address, stored) in chunk {
                let (written, _) = split_time(addresses, &address, &stored)?;
                // What has changed since will be seen when it is in the storage.
                if ttl.is_over(written, now.on(ttl.clock)) && changes.get(&address).is_none() {
                    changes.set(address, None);
                }
            }
        }
        Ok(true)
    }
}
