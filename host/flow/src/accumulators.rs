//! Accumulators in columns: one row for each group, gathered for a batch, scattered back after it.
//!
//! A [`Table`](crate::table::Table) holds its rows in several of these, so gathering and scattering also go across
//! parts; with one part that costs nothing more.

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef};

use self::column::{Column, Fixed, gather, scatter, variable};
use crate::schema::{FieldType, Schema};
use crate::table::Slot;

mod column;

/// The accumulators of many groups, a column for each field. Rows are numbered from 0 and only ever added.
#[derive(Clone, Debug)]
pub struct Accumulators {
    columns: Vec<Column>,
    rows: usize,
}

/// A value of a row. Integers, timestamps and the bits of floats are fixed; text and bytes are variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cell<'a> {
    Boolean(bool),
    Fixed(i64),
    Variable(&'a [u8]),
}

impl<'a> Cell<'a> {
    /// The value of a column at a row, if it is there.
    ///
    /// # Panics
    /// When the column isn't of the type, or has no such row.
    pub(crate) fn of(field_type: FieldType, column: &'a ArrayRef, row: usize) -> Option<Self> {
        column.is_valid(row).then(|| match field_type {
            FieldType::Boolean => Self::Boolean(column.as_boolean().value(row)),
            FieldType::Text | FieldType::Bytes => Self::Variable(variable(field_type, column, row)),
            _ => Self::Fixed(Fixed::of(field_type, column).get(row)),
        })
    }
}

/// The row that is none: see [`Accumulators::partition`].
pub(crate) const DROPPED: u32 = u32::MAX;

impl Accumulators {
    /// No accumulators, of these fields.
    pub fn new(schema: &Schema) -> Self {
        Self { columns: schema.fields().iter().map(|f| Column::new(f.field_type)).collect(), rows: 0 }
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// About how many bytes of memory they take.
    pub fn bytes(&self) -> usize {
        self.columns.iter().map(Column::bytes).sum()
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
        let at = rows.iter().map(|&row| (0, row as usize));
        self.columns.iter().map(|column| gather(&[column], at.clone())).collect()
    }

    /// The accumulators at these slots of several parts of a table, as columns in the order of the schema.
    ///
    /// # Panics
    /// When there is no part, or no such row.
    pub(crate) fn gather_across(parts: &[&Self], slots: &[Slot]) -> Vec<ArrayRef> {
        let of = |c: usize| {
            let columns: Vec<&Column> = parts.iter().map(|p| &p.columns[c]).collect();
            match &*columns {
                [_] => gather(&columns, slots.iter().map(|s| (0, s.row as usize))),
                _ => gather(&columns, slots.iter().map(|s| (s.shard as usize, s.row as usize))),
            }
        };
        (0..parts[0].columns.len()).map(of).collect()
    }

    /// Replaces the accumulators at these rows by the rows of `from`.
    ///
    /// # Panics
    /// When the columns of `from` aren't of the schema's types or have another number of rows.
    pub fn scatter(&mut self, rows: &[u32], from: &[ArrayRef]) {
        assert_eq!(from.len(), self.columns.len(), "accumulators have as many columns as their schema");
        let at = rows.iter().map(|&row| (0, row as usize));
        for (column, from) in self.columns.iter_mut().zip(from) {
            scatter(&mut [(column, self.rows)], at.clone(), from);
        }
    }

    /// Replaces the accumulators at these slots of several parts of a table by the rows of `from`.
    ///
    /// # Panics
    /// As [`scatter`](Self::scatter) does.
    pub(crate) fn scatter_across(parts: &mut [&mut Self], slots: &[Slot], from: &[ArrayRef]) {
        let columns = parts.first().map_or(0, |p| p.columns.len());
        assert_eq!(from.len(), columns, "accumulators have as many columns as their schema");
        for (c, from) in from.iter().enumerate() {
            let mut columns: Vec<(&mut Column, usize)> =
                parts.iter_mut().map(|p| (&mut p.columns[c], p.rows)).collect();
            if columns.len() == 1 {
                scatter(&mut columns, slots.iter().map(|s| (0, s.row as usize)), from);
            } else {
                scatter(&mut columns, slots.iter().map(|s| (s.shard as usize, s.row as usize)), from);
            }
        }
    }

    /// The values of a row, in the order of the schema.
    pub(crate) fn cells(&self, row: u32) -> impl Iterator<Item = Option<Cell<'_>>> {
        self.columns.iter().map(move |column| column.cell(row as usize))
    }

    /// Adds a row of these values, which are of the schema's types.
    pub(crate) fn push(&mut self, cells: &[Option<Cell<'_>>]) {
        assert_eq!(cells.len(), self.columns.len(), "accumulators have as many columns as their schema");
        self.columns.iter_mut().zip(cells).for_each(|(column, cell)| column.push(self.rows, *cell));
        self.rows += 1;
    }

    /// Replaces a row by these values, which are of the schema's types.
    pub(crate) fn set(&mut self, row: u32, cells: &[Option<Cell<'_>>]) {
        assert_eq!(cells.len(), self.columns.len(), "accumulators have as many columns as their schema");
        let (columns, rows) = (self.columns.iter_mut(), self.rows);
        columns.zip(cells).for_each(|(column, cell)| column.set(rows, row as usize, *cell));
    }

    /// Deals the rows out: row i goes to part `part_of[i]`, or nowhere if that is [`DROPPED`]. Values move, they
    /// aren't copied. `sizes` are the numbers of rows that the parts will have, `rooms` for how many there is room.
    pub(crate) fn partition(self, part_of: &[u32], sizes: &[usize], rooms: &[usize]) -> Vec<Self> {
        let empty = |column: &Column| Column::new(column.field_type);
        let part = |&rows: &usize| Self { columns: self.columns.iter().map(empty).collect(), rows };
        let mut parts: Vec<Self> = sizes.iter().map(part).collect();
        for (c, column) in self.columns.into_iter().enumerate() {
            let mut to: Vec<&mut Column> = parts.iter_mut().map(|p| &mut p.columns[c]).collect();
            column.partition(part_of, rooms, &mut to);
        }
        parts
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::schema::Field;
    use arrow_array::TimestampMillisecondArray;
    use arrow_array::{BinaryArray, BooleanArray, Float64Array, Int64Array, StringArray};
    use std::sync::Arc;

    /// Two rows of each type, the second absent.
    pub(crate) fn samples() -> (Schema, Vec<ArrayRef>) {
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
