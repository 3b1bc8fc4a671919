//! Blocks of a file in, rows out: finds the records in a block, counts lines, sets malformed records aside.
//!
//! A reader of one format is given a buffer whose last byte is a line break, so that it needs no other
//! end in sight: a line break is no digit, no space and no text to it. A last line without one is copied
//! and given one.

use std::mem;

use arrow_array::ArrayRef;
use memchr::{memchr, memchr_iter, memrchr};
use tidemill_flow::schema::FieldType;

use super::columns::{Columns, Fault};
use super::csv::CsvReader;
use super::json::JsonReader;
use super::{Demand, Format, FormatError, text};

/// The longest record, with its line break. A longer one is malformed; only its beginning is kept.
///
/// Whoever calls [`Decoder::decode`] never has to hold more than this and one byte of an unfinished record.
pub const RECORD_BYTES_MAX: usize = 16 << 20;

/// How much input is decoded until [`Decoder::take`] is called. No value is longer than its text, so that
/// this and one more record keep the `i32` offsets of a column below 2 GiB.
pub const BATCH_BYTES_MAX: usize = 1 << 30;

/// What is kept of a record that is too long.
const OVERLONG_RAW_BYTES: usize = 4 << 10;

/// UTF-8 is checked in steps of this size, which stay in the L1 cache until they are decoded.
const UTF8_STEP_BYTES: usize = 8 << 10;

/// A record that couldn't be decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// The line on which it begins, counted from 1.
    pub line: u64,
    /// What is wrong with it, for people.
    pub reason: String,
    /// The record as it stands, without its line break. Of a record longer than [`RECORD_BYTES_MAX`]
    /// the first 4096 bytes.
    pub raw: Vec<u8>,
}

/// The rows that were decoded.
#[derive(Debug, Default)]
pub struct Decoded {
    /// One for each demand, in its order; each has a value or null in every row.
    pub columns: Vec<ArrayRef>,
    /// How many rows there are, which matters if nothing was demanded.
    pub rows: usize,
    /// The line on which each row begins, counted from 1.
    pub lines: Vec<u64>,
    /// The records that aren't among the rows.
    pub malformed: Vec<Malformed>,
}

/// Decodes the records of one file or stream.
///
/// To go on in the middle of a file, decode its beginning with `rows_max` 0, which takes the byte order
/// mark and a CSV file's header and no more, then [`continue_at_line`](Self::continue_at_line) and decode
/// from there.
pub struct Decoder {
    reader: Reader,
    columns: Columns,
    demands_count: usize,
    lines: Vec<u64>,
    malformed: Vec<Malformed>,
    /// The line that comes next, counted from 1.
    line: u64,
    /// Whether the start of the file is behind us.
    started: bool,
    /// Whether the rest of an overlong record is being thrown away.
    skipping: bool,
    /// Input decoded since the last batch was taken.
    batch_bytes: usize,
    record_bytes_max: usize,
}

enum Reader {
    Json(JsonReader),
    Csv(CsvReader),
    Text,
}

/// What a reader found at the beginning of a buffer.
pub(super) enum Found {
    /// A record of this many bytes and line breaks. Its row is still open.
    Record { bytes: usize, lines: u64, row: Result<(), Fault> },
    /// A blank line of this many bytes.
    Blank(usize),
    /// The header, of this many bytes and line breaks.
    Header { bytes: usize, lines: u64 },
    /// The buffer ends before the record does.
    Unfinished,
}

impl Decoder {
    /// A decoder for a new file, which fills these demands.
    ///
    /// # Errors
    /// The format can't meet a demand, or its options contradict each other.
    pub fn new(format: &Format, demands: Vec<Demand>) -> Result<Self, FormatError> {
        check_paths(format, &demands)?;
        let reader = match format {
            Format::JsonLines => Reader::Json(JsonReader::new(&demands)),
            Format::Csv(options) => Reader::Csv(CsvReader::new(options, &demands)?),
            Format::Text => Reader::Text,
        };
        Ok(Self {
            reader,
            columns: Columns::new(&demands),
            demands_count: demands.len(),
            lines: Vec::new(),
            malformed: Vec::new(),
            line: 1,
            started: false,
            skipping: false,
            batch_bytes: 0,
            record_bytes_max: RECORD_BYTES_MAX,
        })
    }

