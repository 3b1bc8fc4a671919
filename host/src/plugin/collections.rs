//! The interface `state`: a guest's way to the collections of the keys of the call at hand. Numbers, limits and
//! the form of every entry and value are checked here; what keeps them is the caller's, who lends it for a call.

use std::any::Any;
use std::sync::Arc;

use arrow_array::BinaryArray;
use tidemill_flow::schema::FieldType;

use super::bindings::process::tidemill::operator::state::{Found, Host};
use super::bindings::transform::tidemill::operator::types::ColumnResult;
use super::columns::{byte_strings, read_u32s};
use super::description::Collection;
use super::guest::Guest;

/// An entry is a part of the address at which its value is kept.
const ENTRY_BYTES_MAX: usize = 4_096;
/// Entries that one `range` gives at most; a guest asks again for more.
const RANGE_ENTRIES_MAX: usize = 4_096;
/// Entries and values that a guest may read in one call, in bytes. They go into its own memory, but not all at
/// once, so that limit doesn't bound them.
const READ_BYTES_MAX: usize = 256 << 20;
/// Entries and values that a guest may write in one call, in bytes: the host keeps them until the next checkpoint.
const WRITTEN_BYTES_MAX: usize = 64 << 20;

/// An entry of a collection and its value.
pub type Entry = (Vec<u8>, Vec<u8>);

/// What keeps the collections of the keys of a call. Keys are named by their number in the call, collections by
/// theirs in the description; both are in range.
pub trait Collections: Any + Send + Sync {
    /// The values of `entries`, where entry i is one of key `keys[i]`; none where there is no such entry.
    ///
    /// # Errors
    /// When they can't be read. The guest then fails with this reason.
    fn read(
        &mut self,
        collection: u8,
        keys: &[u32],
        entries: &BinaryArray,
    ) -> Result<Vec<Option<Vec<u8>>>, String>;

    /// Sets the values of `entries`, in order; a value that is absent removes its entry.
    ///
    /// # Errors
    /// When they can't be written. The guest then fails with this reason.
    fn write(
        &mut self,
        collection: u8,
        keys: &[u32],
        entries: &BinaryArray,
        values: &BinaryArray,
    ) -> Result<(), String>;

    /// The first `limit` entries of a key from `first` up to, and without, `end`, ascending by their bytes; fewer only
    /// if there are no more.
    ///
    /// # Errors
    /// When they can't be read. The guest then fails with this reason.
    fn range(
        &mut self,
        collection: u8,
        key: u32,
        first: Option<&[u8]>,
        end: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Entry>, String>;
}

/// For operators that describe no collections.
impl Collections for () {
    fn read(&mut self, _: u8, _: &[u32], _: &BinaryArray) -> Result<Vec<Option<Vec<u8>>>, String> {
        Err("there are no collections".into())
    }

    fn write(&mut self, _: u8, _: &[u32], _: &BinaryArray, _: &BinaryArray) -> Result<(), String> {
        Err("there are no collections".into())
    }

    fn range(
        &mut self,
        _: u8,
        _: u32,
        _: Option<&[u8]>,
        _: Option<&[u8]>,
        _: usize,
    ) -> Result<Vec<Entry>, String> {
        Err("there are no collections".into())
    }
}

/// What a guest may reach while a call is under way.
pub(super) struct LentCollections {
    kept: Box<dyn Collections>,
    described: Arc<[Collection]>,
    keys: u32,
    read_bytes: usize,
    written_bytes: usize,
}

impl LentCollections {
    pub(super) fn new(kept: impl Collections, described: Arc<[Collection]>, keys: u32) -> Self {
        Self { kept: Box::new(kept), described, keys, read_bytes: 0, written_bytes: 0 }
    }

    /// Gives back what was lent.
    ///
    /// # Panics
    /// When that was of another type.
    pub(super) fn into_kept<C: Collections>(self) -> C {
        let kept: Box<dyn Any> = self.kept;
        *kept.downcast::<C>().expect("what was lent is given back")
    }

