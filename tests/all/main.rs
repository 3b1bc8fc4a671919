//! The promises of the product, kept by the real program, real components and real files.

#![expect(clippy::unwrap_used, reason = "a test that can't go on says where and why")]

mod architecture;
mod bad_rows;
mod checkpoint_damage;
mod components;
mod conformance;
mod corners;
mod flights;
mod formats;
mod hostile;
mod idempotent;
mod inspect;
mod jetstream;
mod joins;
mod kill_matrix;
mod late_rows;
mod lives;
mod logs;
mod migrations;
mod new_project;
mod nexmark;
mod object_store;
mod processes;
mod recovery;
mod refusals;
mod replaying;
mod savepoints;
mod scripts;
mod serving;
mod stopping;
mod swapping;
mod unaligned;
mod upgrading;
mod watermarks;
mod windows;
mod word_count;
