//! Keys: how a key is written as bytes, hashed, filed in a key group, and which task owns the group.
//!
//! All of this is fixed for good, because state is filed by it and other hosts must agree on it:
//!
//! * a key is written field by field: `00` for an absent value; else `01` and then one byte (boolean),
//!   eight bytes little-endian (integer, timestamp), or the length in four bytes little-endian and the
//!   bytes themselves (text, bytes);
//! * its hash is XXH3-64 with seed 0 of those bytes;
//! * its key group is the hash modulo 720;
//! * of `p` tasks, task `floor(group · p / 720)` owns a group.
//!
//! A float is no key: two spellings of zero and the many of not-a-number make equality a trap.

use arrow_array::builder::{
    BinaryBuilder, BooleanBuilder, Int64Builder, StringBuilder, TimestampMillisecondBuilder,
};
use arrow_array::cast::AsArray;
use arrow_array::types::{Int64Type, TimestampMillisecondType};
use arrow_array::{Array, ArrayRef};
use std::ops::Range;
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

use crate::schema::FieldType;

/// How many key groups there are. Highly composite, so that it divides evenly among most numbers of tasks.
pub const KEY_GROUPS: u32 = 720;

/// The key group of a key with this hash.
pub fn key_group(hash: u64) -> u32 {
    u32::try_from(hash % u64::from(KEY_GROUPS)).expect("less than 720")
}

/// The task, of `parallelism`, that owns a key group.
pub fn owner(group: u32, parallelism: u32) -> u32 {
    group * parallelism / KEY_GROUPS
}

/// The key groups that a task, of `parallelism`, owns.
pub fn owned(task: u32, parallelism: u32) -> Range<u32> {
    (task * KEY_GROUPS).div_ceil(parallelism)..((task + 1) * KEY_GROUPS).div_ceil(parallelism)
}

/// Whether a field of this type may be part of a key.
pub fn can_be_key(field_type: FieldType) -> bool {
    field_type != FieldType::Float
}

/// The keys of a batch's rows, in their written form, with their hashes.
#[derive(Debug, Default)]
pub struct Keys {
    bytes: Vec<u8>,
    ends: Vec<u32>,
    hashes: Vec<u64>,
}

impl Keys {
    /// Writes and hashes the keys of `rows` rows. With no column all rows have the same, empty key.
    ///
    /// # Panics
    /// When a column's type can't be part of a key, or a column is shorter than `rows`.
    pub fn of(columns: &[&ArrayRef], rows: usize) -> Self {
        let mut keys =
            Self { bytes: Vec::new(), ends: Vec::with_capacity(rows), hashes: Vec::with_capacity(rows) };
        let columns: Vec<KeyColumn<'_>> = columns.iter().map(|c| KeyColumn::of(c)).collect();
        keys.bytes.reserve(rows * columns.len() * 12);
        let mut start = 0;
        for row in 0..rows {
            for column in &columns {
                column.write(row, &mut keys.bytes);
            }
            keys.hashes.push(xxh3_64(&keys.bytes[start..]));
            start = keys.bytes.len();
            keys.ends.push(u32::try_from(start).expect("the keys of one batch fit 4 GiB"));
        }
        keys
    }

    /// Adds a row whose key stands in its written form.
    ///
    /// # Panics
    /// When the keys together don't fit 4 GiB.
    pub fn push(&mut self, key: &[u8]) {
        self.bytes.extend_from_slice(key);
        self.hashes.push(xxh3_64(key));
        self.ends.push(u32::try_from(self.bytes.len()).expect("the keys of one batch fit 4 GiB"));
    }

    /// The hashes, one for each row.
    pub fn hashes(&self) -> &[u64] {
        &self.hashes
    }

    /// The written form of a row's key.
    pub fn key(&self, row: usize) -> &[u8] {
        let start = if row == 0 { 0 } else { self.ends[row - 1] as usize };
        &self.bytes[start..self.ends[row] as usize]
    }
}

