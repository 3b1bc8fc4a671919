//! The timers of one task of an operator: per key, named, on two clocks.
//!
//! All of them are in memory, about a hundred bytes each beside their keys and names: in an index by key, which
//! tells which timer an operator means, and in a queue by time, which tells what is due. Beside them stands which
//! of them the storage doesn't know yet. A timer is in the storage as its address and its time in 8 bytes,
//! big-endian.
//!
//! A timer at `t` is due when its clock has reached `t`. It fires once: firing takes it away. Timers are due in
//! the order of their times, keys and names, whatever the order in which they were set.

mod changes;
mod index;
mod queue;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::ops::Range;

use arrow_array::StringArray;
use arrow_array::builder::StringBuilder;

use crate::key::Keys;
use crate::storage::{Addresses, Storage, StorageError, Writes};
use changes::Changes;
use index::{Id, Index};
use queue::Queue;

/// So many timers are read from a storage at once: some hundred kilobytes.
const RESTORE_CHUNK: usize = 4096;

/// What time is measured by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Clock {
    /// The watermark.
    Event,
    /// The time at which rows are processed, as the driver tells it.
    Processing,
}

impl Clock {
    /// Both, in the order of their numbers.
    pub const ALL: [Clock; 2] = [Self::Event, Self::Processing];

    /// The number by which timers are filed.
    pub fn number(self) -> u8 {
        match self {
            Self::Event => 0,
            Self::Processing => 1,
        }
    }
}

/// The timers of one task.
#[derive(Debug)]
pub struct Timers {
    addresses: Addresses,
    index: Index,
    queues: [Queue; 2],
    changes: Changes,
}

/// Timers to fire, no two of them of the same key: so what a firing sets or cancels holds for the key's next.
#[derive(Debug)]
pub struct Due {
    /// Their keys.
    pub keys: Keys,
    /// Their names.
    pub names: StringArray,
    /// The times they were set to, ascending.
    pub at: Vec<i64>,
}

impl Due {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.at.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.at.is_empty()
    }
}

impl Timers {
    /// No timers, of the operator with these addresses.
    pub fn new(addresses: Addresses) -> Self {
        Self {
            addresses,
            index: Index::default(),
            queues: [Queue::default(), Queue::default()],
            changes: Changes::default(),
        }
    }

    /// The timers of the keys in these key groups as a storage has them. Those that have become due meanwhile are
    /// due.
    ///
    /// # Errors
    /// When the storage can't be read, or what stands there is no timer.
    pub fn restore(
        addresses: Addresses,
        storage: &dyn Storage,
        groups: Range<u32>,
    ) -> Result<Self, StorageError> {
        let mut timers = Self::new(addresses);
        for clock in Clock::ALL {
            let mut from = addresses.timers_of_group(clock.number(), groups.start);
            let end = addresses.timers_of_group(clock.number(), groups.end);
            loop {
                let chunk = storage.scan(&from, &end, RESTORE_CHUNK)?;
                for (address, at) in &chunk {
                    timers.restore_one(clock, address, at)?;
                }
                match chunk.into_iter().next_back() {
                    Some((last, _)) => from = last,
                    None => break,
                }
                from.push(0);
            }
        }
        Ok(timers)
    }

    fn restore_one(&mut self, clock: Clock, address: &[u8], at: &[u8]) -> Result<(), StorageError> {
        let (_, _, key, name) = self.addresses.read_timer(address)?;
        let broken = |what: &str| {
            StorageError(format!(
                "the timer at {address:02x?} of operator {} {what}; restore from another checkpoint",
                self.addresses.operator
            ))
        };
        let at: [u8; 8] = at.try_into().map_err(|_| broken("has no time of 8 bytes"))?;
        let name = std::str::from_utf8(name).map_err(|_| broken("has a name that isn't UTF-8"))?;
        let slot = self.index.insert(&Id::new(clock, key, name));
        self.index.get_mut(slot).stored = true;
        self.queues[clock as usize].push(&mut self.index, slot, i64::from_be_bytes(at));
        Ok(())
    }

    /// Sets the timer of a key with this name, in place of the one that it has on this clock. `hash` is the key's.
    /// A time that has passed is fine: the timer is due.
    pub fn set(&mut self, clock: Clock, hash: u64, key: &[u8], name: &str, at: i64) {
        let id = Id { clock, hash, key, name };
        let queue = &mut self.queues[clock as usize];
        let slot = match self.index.find(&id) {
            Some(slot) => {
                let before = queue.at(&self.index, slot);
                if before == Some(at) {
                    return;
                }
                self.changes.touch(&mut self.index, &self.addresses, slot, before);
                if before.is_some() {
                    queue.remove(&mut self.index, slot);
                }
                slot
            }
            None => {
                let slot = self.index.insert(&id);
                self.changes.add(&mut self.index, slot);
                slot
            }
        };
        queue.push(&mut self.index, slot, at);
    }

    /// Cancels the timer of a key with this name, if it is set. `hash` is the key's.
    pub fn cancel(&mut self, clock: Clock, hash: u64, key: &[u8], name: &str) {
        let slot = self.index.find(&Id { clock, hash, key, name });
        if let Some(slot) = slot.filter(|&slot| self.index.get(slot).is_set()) {
            self.unset(clock, slot);
            self.changes.forget(&mut self.index, slot);
        }
    }

    /// Takes a timer that is set out of its queue; the index still has it.
    fn unset(&mut self, clock: Clock, slot: u32) {
        let queue = &mut self.queues[clock as usize];
        let at = queue.at(&self.index, slot);
        self.changes.touch(&mut self.index, &self.addresses, slot, at);
        queue.remove(&mut self.index, slot);
    }

