//! Taking over state that can't be read field by field: each stored row of an earlier schema becomes one of the present
//! schema, once, before the operator sees any.
//!
//! # How it is used
//!
//! [`next`](Migration::next) has rows of one earlier schema; the operator makes its own of them; what
//! [`writes`](Migration::writes) says is written. Again, until there are none. Rows of other versions stay as they are.
//! Nothing but rows of tables is looked at: neither timers nor entries of collections.
//!
//! # What an operator doesn't see
//!
//! A row may have columns of the host's behind the operator's own, such as when a key was last used. They are found again
//! by their names, and absent where the earlier row lacks them.

use std::ops::Range;

use arrow_array::{Array, ArrayRef, new_null_array};

use crate::batch::BATCH_ROWS_MAX;
use crate::key::KEY_GROUPS;
use crate::rows::{Codec, version_of};
use crate::schema::{Field, Schema};
use crate::storage::{Addresses, Storage, StorageError, Stored, Write, Writes};
use crate::table::damaged;

/// Rows that are handed over at once.
const ROWS_MAX: usize = if cfg!(test) { 5 } else { BATCH_ROWS_MAX };
/// And about how many bytes of them: a call across the border may copy several times as much.
const BYTES_MAX: usize = if cfg!(test) { 150 } else { 16 << 20 };
/// Rows that are asked of the storage at a time.
const SCAN_ROWS: usize = if cfg!(test) { 3 } else { 1024 };

/// How rows are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Form {
    /// The number under which.
    pub version: u8,
    /// All fields.
    pub schema: Schema,
    /// How many of them, the first ones, are the operator's own; the others are the host's.
    pub own: usize,
}

/// The rows of some key groups of an operator, on their way from earlier forms to the present one.
#[derive(Debug)]
pub struct Migration {
    addresses: Addresses,
    groups: Range<u32>,
    codec: Codec,
    own: usize,
    /// Whether a row without a value of the operator's own isn't kept.
    drops_empty: bool,
    earlier: Vec<Earlier>,
    /// Where the rows begin that weren't looked at; none: all were.
    from: Option<Vec<u8>>,
}

/// An earlier form, and what was found of it and not yet handed over.
#[derive(Debug)]
struct Earlier {
    codec: Codec,
    version: u8,
    own: usize,
    /// For each of the host's columns of the present form where it stands in this one.
    carried: Vec<Result<usize, Field>>,
    waiting: Vec<Stored>,
    waiting_bytes: usize,
}

/// Rows of one earlier form.
#[derive(Clone, Debug)]
pub struct Found {
    /// The place of the form among the earlier ones.
    pub which: usize,
    /// The operator's own columns.
    pub columns: Vec<ArrayRef>,
    addresses: Vec<Vec<u8>>,
    /// The host's columns, as the present form has them.
    carried: Vec<ArrayRef>,
}

impl Found {
    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.addresses.len()
    }

    /// Where a row stands in the storage.
    ///
    /// # Panics
    /// When there is no such row.
    pub fn address(&self, row: usize) -> &[u8] {
        &self.addresses[row]
    }
}

impl Migration {
    /// Of the rows in these key groups those that are of `earlier` forms, which have different versions. With
    /// `drops_empty` a row that has no value in any of its own columns afterwards is removed.
    ///
    /// # Panics
    /// When two forms have the same version, or a form more columns of its own than columns.
    pub fn new(
        addresses: Addresses,
        groups: Range<u32>,
        present: &Form,
        earlier: &[Form],
        drops_empty: bool,
    ) -> Self {
        for (at, form) in earlier.iter().enumerate() {
            let others = || earlier[..at].iter().chain([present]);
            assert!(others().all(|f| f.version != form.version), "two forms of the version {}", form.version);
        }
        Self {
            from: Some(addresses.rows_of_group(i64::MIN, groups.start)),
            addresses,
            groups,
            codec: Codec::of_stored(present.version, &present.schema),
            own: present.own,
            drops_empty,
            earlier: earlier.iter().map(|form| Earlier::new(form, present)).collect(),
        }
    }

