//! Timers by key: which timer an operator means, and which timers a key has.
//!
//! Timers stand in slots with 32-bit numbers, so that all that refers to them is small. Two hash tables of slots
//! find them: one by clock, key and name, one by key alone, where a key's timers form a chain.

use hashbrown::HashTable;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::Clock;

/// No slot.
pub(super) const NONE: u32 = u32::MAX;

/// What tells a timer from all others.
#[derive(Clone, Copy, Debug)]
pub(super) struct Id<'a> {
    pub(super) clock: Clock,
    /// The key's hash, which is [`Keys`](crate::key::Keys)' of it.
    pub(super) hash: u64,
    pub(super) key: &'a [u8],
    pub(super) name: &'a str,
}

impl<'a> Id<'a> {
    pub(super) fn new(clock: Clock, key: &'a [u8], name: &'a str) -> Self {
        Self { clock, hash: xxh3_64(key), key, name }
    }

    fn short_hash(&self) -> u32 {
        let seed = self.hash ^ u64::from(self.clock.number());
        shorten(xxh3_64_with_seed(self.name.as_bytes(), seed))
    }
}

/// A timer in its slot, 40 bytes. Its time stands in the queue.
#[derive(Debug)]
pub(super) struct Timer {
    /// Key and name.
    text: Box<[u8]>,
    key_length: u32,
    /// Where it stands in the queue; `NONE` if it isn't set.
    pub(super) place: u32,
    /// The other timers of the key.
    next: u32,
    previous: u32,
    /// The epoch in which it was last changed; 0 if the storage knows it as it is.
    pub(super) changed_in: u32,
    pub(super) clock: Clock,
    /// Whether the storage may have it.
    pub(super) stored: bool,
    /// Whether the slot has no timer.
    pub(super) vacant: bool,
}

impl Timer {
    pub(super) fn is_set(&self) -> bool {
        self.place != NONE
    }

    pub(super) fn key(&self) -> &[u8] {
        &self.text[..self.key_length as usize]
    }

    pub(super) fn name(&self) -> &str {
        std::str::from_utf8(&self.text[self.key_length as usize..]).expect("made of a str")
    }

    fn id(&self) -> Id<'_> {
        Id::new(self.clock, self.key(), self.name())
    }
}

/// An entry of a hash table. The hash stands in it, so that the table grows without a look at the timers.
#[derive(Clone, Copy, Debug)]
struct Entry {
    short_hash: u32,
    slot: u32,
}

impl Entry {
    /// The hash as the table wants it: with both its low bits and its highest seven spread.
    fn hash(short_hash: u32) -> u64 {
        u64::from(short_hash) * 0x1_0000_0001
    }
}

fn shorten(hash: u64) -> u32 {
    let [a, b, c, d, e, f, g, h] = hash.to_le_bytes();
    u32::from_le_bytes([a, b, c, d]) ^ u32::from_le_bytes([e, f, g, h])
}

#[derive(Debug, Default)]
pub(super) struct Index {
    slots: Vec<Timer>,
    vacant: Vec<u32>,
    by_id: HashTable<Entry>,
    /// Has the first timer of each key's chain.
    by_key: HashTable<Entry>,
    /// The length of all keys and names.
    text_bytes: usize,
}

impl Index {
    pub(super) fn get(&self, slot: u32) -> &Timer {
        &self.slots[slot as usize]
    }

    pub(super) fn get_mut(&mut self, slot: u32) -> &mut Timer {
        &mut self.slots[slot as usize]
    }

    /// The timer with this id, though it may not be set.
    pub(super) fn find(&self, id: &Id<'_>) -> Option<u32> {
        debug_assert_eq!(id.hash, xxh3_64(id.key), "the hash isn't the key's");
        let short_hash = id.short_hash();
        let is = |entry: &Entry| {
            let timer = self.get(entry.slot);
            entry.short_hash == short_hash
                && timer.clock == id.clock
                && timer.key() == id.key
                && timer.name().as_bytes() == id.name.as_bytes()
        };
        self.by_id.find(Entry::hash(short_hash), is).map(|entry| entry.slot)
    }

