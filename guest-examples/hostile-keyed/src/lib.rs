//! Asks for more than a key may have, as its setting `do` says: what the tests of keyed state run. Not an example
//! to follow.

use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

use tidemill_sdk::prelude::*;

#[derive(State, Default)]
struct Hoard {
    count: Option<i64>,
    hoard: Entries<Vec<u8>, Vec<u8>>,
}

#[derive(Record)]
struct Answer {
    count: i64,
}

/// More than an entry may have.
const LARGE_BYTES: usize = 5_000;
/// More than a timer's name may have.
const NAME_BYTES: usize = 300;
/// More MiB than may be written in one call.
const FLOOD_MIB: i64 = 80;
/// More timers than may be set in one call.
const TIMERS: u32 = 300_000;
/// Turns of a loop for a row: so a batch takes tens of milliseconds.
const DAWDLES: u32 = 40_000;

/// How often it was told to remember.
static REMEMBERED: AtomicI64 = AtomicI64::new(0);

#[derive(Clone, Copy)]
enum Hostile {
    LargeEntry,
    FloodEntries,
    LongName,
    BeyondTime,
    ManyTimers,
    PanicInTimer,
    Dawdle,
    /// Its answers, its entries and its timers depend on what it was asked before.
    Remember,
    RememberEntries,
    RememberTimers,
}

#[operator]
impl Process for Hostile {
    type Input<'a> = ();
    type State = Hoard;
    type Output = Answer;

    fn open(settings: &mut Settings) -> Result<Self, String> {
        Ok(match settings.required::<String>("do")?.as_str() {
            "large-entry" => Self::LargeEntry,
            "flood-entries" => Self::FloodEntries,
            "long-name" => Self::LongName,
            "beyond-time" => Self::BeyondTime,
            "many-timers" => Self::ManyTimers,
            "panic-in-timer" => Self::PanicInTimer,
            "dawdle" => Self::Dawdle,
            "remember" => Self::Remember,
            "remember-entries" => Self::RememberEntries,
            "remember-timers" => Self::RememberTimers,
            other => return Err(format!("`{other}` is nothing that it does")),
        })
    }

    fn process(&self, hoard: &mut Hoard, (): (), timers: &mut Timers) -> Answer {
        let mut count = hoard.count.unwrap_or(0) + 1;
        hoard.count = Some(count);
        match self {
            Self::LargeEntry => hoard.hoard.insert(vec![1; LARGE_BYTES], Vec::new()),
            Self::FloodEntries => {
                for n in 0..FLOOD_MIB {
                    hoard.hoard.insert(n.to_be_bytes().into(), vec![1; 1 << 20]);
                }
            }
            Self::LongName => timers.set("x".repeat(NAME_BYTES), Timestamp(0)),
            Self::BeyondTime => timers.set("never", Timestamp(i64::MAX)),
            Self::ManyTimers => (0..TIMERS).for_each(|n| timers.set(n.to_string(), Timestamp(0))),
            Self::PanicInTimer => timers.set("panic", Timestamp(0)),
            Self::Dawdle => (0..DAWDLES).for_each(|turn| _ = std::hint::black_box(turn)),
            Self::Remember => count += REMEMBERED.fetch_add(1, Relaxed),
            Self::RememberEntries => {
                let remembered = REMEMBERED.fetch_add(1, Relaxed);
                let before = hoard.hoard.get([1].as_slice()).unwrap_or_default();
                hoard.hoard.insert(vec![1], [before, vec![remembered as u8]].concat());
            }
            Self::RememberTimers => timers.set("later", Timestamp(REMEMBERED.fetch_add(1, Relaxed))),
        }
        Answer { count }
    }

    fn on_timer(&self, _: &mut Hoard, timer: Timer<'_>, _: &mut Timers) -> Answer {
        panic!("no more of `{}`", timer.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_does_nothing_that_it_was_not_told() {
        assert!(open(&[("do".into(), "nothing".into())]).is_err_and(|e| e.contains("nothing that it does")));
    }
}
