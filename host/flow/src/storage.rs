//! Where state is kept when it isn't in a task's hands: ordered bytes to bytes, and where in it each part of an
//! operator's state stands.
//!
//! The flow decides what is kept and when it is written; a [`Storage`] keeps it. The host's is RocksDB;
//! [`InMemory`] serves tests and tiny pipelines.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;
use std::sync::{PoisonError, RwLock};

use crate::key::{KEY_GROUPS, key_group};

/// Ordered bytes to bytes. Cheap to read from several tasks at once; tasks write disjoint ranges.
pub trait Storage: Send + Sync {
    /// The values at these addresses, in this order.
    ///
    /// # Errors
    /// When the storage can't be read.
    fn read(&self, addresses: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>, StorageError>;

    /// What stands from `from` up to, and without, `end`, ascending by address: the first `limit` of it. Whoever wants
    /// the rest continues behind the last address.
    ///
    /// # Errors
    /// When the storage can't be read.
    fn scan(&self, from: &[u8], end: &[u8], limit: usize) -> Result<Vec<Stored>, StorageError>;

    /// Applies the writes in their order. Either all of them or, with an error, none can be read afterwards.
    ///
    /// # Errors
    /// When the storage can't be written.
    fn write(&self, writes: Writes) -> Result<(), StorageError>;
}

/// An address and what stands there.
pub type Stored = (Vec<u8>, Vec<u8>);

/// A storage failed; the message says which, where and why.
#[derive(Clone, Debug)]
pub struct StorageError(pub String);

impl fmt::Display for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StorageError {}

/// Changes to a storage, in order.
#[derive(Debug, Default)]
pub struct Writes {
    /// The changes.
    pub list: Vec<Write>,
}

/// One change to a storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Sets the value at an address.
    Put(Vec<u8>, Vec<u8>),
    /// Removes what stands at an address, if anything.
    Delete(Vec<u8>),
    /// Removes everything from the first address up to, and without, the second.
    DeleteRange(Vec<u8>, Vec<u8>),
}

impl Writes {
    /// Sets the value at an address, or removes it.
    pub fn set(&mut self, address: Vec<u8>, value: Option<Vec<u8>>) {
        self.list.push(match value {
            Some(value) => Write::Put(address, value),
            None => Write::Delete(address),
        });
    }

    /// About how many bytes they hold.
    pub fn bytes(&self) -> usize {
        let bytes = |write: &Write| match write {
            Write::Put(address, value) => address.len() + value.len(),
            Write::Delete(address) => address.len(),
            Write::DeleteRange(from, end) => from.len() + end.len(),
        };
        self.list.iter().map(bytes).sum()
    }
}

/// A storage in memory.
#[derive(Debug, Default)]
pub struct InMemory {
    entries: RwLock<BTreeMap<Vec<u8>, Vec<u8>>>,
}

/// A copy, which goes its own way from then on.
impl Clone for InMemory {
    fn clone(&self) -> Self {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        Self { entries: RwLock::new(entries.clone()) }
    }
}

impl Storage for InMemory {
    fn read(&self, addresses: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>, StorageError> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        Ok(addresses.iter().map(|a| entries.get(a).cloned()).collect())
    }

    fn scan(&self, from: &[u8], end: &[u8], limit: usize) -> Result<Vec<Stored>, StorageError> {
        if from >= end {
            return Ok(Vec::new());
        }
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        let range = entries.range::<[u8], _>((Bound::Included(from), Bound::Excluded(end)));
        Ok(range.take(limit).map(|(a, v)| (a.clone(), v.clone())).collect())
    }

    fn write(&self, writes: Writes) -> Result<(), StorageError> {
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        for write in writes.list {
            match write {
                Write::Put(address, value) => drop(entries.insert(address, value)),
                Write::Delete(address) => drop(entries.remove(&address)),
                Write::DeleteRange(from, end) if from < end => {
                    let mut tail = entries.split_off(&from);
                    let mut rest = tail.split_off(&end);
                    entries.append(&mut rest);
                }
                Write::DeleteRange(..) => {}
            }
        }
        Ok(())
    }
}

/// The part of a storage that belongs to one operator. Addresses begin with the operator's number in two bytes
/// and what they are for in one; all integers in them are big-endian, so that they sort as numbers do:
///
/// * a row, `00`: slice (8, its sign bit flipped), key group (2), key;
/// * an entry of a collection, `01`: collection (1), key group (2), length of the key (4), key, entry;
/// * a timer, `02`: clock (1), key group (2), length of the key (4), key, name;
/// * a row in flight, `03`: key group (2), its number among those of its task (8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// The operator's number, which never changes while a pipeline has state.
    pub operator: u16,
}

