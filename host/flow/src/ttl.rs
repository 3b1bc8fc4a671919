//! Time to live: state that nobody has touched for a while is absent.
//!
//! Absent is decided by comparing times that stand beside the state with the time of whoever asks, so it doesn't
//! depend on when the bytes are removed. They are removed later, in bounded slices.

use crate::timers::Clock;

/// How long state lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ttl {
    /// So many milliseconds after it was touched it is absent.
    pub after_ms: i64,
    /// The clock that measures them.
    pub clock: Clock,
}

impl Ttl {
    /// Whether what was touched at `last` is absent at `now`: both in milliseconds on [`clock`](Self::clock).
    pub fn is_over(&self, last: i64, now: i64) -> bool {
        now >= last.saturating_add(self.after_ms)
    }
}

/// A point on both clocks, in milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// Event time.
    pub event: i64,
    /// Processing time.
    pub processing: i64,
}

impl Times {
    /// The time on a clock.
    pub fn on(&self, clock: Clock) -> i64 {
        match clock {
            Clock::Event => self.event,
            Clock::Processing => self.processing,
        }
    }
}
