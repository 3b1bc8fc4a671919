//! A stand-in for the host of a join.

use super::{Came, borrow, came};
use crate::batch::{Batch, ColumnBuffer};
use crate::join::{JoinOperator, Pairs};
use crate::record::{FromRow, Record};

/// Runs a join as the host does, with pairs in one batch; `None` is a side that is absent. What came out and what was
/// refused have the numbers of pairs.
///
/// # Errors
/// If the rows don't fit the operator, or a side is absent that it needs.
///
/// ```
/// use tidemill_sdk::{prelude::*, testing};
///
/// #[derive(Record)]
/// struct Order { amount: f64 }
/// #[derive(Record)]
/// struct Discount { percent: f64 }
/// #[derive(Record, Debug, PartialEq)]
/// struct Price { price: f64 }
///
/// #[derive(Default)]
/// struct Discounted;
///
/// #[operator]
/// impl Join for Discounted {
///     type Left<'a> = Order;
///     type Right<'a> = Option<Discount>;
///     type Output<'a> = Price;
///
///     fn join(&self, order: Order, discount: Option<Discount>) -> Price {
///         let percent = discount.map_or(0.0, |discount| discount.percent);
///         Price { price: order.amount * (1.0 - percent / 100.0) }
///     }
/// }
///
/// let pairs = [(Some(Order { amount: 8.0 }), Some(Discount { percent: 25.0 })), (Some(Order { amount: 5.0 }), None)];
/// let came = testing::join(&*open(&[])?, pairs)?;
/// assert_eq!(came.rows, [(0, Price { price: 6.0 }), (1, Price { price: 5.0 })]);
/// # Ok::<(), String>(())
/// ```
pub fn join<L: Record, R: Record, O: for<'a> FromRow<'a>>(
    operator: &dyn JoinOperator,
    pairs: impl IntoIterator<Item = (Option<L>, Option<R>)>,
) -> Result<Came<usize, O>, String> {
    let (lefts, rights): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
    let rows = lefts.len();
    let (left_absent, right_absent) = (absent(&lefts), absent(&rights));
    let (lefts, rights) = (side(lefts), side(rights));
    let (left, right) = (borrow(&lefts), borrow(&rights));
    let pairs = Pairs {
        left: Batch { rows, columns: &left },
        right: Batch { rows, columns: &right },
        left_absent: left_absent.as_deref(),
        right_absent: right_absent.as_deref(),
    };
    came(&operator.process(pairs)?)
}

fn absent<R>(rows: &[Option<R>]) -> Option<Vec<u8>> {
    let mut bits = vec![0; rows.len().div_ceil(8)];
    let absent = rows.iter().enumerate().filter(|(_, row)| row.is_none());
    absent.for_each(|(row, _)| bits[row / 8] |= 1 << (row % 8));
    bits.iter().any(|byte| *byte != 0).then_some(bits)
}

/// The columns of a side, with defaults where a row is absent.
fn side<R: Record>(rows: Vec<Option<R>>) -> Vec<ColumnBuffer> {
    let mut writers = R::writers(rows.len());
    for row in rows {
        match row {
            Some(row) => row.push(&mut writers),
            None => R::push_lane(&mut writers, &mut R::empty_block(), 0),
        }
    }
    R::finish(writers)
}
