//! Rows in an embedded log, each a record.
//!
//! Exactly once: the rows that a task sends behind a barrier are one epoch, staged in a file within the log's folder.
//! When a checkpoint is committed, each of its epochs is published as a transaction, which the log takes once.
//!
//! A log takes an epoch only if it is higher than the last, so the numbers must rise in the order in which epochs are
//! committed, over all runs. The epoch behind barrier `b` is `b + 1`:
//!
//! 1. What a checkpoint `n` commits came before its barrier, so behind a barrier `b < n`: all its epochs are at most
//!    `n`. If checkpoints before it were given up there are several, and they are committed in their order. All that
//!    comes later comes behind a barrier `b >= n`, so it has a higher epoch.
//! 2. A run begins as if the barrier before its first checkpoint `m` had been sent (see
//!    [`Prepared::new`](super::Prepared::new)), so its epochs begin with `m`. `m` is higher than the number of every
//!    checkpoint that was stored before, and only what was stored has been committed: by 1. every epoch that the log
//!    has is lower than `m`.
//! 3. Who goes on from a checkpoint publishes its epochs again, which does nothing if they had been, and before any
//!    other.
//!
//! No older run of the pipeline can come in between: from its start to its end a run holds the lock of the log's only
//! writer, which is opened once.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use tidemill_checkpoint::{Becomes, Part as PartEntry, failpoint};
use tidemill_log::{
    Durability, LogError, Options, Outcome, PartitionInfo, Record, Stage, Staged, Staging, Writer,
    partition_of, stage, staged,
};

use super::part::name;
use super::unmet::{Offsets, RecordId, Repeatable, record_id};
use super::{Beside, Block, Output, Part, WriteError};

/// The folder within the log's for what is staged.
const STAGED: &str = "staged";

/// How many bytes of a partition become one append; a single row may have more. Far below what a log takes at once.
const APPEND_BYTES: usize = 4 << 20;

/// A sink's access to an embedded log. Its clones share the one writer.
#[derive(Clone, Debug)]
pub struct LogSink {
    writer: Arc<Writer>,
    /// By what name the log knows the sink.
    producer: String,
    /// The number of the run that writes.
    run: u64,
}

impl LogSink {
    /// Opens the log, which is there, for a pipeline's sink.
    ///
    /// # Errors
    /// When somebody else writes the log, or it can't be written.
    pub fn open(folder: &Path, pipeline: &str, sink: &str, run: u64) -> Result<Self, WriteError> {
        let open = |folder: PathBuf| Writer::open(&folder).map_err(|e| e.to_string());
        let opened = std::path::absolute(folder).map_err(|e| e.to_string()).and_then(open);
        let writer = opened.map_err(|e| WriteError(format!("sink `{sink}`: {e}")))?;
        for cut in writer.cuts() {
            tracing::warn!("sink `{sink}`: the last writer didn't end in order; {cut}");
        }
        // A transaction lasts in any case. What is appended at once is synced at the barriers.
        let writer = Arc::new(writer.with_durability(Durability::OnRequest));
        Ok(Self { writer, producer: format!("{pipeline}/{sink}"), run })
    }

    /// Opens the log, and makes it with so many partitions if there is none.
    ///
    /// # Errors
    /// As [`Self::open`]; when the log can't be made.
    pub fn open_or_make(
        folder: &Path,
        partitions: u32,
        pipeline: &str,
        sink: &str,
        run: u64,
    ) -> Result<Self, WriteError> {
        make_if_missing(folder, partitions).map_err(|e| {
            WriteError(format!("sink `{sink}`: cannot make the log {}: {e}", folder.display()))
        })?;
        Self::open(folder, pipeline, sink, run)
    }

    /// By which the log is told from any other.
    pub fn identity(&self) -> u64 {
        self.writer.log().identity()
    }

    /// Whether it has any record at these offsets.
    pub fn has_any(&self, repeatable: &Repeatable) -> bool {
        let partitions = self.writer.info().partitions;
        let has_any = |(info, offsets): (&PartitionInfo, &Offsets)| {
            !offsets.before.is_empty() || offsets.from < info.next_offset
        };
        partitions.iter().zip(&repeatable.partitions).any(has_any)
    }

    pub(super) fn writer(&self) -> &Writer {
        &self.writer
    }

    /// The log's folder.
    pub fn folder(&self) -> &Path {
        self.writer.log().folder()
    }

    /// Whether output can be added to what the log has of this sink when the pipeline goes on from a checkpoint; none:
    /// when it begins. The epochs that the checkpoint stands for are at most its number.
    ///
    /// # Errors
    /// When the log has output that the checkpoint doesn't know of, and that would come again.
    pub(super) fn check_goes_on(&self, checkpoint: Option<u64>) -> Result<(), String> {
        let Some(last) = self.writer.last_epoch(&self.producer) else { return Ok(()) };
        let log = self.folder().display();
        match checkpoint {
            None => Err(format!(
                "the log {log} has output of `{}` already, but there is no checkpoint that it belongs to: starting \
                 from the beginning would write its rows again; move the log away, or give the sink another path",
                self.producer
            )),
            Some(checkpoint) if last > checkpoint => Err(format!(
                "the log {log} has output of `{}` up to checkpoint {last}, but the newest checkpoint is {checkpoint}: \
                 going on from it would write rows again; put back the checkpoints that belong to the log",
                self.producer
            )),
            Some(_) => Ok(()),
        }
    }

