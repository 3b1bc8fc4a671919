//! Checkpoints, kept so that what doesn't verify is never believed.
//!
//! A [`Store`] holds the checkpoints of one pipeline in a folder, or under a prefix in an object store, where nothing
//! can be locked and nothing is half written:
//!
//! ```text
//! LOCK, LOCK-edit                     held by the process that runs the pipeline; by whoever removes something
//! runs/<run>                          one for each start; the newest may write, all older ones may not
//! files/<2 hex digits>/<sha256>       files of the state, each written once and named by its content
//! checkpoints/<id>-run<run>.json      manifests: what a checkpoint consists of
//! checkpoints-copy/<id>-run<run>.json   the same again; one of the two is enough
//! savepoints/, savepoints-copy/       manifests that are kept until a person deletes them
//! commits/<id>                        the commit of this checkpoint's output was begun
//! set-aside/                          manifests that a start passed over; never restored
//! tmp/                                what is being written
//! ```
//!
//! What always holds: a manifest appears in one step and after everything that it names; it is removed before any of
//! that. So a crash leaves a checkpoint whole or leaves none, and at worst files that nobody needs, which the next
//! [`Store::retain`] removes.
//!
//! This package keeps and checks. Which checkpoint is restored is decided elsewhere, from what [`Contents::list`] and
//! [`Contents::commits_begun`] return.

mod backing;
mod collect;
mod contents;
mod copies;
#[cfg(test)]
mod crash_tests;
mod error;
pub mod failpoint;
mod files;
mod local;
mod manifest;
mod names;
#[cfg(feature = "object")]
mod object;
mod place;
mod runs;
mod sealed;
#[cfg(test)]
mod simulated;
mod store;
mod verify;

pub use collect::Collected;
pub use contents::{Contents, Listed, Name};
pub use error::{Error, Problem};
pub use manifest::{
    Becomes, Collection, Counters, Counts, FORMAT, FORMAT_IN_FLIGHT, Field, FileEntry, InFlight, Kind,
    Manifest, Offsets, Operator, Part, Partition, Position, Repeatable, Sink, Source, State, StateSchema,
    WatermarkRange,
};
pub use names::{CheckpointName, Digest, FileName, PartPath, SavepointName, Selector};
pub use place::{JetStreamPlace, Place, S3Place};
pub use store::Store;
pub use verify::{Progress, Report};