    /// The time of the timer of a key with this name, if it is set. `hash` is the key's.
    pub fn get(&self, clock: Clock, hash: u64, key: &[u8], name: &str) -> Option<i64> {
        let slot = self.index.find(&Id { clock, hash, key, name })?;
        self.queues[clock as usize].at(&self.index, slot)
    }

    /// The time of the next timer on a clock.
    pub fn next(&self, clock: Clock) -> Option<i64> {
        self.queues[clock as usize].first().map(|(at, _)| at)
    }

    /// Takes the next timers that are due at `now`, at most `max`. It stops before a second timer of a key, which
    /// the firing of the first may move or cancel. There are more as long as [`next`](Self::next) isn't after
    /// `now`: those that a firing sets come in their turn.
    pub fn due(&mut self, clock: Clock, now: i64, max: usize) -> Due {
        let (mut fired, mut keys) = (Vec::new(), BTreeSet::new());
        while fired.len() < max {
            let first = self.queues[clock as usize].first().filter(|&(at, _)| at <= now);
            let Some((at, slot)) = first else { break };
            if !keys.insert(self.index.key_number(slot)) {
                break;
            }
            self.unset(clock, slot);
            fired.push((at, slot));
        }
        self.fire(fired.into_iter())
    }

    /// As [`due`](Self::due), but with all timers of a key in their turn: for whoever sets or cancels none of them in
    /// between.
    pub fn all_due(&mut self, clock: Clock, now: i64, max: usize) -> Due {
        let mut fired = Vec::new();
        while fired.len() < max {
            let first = self.queues[clock as usize].first().filter(|&(at, _)| at <= now);
            let Some((at, slot)) = first else { break };
            self.unset(clock, slot);
            fired.push((at, slot));
        }
        self.fire(fired.into_iter())
    }

    /// The timers of a key that are set on a clock: names and times, in no particular order. `hash` is the key's.
    pub fn of_key<'a>(
        &'a self,
        clock: Clock,
        hash: u64,
        key: &'a [u8],
    ) -> impl Iterator<Item = (&'a str, i64)> {
        let timers = self.index.of_key(hash, key).filter(move |&slot| self.index.get(slot).clock == clock);
        timers.filter_map(move |slot| {
            Some((self.index.get(slot).name(), self.queues[clock as usize].at(&self.index, slot)?))
        })
    }

    /// How many timers are set on a clock.
    pub fn count(&self, clock: Clock) -> usize {
        self.queues[clock as usize].len()
    }

    /// Takes of each of these keys the first timer that is due at `now`, at most `max` in all. With it a key that
    /// has rows gets its earlier timers before them, even if many others are due. There are no more when it
    /// returns none. A key, given as hash and bytes, may occur more than once.
    pub fn due_of<'a>(
        &mut self,
        clock: Clock,
        now: i64,
        keys: impl Iterator<Item = (u64, &'a [u8])>,
        max: usize,
    ) -> Due {
        if self.next(clock).is_none_or(|next| next > now) {
            return self.fire(std::iter::empty());
        }
        let queue = &self.queues[clock as usize];
        let first_of = |(hash, key)| {
            let of_key = self.index.of_key(hash, key).filter(|&slot| self.index.get(slot).clock == clock);
            let set = of_key.filter_map(|slot| Some((queue.at(&self.index, slot)?, slot)));
            set.filter(|&(at, _)| at <= now).min_by(|a, b| queue::compare(&self.index, *a, *b))
        };
        let mut firsts: Vec<(i64, u32)> = keys.filter_map(first_of).collect();
        firsts.sort_by(|a, b| queue::compare(&self.index, *a, *b));
        firsts.dedup();
        firsts.truncate(max);
        firsts.iter().for_each(|&(_, slot)| self.unset(clock, slot));
        self.fire(firsts.into_iter())
    }

    /// Hands out timers that are no longer set, and forgets them.
    fn fire(&mut self, fired: impl Iterator<Item = (i64, u32)>) -> Due {
        let (mut keys, mut names, mut times) = (Keys::default(), StringBuilder::new(), Vec::new());
        for (at, slot) in fired {
            let timer = self.index.get(slot);
            keys.push(timer.key());
            names.append_value(timer.name());
            times.push(at);
            self.changes.forget(&mut self.index, slot);
        }
        Due { keys, names: names.finish(), at: times }
    }

    /// How many timers are set.
    pub fn len(&self) -> usize {
        self.queues.iter().map(Queue::len).sum()
    }

    /// Whether none is set.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// About how many bytes of memory they take.
    pub fn bytes(&self) -> usize {
        self.index.bytes() + self.changes.bytes() + self.queues.iter().map(Queue::bytes).sum::<usize>()
    }

    /// Freezes the timers as they are, for a checkpoint; [`drain`](Self::drain) then says what has to be written
    /// for it. What wasn't drained of the freeze before belongs to this one.
    pub fn freeze(&mut self) {
        self.changes.freeze();
    }

    /// What has to be written next so that the storage has the timers as they were frozen: so much that at most
    /// `max` timers are looked at. `None` when all of it has been handed out.
    pub fn drain(&mut self, max: usize) -> Option<Writes> {
        let queues = &self.queues;
        let at = |index: &Index, slot: u32| queues[index.get(slot).clock as usize].at(index, slot);
        self.changes.drain(&mut self.index, &self.addresses, at, max)
    }
}
