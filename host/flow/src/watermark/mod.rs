//! Watermarks: how far event time has come. A watermark of `t` says that no row with a time up to and
//! including `t` is expected any more.
//!
//! Each partition of a source makes its own ([`Watermarks`]), by one of the [`Strategy`]s. Whatever has several inputs
//! combines theirs ([`Combiner`]). Two things can stand in the way: an input that says nothing for so long that it
//! shall hold back nobody ([`Idleness`]), and one that is so far ahead that it shall wait for the others ([`Drift`]).
//!
//! What always holds: a watermark never falls, and [`WATERMARK_MAX`] comes of the end of the input and of nothing else.

mod combiner;
mod drift;
mod idleness;
mod strategy;

pub use combiner::{Combiner, Progress};
pub use drift::Drift;
pub use idleness::{Idleness, Seen};
pub use strategy::{Arrival, BoundedOutOfOrderness, Punctuated, Strategy, Watermarks};

/// The watermark before anything is known.
pub const WATERMARK_MIN: i64 = i64::MIN;
/// The watermark at the end of all input: every window is finished.
pub const WATERMARK_MAX: i64 = i64::MAX;