enum KeyColumn<'a> {
    Boolean(&'a arrow_array::BooleanArray),
    Fixed(&'a [i64], Option<&'a arrow_buffer::NullBuffer>),
    Text(&'a arrow_array::StringArray),
    Bytes(&'a arrow_array::BinaryArray),
}

impl<'a> KeyColumn<'a> {
    fn of(column: &'a ArrayRef) -> Self {
        use arrow_schema::DataType as D;
        match column.data_type() {
            D::Boolean => Self::Boolean(column.as_boolean()),
            D::Int64 => Self::Fixed(column.as_primitive::<Int64Type>().values(), column.nulls()),
            D::Timestamp(..) => {
                Self::Fixed(column.as_primitive::<TimestampMillisecondType>().values(), column.nulls())
            }
            D::Utf8 => Self::Text(column.as_string()),
            D::Binary => Self::Bytes(column.as_binary()),
            other => panic!("a key can't hold {other}: the plan lets no such field through"),
        }
    }

    #[inline]
    fn write(&self, row: usize, out: &mut Vec<u8>) {
        match self {
            Self::Boolean(a) if a.is_valid(row) => out.extend_from_slice(&[1, u8::from(a.value(row))]),
            Self::Fixed(values, nulls) if nulls.is_none_or(|n| n.is_valid(row)) => {
                let mut written = [1; 9];
                written[1..].copy_from_slice(&values[row].to_le_bytes());
                out.extend_from_slice(&written);
            }
            Self::Text(a) if a.is_valid(row) => write_bytes(a.value(row).as_bytes(), out),
            Self::Bytes(a) if a.is_valid(row) => write_bytes(a.value(row), out),
            _ => out.push(0),
        }
    }
}

fn write_bytes(value: &[u8], out: &mut Vec<u8>) {
    out.push(1);
    out.extend_from_slice(&u32::try_from(value.len()).expect("a value of a batch fits 4 GiB").to_le_bytes());
    out.extend_from_slice(value);
}

/// Reads written keys back into columns of these types.
///
/// # Panics
/// When a key wasn't written from columns of these types.
pub fn read_keys<'a>(keys: impl Iterator<Item = &'a [u8]>, types: &[FieldType]) -> Vec<ArrayRef> {
    let mut columns: Vec<KeyBuilder> = types.iter().map(|&t| KeyBuilder::of(t)).collect();
    for mut key in keys {
        for column in &mut columns {
            column.read(&mut key);
        }
        assert!(key.is_empty(), "{} bytes are left over of a key of {types:?}", key.len());
    }
    columns.into_iter().map(KeyBuilder::finish).collect()
}

enum KeyBuilder {
    Boolean(BooleanBuilder),
    Integer(Int64Builder),
    Timestamp(TimestampMillisecondBuilder),
    Text(StringBuilder),
    Bytes(BinaryBuilder),
}

impl KeyBuilder {
    fn of(field_type: FieldType) -> Self {
        match field_type {
            FieldType::Boolean => Self::Boolean(BooleanBuilder::new()),
            FieldType::Integer => Self::Integer(Int64Builder::new()),
            FieldType::Timestamp => {
                Self::Timestamp(TimestampMillisecondBuilder::new().with_data_type(field_type.arrow()))
            }
            FieldType::Text => Self::Text(StringBuilder::new()),
            FieldType::Bytes => Self::Bytes(BinaryBuilder::new()),
            FieldType::Float => panic!("a key can't hold a float: the plan lets no such field through"),
        }
    }

    fn read(&mut self, key: &mut &[u8]) {
        let present = split(key, 1)[0] == 1;
        match self {
            Self::Boolean(b) => b.append_option(present.then(|| split(key, 1)[0] == 1)),
            Self::Integer(b) => b.append_option(present.then(|| read_fixed(key))),
            Self::Timestamp(b) => b.append_option(present.then(|| read_fixed(key))),
            Self::Text(b) => {
                b.append_option(
                    present.then(|| std::str::from_utf8(read_bytes(key)).expect("written from text")),
                );
            }
            Self::Bytes(b) => b.append_option(present.then(|| read_bytes(key))),
        }
    }

    fn finish(self) -> ArrayRef {
        match self {
            Self::Boolean(mut b) => Arc::new(b.finish()),
            Self::Integer(mut b) => Arc::new(b.finish()),
            Self::Timestamp(mut b) => Arc::new(b.finish()),
            Self::Text(mut b) => Arc::new(b.finish()),
            Self::Bytes(mut b) => Arc::new(b.finish()),
        }
    }
}

fn split<'a>(key: &mut &'a [u8], length: usize) -> &'a [u8] {
    let (head, tail) = key.split_at_checked(length).expect("a key is as long as its fields");
    *key = tail;
    head
}

