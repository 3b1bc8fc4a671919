//! Rows as CSV records; quoted is only what would be read as something else without quotes.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tidemill_flow::schema::Schema;

use super::super::CsvOptions;
use super::cells::{Cells, Values, write_float, write_integer};

pub(super) struct CsvWriter {
    delimiter: u8,
    /// The spellings of null, the one to write first.
    null: Vec<Vec<u8>>,
    /// Whether the delimiter may occur in what isn't text, such as `:` in an instant.
    quotes_all: bool,
    /// The names of the columns, if there is a header.
    names: Option<Vec<String>>,
}

impl CsvWriter {
    pub(super) fn new(options: &CsvOptions, schema: &Schema) -> Self {
        let names = || schema.fields().iter().map(|field| field.name.clone()).collect();
        Self {
            delimiter: options.delimiter,
            null: options.null.iter().map(|text| text.as_bytes().to_vec()).collect(),
            quotes_all: options.delimiter.is_ascii_alphanumeric() || b"+-.:/=".contains(&options.delimiter),
            names: options.header.then(names),
        }
    }

    pub(super) fn header(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (at, name) in self.names.iter().flatten().enumerate() {
            if at > 0 {
                out.push(self.delimiter);
            }
            self.write_text(name.as_bytes(), &mut out);
        }
        if self.names.is_some() {
            out.push(b'\n');
        }
        out
    }

    #[inline]
    pub(super) fn write(&self, columns: &[Cells<'_>], row: usize, out: &mut Vec<u8>) {
        let start = out.len();
        for (at, column) in columns.iter().enumerate() {
            if at > 0 {
                out.push(self.delimiter);
            }
            if column.is_null(row) {
                out.extend_from_slice(self.null.first().map_or(b"", |null| null));
            } else {
                self.write_cell(column, row, out);
            }
        }
        // A blank line would be no record.
        if out.len() == start {
            out.extend_from_slice(b"\"\"");
        }
    }

    #[inline(always)]
    fn write_cell(&self, column: &Cells<'_>, row: usize, out: &mut Vec<u8>) {
        match &column.values {
            Values::Text(runs) => return self.write_text(runs.get(row), out),
            Values::Bytes(runs) => return self.write_text(STANDARD.encode(runs.get(row)).as_bytes(), out),
            _ => {}
        }
        let quote = if self.quotes_all { "\"" } else { "" };
        out.extend_from_slice(quote.as_bytes());
        match &column.values {
            Values::Boolean(values) => {
                out.extend_from_slice(if values.value(row) { b"true" } else { b"false" })
            }
            Values::Integer(values) => write_integer(values[row], out),
            Values::Float(values) if values[row].is_finite() => write_float(values[row], out),
            Values::Float(values) => out.extend_from_slice(values[row].to_string().as_bytes()),
            Values::Timestamp(values) => column.write_timestamp(values[row], b"", out),
            Values::Text(_) | Values::Bytes(_) => unreachable!("these were written above"),
        }
        out.extend_from_slice(quote.as_bytes());
    }

    #[inline(always)]
    fn write_text(&self, text: &[u8], out: &mut Vec<u8>) {
        let special = |byte: &u8| *byte == self.delimiter || matches!(byte, b'"' | b'\r' | b'\n');
        if !text.iter().any(special) && !self.null.iter().any(|null| null == text) {
            return out.extend_from_slice(text);
        }
        out.push(b'"');
        for run in text.split_inclusive(|byte| *byte == b'"') {
            out.extend_from_slice(run);
            if run.ends_with(b"\"") {
                out.push(b'"');
            }
        }
        out.push(b'"');
    }
}
