//! Arrow columns to records: the way back.
//!
//! What an encoder writes, a decoder of the same format and options reads as the same rows, with these
//! exceptions: JSON has no NaN and no infinities, so that they become null; a null text in a CSV file of one
//! column becomes empty text, as the line would be blank; lines of text can't tell null from empty or a
//! line break from the next line.

mod cells;
mod csv;
mod json;

use arrow_array::RecordBatch;
use tidemill_flow::schema::{FieldType, Schema};

use super::{CsvOptions, Format, FormatError, TimestampUnit};
use cells::Cells;
use csv::CsvWriter;
use json::JsonWriter;

/// Encodes the rows of batches of one schema.
pub struct Encoder {
    writer: Writer,
    timestamps: TimestampUnit,
    columns_count: usize,
}

enum Writer {
    Json(JsonWriter),
    Csv(CsvWriter),
    Text,
}

impl Encoder {
    /// An encoder for batches of this schema, which writes timestamps as RFC 3339.
    ///
    /// # Errors
    /// The format can't hold rows of the schema.
    pub fn new(format: &Format, schema: &Schema) -> Result<Self, FormatError> {
        let writer = match format {
            Format::JsonLines => Writer::Json(JsonWriter::new(schema)),
            Format::Csv(CsvOptions { delimiter: c @ (b'"' | b'\r' | b'\n' | 0x80..), .. }) => {
                return Err(FormatError::Delimiter((*c).into()));
            }
            Format::Csv(options) => Writer::Csv(CsvWriter::new(options, schema)),
            Format::Text => match schema.fields() {
                [field] if field.field_type == FieldType::Text => Writer::Text,
                _ => return Err(FormatError::TextSchema(schema.to_string())),
            },
        };
        Ok(Self { writer, timestamps: TimestampUnit::Auto, columns_count: schema.len() })
    }

    /// The same encoder, which writes timestamps in this unit. [`TimestampUnit::Auto`] is RFC 3339 in UTC,
    /// with milliseconds only where they aren't zero; instants outside the years 0000 to 9999, which it
    /// doesn't have, are written as a number of milliseconds.
    pub fn with_timestamps(mut self, unit: TimestampUnit) -> Self {
        self.timestamps = unit;
        self
    }

    /// What comes before the first row: the header of a CSV file that has one.
    pub fn header(&self) -> Vec<u8> {
        match &self.writer {
            Writer::Csv(csv) => csv.header(),
            Writer::Json(_) | Writer::Text => Vec::new(),
        }
    }

    /// Appends the rows of the batch to `out`, each with its line break.
    ///
    /// # Panics
    /// The batch isn't of the encoder's schema.
    pub fn encode(&mut self, batch: &RecordBatch, out: &mut Vec<u8>) {
        assert_eq!(batch.num_columns(), self.columns_count, "a batch of another schema");
        let columns: Vec<_> =
            batch.columns().iter().map(|column| Cells::new(column, self.timestamps)).collect();
        // Most rows have about this size; more is made room for on the way.
        out.reserve(batch.num_rows() * 24 * (columns.len() + 1));
        for row in 0..batch.num_rows() {
            match &self.writer {
                Writer::Json(json) => json.write(&columns, row, out),
                Writer::Csv(csv) => csv.write(&columns, row, out),
                Writer::Text => out.extend_from_slice(columns[0].text(row).unwrap_or_default()),
            }
            out.push(b'\n');
        }
    }
}
