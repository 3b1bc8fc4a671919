//! A partition of a source: rows in an order that never changes, with their positions and event times.

use std::fmt;
use std::task::{Context, Poll};
use std::time::Duration;

use arrow_array::ArrayRef;
use tidemill_flow::batch::{BATCH_ROWS_MAX as ROWS_MAX, Position};
use tidemill_flow::schema::Schema;
use tidemill_jetstream::Position as StreamPosition;

use super::files::{BlockError, Blocks, FilePosition};
use super::messages::Messages;
use super::nexmark;
use super::records::{LogPosition, Records};
use super::told::{Heard, Listener};
use crate::formats::{Decoded, Decoder, Format, Malformed};
use crate::pipeline::plan::{EventTimePlan, SourceInput, SourcePlan};

/// Rows that were read.
#[derive(Debug)]
pub struct Rows {
    /// The columns of the source's schema.
    pub columns: Vec<ArrayRef>,
    /// How many rows there are.
    pub count: usize,
    /// Their event times, if they tell them.
    pub times: Option<Vec<i64>>,
    /// How far time has come, if records say so: before the first row, and with each, behind which it holds;
    /// [`WATERMARK_MIN`](tidemill_flow::watermark::WATERMARK_MIN) where nothing was said.
    pub said: Option<Vec<i64>>,
    /// Their packed positions.
    pub positions: Vec<u64>,
    /// Records that couldn't be read as rows.
    pub malformed: Vec<Malformed>,
    /// What the partition itself says behind the rows.
    pub mark: Option<Mark>,
}

/// What a partition itself says of its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// Event time has come this far.
    Watermark(i64),
    /// Nothing comes for a while, and nobody waits for it.
    Idle,
    /// It counts again.
    Active,
    /// The clock was moved.
    Clock,
}

/// Reading failed; the message says where and what to do.
#[derive(Debug)]
pub struct ReadError(String);

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ReadError {}

/// A partition being read.
pub struct Partition {
    /// Its number among the pipeline's partitions.
    number: u32,
    /// The file, or what else a person knows it by.
    name: String,
    event_time: Option<EventTimePlan>,
    schema: Schema,
    reader: Reader,
}

enum Reader {
    Blocks(Box<Blocks>),
    Records(Box<Records>),
    Messages(Box<Messages>),
    Nexmark(Box<Events>),
    Told(Box<Listener>),
}

/// Events that are generated.
struct Events {
    events: nexmark::Partition,
    pace: Option<Pace>,
    rows_max: usize,
    /// Generated, and held back until their time has come.
    held: Option<nexmark::Generated>,
    /// The event that came out last.
    last: Option<u64>,
    /// The event behind which it ends, or before the first; none: with the last.
    end: Option<Option<u64>>,
}

/// Where reading begins, instead of where the source says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// With the record of this number: the offset in a log, the sequence in a stream.
    Sequence(u64),
    /// With the first record of this time or later, in milliseconds since the Unix epoch: a log's records have times
    /// beside them, and a stream's messages those at which the server got them.
    Time(i64),
}

/// How far a partition has been read: what a checkpoint holds of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionState {
    /// Its name in checkpoints.
    pub name: String,
    /// Where it goes on.
    pub position: ReadPosition,
    /// Its watermark, if its rows have event times.
    pub watermark: Option<i64>,
    /// Whether it was read to its end.
    pub ended: bool,
}

/// Where a partition goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadPosition {
    /// In a file.
    File(FilePosition),
    /// Behind this event; none: at the first.
    Generated {
        /// The number of the event that came out last.
        last: Option<u64>,
    },
    /// In a log.
    Log(LogPosition),
    /// In a stream.
    Stream(StreamPosition),
}

/// Holds generated events back until their time has passed since the first.
struct Pace {
    begun: Option<(tokio::time::Instant, i64)>,
}

