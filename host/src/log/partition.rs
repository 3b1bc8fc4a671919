//! A partition of a source: rows in an order that never changes, with their positions and event times.

use std::fmt;
use std::time::Duration;

use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMillisecondType;
use arrow_array::{Array, ArrayRef, UInt32Array};
use tidemill_flow::batch::{BATCH_ROWS_MAX as ROWS_MAX, EVENT_TIME_LIMIT_MS, Position, record_batch, take};
use tidemill_flow::schema::Schema;

use super::files::{BlockError, Blocks, FilePosition};
use super::nexmark;
use super::records::{LogPosition, Records};
use crate::formats::{Decoded, Decoder, Encoder, Format, Malformed};
use crate::pipeline::plan::{EventTimePlan, SourceInput, SourcePlan};

/// Rows that were read.
#[derive(Debug)]
pub struct Rows {
    /// The columns of the source's schema.
    pub columns: Vec<ArrayRef>,
    /// How many rows there are.
    pub count: usize,
    /// Their event times, if the source tells them.
    pub times: Option<Vec<i64>>,
    /// Their packed positions.
    pub positions: Vec<u64>,
    /// Records that couldn't be read as rows.
    pub malformed: Vec<Malformed>,
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
    Nexmark(Box<Events>),
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
            SourceInput::Nexmark { options, paced } => {
                let fields: Vec<&str> = source.schema.fields().iter().map(|f| f.name.as_str()).collect();
                let events = nexmark::Partition::new(options, index_number(index), &fields);
                // Twenty batches a second are smooth enough to watch.
                let per_batch = usize::try_from(options.events_per_second / 20).unwrap_or(ROWS_MAX);
                let rows_max = if *paced { per_batch.clamp(1, ROWS_MAX) } else { ROWS_MAX };
                let pace = paced.then_some(Pace { begun: None });
                Reader::Nexmark(Box::new(Events { events, pace, rows_max, held: None, last: None }))
            }
        };
        Ok(Self { number, name, event_time: source.event_time, schema: source.schema.clone(), reader })
    }

    /// How many bytes of it have been decoded; a generator has none.
    pub fn progress(&self) -> u64 {
        match &self.reader {
            Reader::Blocks(blocks) => blocks.bytes,
            Reader::Records(records) => records.bytes,
            Reader::Nexmark(_) => 0,
        }
    }

    /// Where it goes on, when what was read is safe from a loss of power.
    ///
    /// # Errors
    /// When the file system can't make a log's records last.
    pub fn position(&self) -> Result<ReadPosition, ReadError> {
        Ok(match &self.reader {
            Reader::Blocks(blocks) => ReadPosition::File(blocks.position()),
            Reader::Records(records) => {
                ReadPosition::Log(records.position().map_err(|e| failed(&self.name, e))?)
            }
            Reader::Nexmark(events) => ReadPosition::Generated { last: events.last },
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
            Reader::Blocks(_) | Reader::Nexmark(_) => Ok(true),
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
            (Reader::Nexmark(events), ReadPosition::Generated { last }) => {
                last.iter().for_each(|&last| events.events.seek(last));
                events.last = *last;
                Ok(())
            }
            (_, position) => Err(ReadError(format!(
                "{}: the checkpoint has the position {position:?}, which is of another kind of source",
                self.name
            ))),
        }
    }

    /// How far it has been read, as a number that only rises and that a checkpoint keeps.
    pub fn distance(&self) -> u64 {
        match &self.reader {
            Reader::Blocks(blocks) => blocks.bytes,
            Reader::Records(records) => records.offset(),
            Reader::Nexmark(events) => events.last.map_or(0, |last| last + 1),
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
            Reader::Nexmark(events) => {
                let Some(generated) = events.next().await else { return Ok(None) };
                Ok(Some(Rows {
                    columns: generated.columns,
                    count: generated.rows,
                    times: Some(generated.times),
                    positions: generated.positions.iter().map(|&p| position(self.number, p)).collect(),
                    malformed: Vec::new(),
                }))
            }
        }
    }

    fn rows(&self, decoded: Decoded) -> Rows {
        let Decoded { columns, rows, lines, malformed } = decoded;
        let positions = lines.iter().map(|&l| position(self.number, l)).collect();
        let times = self.event_time.map(|t| times(&columns[t.column]));
        Rows { columns, count: rows, times, positions, malformed }.without_impossible_times(&self.schema)
    }
}

impl Events {
    /// Nothing is lost when this is dropped while it waits.
    async fn next(&mut self) -> Option<nexmark::Generated> {
        if self.held.is_none() {
            self.held = Some(self.events.next(self.rows_max)?);
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
        SourceInput::Nexmark { .. } | SourceInput::Log { .. } => format!("{} partition {index}", source.id),
    }
}

impl Pace {
    async fn wait(&mut self, first: i64, last: i64) {
        let (start, time) = *self.begun.get_or_insert_with(|| (tokio::time::Instant::now(), first));
        let passed = Duration::from_millis(last.saturating_sub(time).max(0).unsigned_abs());
        tokio::time::sleep_until(start + passed).await;
    }
}

/// Rows as JSON, of the fields that were read.
fn json_lines(columns: &[ArrayRef], rows: &[u32], schema: &Schema) -> Vec<Vec<u8>> {
    let which = UInt32Array::from(rows.to_vec());
    let columns = columns.iter().map(|c| take(c, &which)).collect();
    let mut encoder = Encoder::new(&Format::JsonLines, schema).expect("JSON has every type");
    let mut lines = Vec::new();
    encoder.encode(&record_batch(schema.arrow(), columns, rows.len()), &mut lines);
    lines.split(|b| *b == b'\n').take(rows.len()).map(<[u8]>::to_vec).collect()
}

fn position(partition: u32, record: u64) -> u64 {
    Position { partition, record }.pack()
}

fn times(column: &ArrayRef) -> Vec<i64> {
    assert_eq!(column.null_count(), 0, "a row without event time is malformed");
    column.as_primitive::<TimestampMillisecondType>().values().to_vec()
}

impl Rows {
    /// Sets aside rows whose event time no calendar knows; almost always there are none.
    fn without_impossible_times(mut self, schema: &Schema) -> Self {
        let Some(times) = &self.times else { return self };
        let possible = |time: i64| time.unsigned_abs() <= EVENT_TIME_LIMIT_MS.unsigned_abs();
        if times.iter().all(|&t| possible(t)) {
            return self;
        }
        let (good, bad): (Vec<u32>, Vec<u32>) =
            (0u32..).take(self.count).partition(|&row| possible(times[row as usize]));
        let raw = json_lines(&self.columns, &bad, schema);
        for (row, raw) in bad.into_iter().zip(raw) {
            let (line, time) = (Position::unpack(self.positions[row as usize]).record, times[row as usize]);
            let reason =
                format!("the event time {time} ms is impossibly far from 1970; is the field's `unit` right?");
            self.malformed.push(Malformed { line, reason, raw });
        }
        let which = UInt32Array::from(good.clone());
        self.columns = self.columns.iter().map(|c| take(c, &which)).collect();
        self.times = Some(good.iter().map(|&r| times[r as usize]).collect());
        self.positions = good.iter().map(|&r| self.positions[r as usize]).collect();
        self.count = good.len();
        self
    }
}
