//! A stand-in for the host of a window operator.

use super::{Came, borrow, came, columns};
use crate::batch::Batch;
use crate::record::{FromRow, Record};
use crate::window::{Bounds, WindowOperator, WindowRows};

/// Runs a window operator as the host does, with the rows of several windows in one batch. What came out has the numbers
/// of windows; what was refused, those of rows in the batch.
///
/// # Errors
/// If a window has no row, or the rows don't fit the operator.
///
/// ```
/// use tidemill_sdk::{prelude::*, testing};
///
/// #[derive(Record)]
/// struct Reading { degrees: f64 }
///
/// #[derive(Default)]
/// struct Last;
///
/// #[operator]
/// impl Window for Last {
///     type Input<'a> = Reading;
///     type Output<'a> = Option<Reading>;
///
///     fn evaluate(&self, _: Bounds, mut readings: Vec<Reading>) -> Option<Reading> {
///         readings.pop()
///     }
/// }
///
/// let day = |n: i64| Bounds { start: Timestamp(n * 86_400_000), end: Timestamp((n + 1) * 86_400_000) };
/// let of = |degrees: &[f64]| degrees.iter().map(|&degrees| Reading { degrees }).collect::<Vec<_>>();
/// let came = testing::evaluate::<_, Reading>(&*open(&[])?, [(day(0), of(&[3.5])), (day(1), of(&[5.0, -1.0]))])?;
/// assert_eq!(came.rows[1].1.degrees, -1.0);
/// # Ok::<(), String>(())
/// ```
pub fn evaluate<R: Record, O: for<'a> FromRow<'a>>(
    operator: &dyn WindowOperator,
    windows: impl IntoIterator<Item = (Bounds, Vec<R>)>,
) -> Result<Came<usize, O>, String> {
    let mut all = Vec::new();
    let window = |(bounds, rows): (Bounds, Vec<R>)| {
        all.extend(rows);
        WindowRows { bounds, rows_end: all.len() }
    };
    let windows: Vec<WindowRows> = windows.into_iter().map(window).collect();
    let rows = all.len();
    came(&operator.evaluate(&windows, Batch { rows, columns: &borrow(&columns(all)) })?)
}
