//! The promises of the store, on a real file system.

#![expect(clippy::unwrap_used, reason = "a test that can't go on says where and why")]

mod corruption;
mod format;
mod kit;
mod lifecycle;
