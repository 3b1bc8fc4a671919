//! CSV records: a record is first cut into fields, then the demanded ones are read.

use memchr::memchr;

use super::columns::{Column, Columns, Fault, Values};
use super::decoder::{Found, count_lines};
use super::scan::{first, splat, word, zeros_exact};
use super::{CsvOptions, Demand, FormatError, TimestampUnit, number, time};

/// Cuts and reads the records of one file.
pub(super) struct CsvReader {
    delimiter: u8,
    null: Vec<Vec<u8>>,
    /// The demanded names, in demand order.
    names: Vec<String>,
    header_is_due: bool,
    /// How many fields a record has and at which of them each demand is; known after the first record.
    layout: Option<Layout>,
    /// The fields of the record at hand.
    fields: Vec<Span>,
    /// A field without its doubled quotes.
    unquoted: Vec<u8>,
}

struct Layout {
    width: usize,
    positions: Vec<usize>,
}

/// Where a field's content is in the buffer, and how to read it.
#[derive(Clone, Copy)]
struct Span {
    start: usize,
    end: usize,
    quoting: Quoting,
}

#[derive(Clone, Copy, PartialEq)]
enum Quoting {
    None,
    Quoted,
    /// Quoted, with doubled quotes in it.
    Doubled,
}

/// How the search for the end of a record ended.
enum Cut {
    /// After this many bytes.
    At(usize),
    /// The buffer ends within a quoted field.
    Unfinished,
    /// There is something at this place between a closing quote and the next delimiter.
    Trailing(usize),
}

impl CsvReader {
    pub(super) fn new(options: &CsvOptions, demands: &[Demand]) -> Result<Self, FormatError> {
        if matches!(options.delimiter, b'"' | b'\r' | b'\n') || !options.delimiter.is_ascii() {
            return Err(FormatError::Delimiter(options.delimiter.into()));
        }
        Ok(Self {
            delimiter: options.delimiter,
            null: options.null.iter().map(|text| text.as_bytes().to_vec()).collect(),
            names: demands.iter().map(|demand| demand.path[0].clone()).collect(),
            header_is_due: options.header,
            layout: None,
            fields: Vec::new(),
            unquoted: Vec::new(),
        })
    }

    pub(super) fn header_is_due(&self) -> bool {
        self.header_is_due
    }

    /// Reads the record that begins `buf`; `last` if nothing comes after `buf`.
    ///
    /// # Errors
    /// The record is the first, and doesn't have the demanded columns or is a header that can't be read.
    pub(super) fn read(
        &mut self,
        buf: &[u8],
        last: bool,
        columns: &mut Columns,
    ) -> Result<Found, FormatError> {
        if let Some(bytes) = blank_line(buf) {
            return Ok(Found::Blank(bytes));
        }
        let (bytes, cut) = match self.cut(buf) {
            Cut::Unfinished if !last => return Ok(Found::Unfinished),
            // The next record begins on the next line, whatever the quote was meant to hold.
            Cut::Unfinished => (line_end(buf, 0), Err(Fault::new("a quote is not closed"))),
            Cut::Trailing(at) => {
                let reason = format!("expected `{}` after the closing quote", char::from(self.delimiter));
                (line_end(buf, at), Err(Fault::new(reason)))
            }
            Cut::At(bytes) => (bytes, Ok(())),
        };
        let lines = if self.fields.iter().all(|f| f.quoting == Quoting::None) && cut.is_ok() {
            1
        } else {
            count_lines(&buf[..bytes])
        };
        if self.header_is_due {
            cut.map_err(|fault| FormatError::Header(fault.into_reason()))?;
            self.read_header(buf)?;
            return Ok(Found::Header { bytes, lines });
        }
        if self.layout.is_none() && cut.is_ok() {
            let numbers = (1..=self.fields.len()).map(|number| number.to_string()).collect();
            self.layout = Some(Layout::new(&self.names, numbers)?);
        }
        Ok(Found::Record { bytes, lines, row: cut.and_then(|()| self.read_row(buf, columns)) })
    }

