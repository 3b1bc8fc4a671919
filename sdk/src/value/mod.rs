//! Field types: how each one is read from a column and written to one.
//!
//! Both ways go in blocks of eight rows, because eight rows are one byte of every bitmap, and because a loop
//! over a fixed eight is unrolled: the host puts an interruption check on each turn of a loop, and one check
//! for eight rows costs nothing. A column is checked once, when its reader is made; reading then needs no
//! further check.

mod bits;
mod option;
mod runs;
mod words;

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
    /// The point in time so many milliseconds later, or earlier if negative; at the end of what can be counted, that
    /// end.
    ///
    /// ```
    /// use tidemill_sdk::Timestamp;
    /// assert_eq!(Timestamp(1_000).plus_ms(-1), Timestamp(999));
    /// ```
    #[must_use]
    pub fn plus_ms(self, ms: i64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    fn to_le_bytes(self) -> [u8; 8] {
        self.0.to_le_bytes()
    }

    fn from_le_bytes(bytes: [u8; 8]) -> Self {
        Self(i64::from_le_bytes(bytes))
    }
}

/// All values of a column.
pub(crate) fn column_values<'a, F: FromColumn<'a>>(
    column: &Column<'a>,
    rows: usize,
) -> Result<Vec<F>, String> {
    let reader = F::reader(column, rows)?;
    let mut values = Vec::with_capacity(rows);
    (0..rows / LANES).for_each(|index| values.extend(F::block(&reader, index)));
    values.extend((0..rows % LANES).map(|lane| F::tail(&reader, lane)));
    Ok(values)
}

fn all_present(column: &Column<'_>, rows: usize) -> Result<(), String> {
    let Some(bits) = column.validity else { return Ok(()) };
    let bytes = rows.div_ceil(8);
    let bits = bits.get(..bytes).ok_or_else(|| short(bits, bytes, 1))?;
    match bits::first_unset(bits, rows) {
        None => Ok(()),
        Some(row) => Err(format!("has no value in row {row}, but its type is not an `Option`")),
    }
}

#[cold]
fn short(buffer: &[u8], items: usize, bytes_each: usize) -> String {
    format!("has a buffer of {} bytes, too short for {items} items of {bytes_each}", buffer.len())
}
