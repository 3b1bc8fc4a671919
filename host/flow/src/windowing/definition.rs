//! What windows there are, and when they fire.

use std::fmt;

use super::calendar::Days;
use crate::timers::Clock;
use crate::window::Bounds;

/// Windows in full: which there are, when they fire, and what a firing leaves behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    /// Which windows a row belongs to.
    pub assigner: Assigner,
    /// What they are measured by: event time, or the time at which rows are processed.
    pub time: Clock,
    /// How long after its end a window still takes rows, in milliseconds; 0 for windows of processing time.
    pub lateness_ms: i64,
    /// When a window fires.
    pub trigger: Trigger,
    /// What a firing leaves behind.
    pub mode: Mode,
}

/// Which windows a row belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Assigner {
    /// Windows of `size_ms`, one starting every `slide_ms`; tumbling ones if the two are equal.
    Fixed {
        /// The length of a window, in milliseconds.
        size_ms: i64,
        /// How far apart windows start, in milliseconds; at most `size_ms`.
        slide_ms: i64,
        /// Where a window starts, in milliseconds since the Unix epoch.
        offset_ms: i64,
    },
    /// Windows of whole days of a time zone.
    Days(Days),
    /// Windows of a key that end when it has had no row for so long.
    Session {
        /// The pause that ends a session, in milliseconds. Rows that are just so far apart are of one session.
        gap_ms: i64,
    },
    /// Windows of a key that end when they have so many rows.
    Count {
        /// The rows of a window, one at least.
        rows: u64,
    },
    /// One window over everything.
    Global,
}

/// When a window fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// When its time is over, or it is full; before that as often as this says, and afterwards whenever late rows were
    /// added.
    Completion {
        /// So long after the first row that no firing had, in milliseconds of processing time.
        early_interval_ms: Option<i64>,
        /// When so many rows have come that no firing had.
        early_rows: Option<u64>,
    },
    /// Whenever so many rows have come that no firing had, and at no other time.
    Rows(u64),
}

impl Trigger {
    /// Fires once, when the window is complete.
    pub const ON_TIME: Self = Self::Completion { early_interval_ms: None, early_rows: None };
}

/// What a firing leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Everything: a later firing of the window has all its rows.
    Accumulating,
    /// Nothing: a later firing has the rows since.
    Discarding,
}

/// Where a firing stands among those of its window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timing {
    /// Before the window's end.
    Early,
    /// At its end; a window has one such firing at most.
    OnTime,
    /// After its end.
    Late,
}

impl Timing {
    /// The name that results have.
    pub fn name(self) -> &'static str {
        match self {
            Self::Early => "early",
            Self::OnTime => "on-time",
            Self::Late => "late",
        }
    }
}

/// The bounds of windows that end only with the input.
pub(super) const UNBOUNDED: Bounds = Bounds { start: i64::MIN, end: i64::MAX };

impl Definition {
    /// What contradicts itself or couldn't be kept, for whoever wrote the pipeline file.
    ///
    /// # Errors
    /// A sentence.
    pub fn check(&self) -> Result<(), String> {
        let unsuited = match (&self.assigner, self.trigger) {
            (Assigner::Fixed { size_ms, slide_ms, .. }, _) if !(0 < *slide_ms && slide_ms <= size_ms) => {
                format!("windows of {size_ms} ms can't start every {slide_ms} ms")
            }
            (Assigner::Session { gap_ms }, _) if *gap_ms <= 0 => "a session's gap is longer than that".into(),
            (Assigner::Count { rows: 0 }, _) | (_, Trigger::Rows(0)) => {
                "a window has no firing of 0 rows".into()
            }
            (Assigner::Count { .. }, trigger) if trigger != Trigger::ON_TIME => {
                "a count window fires when it is full; it has no other trigger".into()
            }
            (Assigner::Count { .. } | Assigner::Global, _) if self.lateness_ms > 0 => {
                "without an end of event time nothing is late".into()
            }
            _ if self.lateness_ms > 0 && self.time == Clock::Processing => {
                "in processing time nothing is late".into()
            }
            _ => return Ok(()),
        };
        Err(unsuited)
    }

    /// As [`check`](Self::check), for windows whose rows are kept: one copy of a row can't be discarded for one of its
    /// windows alone, nor for the time being.
    ///
    /// # Errors
    /// A sentence.
    pub fn check_rows(&self) -> Result<(), String> {
        let is_session = matches!(self.assigner, Assigner::Session { .. });
        if self.mode == Mode::Discarding && (is_session || self.assigner.overlaps()) {
            return Err("rows of sessions and of windows that overlap can't be discarded by a firing".into());
        }
        self.check()
    }

