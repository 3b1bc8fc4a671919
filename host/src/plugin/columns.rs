//! Columns across the border: Arrow arrays lent to a guest as they lie in memory, and a guest's buffers
//! checked and taken over as Arrow arrays. Nothing a guest returns is believed.

use std::borrow::Cow;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, TimestampMillisecondType};
use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Float64Array, Int64Array, StringArray,
    TimestampMillisecondArray,
};
use arrow_buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::DataType;
use tidemill_flow::schema::{Field, FieldType};

use super::bindings::transform::tidemill::operator::types::{ColumnParam, ColumnResult};
use super::failure::Failure;

#[cfg(target_endian = "big")]
compile_error!("the contract's buffers are little-endian, and are lent to guests as they lie in memory");

/// A column on its way into a guest. Only bitmaps that don't begin at a byte, and offsets that don't begin at
/// 0, are copied; the rest is borrowed.
pub(super) struct Lent<'a> {
    validity: Option<Cow<'a, [u8]>>,
    offsets: Option<Cow<'a, [u8]>>,
    data: Cow<'a, [u8]>,
}

impl<'a> Lent<'a> {
    /// # Panics
    /// When the column isn't of one of the contract's types: a plan has no other.
    pub(super) fn of(column: &'a ArrayRef) -> Self {
        let validity = column.nulls().filter(|n| n.null_count() > 0).map(|n| bits(n.inner()));
        let (offsets, data) = match column.data_type() {
            DataType::Boolean => (None, bits(column.as_boolean().values())),
            DataType::Int64 => (None, fixed(column.as_primitive::<Int64Type>().values())),
            DataType::Float64 => (None, fixed(column.as_primitive::<Float64Type>().values())),
            DataType::Timestamp(..) => {
                (None, fixed(column.as_primitive::<TimestampMillisecondType>().values()))
            }
            DataType::Utf8 => {
                variable(column.as_string::<i32>().offsets(), column.as_string::<i32>().value_data())
            }
            DataType::Binary => {
                variable(column.as_binary::<i32>().offsets(), column.as_binary::<i32>().value_data())
            }
            other => panic!("a column of {other} in a batch"),
        };
        Self { validity, offsets, data }
    }

    /// The same, with a value in every row: what stands where one is absent doesn't count.
    pub(super) fn without_validity(self) -> Self {
        Self { validity: None, ..self }
    }

    pub(super) fn param(&self) -> ColumnParam<'_> {
        ColumnParam { validity: self.validity.as_deref(), offsets: self.offsets.as_deref(), data: &self.data }
    }
}

fn fixed<T: arrow_buffer::ArrowNativeType>(values: &ScalarBuffer<T>) -> Cow<'_, [u8]> {
    Cow::Borrowed(values.inner().as_slice())
}

pub(super) fn bits(bits: &BooleanBuffer) -> Cow<'_, [u8]> {
    if !bits.offset().is_multiple_of(8) {
        return Cow::Owned(bits.sliced().as_slice().to_vec());
    }
    let start = bits.offset() / 8;
    Cow::Borrowed(&bits.inner().as_slice()[start..start + bits.len().div_ceil(8)])
}

fn variable<'a>(offsets: &'a OffsetBuffer<i32>, data: &'a [u8]) -> (Option<Cow<'a, [u8]>>, Cow<'a, [u8]>) {
    let (first, last) = (offsets[0], offsets[offsets.len() - 1]);
    let data = Cow::Borrowed(&data[first as usize..last as usize]);
    if first == 0 {
        return (Some(fixed(offsets.inner())), data);
    }
    let rebased = offsets.iter().flat_map(|o| (o - first).to_le_bytes()).collect();
    (Some(Cow::Owned(rebased)), data)
}

