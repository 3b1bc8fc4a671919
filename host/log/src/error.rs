//! What can go wrong with a log, told to the person who meets it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// A log could not do what was asked of it.
#[derive(Debug)]
#[non_exhaustive]
pub enum LogError {
    /// The file system failed.
    Io {
        /// What was tried, as in "read".
        action: &'static str,
        /// Of which file or folder.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The folder has no log that this version can read.
    NoLog {
        /// The folder.
        folder: PathBuf,
        /// What is missing or wrong.
        reason: String,
    },
    /// A log can't be created in a folder that has something in it.
    NotEmpty {
        /// The folder.
        folder: PathBuf,
    },
    /// Another writer holds the log.
    Locked {
        /// The log's folder.
        folder: PathBuf,
        /// The process that holds it, if it could be read.
        process: Option<u32>,
    },
    /// Bytes aren't as they were written, or are gone.
    Damaged {
        /// The file.
        file: PathBuf,
        /// Where in it the first bad thing begins.
        byte: u64,
        /// What is wrong there.
        reason: String,
        /// What can be done.
        advice: String,
    },
    /// The folder has another log than the one that a position was taken in.
    Recreated {
        /// The log's folder.
        folder: PathBuf,
        /// The identity of the log that was expected.
        expected: u64,
        /// The identity of the log that is there.
        found: u64,
    },
    /// Records that are wanted were removed, by `trim` or by the retention.
    Trimmed {
        /// The log's folder.
        folder: PathBuf,
        /// The partition.
        partition: u32,
        /// The offset that was wanted.
        expected: u64,
        /// The first offset that there is.
        first: u64,
    },
    /// The partition ends before the wanted offset: it lost records that it had.
    BeyondEnd {
        /// The log's folder.
        folder: PathBuf,
        /// The partition.
        partition: u32,
        /// The offset that was wanted.
        expected: u64,
        /// The offset that the next record will get.
        next: u64,
    },
    /// The records before a position aren't those that were read when it was taken.
    OtherHistory {
        /// The log's folder.
        folder: PathBuf,
        /// The partition.
        partition: u32,
        /// The position's offset.
        offset: u64,
    },
    /// There is no such partition.
    NoPartition {
        /// The log's folder.
        folder: PathBuf,
        /// The partition that was asked for.
        partition: u32,
        /// How many there are.
        partitions: u32,
    },
    /// A newer run of the producer has taken over.
    Fenced {
        /// The producer.
        producer: String,
        /// The run that was refused.
        run: u64,
        /// The run that may write.
        by: u64,
    },
    /// A limit of this crate would be passed.
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// Its size in bytes.
        bytes: u64,
        /// The limit in bytes.
        bytes_max: u64,
    },
    /// An earlier write failed so that it is unknown what the disk has; nothing more is written before the
    /// log is opened again, which finds out.
    Stopped {
        /// The log's folder.
        folder: PathBuf,
        /// The failure.
        reason: String,
    },
    /// What was asked for makes no sense.
    Invalid {
        /// Why.
        reason: String,
    },
}

/// What an operation of a log gives.
pub type Result<T, E = LogError> = std::result::Result<T, E>;

/// Makes an error of the file system one of the log.
pub(crate) fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LogError {
    let path = path.to_path_buf();
    move |source| LogError::Io { action, path, source }
}

/// A segment is damaged; whoever has no copy of it can give up what follows the damage.
pub(crate) fn damaged_segment(file: &Path, byte: u64, reason: impl Into<String>) -> LogError {
    let shown = file.display();
    let advice = format!(
        "bring the file back from a copy; or give up records: if it is the partition's last segment, what follows \
         the damage, with `truncate -s {byte} {shown}` and removing the log's file `closed`; if it isn't, all up to \
         the next segment, with `tidemill log trim`"
    );
    LogError::Damaged { file: file.to_path_buf(), byte, reason: reason.into(), advice }
}

/// A file that the log can't do without is damaged.
pub(crate) fn damaged_file(file: &Path, byte: u64, reason: impl Into<String>) -> LogError {
    let advice = "bring the file back from a copy".to_owned();
    LogError::Damaged { file: file.to_path_buf(), byte, reason: reason.into(), advice }
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { action, path, source } => write!(f, "cannot {action} {}: {source}", path.display()),
            Self::NoLog { folder, reason } => write!(f, "{} has no log: {reason}", folder.display()),
            Self::NotEmpty { folder } => {
                write!(f, "cannot create a log in {}: the folder isn't empty", folder.display())
            }
            Self::Locked { folder, process } => {
                let by = process.map_or_else(String::new, |p| format!(" by process {p}"));
                let folder = folder.display();
                write!(
                    f,
                    "the log {folder} is being written{by}; a log has one writer at a time, readers need no lock"
                )
            }
            Self::Damaged { file, byte, reason, advice } => {
                write!(f, "{} is damaged at byte {byte}: {reason}; {advice}", file.display())
            }
            Self::Recreated { folder, expected, found } => write!(
                f,
                "the log {} isn't the one that was read before: expected identity {expected:016x}, found {found:016x}; \
                 bring the former log back, or begin anew at the first offset of this one",
                folder.display()
            ),
            Self::Trimmed { folder, partition, expected, first } => write!(
                f,
                "partition {partition} of the log {} was trimmed: expected offset {expected}, found {first} as the \
                 first; bring the log back from a copy, or go on at {first} without what is gone",
                folder.display()
            ),
            Self::BeyondEnd { folder, partition, expected, next } => write!(
                f,
                "partition {partition} of the log {} regressed: expected records up to offset {expected}, found its \
                 end at {next}; bring the log back from a copy, or go on at {next} or before",
                folder.display()
            ),
            Self::OtherHistory { folder, partition, offset } => write!(
                f,
                "partition {partition} of the log {} regressed: the records before offset {offset} aren't those that \
                 were read; bring the log back from a copy, or begin anew at its first offset",
                folder.display()
            ),
            Self::NoPartition { folder, partition, partitions } => write!(
                f,
                "the log {} has no partition {partition}; its partitions are 0 to {}",
                folder.display(),
                partitions.saturating_sub(1)
            ),
            Self::Fenced { producer, run, by } => write!(
                f,
                "run {run} of producer `{producer}` may not write: run {by} has taken over; stop this one"
            ),
            Self::TooLarge { what, bytes, bytes_max } => {
                write!(f, "{what} has {bytes} bytes; at most {bytes_max} are possible")
            }
            Self::Stopped { folder, reason } => write!(
                f,
                "nothing more is written to the log {} since a write failed: {reason}; open it again",
                folder.display()
            ),
            Self::Invalid { reason } => f.write_str(reason),
        }
    }
}

impl std::error::Error for LogError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}
