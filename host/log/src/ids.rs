//! The ids of a partition's last records, by which copies are known.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

use xxhash_rust::xxh3::xxh3_128_with_seed;

/// Ids as hashes of 128 bits: two of a billion ids are taken for one with a chance of about 10⁻²¹.
#[derive(Debug)]
pub(crate) struct Ids {
    /// The original must be among so many last records.
    records: u64,
    seed: u64,
    offsets: HashMap<u128, u64, BuildHasherDefault<AsItIs>>,
    order: VecDeque<(u64, u128)>,
}

/// A hash needs no hashing.
#[derive(Debug, Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn write(&mut self, _: &[u8]) {
        unreachable!("only a u128 is hashed");
    }

    fn write_u128(&mut self, hash: u128) {
        self.0 = hash as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl Ids {
    pub(crate) fn new(records: u64, seed: u64) -> Self {
        Self { records, seed, offsets: HashMap::default(), order: VecDeque::new() }
    }

    /// How many last records count.
    pub(crate) fn records(&self) -> u64 {
        self.records
    }

    /// The lowest offset whose id counts when `next` is the next one.
    pub(crate) fn from(&self, next: u64) -> u64 {
        next.saturating_sub(self.records)
    }

    /// Remembers the id of a record that will be written, unless it is a copy; says whether it is.
    pub(crate) fn is_copy(&mut self, offset: u64, id: &[u8]) -> bool {
        let (hash, from) = (xxh3_128_with_seed(id, self.seed), self.from(offset));
        let known = self.offsets.entry(hash).or_insert(offset);
        let is_copy = *known != offset && *known >= from;
        if !is_copy {
            *known = offset;
            self.order.push_back((offset, hash));
        }
        is_copy
    }

    /// Remembers the id of a record that was written.
    pub(crate) fn add(&mut self, offset: u64, id: &[u8]) {
        let hash = xxh3_128_with_seed(id, self.seed);
        self.offsets.insert(hash, offset);
        self.order.push_back((offset, hash));
    }

    /// Forgets what counts no more when `next` is the next offset.
    pub(crate) fn forget_old(&mut self, next: u64) {
        self.forget_before(self.from(next));
    }

    /// Forgets the records before an offset.
    pub(crate) fn forget_before(&mut self, first: u64) {
        while let Some(&(oldest, hash)) = self.order.front()
            && oldest < first
        {
            self.order.pop_front();
            self.forget(oldest, hash);
        }
    }

    /// Forgets the records from an offset on: they weren't written.
    pub(crate) fn forget_from(&mut self, next: u64) {
        while let Some(&(last, hash)) = self.order.back()
            && last >= next
        {
            self.order.pop_back();
            self.forget(last, hash);
        }
    }

    fn forget(&mut self, offset: u64, hash: u128) {
        // The same id may have come again since.
        if self.offsets.get(&hash) == Some(&offset) {
            self.offsets.remove(&hash);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_known_for_so_many_records() {
        let mut ids = Ids::new(3, 1);
        assert!(!ids.is_copy(10, b"a"));
        assert!(ids.is_copy(11, b"a") && ids.is_copy(13, b"a"));
        assert!(!ids.is_copy(13, b"b"));
        ids.forget_old(14);
        assert_eq!(ids.offsets.len(), 1, "`a` is forgotten");
        assert!(!ids.is_copy(14, b"a") && ids.is_copy(15, b"a"));
        ids.forget_from(14);
        assert!(ids.is_copy(14, b"b") && !ids.is_copy(14, b"a"));
        ids.forget_before(14);
        assert!(!ids.is_copy(15, b"b") && ids.is_copy(16, b"a"));
        let mut none = Ids::new(0, 1);
        assert!(!none.is_copy(0, b"a") && !none.is_copy(1, b"a"));
    }

    #[test]
    fn an_id_that_comes_again_later_is_remembered_longer() {
        let mut ids = Ids::new(2, 1);
        ids.add(0, b"a");
        ids.add(1, b"a");
        assert!(ids.is_copy(2, b"a"));
        assert!(ids.is_copy(3, b"a"));
        assert!(!ids.is_copy(4, b"a"));
    }
}
