//! What can go wrong with a plugin: it can't be loaded, or it fails while it runs.

use std::fmt;

/// A component can't be used: the message says why, and what to do.
#[derive(Clone, Debug)]
pub struct LoadError {
    message: String,
}

impl LoadError {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into() }
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for LoadError {}

/// A running guest failed. Its instance is of no further use, except after [`Failure::Refused`].
#[derive(Clone, Debug)]
pub enum Failure {
    /// It answered with an error of its own.
    Refused(String),
    /// It trapped: the reason and, where the component has names, the calls that led there.
    Trapped(String),
    /// It ran longer than a call may.
    TimedOut {
        /// What a call may take, in milliseconds.
        limit_ms: u64,
    },
    /// It wanted more memory than it may have, and then failed.
    OutOfMemory {
        /// What it may have, in bytes.
        limit_bytes: usize,
        /// How it failed then.
        then: String,
    },
    /// What it returned doesn't fit what it described.
    Malformed(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(reason) => write!(f, "{reason}"),
            Self::Trapped(reason) => write!(f, "trapped: {reason}"),
            Self::TimedOut { limit_ms } => write!(
                f,
                "ran longer than {limit_ms} ms in one call and was stopped; raise `call_timeout` if that is its work"
            ),
            Self::OutOfMemory { limit_bytes, then } => write!(
                f,
                "wanted more than its {} MiB of memory; raise `memory` if that is its work ({then})",
                limit_bytes >> 20
            ),
            Self::Malformed(what) => write!(f, "returned a malformed batch: {what}"),
        }
    }
}

impl std::error::Error for Failure {}
