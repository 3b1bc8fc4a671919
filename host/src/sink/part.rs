//! Parts: rows that are safe, and appear when their checkpoint is committed.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use tidemill_checkpoint::{Becomes, Part as PartEntry, failpoint};

use super::log::LogPart;
use super::stream::StreamPart;
use super::{Destination, WriteError};

/// Rows that are written and synced, and appear when their checkpoint is committed.
#[derive(Clone, Debug)]
pub enum Part {
    /// A file gets its name.
    File(FilePart),
    /// Records are published in a log.
    Log(LogPart),
    /// Messages are published in a stream.
    Stream(Box<StreamPart>),
}

/// A file that gets its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilePart {
    /// The file as it is now.
    pub staged: PathBuf,
    /// What it will be called.
    pub committed: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// The rows in it.
    pub rows: u64,
}

impl Part {
    /// How many rows it has.
    pub fn rows(&self) -> u64 {
        match self {
            Self::File(part) => part.rows,
            Self::Log(part) => part.rows,
            Self::Stream(part) => part.rows,
        }
    }

    /// How many bytes its rows have.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::File(part) => part.bytes,
            Self::Log(part) => part.bytes,
            Self::Stream(part) => part.bytes,
        }
    }

    /// The part as a manifest has it: its names are in the folder of its destination.
    ///
    /// # Errors
    /// When a name can't stand in a manifest.
    pub fn entry(&self) -> Result<PartEntry, String> {
        match self {
            Self::File(FilePart { staged, committed, bytes, rows }) => Ok(PartEntry {
                staged: name(staged)?.parse()?,
                becomes: Becomes::File { committed: name(committed)?.parse()? },
                bytes: *bytes,
                rows: *rows,
                sha256: None,
            }),
            Self::Log(part) => part.entry(),
            Self::Stream(part) => part.entry(),
        }
    }

    /// The part that a manifest has. `destination` is where the plan's sink of this name writes now, if there is one.
    ///
    /// # Errors
    /// When the log that it is for can't be opened, or the plan says no more where its stream is.
    pub fn of_entry(
        (pipeline, sink): (&str, &str),
        folder: &Path,
        entry: &PartEntry,
        destination: Option<&Destination>,
        run: u64,
    ) -> Result<Self, WriteError> {
        let staged = entry.staged.in_folder(folder);
        let (bytes, rows) = (entry.bytes, entry.rows);
        Ok(match &entry.becomes {
            Becomes::File { committed } => {
                Self::File(FilePart { staged, committed: committed.in_folder(folder), bytes, rows })
            }
            Becomes::Messages { stream, epoch } => {
                let Some(Destination::Transmissions(to)) = destination.filter(|d| d.stream() == Some(stream))
                else {
                    return Err(WriteError(format!(
                        "the checkpoint has rows for the stream `{stream}` that the sink `{sink}` hadn't published yet, but \
                         the pipeline has no such sink with exactly-once delivery any more; put it back, let the pipeline go \
                         on, and stop it with Ctrl-C before you change that"
                    )));
                };
                let staged = entry.staged.in_folder(to.folder());
                Self::Stream(Box::new(StreamPart { sink: to.clone(), staged, epoch: *epoch, bytes, rows }))
            }
            Becomes::Transaction { epoch } => {
                let log = match destination.and_then(Destination::log) {
                    Some(log) if log.folder() == folder => log.clone(),
                    // The plan has changed; the promise stands.
                    _ => super::LogSink::open(folder, pipeline, sink, run)?,
                };
                Self::Log(LogPart { log, staged, epoch: *epoch, bytes, rows })
            }
        })
    }
}

pub(super) fn name(path: &Path) -> Result<&str, String> {
    let name = path.file_name().and_then(OsStr::to_str);
    name.ok_or_else(|| format!("{} has no name in UTF-8", path.display()))
}

/// Makes parts appear, those that haven't yet. Doing it again changes nothing. If that `was_begun` before, a part that is
/// there under neither name has appeared, and somebody has taken it away: what is staged only a commit moves.
///
/// # Errors
/// When a file can't be renamed, or isn't as long as it was, or was lost before it could appear; when a log can't be
/// written, or isn't the one that it was.
pub fn commit(parts: &[Part], was_begun: bool) -> Result<(), WriteError> {
    let mut folders: Vec<&Path> = Vec::new();
    for part in parts {
        match part {
            Part::File(part) => {
                let is_there = rename(part, was_begun).map_err(|why| {
                    WriteError(format!("cannot commit {}: {why}", part.committed.display()))
                })?;
                folders.extend(part.committed.parent().filter(|_| is_there));
            }
            Part::Log(part) => part.publish(was_begun)?,
            Part::Stream(part) => part.publish(was_begun)?,
        }
    }
    folders.sort();
    folders.dedup();
    for folder in folders {
        let synced = File::open(folder).and_then(|f| f.sync_all());
        synced.map_err(|e| WriteError(format!("cannot commit {}: {e}", folder.display())))?;
    }
    Ok(())
}

/// Says whether the file is there then: else it was, and somebody has taken it away.
fn rename(part: &FilePart, was_begun: bool) -> Result<bool, String> {
    failpoint::at("commit.rename").map_err(|e| e.to_string())?;
    let FilePart { staged, committed, bytes, .. } = part;
    let length = |path: &Path| fs::metadata(path).map(|m| m.len());
    match (length(staged), length(committed)) {
        (Ok(found), _) if found == *bytes => {
            fs::rename(staged, committed).map_err(|e| e.to_string()).map(|()| true)
        }
        // Renamed by a commit that may have ended before the folder was safe.
        (Err(_), Ok(found)) if found == *bytes => Ok(true),
        (Ok(found), _) | (Err(_), Ok(found)) => {
            let path = if staged.exists() { staged } else { committed };
            Err(format!("{} has {found} bytes, but {bytes} were written", path.display()))
        }
        (Err(_), Err(_)) if was_begun => {
            tracing::warn!(
                "{} is gone: it has appeared, unless somebody removed it before",
                committed.display()
            );
            Ok(false)
        }
        (Err(error), Err(_)) => Err(format!("neither it nor {} is there ({error})", staged.display())),
    }
}
