//! The promises of the embedded log.
#![expect(clippy::unwrap_used, reason = "a test that can't go on says where it stopped")]

mod concurrent;
mod crash;
mod log;
mod model;
mod staging;
mod support;
