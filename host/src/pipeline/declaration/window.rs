//! `window = { type = "tumbling", size = "1h" }`.

use std::sync::Arc;

use tidemill_flow::window::Windows;
use tidemill_flow::windowing::{Assigner, Days};

use super::file::Spanned;
use super::keys;
use super::table::Table;
use super::ttl::Clock;
use super::value::Value;
use super::zone;

const DAY_MS: i64 = 86_400_000;

/// Each row is kept in every window that it is in, where windows overlap and aren't of the plainest kind.
pub(crate) const WINDOWS_OF_ROW_MAX: i64 = 1000;

/// Windows, as they are declared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// Which windows a row belongs to.
    pub assigner: Assigner,
    /// What they are measured by.
    pub time: Clock,
}

impl Window {
    /// One over everything.
    pub const GLOBAL: Self = Self { assigner: Assigner::Global, time: Clock::Event };

    /// The windows, if they are of the plain kind, whose results are put together from slices.
    pub fn plain(&self) -> Option<Windows> {
        match self.assigner {
            _ if self.time == Clock::Processing => None,
            Assigner::Global => Some(Windows::Global),
            Assigner::Fixed { size_ms, slide_ms, offset_ms } if size_ms == slide_ms => {
                Some(Windows::Tumbling { size_ms, offset_ms })
            }
            Assigner::Fixed { size_ms, slide_ms, offset_ms } => {
                Some(Windows::Hopping { size_ms, slide_ms, offset_ms })
            }
            Assigner::Days(_) | Assigner::Session { .. } | Assigner::Count { .. } => None,
        }
    }

    /// Whether a row may come too late for them: they end by event time.
    pub fn has_late_rows(&self) -> bool {
        let ends = !matches!(self.assigner, Assigner::Global | Assigner::Count { .. });
        ends && self.time == Clock::Event
    }

    /// Whether rows need an event time.
    pub fn needs_event_time(&self) -> bool {
        self.has_late_rows()
    }

    /// In how many windows a row is at most.
    pub fn windows_of_row(&self) -> i64 {
        match &self.assigner {
            Assigner::Fixed { size_ms, slide_ms, .. } => size_ms.div_euclid(*slide_ms),
            Assigner::Days(days) => days.size.div_euclid(days.slide),
            Assigner::Session { .. } | Assigner::Count { .. } | Assigner::Global => 1,
        }
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Tumbling,
    Hopping,
    Session,
    Count,
    Global,
}

const KINDS: [(&str, Kind); 5] = [
    ("tumbling", Kind::Tumbling),
    ("hopping", Kind::Hopping),
    ("session", Kind::Session),
    ("count", Kind::Count),
    ("global", Kind::Global),
];

const TIMES: [(&str, Clock); 2] = [("event", Clock::Event), ("processing", Clock::Processing)];

/// The windows that a table declares.
pub(super) fn read(value: Value<'_>) -> Option<Spanned<Window>> {
    let table = value.table(&keys::WINDOW)?;
    let kind = table.required("type", |v| v.choice(&KINDS));
    table.check_keys(kind.map(|(name, _)| name));
    let time = table.or("time", Clock::Event, |v| v.choice(&TIMES).map(|(_, clock)| clock));
    let assigner = match kind?.1 {
        Kind::Global => Some(Assigner::Global),
        Kind::Tumbling => tumbling(&table),
        Kind::Hopping => hopping(&table),
        Kind::Session => {
            let gap_ms = table.required("gap", |v| v.positive_duration_ms());
            gap_ms.map(|gap_ms| Assigner::Session { gap_ms })
        }
        Kind::Count => {
            let rows = table.required("rows", |v| v.integer(1, i64::MAX));
            rows.map(|rows| Assigner::Count { rows: rows.unsigned_abs() })
        }
    };
    Some(Spanned::new(Window { assigner: assigner?, time: time? }, table.span()))
}

fn tumbling(table: &Table<'_>) -> Option<Assigner> {
    let size_ms = table.required("size", |v| v.positive_duration_ms());
    let offset_ms = offset_ms(table, "size", size_ms);
    fixed(table, size_ms, size_ms, offset_ms)
}

fn hopping(table: &Table<'_>) -> Option<Assigner> {
    let size_ms = table.required("size", |v| v.positive_duration_ms());
    let slide_ms = table.required("slide", |v| match (v.positive_duration_ms()?, size_ms) {
        (slide_ms, Some(size_ms)) if slide_ms > size_ms => {
            v.refuse("must not be longer than `size`, or rows would be in no window")
        }
        (slide_ms, _) => Some(slide_ms),
    });
    let offset_ms = offset_ms(table, "slide", slide_ms);
    fixed(table, size_ms, slide_ms, offset_ms)
}

fn fixed(
    table: &Table<'_>,
    size_ms: Option<i64>,
    slide_ms: Option<i64>,
    offset_ms: Option<i64>,
) -> Option<Assigner> {
    let zone = table.optional("time_zone", zone::read);
    let (size_ms, slide_ms, offset_ms) = (size_ms?, slide_ms?, offset_ms?);
    let Some(zone) = zone? else { return Some(Assigner::Fixed { size_ms, slide_ms, offset_ms }) };
    if size_ms % DAY_MS != 0 || slide_ms % DAY_MS != 0 {
        return table.report(
            "windows with a `time_zone` are of whole days, as hours are the same everywhere; write them in \"d\"",
        );
    }
    let (size, slide) = (size_ms / DAY_MS, slide_ms / DAY_MS);
    Some(Assigner::Days(Days { size, slide, offset_ms, zone: Arc::new(zone) }))
}

/// Windows start every `period`, so that a longer offset would only be another way to write a shorter one.
fn offset_ms(table: &Table<'_>, period: &str, period_ms: Option<i64>) -> Option<i64> {
    table.or("offset", 0, |v| match (v.duration_ms()?, period_ms) {
        (offset_ms, Some(period_ms)) if offset_ms >= period_ms => {
            v.refuse(format!("must be shorter than `{period}`"))
        }
        (offset_ms, _) => Some(offset_ms),
    })
}
