//! For unit tests of operators: rows in, rows out, through the same columns that the host hands over.

mod keyed;
mod memory;
mod pairs;
mod windows;

pub use keyed::{Came, Keyed};
pub use pairs::join;
pub use windows::evaluate;

use crate::batch::{Column, ColumnBuffer, Emission};
use crate::operator::{read, write};
use crate::record::{Checked, FromRow, Record};

/// Rows as the columns of a batch.
///
/// ```
/// use tidemill_sdk::{prelude::*, testing};
///
/// #[derive(Record, Debug, PartialEq)]
/// struct Word<'a> { word: &'a str }
///
/// let columns = testing::columns([Word { word: "tide" }, Word { word: "mill" }]);
/// assert_eq!(testing::rows::<Word<'_>>(&columns, 2)?[1], Word { word: "mill" });
/// # Ok::<(), String>(())
/// ```
pub fn columns<R: Record>(
    rows: impl IntoIterator<Item = R, IntoIter: ExactSizeIterator>,
) -> Vec<ColumnBuffer> {
    write(rows)
}

/// The rows of a batch.
///
/// # Errors
/// If the columns do not fit the fields of `R`.
pub fn rows<'a, R: FromRow<'a>>(columns: &'a [ColumnBuffer], rows: usize) -> Result<Vec<R>, String> {
    Ok(read(&Checked::new(rows, &borrow(columns))?))
}

/// The rows that came out.
///
/// # Errors
/// If the columns do not fit the fields of `R`.
pub fn emitted<'a, R: FromRow<'a>>(emission: &'a Emission) -> Result<Vec<R>, String> {
    rows(&emission.columns, emission.rows as usize)
}

/// Columns as the next operator is given them.
pub fn borrow(columns: &[ColumnBuffer]) -> Vec<Column<'_>> {
    columns.iter().map(ColumnBuffer::as_column).collect()
}

/// For each row that came out, what it came from.
fn origins(emission: &Emission) -> Vec<usize> {
    match &emission.origins {
        Some(origins) => origins.as_chunks::<4>().0.iter().map(|o| u32::from_le_bytes(*o) as usize).collect(),
        None => (0..emission.rows as usize).collect(),
    }
}

/// What came out: rows with the numbers of what they came from, and refusals with those of what was refused.
fn came<O: for<'a> FromRow<'a>>(emission: &Emission) -> Result<Came<usize, O>, String> {
    let rejected = emission.rejected.iter().map(|r| (r.row as usize, r.reason.clone()));
    Ok(Came {
        rows: origins(emission).into_iter().zip(emitted(emission)?).collect(),
        rejected: rejected.collect(),
    })
}