    /// Finds the fields of the record that begins `buf`.
    fn cut(&mut self, buf: &[u8]) -> Cut {
        self.fields.clear();
        let delimiters = splat(self.delimiter);
        let (mut start, mut at) = (0, 0);
        loop {
            let Some(bytes) = word(buf, at) else { return self.cut_tail(buf, start, at) };
            let mut marks = zeros_exact(bytes ^ delimiters)
                | zeros_exact(bytes ^ splat(b'\n'))
                | zeros_exact(bytes ^ splat(b'"'));
            let base = at;
            at += 8;
            while marks != 0 {
                let here = base + first(marks);
                marks &= marks - 1;
                match self.mark(buf, &mut start, here) {
                    Mark::Passed => {}
                    Mark::Quoted => {
                        at = start;
                        break;
                    }
                    Mark::Cut(cut) => return cut,
                }
            }
        }
    }

    /// The same byte by byte, for the buffer's last few bytes.
    fn cut_tail(&mut self, buf: &[u8], mut start: usize, mut at: usize) -> Cut {
        while at < buf.len() {
            let here = at;
            at += 1;
            if buf[here] == self.delimiter || matches!(buf[here], b'\n' | b'"') {
                match self.mark(buf, &mut start, here) {
                    Mark::Passed => {}
                    Mark::Quoted => at = start,
                    Mark::Cut(cut) => return cut,
                }
            }
        }
        Cut::Unfinished
    }

    /// Takes a delimiter, line break or quote at `here`, in the field that begins at `start`.
    #[inline(always)]
    fn mark(&mut self, buf: &[u8], start: &mut usize, here: usize) -> Mark {
        match buf[here] {
            b'"' if here == *start => match self.quoted(buf, here) {
                Ok((next, false)) => {
                    *start = next;
                    Mark::Quoted
                }
                Ok((next, true)) => Mark::Cut(Cut::At(next)),
                Err(cut) => Mark::Cut(cut),
            },
            b'"' => Mark::Passed,
            b'\n' => {
                let end = if here > *start && buf[here - 1] == b'\r' { here - 1 } else { here };
                self.fields.push(Span { start: *start, end, quoting: Quoting::None });
                Mark::Cut(Cut::At(here + 1))
            }
            _ => {
                self.fields.push(Span { start: *start, end: here, quoting: Quoting::None });
                *start = here + 1;
                Mark::Passed
            }
        }
    }

    /// Takes the quoted field whose quote is at `open`; returns where the next field begins, or, with
    /// true, the next record.
    #[cold]
    fn quoted(&mut self, buf: &[u8], open: usize) -> Result<(usize, bool), Cut> {
        let mut quoting = Quoting::Quoted;
        let mut at = open + 1;
        let close = loop {
            let quote = at + memchr(b'"', &buf[at..]).ok_or(Cut::Unfinished)?;
            if buf.get(quote + 1) != Some(&b'"') {
                break quote;
            }
            quoting = Quoting::Doubled;
            at = quote + 2;
        };
        self.fields.push(Span { start: open + 1, end: close, quoting });
        match &buf[close + 1..] {
            [b'\n', ..] => Ok((close + 2, true)),
            [b'\r', b'\n', ..] => Ok((close + 3, true)),
            [byte, ..] if *byte == self.delimiter => Ok((close + 2, false)),
            _ => Err(Cut::Trailing(close + 1)),
        }
    }

    fn read_header(&mut self, buf: &[u8]) -> Result<(), FormatError> {
        let mut found = Vec::new();
        for field in &self.fields {
            let text = content(buf, *field, &mut self.unquoted);
            let text = std::str::from_utf8(text).map_err(|e| FormatError::Header(e.to_string()))?;
            found.push(text.to_owned());
        }
        self.layout = Some(Layout::new(&self.names, found)?);
        self.header_is_due = false;
        Ok(())
    }

    fn read_row(&mut self, buf: &[u8], columns: &mut Columns) -> Result<(), Fault> {
        let width = self.fields.len();
        let layout = self.layout.as_ref().expect("the first record gave the layout");
        if width != layout.width {
            return Err(Fault::new(format!("expected {} fields, found {width}", layout.width)));
        }
        for (column, position) in layout.positions.iter().enumerate() {
            let span = self.fields[*position];
            let (column, row) = columns.open(column);
            if span.quoting == Quoting::Doubled {
                let text = content(buf, span, &mut self.unquoted);
                let span = Span { start: 0, end: text.len(), ..span };
                column.csv(row, text, span, &self.null)?;
            } else {
                column.csv(row, buf, span, &self.null)?;
            }
        }
        Ok(())
    }
}

/// What a delimiter, line break or quote turned out to be.
enum Mark {
    /// The end of a field, or nothing.
    Passed,
    /// A quoted field, behind which the search goes on.
    Quoted,
    Cut(Cut),
}

