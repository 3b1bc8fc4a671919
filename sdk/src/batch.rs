//! What crosses the border: columns as whole buffers, in the layout of `wit/operator.wit`.
//!
//! A batch that comes in is borrowed ([`Batch`], [`Column`]); one that goes out is owned ([`Emission`],
//! [`ColumnBuffer`]), so that its buffers are handed over without a copy. All integers are little-endian,
//! and all bitmaps have their least significant bit first.

/// The type of a field, as the contract names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataType {
    /// `bool`: one bit a row.
    Boolean,
    /// `i64`: 8 bytes a row.
    Integer,
    /// `f64`: 8 bytes a row.
    Float,
    /// `&str` or `String`: UTF-8 behind offsets.
    Text,
    /// `&[u8]` or `Vec<u8>`, and `Vec<i64>` as 8 bytes an item: bytes behind offsets.
    Bytes,
    /// [`Timestamp`](crate::Timestamp): milliseconds since the Unix epoch, 8 bytes a row.
    Timestamp,
}

/// A field of a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// The field's name in the data, after any renaming.
    pub name: &'static str,
    /// What it holds.
    pub data_type: DataType,
    /// Whether a row may have no value here.
    pub nullable: bool,
}

/// One column of a batch that comes in. Its type stands in the schema.
///
/// ```
/// use tidemill_sdk::Column;
/// let numbers: Vec<u8> = [1_i64, 2, 3].into_iter().flat_map(i64::to_le_bytes).collect();
/// let column = Column { validity: None, offsets: None, data: &numbers };
/// # assert_eq!(column.data.len(), 24);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Column<'a> {
    /// One bit a row, 1 where a value is present; `None`: all are.
    pub validity: Option<&'a [u8]>,
    /// Text and bytes only: rows + 1 offsets into `data`, 4 bytes each.
    pub offsets: Option<&'a [u8]>,
    /// The values.
    pub data: &'a [u8],
}

/// Rows in arrival order; columns in the order of the fields that the operator reads.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// How many rows each column has.
    pub rows: usize,
    /// One column for each field.
    pub columns: &'a [Column<'a>],
}

/// One column of a batch that goes out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ColumnBuffer {
    /// As in [`Column`].
    pub validity: Option<Vec<u8>>,
    /// As in [`Column`].
    pub offsets: Option<Vec<u8>>,
    /// As in [`Column`].
    pub data: Vec<u8>,
}

impl ColumnBuffer {
    /// The same column, borrowed: what the next operator would be given.
    pub fn as_column(&self) -> Column<'_> {
        Column { validity: self.validity.as_deref(), offsets: self.offsets.as_deref(), data: &self.data }
    }
}

/// What an operator makes of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Emission {
    /// How many rows each column has; for a filter, how many it kept.
    pub rows: u32,
    /// For each output row the input row that it came from, 4 bytes each; `None`: row i came from row i.
    pub origins: Option<Vec<u8>>,
    /// One column for each field of the output; none for a filter.
    pub columns: Vec<ColumnBuffer>,
    /// Input rows that the operator refused.
    pub rejected: Vec<Rejection>,
}

/// An input row that the operator refused; the host files it as a dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Its number in the batch.
    pub row: u32,
    /// Why, for people.
    pub reason: String,
}
