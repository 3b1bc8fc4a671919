//! Operators: what their author writes ([`Transform`], [`Aggregate`], or a plain function), and what runs
//! whole batches ([`TransformOperator`], [`AggregateOperator`]), natively as in a component.

use crate::batch::{Batch, Column, ColumnBuffer, Emission, Field, Rejection};
use crate::join::Sides;
use crate::outcome::{Outcome, Reject};
use crate::record::{Checked, FromRow, Record};
use crate::settings::Settings;
use crate::state::Collection;
use crate::value::LANES;

/// An operator that makes rows of rows and remembers nothing, with settings.
///
/// Without settings a plain function under `#[operator]` does the same. If `open` is left out, `#[operator]`
/// takes the type's `Default`.
///
/// ```
/// use tidemill_sdk::prelude::*;
///
/// #[derive(Record)]
/// struct Flight { dep_delay: Option<i64> }
///
/// /// Keeps the flights that left late.
/// struct Late { min: i64 }
///
/// #[operator]
/// impl Transform for Late {
///     type Input<'a> = Flight;
///     type Output<'a> = bool;
///
///     fn open(settings: &mut Settings) -> Result<Self, String> {
///         Ok(Self { min: settings.optional("min")?.unwrap_or(15) })
///     }
///
///     fn process(&self, flight: Flight) -> bool {
///         flight.dep_delay.is_some_and(|delay| delay >= self.min)
///     }
/// }
///
/// assert!(open(&[("mni".into(), "3".into())]).is_err_and(|why| why.contains("knows `min`")));
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a transform",
    note = "write `impl Transform for {Self}`"
)]
pub trait Transform: Sized + 'static {
    /// The fields that the operator reads.
    type Input<'a>: FromRow<'a>;
    /// What it makes of a row: see [`Outcome`].
    type Output<'a>: Outcome;

    /// Reads the settings; called once, before any data.
    ///
    /// # Errors
    /// If a setting is missing or wrong: what it should be.
    fn open(settings: &mut Settings) -> Result<Self, String>;

    /// Makes something of a row.
    fn process<'a>(&self, row: Self::Input<'a>) -> Self::Output<'a>;
}

/// An operator that folds the rows of a group into one accumulator. The host forms the groups and keeps the
/// accumulators.
///
/// ```
/// use tidemill_sdk::prelude::*;
///
/// #[derive(Record)]
/// struct Flight { dep_delay: i64 }
///
/// #[derive(Record, Default)]
/// struct Longest { delay: i64 }
///
/// #[derive(Default)]
/// struct LongestDelay;
///
/// #[operator]
/// impl Aggregate for LongestDelay {
///     type Input<'a> = Flight;
///     type Accumulator = Longest;
///     type Output = Longest;
///
///     fn add(&self, longest: &mut Longest, flight: Flight) -> Result<(), Reject> {
///         longest.delay = longest.delay.max(flight.dep_delay);
///         Ok(())
///     }
///
///     fn merge(&self, left: &mut Longest, right: Longest) {
///         left.delay = left.delay.max(right.delay);
///     }
///
///     fn finish(&self, longest: Longest) -> Longest {
///         longest
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an aggregate",
    note = "write `impl Aggregate for {Self}`"
)]
pub trait Aggregate: Sized + 'static {
    /// The fields that the operator reads; `()` if it reads none.
    type Input<'a>: FromRow<'a>;
    /// What is remembered of a group; `default()` is an empty group. Its fields are the operator's state,
    /// which the host keeps in a column for each.
    type Accumulator: Record + for<'a> FromRow<'a> + Default;
    /// The rows of a finished group: a record, or `Option` or `Vec` of one.
    type Output: Outcome;

    /// Reads the settings; called once, before any data.
    ///
    /// # Errors
    /// If a setting is missing or wrong: what it should be.
    fn open(settings: &mut Settings) -> Result<Self, String>;

    /// Folds a row into its group.
    ///
    /// # Errors
    /// A row that is refused leaves no trace in the accumulator, whatever `add` has done to it before.
    fn add(&self, accumulator: &mut Self::Accumulator, row: Self::Input<'_>) -> Result<(), Reject>;

    /// Takes the rows of `right` into `left`: parts of a group that were folded apart become one, as the slices of a
    /// hopping window do. The order in which parts are merged is the host's.
    fn merge(&self, left: &mut Self::Accumulator, right: Self::Accumulator);

    /// The rows of a finished group.
    fn finish(&self, accumulator: Self::Accumulator) -> Self::Output;
}

