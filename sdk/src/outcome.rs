//! What an operator's function may return for a row, and how each kind becomes columns.
//!
//! Nobody reads the function's signature: the return type's own [`Outcome`] writes the rows. The two kinds
//! that need no decision per row have their own loops, a record for every row and a filter; so have those
//! that make at most one row.

use std::fmt;

use crate::batch::{Emission, Rejection};
use crate::record::{Checked, FromRow, Record};
use crate::value::LANES;

/// What an operator may make of a row.
///
/// | type | meaning |
/// |---|---|
/// | a [`Record`] | one row |
/// | `bool` | a filter: the row itself, or nothing |
/// | `Option` of a record | one row or none |
/// | `Vec` of records | some rows |
/// | [`Rows`] | some rows, from an iterator |
/// | `Result<any of these, Reject>` | the same, or the row is refused and says why |
#[diagnostic::on_unimplemented(
    message = "an operator cannot return `{Self}`",
    label = "not something that becomes rows",
    note = "return a record, `bool` (a filter), `Option`, `Vec` or `Rows` of a record, or `Result<.., Reject>` of these"
)]
pub trait Outcome: Sized {
    /// The rows that come out; `()` for a filter.
    type Record: Record;

    /// Whether the rows that come out are those that went in.
    const SAME: bool = false;

    /// Whether a row may be refused.
    #[doc(hidden)]
    const MAY_REJECT: bool = false;

    /// Writes what became of input row `row`.
    fn emit(self, row: usize, sink: &mut Sink<Self::Record>);

    /// Whether there is never more than one row, so that [`one`](Self::one) tells everything.
    #[doc(hidden)]
    const AT_MOST_ONE: bool = false;

    /// The row, where there is at most one.
    #[doc(hidden)]
    fn one(self) -> Result<Option<Self::Record>, Reject> {
        unreachable!("an outcome of several rows is not asked for one")
    }

    /// Writes what becomes of a whole batch.
    #[inline(always)]
    fn collect<'a, I: FromRow<'a>>(input: &Checked<'a, I>, mut f: impl FnMut(I) -> Self) -> Emission {
        if Self::AT_MOST_ONE {
            return collect_sparse(input, f);
        }
        let mut sink = Sink::new(input.rows());
        input.for_each(|row, record| f(record).emit(row, &mut sink));
        sink.finish()
    }
}

impl Outcome for bool {
    type Record = ();
    const SAME: bool = true;

    #[inline(always)]
    fn emit(self, row: usize, sink: &mut Sink<()>) {
        if self {
            sink.push(row, ());
        }
    }

    /// Without a branch on the answer: every row writes its number, and a kept one moves the pen.
    #[inline(always)]
    fn collect<'a, I: FromRow<'a>>(input: &Checked<'a, I>, mut f: impl FnMut(I) -> Self) -> Emission {
        let mut origins = vec![[0; 4]; input.rows()];
        let mut kept = 0;
        input.for_each(|row, record| {
            origins[kept] = (row as u32).to_le_bytes();
            kept += usize::from(f(record));
        });
        origins.truncate(kept);
        let origins = (kept < input.rows()).then(|| origins.into_flattened());
        Emission { rows: kept as u32, origins, ..Emission::default() }
    }
}

/// One row for each row: whole blocks, and no `origins`. For the derive.
#[doc(hidden)]
#[inline(always)]
pub fn collect_dense<'a, I: FromRow<'a>, R: Record>(
    input: &Checked<'a, I>,
    mut f: impl FnMut(I) -> R,
) -> Emission {
    let mut writers = R::writers(input.rows());
    for index in 0..input.blocks() {
        let mut lanes = input.lanes(index);
        let mut block = R::empty_block();
        for lane in 0..LANES {
            f(I::take(&mut lanes, lane)).put(&mut block, lane);
        }
        R::push_block(&mut writers, block);
    }
    input.for_each_in_tail(|_, record| f(record).push(&mut writers));
    Emission { rows: input.rows() as u32, columns: R::finish(writers), ..Emission::default() }
}

/// At most one row for each row: a block without a gap is written whole.
#[inline(always)]
fn collect_sparse<'a, I: FromRow<'a>, O: Outcome>(
    input: &Checked<'a, I>,
    mut f: impl FnMut(I) -> O,
) -> Emission {
    let mut sink = Sink::new(input.rows());
    for index in 0..input.blocks() {
        let mut lanes = input.lanes(index);
        let mut block = O::Record::empty_block();
        let mut present = [false; LANES];
        for (lane, present) in present.iter_mut().enumerate() {
            match f(I::take(&mut lanes, lane)).one() {
                Ok(Some(record)) => {
                    record.put(&mut block, lane);
                    *present = true;
                }
                Ok(None) => {}
                Err(reject) => sink.reject(index * LANES + lane, reject),
            }
        }
        sink.push_block(index * LANES, present, block);
    }
    input.for_each_in_tail(|row, record| f(record).emit(row, &mut sink));
    sink.finish()
}

impl<R: Record> Outcome for Option<R> {
    type Record = R;
    const AT_MOST_ONE: bool = true;

    #[inline(always)]
    fn one(self) -> Result<Option<R>, Reject> {
        Ok(self)
    }

    #[inline(always)]
    fn emit(self, row: usize, sink: &mut Sink<R>) {
        if let Some(record) = self {
            sink.push(row, record);
        }
    }
}

impl<R: Record> Outcome for Vec<R> {
    type Record = R;

