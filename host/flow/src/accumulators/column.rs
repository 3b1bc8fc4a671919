//! One column of accumulators.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, TimestampMillisecondType};
use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Float64Array, Int64Array, StringArray,
    TimestampMillisecondArray,
};
use arrow_buffer::NullBuffer;

use super::{Cell, DROPPED};
use crate::schema::FieldType;

#[derive(Clone, Debug)]
pub(super) struct Column {
    pub(super) field_type: FieldType,
    values: Values,
    /// Empty as long as no value is absent; then one for each row.
    absent: Vec<bool>,
    /// What the values of variable width take in the heap.
    heap_bytes: usize,
}

/// Values that can be changed in place. Floats are kept as their bits, so that what an operator returned is
/// what it is given back.
#[derive(Clone, Debug)]
enum Values {
    Boolean(Vec<bool>),
    Fixed(Vec<i64>),
    Variable(Vec<Box<[u8]>>),
}

/// What a value in the heap takes beside its own bytes: the allocator's header and rounding.
const ALLOCATION_BYTES: usize = 16;

impl Column {
    pub(super) fn new(field_type: FieldType) -> Self {
        let values = match field_type {
            FieldType::Boolean => Values::Boolean(Vec::new()),
            FieldType::Integer | FieldType::Float | FieldType::Timestamp => Values::Fixed(Vec::new()),
            FieldType::Text | FieldType::Bytes => Values::Variable(Vec::new()),
        };
        Self { field_type, values, absent: Vec::new(), heap_bytes: 0 }
    }

    pub(super) fn bytes(&self) -> usize {
        let values = match &self.values {
            Values::Boolean(v) => v.capacity(),
            Values::Fixed(v) => v.capacity() * size_of::<i64>(),
            Values::Variable(v) => v.capacity() * size_of::<Box<[u8]>>() + self.heap_bytes,
        };
        size_of::<Self>() + values + self.absent.capacity()
    }

    pub(super) fn append(&mut self, have: usize, from: &ArrayRef, rows: &[u32]) {
        let index = rows.iter().map(|&r| r as usize);
        match &mut self.values {
            Values::Boolean(v) => v.extend(index.map(|r| from.as_boolean().value(r))),
            Values::Fixed(v) => {
                let fixed = Fixed::of(self.field_type, from);
                v.extend(index.map(|r| fixed.get(r)));
            }
            Values::Variable(v) => {
                v.extend(index.map(|r| Box::from(variable(self.field_type, from, r))));
                self.heap_bytes += v[have..].iter().map(|value| heap_bytes(value)).sum::<usize>();
            }
        }
        if from.null_count() > 0 || !self.absent.is_empty() {
            self.absent.resize(have, false);
            self.absent.extend(rows.iter().map(|&r| from.is_null(r as usize)));
        }
    }

    pub(super) fn cell(&self, row: usize) -> Option<Cell<'_>> {
        let absent = self.absent.get(row).is_some_and(|absent| *absent);
        (!absent).then(|| match &self.values {
            Values::Boolean(v) => Cell::Boolean(v[row]),
            Values::Fixed(v) => Cell::Fixed(v[row]),
            Values::Variable(v) => Cell::Variable(&v[row]),
        })
    }

    pub(super) fn push(&mut self, have: usize, cell: Option<Cell<'_>>) {
        match &mut self.values {
            Values::Boolean(v) => v.push(false),
            Values::Fixed(v) => v.push(0),
            Values::Variable(v) => v.push(Box::default()),
        }
        if !self.absent.is_empty() {
            self.absent.push(false);
        }
        self.set(have + 1, have, cell);
    }

    pub(super) fn set(&mut self, have: usize, row: usize, cell: Option<Cell<'_>>) {
        match (&mut self.values, cell) {
            (Values::Boolean(v), Some(Cell::Boolean(new))) => v[row] = new,
            (Values::Fixed(v), Some(Cell::Fixed(new))) => v[row] = new,
            (Values::Variable(v), Some(Cell::Variable(new))) => {
                replace(&mut v[row], new, &mut self.heap_bytes)
            }
            (Values::Variable(v), None) => replace(&mut v[row], &[], &mut self.heap_bytes),
            (_, None) => {}
            (_, Some(cell)) => panic!("{cell:?} for a column of {}", self.field_type),
        }
        if cell.is_none() || !self.absent.is_empty() {
            self.absent.resize(have, false);
            self.absent[row] = cell.is_none();
        }
    }

    pub(super) fn partition(self, part_of: &[u32], rooms: &[usize], to: &mut [&mut Column]) {
        for (column, &room) in to.iter_mut().zip(rooms) {
            match &mut column.values {
                Values::Boolean(v) => v.reserve_exact(room),
                Values::Fixed(v) => v.reserve_exact(room),
                Values::Variable(v) => v.reserve_exact(room),
            }
        }
        let absent = &self.absent;
        let kept = part_of.iter().enumerate().filter(|(_, part)| **part != DROPPED);
        if !absent.is_empty() {
            kept.clone().for_each(|(row, &part)| to[part as usize].absent.push(absent[row]));
        }
        match self.values {
            Values::Boolean(v) => kept.for_each(|(row, &part)| match &mut to[part as usize].values {
                Values::Boolean(to) => to.push(v[row]),
                _ => unreachable!("made of the same type"),
            }),
            Values::Fixed(v) => kept.for_each(|(row, &part)| match &mut to[part as usize].values {
                Values::Fixed(to) => to.push(v[row]),
                _ => unreachable!("made of the same type"),
            }),
            Values::Variable(mut v) => kept.for_each(|(row, &part)| {
                let column = &mut to[part as usize];
                column.heap_bytes += heap_bytes(&v[row]);
                match &mut column.values {
                    Values::Variable(to) => to.push(std::mem::take(&mut v[row])),
                    _ => unreachable!("made of the same type"),
                }
            }),
        }
    }
}

