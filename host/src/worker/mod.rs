//! Running a plan: tasks that take signals from queues, ask the flow what is due, call plugins, and pass on
//! what comes back.
//!
//! A task belongs to one thread at a time and owns everything it changes. Tasks send each other [`Signal`]s
//! through bounded queues; a full queue is all of back-pressure: whoever feeds it waits, up to the source,
//! which doesn't read on.

mod aggregate;
mod inbox;
mod job;
mod outlets;
mod source;
mod stretches;
mod task;
mod transform;

use std::fmt;

use tidemill_flow::batch::Batch;

use crate::log::ReadError;
use crate::plugin::Failure;
use crate::sink::{Closed, WriteError};

pub use job::{Ended, Job, Stop};

/// What a task receives from another.
#[derive(Clone, Debug)]
enum Signal {
    /// Rows.
    Batch(Batch),
    /// Event time has come this far on this channel.
    Watermark(i64),
    /// Nothing more will come.
    End,
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
            Self::Disconnected => f.write_str("a part of the pipeline stopped before it was done"),
        }
    }
}

impl std::error::Error for JobError {}

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
