//! Timers of a key, and the two clocks.

use std::borrow::Cow;

use crate::Record;
use crate::batch::ColumnBuffer;
use crate::operator::write;
use crate::value::Timestamp;

/// What a timer waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Clock {
    /// Event time: the watermark. It comes as far in each run over the same input.
    #[default]
    Event,
    /// The host's clock.
    Processing,
}

/// A timer that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timer<'a> {
    /// The name under which it was set.
    pub name: &'a str,
    /// The time for which it was set.
    pub at: Timestamp,
    /// The clock on which it was set.
    pub clock: Clock,
}

/// The timers of the key at hand, and what time it is.
///
/// A key has one timer of a name on each clock: setting it again moves it. A name has at most 255 bytes. A timer
/// whose time has come already is due at once, after this call.
///
/// ```
/// use tidemill_sdk::prelude::*;
///
/// fn visit(timers: &mut Timers, at: Timestamp) {
///     timers.set("gone", at.plus_ms(30 * 60_000));
/// }
/// visit(&mut Timers::default(), Timestamp(1_357_034_400_000));
/// ```
#[derive(Clone, Debug)]
pub struct Timers {
    watermark: Timestamp,
    processing_time: Timestamp,
    key: u32,
    /// Changes of the row at hand.
    pending: Vec<Change>,
    /// Changes of the rows before it.
    changes: Vec<Change>,
    /// For each key its latest change.
    latest: Vec<Option<u32>>,
}

#[derive(Clone, Debug)]
struct Change {
    key: u32,
    clock: Clock,
    name: Cow<'static, str>,
    at: Option<Timestamp>,
    /// The change before this one of the same key.
    earlier: Option<u32>,
}

/// How far back a row looks for a change to replace. Most keys have a timer or two; those who set hundreds in a
/// batch shall not pay for each with a look at all.
const LOOK_BACK: usize = 8;

impl Default for Timers {
    fn default() -> Self {
        Self::new(1, i64::MIN, 0)
    }
}

impl Timers {
    pub(crate) fn new(keys: usize, watermark: i64, processing_time: i64) -> Self {
        Self {
            watermark: Timestamp(watermark),
            processing_time: Timestamp(processing_time),
            key: 0,
            pending: Vec::new(),
            changes: Vec::new(),
            latest: vec![None; keys],
        }
    }

    /// Sets the timer of this name in event time, or moves it: it is due when the watermark is there.
    pub fn set(&mut self, name: impl Into<Cow<'static, str>>, at: Timestamp) {
        self.change(Clock::Event, name.into(), Some(at));
    }

    /// Cancels the timer of this name in event time, if there is one.
    pub fn cancel(&mut self, name: impl Into<Cow<'static, str>>) {
        self.change(Clock::Event, name.into(), None);
    }

    /// Sets the timer of this name on a clock, or moves it.
    pub fn set_on(&mut self, clock: Clock, name: impl Into<Cow<'static, str>>, at: Timestamp) {
        self.change(clock, name.into(), Some(at));
    }

    /// Cancels the timer of this name on a clock, if there is one.
    pub fn cancel_on(&mut self, clock: Clock, name: impl Into<Cow<'static, str>>) {
        self.change(clock, name.into(), None);
    }

    /// How far event time has come before this batch; none as long as that isn't known. Where a batch ends is chance:
    /// a result that depends on this may be another one in the next run.
    pub fn watermark(&self) -> Option<Timestamp> {
        Some(self.watermark).filter(|watermark| watermark.0 != i64::MIN)
    }

    /// Whether the input has ended: event time is at its end, and so every timer on it is due, also one that is set now.
    /// Whoever goes on by setting a next one must stop here.
    pub fn is_end(&self) -> bool {
        self.watermark.0 == i64::MAX
    }

    /// What the host's clock says at this batch. A result that depends on it is another one in the next run.
    pub fn processing_time(&self) -> Timestamp {
        self.processing_time
    }

    fn change(&mut self, clock: Clock, name: Cow<'static, str>, at: Option<Timestamp>) {
        self.pending.push(Change { key: self.key, clock, name, at, earlier: None });
    }

    /// The next row is one of this key.
    #[inline(always)]
    pub(crate) fn of(&mut self, key: usize) -> &mut Self {
        self.key = key as u32;
        self
    }

    /// Keeps the changes of the row at hand, or takes them back.
    #[inline(always)]
    pub(crate) fn settle(&mut self, accepted: bool) {
        if !accepted {
            self.pending.clear();
        } else if !self.pending.is_empty() {
            self.keep();
        }
    }

    fn keep(&mut self) {
        for mut change in std::mem::take(&mut self.pending) {
            let of_key = change.key as usize;
            if let Some(same) = self.find(change.key, change.clock, &change.name, LOOK_BACK) {
                self.changes[same].at = change.at;
                continue;
            }
            change.earlier = self.latest[of_key];
            self.latest[of_key] = Some(self.changes.len() as u32);
            self.changes.push(change);
        }
    }

    /// Whether a row of this call has changed this timer.
    pub(crate) fn is_changed(&self, key: usize, clock: Clock, name: &str) -> bool {
        self.find(key as u32, clock, name, usize::MAX).is_some()
    }

    /// The latest change of a timer, if it is one of the last so many of its key.
    fn find(&self, key: u32, clock: Clock, name: &str, look_back: usize) -> Option<usize> {
        let latest = self.latest[key as usize];
        let mut of_key =
            std::iter::successors(latest, |at| self.changes[*at as usize].earlier).take(look_back);
        let same = |change: &Change| change.clock == clock && change.name == name;
        of_key.find(|at| same(&self.changes[*at as usize])).map(|at| at as usize)
    }

    pub(crate) fn finish(self) -> TimerChanges {
        let rows = self.changes.len() as u32;
        fn changed(change: &Change) -> Changed<'_> {
            Changed {
                key: i64::from(change.key),
                processing_time: change.clock == Clock::Processing,
                name: &change.name,
                at: change.at,
            }
        }
        let columns = write(self.changes.iter().map(changed));
        TimerChanges { rows, columns }
    }
}

/// Timers that were set and cancelled, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TimerChanges {
    /// How many.
    pub rows: u32,
    /// The columns `key` (integer), `processing-time` (boolean), `name` (text), and `at` (timestamp; no value:
    /// cancelled).
    pub columns: Vec<ColumnBuffer>,
}

/// A timer that was set or cancelled, as the host is told.
#[derive(Record)]
pub(crate) struct Changed<'a> {
    pub(crate) key: i64,
    pub(crate) processing_time: bool,
    pub(crate) name: &'a str,
    pub(crate) at: Option<Timestamp>,
}

/// A timer that is due, as the host tells.
#[derive(Record)]
pub(crate) struct Due<'a> {
    pub(crate) at: Timestamp,
    pub(crate) name: &'a str,
    pub(crate) processing_time: bool,
}

impl<'a> Due<'a> {
    pub(crate) fn timer(self) -> Timer<'a> {
        let clock = if self.processing_time { Clock::Processing } else { Clock::Event };
        Timer { name: self.name, at: self.at, clock }
    }
}
