//! A *pane* is a window of a key: how it is named, and how what is kept of it lies in a row.
//!
//! The row's key is the key's written form and the window's start in 8 bytes, big-endian, its sign bit flipped; it is
//! filed in the key group of the key. Beside the accumulator a row has what is to be known of its firings. When the
//! window ends is told by its timer, which every pane has: `o` and the start while the end hasn't come, `c` and the
//! start when only the clean-up is left. `e` and the start is the timer of an early firing.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, ArrayRef, Int64Array};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::key::KEY_GROUPS;
use crate::rows::Codec;
use crate::schema::{Field, FieldType, Schema};

/// The bytes of a start behind a key.
pub(super) const START_BYTES: usize = 8;

/// The key of a pane's row.
pub(super) fn row_key<'a>(key: &[u8], start: i64, buffer: &'a mut Vec<u8>) -> &'a [u8] {
    buffer.clear();
    buffer.extend_from_slice(key);
    buffer.extend_from_slice(&sorting(start).to_be_bytes());
    buffer
}

/// The key and the start of a pane's row, if these bytes are the key of one.
pub fn read_row_key(row_key: &[u8]) -> Option<(&[u8], i64)> {
    let (key, start) = row_key.split_last_chunk::<START_BYTES>()?;
    Some((key, (u64::from_be_bytes(*start) ^ (1 << 63)).cast_signed()))
}

/// A hash for a pane's row: of the key's group, but another one for each window of the key.
pub(super) fn row_hash(key_hash: u64, start: i64) -> u64 {
    let groups = u64::from(KEY_GROUPS);
    let mixed = xxh3_64_with_seed(&start.to_le_bytes(), key_hash) % (u64::MAX - groups);
    mixed - mixed % groups + key_hash % groups
}

fn sorting(start: i64) -> u64 {
    start.cast_unsigned() ^ (1 << 63)
}

/// What a pane's timer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The window is complete.
    Complete,
    /// The window takes no more rows.
    CleanUp,
    /// It is time for an early firing.
    Early,
}

/// The name of a pane's timer: 17 bytes.
pub(super) fn timer_name(purpose: Purpose, start: i64) -> String {
    let letter = match purpose {
        Purpose::Complete => 'o',
        Purpose::CleanUp => 'c',
        Purpose::Early => 'e',
    };
    format!("{letter}{:016x}", sorting(start))
}

/// What a timer's name says, if it is a pane's.
pub(super) fn read_timer_name(name: &str) -> Option<(Purpose, i64)> {
    let purpose = match name.as_bytes().first()? {
        b'o' => Purpose::Complete,
        b'c' => Purpose::CleanUp,
        b'e' => Purpose::Early,
        _ => return None,
    };
    let start = u64::from_str_radix(name.get(1..)?, 16).ok()?;
    Some((purpose, (start ^ (1 << 63)).cast_signed()))
}

/// What a pane's timer is for, as people are told, and the start of its window; if this is the name of one.
pub fn told_timer(name: &str) -> Option<(&'static str, i64)> {
    let (purpose, start) = read_timer_name(name)?;
    let told = match purpose {
        Purpose::Complete => "window complete",
        Purpose::CleanUp => "window done with",
        Purpose::Early => "early firing",
    };
    Some((told, start))
}

/// Firings so far; rows that no firing had; the largest number given to a row.
const FIRINGS: &str = "@firings";
const NEW: &str = "@new rows";
const NUMBERED: &str = "@rows";
/// The least and the greatest event time of a count window's rows.
const FIRST: &str = "@first";
const LAST: &str = "@last";

/// What is known of a pane beside its accumulator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Notes {
    pub(super) firings: i64,
    pub(super) new: i64,
    /// Rows that were kept, ever.
    pub(super) numbered: i64,
    pub(super) first: i64,
    pub(super) last: i64,
}

impl Notes {
    pub(super) const NONE: Self = Self { firings: 0, new: 0, numbered: 0, first: i64::MAX, last: i64::MIN };

    /// Those of two panes that have become one.
    pub(super) fn and(&self, other: &Self) -> Self {
        Self {
            firings: self.firings.saturating_add(other.firings),
            new: self.new.saturating_add(other.new),
            numbered: self.numbered.saturating_add(other.numbered),
            first: self.first.min(other.first),
            last: self.last.max(other.last),
        }
    }
}

/// How a pane lies in a row: the accumulator's columns, then the notes.
#[derive(Clone, Debug)]
pub struct Layout {
    codec: Arc<Codec>,
    own: usize,
    keeps_rows: bool,
}

impl Layout {
    /// For accumulators of the schema `state`, which are `initial` at first. Rows are written under the number
    /// `version`; `older` are numbers and [`schema`](Self::schema)s of rows that a storage may still have.
    ///
    /// # Errors
    /// When a field's name begins with `@`, or rows of an older schema can't be read under this one; the message is
    /// for the author of the operator.
    pub fn of_accumulators(
        version: u8,
        state: &Schema,
        older: &[(u8, Schema)],
        initial: &[ArrayRef],
    ) -> Result<Self, String> {
        let schema = Self::schema_of_accumulators(state)?;
        let initial = initial.iter().cloned().chain(notes_columns(&[Notes::NONE])).collect();
        Self::new(version, schema, older, Some(initial), state.len())
    }

