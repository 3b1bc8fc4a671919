//! Joins: what their author writes ([`Join`]), and what runs whole batches ([`JoinOperator`]).

use crate::batch::{Batch, Emission};
use crate::operator::{Description, Opened, open, output};
use crate::outcome::{Outcome, Sink};
use crate::record::{Checked, FromRow, Record};
use crate::settings::Settings;
use crate::value::LANES;

/// An operator that makes rows of pairs, of a row of its left input and one of its right. The host keeps both sides and
/// finds the pairs.
///
/// ```
/// use tidemill_sdk::prelude::*;
///
/// #[derive(Record)]
/// struct Departure { left_at: i64 }
///
/// #[derive(Record)]
/// struct Arrival { landed_at: i64 }
///
/// #[derive(Record, Debug, PartialEq)]
/// struct Flight { minutes: Option<i64> }
///
/// /// How long flights took, as far as they have landed.
/// #[derive(Default)]
/// struct Duration;
///
/// #[operator]
/// impl Join for Duration {
///     type Left<'a> = Departure;
///     type Right<'a> = Option<Arrival>;
///     type Output<'a> = Flight;
///
///     fn join(&self, departure: Departure, arrival: Option<Arrival>) -> Flight {
///         Flight { minutes: arrival.map(|arrival| arrival.landed_at - departure.left_at) }
///     }
/// }
///
/// assert_eq!(Duration.join(Departure { left_at: 5 }, None), Flight { minutes: None });
/// ```
#[diagnostic::on_unimplemented(message = "`{Self}` is not a join", note = "write `impl Join for {Self}`")]
pub trait Join: Sized + 'static {
    /// The fields that the operator reads of its first input; `()` if it reads none. As an `Option`, if it can do
    /// without a row of this side.
    type Left<'a>: Side<'a>;
    /// The fields that the operator reads of its second input; as [`Left`](Self::Left).
    type Right<'a>: Side<'a>;
    /// The rows that come of a pair: a record, or `Option` or `Vec` of one, perhaps in a `Result`.
    type Output<'a>: Outcome;

    /// Reads the settings; called once, before any data.
    ///
    /// # Errors
    /// If a setting is missing or wrong: what it should be.
    fn open(settings: &mut Settings) -> Result<Self, String>;

    /// Makes something of a pair. Of two `Option`s at least one is there.
    fn join<'a>(&self, left: Self::Left<'a>, right: Self::Right<'a>) -> Self::Output<'a>;
}

/// A side of a pair: a record, or an `Option` of one if the operator can do without it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a side of a join",
    label = "neither a record nor an `Option` of one",
    note = "what a join takes is a struct with `#[derive(Record)]` for each side, or `()` if it reads no field of it",
    note = "of a side that the operator can do without it is an `Option`"
)]
pub trait Side<'a>: Sized {
    /// The record.
    type Row: FromRow<'a>;
    /// Whether the operator can do without it.
    const MAY_BE_ABSENT: bool;
    /// The side of a pair that has a row there.
    #[doc(hidden)]
    fn present(row: Self::Row) -> Self;
    /// The side of a pair that has none there.
    #[doc(hidden)]
    fn absent() -> Self;
}

impl<'a, R: FromRow<'a>> Side<'a> for R {
    type Row = R;
    const MAY_BE_ABSENT: bool = false;

    #[inline(always)]
    fn present(row: R) -> R {
        row
    }

    fn absent() -> R {
        unreachable!("a batch without rows that the operator needs is refused")
    }
}

impl<'a, R: FromRow<'a>> Side<'a> for Option<R> {
    type Row = R;
    const MAY_BE_ABSENT: bool = true;

    #[inline(always)]
    fn present(row: R) -> Option<R> {
        Some(row)
    }

    #[inline(always)]
    fn absent() -> Option<R> {
        None
    }
}

/// Some of the sides of a join.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sides {
    /// The first input.
    pub left: bool,
    /// The second input.
    pub right: bool,
}

/// Pairs: row i of `left` has met row i of `right`.
#[derive(Clone, Copy, Debug)]
pub struct Pairs<'a> {
    /// The rows of the first input.
    pub left: Batch<'a>,
    /// The rows of the second input, as many.
    pub right: Batch<'a>,
    /// One bit a pair, 1 where the left row is absent; `None`: all are there.
    pub left_absent: Option<&'a [u8]>,
    /// One bit a pair, 1 where the right row is absent; `None`: all are there.
    pub right_absent: Option<&'a [u8]>,
}