/// 32-bit numbers as the contract writes them.
pub(super) fn write_u32s(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// 32-bit numbers that a guest returned, each below `limit`: what they are, and of which `thing`, such as a row.
pub(super) fn read_u32s(bytes: &[u8], limit: u32, what: &str, thing: &str) -> Result<Vec<u32>, Failure> {
    let (words, rest) = bytes.as_chunks::<4>();
    if !rest.is_empty() {
        return Err(Failure::Malformed(format!(
            "{what} of {} bytes, which is no multiple of 4",
            bytes.len()
        )));
    }
    let values: Vec<u32> = words.iter().map(|w| u32::from_le_bytes(*w)).collect();
    match values.iter().find(|v| **v >= limit) {
        Some(bad) => {
            Err(Failure::Malformed(format!("{what} name {thing} {bad}, but there are {limit} {thing}s")))
        }
        None => Ok(values),
    }
}

/// Checks and takes over the columns that a guest returned for these fields.
pub(super) fn take_over(
    fields: &[Field],
    rows: usize,
    columns: Vec<ColumnResult>,
) -> Result<Vec<ArrayRef>, Failure> {
    if columns.len() != fields.len() {
        let (found, wanted) = (columns.len(), fields.len());
        return Err(Failure::Malformed(format!("{found} columns, but it described {wanted}")));
    }
    let column = |(field, column): (&Field, ColumnResult)| {
        array(field, rows, column)
            .map_err(|what| Failure::Malformed(format!("field `{}`: {what}", field.name)))
    };
    fields.iter().zip(columns).map(column).collect()
}

fn array(field: &Field, rows: usize, column: ColumnResult) -> Result<ArrayRef, String> {
    let nulls = nulls(field, rows, column.validity)?;
    let offsets = match (field.field_type, column.offsets) {
        (FieldType::Text | FieldType::Bytes, Some(offsets)) => {
            Some(offsets_of(rows, &offsets, column.data.len())?)
        }
        (FieldType::Text | FieldType::Bytes, None) => {
            return Err(format!("no offsets for {}", field.field_type));
        }
        (_, Some(_)) => return Err(format!("offsets for {}", field.field_type)),
        (_, None) => None,
    };
    let wanted = match field.field_type {
        FieldType::Boolean => Some(rows.div_ceil(8)),
        FieldType::Integer | FieldType::Float | FieldType::Timestamp => Some(rows * 8),
        FieldType::Text | FieldType::Bytes => None,
    };
    if let Some(wanted) = wanted.filter(|w| *w != column.data.len()) {
        return Err(format!("{} bytes of data for {rows} rows, expected {wanted}", column.data.len()));
    }
    let data = Buffer::from_vec(column.data);
    Ok(match field.field_type {
        FieldType::Boolean => Arc::new(BooleanArray::new(BooleanBuffer::new(data, 0, rows), nulls)),
        FieldType::Integer => Arc::new(Int64Array::new(aligned(data), nulls)),
        FieldType::Float => Arc::new(Float64Array::new(with_one_nan(aligned(data)), nulls)),
        FieldType::Timestamp => Arc::new(
            TimestampMillisecondArray::new(aligned(data), nulls).with_data_type(field.field_type.arrow()),
        ),
        FieldType::Text => {
            let offsets = offsets.expect("checked above");
            Arc::new(
                StringArray::try_new(offsets, data, nulls)
                    .map_err(|e| format!("text that isn't UTF-8: {e}"))?,
            )
        }
        FieldType::Bytes => {
            let offsets = offsets.expect("checked above");
            Arc::new(BinaryArray::try_new(offsets, data, nulls).map_err(|e| e.to_string())?)
        }
    })
}

/// Arrow wants eight-byte values on eight-byte boundaries, which an allocator gives to all but tiny vectors.
fn aligned<T: arrow_buffer::ArrowNativeType>(data: Buffer) -> ScalarBuffer<T> {
    if data.as_ptr().align_offset(align_of::<T>()) == 0 {
        return ScalarBuffer::from(data);
    }
    let mut copy = arrow_buffer::MutableBuffer::new(data.len());
    copy.extend_from_slice(data.as_slice());
    ScalarBuffer::from(Buffer::from(copy))
}

/// The same values, with the same bits for every not-a-number.
fn with_one_nan(values: ScalarBuffer<f64>) -> ScalarBuffer<f64> {
    // Without a branch in the loop, so that looking costs next to nothing where there is none.
    let any = values.iter().fold(false, |any, value| any | value.is_nan());
    if !any {
        return values;
    }
    values.iter().map(|&value| if value.is_nan() { f64::NAN } else { value }).collect::<Vec<f64>>().into()
}

fn nulls(field: &Field, rows: usize, validity: Option<Vec<u8>>) -> Result<Option<NullBuffer>, String> {
    let Some(validity) = validity else { return Ok(None) };
    if validity.len() != rows.div_ceil(8) {
        return Err(format!(
            "{} bytes of validity for {rows} rows, expected {}",
            validity.len(),
            rows.div_ceil(8)
        ));
    }
    let nulls = NullBuffer::new(BooleanBuffer::new(Buffer::from_vec(validity), 0, rows));
    if nulls.null_count() == 0 {
        return Ok(None);
    }
    if !field.nullable {
        let first = (0..rows).find(|&r| nulls.is_null(r)).expect("there is a null");
        return Err(format!("no value in row {first}, but it isn't nullable"));
    }
    Ok(Some(nulls))
}

fn offsets_of(rows: usize, bytes: &[u8], data_bytes: usize) -> Result<OffsetBuffer<i32>, String> {
    let (words, rest) = bytes.as_chunks::<4>();
    if !rest.is_empty() || words.len() != rows + 1 {
        return Err(format!("{} bytes of offsets for {rows} rows, expected {}", bytes.len(), (rows + 1) * 4));
    }
    let offsets: Vec<i32> = words.iter().map(|w| i32::from_le_bytes(*w)).collect();
    let in_order = offsets[0] >= 0 && offsets.is_sorted();
    if !in_order || offsets[rows] as usize > data_bytes {
        return Err(format!("offsets that fall or leave the {data_bytes} bytes of data"));
    }
    Ok(OffsetBuffer::new(offsets.into()))
}

/// Checks and takes over byte strings.
pub(super) fn byte_strings(rows: usize, nullable: bool, column: ColumnResult) -> Result<BinaryArray, String> {
    let field = Field { name: String::new(), field_type: FieldType::Bytes, nullable };
    Ok(array(&field, rows, column)?.as_binary::<i32>().clone())
}