    fn read(&mut self, collection: u8, keys: &[u8], entries: ColumnResult) -> Result<ColumnResult, String> {
        self.collection(collection)?;
        let keys = self.keys_of(keys)?;
        let entries = self.entries(collection, keys.len(), entries)?;
        let values = self.kept.read(collection, &keys, &entries)?;
        assert_eq!(values.len(), keys.len(), "values of the entries that were asked for");
        self.count_read(values.iter().flatten().map(Vec::len).sum())?;
        Ok(column(values.iter().map(Option::as_deref)))
    }

    fn write(
        &mut self,
        collection: u8,
        keys: &[u8],
        entries: ColumnResult,
        values: ColumnResult,
    ) -> Result<(), String> {
        let described = self.collection(collection)?.clone();
        let keys = self.keys_of(keys)?;
        self.written_bytes += entries.data.len() + values.data.len();
        if self.written_bytes > WRITTEN_BYTES_MAX {
            let limit = WRITTEN_BYTES_MAX >> 20;
            return Err(format!("it wrote more than {limit} MiB into collections in one call"));
        }
        let entries = self.entries(collection, keys.len(), entries)?;
        let values = byte_strings(keys.len(), true, values).map_err(|what| format!("values: {what}"))?;
        for value in values.iter().flatten() {
            check_value(&described, value)?;
        }
        let values = with_one_nan(&described, values);
        self.kept.write(collection, &keys, &entries, &values)
    }

    fn range(
        &mut self,
        collection: u8,
        key: u32,
        first: Option<&[u8]>,
        end: Option<&[u8]>,
        limit: u32,
    ) -> Result<Found, String> {
        self.collection(collection)?;
        if key >= self.keys {
            return Err(self.no_key(key));
        }
        let limit = RANGE_ENTRIES_MAX.min(limit as usize);
        let empty = limit == 0 || matches!((first, end), (Some(first), Some(end)) if first >= end);
        let found = if empty { Vec::new() } else { self.kept.range(collection, key, first, end, limit)? };
        assert!(found.len() <= limit, "{} entries, but {limit} were asked for", found.len());
        self.count_read(found.iter().map(|(entry, value)| entry.len() + value.len()).sum())?;
        Ok(Found {
            count: u32::try_from(found.len()).expect("as many as were asked for"),
            entries: column(found.iter().map(|(entry, _)| Some(entry.as_slice()))),
            values: column(found.iter().map(|(_, value)| Some(value.as_slice()))),
        })
    }

    fn collection(&self, number: u8) -> Result<&Collection, String> {
        let described = self.described.len();
        self.described
            .get(usize::from(number))
            .ok_or_else(|| format!("it asked for collection {number}, but it described {described}"))
    }

    fn keys_of(&self, bytes: &[u8]) -> Result<Vec<u32>, String> {
        let keys =
            read_u32s(bytes, u32::MAX, "keys of entries", "key").map_err(|failure| failure.to_string())?;
        match keys.iter().find(|key| **key >= self.keys) {
            Some(key) => Err(self.no_key(*key)),
            None => Ok(keys),
        }
    }

    #[cold]
    fn no_key(&self, key: u32) -> String {
        format!("it asked for entries of key {key}, but the call is about {} keys", self.keys)
    }

    fn entries(&self, collection: u8, rows: usize, entries: ColumnResult) -> Result<BinaryArray, String> {
        let entries = byte_strings(rows, false, entries).map_err(|what| format!("entries: {what}"))?;
        let described = self.collection(collection)?;
        entries.iter().flatten().try_for_each(|entry| check_entry(described, entry))?;
        Ok(entries)
    }