/// A join that has been opened: runs whole batches.
pub trait JoinOperator {
    /// Makes rows of pairs. Origins and rejections name pairs.
    ///
    /// # Errors
    /// If the batches do not fit the operator's description, or each other, or lack rows that it needs.
    fn process(&self, pairs: Pairs<'_>) -> Result<Emission, String>;
}

#[doc(hidden)]
pub fn describe_join<T: Join>(description: Description, extend: bool) -> Description {
    const {
        assert!(
            !<T::Output<'static> as Outcome>::SAME,
            "a join cannot answer with `bool`: a pair is no row that could go on"
        )
    };
    Description {
        inputs: vec![
            <<T::Left<'static> as Side<'static>>::Row as Record>::FIELDS,
            <<T::Right<'static> as Side<'static>>::Row as Record>::FIELDS,
        ],
        output: output::<T::Output<'static>>(extend),
        absent: Sides {
            left: <T::Left<'static> as Side<'static>>::MAY_BE_ABSENT,
            right: <T::Right<'static> as Side<'static>>::MAY_BE_ABSENT,
        },
        ..description
    }
}

#[doc(hidden)]
pub fn open_join<T: Join>(settings: &[(String, String)]) -> Result<Box<dyn JoinOperator>, String> {
    Ok(Box::new(Opened(open(settings, T::open)?)))
}

impl<T: Join> JoinOperator for Opened<T> {
    fn process(&self, pairs: Pairs<'_>) -> Result<Emission, String> {
        process(&self.0, pairs)
    }
}

#[inline(always)]
fn process<'a, T: Join>(operator: &T, pairs: Pairs<'a>) -> Result<Emission, String> {
    let (left, right) = (pairs.left, pairs.right);
    if left.rows != right.rows {
        return Err(format!("{} left rows cannot be paired with {} right ones", left.rows, right.rows));
    }
    let left = Rows::<T::Left<'a>>::new("left", left, pairs.left_absent)?;
    let right = Rows::<T::Right<'a>>::new("right", right, pairs.right_absent)?;
    let mut sink = Sink::new(pairs.left.rows);
    let blocks = left.rows.blocks();
    for index in 0..blocks {
        let (mut lefts, mut rights) = (left.rows.lanes(index), right.rows.lanes(index));
        for lane in 0..LANES {
            let pair = index * LANES + lane;
            let left = left.side(pair, || FromRow::take(&mut lefts, lane));
            let right = right.side(pair, || FromRow::take(&mut rights, lane));
            operator.join(left, right).emit(pair, &mut sink);
        }
    }
    for pair in blocks * LANES..pairs.left.rows {
        let left_row = left.side(pair, || left.rows.row(pair));
        let right_row = right.side(pair, || right.rows.row(pair));
        operator.join(left_row, right_row).emit(pair, &mut sink);
    }
    Ok(sink.finish())
}

/// The rows of one side, and where there are none.
struct Rows<'a, S: Side<'a>> {
    rows: Checked<'a, S::Row>,
    absent: Option<&'a [u8]>,
}

impl<'a, S: Side<'a>> Rows<'a, S> {
    #[inline(always)]
    fn new(side: &str, batch: Batch<'a>, absent: Option<&'a [u8]>) -> Result<Self, String> {
        if absent.is_some() && !S::MAY_BE_ABSENT {
            return Err(format!("there are pairs without a {side} row, but the operator needs it"));
        }
        if let Some(bits) = absent.filter(|bits| bits.len() < batch.rows.div_ceil(8)) {
            return Err(format!("{} bytes say which {side} rows are absent of {}", bits.len(), batch.rows));
        }
        let rows = Checked::new(batch.rows, batch.columns).map_err(|wrong| format!("{side}: {wrong}"))?;
        Ok(Self { rows, absent })
    }

    #[inline(always)]
    fn side(&self, pair: usize, row: impl FnOnce() -> S::Row) -> S {
        match self.absent {
            Some(bits) if bits[pair / 8] >> (pair % 8) & 1 == 1 => S::absent(),
            _ => S::present(row()),
        }
    }
}