    /// Removes what is staged.
    pub(super) fn discard(&self) -> Result<(), WriteError> {
        let discard = || staged(&self.staging(), &self.producer)?.into_iter().try_for_each(Staged::remove);
        discard().map_err(|e: LogError| {
            WriteError(format!("cannot clear what was staged for {}: {e}", self.folder().display()))
        })
    }

    fn staging(&self) -> PathBuf {
        self.folder().join(STAGED)
    }
}

/// Makes a log beside its place and moves it there when it is whole: half a log would be none, and could not be made one.
fn make_if_missing(folder: &Path, partitions: u32) -> Result<(), String> {
    let io = |e: io::Error| e.to_string();
    let folder = std::path::absolute(folder).map_err(io)?;
    match fs::read_dir(&folder).map(|mut entries| entries.next().is_none()) {
        Ok(false) => return Ok(()),
        Ok(true) => fs::remove_dir(&folder).map_err(io)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error.to_string()),
    }
    let making = folder.with_file_name(format!(".{}.making", name(&folder)?));
    match fs::remove_dir_all(&making) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.to_string()),
        _ => {}
    }
    let options = Options { partitions, ..Options::default() };
    Writer::create(&making, &options).and_then(Writer::close).map_err(|e| e.to_string())?;
    fs::rename(&making, &folder).map_err(io)?;
    let parent = folder.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all());
    parent.map_err(io)
}

/// Records that are staged, and appear when they are published.
#[derive(Clone, Debug)]
pub struct LogPart {
    pub(super) log: LogSink,
    pub(super) staged: PathBuf,
    pub(super) epoch: u64,
    /// Of the rows.
    pub(super) bytes: u64,
    pub(super) rows: u64,
}

impl LogPart {
    pub(super) fn entry(&self) -> Result<PartEntry, String> {
        Ok(PartEntry {
            staged: format!("{STAGED}/{}", name(&self.staged)?).parse()?,
            becomes: Becomes::Transaction { epoch: self.epoch },
            bytes: self.bytes,
            rows: self.rows,
            sha256: None,
        })
    }

    /// Publishes the records, if they haven't been; `was_begun`: they may have been.
    pub(super) fn publish(&self, was_begun: bool) -> Result<(), WriteError> {
        self.try_publish(was_begun).map_err(|why| {
            let (epoch, log) = (self.epoch, self.log.folder().display());
            WriteError(format!(
                "cannot commit transaction {epoch} of `{}` to {log}: {why}",
                self.log.producer
            ))
        })
    }

    fn try_publish(&self, was_begun: bool) -> Result<(), String> {
        failpoint::at("commit.rename").map_err(|e| e.to_string())?;
        let LogSink { writer, producer, run } = &self.log;
        let last = writer.last_epoch(producer);
        if !self.staged.exists() {
            // Removed only when it was published: so it was, in this log or in another that stood here.
            return match last {
                Some(last) if last >= self.epoch => Ok(()),
                _ => Err(format!(
                    "the log doesn't have it, and its staged file {} is gone; if another log was put in this one's \
                     place, put the old one back",
                    self.staged.display()
                )),
            };
        }
        let published = Staged::open(&self.staged).and_then(|staged| {
            let outcome = writer.publish(*run, std::slice::from_ref(&staged))?;
            Ok((staged, outcome))
        });
        let (staged, outcome) = published.map_err(|e| e.to_string())?;
        if let (Outcome::AlreadyCommitted { last_epoch }, false) = (outcome, was_begun) {
            return Err(format!(
                "the log has transaction {last_epoch} already, which nobody has begun to commit"
            ));
        }
        failpoint::at("commit.rename").map_err(|e| e.to_string())?;
        staged.remove().map_err(|e| e.to_string())
    }
}

/// Who stages rows, where, and for whom.
pub(super) trait Stager: Send {
    /// Where they are staged.
    fn folder(&self) -> PathBuf;
    /// For whom, in which run.
    fn producer(&self) -> (&str, u64);
    /// Over how many partitions they are shared out.
    fn partitions(&self) -> u32;
    /// What is published when its checkpoint is committed; `bytes` are those of the rows.
    fn part(&self, staged: &Staged, bytes: u64) -> Part;
}

impl Stager for LogSink {
    fn folder(&self) -> PathBuf {
        self.staging()
    }

    fn producer(&self) -> (&str, u64) {
        (&self.producer, self.run)
    }

    fn partitions(&self) -> u32 {
        self.writer.log().partitions()
    }

