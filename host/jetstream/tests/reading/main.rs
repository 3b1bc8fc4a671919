//! Promises of a reader, with real servers that are killed, cut off and tampered with.

#![expect(clippy::unwrap_used, reason = "a test that meets an error fails")]

mod changes;
mod faults;
mod places;
mod pressure;
mod support;
