//! Running a plan: tasks that take signals from queues, ask the flow what is due, call plugins, and pass on
//! what comes back.
//!
//! A task belongs to one thread at a time and owns everything it changes. Tasks send each other [`Signal`]s
//! through bounded queues; a full queue is all of back-pressure: whoever feeds it waits, up to the source,
//! which doesn't read on.

mod aggregate;
mod assembly;
mod behind;
mod clock;
mod compared;
mod coordinator;
mod drift;
mod fits;
mod in_flight;
mod inbox;
mod job;
mod join;
mod keeper;
mod migration;
mod operator;
mod outlets;
mod process;
mod rate;
mod recovery;
mod restarts;
mod restored;
mod snapshot;
mod source;
mod state;
mod stepwise;
mod stretches;
mod swap;
mod task;
mod transform;
mod view;
mod windowed;

use std::fmt;

use tidemill_flow::batch::Batch;
use tidemill_flow::storage::StorageError;
use tidemill_flow::watermark::Progress;

use crate::log::ReadError;
use crate::plugin::Failure;
use crate::sink::{Closed, WriteError};

pub use clock::ProcessingTime;
pub use fits::{Carried, carried, differences, fits, positions_fit, state_of};
pub use job::{Control, Ended, Job, Stop};
pub(crate) use keeper::components;
pub use recovery::Checkpointing;
pub use restarts::Restarts;
pub(crate) use restored::{KEY_HASH, position, read_position};
pub use stepwise::{Output, Saved, Stepwise};
pub use swap::{Swap, Swapping};
pub use view::View;

/// What a task receives from another.
#[derive(Clone, Debug)]
enum Signal {
    /// Rows.
    Batch(Batch),
    /// Rows of the second input of a join. Only within a task.
    Second(Batch),
    /// Event time has come this far on this channel.
    Watermark(i64),
    /// Nothing comes on this channel for now, and nobody shall wait for its watermark.
    Idle,
    /// The channel counts again: rows may come.
    Active,
    /// What came before belongs to a checkpoint, what comes after doesn't.
    Barrier(Barrier),
    /// Timers are due. Only within a task.
    Due,
    /// Nothing more will come.
    End,
}

impl From<Progress> for Signal {
    fn from(progress: Progress) -> Self {
        match progress {
            Progress::Watermark(watermark) => Self::Watermark(watermark),
            Progress::Idle => Self::Idle,
            Progress::Active => Self::Active,
        }
    }
}

/// The mark of a checkpoint in the data flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Barrier {
    checkpoint: u64,
    /// Nothing comes after it.
    last: bool,
    /// Behind it operators may be of another version: so none may overtake rows before it.
    swap: bool,
}

/// Why a pipeline failed.
#[derive(Debug)]
pub enum JobError {
    /// A source can't be read.
    Read(ReadError),
    /// A sink can't be written.
    Write(WriteError),
    /// An operator failed.
    Operator {
        /// Its id.
        id: String,
        /// The SHA-256 of its component.
        digest: String,
        /// How it failed.
        failure: Failure,
        /// The rows it was given: where the first stands in its source.
        at: Option<String>,
    },
    /// State can't be read or written.
    State(StorageError),
    /// The pipeline can't go on from its checkpoints.
    Recovery(String),
    /// A newer run has begun with the same checkpoints, so this one may not go on.
    Superseded(String),
    /// So many checkpoints have failed that it gives up.
    Checkpoint(String),
    /// A version that was swapped in hasn't passed its probation.
    Probation(String),
    /// Another part failed first; its error says why.
    Disconnected,
}

impl fmt::Display for JobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(error) => write!(f, "{error}"),
            Self::Write(error) => write!(f, "{error}"),
            Self::Operator { id, digest, failure, at } => {
                write!(f, "operator `{id}` (component {})", &digest[..12.min(digest.len())])?;
                if let Some(at) = at {
                    write!(f, ", in the batch that begins at {at}")?;
                }
                write!(f, ": {failure}")
            }
            Self::State(error) => write!(f, "{error}"),
            Self::Recovery(message)
            | Self::Superseded(message)
            | Self::Checkpoint(message)
            | Self::Probation(message) => f.write_str(message),
            Self::Disconnected => f.write_str("a part of the pipeline stopped before it was done"),
        }
    }
}

impl std::error::Error for JobError {}

impl From<StorageError> for JobError {
    fn from(error: StorageError) -> Self {
        Self::State(error)
    }
}

impl From<ReadError> for JobError {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

/// A queue or writer that is gone was left by somebody who failed, and whose error is the one to show.
impl From<Closed> for JobError {
    fn from(_: Closed) -> Self {
        Self::Disconnected
    }
}
