//! Collections of a key: sorted entries that the host keeps, read when they are asked for and written once at
//! the end of a call.

use std::borrow::Borrow;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::ops::{Bound, RangeBounds};
use std::rc::Rc;

use crate::batch::{ColumnBuffer, DataType};
use crate::encoding::{Entry, EntryValue, OwnedEntry};
use crate::value::{FieldType, FromColumn, column_values};

/// What the host gives at most in answer to one question for a range.
const RANGE_ENTRIES_MAX: usize = 4_096;

/// Where the collections of the keys of a call are kept: the host, or a stand-in. Keys and collections are named
/// by their numbers, entries and values written as the contract says.
pub trait Collections {
    /// The values of these entries, row for row, as bytes that may be absent; `keys`: 4 bytes each.
    fn read(&self, collection: u8, keys: &[u8], entries: ColumnBuffer) -> ColumnBuffer;

    /// Sets the values of these entries; an absent value removes the entry.
    fn write(&self, collection: u8, keys: &[u8], entries: ColumnBuffer, values: ColumnBuffer);

    /// At most `limit` entries from `first` up to, and without, `end`, ascending; and at most 4,096.
    fn range(
        &self,
        collection: u8,
        key: u32,
        first: Option<&[u8]>,
        end: Option<&[u8]>,
        limit: u32,
    ) -> FoundEntries;
}

/// What stands in a range of a collection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FoundEntries {
    /// How many entries there are.
    pub count: u32,
    /// Their bytes.
    pub entries: ColumnBuffer,
    /// The bytes of their values.
    pub values: ColumnBuffer,
}

/// A sorted collection of a key: a field of its [`State`](crate::State).
///
/// Entries are `i64`, [`Timestamp`](crate::Timestamp), `bool`, `String` or `Vec<u8>`, sorted as these sort. They stay
/// with the host until they are asked for, so a collection may be far larger than what fits in memory. Each
/// first look at an entry in a batch asks the host; changes are sent once, at the batch's end.
///
/// In a unit test, `Entries::default()` is a collection in memory.
///
/// ```
/// use tidemill_sdk::Entries;
///
/// let mut prices = Entries::<String, f64>::default();
/// prices.insert("rye".into(), 1.25);
/// prices.insert("flour".into(), 1.5);
/// assert_eq!(prices.get("rye"), Some(1.25));
/// prices.remove("rye");
/// assert_eq!(prices.range(.., 10), [("flour".to_owned(), 1.5)]);
/// ```
#[derive(Debug)]
pub struct Entries<K, V> {
    place: Option<(Place, u8)>,
    /// What this call has read or changed, by the entries' bytes, which sort as the host's do.
    held: RefCell<BTreeMap<Vec<u8>, Held<V>>>,
    /// What stood in `held` before the row at hand changed it.
    undo: Vec<(Vec<u8>, Option<Held<V>>)>,
    entry: PhantomData<K>,
}

#[derive(Clone, Debug)]
struct Held<V> {
    value: Option<V>,
    changed: bool,
}

/// Where the collections of one key are. For the derive.
#[doc(hidden)]
#[derive(Clone)]
pub struct Place {
    pub(crate) collections: Rc<dyn Collections>,
    pub(crate) key: u32,
    /// Whether a row may be refused, so that its changes must be taken back.
    pub(crate) may_reject: bool,
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "key {}", self.key)
    }
}

impl<K, V> Default for Entries<K, V> {
    fn default() -> Self {
        Self { place: None, held: RefCell::default(), undo: Vec::new(), entry: PhantomData }
    }
}

impl<K: OwnedEntry, V: EntryValue> Entries<K, V> {
    /// What the contract calls the type of the entries.
    pub const ENTRY: DataType = K::DATA_TYPE;
    /// What the contract calls the type of their values.
    pub const VALUE: DataType = V::DATA_TYPE;

    /// The value of an entry.
    pub fn get<Q: Entry + ?Sized>(&self, entry: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let entry = encoded(entry);
        if let Some(held) = self.held.borrow().get(&entry) {
            return held.value.clone();
        }
        let (place, collection) = self.place.as_ref()?;
        let value = place.read(*collection, &entry).map(|bytes| value(&bytes));
        self.held.borrow_mut().insert(entry, Held { value: value.clone(), changed: false });
        value
    }

    /// Whether there is such an entry.
    pub fn contains<Q: Entry + ?Sized>(&self, entry: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.get(entry).is_some()
    }

    /// Sets the value of an entry. What stood there isn't looked at.
    pub fn insert(&mut self, entry: K, value: V) {
        self.change(encoded(&entry), Some(value));
    }

