//! A column's values by row, and those spellings that formats share.

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, TimestampMillisecondType};
use arrow_array::{Array, ArrayRef};
use arrow_buffer::{BooleanBuffer, NullBuffer};
use arrow_schema::{DataType, TimeUnit};

use super::super::{TimestampUnit, time};

/// A column whose type has been looked up once.
pub(super) struct Cells<'a> {
    nulls: Option<&'a NullBuffer>,
    pub(super) values: Values<'a>,
    timestamps: TimestampUnit,
}

pub(super) enum Values<'a> {
    Boolean(&'a BooleanBuffer),
    Integer(&'a [i64]),
    Float(&'a [f64]),
    Text(Runs<'a>),
    Bytes(Runs<'a>),
    Timestamp(&'a [i64]),
}

/// Values of variable width.
pub(super) struct Runs<'a> {
    ends: &'a [i32],
    pub(super) bytes: &'a [u8],
}

impl Runs<'_> {
    /// Where the row's value is in the bytes.
    #[inline(always)]
    pub(super) fn range(&self, row: usize) -> (usize, usize) {
        (self.ends[row] as usize, self.ends[row + 1] as usize)
    }

    #[inline(always)]
    pub(super) fn get(&self, row: usize) -> &[u8] {
        let (start, end) = self.range(row);
        &self.bytes[start..end]
    }
}

impl<'a> Cells<'a> {
    pub(super) fn new(column: &'a ArrayRef, timestamps: TimestampUnit) -> Self {
        let values = match column.data_type() {
            DataType::Boolean => Values::Boolean(column.as_boolean().values()),
            DataType::Int64 => Values::Integer(column.as_primitive::<Int64Type>().values()),
            DataType::Float64 => Values::Float(column.as_primitive::<Float64Type>().values()),
            DataType::Utf8 => {
                let text = column.as_string::<i32>();
                Values::Text(Runs { ends: text.value_offsets(), bytes: text.value_data() })
            }
            DataType::Binary => {
                let bytes = column.as_binary::<i32>();
                Values::Bytes(Runs { ends: bytes.value_offsets(), bytes: bytes.value_data() })
            }
            DataType::Timestamp(TimeUnit::Millisecond, _) => {
                Values::Timestamp(column.as_primitive::<TimestampMillisecondType>().values())
            }
            other => panic!("a batch has a column of type {other}, which no field type has"),
        };
        Self { nulls: column.nulls(), values, timestamps }
    }

    #[inline(always)]
    pub(super) fn is_null(&self, row: usize) -> bool {
        self.nulls.is_some_and(|nulls| nulls.is_null(row))
    }

    /// The row's text; none if it is null or the column isn't text.
    pub(super) fn text(&self, row: usize) -> Option<&[u8]> {
        match &self.values {
            Values::Text(runs) if !self.is_null(row) => Some(runs.get(row)),
            _ => None,
        }
    }

    /// Appends an instant; with `quote` around it if it is text.
    #[inline(always)]
    pub(super) fn write_timestamp(&self, ms: i64, quote: &[u8], out: &mut Vec<u8>) {
        match self.timestamps {
            TimestampUnit::Auto | TimestampUnit::Rfc3339 => {
                let start = out.len();
                out.extend_from_slice(quote);
                if time::write(ms, out) {
                    out.extend_from_slice(quote);
                } else {
                    out.truncate(start);
                    write_integer(ms, out);
                }
            }
            TimestampUnit::Milliseconds => write_integer(ms, out),
            TimestampUnit::Seconds => write_seconds(ms, out),
            TimestampUnit::Microseconds => write_integer(i128::from(ms) * 1_000, out),
            TimestampUnit::Nanoseconds => write_integer(i128::from(ms) * 1_000_000, out),
        }
    }
}

#[inline(always)]
pub(super) fn write_integer<I: itoa::Integer>(value: I, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Appends a finite float with the fewest digits that give it back.
pub(super) fn write_float(value: f64, out: &mut Vec<u8>) {
    out.extend_from_slice(zmij::Buffer::new().format_finite(value).as_bytes());
}

fn write_seconds(ms: i64, out: &mut Vec<u8>) {
    let (seconds, milli) = (ms.unsigned_abs() / 1_000, ms.unsigned_abs() % 1_000);
    if ms < 0 {
        out.push(b'-');
    }
    write_integer(seconds, out);
    if milli > 0 {
        out.extend_from_slice(format!(".{milli:03}").as_bytes());
    }
}