    /// The next rows: at most 4,096, of one form. `None`: there are no more.
    ///
    /// # Errors
    /// When the storage can't be read, or what stands there is no row.
    pub fn next(&mut self, storage: &dyn Storage) -> Result<Option<Found>, StorageError> {
        loop {
            if let Some(which) = self.earlier.iter().position(Earlier::is_full) {
                return self.earlier[which].take(which).map(Some);
            }
            let found = self.scan(storage)?;
            if found.is_empty() {
                break;
            }
            for (address, row) in found {
                let version = version_of(&row);
                if let Some(earlier) = self.earlier.iter_mut().find(|e| Some(e.version) == version) {
                    earlier.waiting_bytes += address.len() + row.len();
                    earlier.waiting.push((address, row));
                }
            }
        }
        match self.earlier.iter().position(|e| !e.waiting.is_empty()) {
            Some(which) => self.earlier[which].take(which).map(Some),
            None => Ok(None),
        }
    }

    /// What has to be written now that these rows have become those: the operator's own columns, row for row.
    ///
    /// # Panics
    /// When there aren't as many columns as the present form has of its own, or not as many rows as were found.
    pub fn writes(&self, found: Found, migrated: &[ArrayRef]) -> Writes {
        assert_eq!(migrated.len(), self.own, "columns of the operator's own");
        for column in migrated {
            assert_eq!(column.len(), found.rows(), "as many rows as were found");
        }
        let is_kept = |row: usize| !self.drops_empty || migrated.iter().any(|column| column.is_valid(row));
        let columns: Vec<ArrayRef> = migrated.iter().chain(&found.carried).cloned().collect();
        let mut writes = Writes::default();
        for (row, address) in found.addresses.into_iter().enumerate() {
            writes.list.push(match is_kept(row) {
                true => Write::Put(address, self.codec.encode(&columns, row)),
                false => Write::Delete(address),
            });
        }
        writes
    }

    /// The next rows as they are stored; none: all were looked at. Rows stand by slice before key group, so those of
    /// some key groups are gone through slice by slice.
    fn scan(&mut self, storage: &dyn Storage) -> Result<Vec<Stored>, StorageError> {
        let end = self.addresses.rows_of_group(i64::MAX, KEY_GROUPS);
        while let Some(from) = self.from.take() {
            let Some((first, _)) = storage.scan(&from, &end, 1)?.pop() else { break };
            let (slice, group, _) = self.addresses.read_row(&first)?;
            if group < self.groups.start {
                self.from = Some(self.addresses.rows_of_group(slice, self.groups.start));
            } else if group >= self.groups.end {
                let next = slice.checked_add(1);
                self.from = next.map(|next| self.addresses.rows_of_group(next, self.groups.start));
            } else {
                let end = self.addresses.rows_of_group(slice, self.groups.end);
                let found = storage.scan(&first, &end, SCAN_ROWS)?;
                self.from = found.last().map(|(last, _)| [last.as_slice(), &[0]].concat());
                return Ok(found);
            }
        }
        Ok(Vec::new())
    }
}

impl Earlier {
    fn new(form: &Form, present: &Form) -> Self {
        let carried = present.schema.fields()[present.own..].iter().map(|field| {
            let of_host = form.schema.fields().iter().enumerate().skip(form.own);
            let same = of_host.filter(|(_, f)| (&f.name, f.field_type) == (&field.name, field.field_type));
            same.map(|(at, _)| at).next().ok_or_else(|| field.clone())
        });
        Self {
            codec: Codec::of_stored(form.version, &form.schema),
            version: form.version,
            own: form.own,
            carried: carried.collect(),
            waiting: Vec::new(),
            waiting_bytes: 0,
        }
    }

    fn is_full(&self) -> bool {
        self.waiting.len() >= ROWS_MAX || self.waiting_bytes >= BYTES_MAX
    }

