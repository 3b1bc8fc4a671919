//! What can go wrong with a stream, told to the person who meets it.

use std::fmt;

/// A stream could not do what was asked of it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Error {
    /// The settings can't be used; the message says which and why.
    Settings(String),
    /// No server answers, or not in time: it may go by itself.
    Unavailable {
        /// What was tried, as in "read the stream `orders`".
        action: String,
        /// Why it failed.
        reason: String,
    },
    /// The server has refused something.
    Refused {
        /// What was tried.
        action: String,
        /// Its error code, as in 10071; 0: it named none.
        code: u64,
        /// Its words.
        reason: String,
        /// What can be done.
        advice: String,
    },
    /// The server has no such stream.
    NoStream {
        /// The stream.
        stream: String,
    },
    /// A stream isn't what it was when a position was taken in it: it was purged, made anew, rolled back, or has a gap.
    Changed {
        /// The stream.
        stream: String,
        /// What was expected.
        expected: String,
        /// What was found.
        found: String,
        /// What can be done.
        advice: String,
    },
    /// A stream can't be used for this as it is configured.
    Unfit {
        /// The stream.
        stream: String,
        /// What it would have to be.
        reason: String,
        /// What can be done, with the line to type.
        advice: String,
    },
    /// A message can't be published as it is.
    Message {
        /// Where it was to go.
        subject: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An epoch can't be published as it is.
    Epoch {
        /// Whose it is.
        producer: String,
        /// Its number.
        epoch: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// Another run has taken over the output of this one.
    Fenced {
        /// The stream.
        stream: String,
        /// Whose output it is.
        producer: String,
        /// Who has taken over, as far as is known.
        by: String,
    },
}

impl Error {
    /// Whether the same may succeed when it is tried again.
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Settings(message) => f.write_str(message),
            Self::Unavailable { action, reason } => write!(f, "cannot {action}: {reason}"),
            Self::Refused { action, code, reason, advice } => {
                write!(f, "cannot {action}: the server says: {reason}")?;
                if *code > 0 {
                    write!(f, " (error {code})")?;
                }
                write!(f, "; {advice}")
            }
            Self::NoStream { stream } => {
                write!(f, "there is no stream `{stream}`; make it first, or name one that is there")
            }
            Self::Changed { stream, expected, found, advice } => {
                write!(f, "the stream `{stream}` has changed: expected {expected}, found {found}; {advice}")
            }
            Self::Unfit { stream, reason, advice } => {
                write!(f, "the stream `{stream}` can't be used: {reason}; {advice}")
            }
            Self::Message { subject, reason } => {
                write!(f, "a message to `{subject}` can't be published: {reason}")
            }
            Self::Epoch { producer, epoch, reason } => {
                write!(f, "epoch {epoch} of `{producer}` can't be published: {reason}")
            }
            Self::Fenced { stream, producer, by } => write!(
                f,
                "another run writes the output of `{producer}` to the stream `{stream}` now ({by}); this one has \
                 written nothing since, and ends"
            ),
        }
    }
}

impl std::error::Error for Error {}
