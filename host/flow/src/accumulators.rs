//! Accumulators in columns: one row for each group, gathered for a batch, scattered back after it.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, TimestampMillisecondType};
use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Float64Array, Int64Array, StringArray,
    TimestampMillisecondArray,
};
use arrow_buffer::NullBuffer;

use crate::schema::{FieldType, Schema};

/// The accumulators of many groups, a column for each field. Rows are numbered from 0 and only ever added.
#[derive(Clone, Debug)]
pub struct Accumulators {
    columns: Vec<Column>,
    rows: usize,
}

#[derive(Clone, Debug)]
struct Column {
    field_type: FieldType,
    values: Values,
    /// Empty as long as no value is absent; then one for each row.
    absent: Vec<bool>,
}

/// Values that can be changed in place. Floats are kept as their bits, so that what an operator returned is
/// what it is given back.
#[derive(Clone, Debug)]
enum Values {
    Boolean(Vec<bool>),
    Fixed(Vec<i64>),
    Variable(Vec<Box<[u8]>>),
}

impl Accumulators {
    /// No accumulators, of these fields.
    pub fn new(schema: &Schema) -> Self {
        let column = |field_type| Column {
            field_type,
            values: match field_type {
                FieldType::Boolean => Values::Boolean(Vec::new()),
                FieldType::Integer | FieldType::Float | FieldType::Timestamp => Values::Fixed(Vec::new()),
                FieldType::Text | FieldType::Bytes => Values::Variable(Vec::new()),
            },
            absent: Vec::new(),
        };
        Self { columns: schema.fields().iter().map(|f| column(f.field_type)).collect(), rows: 0 }
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Adds `rows` copies of row 0 of `from`.
    ///
    /// # Panics
    /// When the columns of `from` aren't of the schema's types.
    pub fn extend(&mut self, rows: usize, from: &[ArrayRef]) {
        let first = vec![0; rows];
        self.append(from, &first);
    }

    /// Adds the given rows of `from`, in this order.
    ///
    /// # Panics
    /// When the columns of `from` aren't of the schema's types, or lack a row.
    pub fn append(&mut self, from: &[ArrayRef], rows: &[u32]) {
        assert_eq!(from.len(), self.columns.len(), "accumulators have as many columns as their schema");
        for (column, from) in self.columns.iter_mut().zip(from) {
            column.append(self.rows, from, rows);
        }
        self.rows += rows.len();
    }

    /// The accumulators at these rows, as columns in the order of the schema.
    ///
    /// # Panics
    /// When there is no such row.
    pub fn gather(&self, rows: &[u32]) -> Vec<ArrayRef> {
        self.columns.iter().map(|c| c.gather(rows)).collect()
    }

    /// Replaces the accumulators at these rows by the rows of `from`.
    ///
    /// # Panics
    /// When the columns of `from` aren't of the schema's types or have another number of rows.
    pub fn scatter(&mut self, rows: &[u32], from: &[ArrayRef]) {
        assert_eq!(from.len(), self.columns.len(), "accumulators have as many columns as their schema");
        for (column, from) in self.columns.iter_mut().zip(from) {
            assert_eq!(from.len(), rows.len(), "an accumulator for each group");
            column.scatter(self.rows, rows, from);
        }
    }
}

impl Column {
    fn append(&mut self, have: usize, from: &ArrayRef, rows: &[u32]) {
        let index = rows.iter().map(|&r| r as usize);
        match &mut self.values {
            Values::Boolean(v) => v.extend(index.map(|r| from.as_boolean().value(r))),
            Values::Fixed(v) => {
                let fixed = Fixed::of(self.field_type, from);
                v.extend(index.map(|r| fixed.get(r)));
            }
            Values::Variable(v) => v.extend(index.map(|r| variable(self.field_type, from, r).into())),
        }
        if from.null_count() > 0 || !self.absent.is_empty() {
            self.absent.resize(have, false);
            self.absent.extend(rows.iter().map(|&r| from.is_null(r as usize)));
        }
    }

