//! Records of an embedded log as the rows of a partition: each record's value is one row.

use std::path::Path;
use std::time::Duration;

use tidemill_flow::batch::BATCH_ROWS_MAX;
use tidemill_log::{Batch, Log, LogError, Position, Reader};
use tokio::time::Instant;

use super::partition::Begin;
use crate::formats::{Decoded, Decoder, Malformed};
use crate::pipeline::plan::LogStart;

/// How long a log is left alone when everything in it was read. A look costs a few system calls, so that a hundred in
/// a second aren't felt; and nobody notices that rows come so much later.
pub const POLL_INTERVAL: Duration = Duration::from_millis(10);
/// How many bytes are read at once, unless a single record has more: as many as are decoded before other work has its
/// turn.
const READ_BYTES_MAX: usize = 4 << 20;

/// Records of a partition.
pub(super) struct Records {
    reader: Reader,
    decoder: Decoder,
    /// The offset at which it ends; none: it waits for what is appended.
    end: Option<u64>,
    /// Behind the last record that was handed out.
    position: Position,
    /// Read, and not handed out yet.
    held: Option<Held>,
    /// The values of a batch, each as a line.
    lines: Vec<u8>,
    /// Everything was read: there is no use in looking before.
    look_at: Option<Instant>,
    /// Bytes of the values that were handed out.
    pub(super) bytes: u64,
}

struct Held {
    decoded: Decoded,
    /// Behind its last record.
    behind: Position,
    bytes: u64,
}

/// How far a partition of a log has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogPosition {
    /// The log.
    pub identity: u64,
    /// The offset that comes next.
    pub offset: u64,
    /// By which another history before the offset is noticed; 0: none is known.
    pub history: u64,
}

impl Records {
    pub(super) fn open(
        folder: &Path,
        partition: u32,
        decoder: Decoder,
        from: LogStart,
        until_end: bool,
    ) -> Result<Self, LogError> {
        let log = Log::open(folder)?;
        let next = log.next_offset(partition)?;
        let offset = match from {
            LogStart::Beginning => log.first_offset(partition)?,
            LogStart::End => next,
        };
        let reader = log.reader(partition, offset)?;
        Ok(Self {
            position: reader.position(),
            reader,
            decoder,
            end: until_end.then_some(next),
            held: None,
            lines: Vec::new(),
            look_at: None,
            bytes: 0,
        })
    }

    /// How far it has been read, when that is safe from a loss of power: a reader can be ahead of the writer's sync.
    pub(super) fn position(&self) -> Result<LogPosition, LogError> {
        self.reader.sync()?;
        let Position { offset, history } = self.position;
        Ok(LogPosition { identity: self.reader.log().identity(), offset, history })
    }

    /// Reads up to a position of the same log and nothing of what follows it.
    pub(super) fn end_at(&mut self, position: LogPosition) -> Result<(), LogError> {
        let log = self.reader.log();
        log.expect_identity(position.identity)?;
        let (partition, next) = (self.reader.partition(), log.next_offset(self.reader.partition())?);
        if next < position.offset {
            let (folder, expected) = (log.folder().to_path_buf(), position.offset);
            return Err(LogError::BeyondEnd { folder, partition, expected, next });
        }
        self.end = Some(position.offset);
        Ok(())
    }

    /// Begins at another place; nothing has been read yet.
    pub(super) fn begin_at(&mut self, begin: Begin) -> Result<(), LogError> {
        let (log, partition) = (self.reader.log().clone(), self.reader.partition());
        let offset = match begin {
            // Where a partition hasn't come as far as others, all that comes is new.
            Begin::Sequence(offset) => offset.min(log.next_offset(partition)?),
            Begin::Time(since_ms) => first_since(&log, partition, since_ms)?,
        };
        self.reader = log.reader(partition, offset)?;
        self.position = self.reader.position();
        Ok(())
    }

    /// The log's identity.
    pub(super) fn identity(&self) -> u64 {
        self.reader.log().identity()
    }

    /// The offset that comes next.
    pub(super) fn offset(&self) -> u64 {
        self.position.offset
    }

    /// Goes on at a position; nothing has been read yet.
    pub(super) fn resume(&mut self, position: LogPosition) -> Result<(), LogError> {
        let LogPosition { identity, offset, history } = position;
        let log = self.reader.log().clone();
        log.expect_identity(identity)?;
        self.reader = log.resume(self.reader.partition(), Position { offset, history })?;
        // As it was: of a log that is trimmed since, the reader can't tell the history before.
        self.position = Position { offset, history };
        Ok(())
    }

