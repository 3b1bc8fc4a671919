//! State that is larger than memory: the flow's storage, on RocksDB.
//!
//! One [`Database`] keeps the state of all operators of a pipeline. It is a working copy and never the truth: what
//! counts is the last checkpoint, and recovery builds the database anew from its files. From this follows the
//! rest. Nothing is logged ahead, a crash may leave the folder in any condition, and after the first failure of
//! the disk nothing in it is trusted any more.
//!
//! * [`Database::create`] begins with nothing, [`Database::restore`] with the files of a checkpoint;
//! * the flow reads and writes through [`Storage`](tidemill_flow::storage::Storage);
//! * [`Database::freeze`] takes the files of a checkpoint, while everybody goes on.
//!
//! RocksDB's words are kept inside of this package: its *checkpoint* is our frozen folder, its *database* lives in our
//! working folder.

mod database;
mod folder;
mod freeze;
mod options;
mod poison;

pub use database::{Database, Usage};
pub use folder::RestoredFile;
pub use freeze::FrozenFile;
pub use options::{MEMORY_BYTES_MIN, OPEN_FILES_MIN, Settings};
