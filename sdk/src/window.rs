//! Window operators: what their author writes ([`Window`]), and what runs whole batches ([`WindowOperator`]).

use crate::batch::{Batch, Emission, Rejection};
use crate::operator::{Description, Opened, open, output};
use crate::outcome::{Outcome, Reject, Sink};
use crate::record::{Checked, FromRow, Record};
use crate::settings::Settings;
use crate::value::Timestamp;

/// An operator that sees all the rows of a window at once. The host forms the windows, of a key and a stretch of time,
/// keeps their rows, and decides when a result is due.
///
/// For what needs all rows, such as a median; what can be folded row by row costs less as an
/// [`Aggregate`](crate::Aggregate).
///
/// ```
/// use tidemill_sdk::prelude::*;
///
/// #[derive(Record)]
/// struct Departure { delay: i64 }
///
/// #[derive(Record, Debug, PartialEq)]
/// struct Spread { minutes: i64 }
///
/// /// How far the delays of flights that follow one another lie apart at most.
/// #[derive(Default)]
/// struct Widest;
///
/// #[operator]
/// impl Window for Widest {
///     type Input<'a> = Departure;
///     type Output<'a> = Option<Spread>;
///
///     fn evaluate(&self, _: Bounds, departures: Vec<Departure>) -> Option<Spread> {
///         let minutes = departures.windows(2).map(|two| (two[1].delay - two[0].delay).abs()).max()?;
///         Some(Spread { minutes })
///     }
/// }
///
/// let departures = [0, 25, 20].map(|delay| Departure { delay });
/// let hour = Bounds { start: Timestamp(0), end: Timestamp(3_600_000) };
/// assert_eq!(Widest.evaluate(hour, departures.into()), Some(Spread { minutes: 25 }));
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a window operator",
    note = "write `impl Window for {Self}`"
)]
pub trait Window: Sized + 'static {
    /// The fields that the operator reads; `()` if it reads none.
    type Input<'a>: FromRow<'a>;
    /// The rows that come of a window: a record, or `Option` or `Vec` of one. In a `Result`, an error refuses all of the
    /// window's rows.
    type Output<'a>: Outcome;

    /// Reads the settings; called once, before any data.
    ///
    /// # Errors
    /// If a setting is missing or wrong: what it should be.
    fn open(settings: &mut Settings) -> Result<Self, String>;

    /// Looks at each row before its window is evaluated. May be left out by an operator that takes every row.
    ///
    /// # Errors
    /// If the row is of no use: then [`evaluate`](Self::evaluate) doesn't see it.
    fn accept(&self, _row: &Self::Input<'_>) -> Result<(), Reject> {
        Ok(())
    }

    /// Makes something of the rows of a window, at least one, in order of event time. A window that has early or late
    /// results is evaluated for each of them.
    fn evaluate<'a>(&self, window: Bounds, rows: Vec<Self::Input<'a>>) -> Self::Output<'a>;
}

/// The bounds of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bounds {
    /// The first millisecond of the window; the earliest time there is if the window has no bounds.
    pub start: Timestamp,
    /// The first millisecond after the window; the latest time there is if the window has no bounds.
    pub end: Timestamp,
}

/// A window of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowRows {
    /// Its bounds.
    pub bounds: Bounds,
    /// Its rows end before this row of the batch; they begin where those of the window before end.
    pub rows_end: usize,
}

/// A window operator that has been opened: runs whole batches.
pub trait WindowOperator {
    /// Makes rows of windows. Origins of the emission name windows, rejections rows.
    ///
    /// # Errors
    /// If the batch does not fit the operator's description, or the windows do not fit the batch.
    fn evaluate(&self, windows: &[WindowRows], batch: Batch<'_>) -> Result<Emission, String>;
}

#[doc(hidden)]
pub fn describe_window<T: Window>(description: Description) -> Description {
    const {
        assert!(
            !<T::Output<'static> as Outcome>::SAME,
            "a window operator cannot answer with `bool`: its rows are not those that went in"
        )
    };
    Description {
        inputs: vec![<T::Input<'static> as Record>::FIELDS],
        output: output::<T::Output<'static>>(false),
        ..description
    }
}

#[doc(hidden)]
pub fn open_window<T: Window>(settings: &[(String, String)]) -> Result<Box<dyn WindowOperator>, String> {
    Ok(Box::new(Opened(open(settings, T::open)?)))
}

impl<T: Window> WindowOperator for Opened<T> {
    fn evaluate(&self, windows: &[WindowRows], batch: Batch<'_>) -> Result<Emission, String> {
        evaluate(&self.0, windows, batch)
    }
}

#[inline(always)]
fn evaluate<'a, T: Window>(
    operator: &T,
    windows: &[WindowRows],
    batch: Batch<'a>,
) -> Result<Emission, String> {
    let input = Checked::<T::Input<'a>>::new(batch.rows, batch.columns)?;
    check(windows, input.rows())?;
    let mut remaining = windows.iter().enumerate();
    let mut window = remaining.next();
    let mut rows = Vec::new();
    let mut refused = Vec::new();
    let mut sink = Sink::new(windows.len());
    input.for_each(|row, record| {
        match operator.accept(&record) {
            Ok(()) => rows.push(record),
            Err(reject) => refused.push(rejection(row, reject.reason())),
        }
        let Some((number, WindowRows { bounds, .. })) = window.filter(|(_, w)| w.rows_end == row + 1) else {
            return;
        };
        let rows = std::mem::take(&mut rows);
        if !rows.is_empty() {
            operator.evaluate(*bounds, rows).emit(number, &mut sink);
        }
        window = remaining.next();
    });
    let mut emission = sink.finish();
    emission.rejected = rejected(windows, &emission.rejected, refused);
    Ok(emission)
}

/// Windows have rows, and all rows are of a window.
fn check(windows: &[WindowRows], rows: usize) -> Result<(), String> {
    let mut begin = 0;
    for (number, window) in windows.iter().enumerate() {
        if window.rows_end <= begin {
            return Err(format!("window {number} has the rows from {begin} up to {}", window.rows_end));
        }
        begin = window.rows_end;
    }
    if begin == rows { Ok(()) } else { Err(format!("the windows have {begin} rows, but the batch {rows}")) }
}

/// Rows that were refused, one by one or with all of their window.
fn rejected(windows: &[WindowRows], whole: &[Rejection], refused: Vec<Rejection>) -> Vec<Rejection> {
    if whole.is_empty() {
        return refused;
    }
    // A row that was refused by itself has its own reason: of two the first remains.
    let mut all = refused;
    for rejected in whole {
        let window = rejected.row as usize;
        let begin = window.checked_sub(1).map_or(0, |before| windows[before].rows_end);
        all.extend((begin..windows[window].rows_end).map(|row| rejection(row, &rejected.reason)));
    }
    all.sort_by_key(|rejection| rejection.row);
    all.dedup_by_key(|rejection| rejection.row);
    all
}

fn rejection(row: usize, reason: &str) -> Rejection {
    Rejection { row: row as u32, reason: reason.to_owned() }
}
