//! What can go wrong with a store, each with what to do about it.

use std::fmt;
use std::io;

use crate::names::{CheckpointName, Digest, Selector};

/// A store couldn't do what it was asked for.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The file system or the storage service failed.
    Io {
        /// What was tried, as in `write /data/x`.
        doing: String,
        /// Why it failed.
        source: io::Error,
    },
    /// Another process runs this pipeline.
    InUse {
        /// The store.
        store: String,
        /// Who holds it, if that is known.
        holder: String,
    },
    /// A newer run has begun; this process may not write any more.
    Fenced {
        /// The store.
        store: String,
        /// The run of this process.
        run: u64,
        /// The newest run.
        newest: u64,
    },
    /// The store belongs to another pipeline.
    OtherPipeline {
        /// The store.
        store: String,
        /// Whose it is.
        found: String,
        /// Who asked.
        expected: String,
    },
    /// The folder holds something else.
    NotAStore {
        /// The folder.
        store: String,
        /// What is there, or isn't.
        why: String,
    },
    /// A file isn't what was written.
    Broken {
        /// The file or files.
        file: String,
        /// What is wrong with it.
        why: String,
    },
    /// A newer version wrote it.
    NewerFormat {
        /// The file.
        file: String,
        /// The format that it has.
        found: u64,
        /// The format that this version knows.
        known: u32,
    },
    /// It isn't in the store.
    Missing {
        /// The store.
        store: String,
        /// What was asked for.
        what: Selector,
    },
    /// It is in the store already, and is never overwritten.
    Exists {
        /// The store.
        store: String,
        /// What is there.
        what: String,
    },
    /// The newest checkpoint can't be deleted.
    Newest {
        /// The store.
        store: String,
        /// It.
        name: CheckpointName,
    },
    /// A name or value is not allowed.
    Invalid(String),
    /// Something that was written may be lost, though later calls would succeed.
    Distrusted {
        /// The store.
        store: String,
        /// What failed first.
        first: String,
    },
}

impl Error {
    pub(crate) fn io(doing: impl fmt::Display) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing: doing.to_string(), source }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { doing, source } => write!(f, "cannot {doing}: {source}"),
            Self::InUse { store, holder } => {
                write!(f, "the checkpoints in {store} are in use by {holder}; stop that first")
            }
            Self::Fenced { store, run, newest } => write!(
                f,
                "run {newest} of the pipeline has begun with the checkpoints in {store}, so run {run} may not write \
                 there any more; this process has to end"
            ),
            Self::OtherPipeline { store, found, expected } => write!(
                f,
                "the checkpoints in {store} are those of pipeline `{found}`, not of `{expected}`; give each pipeline \
                 its own folder"
            ),
            Self::NotAStore { store, why } => write!(f, "{store} holds no checkpoints: {why}"),
            Self::Broken { file, why } => {
                write!(
                    f,
                    "{file} can't be believed: {why}; bring it back from a copy, or choose another checkpoint"
                )
            }
            Self::NewerFormat { file, found, known } => write!(
                f,
                "{file} has format {found}, and this version knows formats up to {known}; use a newer tidemill"
            ),
            Self::Missing { store, what } => {
                write!(f, "there is no {what} in {store}; `tidemill checkpoint list` shows what there is")
            }
            Self::Exists { store, what } => write!(f, "{store} has {what} already"),
            Self::Newest { store, name } => write!(
                f,
                "{name} in {store} is the newest, and going on from an older one would publish rows twice; to begin \
                 anew, remove the output and the whole folder"
            ),
            Self::Invalid(why) => f.write_str(why),
            Self::Distrusted { store, first } => write!(
                f,
                "nothing more is written to {store} since this failed: {first}; what was written before may be lost, \
                 so restart the pipeline, which checks it"
            ),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// A file of a checkpoint isn't what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// It is gone.
    Missing {
        /// The file.
        file: String,
        /// What it is where it is restored.
        name: String,
    },
    /// It has another size.
    Size {
        /// The file.
        file: String,
        /// What it is where it is restored.
        name: String,
        /// The size in the manifest, in bytes.
        expected: u64,
        /// The size it has, in bytes.
        found: u64,
    },
    /// It has another content.
    Content {
        /// The file.
        file: String,
        /// What it is where it is restored.
        name: String,
        /// The digest in the manifest.
        expected: Digest,
        /// The digest it has.
        found: Digest,
    },
    /// It isn't known: a service doesn't answer, or what it sends can't be written to the local disk.
    Unreachable {
        /// The file.
        file: String,
        /// What it is where it is restored.
        name: String,
        /// Why.
        why: String,
    },
    /// It can't be read.
    Unreadable {
        /// The file.
        file: String,
        /// What it is where it is restored.
        name: String,
        /// Why.
        why: String,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { file, name } => write!(f, "{file} (`{name}` of the state) is missing")?,
            Self::Size { file, name, expected, found } => {
                write!(f, "{file} (`{name}` of the state) has {found} bytes instead of {expected}")?;
            }
            Self::Content { file, name, expected, found } => write!(
                f,
                "{file} (`{name}` of the state) was changed: it has SHA-256 {found} instead of {expected}"
            )?,
            Self::Unreachable { file, name, why } => {
                return write!(
                    f,
                    "{file} (`{name}` of the state) can't be brought here: {why}; then start again"
                );
            }
            Self::Unreadable { file, name, why } => {
                write!(f, "{file} (`{name}` of the state) can't be read: {why}")?;
            }
        }
        f.write_str("; bring it back from a copy, or choose another checkpoint")
    }
}