impl Partition {
    /// The partition with this index of a source; `number` is its number among all of the pipeline's.
    ///
    /// # Errors
    /// When its format can't give the demanded fields, or its file or log can't be read.
    pub fn open(source: &SourcePlan, index: usize, number: u32) -> Result<Self, ReadError> {
        let decoder = |format, demands: &Vec<_>| {
            Decoder::new(format, demands.clone())
                .map_err(|e| ReadError(format!("source `{}`: {e}", source.id)))
        };
        let name = partition_name(source, index);
        let reader = match &source.input {
            SourceInput::Files { paths, format, demands } => {
                let header = Blocks::check_header(&paths[index], decoder(format, demands)?);
                header.map_err(|e| read_error(&name, e))?;
                Reader::Blocks(Box::new(Blocks::of_file(&paths[index], decoder(format, demands)?)))
            }
            SourceInput::Stdin { format, demands } => {
                Reader::Blocks(Box::new(Blocks::of_stdin(decoder(format, demands)?)))
            }
            SourceInput::Log { path, format, demands, from, until_end, .. } => {
                let (partition, decoder) = (index_number(index), decoder(format, demands)?);
                let records = Records::open(path, partition, decoder, *from, *until_end);
                Reader::Records(Box::new(records.map_err(|e| failed(&name, e))?))
            }
            SourceInput::JetStream {
                servers,
                streams,
                format,
                demands,
                metadata,
                from,
                until_end,
                allow_gaps,
            } => {
                let decoder = (decoder(format, demands)?, *format == Format::JsonLines);
                let metadata = metadata.clone();
                let how = (*from, *until_end, *allow_gaps);
                let messages = Messages::open(servers, &streams[index], decoder, metadata, how);
                Reader::Messages(Box::new(messages))
            }
            SourceInput::Nexmark { options, paced } => {
                let fields: Vec<&str> = source.schema.fields().iter().map(|f| f.name.as_str()).collect();
                let events = nexmark::Partition::new(options, index_number(index), &fields);
                // Twenty batches a second are smooth enough to watch.
                let per_batch = usize::try_from(options.events_per_second / 20).unwrap_or(ROWS_MAX);
                let rows_max = if *paced { per_batch.clamp(1, ROWS_MAX) } else { ROWS_MAX };
                let pace = paced.then_some(Pace { begun: None });
                Reader::Nexmark(Box::new(Events {
                    events,
                    pace,
                    rows_max,
                    held: None,
                    last: None,
                    end: None,
                }))
            }
            SourceInput::Told { feeds, demands, .. } => {
                Reader::Told(Box::new(feeds.open(index, decoder(&Format::JsonLines, demands)?)))
            }
        };
        Ok(Self { number, name, event_time: source.event_time, schema: source.schema.clone(), reader })
    }

    /// By which the log that it is in is told from any other; none: it is in no log.
    ///
    /// # Errors
    /// When its server can't be asked.
    pub fn log_identity(&mut self) -> Result<Option<u64>, ReadError> {
        match &mut self.reader {
            Reader::Records(records) => Ok(Some(records.identity())),
            Reader::Messages(messages) => messages.identity().map(Some).map_err(|e| failed(&self.name, e)),
            Reader::Blocks(_) | Reader::Nexmark(_) | Reader::Told(_) => Ok(None),
        }
    }

    /// How many bytes of it have been decoded; a generator has none.
    pub fn progress(&self) -> u64 {
        match &self.reader {
            Reader::Blocks(blocks) => blocks.bytes,
            Reader::Records(records) => records.bytes,
            Reader::Messages(messages) => messages.bytes,
            Reader::Nexmark(_) | Reader::Told(_) => 0,
        }
    }

    /// Where it goes on, when what was read is safe from a loss of power.
    ///
    /// # Errors
    /// When the file system can't make a log's records last.
    pub fn position(&mut self) -> Result<ReadPosition, ReadError> {
        Ok(match &mut self.reader {
            Reader::Blocks(blocks) => ReadPosition::File(blocks.position()),
            Reader::Records(records) => {
                ReadPosition::Log(records.position().map_err(|e| failed(&self.name, e))?)
            }
            Reader::Messages(messages) => {
                ReadPosition::Stream(messages.position().map_err(|e| failed(&self.name, e))?)
            }
            Reader::Nexmark(events) => ReadPosition::Generated { last: events.last },
            Reader::Told(told) => ReadPosition::Generated { last: told.records.checked_sub(1) },
        })
    }

    /// Whether [`Self::next`] has rows, or the end, without waiting for what somebody may append to a log. What else
    /// may wait isn't told: a pipe, or the pace of generated events.
    ///
    /// # Errors
    /// As [`Self::next`].
    pub fn is_ready(&mut self) -> Result<bool, ReadError> {
        match &mut self.reader {
            Reader::Records(records) => records.is_ready().map_err(|e| failed(&self.name, e)),
            Reader::Messages(messages) => messages.is_ready().map_err(|e| failed(&self.name, e)),
            Reader::Blocks(_) | Reader::Nexmark(_) => Ok(true),
            Reader::Told(told) => Ok(told.is_ready()),
        }
    }

