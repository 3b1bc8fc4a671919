//! Process operators: what their author writes ([`Process`]), and what runs whole batches
//! ([`ProcessOperator`]).

use std::rc::Rc;

use crate::batch::{Batch, Column, ColumnBuffer, Emission};
use crate::entries::{Collections, EntryChanges, Place};
use crate::operator::{Description, Opened, check_groups, open, output, read, write};
use crate::outcome::{Outcome, Sink};
use crate::record::{Checked, FromRow, Record};
use crate::settings::Settings;
use crate::state::State;
use crate::timers::{Due, Timer, TimerChanges, Timers};

/// An operator that keeps a state and timers for each key. The host forms the keys, and keeps both.
///
/// Rows of a key come in order. The operator itself holds settings only.
///
/// ```
/// use tidemill_sdk::prelude::*;
///
/// #[derive(Record)]
/// struct Flight {
///     #[record(time)]
///     at: Timestamp,
/// }
///
/// #[derive(State, Default)]
/// struct Airport { departures: Option<i64> }
///
/// #[derive(Record)]
/// struct Quiet { after: i64 }
///
/// /// Says when no flight has left for an hour, after how many.
/// #[derive(Default)]
/// struct Silence;
///
/// #[operator]
/// impl Process for Silence {
///     type Input<'a> = Flight;
///     type State = Airport;
///     type Output = Option<Quiet>;
///
///     fn process(&self, airport: &mut Airport, flight: Flight, timers: &mut Timers) -> Option<Quiet> {
///         airport.departures = Some(airport.departures.unwrap_or(0) + 1);
///         timers.set("quiet", flight.at.plus_ms(60 * 60_000));
///         None
///     }
///
///     fn on_timer(&self, airport: &mut Airport, _: Timer<'_>, _: &mut Timers) -> Option<Quiet> {
///         airport.departures.take().map(|after| Quiet { after })
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a process operator",
    note = "write `impl Process for {Self}`"
)]
pub trait Process: Sized + 'static {
    /// The fields that the operator reads; `()` if it reads none.
    type Input<'a>: FromRow<'a>;
    /// What is kept of a key; `()` if nothing is.
    type State: State;
    /// The rows that come of a row or a timer: a record, or `Option` or `Vec` of one, perhaps in a `Result`.
    type Output: Outcome;

    /// Reads the settings; called once, before any data.
    ///
    /// # Errors
    /// If a setting is missing or wrong: what it should be.
    fn open(settings: &mut Settings) -> Result<Self, String>;

    /// Makes something of a row and of what is kept of its key. If the row is refused, it leaves no trace, whatever was
    /// done to the state and the timers before.
    fn process(&self, state: &mut Self::State, row: Self::Input<'_>, timers: &mut Timers) -> Self::Output;

    /// Makes something of a timer that is due, which is gone then. May be left out by an operator that sets none.
    fn on_timer(&self, _state: &mut Self::State, timer: Timer<'_>, _timers: &mut Timers) -> Self::Output {
        panic!("the timer `{}` is due, but the operator has no `on_timer`", timer.name)
    }
}

/// Rows of a call, or timers that are due, with the state of their keys.
#[derive(Clone, Copy, Debug)]
pub struct Keyed<'a> {
    /// How many keys there are.
    pub keys: usize,
    /// For each row the number of its key, 4 bytes each.
    pub key_of: &'a [u8],
    /// The values of the keys: a column for each field, with a row for each key.
    pub values: &'a [Column<'a>],
    /// The rows; of timers the columns `at` (timestamp), `name` (text) and `processing-time` (boolean).
    pub rows: Batch<'a>,
    /// How far event time has come, in milliseconds; the smallest number where that isn't known.
    pub watermark: i64,
    /// The host's clock, in milliseconds since the Unix epoch.
    pub processing_time: i64,
}

/// What a process operator made of a call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Processed {
    /// The rows that came out, and those that were refused.
    pub emission: Emission,
    /// For each field of the state its new values, a row for each key; `None`: as before.
    pub values: Vec<Option<ColumnBuffer>>,
    /// Timers set and cancelled.
    pub timers: TimerChanges,
}