    fn gather(&self, rows: &[u32]) -> ArrayRef {
        let index = || rows.iter().map(|&r| r as usize);
        let nulls = (!self.absent.is_empty())
            .then(|| NullBuffer::from_iter(index().map(|r| !self.absent[r])))
            .filter(|n| n.null_count() > 0);
        match &self.values {
            Values::Boolean(v) => Arc::new(BooleanArray::new(index().map(|r| v[r]).collect(), nulls)),
            Values::Fixed(v) => match self.field_type {
                FieldType::Float => Arc::new(Float64Array::new(
                    index().map(|r| f64::from_bits(v[r].cast_unsigned())).collect(),
                    nulls,
                )),
                FieldType::Timestamp => Arc::new(
                    TimestampMillisecondArray::new(index().map(|r| v[r]).collect(), nulls)
                        .with_data_type(self.field_type.arrow()),
                ),
                _ => Arc::new(Int64Array::new(index().map(|r| v[r]).collect(), nulls)),
            },
            Values::Variable(v) => {
                let present = |r: usize| (self.absent.is_empty() || !self.absent[r]).then(|| &*v[r]);
                if self.field_type == FieldType::Bytes {
                    return Arc::new(BinaryArray::from_iter(index().map(present)));
                }
                let text = |bytes| std::str::from_utf8(bytes).expect("text came from a text column");
                Arc::new(StringArray::from_iter(index().map(|r| present(r).map(text))))
            }
        }
    }

    fn scatter(&mut self, have: usize, rows: &[u32], from: &ArrayRef) {
        let index = rows.iter().map(|&r| r as usize).enumerate();
        match &mut self.values {
            Values::Boolean(v) => index.for_each(|(i, r)| v[r] = from.as_boolean().value(i)),
            Values::Fixed(v) => {
                let fixed = Fixed::of(self.field_type, from);
                index.for_each(|(i, r)| v[r] = fixed.get(i));
            }
            Values::Variable(v) => index.for_each(|(i, r)| {
                let new = variable(self.field_type, from, i);
                if *v[r] != *new {
                    v[r] = new.into();
                }
            }),
        }
        if from.null_count() > 0 || !self.absent.is_empty() {
            self.absent.resize(have, false);
            rows.iter().enumerate().for_each(|(i, &r)| self.absent[r as usize] = from.is_null(i));
        }
    }
}

/// The values of a column of eight-byte values.
enum Fixed<'a> {
    Integers(&'a [i64]),
    Floats(&'a [f64]),
}

impl<'a> Fixed<'a> {
    fn of(field_type: FieldType, column: &'a ArrayRef) -> Self {
        match field_type {
            FieldType::Float => Self::Floats(column.as_primitive::<Float64Type>().values()),
            FieldType::Timestamp => {
                Self::Integers(column.as_primitive::<TimestampMillisecondType>().values())
            }
            _ => Self::Integers(column.as_primitive::<Int64Type>().values()),
        }
    }

    fn get(&self, row: usize) -> i64 {
        match self {
            Self::Integers(v) => v[row],
            Self::Floats(v) => v[row].to_bits().cast_signed(),
        }
    }
}

fn variable(field_type: FieldType, column: &ArrayRef, row: usize) -> &[u8] {
    match field_type {
        FieldType::Text => column.as_string::<i32>().value(row).as_bytes(),
        _ => column.as_binary::<i32>().value(row),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Field;

    /// Two rows of each type, the second absent.
    fn samples() -> (Schema, Vec<ArrayRef>) {
        let fields = FieldType::ALL.map(|t| Field::nullable(t.name(), t)).to_vec();
        let columns: Vec<ArrayRef> = vec![
            Arc::new(BooleanArray::from(vec![Some(true), None])),
            Arc::new(Int64Array::from(vec![Some(-7), None])),
            Arc::new(Float64Array::from(vec![Some(-0.0), None])),
            Arc::new(StringArray::from(vec![Some("tide"), None])),
            Arc::new(BinaryArray::from(vec![Some(&b"\x00\xff"[..]), None])),
            Arc::new(
                TimestampMillisecondArray::from(vec![Some(9), None])
                    .with_data_type(FieldType::Timestamp.arrow()),
            ),
        ];
        (Schema::new(fields).unwrap(), columns)
    }

    #[test]
    fn what_is_scattered_is_gathered_again() {
        let (schema, columns) = samples();
        let mut accumulators = Accumulators::new(&schema);
        accumulators.extend(3, &columns);
        assert_eq!(accumulators.rows(), 3);
        accumulators.scatter(&[2, 0], &columns);
        // Row 2 is present, row 0 now absent.
        assert_eq!(accumulators.gather(&[2, 0]), columns);
        assert_eq!(accumulators.gather(&[1, 0]), columns);
        accumulators.append(&columns, &[1, 0]);
        assert_eq!(accumulators.gather(&[4, 3]), columns);
    }
}