    /// Removes an entry, if there is one. What stood there isn't looked at.
    pub fn remove<Q: Entry + ?Sized>(&mut self, entry: &Q)
    where
        K: Borrow<Q>,
    {
        self.change(encoded(entry), None);
    }

    /// The first `limit` entries of a range, ascending, with their values. Asks the host each time.
    ///
    /// ```
    /// # use tidemill_sdk::Entries;
    /// let mut squares = Entries::<i64, i64>::default();
    /// (-3..4).for_each(|n| squares.insert(n, n * n));
    /// assert_eq!(squares.range(-2.., 2), [(-2, 4), (-1, 1)]);
    /// assert_eq!(squares.range(1..=2, 10), [(1, 1), (2, 4)]);
    /// ```
    pub fn range(&self, range: impl RangeBounds<K>, limit: usize) -> Vec<(K, V)> {
        let (first, end) = bounds(&range);
        if end.as_ref().is_some_and(|end| first >= *end) {
            return Vec::new();
        }
        let upper = end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let held = self.held.borrow();
        let mut held = held.range::<[u8], _>((Bound::Included(first.as_slice()), upper)).peekable();
        let place = self.place.as_ref();
        let mut kept = place.map(|(place, collection)| Kept::new(place, *collection, &first, end.as_deref()));
        let mut found = Vec::new();
        while found.len() < limit {
            let next = kept.as_mut().and_then(|kept| kept.peek(limit - found.len()));
            match (next, held.peek()) {
                (None, None) => break,
                (Some(next), mine) if mine.is_none_or(|(entry, _)| next < entry.as_slice()) => {
                    found.extend(
                        kept.as_mut().and_then(Kept::next).map(|(entry, bytes)| (entry, value(&bytes))),
                    );
                }
                (next, Some((entry, mine))) => {
                    // What this call has read or changed stands for what the host has.
                    let hidden = next == Some(entry.as_slice());
                    found.extend(mine.value.clone().map(|value| ((*entry).clone(), value)));
                    held.next();
                    kept.as_mut().filter(|_| hidden).and_then(Kept::next);
                }
                (Some(_), None) => unreachable!("the case before takes what has no rival"),
            }
        }
        let decode =
            |(bytes, value): (Vec<u8>, V)| (K::decode(&bytes).unwrap_or_else(|| not_a::<K>(&bytes)), value);
        found.into_iter().map(decode).collect()
    }

    fn change(&mut self, entry: Vec<u8>, value: Option<V>) {
        let held = self.held.get_mut();
        if self.place.as_ref().is_some_and(|(place, _)| place.may_reject) {
            self.undo.push((entry.clone(), held.get(&entry).cloned()));
        }
        held.insert(entry, Held { value, changed: true });
    }

    /// The collection of a key, with nothing read. For the derive.
    #[doc(hidden)]
    pub fn at(place: &Place, collection: u8) -> Self {
        Self { place: Some((place.clone(), collection)), ..Self::default() }
    }

    /// Keeps the changes of the row at hand, or takes them back. For the derive.
    #[doc(hidden)]
    #[inline(always)]
    pub fn settle(&mut self, accepted: bool) {
        if !self.undo.is_empty() {
            self.settle_changes(accepted);
        }
    }

    fn settle_changes(&mut self, accepted: bool) {
        if accepted {
            return self.undo.clear();
        }
        let held = self.held.get_mut();
        while let Some((entry, before)) = self.undo.pop() {
            match before {
                Some(before) => drop(held.insert(entry, before)),
                None => drop(held.remove(&entry)),
            }
        }
    }

    /// Whether something was read or changed. For the derive.
    #[doc(hidden)]
    pub fn is_touched(&self) -> bool {
        !self.held.borrow().is_empty()
    }

    /// Adds the changes of all rows to those of other keys. For the derive.
    #[doc(hidden)]
    pub fn unload(self, changes: &mut EntryChanges) {
        let Some((place, _)) = &self.place else { return };
        for (entry, held) in self.held.into_inner() {
            if held.changed {
                changes.push(place.key, &entry, held.value.as_ref());
            }
        }
    }
}

/// Changes of one collection, over all keys of a call.
#[doc(hidden)]
pub struct EntryChanges {
    keys: Vec<u8>,
    entries: <Vec<u8> as FieldType>::Writer,
    values: <Option<Vec<u8>> as FieldType>::Writer,
    /// The value that is being written.
    encoded: Vec<u8>,
}

impl Default for EntryChanges {
    fn default() -> Self {
        let (entries, values) = (Vec::<u8>::writer(0), Option::<Vec<u8>>::writer(0));
        Self { keys: Vec::new(), entries, values, encoded: Vec::new() }
    }
}

