//! What the host keeps of keys, in memory: entries of collections, and values as bytes.

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::batch::{ColumnBuffer, DataType};
use crate::encoding::EntryValue;
use crate::entries::{Collections, FoundEntries};
use crate::value::{FieldType, FromColumn, Timestamp, column_values};

/// Of an entry: its collection, key and bytes.
type Address = (u8, usize, Vec<u8>);

/// The entries of all keys and collections.
#[derive(Debug, Default)]
pub(super) struct Memory {
    entries: RefCell<BTreeMap<Address, Vec<u8>>>,
    /// The keys of the call at hand.
    keys: RefCell<Vec<usize>>,
}

impl Memory {
    /// The calls from now on are about these keys.
    pub(super) fn begin(&self, keys: &[usize]) {
        self.keys.replace(keys.to_vec());
    }

    /// The entries of a key, ascending.
    pub(super) fn of(&self, collection: u8, key: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
        let entries = self.entries.borrow();
        let of_key = entries.range((collection, key, Vec::new())..(collection, key + 1, Vec::new()));
        of_key.map(|((_, _, entry), value)| (entry.clone(), value.clone())).collect()
    }

    fn keys_of(&self, numbers: &[u8]) -> Vec<usize> {
        let keys = self.keys.borrow();
        numbers.as_chunks::<4>().0.iter().map(|number| keys[u32::from_le_bytes(*number) as usize]).collect()
    }
}

impl Collections for Memory {
    fn read(&self, collection: u8, keys: &[u8], entries: ColumnBuffer) -> ColumnBuffer {
        let keys = self.keys_of(keys);
        let entries = strings::<Vec<u8>>(&entries, keys.len());
        let kept = self.entries.borrow();
        let values =
            keys.into_iter().zip(entries).map(|(key, entry)| kept.get(&(collection, key, entry)).cloned());
        column(values)
    }

    fn write(&self, collection: u8, keys: &[u8], entries: ColumnBuffer, values: ColumnBuffer) {
        let keys = self.keys_of(keys);
        let entries = strings::<Vec<u8>>(&entries, keys.len());
        let values = strings::<Option<Vec<u8>>>(&values, keys.len());
        let mut kept = self.entries.borrow_mut();
        for ((key, entry), value) in keys.into_iter().zip(entries).zip(values) {
            match value {
                Some(value) => drop(kept.insert((collection, key, entry), value)),
                None => drop(kept.remove(&(collection, key, entry))),
            }
        }
    }

    fn range(
        &self,
        collection: u8,
        key: u32,
        first: Option<&[u8]>,
        end: Option<&[u8]>,
        limit: u32,
    ) -> FoundEntries {
        let key = self.keys.borrow()[key as usize];
        let kept = self.entries.borrow();
        let from = (collection, key, first.unwrap_or_default().to_vec());
        let end = end.map_or((collection, key + 1, Vec::new()), |end| (collection, key, end.to_vec()));
        let limit = (limit as usize).min(4_096);
        let found = kept.range(from..end).take(limit);
        let (entries, values): (Vec<_>, Vec<_>) =
            found.map(|((_, _, entry), value)| (entry.clone(), value.clone())).unzip();
        FoundEntries { count: entries.len() as u32, entries: column(entries), values: column(values) }
    }
}

fn strings<F: for<'a> FromColumn<'a>>(strings: &ColumnBuffer, rows: usize) -> Vec<F> {
    column_values(&strings.as_column(), rows)
        .unwrap_or_else(|wrong| panic!("a column of the operator {wrong}"))
}

fn column<F: FieldType>(values: impl IntoIterator<Item = F>) -> ColumnBuffer {
    let mut writer = F::writer(0);
    values.into_iter().for_each(|value| F::push(&mut writer, value));
    F::finish(writer)
}

/// The values of a column as bytes.
pub(super) fn split(
    data_type: DataType,
    column: &ColumnBuffer,
    rows: usize,
) -> Result<Vec<Option<Vec<u8>>>, String> {
    fn values<T: EntryValue + for<'a> FromColumn<'a>>(
        column: &ColumnBuffer,
        rows: usize,
    ) -> Result<Vec<Option<Vec<u8>>>, String> {
        let bytes = |value: T| {
            let mut bytes = Vec::new();
            value.encode(&mut bytes);
            bytes
        };
        let values = column_values::<Option<T>>(&column.as_column(), rows)?;
        Ok(values.into_iter().map(|value| value.map(bytes)).collect())
    }
    match data_type {
        DataType::Boolean => values::<bool>(column, rows),
        DataType::Integer => values::<i64>(column, rows),
        DataType::Float => values::<f64>(column, rows),
        DataType::Text => values::<String>(column, rows),
        DataType::Bytes => values::<Vec<u8>>(column, rows),
        DataType::Timestamp => values::<Timestamp>(column, rows),
    }
}

/// A column of values as [`split`] gives them.
pub(super) fn join<'v>(data_type: DataType, values: impl Iterator<Item = Option<&'v [u8]>>) -> ColumnBuffer {
    fn typed<'v, T: EntryValue + FieldType>(values: impl Iterator<Item = Option<&'v [u8]>>) -> ColumnBuffer {
        column(values.map(|bytes| bytes.and_then(T::decode)))
    }
    match data_type {
        DataType::Boolean => typed::<bool>(values),
        DataType::Integer => typed::<i64>(values),
        DataType::Float => typed::<f64>(values),
        DataType::Text => typed::<String>(values),
        DataType::Bytes => typed::<Vec<u8>>(values),
        DataType::Timestamp => typed::<Timestamp>(values),
    }
}
