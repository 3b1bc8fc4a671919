//! One bit a row: `bool`, and which values of a column are present.

use super::{FieldType, FromColumn, LANES, all_present, short};
use crate::batch::{Column, ColumnBuffer, DataType};

/// Bits on their way out, least significant first.
#[doc(hidden)]
#[derive(Default)]
pub struct BitWriter {
    pub(super) bytes: Vec<u8>,
    count: usize,
}

impl BitWriter {
    pub(super) fn with_capacity(bits: usize) -> Self {
        Self { bytes: Vec::with_capacity(bits.div_ceil(8)), count: 0 }
    }

    #[inline(always)]
    pub(super) fn push(&mut self, bit: bool) {
        if self.count.is_multiple_of(8) {
            self.bytes.push(0);
        }
        if let Some(last) = self.bytes.last_mut() {
            *last |= u8::from(bit) << (self.count % 8);
        }
        self.count += 1;
    }

    #[inline(always)]
    pub(super) fn push_byte(&mut self, byte: u8) {
        let used = self.count % 8;
        if let Some(last) = self.bytes.last_mut().filter(|_| used > 0) {
            *last |= byte << used;
            self.bytes.push(byte >> (8 - used));
        } else {
            self.bytes.push(byte);
        }
        self.count += 8;
    }

    pub(super) fn all_set(&self) -> bool {
        first_unset(&self.bytes, self.count).is_none()
    }
}

/// Bits of a column, one byte a block.
#[doc(hidden)]
pub struct BitReader<'a> {
    pub(super) bytes: &'a [u8],
    full: usize,
}

impl<'a> BitReader<'a> {
    pub(super) fn new(bytes: &'a [u8], rows: usize) -> Result<Self, String> {
        let bytes = bytes.get(..rows.div_ceil(8)).ok_or_else(|| short(bytes, rows.div_ceil(8), 1))?;
        Ok(Self { bytes, full: rows / LANES })
    }

    #[inline(always)]
    pub(super) fn tail(&self, lane: usize) -> bool {
        self.bytes[self.full] >> lane & 1 == 1
    }
}

impl FieldType for bool {
    const DATA_TYPE: DataType = DataType::Boolean;
    const FIXED: bool = true;
    type Writer = BitWriter;

    fn writer(rows: usize) -> BitWriter {
        BitWriter::with_capacity(rows)
    }

    #[inline(always)]
    fn push(writer: &mut BitWriter, value: Self) {
        writer.push(value);
    }

    #[inline(always)]
    fn push_block(writer: &mut BitWriter, values: [Self; LANES]) {
        writer.push_byte(pack(values));
    }

    fn finish(writer: BitWriter) -> ColumnBuffer {
        ColumnBuffer { data: writer.bytes, ..ColumnBuffer::default() }
    }
}

impl<'a> FromColumn<'a> for bool {
    type Reader = BitReader<'a>;

    fn reader(column: &Column<'a>, rows: usize) -> Result<BitReader<'a>, String> {
        all_present(column, rows)?;
        BitReader::new(column.data, rows)
    }

    #[inline(always)]
    fn block(reader: &BitReader<'a>, index: usize) -> [Self; LANES] {
        unpack(reader.bytes[index])
    }

    #[inline(always)]
    fn tail(reader: &BitReader<'a>, lane: usize) -> Self {
        reader.tail(lane)
    }
}

#[inline(always)]
pub(super) fn pack(bits: [bool; LANES]) -> u8 {
    let mut byte = 0;
    for (lane, bit) in bits.into_iter().enumerate() {
        byte |= u8::from(bit) << lane;
    }
    byte
}

#[inline(always)]
pub(super) fn unpack(byte: u8) -> [bool; LANES] {
    std::array::from_fn(|lane| byte >> lane & 1 == 1)
}

/// The first of `count` bits that is 0.
pub(super) fn first_unset(bytes: &[u8], count: usize) -> Option<usize> {
    let at = bytes.iter().position(|byte| *byte != u8::MAX)?;
    let bit = at * 8 + bytes[at].trailing_ones() as usize;
    (bit < count).then_some(bit)
}
