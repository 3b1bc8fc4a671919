//! Field types: how each one is read from a column and written to one.
//!
//! Both ways go in blocks of eight rows, because eight rows are one byte of every bitmap, and because a loop over
//! a fixed eight is unrolled: the host puts an interruption check on each turn of a loop, and one check for eight
//! rows costs nothing. A column is checked once, when its reader is made; reading then needs no further check.

use crate::batch::{Column, ColumnBuffer, DataType};

/// Rows in a block.
pub(crate) const LANES: usize = 8;

/// A type that a field of a [`Record`](crate::Record) can have.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the type of a record's field",
    label = "not a field type",
    note = "whole numbers are `i64`, other numbers `f64`; text is `&str` or `String`, bytes `&[u8]` or `Vec<u8>`",
    note = "also `bool`, `Timestamp`, `Vec<i64>`, and an `Option` of any of these for a field that may be empty"
)]
pub trait FieldType: Clone + Default {
    /// What the contract calls this type.
    const DATA_TYPE: DataType;
    /// Whether a row may have no value.
    const NULLABLE: bool = false;
    /// Whether a clone costs nothing, because no value owns memory.
    const FIXED: bool;

    /// A column on its way out.
    type Writer;
    /// A column that expects `rows` values.
    fn writer(rows: usize) -> Self::Writer;
    /// Appends one value.
    fn push(writer: &mut Self::Writer, value: Self);
    /// Appends eight values.
    fn push_block(writer: &mut Self::Writer, values: [Self; LANES]);
    /// The column.
    fn finish(writer: Self::Writer) -> ColumnBuffer;
}

/// A field type that can be read from a column of lifetime `'a`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be read from a column",
    label = "not a field type that can be read",
    note = "whole numbers are `i64`, other numbers `f64`; text is `&str` or `String`, bytes `&[u8]` or `Vec<u8>`"
)]
pub trait FromColumn<'a>: FieldType {
    /// A column that was found to fit.
    type Reader;
    /// Checks `column` against this type and `rows`.
    ///
    /// # Errors
    /// What is wrong with the column.
    fn reader(column: &Column<'a>, rows: usize) -> Result<Self::Reader, String>;
    /// The eight values of a full block.
    fn block(reader: &Self::Reader, index: usize) -> [Self; LANES];
    /// A value behind the last full block.
    fn tail(reader: &Self::Reader, lane: usize) -> Self;
}

/// A point in time: milliseconds since the Unix epoch, UTC.
///
/// ```
/// use tidemill_sdk::Timestamp;
/// assert!(Timestamp(1_357_034_400_000) > Timestamp::default());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

impl Timestamp {
    fn to_le_bytes(self) -> [u8; 8] {
        self.0.to_le_bytes()
    }

    fn from_le_bytes(bytes: [u8; 8]) -> Self {
        Self(i64::from_le_bytes(bytes))
    }
}

// --- eight bytes a row ------------------------------------------------------------------------------------------

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

// --- one bit a row ----------------------------------------------------------------------------------------------

/// Bits on their way out, least significant first.
#[doc(hidden)]
#[derive(Default)]
pub struct BitWriter {
    bytes: Vec<u8>,
    count: usize,
}

impl BitWriter {
    fn with_capacity(bits: usize) -> Self {
        Self { bytes: Vec::with_capacity(bits.div_ceil(8)), count: 0 }
    }

    #[inline(always)]
    fn push(&mut self, bit: bool) {
        if self.count.is_multiple_of(8) {
            self.bytes.push(0);
        }
        if let Some(last) = self.bytes.last_mut() {
            *last |= u8::from(bit) << (self.count % 8);
        }
        self.count += 1;
    }

    #[inline(always)]
    fn push_byte(&mut self, byte: u8) {
        let used = self.count % 8;
        if let Some(last) = self.bytes.last_mut().filter(|_| used > 0) {
            *last |= byte << used;
            self.bytes.push(byte >> (8 - used));
        } else {
            self.bytes.push(byte);
        }
        self.count += 8;
    }

    fn all_set(&self) -> bool {
        first_unset(&self.bytes, self.count).is_none()
    }
}

/// Bits of a column, one byte a block.
#[doc(hidden)]
pub struct BitReader<'a> {
    bytes: &'a [u8],
    full: usize,
}

impl<'a> BitReader<'a> {
    fn new(bytes: &'a [u8], rows: usize) -> Result<Self, String> {
        let bytes = bytes.get(..rows.div_ceil(8)).ok_or_else(|| short(bytes, rows.div_ceil(8), 1))?;
        Ok(Self { bytes, full: rows / LANES })
    }