/// The values at (part, row) of the same column of several parts.
pub(super) fn gather(parts: &[&Column], at: impl Iterator<Item = (usize, usize)> + Clone) -> ArrayRef {
    let field_type = parts[0].field_type;
    let absent: Vec<&[bool]> = parts.iter().map(|p| &*p.absent).collect();
    // A part without absent values has no list of them.
    let is_absent = |(part, row): (usize, usize)| absent[part].get(row).is_some_and(|absent| *absent);
    let any_absent = absent.iter().any(|absent| !absent.is_empty());
    let nulls = any_absent
        .then(|| NullBuffer::from_iter(at.clone().map(|at| !is_absent(at))))
        .filter(|n| n.null_count() > 0);
    match &parts[0].values {
        Values::Boolean(_) => {
            let values: Vec<&[bool]> = parts.iter().map(|p| p.booleans()).collect();
            Arc::new(BooleanArray::new(at.map(|(part, row)| values[part][row]).collect(), nulls))
        }
        Values::Fixed(_) => {
            let values: Vec<&[i64]> = parts.iter().map(|p| p.fixed()).collect();
            // A single part by itself: its address isn't read again for each value.
            let values: Vec<i64> = match &*values {
                [values] => at.map(|(_, row)| values[row]).collect(),
                _ => at.map(|(part, row)| values[part][row]).collect(),
            };
            match field_type {
                FieldType::Float => {
                    let floats = values.into_iter().map(|v| f64::from_bits(v.cast_unsigned()));
                    Arc::new(Float64Array::new(floats.collect(), nulls))
                }
                FieldType::Timestamp => Arc::new(
                    TimestampMillisecondArray::new(values.into(), nulls).with_data_type(field_type.arrow()),
                ),
                _ => Arc::new(Int64Array::new(values.into(), nulls)),
            }
        }
        Values::Variable(_) => {
            let values: Vec<&[Box<[u8]>]> = parts.iter().map(|p| p.variable()).collect();
            let present = |at: (usize, usize)| (!any_absent || !is_absent(at)).then(|| &*values[at.0][at.1]);
            if field_type == FieldType::Bytes {
                return Arc::new(BinaryArray::from_iter(at.map(present)));
            }
            let text = |bytes| std::str::from_utf8(bytes).expect("text came from a text column");
            Arc::new(StringArray::from_iter(at.map(|at| present(at).map(text))))
        }
    }
}