/// What an operator says about itself before it sees data.
#[derive(Clone, Debug, PartialEq)]
pub struct Description {
    /// The name of the operator's crate.
    pub name: &'static str,
    /// Its version.
    pub version: &'static str,
    /// The fields that it reads, for each input: of a join the left one and the right one.
    pub inputs: Vec<&'static [Field]>,
    /// The fields that come out.
    pub output: Output,
    /// The fields of an aggregate's accumulator, or the values of a process operator's keys; empty for others.
    pub state: &'static [Field],
    /// The collections of a process operator's keys; empty for others.
    pub collections: &'static [Collection],
    /// The sides that a join can do without; no other operator has any.
    pub absent: Sides,
}

/// How the rows that come out relate to those that went in.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// The same rows, some of them left out.
    Same,
    /// The same rows with these fields added or replaced.
    Extended(&'static [Field]),
    /// Rows of these fields.
    Replaced(&'static [Field]),
}

/// A transform that has been opened: runs whole batches.
pub trait TransformOperator {
    /// Makes rows of a batch of rows.
    ///
    /// # Errors
    /// If the batch does not fit the operator's description: the column and what is wrong with it.
    fn process(&self, batch: Batch<'_>) -> Result<Emission, String>;
}

/// An aggregate that has been opened: runs whole batches.
pub trait AggregateOperator {
    /// The accumulator of an empty group, as one row.
    fn initial(&self) -> Vec<ColumnBuffer>;

    /// Folds the rows of a batch into the accumulators of their groups.
    ///
    /// # Errors
    /// If the batch, the accumulators or `group_of` do not fit.
    fn accumulate(
        &self,
        groups: usize,
        accumulators: &[Column<'_>],
        group_of: &[u8],
        batch: Batch<'_>,
    ) -> Result<Folded, String>;

    /// Merges row i of `right` into row i of `left`.
    ///
    /// # Errors
    /// If the accumulators do not fit.
    fn merge(
        &self,
        groups: usize,
        left: &[Column<'_>],
        right: &[Column<'_>],
    ) -> Result<Vec<ColumnBuffer>, String>;

    /// The output rows of finished groups; `origins` are rows of `accumulators`.
    ///
    /// # Errors
    /// If the accumulators do not fit.
    fn finish(&self, groups: usize, accumulators: &[Column<'_>]) -> Result<Emission, String>;
}

/// Accumulators after a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Folded {
    /// Their new values, row for row.
    pub accumulators: Vec<ColumnBuffer>,
    /// Input rows that were refused.
    pub rejected: Vec<Rejection>,
}

// --- what `#[operator]` calls
// -----------------------------------------------------------------------------------

/// A batch through a function.
#[doc(hidden)]
#[inline(always)]
pub fn process<'a, I: FromRow<'a>, O: Outcome>(
    batch: Batch<'a>,
    f: impl FnMut(I) -> O,
) -> Result<Emission, String> {
    Ok(O::collect(&Checked::new(batch.rows, batch.columns)?, f))
}

/// What a function says about itself.
#[doc(hidden)]
pub fn describe_function<'a, I: FromRow<'a>, O: Outcome>(
    description: Description,
    extend: bool,
    _function: impl FnMut(I) -> O,
) -> Description {
    Description { inputs: vec![I::FIELDS], output: output::<O>(extend), ..description }
}

#[doc(hidden)]
pub fn describe_transform<T: Transform>(description: Description, extend: bool) -> Description {
    let output = output::<T::Output<'static>>(extend);
    Description { inputs: vec![<T::Input<'static> as Record>::FIELDS], output, ..description }
}

#[doc(hidden)]
pub fn describe_aggregate<T: Aggregate>(description: Description) -> Description {
    const {
        assert!(
            !T::Output::SAME,
            "an aggregate cannot answer with `bool`: its rows are not those that went in"
        )
    };
    Description {
        inputs: vec![<T::Input<'static> as Record>::FIELDS],
        output: output::<T::Output>(false),
        state: T::Accumulator::FIELDS,
        ..description
    }
}

pub(crate) fn output<O: Outcome>(extend: bool) -> Output {
    match (O::SAME, extend) {
        (true, _) => Output::Same,
        (false, true) => Output::Extended(O::Record::FIELDS),
        (false, false) => Output::Replaced(O::Record::FIELDS),
    }
}

#[doc(hidden)]
pub fn open_function(
    settings: &[(String, String)],
    operator: impl TransformOperator + 'static,
) -> Result<Box<dyn TransformOperator>, String> {
    Settings::new(settings)?.finish()?;
    Ok(Box::new(operator))
}

#[doc(hidden)]
pub fn open_transform<T: Transform>(
    settings: &[(String, String)],
) -> Result<Box<dyn TransformOperator>, String> {
    Ok(Box::new(Opened(open(settings, T::open)?)))
}

#[doc(hidden)]
pub fn open_aggregate<T: Aggregate>(
    settings: &[(String, String)],
) -> Result<Box<dyn AggregateOperator>, String> {
    Ok(Box::new(Opened(open(settings, T::open)?)))
}

pub(crate) fn open<T>(
    settings: &[(String, String)],
    open: impl FnOnce(&mut Settings) -> Result<T, String>,
) -> Result<T, String> {
    let mut settings = Settings::new(settings)?;
    let operator = open(&mut settings)?;
    settings.finish()?;
    Ok(operator)
}

/// An operator whose settings were read.
pub(crate) struct Opened<T>(pub(crate) T);

impl<T: Transform> TransformOperator for Opened<T> {
    fn process(&self, batch: Batch<'_>) -> Result<Emission, String> {
        process::<T::Input<'_>, T::Output<'_>>(batch, |row| self.0.process(row))
    }
}

impl<T: Aggregate> AggregateOperator for Opened<T> {
    fn initial(&self) -> Vec<ColumnBuffer> {
        write([T::Accumulator::default()])
    }

    fn accumulate(
        &self,
        groups: usize,
        accumulators: &[Column<'_>],
        group_of: &[u8],
        batch: Batch<'_>,
    ) -> Result<Folded, String> {
        let before = Checked::<T::Accumulator>::new(groups, accumulators)?;
        let input = Checked::<T::Input<'_>>::new(batch.rows, batch.columns)?;
        let group_of = check_groups("group-of", group_of, groups, input.rows())?;
        let mut fold =
            Fold { operator: &self.0, before: &before, input: &input, group_of, rejected: Vec::new() };
        let accumulators = write(fold.run());
        Ok(Folded { accumulators, rejected: fold.rejected })
    }

    fn merge(
        &self,
        groups: usize,
        left: &[Column<'_>],
        right: &[Column<'_>],
    ) -> Result<Vec<ColumnBuffer>, String> {
        let mut merged = read::<T::Accumulator>(&Checked::new(groups, left)?);
        Checked::new(groups, right)?.for_each(|group, right| self.0.merge(&mut merged[group], right));
        Ok(write(merged))
    }

    fn finish(&self, groups: usize, accumulators: &[Column<'_>]) -> Result<Emission, String> {
        let accumulators = Checked::<T::Accumulator>::new(groups, accumulators)?;
        Ok(T::Output::collect(&accumulators, |accumulator| self.0.finish(accumulator)))
    }
}

/// One batch on its way into the accumulators.
struct Fold<'f, 'a, 'b, T: Aggregate> {
    operator: &'f T,
    before: &'f Checked<'b, T::Accumulator>,
    input: &'f Checked<'a, T::Input<'a>>,
    group_of: &'f [[u8; 4]],
    /// In order of their rows.
    rejected: Vec<Rejection>,
}

impl<T: Aggregate> Fold<'_, '_, '_, T> {
    #[inline(always)]
    fn run(&mut self) -> Vec<T::Accumulator> {
        let mut accumulators = read(self.before);
        self.input.for_each(|row, record| {
            let group = self.group(row);
            let accumulator = &mut accumulators[group];
            if T::Accumulator::FIXED {
                let before = accumulator.duplicate();
                if let Err(reject) = self.operator.add(accumulator, record) {
                    *accumulator = before;
                    self.reject(row, &reject);
                }
            } else if let Err(reject) = self.operator.add(accumulator, record) {
                *accumulator = self.refold(group, row);
                self.reject(row, &reject);
            }
        });
        accumulators
    }

    /// The accumulator as it was before `row`, which spoiled it. Keeping a copy for each row instead would
    /// make every batch pay for the rare refusal, by the length of the accumulator's lists.
    #[cold]
    fn refold(&self, group: usize, row: usize) -> T::Accumulator {
        let mut accumulator = self.before.row(group);
        for earlier in (0..row).filter(|earlier| self.group(*earlier) == group) {
            if self.rejected.binary_search_by_key(&(earlier as u32), |rejection| rejection.row).is_err() {
                // It was taken the first time.
                let _taken = self.operator.add(&mut accumulator, self.input.row(earlier));
            }
        }
        accumulator
    }

    #[inline(always)]
    fn group(&self, row: usize) -> usize {
        u32::from_le_bytes(self.group_of[row]) as usize
    }

    #[cold]
    fn reject(&mut self, row: usize, reject: &Reject) {
        self.rejected.push(Rejection { row: row as u32, reason: reject.reason().to_owned() });
    }
}

/// Checks that there is one of the groups, or keys, for each row.
pub(crate) fn check_groups<'g>(
    what: &str,
    group_of: &'g [u8],
    groups: usize,
    rows: usize,
) -> Result<&'g [[u8; 4]], String> {
    let groups_of = group_of.as_chunks::<4>().0.get(..rows);
    let groups_of =
        groups_of.ok_or_else(|| format!("`{what}` has {} bytes for {rows} rows", group_of.len()))?;
    match largest(groups_of) {
        Some(largest) if largest as usize >= groups => {
            Err(format!("`{what}` names {largest}, but there are {groups}"))
        }
        _ => Ok(groups_of),
    }
}

/// In blocks, as everything that looks at each row: see `value`.
fn largest(groups_of: &[[u8; 4]]) -> Option<u32> {
    let (blocks, rest) = groups_of.as_chunks::<LANES>();
    let mut largest = [0; LANES];
    for block in blocks {
        for (largest, group) in largest.iter_mut().zip(block) {
            *largest = u32::from_le_bytes(*group).max(*largest);
        }
    }
    let rest = rest.iter().map(|group| u32::from_le_bytes(*group)).max();
    let blocks = largest.into_iter().max().filter(|_| !blocks.is_empty());
    blocks.max(rest)
}

/// All rows of a batch as structs.
#[inline(always)]
pub(crate) fn read<'a, R: FromRow<'a>>(batch: &Checked<'a, R>) -> Vec<R> {
    let mut records = Vec::with_capacity(batch.rows());
    batch.for_each(|_, record| records.push(record));
    records
}

/// Structs as columns.
#[inline(always)]
pub(crate) fn write<R: Record>(
    records: impl IntoIterator<Item = R, IntoIter: ExactSizeIterator>,
) -> Vec<ColumnBuffer> {
    let records = records.into_iter();
    let mut writers = R::writers(records.len());
    records.for_each(|record| record.push(&mut writers));
    R::finish(writers)
}