    fn count_read(&mut self, bytes: usize) -> Result<(), String> {
        self.read_bytes += bytes;
        if self.read_bytes <= READ_BYTES_MAX {
            return Ok(());
        }
        Err(format!("it read more than {} MiB from collections in one call", READ_BYTES_MAX >> 20))
    }
}

fn check_entry(collection: &Collection, entry: &[u8]) -> Result<(), String> {
    let fits = match collection.entry {
        FieldType::Boolean => matches!(entry, [0 | 1]),
        FieldType::Integer | FieldType::Timestamp | FieldType::Float => entry.len() == 8,
        FieldType::Text => std::str::from_utf8(entry).is_ok(),
        FieldType::Bytes => true,
    };
    let (name, entry_type) = (&collection.name, collection.entry);
    if !fits {
        return Err(format!("an entry of the collection `{name}` isn't {entry_type}: {entry:02x?}"));
    }
    if entry.len() > ENTRY_BYTES_MAX {
        let bytes = entry.len();
        return Err(format!(
            "an entry of the collection `{name}` has {bytes} bytes; {ENTRY_BYTES_MAX} are the most"
        ));
    }
    Ok(())
}

fn check_value(collection: &Collection, value: &[u8]) -> Result<(), String> {
    let fits = match collection.value {
        FieldType::Boolean => matches!(value, [0 | 1]),
        FieldType::Integer | FieldType::Float | FieldType::Timestamp => value.len() == 8,
        FieldType::Text => std::str::from_utf8(value).is_ok(),
        FieldType::Bytes => true,
    };
    match fits {
        true => Ok(()),
        false => Err(format!("a value of the collection `{}` isn't {}", collection.name, collection.value)),
    }
}

/// As in columns, every not-a-number is kept with the same bits.
fn with_one_nan(collection: &Collection, values: BinaryArray) -> BinaryArray {
    let is_nan = |value: &[u8]| value.try_into().is_ok_and(|word| f64::from_le_bytes(word).is_nan());
    if collection.value != FieldType::Float || !values.iter().flatten().any(is_nan) {
        return values;
    }
    let nan = f64::NAN.to_le_bytes();
    let one =
        |value: Option<&[u8]>| value.map(|value| if is_nan(value) { nan.to_vec() } else { value.to_vec() });
    values.iter().map(one).collect()
}

/// Byte strings as the contract writes them.
fn column<'v>(values: impl Iterator<Item = Option<&'v [u8]>> + Clone) -> ColumnResult {
    let rows = values.clone().count();
    let mut validity = vec![0; rows.div_ceil(8)];
    let (mut offsets, mut data) = (Vec::with_capacity((rows + 1) * 4), Vec::new());
    offsets.extend_from_slice(&[0; 4]);
    let mut absent = false;
    for (row, value) in values.enumerate() {
        match value {
            Some(value) => {
                validity[row / 8] |= 1 << (row % 8);
                data.extend_from_slice(value);
            }
            None => absent = true,
        }
        // What was read in one call is far less than 4 GiB.
        let end = u32::try_from(data.len()).expect("checked against the limit");
        offsets.extend_from_slice(&end.to_le_bytes());
    }
    ColumnResult { validity: absent.then_some(validity), offsets: Some(offsets), data }
}

impl Guest {
    fn lent(&mut self) -> wasmtime::Result<&mut LentCollections> {
        let lent = self.lent.as_mut();
        lent.ok_or_else(|| wasmtime::format_err!("it asked for a collection in a call that is about no keys"))
    }
}

fn trap<T>(result: Result<T, String>) -> wasmtime::Result<T> {
    result.map_err(|what| wasmtime::format_err!("{what}"))
}

impl Host for Guest {
    fn read(
        &mut self,
        collection: u8,
        keys: Vec<u8>,
        entries: ColumnResult,
    ) -> wasmtime::Result<ColumnResult> {
        trap(self.lent()?.read(collection, &keys, entries))
    }

    fn write(
        &mut self,
        collection: u8,
        keys: Vec<u8>,
        entries: ColumnResult,
        values: ColumnResult,
    ) -> wasmtime::Result<()> {
        trap(self.lent()?.write(collection, &keys, entries, values))
    }

