//! Rows as messages of a stream: for exactly-once delivery they are staged in a file for each epoch, and when their
//! checkpoint is committed, each of its epochs is published whole; otherwise they are published at once.
//!
//! Epochs are numbered as those of an embedded log are, see [`super::log`]; the stream itself says which was published
//! last. What is staged goes into the checkpoint, so that whoever goes on from it can publish it, wherever that is.

use std::collections::HashSet;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidemill_checkpoint::{Becomes, Part as PartEntry, failpoint};
use tidemill_jetstream::{
    Connection, Epoch, Error, Outcome, Outgoing, Pipelined, Transactions, WindowLimits,
    check_duplicate_window, check_takes, ensure_stream, identity_of,
};
use tidemill_log::{LogError, Record, Staged, StagedReader};

use super::copies::{self, Behind, write_id};
use super::part::name;
use super::unmet::Repeatable;
use super::{Beside, Block, Output, Part, WriteError};
use crate::nats::{patiently, runtime, wait};
use crate::pipeline::plan::StreamOutput;

/// In the folder for working copies, what is staged for streams.
const STAGED: &str = "staged";

/// A sink's access to a stream. Its clones share it.
#[derive(Clone)]
pub struct StreamSink {
    connection: Connection,
    stream: String,
    /// By what name the stream knows the sink.
    pub(super) producer: String,
    /// The number of the run that writes.
    pub(super) run: u64,
    /// Where rows are staged.
    folder: PathBuf,
    /// By which the stream is told from any other, where messages have ids.
    identity: u64,
    /// The ids of messages that may come again; none: messages have no ids.
    copies: Option<Arc<HashSet<i128>>>,
    /// Where those begin.
    copies_from: u64,
    /// Where epochs are published, for exactly-once delivery.
    transactions: Option<Arc<tokio::sync::Mutex<Transactions>>>,
}

impl fmt::Debug for StreamSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { stream, producer, run, .. } = self;
        write!(f, "{producer} of run {run} to the stream {stream}")
    }
}

impl StreamSink {
    /// Connects to the servers and finds the stream, or makes it if the sink says how.
    ///
    /// # Errors
    /// When it isn't there, can't be made, or isn't fit for what the sink does with it.
    pub fn open(
        output: &StreamOutput,
        (pipeline, sink): (&str, &str),
        run: u64,
        working: &Path,
    ) -> Result<Self, WriteError> {
        let failed = |e: Error| WriteError(format!("sink `{sink}`: {e}"));
        let connection = output.servers.connection().map_err(failed)?;
        if let Some(wanted) = output.create.clone() {
            let connection = connection.clone();
            wait(async move { patiently(|| ensure_stream(&connection, &wanted)).await }).map_err(failed)?;
        }
        let (asked, stream) = (connection.clone(), output.stream.clone());
        let found = wait(async move { patiently(|| asked.stream(&stream)).await }).map_err(failed)?;
        check_takes(&found.cached_info().config, &output.subject.0.pattern()).map_err(failed)?;
        Ok(Self {
            connection,
            stream: output.stream.clone(),
            producer: format!("{pipeline}/{sink}"),
            run,
            folder: working.join(STAGED),
            identity: 0,
            copies: None,
            copies_from: 0,
            transactions: None,
        })
    }

    /// Takes the sink's output over from every older run.
    ///
    /// # Errors
    /// When the stream isn't fit for it, or can't be asked.
    pub fn take_over(mut self) -> Result<Self, WriteError> {
        let (connection, stream) = (self.connection.clone(), self.stream.clone());
        let (producer, run) = (self.producer.clone(), self.run);
        let opened = wait(async move { Transactions::open(&connection, &stream, &producer, run).await });
        let transactions = opened.map_err(|e| WriteError(format!("sink `{}`: {e}", self.producer)))?;
        self.transactions = Some(Arc::new(tokio::sync::Mutex::new(transactions)));
        Ok(self)
    }

