//! What a database promises, on a real disk.

#![expect(clippy::unwrap_used, reason = "a test that meets an error fails")]

mod checkpoints;
mod disk_full;
mod storage;

use tidemill_state::{FrozenFile, RestoredFile, Settings};

/// So little memory that a test writes out and compacts.
fn settings() -> Settings {
    Settings { memory_bytes: 4 << 20, ..Settings::default() }
}

/// The files as they are given back for a restore.
fn restored(files: &[FrozenFile]) -> Vec<RestoredFile> {
    files.iter().map(|f| RestoredFile { name: f.name.clone(), path: f.path.clone() }).collect()
}
