//! A partition of a source: rows in an order that never changes, with their positions and event times.

use std::fmt;
use std::time::Duration;

use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMillisecondType;
use arrow_array::{Array, ArrayRef, UInt32Array};
use tidemill_flow::batch::{BATCH_ROWS_MAX as ROWS_MAX, EVENT_TIME_LIMIT_MS, Position, record_batch, take};
use tidemill_flow::schema::Schema;

use super::files::{BlockError, Blocks};
use super::nexmark;
use crate::formats::{Decoder, Encoder, Format, Malformed};
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
    Nexmark { events: Box<nexmark::Partition>, pace: Option<Pace>, rows_max: usize },
}

/// Holds generated events back until their time has passed since the first.
struct Pace {
    begun: Option<(tokio::time::Instant, i64)>,
}

impl Partition {
    /// The partition with this index of a source; `number` is its number among all of the pipeline's.
    ///
    /// # Errors
    /// When its format can't give the demanded fields, or its file can't be read.
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
            SourceInput::Nexmark { options, paced } => {
                let fields: Vec<&str> = source.schema.fields().iter().map(|f| f.name.as_str()).collect();
                let events =
                    nexmark::Partition::new(options, u32::try_from(index).expect("few partitions"), &fields);
                // Twenty batches a second are smooth enough to watch.
                let per_batch = usize::try_from(options.events_per_second / 20).unwrap_or(ROWS_MAX);
                let rows_max = if *paced { per_batch.clamp(1, ROWS_MAX) } else { ROWS_MAX };
                let pace = paced.then_some(Pace { begun: None });
                Reader::Nexmark { events: Box::new(events), pace, rows_max }
            }
        };
        Ok(Self { number, name, event_time: source.event_time, schema: source.schema.clone(), reader })
    }

    /// How many bytes of it have been decoded; a generator has none.
    pub fn progress(&self) -> u64 {
        match &self.reader {
            Reader::Blocks(blocks) => blocks.bytes,
            Reader::Nexmark { .. } => 0,
        }
    }

    /// The next rows; none at the end.
    ///
    /// # Errors
    /// When the file can't be read, or isn't what the pipeline says it is.
    pub async fn next(&mut self) -> Result<Option<Rows>, ReadError> {
        match &mut self.reader {
            Reader::Blocks(blocks) => {
                let decoded = blocks.next().await.map_err(|e| read_error(&self.name, e))?;
                Ok(decoded.map(|decoded| {
                    let positions = decoded.lines.iter().map(|&l| position(self.number, l)).collect();
                    let times = self.event_time.map(|t| times(&decoded.columns[t.column]));
                    let rows = Rows {
                        columns: decoded.columns,
                        count: decoded.rows,
                        times,
                        positions,
                        malformed: decoded.malformed,
                    };
                    rows.without_impossible_times(&self.schema)
                }))
            }
            Reader::Nexmark { events, pace, rows_max } => {
                let Some(generated) = events.next(*rows_max) else { return Ok(None) };
                if let (Some(pace), Some(&last)) = (pace, generated.times.last()) {
                    pace.wait(generated.times[0], last).await;
                }
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
}

fn read_error(name: &str, error: BlockError) -> ReadError {
    ReadError(match error {
        BlockError::Io(e) => format!("cannot read {name}: {e}"),
        BlockError::Format(e) => format!("{name}: {e}"),
    })
}

/// What a person knows a partition by.
pub(crate) fn partition_name(source: &SourcePlan, index: usize) -> String {
    match &source.input {
        SourceInput::Files { paths, .. } => paths[index].display().to_string(),
        SourceInput::Stdin { .. } => "standard input".to_owned(),
        SourceInput::Nexmark { .. } => format!("{} partition {index}", source.id),
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
