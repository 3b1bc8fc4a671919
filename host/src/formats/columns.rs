//! The columns that a decoder fills, row by row.
//!
//! A row is open until [`Columns::close_row`]: its values may come in any order and more than once, and
//! [`Columns::abandon_row`] takes all of them back, so that a malformed record leaves no trace. The
//! buffers become Arrow arrays without being copied.

use std::mem;
use std::sync::Arc;

use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, Float64Array, Int64Array, StringArray, TimestampMillisecondArray,
};
use arrow_buffer::{BooleanBufferBuilder, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::{Engine, alphabet};
use tidemill_flow::schema::FieldType;

use super::scan::append;
use super::{Demand, TimestampUnit};

/// Why a record is malformed, in words for people.
#[derive(Debug)]
pub(super) struct Fault(Box<str>);

impl Fault {
    #[cold]
    pub(super) fn new(reason: impl Into<Box<str>>) -> Self {
        Self(reason.into())
    }

    pub(super) fn into_reason(self) -> String {
        self.0.into()
    }
}

/// One column under construction.
pub(super) struct Column {
    /// Where the record has it, for messages.
    pub(super) path: String,
    /// How deep in the record it is: 1 for a field of the record itself.
    pub(super) depth: usize,
    pub(super) unit: TimestampUnit,
    pub(super) values: Values,
    nullable: bool,
    /// How many rows have a value here; one more than there are closed rows if the open one has.
    filled: usize,
    /// The rows that are null. A list, because it costs nothing while there are none.
    nulls: Vec<u32>,
}

pub(super) enum Values {
    Boolean(Vec<bool>),
    Integer(Vec<i64>),
    Float(Vec<f64>),
    Text(Runs),
    Bytes(Runs),
    Timestamp(Vec<i64>),
}

/// Values of variable width, one after the other.
pub(super) struct Runs {
    /// Where each value ends, after a leading 0. Never above `i32::MAX`: see `BATCH_BYTES_MAX`.
    ends: Vec<i32>,
    pub(super) bytes: Vec<u8>,
}

impl Runs {
    fn new(rows: usize, bytes: usize) -> Self {
        let mut ends = Vec::with_capacity(rows + 1);
        ends.push(0);
        Self { ends, bytes: Vec::with_capacity(bytes) }
    }

    /// Appends `buf[start..end]` as a value.
    #[inline(always)]
    pub(super) fn push(&mut self, buf: &[u8], start: usize, end: usize) {
        append(&mut self.bytes, buf, start, end);
        self.seal();
    }

    /// Appends the bytes that `text` means in base64 as a value; none if it isn't base64.
    pub(super) fn push_base64(&mut self, text: &[u8]) -> Option<()> {
        const LENIENT: GeneralPurposeConfig =
            GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
        const BASE64: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
        BASE64.decode_vec(text, &mut self.bytes).ok()?;
        self.seal();
        Some(())
    }

    /// Makes a value of the bytes appended since the last one.
    #[inline(always)]
    pub(super) fn seal(&mut self) {
        self.ends.push(self.bytes.len() as i32);
    }

    fn truncate(&mut self, rows: usize) {
        self.ends.truncate(rows + 1);
        self.bytes.truncate(self.ends[rows] as usize);
    }

    /// Hands the buffers over; the next batch is expected to be as large as this one.
    fn take(&mut self) -> (OffsetBuffer<i32>, Buffer) {
        let full = mem::replace(self, Self::new(self.ends.len(), self.bytes.len()));
        assert!(i32::try_from(full.bytes.len()).is_ok(), "{} bytes in one column", full.bytes.len());
        (OffsetBuffer::new(ScalarBuffer::from(full.ends)), Buffer::from_vec(full.bytes))
    }
}

impl Column {
    fn new(demand: &Demand) -> Self {
        let values = match demand.field.field_type {
            FieldType::Boolean => Values::Boolean(Vec::new()),
            FieldType::Integer => Values::Integer(Vec::new()),
            FieldType::Float => Values::Float(Vec::new()),
            FieldType::Text => Values::Text(Runs::new(0, 0)),
            FieldType::Bytes => Values::Bytes(Runs::new(0, 0)),
            FieldType::Timestamp => Values::Timestamp(Vec::new()),
        };
        Self {
            path: demand.path.join("."),
            depth: demand.path.len(),
            unit: demand.unit,
            values,
            nullable: demand.field.nullable,
            filled: 0,
            nulls: Vec::new(),
        }
    }

    pub(super) fn is_text_or_bytes(&self) -> bool {
        matches!(self.values, Values::Text(_) | Values::Bytes(_))
    }

    /// The fault of a value, shown as `found`, that isn't of the column's type.
    #[cold]
    pub(super) fn mismatch(&self, found: &str) -> Fault {
        const SHOWN_CHARS_MAX: usize = 40;
        let wanted = match (&self.values, self.unit) {
            (Values::Boolean(_), _) => "boolean",
            (Values::Integer(_), _) => "integer",
            (Values::Float(_), _) => "float",
            (Values::Text(_), _) => "text",
            (Values::Bytes(_), _) => "bytes in base64",
            (Values::Timestamp(_), TimestampUnit::Auto) => "timestamp (RFC 3339 or milliseconds)",
            (Values::Timestamp(_), TimestampUnit::Rfc3339) => "timestamp (RFC 3339)",
            (Values::Timestamp(_), TimestampUnit::Seconds) => "timestamp (seconds)",
            (Values::Timestamp(_), TimestampUnit::Milliseconds) => "timestamp (milliseconds)",
            (Values::Timestamp(_), TimestampUnit::Microseconds) => "timestamp (microseconds)",
            (Values::Timestamp(_), TimestampUnit::Nanoseconds) => "timestamp (nanoseconds)",
        };
        let cut = found.char_indices().nth(SHOWN_CHARS_MAX).map(|(at, _)| format!("{}…", &found[..at]));
        let found = cut.as_deref().unwrap_or(found);
        Fault::new(format!("field {:?}: expected {wanted}, found {found}", self.path))
    }

    /// Makes the open row's value null, if the field may be; `found` says "null" or "missing".
    pub(super) fn push_null(&mut self, row: usize, found: &str) -> Result<(), Fault> {
        if !self.nullable {
            return Err(Fault::new(format!("field {:?} is {found}, but not nullable", self.path)));
        }
        match &mut self.values {
            Values::Boolean(values) => values.push(false),
            Values::Integer(values) | Values::Timestamp(values) => values.push(0),
            Values::Float(values) => values.push(0.0),
            Values::Text(runs) | Values::Bytes(runs) => runs.seal(),
        }
        self.nulls.push(row as u32);
        Ok(())
    }

    #[cold]
    fn truncate(&mut self, rows: usize) {
        match &mut self.values {
            Values::Boolean(values) => values.truncate(rows),
            Values::Integer(values) | Values::Timestamp(values) => values.truncate(rows),
            Values::Float(values) => values.truncate(rows),
            Values::Text(runs) | Values::Bytes(runs) => runs.truncate(rows),
        }
        if self.nulls.last().is_some_and(|row| *row as usize >= rows) {
            self.nulls.pop();
        }
        self.filled = rows;
    }

    fn take(&mut self) -> ArrayRef {
        let nulls = self.take_nulls();
        self.filled = 0;
        match &mut self.values {
            Values::Boolean(values) => Arc::new(BooleanArray::new(refill(values).into(), nulls)),
            Values::Integer(values) => Arc::new(Int64Array::new(refill(values).into(), nulls)),
            Values::Float(values) => Arc::new(Float64Array::new(refill(values).into(), nulls)),
            Values::Timestamp(values) => {
                Arc::new(TimestampMillisecondArray::new(refill(values).into(), nulls).with_timezone("UTC"))
            }
            Values::Text(runs) => {
                let (ends, bytes) = runs.take();
                Arc::new(StringArray::new(ends, bytes, nulls))
            }
            Values::Bytes(runs) => {
                let (ends, bytes) = runs.take();
                Arc::new(BinaryArray::new(ends, bytes, nulls))
            }
        }
    }

    fn take_nulls(&mut self) -> Option<NullBuffer> {
        if self.nulls.is_empty() {
            return None;
        }
        let mut valid = BooleanBufferBuilder::new(self.filled);
        valid.append_n(self.filled, true);
        for row in self.nulls.drain(..) {
            valid.set_bit(row as usize, false);
        }
        Some(NullBuffer::new(valid.finish()))
    }
}

/// Takes the values and leaves room for as many.
fn refill<T>(values: &mut Vec<T>) -> Vec<T> {
    let room = Vec::with_capacity(values.len());
    mem::replace(values, room)
}

/// All columns of a batch and the row that is being filled.
pub(super) struct Columns {
    columns: Vec<Column>,
    /// How many rows are closed.
    rows: usize,
    /// How many columns the open row has filled.
    filled: usize,
}

impl Columns {
    pub(super) fn new(demands: &[Demand]) -> Self {
        Self { columns: demands.iter().map(Column::new).collect(), rows: 0, filled: 0 }
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Opens the column for the open row's value, with the row. Whoever opens it either pushes
    /// exactly one value or fails the row. A value that is there already gives way to the new one.
    #[inline(always)]
    pub(super) fn open(&mut self, column: usize) -> (&mut Column, usize) {
        let opened = &mut self.columns[column];
        if opened.filled == self.rows {
            self.filled += 1;
            opened.filled += 1;
        } else {
            opened.truncate(self.rows);
            opened.filled += 1;
        }
        (opened, self.rows)
    }

    /// Takes the open row's value of this column back, if there is one.
    pub(super) fn forget(&mut self, column: usize) {
        if self.columns[column].filled > self.rows {
            self.columns[column].truncate(self.rows);
            self.filled -= 1;
        }
    }

    /// Closes the row, with null for each column that got no value.
    ///
    /// # Errors
    /// A field has no value, but must have one. The row is still open.
    #[inline(always)]
    pub(super) fn close_row(&mut self) -> Result<(), Fault> {
        if self.filled < self.columns.len() {
            self.fill_absent()?;
        }
        self.rows += 1;
        self.filled = 0;
        Ok(())
    }

    fn fill_absent(&mut self) -> Result<(), Fault> {
        for column in &mut self.columns {
            if column.filled == self.rows {
                column.push_null(self.rows, "missing")?;
                column.filled += 1;
            }
        }
        Ok(())
    }

    /// Takes back all that was pushed since the last closed row.
    #[cold]
    pub(super) fn abandon_row(&mut self) {
        for column in &mut self.columns {
            column.truncate(self.rows);
        }
        self.filled = 0;
    }

    /// The closed rows as arrays; there are none afterwards.
    pub(super) fn take(&mut self) -> Vec<ArrayRef> {
        assert_eq!(self.filled, 0, "a batch was taken in the middle of a row");
        self.rows = 0;
        self.columns.iter_mut().map(Column::take).collect()
    }
}