    /// The line of the next record.
    pub fn line(&self) -> u64 {
        self.line
    }

    /// Whether the next bytes are the rest of a record that was too long.
    pub fn is_within_overlong(&self) -> bool {
        self.skipping
    }

    /// Counts the next line as this one; `within_overlong`: it is the rest of a record that was too long.
    pub fn continue_at_line(&mut self, line: u64, within_overlong: bool) {
        self.line = line;
        self.started = true;
        self.skipping = within_overlong;
    }

    /// Lets tests reach the limit with short records.
    #[cfg(test)]
    pub(super) fn limit_records(&mut self, record_bytes_max: usize) {
        self.record_bytes_max = record_bytes_max;
    }

    /// Decodes complete records from the beginning of `input` and returns how many bytes they took.
    ///
    /// Stops after `rows_max` rows, malformed records included, since the last [`take`](Self::take), or
    /// after [`BATCH_BYTES_MAX`]. What isn't taken must be offered again, with more behind it; with `last`
    /// nothing more comes, and an unfinished record at the end counts as it is.
    ///
    /// # Errors
    /// The header of a CSV file lacks a demanded column or can't be read.
    pub fn decode(&mut self, input: &[u8], last: bool, rows_max: usize) -> Result<usize, FormatError> {
        let Some(mut at) = self.begin(input, last) else { return Ok(0) };
        let lines_end = memrchr(b'\n', input).map_or(0, |end| end + 1);
        let all = lines_end == input.len();
        if at < lines_end {
            at += self.records(&input[at..lines_end], last && all, rows_max)?;
        }
        if last && !all && at < input.len() && self.wants_more(rows_max) {
            let rest = [&input[at..], b"\n"].concat();
            at += self.records(&rest, true, rows_max)?.min(input.len() - at);
        }
        if input.len() - at > self.record_bytes_max && self.has_room(rows_max) {
            at += self.overlong(&input[at..]);
        }
        Ok(at)
    }

    /// The rows decoded since the last call.
    pub fn take(&mut self) -> Decoded {
        self.batch_bytes = 0;
        let rows = self.columns.rows();
        assert_eq!(rows, self.lines.len(), "a line number for each row");
        let lines = mem::replace(&mut self.lines, Vec::with_capacity(rows));
        Decoded { columns: self.columns.take(), rows, lines, malformed: mem::take(&mut self.malformed) }
    }

    /// Passes over the byte order mark and what is left of an overlong record; returns where the first
    /// record begins, or none if that can't be said yet.
    fn begin(&mut self, input: &[u8], last: bool) -> Option<usize> {
        const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
        let mut at = 0;
        if !self.started {
            if BYTE_ORDER_MARK.starts_with(input) && input.len() < BYTE_ORDER_MARK.len() && !last {
                return None;
            }
            self.started = true;
            at = if input.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
        }
        if self.skipping {
            let end = memchr(b'\n', input);
            at = end.map_or(input.len(), |end| end + 1);
            self.skipping = end.is_none();
            self.line += u64::from(end.is_some());
        }
        Some(at)
    }

    fn has_room(&self, rows_max: usize) -> bool {
        self.lines.len() + self.malformed.len() < rows_max && self.batch_bytes < BATCH_BYTES_MAX
    }

    /// Whether another record is to be read; a header always is, as it is no row.
    fn wants_more(&self, rows_max: usize) -> bool {
        self.has_room(rows_max) || matches!(&self.reader, Reader::Csv(csv) if csv.header_is_due())
    }