    /// Whether it is certain that there is nothing to read, when it isn't [ready](Self::is_ready): while a server can't be
    /// asked, it isn't.
    pub fn is_silent(&self) -> bool {
        match &self.reader {
            Reader::Messages(messages) => messages.is_silent(),
            Reader::Records(_) | Reader::Blocks(_) | Reader::Nexmark(_) | Reader::Told(_) => true,
        }
    }

    /// Goes on where a checkpoint says; nothing has been read yet.
    ///
    /// # Errors
    /// When that place can't be found again: the file can't be read, isn't the one it was, or the checkpoint was taken of
    /// another kind of source.
    pub fn resume(&mut self, position: &ReadPosition) -> Result<(), ReadError> {
        match (&mut self.reader, position) {
            (Reader::Blocks(blocks), ReadPosition::File(position)) => {
                blocks.resume(position).map_err(|e| read_error(&self.name, e))
            }
            (Reader::Records(records), ReadPosition::Log(position)) => {
                records.resume(*position).map_err(|e| failed(&self.name, e))
            }
            (Reader::Messages(messages), ReadPosition::Stream(position)) => {
                messages.resume(*position).map_err(|e| failed(&self.name, e))
            }
            (Reader::Nexmark(events), ReadPosition::Generated { last }) => {
                last.iter().for_each(|&last| events.events.seek(last));
                events.last = *last;
                Ok(())
            }
            (Reader::Told(told), ReadPosition::Generated { last }) => {
                told.resume(last.map_or(0, |last| last + 1));
                Ok(())
            }
            (_, position) => Err(ReadError(format!(
                "{}: the checkpoint has the position {position:?}, which is of another kind of source",
                self.name
            ))),
        }
    }

    /// Reads up to a position, exactly, and then ends as if nothing followed.
    ///
    /// # Errors
    /// When the position is of another kind of source, or of a log or stream that was made anew since.
    pub fn end_at(&mut self, position: &ReadPosition) -> Result<(), ReadError> {
        match (&mut self.reader, position) {
            (Reader::Blocks(blocks), ReadPosition::File(position)) => {
                blocks.end_at(position.byte);
                Ok(())
            }
            (Reader::Records(records), ReadPosition::Log(position)) => {
                records.end_at(*position).map_err(|e| failed(&self.name, e))
            }
            (Reader::Messages(messages), ReadPosition::Stream(position)) => {
                messages.end_at(*position).map_err(|e| failed(&self.name, e))
            }
            (Reader::Nexmark(events), ReadPosition::Generated { last }) => {
                events.end = Some(*last);
                Ok(())
            }
            (_, position) => Err(ReadError(format!(
                "{}: it is to be read up to {position:?}, which is of another kind of source",
                self.name
            ))),
        }
    }

    /// Begins at another place than the source says; nothing has been read yet.
    ///
    /// # Errors
    /// When that can't be told of this kind of source, or the log or stream can't be read or doesn't have the place.
    pub fn begin_at(&mut self, begin: Begin) -> Result<(), ReadError> {
        match (&mut self.reader, begin) {
            (Reader::Records(records), begin) => records.begin_at(begin).map_err(|e| failed(&self.name, e)),
            (Reader::Messages(messages), begin) => {
                messages.begin_at(begin);
                Ok(())
            }
            (Reader::Nexmark(events), Begin::Sequence(number)) => {
                events.last = number.checked_sub(1);
                events.last.iter().for_each(|&last| events.events.seek(last));
                Ok(())
            }
            (Reader::Blocks(_) | Reader::Nexmark(_) | Reader::Told(_), _) => Err(ReadError(format!(
                "{}: only logs and streams know where a {} stands; begin at `beginning`, or at a checkpoint or savepoint",
                self.name,
                if matches!(begin, Begin::Time(_)) { "time" } else { "sequence" }
            ))),
        }
    }

    /// How far it has been read, as a number that only rises and that a checkpoint keeps.
    pub fn distance(&self) -> u64 {
        match &self.reader {
            Reader::Blocks(blocks) => blocks.bytes,
            Reader::Records(records) => records.offset(),
            Reader::Messages(messages) => messages.sequence(),
            Reader::Nexmark(events) => events.last.map_or(0, |last| last + 1),
            Reader::Told(told) => told.records,
        }
    }