    fn take(&mut self, which: usize) -> Result<Found, StorageError> {
        let rest = self.waiting.split_off(self.waiting.len().min(ROWS_MAX));
        let stored = std::mem::replace(&mut self.waiting, rest);
        self.waiting_bytes = self.waiting.iter().map(|(address, row)| address.len() + row.len()).sum();
        let rows: Vec<&[u8]> = stored.iter().map(|(_, row)| row.as_slice()).collect();
        let mut columns = self.codec.decode(&rows).map_err(|error| {
            // Of all rows together the reader doesn't say which one it was.
            let bad = stored.iter().find(|(_, row)| self.codec.decode(&[row]).is_err());
            damaged(bad.map_or(&[], |(address, _)| address.as_slice()), &error)
        })?;
        let carried = self.carried.iter().map(|from| match from {
            Ok(at) => columns[*at].clone(),
            Err(field) => new_null_array(&field.field_type.arrow(), stored.len()),
        });
        let carried = carried.collect();
        columns.truncate(self.own);
        let addresses = stored.into_iter().map(|(address, _)| address).collect();
        Ok(Found { which, columns, addresses, carried })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use arrow_array::cast::AsArray;
    use arrow_array::types::{Float64Type, Int64Type};
    use arrow_array::{Float64Array, Int64Array, StringArray};
    use proptest::prelude::*;
    use xxhash_rust::xxh3::xxh3_64;

    use crate::key::owned;
    use crate::schema::FieldType;
    use crate::storage::InMemory;

    const OF: Addresses = Addresses { operator: 3 };

    fn form(version: u8, fields: &[Field], own: usize) -> Form {
        Form { version, schema: Schema::new(fields.to_vec()).unwrap(), own }
    }

    /// Two states that sums and counts were kept in; what was made of them; and one that is read as it is.
    fn forms() -> ([Form; 2], Form, Form) {
        let used = Field::nullable("@used", FieldType::Integer);
        let sums = form(0, &[Field::new("sum", FieldType::Integer), used.clone()], 1);
        let texts = form(1, &[Field::nullable("t", FieldType::Text)], 1);
        let means = form(3, &[Field::nullable("mean", FieldType::Float), used.clone()], 1);
        let readable = form(2, &[Field::nullable("mean", FieldType::Float)], 1);
        ([sums, texts], means, readable)
    }

    /// A row: its slice and key, which form it is of, and its number.
    type Row = (i64, u16, u8, i64);

    fn written((_, _, of, number): Row) -> Vec<u8> {
        let ([sums, texts], means, readable) = forms();
        let used = || Arc::new(Int64Array::from(vec![number + 1])) as ArrayRef;
        let float = || Arc::new(Float64Array::from(vec![number as f64])) as ArrayRef;
        let encode = |form: &Form, columns: &[ArrayRef]| {
            Codec::of_stored(form.version, &form.schema).encode(columns, 0)
        };
        match of {
            0 => encode(&sums, &[Arc::new(Int64Array::from(vec![number])), used()]),
            1 => encode(&texts, &[Arc::new(StringArray::from(vec![number.to_string()]))]),
            2 => encode(&readable, &[float()]),
            _ => encode(&means, &[float(), used()]),
        }
    }

    fn address((slice, key, ..): Row) -> Vec<u8> {
        let key = key.to_le_bytes();
        OF.row(slice, xxh3_64(&key), &key)
    }

    /// What an operator would do: halves of numbers; of those below zero nothing is left.
    fn migrated(found: &Found) -> ArrayRef {
        let halves = |numbers: Vec<i64>| -> ArrayRef {
            Arc::new(
                numbers.into_iter().map(|n| (n >= 0).then_some(n as f64 / 2.0)).collect::<Float64Array>(),
            )
        };
        match found.which {
            0 => halves(found.columns[0].as_primitive::<Int64Type>().values().to_vec()),
            _ => halves(
                found.columns[0].as_string::<i32>().iter().map(|t| t.unwrap().parse().unwrap()).collect(),
            ),
        }
    }

    proptest! {
        #[test]
        fn each_row_of_an_earlier_form_is_migrated_once(
            rows in prop::collection::vec((-3i64..4, 0u16..60, 0u8..4, -20i64..1000), 0..80),
            tasks in 1u32..5,
            drops_empty in any::<bool>(),
        ) {
            let storage = InMemory::default();
            let rows: BTreeMap<Vec<u8>, Row> = rows.into_iter().map(|row| (address(row), row)).collect();
            let put = |(address, row): (&Vec<u8>, &Row)| Write::Put(address.clone(), written(*row));
            let mut list: Vec<Write> = rows.iter().map(put).collect();
            // What isn't a row, and what is another operator's.
            list.push(Write::Put(OF.timer(0, 1, b"k", b"n"), vec![0; 8]));
            list.push(Write::Put(OF.entry(0, 1, b"k", b"e"), vec![0, 0]));
            list.push(Write::Put(Addresses { operator: 4 }.row(0, 1, b"k"), vec![0, 0]));
            storage.write(Writes { list }).unwrap();
            let others = storage.scan(&OF.entries_of_group(0, 0), &[255; 3], 99).unwrap();
            let (earlier, present, readable) = forms();
            let mut handed_over = BTreeMap::<Vec<u8>, usize>::new();
            for task in 0..tasks {
                let groups = owned(task, tasks);
                let mut migration = Migration::new(OF, groups.clone(), &present, &earlier, drops_empty);
                while let Some(found) = migration.next(&storage).unwrap() {
                    prop_assert!((1..=ROWS_MAX).contains(&found.rows()));
                    for row in 0..found.rows() {
                        let (_, group, _) = OF.read_row(found.address(row)).unwrap();
                        prop_assert!(groups.contains(&group));
                        *handed_over.entry(found.address(row).to_vec()).or_default() += 1;
                    }
                    let migrated = migrated(&found);
                    storage.write(migration.writes(found, &[migrated])).unwrap();
                }
            }
            let expected: BTreeMap<Vec<u8>, usize> =
                rows.iter().filter(|(_, row)| row.2 < 2).map(|(address, _)| (address.clone(), 1)).collect();
            prop_assert_eq!(handed_over, expected);
            let codec = Codec::new(3, &present.schema, &[(2, readable.schema)], None).unwrap();
            for (address, row) in rows {
                let (_, _, of, number) = row;
                let stored = storage.read(&[address]).unwrap().remove(0);
                if of >= 2 {
                    prop_assert_eq!(stored, Some(written(row)));
                    continue;
                }
                let Some(stored) = stored else {
                    prop_assert!(drops_empty && number < 0);
                    continue;
                };
                let columns = codec.decode(&[&stored]).unwrap();
                let mean = columns[0].as_primitive::<Float64Type>().iter().next().unwrap();
                prop_assert_eq!(mean, (number >= 0).then_some(number as f64 / 2.0));
                prop_assert!(mean.is_some() || !drops_empty);
                let used = columns[1].as_primitive::<Int64Type>().iter().next().unwrap();
                prop_assert_eq!(used, (of == 0).then_some(number + 1));
            }
            prop_assert_eq!(storage.scan(&OF.entries_of_group(0, 0), &[255; 3], 99).unwrap(), others);
        }
    }

    #[test]
    fn a_damaged_row_is_named() {
        let storage = InMemory::default();
        let row = (7, 1, 0, 5);
        let put = |address: Vec<u8>, value: Vec<u8>| Write::Put(address, value);
        let bad = address((7, 2, 0, 0));
        let list = vec![put(address(row), written(row)), put(bad.clone(), vec![0, 1, 9])];
        storage.write(Writes { list }).unwrap();
        let (earlier, present, _) = forms();
        let mut migration = Migration::new(OF, 0..KEY_GROUPS, &present, &earlier, false);
        let error = migration.next(&storage).unwrap_err().to_string();
        assert!(error.contains(&format!("{bad:02x?}")) && error.contains("it ends within"), "{error}");
    }
}