    #[inline(always)]
    fn emit(self, row: usize, sink: &mut Sink<R>) {
        Rows(self.into_iter()).emit(row, sink);
    }
}

/// Several rows out of one, from an iterator that may borrow from the input.
///
/// ```
/// use tidemill_sdk::prelude::*;
///
/// #[derive(Record)]
/// struct Line<'a> { line: &'a str }
/// #[derive(Record)]
/// struct Word<'a> { word: &'a str }
///
/// fn words<'a>(line: Line<'a>) -> Rows<impl Iterator<Item = Word<'a>>> {
///     Rows(line.line.split_whitespace().map(|word| Word { word }))
/// }
/// assert_eq!(words(Line { line: "the tide turns" }).0.count(), 3);
/// ```
#[derive(Clone, Debug)]
pub struct Rows<I>(pub I);

impl<I: Iterator<Item: Record>> Outcome for Rows<I> {
    type Record = I::Item;

    #[inline(always)]
    fn emit(self, row: usize, sink: &mut Sink<I::Item>) {
        for record in self.0 {
            sink.push(row, record);
        }
    }
}

impl<T: Outcome, E: Into<Reject>> Outcome for Result<T, E> {
    type Record = T::Record;
    const SAME: bool = T::SAME;
    const MAY_REJECT: bool = true;
    const AT_MOST_ONE: bool = T::AT_MOST_ONE;

    #[inline(always)]
    fn one(self) -> Result<Option<T::Record>, Reject> {
        self.map_err(Into::into)?.one()
    }

    #[inline(always)]
    fn emit(self, row: usize, sink: &mut Sink<T::Record>) {
        match self {
            Ok(outcome) => outcome.emit(row, sink),
            Err(reject) => sink.reject(row, reject.into()),
        }
    }
}

/// Why an operator refuses a row. The row goes to the dead letters with this reason; the pipeline goes on.
///
/// ```
/// use tidemill_sdk::Reject;
/// assert_eq!(Reject::new(format_args!("no flight has {} wings", 3)), Reject::from("no flight has 3 wings"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    reason: String,
}

impl Reject {
    /// A refusal for this reason, a sentence for the people who will look at the row.
    #[cold]
    pub fn new(reason: impl fmt::Display) -> Self {
        Self { reason: reason.to_string() }
    }

    /// The reason.
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

impl From<&str> for Reject {
    fn from(reason: &str) -> Self {
        Self::new(reason)
    }
}

impl From<String> for Reject {
    fn from(reason: String) -> Self {
        Self { reason }
    }
}

/// Where rows go on their way out.
pub struct Sink<R: Record> {
    writers: R::Writers,
    origins: Origins,
    rejected: Vec<Rejection>,
}

impl<R: Record> Sink<R> {
    pub(crate) fn new(rows: usize) -> Self {
        let origins = Origins { input_rows: rows, ..Origins::default() };
        Self { writers: R::writers(rows), origins, rejected: Vec::new() }
    }

    /// Writes a row that came from input row `origin`.
    #[inline(always)]
    pub fn push(&mut self, origin: usize, record: R) {
        self.origins.push(origin);
        record.push(&mut self.writers);
    }

    /// Writes those rows of a block that are present, which came from the eight input rows at `origin`.
    #[inline(always)]
    fn push_block(&mut self, origin: usize, present: [bool; LANES], mut block: R::Block) {
        if present == [true; LANES] {
            self.origins.push_block(origin);
            R::push_block(&mut self.writers, block);
            return;
        }
        for lane in (0..LANES).filter(|lane| present[*lane]) {
            self.origins.push(origin + lane);
            R::push_lane(&mut self.writers, &mut block, lane);
        }
    }

    /// Refuses input row `row`.
    #[cold]
    pub fn reject(&mut self, row: usize, reject: Reject) {
        self.rejected.push(Rejection { row: row as u32, reason: reject.reason });
    }

    /// How many rows were refused so far.
    pub(crate) fn rejected(&self) -> usize {
        self.rejected.len()
    }

    pub(crate) fn finish(self) -> Emission {
        let (rows, origins) = self.origins.finish();
        Emission { rows, origins, columns: R::finish(self.writers), rejected: self.rejected }
    }
}

/// The input row of each output row. While row i comes from row i, nothing is written down.
#[derive(Default)]
struct Origins {
    input_rows: usize,
    rows: usize,
    listed: Vec<u8>,
}

impl Origins {
    #[inline(always)]
    fn push(&mut self, origin: usize) {
        if !self.listed.is_empty() || origin != self.rows {
            self.list(origin);
        }
        self.rows += 1;
    }

    #[inline(always)]
    fn push_block(&mut self, origin: usize) {
        if self.listed.is_empty() && origin == self.rows {
            self.rows += LANES;
        } else {
            (origin..origin + LANES).for_each(|origin| self.push(origin));
        }
    }

    #[inline]
    fn list(&mut self, origin: usize) {
        if self.listed.is_empty() {
            self.listed.extend((0..self.rows as u32).flat_map(u32::to_le_bytes));
        }
        self.listed.extend_from_slice(&(origin as u32).to_le_bytes());
    }

    fn finish(self) -> (u32, Option<Vec<u8>>) {
        let rows = u32::try_from(self.rows).expect("more output rows than 32 bits can count");
        if self.listed.is_empty() && self.rows != self.input_rows {
            // Only the first of them came through: without origins there would be one for each input row.
            return (rows, Some((0..rows).flat_map(u32::to_le_bytes).collect()));
        }
        (rows, (!self.listed.is_empty()).then_some(self.listed))
    }
}