    /// The timers of a key, though they may not be set.
    pub(super) fn of_key(&self, hash: u64, key: &[u8]) -> impl Iterator<Item = u32> {
        let short_hash = shorten(hash);
        let is = |entry: &Entry| entry.short_hash == short_hash && self.get(entry.slot).key() == key;
        let first = self.by_key.find(Entry::hash(short_hash), is).map(|entry| entry.slot);
        std::iter::successors(first, |&slot| Some(self.get(slot).next).filter(|&next| next != NONE))
    }

    /// A number that all timers of the key of this one share, and no others, until a timer comes or goes.
    pub(super) fn key_number(&self, slot: u32) -> u32 {
        let key = self.get(slot).key();
        self.of_key(xxh3_64(key), key).next().expect("a timer is in its key's chain")
    }

    /// Adds a timer, not set yet, that isn't there.
    pub(super) fn insert(&mut self, id: &Id<'_>) -> u32 {
        let text = [id.key, id.name.as_bytes()].concat().into_boxed_slice();
        self.text_bytes += text.len();
        let slot = self.vacant.pop().unwrap_or_else(|| {
            let slot = u32::try_from(self.slots.len()).expect("a task has fewer than 2^32 timers");
            assert!(slot != NONE, "a task has fewer than 2^32 - 1 timers");
            slot
        });
        let timer = Timer {
            text,
            key_length: u32::try_from(id.key.len()).expect("a key fits 4 GiB"),
            place: NONE,
            next: NONE,
            previous: NONE,
            changed_in: 0,
            clock: id.clock,
            stored: false,
            vacant: false,
        };
        match self.slots.get_mut(slot as usize) {
            // Which epoch's list the slot stands in outlives the timer.
            Some(old) => *old = Timer { changed_in: old.changed_in, ..timer },
            None => self.slots.push(timer),
        }
        let entry = Entry { short_hash: id.short_hash(), slot };
        self.by_id.insert_unique(Entry::hash(entry.short_hash), entry, |e| Entry::hash(e.short_hash));
        self.link(id, slot);
        slot
    }

    fn link(&mut self, id: &Id<'_>, slot: u32) {
        let Self { slots, by_key, .. } = self;
        let entry = Entry { short_hash: shorten(id.hash), slot };
        let is = |e: &Entry| e.short_hash == entry.short_hash && slots[e.slot as usize].key() == id.key;
        if let Some(first) = by_key.find_mut(Entry::hash(entry.short_hash), is) {
            let next = std::mem::replace(&mut first.slot, slot);
            slots[slot as usize].next = next;
            slots[next as usize].previous = slot;
        } else {
            by_key.insert_unique(Entry::hash(entry.short_hash), entry, |e| Entry::hash(e.short_hash));
        }
    }

    /// Removes a timer that isn't set. Its slot will be given to another.
    pub(super) fn remove(&mut self, slot: u32) {
        let timer = self.get(slot);
        debug_assert!(!timer.is_set() && !timer.vacant, "{timer:?}");
        let (id, key_hash) = (timer.id().short_hash(), shorten(xxh3_64(timer.key())));
        if let Ok(entry) = self.by_id.find_entry(Entry::hash(id), |e| e.slot == slot) {
            entry.remove();
        }
        self.unlink(key_hash, slot);
        let timer = self.get_mut(slot);
        timer.vacant = true;
        let text = std::mem::take(&mut timer.text);
        timer.key_length = 0;
        self.text_bytes -= text.len();
        self.vacant.push(slot);
    }

    fn unlink(&mut self, key_hash: u32, slot: u32) {
        let Timer { next, previous, .. } = *self.get(slot);
        if next != NONE {
            self.get_mut(next).previous = previous;
        }
        if previous != NONE {
            self.get_mut(previous).next = next;
        } else if let Ok(mut first) = self.by_key.find_entry(Entry::hash(key_hash), |e| e.slot == slot) {
            if next == NONE {
                first.remove();
            } else {
                first.get_mut().slot = next;
            }
        }
    }

    pub(super) fn bytes(&self) -> usize {
        let entries = self.by_id.capacity() + self.by_key.capacity();
        self.slots.capacity() * size_of::<Timer>()
            + self.vacant.capacity() * size_of::<u32>()
            + entries * (size_of::<Entry>() + 1)
            + self.text_bytes
    }
}