fn read_fixed(key: &mut &[u8]) -> i64 {
    i64::from_le_bytes(split(key, 8).try_into().expect("eight bytes"))
}

fn read_bytes<'a>(key: &mut &'a [u8]) -> &'a [u8] {
    let length = u32::from_le_bytes(split(key, 4).try_into().expect("four bytes"));
    split(key, length as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::{BinaryArray, BooleanArray, Int64Array, StringArray, TimestampMillisecondArray};

    fn columns() -> (Vec<ArrayRef>, Vec<FieldType>) {
        (
            vec![
                Arc::new(Int64Array::from(vec![Some(1), Some(-1), None])),
                Arc::new(StringArray::from(vec![Some("EWR"), Some(""), None])),
                Arc::new(BooleanArray::from(vec![Some(true), Some(false), None])),
                Arc::new(BinaryArray::from(vec![Some(&b"\xff"[..]), Some(&b""[..]), None])),
                Arc::new(
                    TimestampMillisecondArray::from(vec![Some(0), Some(i64::MAX), None])
                        .with_data_type(FieldType::Timestamp.arrow()),
                ),
            ],
            vec![
                FieldType::Integer,
                FieldType::Text,
                FieldType::Boolean,
                FieldType::Bytes,
                FieldType::Timestamp,
            ],
        )
    }

    #[test]
    fn keys_are_read_back_as_they_were_written() {
        let (columns, types) = columns();
        let keys = Keys::of(&columns.iter().collect::<Vec<_>>(), 3);
        let read = read_keys((0..3).map(|row| keys.key(row)), &types);
        assert_eq!(read, columns);
    }

    /// These numbers may never change: they say where state is filed.
    #[test]
    fn hashes_and_groups_are_golden() {
        let (columns, _) = columns();
        let keys = Keys::of(&[&columns[0]], 3);
        assert_eq!(keys.key(0), [1, 1, 0, 0, 0, 0, 0, 0, 0]);
        let text = Keys::of(&[&columns[1]], 3);
        assert_eq!(text.key(0), [1, 3, 0, 0, 0, b'E', b'W', b'R']);
        let empty = Keys::of(&[], 1);
        let golden: Vec<(u64, u32)> = keys
            .hashes()
            .iter()
            .chain(text.hashes())
            .chain(empty.hashes())
            .map(|&h| (h, key_group(h)))
            .collect();
        assert_eq!(golden, GOLDEN);
    }

    /// Made with Python's `xxhash`: `h = xxhash.xxh3_64_intdigest(key); (h, h % 720)`.
    const GOLDEN: [(u64, u32); 7] = [
        (11549681130057114999, 39),
        (6027492765397423756, 76),
        (14144645293874801883, 603),
        (11006650053927185270, 230),
        (15122404197219825512, 152),
        (14144645293874801883, 603),
        (3244421341483603138, 658),
    ];

    #[test]
    fn ranges_partition_the_groups_and_agree_with_the_owner() {
        for parallelism in 1..=KEY_GROUPS {
            let mut next = 0;
            for task in 0..parallelism {
                let range = owned(task, parallelism);
                assert_eq!(range.start, next);
                assert!(range.clone().all(|group| owner(group, parallelism) == task));
                next = range.end;
            }
            assert_eq!(next, KEY_GROUPS);
        }
    }
}