    fn part(&self, staged: &Staged, bytes: u64) -> Part {
        let (epoch, rows) = (staged.stage().epoch, staged.records());
        Part::Log(LogPart { log: self.clone(), staged: staged.path().to_path_buf(), epoch, bytes, rows })
    }
}

/// Rows that are staged, for each epoch in a file of its own.
pub(super) struct StagedRecords<S> {
    stager: S,
    turn: Turn,
    /// By the barrier after which the rows came.
    open: BTreeMap<u64, OpenEpoch>,
}

struct OpenEpoch {
    staging: Staging,
    bytes: u64,
}

impl<S: Stager> StagedRecords<S> {
    pub(super) fn new(stager: S) -> Self {
        Self { stager, turn: Turn::default(), open: BTreeMap::new() }
    }
}

impl<S: Stager> Output for StagedRecords<S> {
    fn write(&mut self, block: &Block, barrier: u64) -> io::Result<()> {
        let OpenEpoch { staging, bytes } = match self.open.entry(barrier) {
            Entry::Occupied(open) => open.into_mut(),
            Entry::Vacant(free) => {
                let (producer, run) = self.stager.producer();
                let of = Stage { producer: producer.to_owned(), run, epoch: barrier + 1, part: 0 };
                let staging = stage(&self.stager.folder(), of).map_err(io::Error::other)?;
                free.insert(OpenEpoch { staging, bytes: 0 })
            }
        };
        *bytes += block.bytes.len() as u64;
        let partitions = self.stager.partitions();
        self.turn.share_out(block, partitions, |partition, records| staging.append(partition, records))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn passed(&mut self, checkpoint: u64) -> io::Result<Vec<Part>> {
        failpoint::at("sink.part")?;
        let after = self.open.split_off(&checkpoint);
        let before = std::mem::replace(&mut self.open, after);
        let mut parts = Vec::new();
        for OpenEpoch { staging, bytes } in before.into_values() {
            let staged = staging.finish().map_err(io::Error::other)?;
            parts.push(self.stager.part(&staged, bytes));
        }
        Ok(parts)
    }

    /// What no barrier followed is published by nobody; files that are dropped unfinished are removed.
    fn finish(&mut self) -> io::Result<()> {
        self.open.clear();
        Ok(())
    }
}

/// Rows that are appended at once.
pub(super) struct Appended {
    log: LogSink,
    turn: Turn,
}

impl Appended {
    pub(super) fn new(log: LogSink) -> Self {
        Self { log, turn: Turn::default() }
    }
}

impl Output for Appended {
    fn write(&mut self, block: &Block, _: u64) -> io::Result<()> {
        let writer = &self.log.writer;
        let append = |partition, records: &[Record<'_>]| writer.append(partition, records).map(drop);
        self.turn.share_out(block, writer.log().partitions(), append)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn passed(&mut self, _: u64) -> io::Result<Vec<Part>> {
        self.log.writer.sync().map_err(io::Error::other)?;
        Ok(Vec::new())
    }

    fn finish(&mut self) -> io::Result<()> {
        self.log.writer.sync().map_err(io::Error::other)
    }
}

/// Which partition gets the next block without keys.
#[derive(Default)]
pub(super) struct Turn(u32);

impl Turn {
    /// Gives each partition its records, at most so many at once that a log takes them.
    pub(super) fn share_out(
        &mut self,
        block: &Block,
        partitions: u32,
        mut append: impl FnMut(u32, &[Record<'_>]) -> Result<(), LogError>,
    ) -> io::Result<()> {
        let none = Beside::default();
        let Beside { times, keys, ids } = block.beside.as_ref().unwrap_or(&none);
        self.0 = (self.0 + 1) % partitions;
        let now_ms = now_ms();
        let ids: Option<Vec<RecordId>> =
            ids.as_ref().map(|ids| ids.iter().map(|id| record_id(*id)).collect());
        let mut shares: BTreeMap<u32, (usize, Vec<Record<'_>>)> = BTreeMap::new();
        let lines = block.bytes.split_inclusive(|b| *b == b'\n');
        for (row, line) in lines.enumerate() {
            let key = keys.as_ref().map(|keys| keys.get(row));
            let partition = key.map_or(self.0, |key| partition_of(key, partitions));
            let record = Record {
                timestamp_ms: times.as_ref().map_or(now_ms, |times| times[row]),
                key,
                id: ids.as_ref().map(|ids| ids[row].as_slice()),
                value: line.strip_suffix(b"\n").unwrap_or(line),
            };
            let (bytes, records) = shares.entry(partition).or_default();
            *bytes += record.bytes();
            records.push(record);
            if *bytes >= APPEND_BYTES {
                append(partition, records).map_err(io::Error::other)?;
                (*bytes, *records) = (0, Vec::new());
            }
        }
        let mut left = shares.into_iter().filter(|(_, (_, records))| !records.is_empty());
        left.try_for_each(|(partition, (_, records))| append(partition, &records)).map_err(io::Error::other)
    }
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