impl Layout {
    fn new(names: &[String], found: Vec<String>) -> Result<Self, FormatError> {
        let mut positions = Vec::with_capacity(names.len());
        for name in names {
            let mut places = (0..found.len()).filter(|at| found[*at] == *name);
            match (places.next(), places.next()) {
                (Some(at), None) => positions.push(at),
                (Some(_), Some(_)) => return Err(FormatError::AmbiguousColumn(name.clone())),
                (None, _) => return Err(FormatError::MissingColumn { name: name.clone(), found }),
            }
        }
        Ok(Self { width: found.len(), positions })
    }
}

impl Column {
    /// Pushes the field at `span`.
    #[inline(always)]
    fn csv(&mut self, row: usize, buf: &[u8], span: Span, null: &[Vec<u8>]) -> Result<(), Fault> {
        let Span { start, end, .. } = span;
        let text = &buf[start..end];
        // Whoever quotes every field has no other way to write that a number is absent.
        let may_be_null = span.quoting == Quoting::None || !self.is_text_or_bytes();
        if may_be_null && null.iter().any(|null| null == text) {
            return self.push_null(row, "null");
        }
        // The quick forms may read on behind the field, and then end elsewhere.
        match &mut self.values {
            Values::Integer(values) => match number::integer(buf, start) {
                Some((value, at)) if at == end => values.push(value),
                _ => return self.csv_closely(text),
            },
            Values::Float(values) => match number::float(buf, start) {
                Some((value, at)) if at == end => values.push(value),
                _ => return self.csv_closely(text),
            },
            Values::Text(runs) => runs.push(buf, start, end),
            Values::Boolean(_) | Values::Bytes(_) | Values::Timestamp(_) => return self.csv_closely(text),
        }
        Ok(())
    }

    /// Pushes what isn't written in the commonest way.
    fn csv_closely(&mut self, text: &[u8]) -> Result<(), Fault> {
        let trimmed = text.trim_ascii();
        let pushed = match &mut self.values {
            Values::Boolean(values) => boolean(trimmed).map(|value| values.push(value)),
            Values::Integer(values) => integer(trimmed).map(|value| values.push(value)),
            Values::Float(values) => number::float_text(trimmed).map(|value| values.push(value)),
            Values::Timestamp(values) => timestamp(trimmed, self.unit).map(|value| values.push(value)),
            Values::Bytes(runs) => runs.push_base64(text),
            Values::Text(_) => unreachable!("any field is text"),
        };
        pushed.ok_or_else(|| self.mismatch(&format!("{:?}", String::from_utf8_lossy(text))))
    }
}

fn boolean(text: &[u8]) -> Option<bool> {
    match text {
        b"1" => Some(true),
        b"0" => Some(false),
        _ if text.eq_ignore_ascii_case(b"true") => Some(true),
        _ if text.eq_ignore_ascii_case(b"false") => Some(false),
        _ => None,
    }
}

fn integer(text: &[u8]) -> Option<i64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn timestamp(text: &[u8], unit: TimestampUnit) -> Option<i64> {
    let number = || match integer(text) {
        Some(number) => time::from_number(number, unit),
        None => time::from_decimal(text, unit),
    };
    match unit {
        TimestampUnit::Rfc3339 => time::from_text(text),
        TimestampUnit::Auto => time::from_text(text).or_else(number),
        _ => number(),
    }
}

/// The content of a field, without doubled quotes.
fn content<'a>(buf: &'a [u8], span: Span, unquoted: &'a mut Vec<u8>) -> &'a [u8] {
    let text = &buf[span.start..span.end];
    if span.quoting != Quoting::Doubled {
        return text;
    }
    unquoted.clear();
    let mut rest = text;
    while let Some(quote) = memchr(b'"', rest) {
        unquoted.extend_from_slice(&rest[..=quote]);
        rest = &rest[quote + 2..];
    }
    unquoted.extend_from_slice(rest);
    unquoted
}

fn blank_line(buf: &[u8]) -> Option<usize> {
    match buf {
        [b'\n', ..] => Some(1),
        [b'\r', b'\n', ..] => Some(2),
        _ => None,
    }
}

/// The end of the line that `at` is on, with its line break.
fn line_end(buf: &[u8], at: usize) -> usize {
    memchr(b'\n', &buf[at..]).map_or(buf.len(), |end| at + end + 1)
}