/// A process operator that has been opened: runs whole batches.
pub trait ProcessOperator {
    /// Makes rows of a batch of rows, with the state of their keys.
    ///
    /// # Errors
    /// If the batch does not fit the operator's description: the column and what is wrong with it.
    fn process(&self, input: Keyed<'_>, collections: Rc<dyn Collections>) -> Result<Processed, String>;

    /// Makes rows of timers that are due.
    ///
    /// # Errors
    /// As [`process`](Self::process).
    fn on_timer(&self, due: Keyed<'_>, collections: Rc<dyn Collections>) -> Result<Processed, String>;
}

#[doc(hidden)]
pub fn describe_process<T: Process>(description: Description) -> Description {
    const {
        assert!(
            !T::Output::SAME,
            "a process operator cannot answer with `bool`: a timer has no row that could go on"
        )
    };
    Description {
        inputs: vec![<T::Input<'static> as Record>::FIELDS],
        output: output::<T::Output>(false),
        state: <T::State as State>::Values::FIELDS,
        collections: T::State::COLLECTIONS,
        ..description
    }
}

#[doc(hidden)]
pub fn open_process<T: Process>(settings: &[(String, String)]) -> Result<Box<dyn ProcessOperator>, String> {
    Ok(Box::new(Opened(open(settings, T::open)?)))
}

impl<T: Process> ProcessOperator for Opened<T> {
    fn process(&self, input: Keyed<'_>, collections: Rc<dyn Collections>) -> Result<Processed, String> {
        run::<T, T::Input<'_>>(input, &collections, |_, state, row, timers| {
            Some(self.0.process(state, row, timers))
        })
    }

    fn on_timer(&self, due: Keyed<'_>, collections: Rc<dyn Collections>) -> Result<Processed, String> {
        run::<T, Due<'_>>(due, &collections, |key, state, due, timers| {
            let timer = due.timer();
            // Another timer of this call has moved or cancelled it.
            let stale = timers.is_changed(key, timer.clock, timer.name);
            (!stale).then(|| self.0.on_timer(state, timer, timers))
        })
    }
}

/// One call: the state of each key is read once, changed row by row, and written once.
#[inline(always)]
fn run<'a, T: Process, R: FromRow<'a>>(
    input: Keyed<'a>,
    collections: &Rc<dyn Collections>,
    mut f: impl FnMut(usize, &mut T::State, R, &mut Timers) -> Option<T::Output>,
) -> Result<Processed, String> {
    let rows = Checked::<R>::new(input.rows.rows, input.rows.columns)?;
    let key_of = check_groups("key-of", input.key_of, input.keys, rows.rows())?;
    let mut states = load::<T>(&input, collections)?;
    let mut timers = Timers::new(input.keys, input.watermark, input.processing_time);
    let mut sink = Sink::new(rows.rows());
    rows.for_each(|row, record| {
        let key = u32::from_le_bytes(key_of[row]) as usize;
        let state = &mut states[key];
        let before = T::Output::MAY_REJECT.then(|| state.values());
        let rejected = sink.rejected();
        if let Some(outcome) = f(key, state, record, timers.of(key)) {
            outcome.emit(row, &mut sink);
        }
        let accepted = sink.rejected() == rejected;
        if let Some(before) = before.filter(|_| !accepted) {
            state.restore(before);
        }
        state.settle(accepted);
        timers.settle(accepted);
    });
    let values = unload::<T::State>(states, input.values, collections.as_ref());
    Ok(Processed { emission: sink.finish(), values, timers: timers.finish() })
}

fn load<T: Process>(input: &Keyed<'_>, collections: &Rc<dyn Collections>) -> Result<Vec<T::State>, String> {
    let values = Checked::<<T::State as State>::Values>::new(input.keys, input.values)?;
    let may_reject = T::Output::MAY_REJECT;
    let mut place = Place { collections: collections.clone(), key: 0, may_reject };
    let state = |(key, values)| {
        place.key = key as u32;
        T::State::load(values, &place)
    };
    Ok(read(&values).into_iter().enumerate().map(state).collect())
}

/// Sends what was changed in collections, and returns the columns of values that were.
fn unload<S: State>(
    states: Vec<S>,
    before: &[Column<'_>],
    collections: &dyn Collections,
) -> Vec<Option<ColumnBuffer>> {
    let mut changes: Vec<_> = S::COLLECTIONS.iter().map(|_| EntryChanges::default()).collect();
    let values = write(states.into_iter().map(|state| state.unload(&mut changes)));
    for (collection, changes) in changes.into_iter().enumerate() {
        changes.send(collection as u8, collections);
    }
    let unchanged = |(before, after): (&Column<'_>, ColumnBuffer)| {
        let same = before.validity == after.validity.as_deref()
            && before.offsets == after.offsets.as_deref()
            && before.data == after.data;
        (!same).then_some(after)
    };
    before.iter().zip(values).map(unchanged).collect()
}