impl EntryChanges {
    fn push<V: EntryValue>(&mut self, key: u32, entry: &[u8], value: Option<&V>) {
        self.keys.extend_from_slice(&key.to_le_bytes());
        <&[u8]>::push(&mut self.entries, entry);
        self.encoded.clear();
        let value = value.map(|value| {
            value.encode(&mut self.encoded);
            self.encoded.as_slice()
        });
        Option::<&[u8]>::push(&mut self.values, value);
    }

    pub(crate) fn send(self, collection: u8, collections: &dyn Collections) {
        if !self.keys.is_empty() {
            let (entries, values) = (<&[u8]>::finish(self.entries), Option::<Vec<u8>>::finish(self.values));
            collections.write(collection, &self.keys, entries, values);
        }
    }
}

impl Place {
    fn read(&self, collection: u8, entry: &[u8]) -> Option<Vec<u8>> {
        let values = self.collections.read(collection, &self.key.to_le_bytes(), byte_column([entry]));
        byte_strings::<Option<Vec<u8>>>(&values, 1).pop().flatten()
    }
}

/// What the host has in a range, asked for as it is needed.
struct Kept<'p> {
    place: &'p Place,
    collection: u8,
    from: Vec<u8>,
    end: Option<&'p [u8]>,
    read: std::vec::IntoIter<(Vec<u8>, Vec<u8>)>,
    is_all_read: bool,
}

impl<'p> Kept<'p> {
    fn new(place: &'p Place, collection: u8, first: &[u8], end: Option<&'p [u8]>) -> Self {
        Self {
            place,
            collection,
            from: first.to_vec(),
            end,
            read: Vec::new().into_iter(),
            is_all_read: false,
        }
    }

    /// The next entry; if the host must be asked, then for so many.
    fn peek(&mut self, wanted: usize) -> Option<&[u8]> {
        if self.read.as_slice().is_empty() && !self.is_all_read {
            let wanted = wanted.min(RANGE_ENTRIES_MAX);
            let (place, end) = (self.place, self.end);
            let part =
                place.collections.range(self.collection, place.key, Some(&self.from), end, wanted as u32);
            let count = part.count as usize;
            let entries = byte_strings::<Vec<u8>>(&part.entries, count);
            let values = byte_strings::<Vec<u8>>(&part.values, count);
            self.is_all_read = count < wanted;
            if let Some(last) = entries.last() {
                self.from = behind(last.clone());
            }
            self.read = entries.into_iter().zip(values).collect::<Vec<_>>().into_iter();
        }
        self.read.as_slice().first().map(|(entry, _)| entry.as_slice())
    }

    /// The entry that was seen, and its value.
    fn next(&mut self) -> Option<(Vec<u8>, Vec<u8>)> {
        self.read.next()
    }
}

fn encoded<E: Entry + ?Sized>(entry: &E) -> Vec<u8> {
    let mut bytes = Vec::new();
    entry.encode(&mut bytes);
    bytes
}

fn value<V: EntryValue>(bytes: &[u8]) -> V {
    V::decode(bytes).unwrap_or_else(|| not_a::<V>(bytes))
}

/// The host keeps what it was given, by a version of the operator that called its collection the same.
#[cold]
fn not_a<T>(bytes: &[u8]) -> T {
    panic!("the host has {bytes:02x?} in a collection of {}", std::any::type_name::<T>())
}

/// Entry bytes from which, and up to which, a range goes.
fn bounds<K: Entry>(range: &impl RangeBounds<K>) -> (Vec<u8>, Option<Vec<u8>>) {
    let first = match range.start_bound() {
        Bound::Included(first) => encoded(first),
        Bound::Excluded(before) => behind(encoded(before)),
        Bound::Unbounded => Vec::new(),
    };
    let end = match range.end_bound() {
        Bound::Included(last) => Some(behind(encoded(last))),
        Bound::Excluded(end) => Some(encoded(end)),
        Bound::Unbounded => None,
    };
    (first, end)
}

/// The very next byte string.
fn behind(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.push(0);
    bytes
}

fn byte_column<'b>(strings: impl IntoIterator<Item = &'b [u8]>) -> ColumnBuffer {
    let mut writer = <&[u8]>::writer(1);
    strings.into_iter().for_each(|bytes| <&[u8]>::push(&mut writer, bytes));
    <&[u8]>::finish(writer)
}

/// # Panics
/// When the column doesn't fit: the host is broken then, and so is all that an operator could do.
fn byte_strings<F: for<'a> FromColumn<'a>>(column: &ColumnBuffer, rows: usize) -> Vec<F> {
    column_values(&column.as_column(), rows).unwrap_or_else(|wrong| panic!("a column of the host {wrong}"))
}
