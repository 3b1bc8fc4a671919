//! `[restart]`: what happens when the pipeline fails.

use super::keys;
use super::table::Table;

const ATTEMPTS_DEFAULT: u32 = 3;
const ATTEMPTS_MAX: i64 = 1_000_000;

const DELAY_MS_DEFAULT: i64 = 1000;

/// A minute is short against the time that it takes somebody to mend a thing, and long for a computer.
const MAX_DELAY_MS_DEFAULT: i64 = 60_000;

/// What happens when the pipeline fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// It ends.
    None,
    /// It begins again at the last checkpoint.
    FromCheckpoint {
        /// How many times in a row, without a completed checkpoint between.
        attempts: u32,
        /// How long it waits before the first, in milliseconds.
        delay_ms: i64,
        /// The delay doubles with each failure in a row up to this; `None`: it stays as it is.
        max_delay_ms: Option<i64>,
    },
}

#[derive(Clone, Copy)]
enum Strategy {
    None,
    Fixed,
    Exponential,
}

const STRATEGIES: [(&str, Strategy); 3] =
    [("none", Strategy::None), ("fixed", Strategy::Fixed), ("exponential", Strategy::Exponential)];

/// What is said of restarts.
pub(super) fn read(root: &Table<'_>) -> Option<Restart> {
    let has_checkpoints = root.get("checkpoints").is_some();
    root.or("restart", Restart::None, |value| {
        let table = value.table(&keys::RESTART)?;
        let strategy = table.or("strategy", STRATEGIES[0], |v| {
            let (name, strategy) = v.choice(&STRATEGIES)?;
            if !has_checkpoints && !matches!(strategy, Strategy::None) {
                v.refuse::<()>(format!(
                    "\"{name}\" needs checkpoints: without them it would begin at the first row again, and write again \
                     what is written; add a section [checkpoints]"
                ));
            }
            Some((name, strategy))
        });
        table.check_keys(strategy.map(|(name, _)| name));
        match strategy?.1 {
            Strategy::None => Some(Restart::None),
            Strategy::Fixed => read_fixed(&table),
            Strategy::Exponential => read_exponential(&table),
        }
    })
}

fn read_fixed(table: &Table<'_>) -> Option<Restart> {
    let attempts = read_attempts(table);
    let delay_ms = table.or("delay", DELAY_MS_DEFAULT, |v| v.duration_ms());
    Some(Restart::FromCheckpoint { attempts: attempts?, delay_ms: delay_ms?, max_delay_ms: None })
}

fn read_exponential(table: &Table<'_>) -> Option<Restart> {
    let attempts = read_attempts(table);
    // Twice nothing is nothing.
    let delay_ms = table.or("delay", DELAY_MS_DEFAULT, |v| v.positive_duration_ms());
    let shortest_ms = delay_ms.unwrap_or(0);
    let max_delay_ms =
        table.or("max_delay", MAX_DELAY_MS_DEFAULT.max(shortest_ms), |v| match v.duration_ms()? {
            max_delay_ms if max_delay_ms < shortest_ms => v.refuse("must not be shorter than `delay`"),
            max_delay_ms => Some(max_delay_ms),
        });
    Some(Restart::FromCheckpoint {
        attempts: attempts?,
        delay_ms: delay_ms?,
        max_delay_ms: Some(max_delay_ms?),
    })
}

fn read_attempts(table: &Table<'_>) -> Option<u32> {
    table.or("attempts", ATTEMPTS_DEFAULT, |v| u32::try_from(v.integer(1, ATTEMPTS_MAX)?).ok())
}