/// The collection or clock, the key group, the key, and the entry or name.
pub type OfKey<'a> = (u8, u32, &'a [u8], &'a [u8]);

const ROW: u8 = 0;
const ENTRY: u8 = 1;
const TIMER: u8 = 2;
const IN_FLIGHT: u8 = 3;

impl Addresses {
    /// The row of a key, whose hash is `hash`, in a slice; an operator without windows has the slice 0.
    pub fn row(&self, slice: i64, hash: u64, key: &[u8]) -> Vec<u8> {
        let mut address = self.rows_of_group(slice, key_group(hash));
        address.extend_from_slice(key);
        address
    }

    /// Where the rows of a key group, up to [`KEY_GROUPS`], in a slice begin; those of the last group end where
    /// group `KEY_GROUPS` would begin.
    pub fn rows_of_group(&self, slice: i64, group: u32) -> Vec<u8> {
        let mut address = self.of(ROW);
        address.extend_from_slice(&(slice.cast_unsigned() ^ (1 << 63)).to_be_bytes());
        push_group(&mut address, group);
        address
    }

    /// The slice, key group and key of a row's address.
    ///
    /// # Errors
    /// When this is no address of a row of this operator.
    pub fn read_row<'a>(&self, address: &'a [u8]) -> Result<(i64, u32, &'a [u8]), StorageError> {
        let rest = address.strip_prefix(self.of(ROW).as_slice());
        let parts = rest.and_then(|rest| {
            let (slice, rest) = rest.split_first_chunk::<8>()?;
            let (group, key) = rest.split_first_chunk::<2>()?;
            Some((
                (u64::from_be_bytes(*slice) ^ (1 << 63)).cast_signed(),
                u16::from_be_bytes(*group).into(),
                key,
            ))
        });
        parts.ok_or_else(|| self.no_address(address, "a row"))
    }

    /// An entry of a collection of a key.
    pub fn entry(&self, collection: u8, hash: u64, key: &[u8], entry: &[u8]) -> Vec<u8> {
        let mut address = self.entries_of_group(collection, key_group(hash));
        push_key(&mut address, key);
        address.extend_from_slice(entry);
        address
    }

    /// Where the entries of a key group in a collection begin.
    pub fn entries_of_group(&self, collection: u8, group: u32) -> Vec<u8> {
        let mut address = self.of(ENTRY);
        address.push(collection);
        push_group(&mut address, group);
        address
    }

    /// The collection, key group, key and entry of an entry's address.
    ///
    /// # Errors
    /// When this is no address of an entry of this operator.
    pub fn read_entry<'a>(&self, address: &'a [u8]) -> Result<OfKey<'a>, StorageError> {
        self.read_keyed(ENTRY, address).ok_or_else(|| self.no_address(address, "an entry"))
    }

    /// A timer of a key.
    pub fn timer(&self, clock: u8, hash: u64, key: &[u8], name: &[u8]) -> Vec<u8> {
        let mut address = self.timers_of_group(clock, key_group(hash));
        push_key(&mut address, key);
        address.extend_from_slice(name);
        address
    }

    /// Where the timers of a key group on a clock begin.
    pub fn timers_of_group(&self, clock: u8, group: u32) -> Vec<u8> {
        let mut address = self.of(TIMER);
        address.push(clock);
        push_group(&mut address, group);
        address
    }

    /// The clock, key group, key and name of a timer's address.
    ///
    /// # Errors
    /// When this is no address of a timer of this operator.
    pub fn read_timer<'a>(&self, address: &'a [u8]) -> Result<OfKey<'a>, StorageError> {
        self.read_keyed(TIMER, address).ok_or_else(|| self.no_address(address, "a timer"))
    }

    /// A row in flight: the `number`-th that its task has recorded for a checkpoint.
    pub fn in_flight(&self, group: u32, number: u64) -> Vec<u8> {
        let mut address = self.in_flight_of_group(group);
        address.extend_from_slice(&number.to_be_bytes());
        address
    }

    /// Where the rows in flight of a key group begin.
    pub fn in_flight_of_group(&self, group: u32) -> Vec<u8> {
        let mut address = self.of(IN_FLIGHT);
        push_group(&mut address, group);
        address
    }

    /// The key group and number of a row in flight.
    ///
    /// # Errors
    /// When this is no address of a row in flight of this operator.
    pub fn read_in_flight(&self, address: &[u8]) -> Result<(u32, u64), StorageError> {
        let rest = address.strip_prefix(self.of(IN_FLIGHT).as_slice());
        let parts = rest.and_then(|rest| {
            let (group, number) = rest.split_first_chunk::<2>()?;
            Some((u16::from_be_bytes(*group).into(), u64::from_be_bytes(number.try_into().ok()?)))
        });
        parts.ok_or_else(|| self.no_address(address, "a row in flight"))
    }

    /// Everything that belongs to the operator: from the first address up to, and without, the second.
    pub fn all(&self) -> (Vec<u8>, Vec<u8>) {
        let mut end = self.operator.to_be_bytes().to_vec();
        end.push(u8::MAX);
        (self.of(ROW), end)
    }

    fn of(&self, kind: u8) -> Vec<u8> {
        let [high, low] = self.operator.to_be_bytes();
        vec![high, low, kind]
    }

    fn read_keyed<'a>(&self, kind: u8, address: &'a [u8]) -> Option<OfKey<'a>> {
        let rest = address.strip_prefix(self.of(kind).as_slice())?;
        let ([of], rest) = rest.split_first_chunk::<1>()?;
        let (group, rest) = rest.split_first_chunk::<2>()?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let (key, tail) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
        Some((*of, u16::from_be_bytes(*group).into(), key, tail))
    }

    fn no_address(&self, address: &[u8], what: &str) -> StorageError {
        StorageError(format!("{address:02x?} is no address of {what} of operator {}", self.operator))
    }
}