    /// The next rows; none at the end.
    ///
    /// # Errors
    /// When the file or log can't be read, or isn't what the pipeline says it is.
    pub async fn next(&mut self) -> Result<Option<Rows>, ReadError> {
        match &mut self.reader {
            Reader::Blocks(blocks) => {
                let decoded = blocks.next().await.map_err(|e| read_error(&self.name, e))?;
                Ok(decoded.map(|decoded| self.rows(decoded)))
            }
            Reader::Records(records) => {
                let decoded = records.next().await.map_err(|e| failed(&self.name, e))?;
                Ok(decoded.map(|decoded| self.rows(decoded)))
            }
            Reader::Messages(messages) => {
                let decoded = messages.next().await.map_err(|e| failed(&self.name, e))?;
                Ok(decoded.map(|decoded| self.rows(decoded)))
            }
            Reader::Nexmark(events) => {
                let Some(generated) = events.next().await else { return Ok(None) };
                Ok(Some(Rows {
                    columns: generated.columns,
                    count: generated.rows,
                    times: Some(generated.times),
                    said: None,
                    positions: generated.positions.iter().map(|&p| position(self.number, p)).collect(),
                    malformed: Vec::new(),
                    mark: None,
                }))
            }
            Reader::Told(told) => match told.next().await.map_err(|e| failed(&self.name, e))? {
                Heard::Records(decoded) => Ok(Some(self.rows(decoded))),
                Heard::Mark(mark) => {
                    let nothing = told.nothing();
                    Ok(Some(Rows { mark: Some(mark), ..self.rows(nothing) }))
                }
                Heard::End => Ok(None),
            },
        }
    }

    /// Whether [`Self::next`] has something to say that nobody could know of before; pending for ever on what is read by
    /// looking from time to time.
    pub fn poll_told(&mut self, context: &mut Context<'_>) -> Poll<()> {
        match &mut self.reader {
            Reader::Told(told) => told.poll_ready(context),
            Reader::Messages(messages) => messages.poll_told(context),
            Reader::Blocks(_) | Reader::Records(_) | Reader::Nexmark(_) => Poll::Pending,
        }
    }

    fn rows(&self, decoded: Decoded) -> Rows {
        let Decoded { columns, rows, lines, malformed } = decoded;
        let positions = lines.iter().map(|&l| position(self.number, l)).collect();
        let rows = Rows { columns, count: rows, times: None, said: None, positions, malformed, mark: None };
        match self.event_time {
            Some(EventTimePlan::Field { column, .. }) => rows.timed(column, None, &self.schema),
            Some(EventTimePlan::Punctuated { column, watermark }) => {
                rows.timed(column, Some(watermark), &self.schema)
            }
            Some(EventTimePlan::Arrival) | None => rows,
        }
    }
}

impl Events {
    /// Nothing is lost when this is dropped while it waits.
    async fn next(&mut self) -> Option<nexmark::Generated> {
        if self.held.is_none() {
            if self.end.is_some_and(|end| end.is_none() || end == self.last) {
                return None;
            }
            let generated = self.events.next(self.rows_max)?;
            self.held = Some(match self.end.flatten() {
                Some(end) => generated.up_to(end),
                None => generated,
            });
        }
        let times = self.held.as_ref().map_or(&[][..], |held| &held.times);
        if let (Some(pace), [first, .., last] | [first @ last]) = (&mut self.pace, times) {
            pace.wait(*first, *last).await;
        }
        let held = self.held.take()?;
        self.last = held.positions.last().copied().or(self.last);
        Some(held)
    }
}

fn read_error(name: &str, error: BlockError) -> ReadError {
    ReadError(match error {
        BlockError::Io(e) => format!("cannot read {name}: {e}"),
        BlockError::Format(e) => format!("{name}: {e}"),
        BlockError::Changed(why) => format!("{name}: {why}"),
    })
}

fn failed(name: &str, why: impl fmt::Display) -> ReadError {
    ReadError(format!("{name}: {why}"))
}

fn index_number(index: usize) -> u32 {
    u32::try_from(index).expect("few partitions")
}

/// What a person knows a partition by.
pub(crate) fn partition_name(source: &SourcePlan, index: usize) -> String {
    match &source.input {
        SourceInput::Files { paths, .. } => paths[index].display().to_string(),
        SourceInput::Stdin { .. } => "standard input".to_owned(),
        SourceInput::JetStream { streams, .. } => format!("stream {}", streams[index]),
        SourceInput::Nexmark { .. } | SourceInput::Log { .. } | SourceInput::Told { .. } => {
            format!("{} partition {index}", source.id)
        }
    }
}

impl Pace {
    async fn wait(&mut self, first: i64, last: i64) {
        let (start, time) = *self.begun.get_or_insert_with(|| (tokio::time::Instant::now(), first));
        let passed = Duration::from_millis(last.saturating_sub(time).max(0).unsigned_abs());
        tokio::time::sleep_until(start + passed).await;
    }
}

fn position(partition: u32, record: u64) -> u64 {
    Position { partition, record }.pack()
}