    /// Whether there is something to hand out now, or nothing will ever be.
    pub(super) fn is_ready(&mut self) -> Result<bool, String> {
        while self.held.is_none() && !self.has_ended() {
            if self.look_at.is_some_and(|at| Instant::now() < at) {
                return Ok(false);
            }
            let left = self.end.map_or(u64::MAX, |end| end - self.position.offset);
            let records_max = usize::try_from(left).unwrap_or(usize::MAX).min(BATCH_ROWS_MAX);
            let batch = self.reader.read(records_max, READ_BYTES_MAX).map_err(|e| e.to_string())?;
            if batch.is_empty() {
                self.look_at = Some(Instant::now() + POLL_INTERVAL);
                return Ok(false);
            }
            self.look_at = None;
            let decoded = decode(&mut self.decoder, &mut self.lines, &batch)?;
            let bytes = batch.records().map(|(_, record)| record.value.len() as u64).sum();
            let behind = self.reader.position();
            match decoded.rows == 0 && decoded.malformed.is_empty() {
                true => self.position = behind,
                false => self.held = Some(Held { decoded, behind, bytes }),
            }
        }
        Ok(true)
    }

    /// The next records; none at the end. Nothing is lost when this is dropped while it waits.
    pub(super) async fn next(&mut self) -> Result<Option<Decoded>, String> {
        while !self.is_ready()? {
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        let Some(Held { decoded, behind, bytes }) = self.held.take() else { return Ok(None) };
        self.position = behind;
        self.bytes += bytes;
        Ok(Some(decoded))
    }

    fn has_ended(&self) -> bool {
        self.end.is_some_and(|end| self.position.offset >= end)
    }
}

/// The offset of the first record of this time or later. Times of records needn't ascend, so all before it are read.
fn first_since(log: &Log, partition: u32, since_ms: i64) -> Result<u64, LogError> {
    let mut reader = log.reader(partition, log.first_offset(partition)?)?;
    loop {
        let batch = reader.read(BATCH_ROWS_MAX, READ_BYTES_MAX)?;
        if batch.is_empty() {
            return Ok(reader.position().offset);
        }
        let mut records = batch.records();
        if let Some((offset, _)) = records.find(|(_, record)| record.timestamp_ms >= since_ms) {
            return Ok(offset);
        }
    }
}

/// Decodes the values of records as lines of JSON. In place of a line, each row has its offset.
fn decode(decoder: &mut Decoder, lines: &mut Vec<u8>, batch: &Batch<'_>) -> Result<Decoded, String> {
    let values = batch.records().map(|(_, record)| record.value);
    let value = |at: usize| batch.get(at).map_or(&[][..], |record| record.value);
    decoder.continue_at_line(1, false);
    let mut decoded = decode_values(decoder, lines, values, value)?;
    let first = batch.first_offset();
    // Lines are counted from 1.
    let offset = |line: &mut u64| *line = first + (*line - 1);
    decoded.lines.iter_mut().for_each(offset);
    decoded.malformed.iter_mut().for_each(|m| offset(&mut m.line));
    Ok(decoded)
}

/// Decodes values, each as a line of JSON, of which there are no more than a batch has rows; `value` is the one with this
/// index.
pub(super) fn decode_values<'v>(
    decoder: &mut Decoder,
    lines: &mut Vec<u8>,
    values: impl Iterator<Item = &'v [u8]>,
    value: impl Fn(usize) -> &'v [u8],
) -> Result<Decoded, String> {
    lines.clear();
    for value in values {
        let start = lines.len();
        lines.extend_from_slice(value);
        // A line break would end the record. What stands in its place is white space to JSON between tokens too, and
        // like it nothing that may stand in a text.
        lines[start..].iter_mut().filter(|b| **b == b'\n').for_each(|b| *b = b'\r');
        lines.push(b'\n');
    }
    let consumed = decoder.decode(lines, true, BATCH_ROWS_MAX).map_err(|e| e.to_string())?;
    assert_eq!(consumed, lines.len(), "no more records than a batch has rows");
    let mut decoded = decoder.take();
    for Malformed { line, raw, .. } in &mut decoded.malformed {
        // As it stood, with its line breaks. What is too long is kept to a part of it.
        let value = value(usize::try_from(*line - 1).unwrap_or(usize::MAX));
        raw.iter_mut().zip(value).for_each(|(raw, value)| *raw = *value);
    }
    Ok(decoded)
}
