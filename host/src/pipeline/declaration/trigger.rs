//! `trigger = { early_interval = "10s", mode = "discarding" }`: when windows fire beside their end.

use tidemill_flow::windowing::{Mode, Trigger};

use super::file::Spanned;
use super::keys;
use super::value::Value;

/// When windows fire, and what a firing leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Firings {
    /// When they fire.
    pub trigger: Trigger,
    /// What a firing leaves behind.
    pub mode: Mode,
}

impl Firings {
    /// Once, when a window is complete.
    pub const ON_TIME: Self = Self { trigger: Trigger::ON_TIME, mode: Mode::Accumulating };
}

const MODES: [(&str, Mode); 2] = [("accumulating", Mode::Accumulating), ("discarding", Mode::Discarding)];

/// What a table says of firings.
pub(super) fn read(value: Value<'_>) -> Option<Spanned<Firings>> {
    let table = value.table(&keys::TRIGGER)?;
    table.check_keys(None);
    let count = |v: Value<'_>| v.integer(1, i64::MAX).map(i64::unsigned_abs);
    let early_interval_ms = table.optional("early_interval", |v| v.positive_duration_ms());
    let early_rows = table.optional("early_rows", count);
    let rows = table.optional("rows", count);
    let mode = table.or("mode", Mode::Accumulating, |v| v.choice(&MODES).map(|(_, mode)| mode));
    let (early_interval_ms, early_rows, rows) = (early_interval_ms?, early_rows?, rows?);
    let trigger = match rows {
        Some(_) if early_interval_ms.is_some() || early_rows.is_some() => {
            return table.report(
                "`rows` fires each time that a window has so many new rows, and at no other time; remove it, or \
                 `early_interval` and `early_rows`",
            );
        }
        Some(rows) => Trigger::Rows(rows),
        None => Trigger::Completion { early_interval_ms, early_rows },
    };
    Some(Spanned::new(Firings { trigger, mode: mode? }, table.span()))
}
