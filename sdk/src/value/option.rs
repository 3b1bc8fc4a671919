//! Values that may be absent: an `Option` of any other field type.

use super::bits::{BitReader, BitWriter, pack, unpack};
use super::{FieldType, FromColumn, LANES};
use crate::batch::{Column, ColumnBuffer, DataType};

/// A column of values that may be absent. Where one is, the column below holds a default.
#[doc(hidden)]
pub struct OptionWriter<W> {
    present: BitWriter,
    values: W,
}

/// A nullable column; `None` when all its values are present.
#[doc(hidden)]
pub struct OptionReader<'a, R> {
    present: Option<BitReader<'a>>,
    values: R,
}

impl<T: FieldType> FieldType for Option<T> {
    const DATA_TYPE: DataType = {
        assert!(!T::NULLABLE, "a field is either there or not: use one `Option`, not two");
        T::DATA_TYPE
    };
    const NULLABLE: bool = true;
    const FIXED: bool = T::FIXED;
    type Writer = OptionWriter<T::Writer>;

    fn writer(rows: usize) -> Self::Writer {
        OptionWriter { present: BitWriter::with_capacity(rows), values: T::writer(rows) }
    }

    #[inline(always)]
    fn push(writer: &mut Self::Writer, value: Self) {
        writer.present.push(value.is_some());
        T::push(&mut writer.values, value.unwrap_or_default());
    }

    #[inline(always)]
    fn push_block(writer: &mut Self::Writer, values: [Self; LANES]) {
        writer.present.push_byte(pack(std::array::from_fn(|lane| values[lane].is_some())));
        T::push_block(&mut writer.values, values.map(Option::unwrap_or_default));
    }

    fn finish(writer: Self::Writer) -> ColumnBuffer {
        let validity = (!writer.present.all_set()).then_some(writer.present.bytes);
        ColumnBuffer { validity, ..T::finish(writer.values) }
    }
}

impl<'a, T: FromColumn<'a>> FromColumn<'a> for Option<T> {
    type Reader = OptionReader<'a, T::Reader>;

    fn reader(column: &Column<'a>, rows: usize) -> Result<Self::Reader, String> {
        let present = column.validity.map(|bits| BitReader::new(bits, rows)).transpose()?;
        Ok(OptionReader { present, values: T::reader(&Column { validity: None, ..*column }, rows)? })
    }

    #[inline(always)]
    fn block(reader: &Self::Reader, index: usize) -> [Self; LANES] {
        let present = unpack(reader.present.as_ref().map_or(u8::MAX, |bits| bits.bytes[index]));
        let mut values = T::block(&reader.values, index).map(Some);
        for lane in 0..LANES {
            if !present[lane] {
                values[lane] = None;
            }
        }
        values
    }

    #[inline(always)]
    fn tail(reader: &Self::Reader, lane: usize) -> Self {
        let present = reader.present.as_ref().is_none_or(|bits| bits.tail(lane));
        present.then(|| T::tail(&reader.values, lane))
    }
}
