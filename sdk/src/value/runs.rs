//! Values of any length behind offsets: text, bytes, and lists of `i64` as their bytes.

use std::ops::Range;

use super::{FieldType, FromColumn, LANES, all_present, short};
use crate::batch::{Column, ColumnBuffer, DataType};

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

/// Appends a value. In a component, a copy whose length is not known in advance is a call into the host's
/// runtime, dearer than a short word itself: so those go in pieces of known length.
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

/// Whether each offset is at least as large as the one before. Looks at all of them without a branch, which
/// is faster than stopping early in the one case that never happens.
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
    fn block<T>(&self, index: usize, mut value: impl FnMut(&'a D, Range<usize>) -> T) -> [T; LANES] {
        let offsets = &self.offsets[index * LANES..index * LANES + LANES + 1];
        std::array::from_fn(|lane| value(self.data, offset(offsets[lane])..offset(offsets[lane + 1])))
    }

    #[inline(always)]
    fn tail<T>(&self, lane: usize, value: impl FnOnce(&'a D, Range<usize>) -> T) -> T {
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

// The offsets have been checked, so nothing is ever missing; but a read that cannot panic is one that the
// compiler can leave out where the operator does not look at the field.
runs!(['a] &'a str as Text behind text(str), fixed: true,
    read: |text, at| text.get(at).unwrap_or_default(),
    write: |column, value| column.push(value.as_bytes()));
runs!([] String as Text behind text(str), fixed: false,
    read: |text, at| text.get(at).unwrap_or_default().to_owned(),
    write: |column, value| column.push(value.as_bytes()));
runs!(['a] &'a [u8] as Bytes behind bytes([u8]), fixed: true,
    read: |bytes, at| bytes.get(at).unwrap_or_default(),
    write: |column, value| column.push(value));
runs!([] Vec<u8> as Bytes behind bytes([u8]), fixed: false,
    read: |bytes, at| bytes.get(at).unwrap_or_default().to_owned(),
    write: |column, value| column.push(&value));
runs!([] Vec<i64> as Bytes behind bytes([u8]), fixed: false,
    read: |bytes, at| items(bytes.get(at).unwrap_or_default()),
    write: push_items);

/// A rest of fewer than eight bytes is left out: only this type's own writer makes such columns.
fn items(bytes: &[u8]) -> Vec<i64> {
    bytes.as_chunks::<8>().0.iter().map(|item| i64::from_le_bytes(*item)).collect()
}

fn push_items(column: &mut RunWriter, items: Vec<i64>) {
    column.data.extend(items.into_iter().flat_map(i64::to_le_bytes));
    column.close();
}
