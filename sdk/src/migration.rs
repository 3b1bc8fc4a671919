//! Migrations: what makes an operator's state of what earlier versions of it kept.

use crate::batch::{Batch, ColumnBuffer, Field};
use crate::operator::{Aggregate, write};
use crate::outcome::Reject;
use crate::process::Process;
use crate::record::{Checked, FromRow};
use crate::state::State;

/// What a migration may return: the state `S`, or a `Result` of it whose error says why there is none, which stops the
/// start of the pipeline and loses nothing.
///
/// Where a checkpoint has state that this version's fields don't tell the whole of, a plain function takes one row of the
/// old state and returns one of the new. It is named in `#[operator(migrate(..))]`; there may be one for each state that
/// earlier versions had. The old state is a [`Record`](crate::Record) with the same names, types and order of fields as it was described
/// then; of a [`Process`] its values, each an `Option`. Collections stay as they are.
///
/// ```
/// use tidemill_sdk::prelude::*;
///
/// #[derive(Record)]
/// struct Visit { seconds: i64 }
///
/// /// What version 1 kept.
/// #[derive(Record)]
/// struct Sums { visits: i64, seconds: i64 }
///
/// #[derive(Record, Default, Debug, PartialEq)]
/// struct Mean { visits: i64, mean: f64 }
///
/// #[derive(Default)]
/// struct Visits;
///
/// #[operator(migrate(of_sums))]
/// impl Aggregate for Visits {
///     type Input<'a> = Visit;
///     type Accumulator = Mean;
///     type Output = Mean;
///
///     fn add(&self, mean: &mut Mean, visit: Visit) -> Result<(), Reject> {
///         mean.visits += 1;
///         mean.mean += (visit.seconds as f64 - mean.mean) / mean.visits as f64;
///         Ok(())
///     }
///
///     fn merge(&self, left: &mut Mean, right: Mean) {
///         let visits = left.visits + right.visits;
///         left.mean += (right.mean - left.mean) * right.visits as f64 / visits.max(1) as f64;
///         left.visits = visits;
///     }
///
///     fn finish(&self, mean: Mean) -> Mean {
///         mean
///     }
/// }
///
/// fn of_sums(Sums { visits, seconds }: Sums) -> Mean {
///     Mean { visits, mean: seconds as f64 / visits.max(1) as f64 }
/// }
///
/// assert_eq!(of_sums(Sums { visits: 2, seconds: 5 }), Mean { visits: 2, mean: 2.5 });
/// assert_eq!(earlier()[0][1].name, "seconds");
/// ```
#[diagnostic::on_unimplemented(
    message = "a migration cannot return `{Self}` here",
    label = "not this operator's state",
    note = "it returns `{S}`, what the operator keeps now, or a `Result` of that"
)]
pub trait Migrated<S> {
    #[doc(hidden)]
    fn into_state(self) -> Result<S, Reject>;
}

impl<S> Migrated<S> for S {
    fn into_state(self) -> Result<S, Reject> {
        Ok(self)
    }
}

impl<S, E: Into<Reject>> Migrated<S> for Result<S, E> {
    fn into_state(self) -> Result<S, Reject> {
        self.map_err(Into::into)
    }
}

// --- what `#[operator]` calls
// -----------------------------------------------------------------------------------

/// The fields of the state that a migration takes.
#[doc(hidden)]
pub fn earlier<'a, F: FromRow<'a>, M>(_migration: impl FnMut(F) -> M) -> &'static [Field] {
    F::FIELDS
}

#[doc(hidden)]
pub fn migrate_aggregate<'a, T: Aggregate, F: FromRow<'a>, M: Migrated<T::Accumulator>>(
    rows: Batch<'a>,
    migration: impl FnMut(F) -> M,
) -> Result<Vec<ColumnBuffer>, String> {
    Ok(write(migrated(rows, migration)?))
}

#[doc(hidden)]
pub fn migrate_process<'a, T: Process, F: FromRow<'a>, M: Migrated<T::State>>(
    rows: Batch<'a>,
    migration: impl FnMut(F) -> M,
) -> Result<Vec<ColumnBuffer>, String> {
    let states: Vec<T::State> = migrated(rows, migration)?;
    if states.iter().any(State::has_entries) {
        return Err("a migration can't change collections: they stay as they are".to_owned());
    }
    Ok(write(states.iter().map(State::values).collect::<Vec<_>>()))
}

fn migrated<'a, S, F: FromRow<'a>, M: Migrated<S>>(
    rows: Batch<'a>,
    mut migration: impl FnMut(F) -> M,
) -> Result<Vec<S>, String> {
    let rows = Checked::<F>::new(rows.rows, rows.columns)?;
    let (mut states, mut refused) = (Vec::with_capacity(rows.rows()), None);
    rows.for_each(|_, row| match migration(row).into_state() {
        Ok(state) => states.push(state),
        Err(reject) => {
            refused.get_or_insert(reject);
        }
    });
    match refused {
        None => Ok(states),
        Some(reject) => Err(reject.reason().to_owned()),
    }
}

/// What the host asks for where there is none.
#[doc(hidden)]
#[cold]
pub fn no_migration(which: usize) -> String {
    format!("there is no migration of number {which}")
}
