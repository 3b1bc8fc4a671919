//! Rows as structs: what `#[derive(Record)]` writes, and the loop that reads a whole batch.

use crate::batch::{Column, ColumnBuffer, Field};
use crate::value::{FromColumn, LANES};

/// A row's fields as a struct; written by `#[derive(Record)]`.
///
/// A record may borrow its text from the batch, may be empty, and may be a `()`.
/// `#[record(rename_all = "camelCase")]` on the struct and `#[record(name = "dateTime")]` on a field give the
/// names in the data; `#[record(time)]` on a [`Timestamp`](crate::Timestamp) reads the row's event time.
///
/// ```
/// use tidemill_sdk::prelude::*;
///
/// #[derive(Record)]
/// #[record(rename_all = "camelCase")]
/// struct Flight<'a> {
///     origin: &'a str,
///     dep_delay: Option<i64>,
///     #[record(time)]
///     at: Timestamp,
/// }
/// let names: Vec<_> = Flight::FIELDS.iter().map(|field| field.name).collect();
/// assert_eq!(names, ["origin", "depDelay", "$time"]);
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a record",
    label = "not a record",
    note = "a row is a struct with `#[derive(Record)]`"
)]
pub trait Record: Sized {
    /// The fields, in the order of the struct.
    const FIELDS: &'static [Field];
    /// Whether a clone costs nothing, because no field owns memory.
    #[doc(hidden)]
    const FIXED: bool;
    /// The columns on their way out.
    #[doc(hidden)]
    type Writers;
    /// Eight rows on their way out, column by column.
    #[doc(hidden)]
    type Block;
    #[doc(hidden)]
    fn writers(rows: usize) -> Self::Writers;
    #[doc(hidden)]
    fn empty_block() -> Self::Block;
    #[doc(hidden)]
    fn put(self, block: &mut Self::Block, lane: usize);
    #[doc(hidden)]
    fn push_block(writers: &mut Self::Writers, block: Self::Block);
    #[doc(hidden)]
    fn push_lane(writers: &mut Self::Writers, block: &mut Self::Block, lane: usize);
    #[doc(hidden)]
    fn push(self, writers: &mut Self::Writers);
    #[doc(hidden)]
    fn finish(writers: Self::Writers) -> Vec<ColumnBuffer>;
    #[doc(hidden)]
    fn duplicate(&self) -> Self;
}

/// A record that can be read from a batch of lifetime `'a`; written by `#[derive(Record)]`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a record that can be read from a batch",
    label = "not a record",
    note = "what an operator takes is a struct with `#[derive(Record)]`, or `()` if it reads no field"
)]
pub trait FromRow<'a>: Record {
    /// The columns, found to fit.
    #[doc(hidden)]
    type Readers;
    /// Eight rows, column by column.
    #[doc(hidden)]
    type Lanes;
    #[doc(hidden)]
    fn readers(columns: &[Column<'a>], rows: usize) -> Result<Self::Readers, String>;
    #[doc(hidden)]
    fn lanes(readers: &Self::Readers, index: usize) -> Self::Lanes;
    #[doc(hidden)]
    fn take(lanes: &mut Self::Lanes, lane: usize) -> Self;
    #[doc(hidden)]
    fn tail(readers: &Self::Readers, lane: usize) -> Self;
}

impl Record for () {
    const FIELDS: &'static [Field] = &[];
    const FIXED: bool = true;
    type Writers = ();
    type Block = ();
    fn writers(_rows: usize) {}
    fn empty_block() {}
    fn put(self, _block: &mut (), _lane: usize) {}
    fn push_block(_writers: &mut (), _block: ()) {}
    fn push_lane(_writers: &mut (), _block: &mut (), _lane: usize) {}
    fn push(self, _writers: &mut ()) {}
    fn finish(_writers: ()) -> Vec<ColumnBuffer> {
        Vec::new()
    }
    fn duplicate(&self) {}
}

impl FromRow<'_> for () {
    type Readers = ();
    type Lanes = ();
    fn readers(_columns: &[Column<'_>], _rows: usize) -> Result<(), String> {
        Ok(())
    }
    fn lanes(_readers: &(), _index: usize) {}
    fn take(_lanes: &mut (), _lane: usize) {}
    fn tail(_readers: &(), _lane: usize) {}
}

/// A batch whose columns fit the fields of `R`: checked once, then trusted.
pub struct Checked<'a, R: FromRow<'a>> {
    rows: usize,
    readers: R::Readers,
}

impl<'a, R: FromRow<'a>> Checked<'a, R> {
    /// Checks every column of a batch.
    ///
    /// # Errors
    /// If there are not as many columns as `R` has fields, or one does not fit: it is named, with what is
    /// wrong.
    #[inline(always)]
    pub fn new(rows: usize, columns: &[Column<'a>]) -> Result<Self, String> {
        let (wanted, found) = (R::FIELDS.len(), columns.len());
        if wanted != found {
            return Err(format!("the batch has {found} columns; the operator described {wanted}"));
        }
        if u32::try_from(rows).is_err() {
            return Err(format!("the batch has {rows} rows; the contract counts them in 32 bits"));
        }
        Ok(Self { rows, readers: R::readers(columns, rows)? })
    }

    /// How many rows the batch has.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Calls `f` with every row and its number, in order.
    #[inline(always)]
    pub fn for_each(&self, mut f: impl FnMut(usize, R)) {
        for index in 0..self.blocks() {
            let mut lanes = self.lanes(index);
            for lane in 0..LANES {
                f(index * LANES + lane, R::take(&mut lanes, lane));
            }
        }
        self.for_each_in_tail(f);
    }

    /// How many full blocks the batch has.
    #[inline(always)]
    pub(crate) fn blocks(&self) -> usize {
        self.rows / LANES
    }

    #[inline(always)]
    pub(crate) fn lanes(&self, index: usize) -> R::Lanes {
        R::lanes(&self.readers, index)
    }

    /// The rows behind the last full block.
    #[inline(always)]
    pub(crate) fn for_each_in_tail(&self, mut f: impl FnMut(usize, R)) {
        let first = self.blocks() * LANES;
        for lane in 0..self.rows - first {
            f(first + lane, R::tail(&self.readers, lane));
        }
    }

    /// One row. For the odd look back; a batch is read with [`for_each`](Self::for_each).
    pub(crate) fn row(&self, row: usize) -> R {
        if row / LANES < self.blocks() {
            R::take(&mut self.lanes(row / LANES), row % LANES)
        } else {
            R::tail(&self.readers, row % LANES)
        }
    }
}

/// A column of a record, checked; an error names the field. For the derive.
#[doc(hidden)]
#[inline(always)]
pub fn reader<'a, F: FromColumn<'a>>(
    column: &Column<'a>,
    field: &Field,
    rows: usize,
) -> Result<F::Reader, String> {
    F::reader(column, rows).map_err(|wrong| format!("column `{}` {wrong}", field.name))
}