    /// For rows of these fields, in windows that keep rows. They are written under the number `version`; `older` are
    /// numbers and [`schema`](Self::schema)s of rows that a storage may still have.
    ///
    /// # Errors
    /// When a field's name begins with `@`, or rows of an older schema can't be read under this one.
    pub fn of_rows(version: u8, fields: &Schema, older: &[(u8, Schema)]) -> Result<Self, String> {
        Self::new(version, Self::schema_of_rows(fields)?, older, None, fields.len())
    }

    fn new(
        version: u8,
        schema: Schema,
        older: &[(u8, Schema)],
        initial: Option<Vec<ArrayRef>>,
        own: usize,
    ) -> Result<Self, String> {
        let keeps_rows = initial.is_none();
        Ok(Self { codec: Arc::new(Codec::new(version, &schema, older, initial)?), own, keeps_rows })
    }

    /// The fields of what is kept where rows of these fields are: rows and panes are written alike, and what the one
    /// has is absent in the other.
    ///
    /// # Errors
    /// When a field's name begins with `@`.
    pub fn schema_of_rows(fields: &Schema) -> Result<Schema, String> {
        with_notes(fields.fields().iter().map(|f| Field { nullable: true, ..f.clone() }).collect())
    }

    /// Whether rows are kept, instead of accumulators.
    pub fn keeps_rows(&self) -> bool {
        self.keeps_rows
    }

    /// The fields of a pane's row whose accumulators are of this schema.
    ///
    /// # Errors
    /// When a field's name begins with `@`.
    pub fn schema_of_accumulators(state: &Schema) -> Result<Schema, String> {
        with_notes(state.fields().to_vec())
    }

    /// The schema that rows are written under, to be kept with the checkpoints that have such rows.
    pub fn schema(&self) -> &Schema {
        self.codec.schema()
    }

    pub(super) fn codec(&self) -> &Arc<Codec> {
        &self.codec
    }

    /// The number of the accumulator's columns.
    pub(super) fn own(&self) -> usize {
        self.own
    }

    /// The accumulator of a pane without rows, `count` times.
    pub(super) fn initial(&self, count: usize) -> Vec<ArrayRef> {
        let first = arrow_array::UInt32Array::from(vec![0; count]);
        self.codec.initial()[..self.own].iter().map(|column| crate::batch::take(column, &first)).collect()
    }
}

/// Whether these are the fields of a pane's row.
pub fn is_pane(schema: &Schema) -> bool {
    schema.field(FIRINGS).is_some()
}

fn with_notes(mut fields: Vec<Field>) -> Result<Schema, String> {
    if let Some(field) = fields.iter().find(|f| f.name.starts_with('@')) {
        return Err(format!("the state's field {} can't have a name that begins with @", field.name));
    }
    fields
        .extend([FIRINGS, NEW, NUMBERED, FIRST, LAST].map(|name| Field::nullable(name, FieldType::Integer)));
    Schema::new(fields).map_err(|name| format!("two fields of the state are named {name}"))
}

/// Notes as the last columns of rows.
pub(super) fn notes_columns(notes: &[Notes]) -> Vec<ArrayRef> {
    let column = |value: fn(&Notes) -> Option<i64>| -> ArrayRef {
        Arc::new(notes.iter().map(value).collect::<Int64Array>())
    };
    vec![
        column(|n| Some(n.firings)),
        column(|n| Some(n.new)),
        column(|n| Some(n.numbered)),
        column(|n| (n.first <= n.last).then_some(n.first)),
        column(|n| (n.first <= n.last).then_some(n.last)),
    ]
}

/// The notes in the last columns of rows.
pub(super) fn read_notes(columns: &[ArrayRef], rows: usize) -> Vec<Notes> {
    let values: Vec<&Int64Array> = columns.iter().map(|c| c.as_primitive::<Int64Type>()).collect();
    let value = |column: usize, row: usize, absent: i64| {
        if values[column].is_valid(row) { values[column].value(row) } else { absent }
    };
    let of = |row| Notes {
        firings: value(0, row, 0),
        new: value(1, row, 0),
        numbered: value(2, row, 0),
        first: value(3, row, i64::MAX),
        last: value(4, row, i64::MIN),
    };
    (0..rows).map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::key_group;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_pane_is_told_by_its_row_and_its_timers(key in prop::collection::vec(any::<u8>(), 0..9), start in any::<i64>()) {
            let mut buffer = Vec::new();
            prop_assert_eq!(read_row_key(row_key(&key, start, &mut buffer)), Some((&*key, start)));
            for purpose in [Purpose::Complete, Purpose::CleanUp, Purpose::Early] {
                prop_assert_eq!(read_timer_name(&timer_name(purpose, start)), Some((purpose, start)));
            }
        }

        #[test]
        fn a_pane_is_filed_with_its_key(key_hash in any::<u64>(), start in any::<i64>()) {
            prop_assert_eq!(key_group(row_hash(key_hash, start)), key_group(key_hash));
        }
    }

    #[test]
    fn the_largest_hash_has_room() {
        for hash in [u64::MAX, u64::MAX - 1, 0] {
            assert_eq!(key_group(row_hash(hash, 7)), key_group(hash));
        }
    }
}