    /// Whether results have bounds of event time; `has_times`: whether rows have one.
    pub fn has_event_bounds(&self, has_times: bool) -> bool {
        match self.assigner {
            Assigner::Global => false,
            Assigner::Count { .. } => has_times && self.time == Clock::Event,
            _ => self.time == Clock::Event,
        }
    }

    /// When a window with this end is complete, on its clock: that of event time is the watermark, which comes to an
    /// instant when it is over; in processing time rows may come all through it. A row at a session's end belongs to it.
    pub(super) fn instant(&self, end: i64) -> i64 {
        if end == i64::MAX { end } else { end + self.behind_end() }
    }

    fn behind_end(&self) -> i64 {
        match (self.time, &self.assigner) {
            (Clock::Event, _) => -1,
            (Clock::Processing, Assigner::Session { .. }) => 1,
            (Clock::Processing, _) => 0,
        }
    }

    /// When a window with this end takes no more rows, on its clock.
    pub(super) fn cleanup(&self, end: i64) -> i64 {
        self.instant(end).saturating_add(self.lateness_ms)
    }

    /// The end of the window that is complete at this instant.
    pub(super) fn end_at(&self, instant: i64) -> i64 {
        if instant == i64::MAX { instant } else { instant - self.behind_end() }
    }

    /// The end of the window that takes no more rows at this instant.
    pub(super) fn end_of_cleanup(&self, at: i64) -> i64 {
        if at == i64::MAX { at } else { self.end_at(at.saturating_sub(self.lateness_ms)) }
    }

    /// How many new rows make a window fire, as long as its end hasn't come.
    pub(super) fn rows_limit(&self) -> Option<u64> {
        match (&self.assigner, self.trigger) {
            (Assigner::Count { rows }, _) => Some(*rows),
            (_, Trigger::Rows(rows)) => Some(rows),
            (_, Trigger::Completion { early_rows, .. }) => early_rows,
        }
    }

    /// Whether a full window is at its end.
    pub(super) fn is_count(&self) -> bool {
        matches!(self.assigner, Assigner::Count { .. })
    }
}

impl Assigner {
    /// The windows that a time is in, ascending. Sessions are none: what they are depends on other rows.
    pub(super) fn windows(&self, time: i64, windows: &mut Vec<Bounds>) {
        windows.clear();
        match self {
            Self::Fixed { size_ms, slide_ms, offset_ms } => {
                let last = time - (time - offset_ms).rem_euclid(*slide_ms);
                let count = (size_ms - (time - last) + slide_ms - 1) / slide_ms;
                let start = |at: i64| last - (count - 1 - at) * slide_ms;
                windows.extend((0..count).map(|at| Bounds { start: start(at), end: start(at) + size_ms }));
            }
            Self::Days(days) => days.windows(time, windows),
            Self::Count { .. } | Self::Global => windows.push(UNBOUNDED),
            Self::Session { .. } => unreachable!("sessions are found among those of the key"),
        }
    }

    /// Whether a row may be in several windows.
    pub fn overlaps(&self) -> bool {
        match self {
            Self::Fixed { size_ms, slide_ms, .. } => slide_ms < size_ms,
            Self::Days(days) => days.overlaps(),
            Self::Session { .. } | Self::Count { .. } | Self::Global => false,
        }
    }
}

/// All of the definition that state depends on: what is shown for two definitions is equal only if one can go on from
/// the state of the other.
impl fmt::Display for Definition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.assigner {
            Assigner::Fixed { size_ms, slide_ms, offset_ms } => {
                write!(f, "of {size_ms} ms every {slide_ms} ms from {offset_ms} ms on")?;
            }
            Assigner::Days(days) => write!(f, "{days}")?,
            Assigner::Session { gap_ms } => write!(f, "session, gap {gap_ms} ms")?,
            Assigner::Count { rows } => write!(f, "count, {rows} rows")?,
            Assigner::Global => f.write_str("global")?,
        }
        if self.time == Clock::Processing {
            f.write_str(", processing time")?;
        }
        if self.lateness_ms > 0 {
            write!(f, ", {} ms late", self.lateness_ms)?;
        }
        match self.trigger {
            Trigger::Completion { early_interval_ms, early_rows } => {
                early_interval_ms.map_or(Ok(()), |ms| write!(f, ", early after {ms} ms"))?;
                early_rows.map_or(Ok(()), |rows| write!(f, ", early after {rows} rows"))?;
            }
            Trigger::Rows(rows) => write!(f, ", fired each {rows} rows")?,
        }
        f.write_str(if self.mode == Mode::Discarding { ", discarding" } else { ", accumulating" })
    }
}