    /// Readies it for messages that are published at once and have ids, which the server has to know for so long. `known`
    /// is what a checkpoint knows of those that come again.
    ///
    /// # Errors
    /// When the stream forgets ids earlier, or can't be asked.
    pub fn recognizing(mut self, needed: Duration, known: Option<&Repeatable>) -> Result<Self, WriteError> {
        let failed = |e: Error| WriteError(format!("sink `{}`: {e}", self.producer));
        let (connection, stream) = (self.connection.clone(), self.stream.clone());
        let stream = wait(async move { patiently(|| connection.stream(&stream)).await }).map_err(failed)?;
        let info = stream.cached_info();
        check_duplicate_window(info, needed).map_err(failed)?;
        self.identity = identity_of(info);
        self.copies_from = known.map_or(0, copies::first);
        let known = known.map(|known| copies::behind(&self.connection, &self.stream, known)).transpose();
        self.copies = Some(Arc::new(known.map_err(failed)?.unwrap_or_default()));
        Ok(self)
    }

    /// Whether the stream has messages that were published at once behind a checkpoint.
    ///
    /// # Errors
    /// When it can't be asked.
    pub fn has_any(&self, known: &Repeatable) -> Result<bool, WriteError> {
        let failed = |e: Error| WriteError(format!("sink `{}`: {e}", self.producer));
        copies::behind(&self.connection, &self.stream, known).map(|ids| !ids.is_empty()).map_err(failed)
    }

    /// Whether its messages have ids.
    pub fn recognizes(&self) -> bool {
        self.copies.is_some()
    }

    /// The stream's name.
    pub fn stream(&self) -> &str {
        &self.stream
    }

    /// The folder where rows are staged.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn last_epoch(&self) -> Option<u64> {
        let transactions = self.transactions.clone()?;
        wait(async move { transactions.lock().await.last_epoch() })
    }

    /// Whether output can be added to what the stream has of this sink when the pipeline goes on from a checkpoint; none:
    /// when it begins. The epochs that the checkpoint stands for are at most its number.
    ///
    /// # Errors
    /// When the stream has output that the checkpoint doesn't know of, and that would come again.
    pub(super) fn check_goes_on(&self, checkpoint: Option<u64>) -> Result<(), String> {
        let Some(last) = self.last_epoch() else { return Ok(()) };
        let (stream, producer) = (&self.stream, &self.producer);
        match checkpoint {
            None => Err(format!(
                "the stream `{stream}` has output of `{producer}` already, but there is no checkpoint that it belongs \
                 to: starting from the beginning would write its rows again; give the sink another stream, or purge \
                 this one of what is in it"
            )),
            Some(checkpoint) if last > checkpoint => Err(format!(
                "the stream `{stream}` has output of `{producer}` up to checkpoint {last}, but the newest checkpoint is \
                 {checkpoint}: going on from it would write rows again; put back the checkpoints that belong to the \
                 stream"
            )),
            Some(_) => Ok(()),
        }
    }

    /// Removes what is staged.
    pub(super) fn discard(&self) -> Result<(), WriteError> {
        let staged = tidemill_log::staged(&self.folder, &self.producer);
        staged.and_then(|files| files.into_iter().try_for_each(Staged::remove)).map_err(|e: LogError| {
            WriteError(format!("cannot clear what was staged for the stream `{}`: {e}", self.stream))
        })
    }
}

/// Messages that are staged, and appear when they are published.
#[derive(Clone, Debug)]
pub struct StreamPart {
    pub(super) sink: StreamSink,
    pub(super) staged: PathBuf,
    pub(super) epoch: u64,
    /// Of the rows.
    pub(super) bytes: u64,
    pub(super) rows: u64,
}

impl StreamPart {
    pub(super) fn entry(&self) -> Result<PartEntry, String> {
        let stream = self.sink.stream.clone();
        Ok(PartEntry {
            staged: name(&self.staged)?.parse()?,
            becomes: Becomes::Messages { stream, epoch: self.epoch },
            bytes: self.bytes,
            rows: self.rows,
            sha256: None,
        })
    }