    /// Decodes the records of `buf`, which ends with a line break; returns the bytes they took.
    fn records(&mut self, buf: &[u8], last: bool, rows_max: usize) -> Result<usize, FormatError> {
        let mut utf8 = Utf8::default();
        let mut at = 0;
        while at < buf.len() && self.wants_more(rows_max) {
            let rest = &buf[at..];
            let found = match &mut self.reader {
                Reader::Json(json) => json.read(rest, &mut self.columns),
                Reader::Csv(csv) => csv.read(rest, last, &mut self.columns)?,
                Reader::Text => text::read(rest, &mut self.columns, self.demands_count),
            };
            let (bytes, lines) = match found {
                Found::Unfinished => break,
                Found::Blank(bytes) => (bytes, 1),
                Found::Header { bytes, lines } => (bytes, lines),
                Found::Record { bytes, .. } if bytes > self.record_bytes_max => {
                    self.columns.abandon_row();
                    at += self.overlong(rest);
                    continue;
                }
                Found::Record { bytes, lines, row } => {
                    let row = utf8.check(buf, at, bytes).and(row).and_then(|()| self.columns.close_row());
                    match row {
                        Ok(()) => self.lines.push(self.line),
                        Err(fault) => self.set_aside(fault, &rest[..bytes]),
                    }
                    (bytes, lines)
                }
            };
            self.batch_bytes += bytes;
            self.line += lines;
            at += bytes;
        }
        Ok(at)
    }

    #[cold]
    fn set_aside(&mut self, fault: Fault, record: &[u8]) {
        self.columns.abandon_row();
        let record = record.strip_suffix(b"\n").unwrap_or(record);
        let raw = record.strip_suffix(b"\r").unwrap_or(record).to_vec();
        self.malformed.push(Malformed { line: self.line, reason: fault.into_reason(), raw });
    }

    /// Sets the line that begins `buf` aside, because its record is too long, and returns how much of it
    /// there is. Only that line: the rest of a CSV record in which a quote isn't closed may be sound.
    fn overlong(&mut self, buf: &[u8]) -> usize {
        let end = memchr(b'\n', buf).map(|end| end + 1);
        let bytes = end.unwrap_or(buf.len());
        let kept = if bytes > self.record_bytes_max { OVERLONG_RAW_BYTES.min(bytes - 1) } else { bytes };
        let fault = Fault::new(format!("the record is longer than {} bytes", self.record_bytes_max));
        self.set_aside(fault, &buf[..kept]);
        self.skipping = end.is_none();
        self.line += u64::from(end.is_some());
        self.batch_bytes += bytes;
        bytes
    }
}

/// The line breaks in `bytes`.
pub(super) fn count_lines(bytes: &[u8]) -> u64 {
    memchr_iter(b'\n', bytes).count() as u64
}

/// How far a buffer is known to be UTF-8.
///
/// Whole steps are checked at once, and a step of nothing but ASCII in a fraction of the time that it
/// takes to read it; a record is looked at alone only if it is what spoils its step.
#[derive(Default)]
struct Utf8 {
    sound_until: usize,
}

impl Utf8 {
    /// Whether the record of `bytes` bytes at `at` is UTF-8. Records are asked for from front to back.
    #[inline(always)]
    fn check(&mut self, buf: &[u8], at: usize, bytes: usize) -> Result<(), Fault> {
        if at + bytes <= self.sound_until { Ok(()) } else { self.check_step(buf, at, at + bytes) }
    }

    fn check_step(&mut self, buf: &[u8], at: usize, record_end: usize) -> Result<(), Fault> {
        let start = self.sound_until.max(at);
        let step_end = record_end.max(buf.len().min(start + UTF8_STEP_BYTES));
        let step = &buf[start..step_end];
        let sound = if step.is_ascii() {
            step.len()
        } else {
            std::str::from_utf8(step).map_or_else(|error| error.valid_up_to(), str::len)
        };
        // A step may end within a character: then the next one begins there, at the character's start.
        self.sound_until = start + sound;
        if self.sound_until < record_end {
            return Err(Fault::new(format!("not UTF-8 at byte {}", self.sound_until - at + 1)));
        }
        Ok(())
    }
}

/// Refuses demands whose path or type the format doesn't have.
fn check_paths(format: &Format, demands: &[Demand]) -> Result<(), FormatError> {
    for Demand { field, path, .. } in demands {
        let instead = match format {
            Format::JsonLines if path.is_empty() => "its path needs at least one key",
            Format::Csv(_) if path.len() != 1 => {
                "its path has to be one name, as the columns of CSV are flat"
            }
            Format::Text if path != &["line"] || field.field_type != FieldType::Text => {
                "lines of text have one field, the text `line`"
            }
            _ => continue,
        };
        return Err(FormatError::Demand { path: path.join("."), instead });
    }
    Ok(())
}