    fn range(
        &mut self,
        collection: u8,
        key: u32,
        first: Option<Vec<u8>>,
        end: Option<Vec<u8>>,
        limit: u32,
    ) -> wasmtime::Result<Found> {
        trap(self.lent()?.range(collection, key, first.as_deref(), end.as_deref(), limit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One key that has the entries 1 and 2 in its only collection.
    struct Two;

    impl Collections for Two {
        fn read(&mut self, _: u8, keys: &[u32], _: &BinaryArray) -> Result<Vec<Option<Vec<u8>>>, String> {
            Ok(vec![Some(vec![7]); keys.len()])
        }

        fn write(&mut self, _: u8, _: &[u32], _: &BinaryArray, values: &BinaryArray) -> Result<(), String> {
            Err(format!("{values:?}"))
        }

        fn range(
            &mut self,
            _: u8,
            _: u32,
            _: Option<&[u8]>,
            _: Option<&[u8]>,
            limit: usize,
        ) -> Result<Vec<Entry>, String> {
            Ok([1, 2].into_iter().take(limit).map(|entry| (ordered(entry), vec![0; 8])).collect())
        }
    }

    fn ordered(entry: u64) -> Vec<u8> {
        (entry | 1 << 63).to_be_bytes().to_vec()
    }

    fn lent(value: FieldType) -> LentCollections {
        let described = Collection { name: "c".into(), entry: FieldType::Integer, value };
        LentCollections::new(Two, vec![described].into(), 2)
    }

    fn one(bytes: &[u8]) -> ColumnResult {
        column([Some(bytes)].into_iter())
    }

    #[test]
    fn what_is_not_there_is_refused() {
        let key = |key: u32| key.to_le_bytes();
        let mut lent = lent(FieldType::Integer);
        let mut read = |collection, keys: &[u8], entry: &[u8]| {
            lent.read(collection, keys, one(entry)).err().unwrap_or_default()
        };
        assert_eq!(read(0, &key(1), &ordered(1)), "");
        assert_eq!(read(1, &key(1), &ordered(1)), "it asked for collection 1, but it described 1");
        assert_eq!(
            read(0, &key(2), &ordered(1)),
            "it asked for entries of key 2, but the call is about 2 keys"
        );
        assert!(read(0, &[0; 3], &ordered(1)).contains("keys of entries of 3 bytes"));
        assert!(read(0, &[0; 8], &ordered(1)).starts_with("entries: 8 bytes of offsets for 2 rows"));
        assert_eq!(read(0, &key(0), &[1]), "an entry of the collection `c` isn't integer: [01]");
    }

    #[test]
    fn a_value_has_the_described_type_and_one_not_a_number() {
        let write = |value_type, value: &[u8]| {
            lent(value_type).write(0, &[0; 4], one(&ordered(1)), one(value)).unwrap_err()
        };
        assert_eq!(write(FieldType::Integer, &[1]), "a value of the collection `c` isn't integer");
        assert_eq!(write(FieldType::Text, &[0xff]), "a value of the collection `c` isn't text");
        assert_eq!(write(FieldType::Boolean, &[2]), "a value of the collection `c` isn't boolean");
        let other = f64::from_bits(f64::NAN.to_bits() | 1 | 1 << 63);
        let (one_nan, other) = (f64::NAN.to_le_bytes(), other.to_le_bytes());
        assert_ne!(one_nan, other);
        assert_eq!(write(FieldType::Float, &other), write(FieldType::Float, &one_nan));
    }

    #[test]
    fn a_range_is_asked_for_only_where_something_can_be() {
        let mut lent = lent(FieldType::Integer);
        let (one, two) = (ordered(1), ordered(2));
        let mut count = |first: Option<&[u8]>, end: Option<&[u8]>, limit| {
            lent.range(0, 0, first, end, limit).unwrap().count
        };
        assert_eq!(count(None, None, u32::MAX), 2);
        assert_eq!(count(Some(&one), Some(&two), 1), 1);
        assert_eq!(count(None, None, 0), 0);
        assert_eq!(count(Some(&two), Some(&one), 9), 0);
        assert!(lent.range(0, 2, None, None, 1).is_err_and(|e| e.contains("key 2")));
    }
}
