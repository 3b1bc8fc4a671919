//! `ttl = { last-seen = "7d" }`: how long an operator's state outlives its last change.

use super::file::Spanned;
use super::keys;
use super::value::Value;

/// How long the values of a slot are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ttl {
    /// The slot, as the component calls it.
    pub slot: Spanned<String>,
    /// How long after it was last used it expires, in milliseconds.
    pub after_ms: i64,
    /// By which clock.
    pub clock: Clock,
}

/// What tells the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// Event time, as far as the rows have told it.
    Event,
    /// The time at which rows are processed.
    Processing,
}

const CLOCKS: [(&str, Clock); 2] = [("event-time", Clock::Event), ("processing-time", Clock::Processing)];

/// What a table of slots and durations declares.
pub(super) fn read(value: Value<'_>) -> Option<Vec<Ttl>> {
    let table = value.table_of_names()?;
    // Each is read before any is judged: all their errors count.
    let slots: Vec<_> = table.values().into_iter().map(read_slot).collect();
    slots.into_iter().collect()
}

/// `last-seen = "7d"`, or a table that says more.
fn read_slot(value: Value<'_>) -> Option<Ttl> {
    if value.is_text() {
        let after_ms = value.positive_duration_ms()?;
        return Some(Ttl { slot: value.key(), after_ms, clock: Clock::Event });
    }
    if !value.is_table() {
        return value.mismatch("a duration such as \"7d\" or table");
    }
    let table = value.table(&keys::TTL)?;
    table.check_keys(None);
    let after_ms = table.required("after", |v| v.positive_duration_ms());
    let clock = table.or("clock", Clock::Event, |v| v.choice(&CLOCKS).map(|(_, clock)| clock));
    Some(Ttl { slot: value.key(), after_ms: after_ms?, clock: clock? })
}