    /// The file that a checkpoint must have.
    pub fn staged(&self) -> &Path {
        &self.staged
    }

    /// Publishes the messages, if they haven't been; `was_begun`: they may have been.
    pub(super) fn publish(&self, was_begun: bool) -> Result<(), WriteError> {
        self.try_publish(was_begun).map_err(|why| {
            let (epoch, stream, producer) = (self.epoch, &self.sink.stream, &self.sink.producer);
            WriteError(format!("cannot commit epoch {epoch} of `{producer}` to the stream `{stream}`: {why}"))
        })
    }

    fn try_publish(&self, was_begun: bool) -> Result<(), String> {
        failpoint::at("commit.rename").map_err(|e| e.to_string())?;
        let transactions = self.sink.transactions.clone().ok_or("its output wasn't taken over")?;
        if !self.staged.exists() {
            return match self.sink.last_epoch() {
                // Removed only when it was published.
                Some(last) if last >= self.epoch => Ok(()),
                _ => Err(format!(
                    "the stream doesn't have it, and its staged file {} is gone; if another stream was put in this one's \
                     place, put the old one back",
                    self.staged.display()
                )),
            };
        }
        let staged = Staged::open(&self.staged).map_err(|e| e.to_string())?;
        let epoch = self.epoch;
        let mut messages = StagedMessages::open(&staged).map_err(|e| e.to_string())?;
        let published = wait(async move { transactions.lock().await.publish(epoch, &mut messages).await });
        let outcome = published.map_err(|e| e.to_string())?;
        if outcome == Outcome::AlreadyCommitted && !was_begun {
            return Err("the stream has it already, though nobody has begun to commit it".to_owned());
        }
        failpoint::at("commit.rename").map_err(|e| e.to_string())?;
        staged.remove().map_err(|e| e.to_string())
    }
}

impl super::log::Stager for StreamSink {
    fn folder(&self) -> PathBuf {
        self.folder.clone()
    }

    fn producer(&self) -> (&str, u64) {
        (&self.producer, self.run)
    }

    fn partitions(&self) -> u32 {
        1
    }

    fn part(&self, staged: &Staged, bytes: u64) -> Part {
        let (epoch, rows) = (staged.stage().epoch, staged.records());
        let staged = staged.path().to_path_buf();
        Part::Stream(Box::new(StreamPart { sink: self.clone(), staged, epoch, bytes, rows }))
    }
}

/// The messages of a staged file.
struct StagedMessages {
    staged: Staged,
    reader: StagedReader,
    /// Addresses and payloads of the last frame, and which of them comes next.
    frame: Vec<(Vec<u8>, Bytes)>,
    next: usize,
}

impl StagedMessages {
    fn open(staged: &Staged) -> Result<Self, LogError> {
        Ok(Self { staged: staged.clone(), reader: staged.reader()?, frame: Vec::new(), next: 0 })
    }

    /// Reads the next frame. False: there is none.
    fn fill(&mut self) -> io::Result<bool> {
        let Some(batch) = self.reader.next_frame().map_err(io::Error::other)? else { return Ok(false) };
        let message = |(_, record): (u64, Record<'_>)| {
            (record.key.unwrap_or_default().to_vec(), Bytes::copy_from_slice(record.value))
        };
        self.frame.clear();
        self.frame.extend(batch.records().map(message));
        self.next = 0;
        Ok(true)
    }
}

impl Epoch for StagedMessages {
    fn count(&self) -> u64 {
        self.staged.records()
    }

    fn seek(&mut self, index: u64) -> io::Result<()> {
        let mut behind = 0;
        self.reader = self.staged.reader().map_err(io::Error::other)?;
        while self.fill()? {
            let frame = self.frame.len() as u64;
            if index < behind + frame {
                self.next = usize::try_from(index - behind).map_err(io::Error::other)?;
                return Ok(());
            }
            behind += frame;
        }
        (self.frame, self.next) = (Vec::new(), 0);
        Ok(())
    }