/// Sets the values at (part, row) of the same column of several parts, which come with their numbers of rows.
pub(super) fn scatter(
    parts: &mut [(&mut Column, usize)],
    at: impl Iterator<Item = (usize, usize)> + Clone,
    from: &ArrayRef,
) {
    let field_type = parts[0].0.field_type;
    assert_eq!(from.len(), at.clone().count(), "an accumulator for each group");
    match &parts[0].0.values {
        Values::Boolean(_) => {
            let mut to: Vec<&mut [bool]> = parts.iter_mut().map(|(p, _)| p.booleans_mut()).collect();
            at.clone().enumerate().for_each(|(i, (part, row))| to[part][row] = from.as_boolean().value(i));
        }
        Values::Fixed(_) => {
            let mut to: Vec<&mut [i64]> = parts.iter_mut().map(|(p, _)| p.fixed_mut()).collect();
            let fixed = Fixed::of(field_type, from);
            match &mut *to {
                [to] => at.clone().enumerate().for_each(|(i, (_, row))| to[row] = fixed.get(i)),
                to => at.clone().enumerate().for_each(|(i, (part, row))| to[part][row] = fixed.get(i)),
            }
        }
        Values::Variable(_) => {
            let mut to: Vec<_> = parts.iter_mut().map(|(p, _)| p.variable_mut()).collect();
            at.clone().enumerate().for_each(|(i, (part, row))| {
                let (values, heap_bytes) = &mut to[part];
                replace(&mut values[row], variable(field_type, from, i), heap_bytes);
            });
        }
    }
    if from.null_count() == 0 && parts.iter().all(|(p, _)| p.absent.is_empty()) {
        return;
    }
    for (i, (part, row)) in at.enumerate() {
        let (column, rows) = &mut parts[part];
        if from.is_null(i) || !column.absent.is_empty() {
            column.absent.resize(*rows, false);
            column.absent[row] = from.is_null(i);
        }
    }
}

/// The values of a column whose type is known.
impl Column {
    fn booleans(&self) -> &[bool] {
        match &self.values {
            Values::Boolean(v) => v,
            _ => unreachable!("{} isn't boolean", self.field_type),
        }
    }

    fn booleans_mut(&mut self) -> &mut [bool] {
        match &mut self.values {
            Values::Boolean(v) => v,
            _ => unreachable!("{} isn't boolean", self.field_type),
        }
    }

    fn fixed(&self) -> &[i64] {
        match &self.values {
            Values::Fixed(v) => v,
            _ => unreachable!("{} isn't of fixed width", self.field_type),
        }
    }

    fn fixed_mut(&mut self) -> &mut [i64] {
        match &mut self.values {
            Values::Fixed(v) => v,
            _ => unreachable!("{} isn't of fixed width", self.field_type),
        }
    }

    fn variable(&self) -> &[Box<[u8]>] {
        match &self.values {
            Values::Variable(v) => v,
            _ => unreachable!("{} isn't of variable width", self.field_type),
        }
    }

    /// With the count of their bytes.
    fn variable_mut(&mut self) -> (&mut [Box<[u8]>], &mut usize) {
        match &mut self.values {
            Values::Variable(v) => (v, &mut self.heap_bytes),
            _ => unreachable!("{} isn't of variable width", self.field_type),
        }
    }
}

fn heap_bytes(value: &[u8]) -> usize {
    if value.is_empty() { 0 } else { value.len() + ALLOCATION_BYTES }
}

fn replace(value: &mut Box<[u8]>, new: &[u8], counted: &mut usize) {
    if **value != *new {
        *counted -= heap_bytes(value);
        *value = new.into();
        *counted += heap_bytes(value);
    }
}

/// The values of a column of eight-byte values.
pub(super) enum Fixed<'a> {
    Integers(&'a [i64]),
    Floats(&'a [f64]),
}

impl<'a> Fixed<'a> {
    pub(super) fn of(field_type: FieldType, column: &'a ArrayRef) -> Self {
        match field_type {
            FieldType::Float => Self::Floats(column.as_primitive::<Float64Type>().values()),
            FieldType::Timestamp => {
                Self::Integers(column.as_primitive::<TimestampMillisecondType>().values())
            }
            _ => Self::Integers(column.as_primitive::<Int64Type>().values()),
        }
    }

    pub(super) fn get(&self, row: usize) -> i64 {
        match self {
            Self::Integers(v) => v[row],
            Self::Floats(v) => v[row].to_bits().cast_signed(),
        }
    }
}

pub(super) fn variable(field_type: FieldType, column: &ArrayRef, row: usize) -> &[u8] {
    match field_type {
        FieldType::Text => column.as_string::<i32>().value(row).as_bytes(),
        _ => column.as_binary::<i32>().value(row),
    }
}
