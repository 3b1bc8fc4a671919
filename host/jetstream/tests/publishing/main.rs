//! Publishing into real servers that are killed, cut off and full.

#![expect(clippy::unwrap_used, reason = "a test that can't go on says where and why")]

mod cluster;
mod kit;
mod pipelined;
mod streams;
mod takeover;
mod transactions;