    fn next(&mut self) -> io::Result<Option<Outgoing<'_>>> {
        if self.next == self.frame.len() && !self.fill()? {
            return Ok(None);
        }
        self.next += 1;
        let (address, payload) = &self.frame[self.next - 1];
        outgoing(address, None, payload.clone()).map(Some)
    }
}

fn outgoing<'a>(address: &'a [u8], id: Option<&'a str>, payload: Bytes) -> io::Result<Outgoing<'a>> {
    let address = str::from_utf8(address).map_err(io::Error::other)?;
    let (subject, headers) = address.split_once('\n').unwrap_or((address, ""));
    Ok(Outgoing { subject, headers, id, payload })
}

/// Rows that are published at once.
pub(super) struct Published {
    pipelined: Pipelined,
    /// None: rows have no ids.
    recognizing: Option<Recognizing>,
    /// The row's id, as it is written.
    id: String,
}

/// What rows are known by that come again.
struct Recognizing {
    /// The ids of those that the stream has, of which none came yet.
    copies: HashSet<i128>,
    /// Where those begin.
    copies_from: u64,
    behind: Behind,
    repeatable: Option<Repeatable>,
}

impl Published {
    pub(super) fn open(to: StreamSink) -> io::Result<Self> {
        let StreamSink { connection, stream, copies, copies_from, identity, .. } = to;
        let opened =
            wait(async move { Pipelined::open(&connection, &stream, WindowLimits::default()).await });
        let pipelined = opened.map_err(io::Error::other)?;
        let recognizing = copies.map(|copies| Recognizing {
            copies: HashSet::clone(&copies),
            copies_from,
            behind: Behind::new(identity),
            repeatable: None,
        });
        Ok(Self { pipelined, recognizing, id: String::new() })
    }
}

impl Output for Published {
    fn write(&mut self, block: &Block, barrier: u64) -> io::Result<()> {
        let none = Beside::default();
        let Beside { keys, ids, .. } = block.beside.as_ref().unwrap_or(&none);
        let Some(addresses) = keys else { return Ok(()) };
        if let Some(recognizing) = &mut self.recognizing {
            recognizing.behind.publish(barrier, self.pipelined.last_sequence());
        }
        let payloads = Bytes::copy_from_slice(&block.bytes);
        let mut start = 0;
        for (row, line) in block.bytes.split_inclusive(|b| *b == b'\n').enumerate() {
            let payload = payloads.slice(start..start + line.strip_suffix(b"\n").unwrap_or(line).len());
            start += line.len();
            self.id.clear();
            if let (Some(recognizing), Some(ids)) = (&mut self.recognizing, ids) {
                if recognizing.copies.remove(&ids[row]) {
                    continue;
                }
                write_id(ids[row], &mut self.id);
            }
            let id = Some(self.id.as_str()).filter(|id| !id.is_empty());
            let message = outgoing(addresses.get(row), id, payload)?;
            runtime().block_on(self.pipelined.send(&message)).map_err(io::Error::other)?;
        }
        Ok(())
    }

    /// Only so is what was lost on the way sent again when no more comes.
    fn flush(&mut self) -> io::Result<()> {
        self.finish()
    }

    fn passed(&mut self, checkpoint: u64) -> io::Result<Vec<Part>> {
        self.finish()?;
        let last = self.pipelined.last_sequence();
        if let Some(recognizing) = &mut self.recognizing {
            let unmet = (!recognizing.copies.is_empty()).then_some(recognizing.copies_from);
            recognizing.repeatable = Some(recognizing.behind.passed(checkpoint, last, unmet));
        }
        Ok(Vec::new())
    }

    fn repeatable(&self) -> Option<Repeatable> {
        self.recognizing.as_ref().and_then(|recognizing| recognizing.repeatable.clone())
    }

    fn finish(&mut self) -> io::Result<()> {
        runtime().block_on(self.pipelined.flush()).map_err(io::Error::other)
    }
}
