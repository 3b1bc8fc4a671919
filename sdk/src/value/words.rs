//! Eight bytes a row: `i64`, `f64` and [`Timestamp`].

use super::{FieldType, FromColumn, LANES, Timestamp, all_present, short};
use crate::batch::{Column, ColumnBuffer, DataType};

/// A column of 8-byte values.
#[doc(hidden)]
pub struct WordReader<'a> {
    blocks: &'a [[[u8; 8]; LANES]],
    tail: &'a [[u8; 8]],
}

impl<'a> WordReader<'a> {
    fn new(column: &Column<'a>, rows: usize) -> Result<Self, String> {
        all_present(column, rows)?;
        let words = column.data.as_chunks::<8>().0.get(..rows).ok_or_else(|| short(column.data, rows, 8))?;
        let (blocks, tail) = words.as_chunks::<LANES>();
        Ok(Self { blocks, tail })
    }
}

macro_rules! words {
    ($($value:ty: $data_type:ident),*) => {$(
        impl FieldType for $value {
            const DATA_TYPE: DataType = DataType::$data_type;
            const FIXED: bool = true;
            type Writer = Vec<u8>;

            fn writer(rows: usize) -> Vec<u8> {
                Vec::with_capacity(rows * 8)
            }

            #[inline(always)]
            fn push(writer: &mut Vec<u8>, value: Self) {
                writer.extend_from_slice(&value.to_le_bytes());
            }

            #[inline(always)]
            fn push_block(writer: &mut Vec<u8>, values: [Self; LANES]) {
                writer.extend_from_slice(values.map(<$value>::to_le_bytes).as_flattened());
            }

            fn finish(writer: Vec<u8>) -> ColumnBuffer {
                ColumnBuffer { data: writer, ..ColumnBuffer::default() }
            }
        }

        impl<'a> FromColumn<'a> for $value {
            type Reader = WordReader<'a>;

            #[inline(always)]
            fn reader(column: &Column<'a>, rows: usize) -> Result<WordReader<'a>, String> {
                WordReader::new(column, rows)
            }

            #[inline(always)]
            fn block(reader: &WordReader<'a>, index: usize) -> [Self; LANES] {
                reader.blocks[index].map(<$value>::from_le_bytes)
            }

            #[inline(always)]
            fn tail(reader: &WordReader<'a>, lane: usize) -> Self {
                <$value>::from_le_bytes(reader.tail[lane])
            }
        }
    )*};
}

words!(i64: Integer, f64: Float, Timestamp: Timestamp);