fn push_group(address: &mut Vec<u8>, group: u32) {
    debug_assert!(group <= KEY_GROUPS, "group {group}");
    address.extend_from_slice(&u16::try_from(group).expect("720 at most").to_be_bytes());
}

fn push_key(address: &mut Vec<u8>, key: &[u8]) {
    address.extend_from_slice(&u32::try_from(key.len()).expect("a key fits 4 GiB").to_be_bytes());
    address.extend_from_slice(key);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_sort_as_what_they_stand_for() {
        let of = Addresses { operator: 3 };
        let mut rows: Vec<_> =
            [-5i64, 0, 7].iter().flat_map(|&s| [of.row(s, 1, b"a"), of.row(s, 2, b"a")]).collect();
        let sorted = rows.clone();
        rows.sort();
        assert_eq!(rows, sorted);
        assert_eq!(of.read_row(&rows[0]).unwrap(), (-5, 1, b"a".as_slice()));
        assert_eq!(
            of.read_entry(&of.entry(2, 721, b"k", b"e")).unwrap(),
            (2, 1, b"k".as_slice(), b"e".as_slice())
        );
        assert_eq!(
            of.read_timer(&of.timer(1, 1, b"", b"n")).unwrap(),
            (1, 1, b"".as_slice(), b"n".as_slice())
        );
        assert_eq!(of.read_in_flight(&of.in_flight(719, 256)).unwrap(), (719, 256));
        assert!(
            of.in_flight(5, 255) < of.in_flight(5, 256) && of.in_flight(5, 256) < of.in_flight_of_group(6)
        );
        assert!(of.read_in_flight(&of.in_flight_of_group(6)).is_err());
        let (from, end) = of.all();
        assert!(of.timer(1, 719, b"z", b"z") < of.in_flight_of_group(0) && of.in_flight_of_group(720) < end);
        assert!(
            from <= rows[0] && of.timer(1, 719, b"z", b"z") < end && end < Addresses { operator: 4 }.all().0
        );
        assert!(of.read_row(&of.timer(1, 1, b"", b"")).is_err() && of.read_timer(b"\x00\x03\x02").is_err());
    }

    #[test]
    fn memory_keeps_what_is_written() {
        let storage = InMemory::default();
        let put = |a: &[u8], v: &[u8]| Write::Put(a.to_vec(), v.to_vec());
        let list = vec![
            put(b"a", b"1"),
            put(b"b", b"2"),
            put(b"c", b"3"),
            Write::DeleteRange(b"b".into(), b"c".into()),
        ];
        storage.write(Writes { list }).unwrap();
        let read = storage.read(&[b"c".to_vec(), b"b".to_vec()]).unwrap();
        assert_eq!(read, [Some(b"3".to_vec()), None]);
        assert_eq!(storage.scan(b"a", b"z", 1).unwrap(), [(b"a".to_vec(), b"1".to_vec())]);
    }
}