    #[inline(always)]
    fn tail(&self, lane: usize) -> bool {
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
fn pack(bits: [bool; LANES]) -> u8 {
    let mut byte = 0;
    for (lane, bit) in bits.into_iter().enumerate() {
        byte |= u8::from(bit) << lane;
    }
    byte
}

#[inline(always)]
fn unpack(byte: u8) -> [bool; LANES] {
    std::array::from_fn(|lane| byte >> lane & 1 == 1)
}

/// The first of `count` bits that is 0.
fn first_unset(bytes: &[u8], count: usize) -> Option<usize> {
    let at = bytes.iter().position(|byte| *byte != u8::MAX)?;
    let bit = at * 8 + bytes[at].trailing_ones() as usize;
    (bit < count).then_some(bit)
}

// --- text and bytes ---------------------------------------------------------------------------------------------

/// Values behind offsets, on their way out.
#[doc(hidden)]
pub struct RunWriter {
    offsets: Vec<u8>,
    data: Vec<u8>,
}

/// A guess to begin with; the column then grows by doubling.
const TEXT_BYTES_GUESS: usize = 8;

impl RunWriter {
    fn new(rows: usize) -> Self {
        let mut offsets = Vec::with_capacity((rows + 1) * 4);
        offsets.extend_from_slice(&0_u32.to_le_bytes());
        Self { offsets, data: Vec::with_capacity(rows * TEXT_BYTES_GUESS) }
    }

    #[inline(always)]
    fn push(&mut self, value: &[u8]) {
        append(&mut self.data, value);
        self.close();
    }

    #[inline(always)]
    fn close(&mut self) {
        self.offsets.extend_from_slice(&(self.data.len() as u32).to_le_bytes());
    }

    fn finish(self) -> ColumnBuffer {
        // Offsets only grow: if the last one fits, all before it were not cut either.
        let bytes = self.data.len();
        assert!(
            u32::try_from(bytes).is_ok(),
            "a column of {bytes} bytes; 32-bit offsets allow 4 GiB a batch"
        );
        ColumnBuffer { validity: None, offsets: Some(self.offsets), data: self.data }
    }
}

/// From how many bytes on a call to copy them is worth it, measured with words and with lines.
const COPY_BYTES_MIN: usize = 32;

/// Appends a value. In a component, a copy whose length is not known in advance is a call into the host's runtime, dearer than
/// a short word itself: so those go in pieces of known length.
#[inline(always)]
fn append(data: &mut Vec<u8>, value: &[u8]) {
    if cfg!(not(target_family = "wasm")) || value.len() >= COPY_BYTES_MIN {
        return data.extend_from_slice(value);
    }
    let (eights, mut rest) = value.as_chunks::<8>();
    eights.iter().for_each(|eight| data.extend_from_slice(eight));
    if let Some((four, after)) = rest.split_first_chunk::<4>() {
        data.extend_from_slice(four);
        rest = after;
    }
    if let Some((two, after)) = rest.split_first_chunk::<2>() {
        data.extend_from_slice(two);
        rest = after;
    }
    if let Some(one) = rest.first() {
        data.push(*one);
    }
}

/// A column of text (`D` is `str`) or bytes (`[u8]`), whose offsets are in order and within it.
#[doc(hidden)]
pub struct RunReader<'a, D: ?Sized> {
    data: &'a D,
    offsets: &'a [[u8; 4]],
    full: usize,
}

impl<'a> RunReader<'a, [u8]> {
    fn bytes(column: &Column<'a>, rows: usize) -> Result<Self, String> {
        if rows == 0 {
            return Ok(Self { data: &[], offsets: &[], full: 0 });
        }
        let offsets = column.offsets.ok_or("has no offsets")?;
        let offsets =
            offsets.as_chunks::<4>().0.get(..rows + 1).ok_or_else(|| short(offsets, rows + 1, 4))?;
        if !in_order(offsets) || offset(offsets[rows]) > column.data.len() {
            return Err(format!("has offsets that do not fit its {} bytes of data", column.data.len()));
        }
        Ok(Self { data: column.data, offsets, full: rows / LANES * LANES })
    }
}

/// Whether each offset is at least as large as the one before. Looks at all of them without a branch, which is faster than
/// stopping early in the one case that never happens.
fn in_order(offsets: &[[u8; 4]]) -> bool {
    let falls = |pair: (&[u8; 4], &[u8; 4])| u32::from_le_bytes(*pair.0) > u32::from_le_bytes(*pair.1);
    let (lower, upper) = (&offsets[..offsets.len() - 1], &offsets[1..]);
    let (lower_blocks, lower) = lower.as_chunks::<LANES>();
    let (upper_blocks, upper) = upper.as_chunks::<LANES>();
    let mut fallen = false;
    for (lower, upper) in lower_blocks.iter().zip(upper_blocks) {
        for lane in 0..LANES {
            fallen |= falls((&lower[lane], &upper[lane]));
        }
    }
    !fallen && !lower.iter().zip(upper).any(falls)
}

impl<'a> RunReader<'a, str> {
    fn text(column: &Column<'a>, rows: usize) -> Result<Self, String> {
        let RunReader { data, offsets, full } = RunReader::bytes(column, rows)?;
        let data = std::str::from_utf8(data).map_err(|error| format!("is not UTF-8: {error}"))?;
        if !data.is_ascii() && !offsets.iter().all(|at| data.is_char_boundary(offset(*at))) {
            return Err("has an offset inside of a character".into());
        }
        Ok(Self { data, offsets, full })
    }
}

impl<'a, D: ?Sized> RunReader<'a, D> {
    #[inline(always)]
    fn block<T>(
        &self,
        index: usize,
        mut value: impl FnMut(&'a D, std::ops::Range<usize>) -> T,
    ) -> [T; LANES] {
        let offsets = &self.offsets[index * LANES..index * LANES + LANES + 1];
        std::array::from_fn(|lane| value(self.data, offset(offsets[lane])..offset(offsets[lane + 1])))
    }

    #[inline(always)]
    fn tail<T>(&self, lane: usize, value: impl FnOnce(&'a D, std::ops::Range<usize>) -> T) -> T {
        let row = self.full + lane;
        value(self.data, offset(self.offsets[row])..offset(self.offsets[row + 1]))
    }
}

#[inline(always)]
fn offset(bytes: [u8; 4]) -> usize {
    u32::from_le_bytes(bytes) as usize
}

macro_rules! runs {
    ([$($lifetime:lifetime)?] $value:ty as $data_type:ident behind $reader:ident($data:ty), fixed: $fixed:literal,
        read: $read:expr, write: $write:expr) => {
        impl<$($lifetime)?> FieldType for $value {
            const DATA_TYPE: DataType = DataType::$data_type;
            const FIXED: bool = $fixed;
            type Writer = RunWriter;

            fn writer(rows: usize) -> RunWriter {
                RunWriter::new(rows)
            }

            #[inline(always)]
            fn push(writer: &mut RunWriter, value: Self) {
                let write: fn(&mut RunWriter, Self) = $write;
                write(writer, value);
            }

            #[inline(always)]
            fn push_block(writer: &mut RunWriter, values: [Self; LANES]) {
                for value in values {
                    <Self as FieldType>::push(writer, value);
                }
            }

            fn finish(writer: RunWriter) -> ColumnBuffer {
                writer.finish()
            }
        }

        impl<'a> FromColumn<'a> for $value {
            type Reader = RunReader<'a, $data>;

            fn reader(column: &Column<'a>, rows: usize) -> Result<Self::Reader, String> {
                all_present(column, rows)?;
                RunReader::$reader(column, rows)
            }

            #[inline(always)]
            fn block(reader: &Self::Reader, index: usize) -> [Self; LANES] {
                reader.block(index, $read)
            }

            #[inline(always)]
            fn tail(reader: &Self::Reader, lane: usize) -> Self {
                reader.tail(lane, $read)
            }
        }
    };
}

// The offsets have been checked, so nothing is ever missing; but a read that cannot panic is one that the compiler can leave
// out where the operator does not look at the field.
runs!(['a] &'a str as Text behind text(str), fixed: true,
    read: |text, at| text.get(at).unwrap_or_default(), write: |column, value| column.push(value.as_bytes()));
runs!([] String as Text behind text(str), fixed: false,
    read: |text, at| text.get(at).unwrap_or_default().to_owned(), write: |column, value| column.push(value.as_bytes()));
runs!(['a] &'a [u8] as Bytes behind bytes([u8]), fixed: true,
    read: |bytes, at| bytes.get(at).unwrap_or_default(), write: |column, value| column.push(value));
runs!([] Vec<u8> as Bytes behind bytes([u8]), fixed: false,
    read: |bytes, at| bytes.get(at).unwrap_or_default().to_owned(), write: |column, value| column.push(&value));
// A rest of fewer than eight bytes is left out: only this type's own writer makes such columns.
runs!([] Vec<i64> as Bytes behind bytes([u8]), fixed: false,
read: |bytes, at| bytes.get(at).unwrap_or_default().as_chunks::<8>().0.iter().map(|item| i64::from_le_bytes(*item)).collect(),
write: |column, value| {
    column.data.extend(value.into_iter().flat_map(i64::to_le_bytes));
    column.close();
});

// --- values that may be absent ----------------------------------------------------------------------------------

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

// --- what can be wrong with a column ----------------------------------------------------------------------------

fn all_present(column: &Column<'_>, rows: usize) -> Result<(), String> {
    let Some(bits) = column.validity else { return Ok(()) };
    let bytes = rows.div_ceil(8);
    let bits = bits.get(..bytes).ok_or_else(|| short(bits, bytes, 1))?;
    match first_unset(bits, rows) {
        None => Ok(()),
        Some(row) => Err(format!("has no value in row {row}, but its type is not an `Option`")),
    }
}

#[cold]
fn short(buffer: &[u8], items: usize, bytes_each: usize) -> String {
    format!("has a buffer of {} bytes, too short for {items} items of {bytes_each}", buffer.len())
}
